"""A bounded HTTP site: few clients at a time, one request for each connection, no request bodies, a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IDelayedCall, IHalfCloseableProtocol
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from netsvc.limits.cause import Cause
from netsvc.net.counters import Counters
from netsvc.net.reactors import Clock, cancel
from netsvc.wire.address import format_host, format_peer

#: Seconds that a connection may last, and the maximum number of concurrent connections.
REQUEST_TIMEOUT = 10.0
MAX_CLIENTS = 16


class BoundedSite(WrappingFactory):
    """Serves pages to few clients at a time.

    :param root: the resource at ``/``.
    :param clock: a reactor, or a ``Clock`` in a test.
    :param counters: where the site counts.
    """

    noisy = False

    def __init__(self, root: Resource, clock: Clock, counters: Counters) -> None:
        reactor: Any = clock
        super().__init__(_QuietSite(root, requestFactory=_SingleRequest, timeout=REQUEST_TIMEOUT, reactor=reactor))
        self.protocol = _BoundedConnection
        self.clock = clock
        self.counters = counters

    def logPrefix(self) -> str:
        return self.counters.service

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self.protocols) < MAX_CLIENTS:
            return super().buildProtocol(addr)
        host = getattr(addr, "host", None)
        self.counters.refuse(Cause.SERVER_FULL, "a UNIX socket" if host is None else format_host(host))
        return None

    def stopFactory(self) -> None:
        for connection in tuple(self.protocols):
            connection.transport.abortConnection()


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
        self.setHeader(b"connection", b"close")
        self.channel.persistent = False
        super().process()

    def gotLength(self, length: int | None) -> None:
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
    """A connection with a deadline, however much is sent on it."""

    factory: BoundedSite
    transport: Any
    _deadline: IDelayedCall

    def connectionMade(self) -> None:
        self._deadline = self.factory.clock.callLater(REQUEST_TIMEOUT, self._timed_out)
        self.factory.counters.opened += 1
        super().connectionMade()

    def readConnectionLost(self) -> None:
        self.loseConnection()  # after the response is sent; Twisted's own would drop it

    def writeConnectionLost(self) -> None:
        """This side never half-closes."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        cancel(self._deadline)
        self.factory.counters.closed += 1
        super().connectionLost(reason)

    def _timed_out(self) -> None:
        peer = format_peer(self.transport.getPeer())
        self.factory.counters.disconnect(Cause.REQUEST_TIMEOUT, peer)
        self.transport.abortConnection()
