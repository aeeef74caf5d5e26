"""A bounded HTTP site: few clients at a time, one request for each connection, no request bodies, a deadline."""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import Any

from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.limits.prefixes import source_prefix
from netsvc.net.counters import Counters
from netsvc.net.deadline import Deadline
from netsvc.net.reactors import Clock, monotonic_of
from netsvc.wire.address import format_host, format_peer

#: Seconds that a connection may last, and until the head of its request must have arrived.
REQUEST_TIMEOUT = 10.0
HEAD_TIMEOUT = 2.0

#: The maximum number of concurrent connections, in all and of one host. A host may have several pages open besides a
#: scrape. All of them may connect at the same moment, after the server was busy.
MAX_CLIENTS = 16
MAX_PER_HOST = 8


class BoundedSite(WrappingFactory):
    """Serves pages to few clients at a time.

    When there are as many as there may be, in all or of one host, the one that waits for its request for longest makes
    room.

    A page of another site that an operator's browser shows may make that browser ask this one, under a name that leads
    to this host (DNS rebinding). So a request must name this server by an IP address, by ``localhost`` or by one of its
    names, or come without a Host header, as from no browser.

    :param root: the resource at ``/``.
    :param clock: a reactor, or a ``Clock`` in a test.
    :param counters: where the site counts.
    :param networks: the networks from which the site may be reached.
    :param names: the names of this server.
    """

    noisy = False
    protocols: dict[_BoundedConnection, Any]

    def __init__(
        self,
        root: Resource,
        clock: Clock,
        counters: Counters,
        networks: NetworkRules | None = None,
        names: Collection[str] = (),
    ) -> None:
        reactor: Any = clock
        super().__init__(_QuietSite(root, requestFactory=_SingleRequest, timeout=REQUEST_TIMEOUT, reactor=reactor))
        self.protocol = _BoundedConnection
        self.clock = clock
        self.monotonic = monotonic_of(clock)
        self.counters = counters
        self._networks = NetworkRules() if networks is None else networks
        self._names = {name.lower().rstrip(".") for name in names} | {"localhost"}

    def logPrefix(self) -> str:
        return self.counters.service

    def buildProtocol(self, addr: IAddress | None) -> Any:
        host = getattr(addr, "host", None)
        cause = self._refusal(host)
        if cause is None:
            connection: Any = super().buildProtocol(addr)
            connection.host = host
            return connection
        self.counters.refuse(cause, "a UNIX socket" if host is None else format_host(host))
        return None

    def stopFactory(self) -> None:
        for connection in tuple(self.protocols):
            connection.transport.abortConnection()

    def is_own_name(self, name: str) -> bool:
        """Whether a request may name this server so: by an IP address, ``localhost`` or one of its names."""
        try:
            ip_address(name)
        except ValueError:
            return name.lower().rstrip(".") in self._names
        return True

    def _refusal(self, host: str | None) -> Cause | None:
        """Return why a connection is refused; None if it is accepted. It may take the place of another one."""
        staying = [one for one in self.protocols if not one.leaving]
        if host is not None:
            if not self._networks.allows(host):
                return Cause.NOT_ALLOWED
            prefix = source_prefix(host)
            of_host = [one for one in staying if one.host is not None and source_prefix(one.host) == prefix]
            if len(of_host) >= MAX_PER_HOST:
                return None if _make_room(of_host) else Cause.TOO_MANY_PER_HOST
        if len(staying) >= MAX_CLIENTS:
            return None if _make_room(staying) else Cause.SERVER_FULL
        return None


def _make_room(connections: Collection[_BoundedConnection]) -> bool:
    """Displace the connection that waits for its request for longest. Return whether there was one."""
    waiting = [one for one in connections if one.waits_for_request]
    if waiting:
        min(waiting, key=lambda one: one.opened_at).displace()
    return bool(waiting)


