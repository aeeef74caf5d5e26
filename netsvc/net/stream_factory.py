"""The connections of one stream service: which are accepted, which are idle, and how they are drained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, INegotiated
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import WrappingFactory

from netsvc.limits.cause import Cause
from netsvc.net.drain import Drain
from netsvc.net.reactors import cancel
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms
from netsvc.wire.address import format_host

#: Seconds between two checks for idle peers. An idle peer may be closed that much later than its time.
IDLE_CHECK_INTERVAL = 1.0

#: How many of these checks pass between two checks of what the peer has acknowledged. Each takes a system call.
CHECKS_PER_ACKNOWLEDGE_CHECK = 5

#: Connections that are checked, and that are closed, per reactor iteration. When 2,000 members of a chat become idle at
#: the same time and each other member is told of each that leaves, closing all of them at once takes 1.4 s.
CHECKS_PER_ITERATION = 512
CLOSES_PER_ITERATION = 4

#: Refused peers that are told the cause, per reactor iteration. Each keeps a descriptor until the next iteration; the
#: others are closed at once.
NOTICES_PER_ITERATION = 16

if TYPE_CHECKING:
    _Factory = Factory[Protocol]
else:
    _Factory = Factory


class StreamFactory(_Factory):
    """Accepts connections, knows them, and can finish them all. A subclass overrides :meth:`build_connection`.

    :param terms: the terms of the service.
    :ivar connections: the open connections.
    """

    noisy = False

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.connections: set[StreamProtocol] = set()
        self._drain: Drain | None = None  # while draining
        self._idle_check: IDelayedCall | None = None
        self._checks = 0  # of all connections, modulo CHECKS_PER_ACKNOWLEDGE_CHECK
        self._notices = 0  # in this reactor iteration

    def logPrefix(self) -> str:
        """Return the name of the service: Twisted logs it when the port opens."""
        return self.terms.counters.service or type(self).__name__

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """Return the protocol of a new connection, or one that refuses it. None closes it without a message."""
        if self._drain:
            return None
        host = self.counted_host(getattr(addr, "host", None))
        terms = self.terms
        cause = terms.admission.check(host, terms.monotonic(), terms.counters.service)
        if cause is not None:
            terms.counters.refuse(cause, "a UNIX socket" if host is None else format_host(host))
            return self._refusal(cause)
        connection = self.build_connection()
        connection.factory = self
        connection.terms = terms
        connection.host = host
        return connection

    def counted_host(self, host: str | None) -> str | None:
        """Return the host for which a connection from ``host`` counts; None for none, as on a UNIX socket."""
        return host

    def recount(self, connection: StreamProtocol, host: str | None) -> Cause | None:
        """Count a connection for another host. Return why that host is refused; None if it is not.

        :param host: None for none.
        """
        if host == connection.host:
            return None
        terms = self.terms
        # It has its place already, so it is not counted while that is checked.
        terms.admission.connections.connection_closed(connection)
        cause = terms.admission.check(host, terms.monotonic(), terms.counters.service)
        if cause is None:
            connection.host = host
        terms.admission.connections.connection_opened(connection)
        return cause

    def refusal_notice(self, cause: Cause) -> bytes:
        """Return what a refused peer is told."""
        return cause.sentence.encode("ascii") + b"\n"

    def prepare(self) -> None:
        """Do what must be done before the ports open. The server calls this at each start.

        :raises NetsvcError: if the service cannot be served.
        """

    def build_connection(self) -> StreamProtocol:
        """Return a new protocol of this service."""
        raise NotImplementedError

    @property
    def draining(self) -> bool:
        """Whether the server stops."""
        return self._drain is not None

    def drain(self, timeout: float) -> Deferred[None]:
        """Process what the peers have sent, send what is queued, and close. Refuse new connections meanwhile.

        :param timeout: seconds after which the remaining connections are aborted; 0 waits for as long as it takes.
        :return: fires with None when the last connection is closed.
        """
        done: Deferred[None] = Deferred()
        if self._drain:
            self._drain.done.chainDeferred(done)
            return done
        if not self.connections:
            return succeed(None)
        self._drain = Drain(self, timeout, done)
        self._drain.begin()
        return done

    def connection_opened(self, connection: StreamProtocol) -> None:
        """Add a connection. Its protocol calls this."""
        self.connections.add(connection)
        self.terms.counters.opened += 1
        self.terms.admission.connections.connection_opened(connection)
        if self._idle_check is None:
            self._idle_check = self.terms.clock.callLater(IDLE_CHECK_INTERVAL, self._check_all)

    def connection_closed(self, connection: StreamProtocol) -> None:
        """Remove a connection. Its protocol calls this."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.terms.counters.closed += 1
            self.terms.admission.connections.connection_closed(connection)
        if self._idle_check is not None and not self.connections:
            cancel(self._idle_check)
            self._idle_check = None
        if self._drain and not self.connections:
            drain, self._drain = self._drain, None
            drain.end()

    def _refusal(self, cause: Cause) -> Protocol | None:
        """Return a protocol that tells a peer why it is refused; None to close without a message."""
        if cause is Cause.NOT_ALLOWED or self._notices >= NOTICES_PER_ITERATION:
            return None
        self._notices += 1
        if self._notices == 1:
            self.terms.clock.callLater(0, self._allow_notices)
        return RefusalProtocol(self.refusal_notice(cause))

    def _allow_notices(self) -> None:
        self._notices = 0

    def _check_all(self) -> None:
        """Check every connection. There is one timer for all connections, not one for each."""
        self._checks = (self._checks + 1) % CHECKS_PER_ACKNOWLEDGE_CHECK
        self._check(list(self.connections))

    def _check(self, remaining: list[StreamProtocol]) -> None:
        """Check some of the remaining connections now, and the others in the next reactor iteration."""
        now = self.terms.monotonic()
        closed = 0
        for _ in range(CHECKS_PER_ITERATION):
            if not remaining or closed == CLOSES_PER_ITERATION:
                break
            connection = remaining.pop()
            closed += connection.check_idle(now)
            if not self._checks:
                closed += connection.check_acknowledged(now)
        if not self.connections:
            self._idle_check = None
        elif remaining:
            self._idle_check = self.terms.clock.callLater(0, self._check, remaining)
        else:
            self._idle_check = self.terms.clock.callLater(IDLE_CHECK_INTERVAL, self._check_all)


def wrapped_log_prefix(wrapper: WrappingFactory) -> str:
    """Return the log prefix of the factory inside a wrapper. The name of the wrapper means nothing to a user."""
    factory: Any = wrapper.wrappedFactory
    return str(factory.logPrefix()) if hasattr(factory, "logPrefix") else type(factory).__name__


class RefusalProtocol(Protocol):
    """Tells the peer why it is refused, and closes.

    :param notice: what it is told.
    """

    transport: Any

    def __init__(self, notice: bytes) -> None:
        self._notice = notice

    def connectionMade(self) -> None:
        if INegotiated.providedBy(self.transport):
            self.transport.abortConnection()  # the notice would wait for the handshake, and that for the peer
        else:
            self.transport.write(self._notice)
            self.transport.loseConnection()
