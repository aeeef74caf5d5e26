"""A conversation on a stream, TCP or TLS: lines, or bare messages as the classic programs send them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.reasons import pending_error
from netsvc.net.timer import cancel
from netsvc.talk.partner import FAREWELL, Partner, SayError, ignore
from netsvc.wire.framing import Framing, LineFraming, RawFraming, read

#: The longest line that is read from the partner, in bytes.
HEARD_MAX = 1_048_576

#: Seconds of silence after which what came without a line end is taken for a message.
QUIET = 0.2


@implementer(IHalfCloseableProtocol)
class Conversation(Partner, Protocol):
    """One side of a conversation on a stream; for TLS take :class:`TLSConversation`.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param heard: called with each message of the partner, which may hold anything: clean it before showing it.
    :param noticed: called with one line about what else there is to know.
    :param framing: ``line``, ``raw``, or None to learn from the partner: lines are spoken until a message of the
        partner comes without a line end.
    :param bye: the words, in any case, that end the conversation when they are said or heard.
    :param left: called when the partner has said all, and may still listen. By default this side ends too.
    :param close_timeout: seconds from a bye to an abort, and from the end of TLS to one; 0 for none.
    :ivar ready: fires with the conversation when the partner is there, for TLS after the handshake; fails with
        the reason when that does not come about.
    """

    transport: Any

    def __init__(
        self,
        clock: IReactorTime,
        heard: Callable[[str], object],
        noticed: Callable[[str], object] = ignore,
        *,
        framing: str | None = None,
        bye: Sequence[str] = ("bye",),
        left: Callable[[], object] | None = None,
        close_timeout: float = 5.0,
    ) -> None:
        super().__init__(clock, heard, noticed, bye)
        self.ready: Deferred[Conversation] = Deferred()
        self._learning = framing is None
        self._framing: Framing = RawFraming() if framing == "raw" else LineFraming(HEARD_MAX)
        self._left = left or self.end
        self._close_timeout = close_timeout
        self._quiet: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None
        self._throttled = False
        self._input_ended = False  # the partner has
        self._failure: Exception | None = None  # of which the reactor does not know
        self._said_late = False  # something was said after the partner had ended
        self._flushed = False  # everything that was said is sent
        self._parting = False  # a bye word was said or heard

    def say(self, message: bytes) -> None:
        """Say one message. A bye word is said, and ends this side.

        :raises SayError: when it cannot be sent: after the end, or an empty message without framing.
        """
        if self.over:
            raise SayError("the conversation is over")
        framed = self._framing.encode(message)
        if not framed:
            raise SayError("an empty message is nothing on a stream without line ends")
        self.transport.write(framed)
        self._said_late = self._input_ended
        if self._is_bye(message):
            self._part()

    def end(self) -> None:
        """This side has said all. What is under way is sent, and the partner is heard to its end."""
        if self._finished:
            return
        self._finished = True
        if self._throttled:  # a transport waits for its producer before it closes
            self.transport.unregisterProducer()
        self._close()

    def hang_up(self) -> None:
        """End both sides at once."""
        self._finished = self._parting = self._flushed = True
        self.transport.abortConnection()

    def throttle(self, source: IPushProducer) -> None:
        """Pause ``source``, from which comes what is said, while the partner does not read."""
        self._throttled = True
        self.transport.registerProducer(source, True)

    def pauseProducing(self) -> None:
        """Hear nothing more for now."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Hear the partner again."""
        self.transport.resumeProducing()

    def connectionMade(self) -> None:
        self.ready.callback(self)

    def dataReceived(self, data: bytes) -> None:
        self._hear_all(data)
        if self._learning:
            if b"\n" in data:  # a partner that ends one line ends them all
                self._learning = False
                cancel(self._quiet)
                if isinstance(self._framing, RawFraming):
                    cut = self._framing.end() or b""
                    self._framing = LineFraming(HEARD_MAX)
                    self._framing.receive(cut)
            elif isinstance(self._framing, LineFraming):
                self._wait_for_the_rest()

    def readConnectionLost(self) -> None:
        if pending_error(self.transport):
            self._failure = error.ConnectionLost()
            self.transport.abortConnection()
            return
        self._input_ended = True
        self._hear_rest()
        if self._finished:
            self.transport.loseConnection()
        else:
            self._left()

    def writeConnectionLost(self) -> None:
        """All that was said is sent; a partner that does not listen any more says so within a moment."""
        self._flushed = True
        if self._input_ended:
            self._set_timer(QUIET, self._leave)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._hear_rest()
        cancel(self._quiet)
        cancel(self._deadline)
        if self._failure is not None:
            reason = Failure(self._failure)
        orderly = (self._parting and self._flushed) or reason.check(error.ConnectionDone)
        if not self.ready.called:
            self.ready.errback(reason)
            self._end()
        else:
            self._end(None if orderly else reason)

    def _close(self) -> None:
        if self._input_ended and not self._said_late:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def _hear_all(self, data: bytes) -> None:
        for message in read(self._framing, data, self._left_out):
            if self._hear(message):
                self._part()

    def _left_out(self, why: str) -> None:
        self._noticed(f"{why}; it was left out")

    def _hear_rest(self) -> None:
        rest = self._framing.end()
        if rest is not None and self._hear(rest):
            self._part()

    def _wait_for_the_rest(self) -> None:
        if self._quiet is None or not self._quiet.active():
            self._quiet = self._clock.callLater(QUIET, self._take_unended)
        else:
            self._quiet.reset(QUIET)

    def _leave(self) -> None:
        if pending_error(self.transport):
            self._failure = error.ConnectionLost()
        self.transport.loseConnection()

    def _take_unended(self) -> None:
        """The partner ends no lines: what has come is a message, and so is each piece that follows."""
        rest = self._framing.end()
        if rest is not None:
            self._framing = RawFraming()
            self._hear_all(rest)

    def _part(self) -> None:
        """A bye word ends both sides, the other one at the latest after the timeout."""
        if self._parting:
            return
        self._parting = True
        self.end()
        if self._close_timeout:
            self._deadline = self._clock.callLater(self._close_timeout, self.transport.abortConnection)


