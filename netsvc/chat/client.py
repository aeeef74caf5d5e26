"""A chat client for programs: requests out, events in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.chat.messages import PREFIX_MAX, Event, MessageError, Quit, Request, decode_event, encode_request
from netsvc.wire.framing import LINE_MAX, LineFraming, read


class ChatClient(Protocol):
    """One member of a chat, seen from the member's side.

    :param received: called with each event. Its text is clean: it holds nothing that a terminal obeys.
    :ivar lost: fires with None when the connection ends in order, and fails with the reason otherwise.
    :ivar ignored: how many lines of the server were no events.
    """

    transport: Any

    def __init__(self, received: Callable[[Event], object]) -> None:
        self.lost: Deferred[None] = Deferred()
        self.ignored = 0
        self._received = received
        self._framing = LineFraming(LINE_MAX + PREFIX_MAX)

    def send(self, request: Request) -> None:
        """Send one request.

        :raises MessageError: for a text with a line end, or one that makes a line of more than 1,024 bytes, and
            when the connection is lost.
        """
        if self.lost.called:
            raise MessageError("the connection is lost")
        line = self._framing.encode(encode_request(request))
        if line.count(b"\n") > 1:
            raise MessageError("a message is one line")
        if len(line) > LINE_MAX:
            raise MessageError(f"too long: {len(line):,} of at most {LINE_MAX:,} bytes")
        self.transport.write(line)

    def quit(self) -> Deferred[None]:
        """Say good-bye. Returns ``lost``."""
        self.send(Quit())
        return self.lost

    def dataReceived(self, data: bytes) -> None:
        for line in read(self._framing, data, self._ignore):
            try:
                event = decode_event(line)
            except MessageError as e:
                self._ignore(str(e))
            else:
                self._received(event)

    def _ignore(self, why: str) -> None:
        self.ignored += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone):
            self.lost.callback(None)
        else:
            self.lost.errback(reason)
