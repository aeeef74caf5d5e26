"""One stream connection of a server: it costs a bounded amount, and it always ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from typing import Protocol as Interface

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.limits.cause import Cause
from netsvc.limits.stream_limits import TRANSPORT_BUFFER
from netsvc.net.connection_state import SENDING, ConnectionState, InputState, check_transition
from netsvc.net.deadline import Deadline
from netsvc.net.kernel_buffers import acknowledged_bytes, innermost_transport
from netsvc.net.send_queue import SMALL_PIECE, SendQueue, join_small_pieces
from netsvc.net.terms import Terms
from netsvc.wire.address import format_peer

#: Seconds that a connection waits for the peer to close its side after everything was sent. A close while the peer
#: still sends would reset the connection, and the bytes under way to the peer would be lost.
LINGER = 1.0

#: Seconds that a displaced connection may take to close.
DISPLACED_LINGER = 0.25

#: Seconds for which what was read is still processed after a connection is lost, if its idle timeout is not shorter.
LOST_MAX = 150.0

#: Number of small pieces after which those that wait for the peer are joined: 64 KiB in pieces of 2 bytes would take
#: 1.9 MiB.
JOIN_INTERVAL = 1024


class ConnectionOwner(Interface):
    """Is told which connections there are: the factory."""

    @property
    def draining(self) -> bool:
        """Whether the server stops."""

    def connection_opened(self, connection: StreamProtocol) -> None:
        """The connection is established."""

    def connection_closed(self, connection: StreamProtocol) -> None:
        """The connection is lost."""


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class StreamProtocol(Protocol):
    """One connection whose cost is bounded and that always ends.

    A subclass overrides :meth:`received`, and where it needs them :meth:`connection_ready`, :meth:`input_ended`,
    :meth:`resume_processing`, :meth:`end_drain`, :meth:`idle`, :meth:`displaced`, :meth:`lost` and
    :meth:`closed`.
    It sends with :meth:`send` and closes with :meth:`finish`.

    The protocol is the producer of its own transport. While the peer does not read, it is not read from either.

    :ivar terms: the terms of its factory.
    :ivar host: the peer's IP address; None on a UNIX socket.
    :ivar state: the state of the connection.
    :ivar input: whether the transport reads.
    :ivar active: whether there was activity since the last idle check.
    :cvar bytes_are_activity: whether each byte from the peer counts as activity. A subclass that sets this to False
        sets ``active`` itself.
    """

    log = Logger()
    factory: ConnectionOwner
    transport: Any
    terms: Terms
    host: str | None = None

    state = ConnectionState.NEW
    input = InputState.READING
    active = True
    bytes_are_activity = True

    _idle_since = 0.0
    _deadline: Deadline | None = None  # of the handshake, the stall or the closing: there is never more than one
    _queue: SendQueue | None = None  # None unless the transport is full
    _unjoined = 0  # small pieces since they were last joined
    _acknowledged = 0  # bytes, at the last check
    _unacknowledged_since: float | None = None  # None if everything is acknowledged

    @property
    def peer(self) -> str:
        """The peer's address, as it would be typed."""
        return format_peer(self.transport.getPeer())

    @property
    def service(self) -> str:
        """The name of the service."""
        return self.terms.counters.service

    @property
    def idle_since(self) -> float:
        """The monotonic time of the last activity, as far as the idle check knows it; infinite if it was just now."""
        return math.inf if self.active else self._idle_since

    @property
    def output_blocked(self) -> bool:
        """Whether more than 64 KiB are queued because the peer does not read."""
        return self._queue is not None

    @property
    def checks_idle(self) -> bool:
        """Whether :meth:`idle` is called: there is an idle timeout. A subclass may have other time limits."""
        return bool(self.terms.limits.idle_timeout)

    @property
    def accepts_input(self) -> bool:
        """Whether input is processed: the connection is neither finishing nor closed."""
        return self.state in (ConnectionState.OPEN, ConnectionState.LOST)

    @property
    def has_unprocessed_input(self) -> bool:
        """Whether something that was read waits for a later reactor iteration."""
        return False

    # Called by Twisted

    def makeConnection(self, transport: Any) -> None:
        transport.registerProducer(self, True)  # before any code of a subclass, which may close at once
        super().makeConnection(transport)

    def connectionMade(self) -> None:
        self.factory.connection_opened(self)
        if self.terms.log_connections:
            self.log.info("{service}: {peer} connected", service=self.service, peer=self.peer)
        if self.state is not ConnectionState.NEW:
            return  # the subclass has closed it already
        # TLS claims to be TCP even on a UNIX socket. So ask for the method, not for the interface.
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            # Nagle's algorithm (RFC 896) would keep a line back until the peer acknowledges the previous one. A peer
            # that sends nothing does that 40 ms later. Small writes are collected within a reactor iteration anyway.
            with suppress(OSError):  # some systems refuse this for a socket that was reset meanwhile
                set_no_delay(True)
        # Only TLS transports provide INegotiated. They report when their handshake is complete.
        if self._is_tls():
            self.state = check_transition(self.state, ConnectionState.HANDSHAKE)
            self._set_deadline(self.terms.limits.handshake_timeout, Cause.HANDSHAKE_TIMEOUT)
        else:
            self._open()

    def handshakeCompleted(self) -> None:
        if self.state is ConnectionState.HANDSHAKE:
            self._cancel_deadline()
            self._open()

    def dataReceived(self, data: bytes) -> None:
        self.terms.counters.received_bytes += len(data)
        if self.bytes_are_activity:
            self.active = True
        self.received(data)

    def readConnectionLost(self) -> None:
        self.input = InputState.ENDED
        if self.accepts_input:
            self.input_ended()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Everything is sent and the peer was told so. Wait a little for the peer to close its side."""
        self._call_at_deadline(LINGER, self.transport.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel_deadline()
        if self.state is ConnectionState.HANDSHAKE:
            self.terms.counters.refuse(Cause.HANDSHAKE_FAILED, self.peer)
        self._drop_queue()
        if self.state is not ConnectionState.OPEN:
            self._end()
            return
        if reason.check(ConnectionDone):
            self.input = InputState.ENDED  # TLS has no half-close: it reports only this
        self.state = check_transition(self.state, ConnectionState.LOST)
        try:
            self.lost()
        except Exception:
            self._end()
            raise
        if self.state is ConnectionState.LOST:
            self._set_deadline(min(self.terms.limits.idle_timeout or LOST_MAX, LOST_MAX), Cause.IDLE_TIMEOUT)

    # Called by the transport, whose producer this protocol is

    def pauseProducing(self) -> None:
        if self._queue is not None or self.state in (ConnectionState.ABORTED, ConnectionState.CLOSED):
            return
        limits = self.terms.limits
        self._queue = SendQueue(limits.queue_max)
        self.terms.counters.stalls += 1
        if self.state is ConnectionState.HANDSHAKE:
            self.pause_reading()  # the deadline of the handshake stays
        elif self.state is ConnectionState.FINISHING:
            self._set_deadline(limits.close_timeout, Cause.CLOSE_TIMEOUT)
        else:
            self.pause_reading()
            self._set_deadline(limits.stall_timeout, Cause.STALL_TIMEOUT)

    def resumeProducing(self) -> None:
        if self.state in (ConnectionState.ABORTED, ConnectionState.CLOSED):
            return
        queue, self._queue = self._queue, None
        if queue is not None:
            queue.flush(self.transport.write, lambda: self.output_blocked)
            if self.output_blocked:  # the transport is full again; write() called pauseProducing
                self._queue = queue
                return
        if self.state is ConnectionState.FINISHING:
            self._close()
            return
        if self.state is ConnectionState.HANDSHAKE:
            self.resume_reading()
            return
        self._cancel_deadline()
        if self._is_tls():
            # A TLS peer that closed meanwhile leaves a transport that waits for this producer for ever.
            self.transport.unregisterProducer()
            self.transport.registerProducer(self, True)
        self.resume_processing()

    def stopProducing(self) -> None:
        """The transport is lost; ``connectionLost`` follows."""

    # Overridden by a subclass

    def connection_ready(self) -> None:
        """The connection can be used. With TLS, the handshake is complete."""

    def received(self, data: bytes) -> None:
        """Process bytes from the peer. The base class has counted them."""
        raise NotImplementedError

    def input_ended(self) -> None:
        """The peer closed its sending side. By default, send what is queued and close."""
        self.finish()

    def resume_processing(self) -> None:
        """The peer has read what was queued for it. By default, read from it again."""
        self.resume_reading()

    def end_drain(self) -> None:
        """The server stops, and what every peer sent is processed. By default, send what is queued and close."""
        self.finish()

    def lost(self) -> None:
        """The connection is lost. Process what was read before, then :meth:`finish`. By default, finish at once."""
        self.finish()

    def closed(self) -> None:
        """The connection is closed, and nothing more is processed."""

    def displaced(self) -> None:
        """The connection is about to leave for another one. By default, send the peer a line that says so."""
        self.send(Cause.DISPLACED.sentence.encode("ascii") + b"\n")

    def idle(self, seconds: float) -> None:
        """There was no activity for ``seconds``. By default, close when the idle timeout is over."""
        if seconds >= self.terms.limits.idle_timeout:
            self.finish(Cause.IDLE_TIMEOUT)

    # Called by a subclass

    def send(self, data: bytes) -> None:
        """Send ``data``. Disconnect the peer if it leaves too much unread for too long.

        A connection that is finishing or closed sends nothing more.
        """
        if self.state is not ConnectionState.OPEN and self.state not in SENDING:
            return
        counters = self.terms.counters
        counters.replies += 1
        size = len(data)
        counters.sent_bytes += size
        if size < SMALL_PIECE:
            self._unjoined += 1
            if self._unjoined == JOIN_INTERVAL:
                self._join_small_pieces()
        queue = self._queue
        if queue is not None:
            queue.append(data)
        else:
            self.transport.write(data)
            queue = self._queue
            if queue is None:
                return
            # The transport holds more than its buffer. It does not tell how much more.
            queue.size = max(TRANSPORT_BUFFER, size)
        if queue.overflows(self.terms.monotonic()):
            self.disconnect(Cause.SEND_QUEUE_FULL)

    def check_idle(self, now: float) -> bool:
        """Check for how long the peer has been idle. The factory calls this once a second.

        :param now: the monotonic time in seconds.
        :return: whether the connection was closed for it.
        """
        if self.active or self.input is InputState.PAUSED or self.state is ConnectionState.HANDSHAKE:
            self.active = False
            self._idle_since = now
        elif self.accepts_input and self.checks_idle:
            self.idle(now - self._idle_since)
            return not self.accepts_input
        return False

    def check_acknowledged(self, now: float) -> bool:
        """Disconnect the peer if it acknowledges nothing, although something is sent, for 60 s or the stall timeout.

        Such a peer does not read, or its host is gone. The factory calls this every few seconds.

        :param now: the monotonic time in seconds.
        :return: whether the connection was closed for it.
        """
        limit = self.terms.limits.acknowledge_timeout
        acknowledged = acknowledged_bytes(self.transport) if limit and self.state in SENDING else None
        if acknowledged is None:
            self._unacknowledged_since = None
        elif self._unacknowledged_since is None or acknowledged != self._acknowledged:
            self._acknowledged = acknowledged
            self._unacknowledged_since = now
        elif now - self._unacknowledged_since >= limit:
            self.disconnect(Cause.STALL_TIMEOUT)
            return True
        return False

    def pause_reading(self) -> None:
        """Stop reading from the peer."""
        if self.input is InputState.READING and self.state in SENDING:
            self.input = InputState.PAUSED
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read from the peer again."""
        if self.input is InputState.PAUSED:
            self.input = InputState.READING
            self.transport.resumeProducing()

    def begin_drain(self) -> None:
        """The server stops. A connection that cannot be used yet is closed; another one is still read from."""
        if self.state in (ConnectionState.NEW, ConnectionState.HANDSHAKE):
            self.finish()

    def stop_reading(self) -> None:
        """Read nothing more from the peer, whatever is processed or sent."""
        self.pause_reading()
        if self.input is InputState.PAUSED:
            self.input = InputState.STOPPED

    def finish(self, cause: Cause | None = None) -> None:
        """Process no more input, send what is queued, and close. Abort if that makes no progress in time.

        :param cause: counts the connection as disconnected for this cause.
        """
        if self.state is ConnectionState.LOST:
            self._end()
        if self.state not in SENDING:
            return
        if cause is not None:
            self.terms.counters.disconnect(cause, self.peer)
        self.state = check_transition(self.state, ConnectionState.FINISHING)
        self.dataReceived = self._discard  # type: ignore[method-assign]
        self._set_deadline(self.terms.limits.close_timeout, Cause.CLOSE_TIMEOUT)
        if not self.output_blocked:
            self._close()

    def disconnect(self, cause: Cause) -> None:
        """Abort the connection and count it as disconnected for ``cause``."""
        if self.state not in (ConnectionState.ABORTED, ConnectionState.CLOSED):
            self.terms.counters.disconnect(cause, self.peer)
            self.abort()

    def displace(self) -> None:
        """Make room for a peer of another host: tell this one, and close without waiting for it."""
        if self.state is ConnectionState.OPEN:
            self.displaced()
        if self.state is ConnectionState.OPEN and not self.output_blocked:
            self.finish(Cause.DISPLACED)
            self.transport.loseConnection()
            self._call_at_deadline(DISPLACED_LINGER, self.abort)  # TLS waits for the peer all the same
        else:
            self.disconnect(Cause.DISPLACED)

    def abort(self) -> None:
        """End the connection now. What is queued is dropped."""
        if self.state is ConnectionState.LOST:
            self._end()
        if self.state in (ConnectionState.ABORTED, ConnectionState.CLOSED):
            return
        self.state = check_transition(self.state, ConnectionState.ABORTED)
        self.dataReceived = self._discard  # type: ignore[method-assign]
        self._drop_queue()
        self._cancel_deadline()
        self.transport.abortConnection()

    # Internal

    def _is_tls(self) -> bool:
        return INegotiated.providedBy(self.transport)

    def _open(self) -> None:
        self.state = check_transition(self.state, ConnectionState.OPEN)
        self.connection_ready()

    def _end(self) -> None:
        """The connection is lost, and nothing more is to be processed."""
        if self.state is not ConnectionState.CLOSED:
            self._cancel_deadline()
            self.state = check_transition(self.state, ConnectionState.CLOSED)
        try:
            self.closed()
        finally:
            self.factory.connection_closed(self)

    def _close(self) -> None:
        """Close the connection. The transport holds everything that is to be sent."""
        self._set_deadline(self.terms.limits.close_timeout, Cause.CLOSE_TIMEOUT)
        self.transport.unregisterProducer()
        if self.input is InputState.ENDED or self._is_tls() or not ITCPTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
        if self.input is InputState.STOPPED:
            self.input = InputState.PAUSED
        self.resume_reading()  # to see the peer close its side; with TLS, to see its answer to our close

    def _join_small_pieces(self) -> None:
        """Join what waits for the peer, here and in the transport."""
        self._unjoined = 0
        # Twisted has no public name for the pieces that a transport keeps.
        join_small_pieces(getattr(innermost_transport(self.transport), "_tempDataBuffer", []))
        if self._queue is not None:
            self._queue.join_small_pieces()

    def _drop_queue(self) -> None:
        if self._queue is not None:
            self.terms.counters.dropped_bytes += self._queue.size
            self._queue = None

    def _discard(self, data: bytes) -> None:
        """Replaces ``dataReceived`` when no more input is processed."""

    def _set_deadline(self, seconds: float, cause: Cause) -> None:
        """Disconnect the peer for ``cause`` after ``seconds``; 0 for no deadline. It replaces the previous deadline."""
        self._cancel_deadline()
        if seconds:
            self._call_at_deadline(seconds, lambda: self.disconnect(cause))

    def _call_at_deadline(self, seconds: float, function: Callable[[], object]) -> None:
        self._cancel_deadline()
        self._deadline = Deadline(self.terms.clock, self.terms.monotonic, seconds, function)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