@implementer(IHandshakeListener)
class TLSConversation(Conversation):
    """A conversation on a TLS stream, which Twisted cannot half-close.

    A class of its own, because an endpoint that connects a protocol which is both half-closeable and a
    handshake listener forgets the former.

    :param handshake_timeout: seconds for the handshake; then the connection is aborted; 0 for none.
    """

    def __init__(self, *args: Any, handshake_timeout: float = 10.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handshake_timeout = handshake_timeout
        self._flushed = True  # of which TLS says nothing
        self._held = False

    def connectionMade(self) -> None:
        """Wait for the handshake; what is said earlier would queue without bound."""
        if self._handshake_timeout:
            self._set_timer(self._handshake_timeout, self._shake_no_hands)

    def handshakeCompleted(self) -> None:
        self._stop_timer()
        self.ready.callback(self)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._finished:
            self._close()

    def pauseProducing(self) -> None:
        """Hear nothing more for now; a partner who is not heard is not quiet either."""
        self._held = True
        self._stop_timer()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._held = False
        super().resumeProducing()
        if self._finished:
            self._close()

    def _shake_no_hands(self) -> None:
        self._failure = error.TimeoutError()
        self.transport.abortConnection()

    def _close(self) -> None:
        # Not at once: a Twisted server that is told of the end drops the answers of that turn.
        if not self._held:
            self._set_timer(FAREWELL, self._say_end)

    def _say_end(self) -> None:
        self.transport.loseConnection()
        if self._close_timeout:  # the partner may never answer to the end
            self._set_timer(self._close_timeout, self.hang_up)
