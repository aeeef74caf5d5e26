"""What every stream connection of the server needs: bounded sending, a close that always ends, and drain.

Two classes: :class:`StreamProtocol` bounds what is owed to a peer and ends its connection; :class:`StreamFactory` knows
the connections and drains them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IPushProducer,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.counters import Counts
from netsvc.net.door import Door
from netsvc.net.timer import cancel
from netsvc.wire.address import peer_text

#: Twisted's transports ask a producer to pause when more than this many bytes wait for the peer.
TRANSPORT_BUFFER = 65_536

#: Seconds for which a connection that said all it had to say waits for the peer to end its side. Closing at once
#: while the peer still sends would reset the connection, and what is under way to the peer would be lost.
LINGER = 1.0

#: Seconds for which more than ``queue_max`` may wait: for longer than a turn of the reactor, in which a peer that does
#: read can be given any number of lines before anything can be sent to it.
OVERFULL = 0.5

#: Seconds between two looks at who is silent; so much later than its time a silent peer may be closed.
SWEEP = 1.0

#: How many are looked at in a turn of the reactor, and how many of them ended: when 2,000 members of a chat fall silent
#: together, and each has to be told that each other one left, ending all of them in one turn takes 1.4 s.
LOOKS_A_TURN = 512
ENDS_A_TURN = 4


@dataclass(frozen=True)
class Limits:
    """What one stream connection may cost. 0 means no limit.

    :param queue_max: bytes that may wait for a peer; it is cut for being owed more when they do for half a second.
    :param stall_timeout: seconds for which more than 64 KiB may wait without being read; then it is cut.
    :param close_timeout: seconds that closing may take without progress; then the connection is aborted.
    :param handshake_timeout: seconds that a TLS handshake may take.
    :param line_timeout: seconds from the beginning of a line to its end, where the stream is lines.
    :param idle_timeout: seconds for which a peer may say nothing; then it is closed.
    """

    queue_max: int = 262_144
    stall_timeout: float = 10.0
    close_timeout: float = 5.0
    handshake_timeout: float = 10.0
    line_timeout: float = 30.0
    idle_timeout: float = 600.0


DEFAULT_LIMITS = Limits()

if TYPE_CHECKING:
    _Factory = Factory[Protocol]
else:
    _Factory = Factory


class StreamFactory(_Factory):
    """Knows its connections, and can finish them all.

    :param clock: tells the time and calls later: a reactor, or a ``Clock`` in a test.
    :param limits: what each connection may cost.
    :param door: who may connect; by default anybody.
    :param counts: where what happens is counted. Factories may share it.
    """

    noisy = False

    def __init__(
        self,
        clock: IReactorTime,
        limits: Limits = DEFAULT_LIMITS,
        door: Door | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.clock = clock
        self.limits = limits
        self.counts = Counts(clock) if counts is None else counts
        self.connections: set[StreamProtocol] = set()
        self._door = door
        self._draining: Deferred[None] | None = None
        self._sweep: IDelayedCall | None = None

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return a protocol for a new connection; None, which closes it, while draining; or one that refuses it."""
        if self._draining:
            return None
        host = getattr(addr, "host", None)
        if self._door is not None:
            refusal = self._door.refusal(host)
            if refusal is not None:
                self.counts.refuse(refusal, host or "a local peer")
                return self._door.turn_away(refusal)
        connection = self.connection()
        connection.factory = self
        connection.host = host
        return connection

    def connection(self) -> StreamProtocol:
        """Return a new protocol of this factory."""
        raise NotImplementedError

    def drain(self, timeout: float) -> Deferred[None]:
        """Finish every connection: flush what was accepted, close, and abort what is left at ``timeout``.

        New connections are closed meanwhile.

        :param timeout: seconds; 0 waits for as long as it takes.
        :return: fires with None when the last connection is gone.
        """
        if self._draining:
            drained: Deferred[None] = Deferred()
            self._draining.chainDeferred(drained)
            return drained
        if not self.connections:
            return succeed(None)
        drained = self._draining = Deferred()
        if timeout:
            deadline = self.clock.callLater(timeout, self._abort_all)
            drained.addCallback(lambda _: cancel(deadline))
        for connection in tuple(self.connections):
            connection.drain()
        return drained

    @property
    def draining(self) -> bool:
        """Whether the connections are being finished."""
        return self._draining is not None

    def came(self, connection: StreamProtocol) -> None:
        """Know a connection that was made."""
        self.connections.add(connection)
        self.counts.opened += 1
        if self._door is not None:
            self._door.enter(connection.host)
        if self._sweep is None and (self.limits.idle_timeout or self.limits.line_timeout):
            self._sweep = self.clock.callLater(SWEEP, self._look_around)

    def gone(self, connection: StreamProtocol) -> None:
        """Forget a connection that was lost."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.counts.closed += 1
            if self._door is not None:
                self._door.leave(connection.host)
        if self._sweep is not None and not self.connections:
            cancel(self._sweep)
            self._sweep = None
        if self._draining and not self.connections:
            drained, self._draining = self._draining, None
            drained.callback(None)

    def _look_around(self) -> None:
        """Tell every connection how long its peer has been silent; one timer for all of them, not one for each."""
        self._look_on(list(self.connections))

    def _look_on(self, left: list[StreamProtocol]) -> None:
        """Look at some of those who are left, and at the others in the next turn."""
        now = self.clock.seconds()
        ended = 0
        for _ in range(LOOKS_A_TURN):
            if not left or ended == ENDS_A_TURN:
                break
            ended += left.pop().look(now)
        if not self.connections:
            self._sweep = None
        elif left:
            self._sweep = self.clock.callLater(0, self._look_on, left)
        else:
            self._sweep = self.clock.callLater(SWEEP, self._look_around)

    def _abort_all(self) -> None:
        for connection in tuple(self.connections):
            connection.cut("was not finished when the server stopped")
        # By the next turn each has heard that it is lost. One whose own code failed in that is forgotten all the same.
        self.clock.callLater(0, self._forget_all)

    def _forget_all(self) -> None:
        for connection in tuple(self.connections):
            self.gone(connection)


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class StreamProtocol(Protocol):
    """One connection, which costs a bounded amount and always ends.

    It is the producer of its own transport: while the peer does not read, the peer is not read from either.
    A subclass takes ``dataReceived``, and where it needs them :meth:`opened`, :meth:`input_ended`,
    :meth:`drain` and ``connectionLost``; it writes with :meth:`send` and closes with :meth:`finish`.
    """

    log = Logger()
    factory: StreamFactory
    transport: Any
    host: str | None = None  # the peer's address; None on a UNIX socket

    heard = True  # something since the last look; to be set for each read or message, which costs least so
    _silent_since = 0.0
    _input_ended = False
    _held = False  # the transport does not read
    _paused = False  # more than TRANSPORT_BUFFER waits in the transport
    _finishing = False
    _shaking = False  # a TLS handshake is under way
    _aborted = False
    _timer: IDelayedCall | None = None  # for the stall or for the closing: never both
    _waiting: deque[bytes] | None = None  # what the transport was not given yet; an empty deque takes 0.7 KiB
    _queued = 0  # bytes in the transport, as far as is known, and in _waiting; counted while paused
    _overfull_since: float | None = None  # when that became more than there may be

    @property
    def peer(self) -> str:
        """Who is at the other end, as it would be typed."""
        return peer_text(self.transport.getPeer())

    # What Twisted calls

    def connectionMade(self) -> None:
        self.factory.came(self)
        self.log.info("{peer} connected", peer=self.peer)
        self.transport.registerProducer(self, True)
        # TLS claims to be TCP even on a UNIX socket; so what counts is whether it can be done.
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            # Or Nagle's algorithm (RFC 896) keeps a line back until the one before it is acknowledged, which a peer
            # that has nothing to say does 40 ms later. What is small is collected in a turn of the reactor anyway.
            with suppress(OSError):  # some systems refuse that to a socket which was reset meanwhile
                set_no_delay(True)
        # Only TLS transports provide INegotiated. They say when their handshake is done; what is written
        # before that queues without bound.
        if self._tls:
            self._shaking = True
            self._set_timer(self.factory.limits.handshake_timeout, self._never_shook_hands)
        else:
            self.opened()

    def handshakeCompleted(self) -> None:
        self._shaking = False
        if not self._finishing:
            self._set_timer(0, None)
            self.opened()

    def readConnectionLost(self) -> None:
        self._input_ended = True
        if self._finishing:
            self.transport.loseConnection()
        else:
            self.input_ended()

    def writeConnectionLost(self) -> None:
        """All is sent, and the peer was told so: wait a little for its end."""
        self._set_timer(LINGER, self.transport.loseConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._set_timer(0, None)
        if self._shaking and not self._finishing:
            self.factory.counts.refuse("no TLS handshake", self.peer)
        if self._paused:
            self.factory.counts.dropped_bytes += self._queued
        self._finishing = True
        self._waiting = None
        self.factory.gone(self)

    # What the transport calls, whose producer this protocol is

    def pauseProducing(self) -> None:
        if self._paused:
            return
        self._paused = True
        self._queued = 0
        self.factory.counts.stalls += 1
        if self._finishing:
            self._set_timer(self.factory.limits.close_timeout, self._never_closed)
        else:
            self.hold()
            self._set_timer(self.factory.limits.stall_timeout, self._stalled)

    def resumeProducing(self) -> None:
        self._paused = False
        while self._waiting and not self._paused:
            self.transport.write(self._waiting.popleft())
        if self._paused:  # once more: write() called pauseProducing
            self._queued = TRANSPORT_BUFFER + sum(map(len, self._waiting or ()))
            if self._queued <= self.factory.limits.queue_max:
                self._overfull_since = None
            return
        self._waiting = None
        self._overfull_since = None
        if self._finishing:
            self._close()
        else:
            self._set_timer(0, None)
            if self._tls:
                # A TLS peer that closed meanwhile left a transport that waits for this producer for ever.
                self.transport.unregisterProducer()
                self.transport.registerProducer(self, True)
            self.read_on()

    def stopProducing(self) -> None:
        """The transport is gone; connectionLost follows."""

    # What a subclass overrides

    def opened(self) -> None:
        """The peer is there, and for TLS its handshake is done."""

    def input_ended(self) -> None:
        """The peer has said all it has to say. By default what is owed to it is sent, then it is closed."""
        self.finish()

    def read_on(self) -> None:
        """The peer has read what was owed to it and may be read from again."""
        self.release()

    def drain(self) -> None:
        """The server stops."""
        self.finish()

    def silent(self, seconds: float) -> None:
        """The peer has said nothing for so long. By default it is closed when that is too long."""
        if seconds >= self.factory.limits.idle_timeout:
            self.factory.counts.cut_off("said nothing for too long", self.peer)
            self.finish()

    # What a subclass calls

    def send(self, data: bytes) -> None:
        """Owe ``data`` to the peer; cut it if it leaves too much unread for too long. After the end nothing is owed."""
        if self._finishing:
            return
        counts = self.factory.counts
        counts.replies += 1
        counts.sent_bytes += len(data)
        if self._paused:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(data)
            self._queued += len(data)
        else:
            self.transport.write(data)
            if not self._paused:
                return
            # What the transport holds is more than its buffer; how much more it does not say.
            self._queued = max(TRANSPORT_BUFFER, len(data))
        if 0 < self.factory.limits.queue_max < self._queued:
            now = self.factory.clock.seconds()
            if self._overfull_since is None:
                self._overfull_since = now
            elif now - self._overfull_since >= OVERFULL:
                self.cut("leaves too much unread")

    def look(self, now: float) -> bool:
        """See how long the peer has been silent. The factory calls it each second.

        :return: whether the connection was ended for that.
        """
        if self.heard or self._held or self._shaking:  # or nobody listens yet
            self.heard = False
            self._silent_since = now
        elif not self._finishing and self.factory.limits.idle_timeout:
            self.silent(now - self._silent_since)
            return self._finishing
        return False

    def hold(self) -> None:
        """Do not read from the peer for now."""
        if not self._held and not self._finishing:
            self._held = True
            self.transport.pauseProducing()

    def release(self) -> None:
        """Read from the peer again."""
        if self._held and not self._input_ended:
            self._held = False
            self.transport.resumeProducing()

    def finish(self) -> None:
        """Take nothing more, send what is owed, close. Where that makes no progress for the timeout, abort."""
        if self._finishing:
            return
        self._finishing = True
        self.dataReceived = self._discard  # type: ignore[method-assign]
        self._set_timer(self.factory.limits.close_timeout, self._never_closed)
        if not self._paused:
            self._close()

    def cut(self, fault: str) -> None:
        """End the connection now, for a fault of the peer's."""
        if not self._aborted:
            self.factory.counts.cut_off(fault, self.peer)
            self.abort()

    def abort(self) -> None:
        """End the connection now. What is owed is dropped."""
        if self._aborted:
            return
        if not self._paused:
            self._queued = 0
        self._aborted = self._finishing = self._paused = True
        self._waiting = None
        self.dataReceived = self._discard  # type: ignore[method-assign]
        self._set_timer(0, None)
        self.transport.abortConnection()

    # The rest is its own

    @property
    def _tls(self) -> bool:
        return INegotiated.providedBy(self.transport)

    def _close(self) -> None:
        """Close the connection; its transport was given everything."""
        self._set_timer(self.factory.limits.close_timeout, self._never_closed)
        self.transport.unregisterProducer()
        if self._input_ended or self._tls or not ITCPTransport.providedBy(self.transport):
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
        self.release()  # the peer's end has to be read, which over TLS is its answer to ours

    def _never_shook_hands(self) -> None:
        self.cut("did not finish its TLS handshake in time")

    def _stalled(self) -> None:
        self.cut("did not take what waits for it in time")

    def _never_closed(self) -> None:
        self.cut("did not let the connection end in time")

    def _discard(self, data: bytes) -> None:
        """Take the place of ``dataReceived`` once nothing is taken any more."""

    def _set_timer(self, seconds: float, call: Callable[[], object] | None) -> None:
        """Replace the timer. No seconds, no timer."""
        cancel(self._timer)
        self._timer = self.factory.clock.callLater(seconds, call) if seconds and call else None
