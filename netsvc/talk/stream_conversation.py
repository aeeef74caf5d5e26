"""A conversation on a stream, TCP or TLS, in lines or in raw messages as the classic programs send them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.large_pieces import use_large_pieces
from netsvc.net.reactors import Clock
from netsvc.net.socket_errors import pending_error
from netsvc.net.tls_records import UnansweredConnectionLostError, UnexpectedTLSError, begins_with_tls
from netsvc.talk.base_conversation import PEER_SILENCE, BaseConversation, NotSentError, ignore_notice
from netsvc.talk.conversation_state import ConversationEvent, ConversationState, PeerInput
from netsvc.talk.learned_framing import LearnedFraming
from netsvc.talk.restartable_timer import RestartableTimer
from netsvc.wire.framing import Framing, LineFraming, RawFraming, messages_in

#: Bytes of the longest line of the peer, with its delimiter.
PEER_LINE_MAX = 1_048_576

#: Seconds of silence after which bytes without a line end are taken for a message, while the framing is not known.
MESSAGE_SILENCE = 0.2

#: Seconds for which a reset is awaited from a peer that had ended its input before the last message was sent to it.
RESET_TIMEOUT = 0.2


@implementer(IHalfCloseableProtocol)
class Conversation(BaseConversation, Protocol):
    """One side of a conversation on a stream. For TLS use :class:`TLSConversation`.

    Wait for :attr:`ready` before you send or end. A conversation is also the producer of what it receives:
    ``pauseProducing`` stops it from reading.

    :param clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
    :param message_received: called with each message of the peer. It may contain any character: clean it before you
        print it.
    :param notice: called with one line about any other event that a user should know.
    :param framing: ``line``, ``raw``, or None to learn it from the peer: messages are lines until the peer sends one
        without a line end.
    :param bye: the words that end the conversation when they are sent or received, in upper or lower case.
    :param peer_ended_input: called when the peer has ended its input. The peer may still receive. By default this side
        ends its input too.
    :param close_timeout: seconds from a bye word until the connection is aborted; over TLS also from the end of this
        side's input. 0 for no limit.
    :param bytes_received: called with each piece of bytes that arrives, unchanged, instead of ``message_received``.
        Then no word of the peer's ends the conversation, and nothing is learned about its framing.
    :cvar uses_tls: whether the stream is encrypted.
    :ivar ready: fires with the conversation when the connection is complete, for TLS after the handshake; fails with
        the reason if it never is.
    :ivar close_timeout: for subclasses: the parameter of that name.
    :ivar deadline: for subclasses: the timer that aborts the connection. The end of the connection cancels it.
    """

    transport: Any
    uses_tls = False

    def __init__(
        self,
        clock: Clock,
        message_received: Callable[[str], object],
        notice: Callable[[str], object] = ignore_notice,
        *,
        framing: str | None = None,
        bye: Sequence[str] = ("bye",),
        peer_ended_input: Callable[[], object] | None = None,
        close_timeout: float = 5.0,
        bytes_received: Callable[[bytes], object] | None = None,
    ) -> None:
        super().__init__(clock, message_received, notice, bye, bytes_received)
        self.ready: Deferred[Conversation] = Deferred()
        self.deadline = RestartableTimer(clock)
        self.close_timeout = close_timeout
        self._learned = LearnedFraming(PEER_LINE_MAX) if framing is None else None
        self._framing: Framing = self._learned or (RawFraming() if framing == "raw" else LineFraming(PEER_LINE_MAX))
        self._message_silence = RestartableTimer(clock)
        self._peer_ended_input = peer_ended_input or self.end
        self._peer_input = PeerInput.OPEN
        self._producer: IPushProducer | None = None
        self._failure: Exception | None = None
        self._has_sent = self._peer_has_sent = False

    def send(self, message: bytes) -> None:
        """Send one message. If it is a bye word, the conversation ends.

        :raises NotSentError: before the connection is complete, after the end, or if the message is empty and the
            framing has no line ends.
        """
        self.check_open()
        framed = self._framing.encode(message)
        if not framed:
            raise NotSentError("an empty message cannot be sent on a stream without line ends")
        self.write(framed)
        if self.is_bye(message):
            self._end_after_bye()

    def write(self, data: bytes) -> None:
        """Send bytes unchanged, whatever the framing.

        :raises NotSentError: before the connection is complete, and after the end.
        """
        self.check_open()
        self._has_sent = True
        self.transport.write(data)
        if self._peer_input is PeerInput.ENDED:
            self._peer_input = PeerInput.ENDED_BEFORE_LAST_MESSAGE

    def end(self) -> None:
        """End this side's input. Queued messages are sent, and messages are received until the peer ends its input."""
        if self.sending_ended:
            return
        self.advance(ConversationEvent.INPUT_ENDED)
        self._unregister_producer()
        self.end_output()

    def abort(self) -> None:
        """End the conversation in both directions at once."""
        if self.state is not ConversationState.ENDED:
            self.advance(ConversationEvent.ABORTED)
            self.transport.abortConnection()

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause ``producer``, the source of what is sent, while the peer does not read."""
        self._producer = producer
        self.transport.registerProducer(producer, True)

    def pauseProducing(self) -> None:
        """Stop reading from the peer."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read from the peer again."""
        self.transport.resumeProducing()

    # Called by Twisted

    def connectionMade(self) -> None:
        self.connection_opened()

    def dataReceived(self, data: bytes) -> None:
        first, self._peer_has_sent = not self._peer_has_sent, True
        if self.bytes_received is not None:
            self.bytes_received(data)
            return
        if first and not self.uses_tls and begins_with_tls(data):
            self.fail(UnexpectedTLSError())
            return
        self._deliver_messages(data)
        if self._learned is not None:
            if self._learned.undecided:
                self._message_silence.restart(MESSAGE_SILENCE, self._deliver_unended)
            else:
                self._message_silence.cancel()

    def readConnectionLost(self) -> None:
        if pending_error(self.transport):
            self.fail(error.ConnectionLost())
            return
        if self._peer_may_expect_tls and not self.sending_ended:
            self.notice("the other side sent nothing before it closed the connection; if it expects TLS, add --tls")
        self._peer_input = PeerInput.ENDED
        self._deliver_rest()
        if self.sending_ended:
            self.transport.loseConnection()
        else:
            self._peer_ended_input()

    def writeConnectionLost(self) -> None:
        """The system has accepted all messages. A peer that had closed the connection now answers with a reset."""
        self.advance(ConversationEvent.FLUSHED)
        if self._peer_input is not PeerInput.OPEN:
            self.silence.restart(RESET_TIMEOUT, self._close_unless_reset)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deliver_rest()
        self._message_silence.cancel()
        self.deadline.cancel()
        if self._failure is not None:
            reason = Failure(self._failure)
        succeeded = self.state is ConversationState.DISCONNECTING or reason.check(error.ConnectionDone)
        if reason.type is error.ConnectionLost and self._peer_may_expect_tls:
            reason = Failure(UnansweredConnectionLostError())
        if self.ready.called:
            self.finish(None if succeeded else reason)
        else:
            self.ready.errback(reason)
            self.finish()

    # For subclasses

    def connection_opened(self) -> None:
        """The connection is complete. A subclass that has to wait for more than a transport calls this itself."""
        self.advance(ConversationEvent.CONNECTED)
        if self.bytes_received is not None:
            use_large_pieces(self.transport)
        self.ready.callback(self)

    def end_output(self) -> None:
        """Tell the peer that this side has ended its input. It is called once."""
        if self._peer_input is PeerInput.ENDED:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def fail(self, reason: Exception) -> None:
        """Abort the connection for a reason that the reactor does not know. The conversation fails with it."""
        self._failure = reason
        self.transport.abortConnection()

    # The rest is private

    @property
    def _peer_may_expect_tls(self) -> bool:
        """Whether nothing but the end has come in return for what was sent. OpenSSL sends no alert then."""
        return self._has_sent and not self._peer_has_sent and not self.uses_tls

    def _unregister_producer(self) -> None:
        if self._producer is not None:  # a transport does not close before its producer is unregistered
            self._producer = None
            self.transport.unregisterProducer()

    def _deliver_messages(self, data: bytes) -> None:
        for message in messages_in(self._framing, data, self._report_dropped_line):
            if self.deliver(message):
                self._end_after_bye()

    def _report_dropped_line(self, reason: str) -> None:
        self.notice(f"{reason}; the line was dropped")

    def _deliver_rest(self) -> None:
        """Deliver the message that the end of the stream completes."""
        rest = self._framing.end()
        if rest is not None and self.deliver(rest):
            self._end_after_bye()

    def _deliver_unended(self) -> None:
        """Deliver a message without a line end, after which nothing has arrived. The peer sends raw messages."""
        if self._learned is not None:
            self._learned.switch_to_raw()
            self._deliver_messages(b"")

    def _end_after_bye(self) -> None:
        """End both directions after a bye word, the peer's at the latest after the timeout."""
        before = self.state
        self.advance(ConversationEvent.BYE)
        if self.state is before:  # an earlier bye word has ended them
            return
        if before is ConversationState.OPEN:
            self._unregister_producer()
            self.end_output()
        if self.close_timeout:
            self.deadline.restart(self.close_timeout, self.transport.abortConnection)

    def _close_unless_reset(self) -> None:
        if pending_error(self.transport):
            self._failure = error.ConnectionLost()
        self.transport.loseConnection()


