"""One connection of a program to a chat: it sends requests and receives events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.chat.chat_events import Event
from netsvc.chat.program_lines import PREFIX_MAX, ProgramLineDecoder, ReceivedEntry
from netsvc.chat.request_lines import MessageError, encode_request
from netsvc.chat.requests import Positions, Quit, Request
from netsvc.net.tcp_keepalive import keep_transport_alive
from netsvc.wire.framing import LINE_MAX, LineFraming, messages_in


class ChatConnection(Protocol):
    """The connection of one member, on the member's side, with lines for programs.

    :param event_received: called with each event and each entry. No text contains control characters.
    :param opening: what it sends first, with the ID of each request: that it wants lines for programs, or that it
        resumes. Requests before that have no IDs.
    :ivar closed: fires with None when the connection is closed in order, and fails with the reason otherwise.
    :ivar ignored: the number of lines from the server that are neither events nor entries. Those that the server sends
        before it has switched to lines for programs are among them.
    """

    transport: Any

    def __init__(
        self,
        event_received: Callable[[Event | ReceivedEntry], object],
        opening: Sequence[tuple[Request, str]] = ((Positions(on=True), ""),),
    ) -> None:
        self.closed: Deferred[None] = Deferred()
        self.ignored = 0
        self._event_received = event_received
        self._opening = opening
        self._framing = LineFraming(LINE_MAX + PREFIX_MAX)
        self._decoder = ProgramLineDecoder()

    def connectionMade(self) -> None:
        keep_transport_alive(self.transport)
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

    def quit(self) -> Deferred[None]:
        """Leave the chat. Return :attr:`closed`."""
        self.send(Quit())
        return self.closed

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        for line in messages_in(self._framing, data, self._ignore):
            try:
                event = self._decoder.decode(line)
            except MessageError as e:
                self._ignore(str(e))
            else:
                if event is not None:
                    self._event_received(event)

    def _ignore(self, reason: str) -> None:
        self.ignored += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone):
            self.closed.callback(None)
        else:
            self.closed.errback(reason)


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