class ReadablePage(Resource):
    """A page that can be read. Twisted would log a HEAD request that is answered with a body."""

    def render_GET(self, request: Request) -> bytes:
        raise NotImplementedError

    def render_HEAD(self, request: Request) -> bytes:
        request.setHeader(b"content-length", b"%d" % len(self.render_GET(request)))
        return b""


class TextPage(ReadablePage):
    """A page of plain text. Paths below it are not found.

    :param content: returns the HTTP status and the text.
    """

    def __init__(self, content: Callable[[], tuple[int, str]]) -> None:
        super().__init__()
        self._content = content

    def getChild(self, path: bytes, request: Request) -> Resource:
        return TextPage(lambda: (404, "not found\n"))

    def render_GET(self, request: Request) -> bytes:
        status, text = self._content()
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return text.encode("utf-8")


class _SingleRequest(Request):
    """The only request of its connection. Its body is not kept.

    Twisted processes all requests that arrive together within one reactor iteration: 1,500 of them took half a second.
    """

    channel: Any

    def process(self) -> None:
        connection: _BoundedConnection = self.channel.transport
        self.setHeader(b"connection", b"close")
        self.channel.persistent = False
        if not self.requestHeaders.hasHeader(b"host") or connection.factory.is_own_name(self._named_host()):
            super().process()
            return
        connection.refuse_name()
        self.render(TextPage(lambda: (403, f"{Cause.HOST_NAME.sentence}\n")))

    def _named_host(self) -> str:
        """Return the name in the Host header, without the port."""
        name: bytes = self.getRequestHostname()
        return name.decode("latin-1")

    def gotLength(self, length: int | None) -> None:
        self.channel.transport.head_arrived()  # Twisted calls this when all headers have arrived
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Drop a piece of the body."""


class _QuietSite(Site):
    """A site that does not log its requests."""

    noisy = False
    displayTracebacks = False

    def startFactory(self) -> None:
        """Do not keep the time for the log, which would take a timer each second."""

    def log(self, request: Any) -> None:
        """Log nothing."""


@implementer(IHalfCloseableProtocol)
class _BoundedConnection(ProtocolWrapper):
    """A connection with a deadline, however much is sent on it.

    :ivar host: the peer's IP address; None on a UNIX socket.
    :ivar opened_at: when it was opened, in seconds of monotonic time.
    :ivar waits_for_request: whether the head of the request has not arrived yet.
    :ivar leaving: whether it makes room for another one.
    """

    factory: BoundedSite
    transport: Any
    host: str | None = None
    opened_at = 0.0
    waits_for_request = True
    leaving = False
    _deadline: Deadline

    def connectionMade(self) -> None:
        self.opened_at = self.factory.monotonic()
        self._deadline = self._deadline_in(HEAD_TIMEOUT)
        self.factory.counters.opened += 1
        super().connectionMade()

    def readConnectionLost(self) -> None:
        self.loseConnection()  # after the response is sent; Twisted's own would drop it

    def writeConnectionLost(self) -> None:
        """This side never half-closes."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._deadline.cancel()
        self.factory.counters.closed += 1
        super().connectionLost(reason)

    def head_arrived(self) -> None:
        """The head of the request is complete."""
        self.waits_for_request = False
        self._deadline.cancel()
        self._deadline = self._deadline_in(REQUEST_TIMEOUT - HEAD_TIMEOUT)

    def refuse_name(self) -> None:
        """Count a request that names another server."""
        self.factory.counters.refuse(Cause.HOST_NAME, format_peer(self.transport.getPeer()))

    def displace(self) -> None:
        """Make room for another connection."""
        self.leaving = True
        self._disconnect(Cause.DISPLACED)

    def _deadline_in(self, seconds: float) -> Deadline:
        return Deadline(
            self.factory.clock, self.factory.monotonic, seconds, lambda: self._disconnect(Cause.REQUEST_TIMEOUT)
        )

    def _disconnect(self, cause: Cause) -> None:
        self.factory.counters.disconnect(cause, format_peer(self.transport.getPeer()))
        self.transport.abortConnection()