@implementer(IHandshakeListener)
class TLSConversation(Conversation):
    """One side of a conversation on a TLS stream, which Twisted cannot half-close.

    This is a class of its own because Twisted's endpoints treat a protocol that is both half-closeable and a handshake
    listener as if it were a handshake listener only.

    :param handshake_timeout: seconds after which the connection is aborted if the handshake is not complete; 0 for no
        limit.
    """

    uses_tls = True

    def __init__(self, *args: Any, handshake_timeout: float = 10.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._handshake_timeout = handshake_timeout
        self._reading_paused = False

    def connectionMade(self) -> None:
        """Wait for the handshake. Messages that are sent before it would be queued without a bound."""
        if self._handshake_timeout:
            self.deadline.restart(self._handshake_timeout, self._handshake_timed_out)

    def handshakeCompleted(self) -> None:
        self.deadline.cancel()
        self.connection_opened()

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        if self.sending_ended:
            self._wait_for_silence()

    def pauseProducing(self) -> None:
        """Stop reading from the peer. A peer that is not read does not count as silent."""
        self._reading_paused = True
        self.silence.cancel()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        self._reading_paused = False
        super().resumeProducing()
        if self.sending_ended:
            self._wait_for_silence()

    def end_output(self) -> None:
        self.advance(ConversationEvent.FLUSHED)  # TLS does not report it
        self._wait_for_silence()

    def _handshake_timed_out(self) -> None:
        self.fail(error.TimeoutError())

    def _wait_for_silence(self) -> None:
        # A Twisted server that receives the end of the stream drops the answers of the same reactor iteration.
        if not self._reading_paused:
            self.silence.restart(PEER_SILENCE, self._close)

    def _close(self) -> None:
        self.transport.loseConnection()
        if self.close_timeout:  # the peer may never confirm the end of the stream
            self.silence.restart(self.close_timeout, self.abort)
