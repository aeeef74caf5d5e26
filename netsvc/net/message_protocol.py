"""A stream that is messages: taken one by one, and a bounded number in a turn of the reactor."""

from __future__ import annotations

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from netsvc.net.stream_protocol import StreamProtocol
from netsvc.wire.framing import Framing, FramingError

#: Messages of one peer that are taken in one turn of the reactor, so that 65,536 empty lines in one read do not
#: keep the others waiting.
MESSAGES_A_TURN = 64


class MessageProtocol(StreamProtocol):
    """A connection whose stream is messages, of which a bounded number is taken in one turn of the reactor.

    :param framing: where one message ends and the next begins.
    """

    _turn: IDelayedCall | None = None
    _draining = False
    _ended = False  # the peer has said all it has to say
    _line_since = 0.0

    def __init__(self, framing: Framing) -> None:
        super().__init__()
        self.framing = framing

    def messageReceived(self, message: bytes) -> None:
        """Take one message, without what frames it."""
        raise NotImplementedError

    def refused(self, why: str) -> None:
        """The peer broke the framing; ``why`` is one line for it."""

    def pace(self) -> float:
        """Return the seconds after which the next message may be taken; 0 for now."""
        return 0.0

    def look(self, now: float) -> bool:
        waiting = self._turn is not None or self._paused or self._held
        if self.heard or waiting or not self.framing.begun():
            self._line_since = now
        elif 0 < self.factory.limits.line_timeout <= now - self._line_since and not self._finishing:
            # An absolute bound: the bytes that trickle in meanwhile do not count.
            self.refused("line not ended in time")
            self.factory.counts.cut_off("did not end its line in time", self.peer)
            self.finish()
            return True
        return super().look(now)

    def dataReceived(self, data: bytes) -> None:
        self.factory.counts.received_bytes += len(data)
        self.framing.receive(data)
        if self._turn is None:
            self._take()

    def read_on(self) -> None:
        if self._turn is None:
            self._take()

    def input_ended(self) -> None:
        self._ended = True
        if self._turn is None:
            self._take()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        try:
            if reason.check(ConnectionDone):
                # TLS has no half-close: what came before its orderly end was accepted all the same.
                self._take_rest()
        finally:
            super().connectionLost(reason)

    def drain(self) -> None:
        """The server stops: take what was read, then end."""
        self._draining = True
        self.hold()
        if self._turn is not None:
            self._turn.reset(0)
        else:
            self._take()

    def drained(self) -> None:
        """All that was read is taken, and the server stops."""
        self.finish()

    def _take(self) -> None:
        """Take messages until none is left, the peer must read first, or it had its share of this turn."""
        for _ in range(MESSAGES_A_TURN):
            if self._paused or self._finishing:
                return
            wait = 0.0 if self._draining else self.pace()
            if wait:
                self._come_back(wait)
                return
            if not self._take_one():
                if self._ended:
                    self._take_end()
                    self.finish()
                elif self._draining:
                    self.drained()
                else:
                    self.release()
                return
        self._come_back(0)

    def _come_back(self, seconds: float) -> None:
        """Read nothing more, and take the next message after ``seconds``."""
        self.hold()
        self._turn = self.factory.clock.callLater(seconds, self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        self._take()

    def _take_one(self) -> bool:
        """Take one message or refusal. Returns whether there was one."""
        try:
            message = self.framing.next_message()
        except FramingError as e:
            self.heard = True
            self.factory.counts.refuse("line too long", self.peer)
            self.refused(str(e))
            return True
        if message is None:
            return False
        self.heard = True
        self.messageReceived(message)
        return True

    def _take_rest(self) -> None:
        """Take what was read before the connection was lost, no more of it and no faster than ever."""
        for _ in range(MESSAGES_A_TURN):
            if self._finishing or self.pace():
                return
            if not self._take_one():
                self._take_end()
                return

    def _take_end(self) -> None:
        """Take what the end of the stream completes."""
        rest = self.framing.end()
        if rest is not None and not self._finishing:
            self.messageReceived(rest)
