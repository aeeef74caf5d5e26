"""A chat client for programs. It sends requests and receives events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.chat.messages import PREFIX_MAX, Event, MessageError, Quit, Request, decode_event, encode_request
from netsvc.wire.framing import LINE_MAX, LineFraming, messages_in


class ChatClient(Protocol):
    """The connection of one member, on the member's side.

    :param event_received: called with each event. Its text contains no control characters.
    :ivar closed: fires with None when the connection is closed in order, and fails with the reason otherwise.
    :ivar ignored: the number of lines from the server that are not events.
    """

    transport: Any

    def __init__(self, event_received: Callable[[Event], object]) -> None:
        self.closed: Deferred[None] = Deferred()
        self.ignored = 0
        self._event_received = event_received
        self._framing = LineFraming(LINE_MAX + PREFIX_MAX)

    def send(self, request: Request) -> None:
        """Send one request.

        :raises MessageError: if the text contains a line end, if the line is longer than 1,024 bytes, or if the
            connection is closed.
        """
        if self.closed.called:
            raise MessageError("the connection is closed")
        line = self._framing.encode(encode_request(request))
        if line.count(b"\n") > 1:
            raise MessageError("a message is one line")
        if len(line) > LINE_MAX:
            raise MessageError(f"too long: {len(line):,} of at most {LINE_MAX:,} bytes")
        self.transport.write(line)

    def quit(self) -> Deferred[None]:
        """Leave the chat. Return :attr:`closed`."""
        self.send(Quit())
        return self.closed

    def dataReceived(self, data: bytes) -> None:
        for line in messages_in(self._framing, data, self._ignore):
            try:
                event = decode_event(line)
            except MessageError as e:
                self._ignore(str(e))
            else:
                self._event_received(event)

    def _ignore(self, reason: str) -> None:
        self.ignored += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone):
            self.closed.callback(None)
        else:
            self.closed.errback(reason)
