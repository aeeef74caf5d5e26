"""One connection of a program to a chat: it sends requests and receives events."""

from __future__ import annotations

from netsvc.chat.client_connection import ClientConnection, EventReceived, Opening
from netsvc.chat.program_lines import PREFIX_MAX, ProgramLineDecoder
from netsvc.chat.request_lines import MessageError, encode_request
from netsvc.chat.requests import Positions, Request
from netsvc.wire.framing import LINE_MAX, LineFraming, messages_in
from netsvc.wire.text import clean

#: The opening that begins a session.
BEGIN_SESSION: Opening = ((Positions(on=True), ""),)


class ChatConnection(ClientConnection):
    """The connection of one member, on the member's side, with lines for programs.

    :param event_received: called with each event and each entry. No text contains control characters.
    :param opening: what it sends first, with the ID of each request: that it wants lines for programs, or that it
        resumes. Requests before that have no IDs.
    :ivar ignored: the number of lines from the server that are neither events nor entries. Those that the server sends
        before it has switched to lines for programs are among them.
    """

    def __init__(
        self,
        event_received: EventReceived,
        opening: Opening = BEGIN_SESSION,
    ) -> None:
        super().__init__()
        self._event_received = event_received
        self._opening = opening
        self._framing = LineFraming(LINE_MAX + PREFIX_MAX)
        self._decoder = ProgramLineDecoder()

    def connectionMade(self) -> None:
        super().connectionMade()
        for request, message_id in self._opening:
            self.send(request, message_id)

    def send(self, request: Request, message_id: str = "") -> None:
        """Send one request.

        :param message_id: the answer, and the entry if there is one, will name it.
        :raises MessageError: if the text contains a line end or half of a surrogate pair, if the line is longer than
            1,024 bytes, or if the connection is closed.
        """
        if self.closed.called:
            raise MessageError("the connection is closed")
        self.transport.write(request_line(request, message_id))

    def dataReceived(self, data: bytes) -> None:
        for line in messages_in(self._framing, data, self._ignore):
            try:
                event = self._decoder.decode(line)
            except MessageError as e:
                self._ignore(str(e))
                self.ignored_text = clean(line.decode("utf-8", "replace"))
            else:
                if event is not None:
                    self._event_received(event)

    def _ignore(self, reason: str) -> None:
        self.ignored += 1


def request_line(request: Request, message_id: str = "") -> bytes:
    """Return the line of a request, with its line end.

    :raises MessageError: if the text contains a line end or half of a surrogate pair, or if the line is longer than
        1,024 bytes.
    """
    try:
        line = encode_request(request, message_id) + b"\n"
    except UnicodeEncodeError as e:
        raise MessageError(f"no UTF-8 can be made of character {e.start} of the line") from None
    if line.count(b"\n") > 1:
        raise MessageError("a message is one line")
    if len(line) > LINE_MAX:
        raise MessageError(f"too long: {len(line):,} of at most {LINE_MAX:,} bytes")
    return line
