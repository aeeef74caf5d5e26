"""The stream of ``netsvc send``: it sends, ends its side, and waits for the end of the peer."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.kernel_buffers import acknowledged_bytes, innermost_transport
from netsvc.net.reactors import Clock, cancel
from netsvc.net.socket_errors import pending_error
from netsvc.net.tls_records import UnexpectedTLSError, begins_with_tls

#: Seconds to wait for a reset of a peer that had ended its side before everything was sent.
RESET_TIMEOUT = 0.2


@implementer(IHalfCloseableProtocol)
class OutgoingStream(Protocol):
    """Sends, half-closes, and waits for the end of the peer. For TLS use :class:`OutgoingTLSStream`.

    Wait for :attr:`ready` before you send.

    :param clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
    :param stall_timeout: seconds after which the stream fails if the peer takes nothing of what is queued, or does not
        end it after the last byte; None for no limit.
    :cvar uses_tls: whether the stream is encrypted.
    :ivar ready: fires with the stream when it is connected; fails with the reason if it never is.
    :ivar sent: fires with None when the system has accepted everything; fails if the connection was lost before.
    :ivar closed: fires with None when the connection was closed after that; fails if the peer reset it.
    """

    transport: Any
    uses_tls = False

    def __init__(self, clock: Clock, stall_timeout: float | None = None) -> None:
        self.ready: Deferred[OutgoingStream] = Deferred()
        self.sent: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.clock = clock
        self._stall_timeout = stall_timeout
        self._stall: Any = None
        self._acknowledged = 0
        self._producer: IPushProducer | None = None
        self._peer_ended_input = self._has_answer = False
        self._failure: Exception | None = None

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause ``producer``, the source of what is sent, while the peer does not read."""
        self._producer = producer
        self.transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        self.transport.write(data)

    def end(self) -> None:
        """End the stream when everything is sent."""
        self._producer = None
        self.transport.unregisterProducer()
        self._watch()
        self.end_output()

    def close(self) -> None:
        """Close the connection when everything is sent, although the peer has not ended it."""
        self.transport.loseConnection()

    # The producer of the transport

    def pauseProducing(self) -> None:
        self._watch()
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        cancel(self._stall)
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is closed."""

    # Called by Twisted

    def connectionMade(self) -> None:
        self.ready.callback(self)

    def dataReceived(self, data: bytes) -> None:
        """Discard an answer. An alert of TLS says that the peer did not understand what it received."""
        if not self._has_answer and not self.uses_tls and begins_with_tls(data):
            self.fail(UnexpectedTLSError())
        self._has_answer = True

    def readConnectionLost(self) -> None:
        """The peer has ended its input. The rest of the stream is sent all the same."""
        self._peer_ended_input = True
        if pending_error(self.transport):
            self.fail(error.ConnectionLost())
        elif self.sent.called:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self._watch()
        self.sent.callback(None)
        if self._peer_ended_input:  # if the peer had closed the connection, it now answers with a reset
            self.clock.callLater(RESET_TIMEOUT, self._close_unless_reset)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        cancel(self._stall)
        if self._failure is not None:
            reason = Failure(self._failure)
        if not self.ready.called:
            self.ready.errback(reason)
        elif not self.sent.called:
            self.sent.errback(reason)
        else:
            self.closed.callback(None if self.is_end(reason) else reason)

    # For subclasses

    def end_output(self) -> None:
        """Tell the peer that this side has ended."""
        self.transport.loseWriteConnection()

    def is_end(self, reason: Failure) -> bool:
        """Whether the peer has ended the stream in order, after everything was sent."""
        return reason.check(error.ConnectionDone) is not None

    def fail(self, reason: Exception) -> None:
        """Abort the connection for a reason that the reactor does not know."""
        self._failure = reason
        self.transport.abortConnection()

    # The rest is private

    def _watch(self) -> None:
        """Fail if nothing happens for some time."""
        cancel(self._stall)
        if self._stall_timeout is not None:
            self._acknowledged = acknowledged_bytes(self.transport) or 0
            self._stall = self.clock.callLater(self._stall_timeout, self._fail_unless_taken)

    def _fail_unless_taken(self) -> None:
        """Fail, unless the peer has acknowledged something meanwhile. On a slow path, a queue takes long."""
        if (acknowledged_bytes(self.transport) or 0) > self._acknowledged:
            self._watch()
        else:
            self.fail(error.TimeoutError())

    def _close_unless_reset(self) -> None:
        if pending_error(self.transport) is not None:
            self._failure = error.ConnectionLost()
        self.transport.loseConnection()


@implementer(IHandshakeListener)
class OutgoingTLSStream(OutgoingStream):
    """The same over TLS, which Twisted cannot half-close: its end is the alert ``close_notify`` (RFC 8446, 6.1).

    :param handshake_timeout: seconds after which the stream fails if the handshake is not complete.
    """

    uses_tls = True

    def __init__(self, clock: Clock, stall_timeout: float | None = None, *, handshake_timeout: float) -> None:
        super().__init__(clock, stall_timeout)
        self._handshake_timeout = handshake_timeout
        self._deadline: Any = None
        self._close: Any = None  # closes the connection below TLS
        self._is_closing = False
        self._was_reset = False

    def connectionMade(self) -> None:
        """Wait for the handshake, and note how the connection below ends. TLS reports every end without an alert as a
        loss, but many programs close a connection without one."""
        self._deadline = self.clock.callLater(self._handshake_timeout, self.fail, error.TimeoutError())
        lost = self.transport.connectionLost

        def note_and_lose(reason: Failure) -> None:
            self._was_reset = reason.check(error.ConnectionDone) is None
            if self._close is not None:
                innermost_transport(self.transport).loseConnection = self._close
            lost(reason)

        self.transport.connectionLost = note_and_lose

    def handshakeCompleted(self) -> None:
        cancel(self._deadline)
        # TLS closes the connection when the alert of the peer arrives. A reset that follows, because the peer has not
        # read everything, would remain unseen.
        below = innermost_transport(self.transport)
        self._close, below.loseConnection = below.loseConnection, below.loseWriteConnection
        self.ready.callback(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        cancel(self._deadline)
        super().connectionLost(reason)

    def end_output(self) -> None:
        self.transport.loseConnection()
        self.sent.callback(None)  # TLS does not report it; close() sends what is queued

    def close(self) -> None:
        self._is_closing = True
        self._close()

    def is_end(self, reason: Failure) -> bool:
        is_loss = reason.check(error.ConnectionLost) is not None
        return super().is_end(reason) or (is_loss and (self._is_closing or not self._was_reset))
