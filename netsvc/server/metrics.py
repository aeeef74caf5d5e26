"""Numbers and health over HTTP, for Prometheus and for whoever decides where traffic goes.

prometheus_client's own resource for Twisted imports the global reactor and serves the global registry; hence this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IProtocolFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from netsvc.net.counters import Counts
from netsvc.net.timer import cancel
from netsvc.wire.address import peer_text

#: Seconds that a connection may last, and clients at a time. Those who ask are few, and ask for little.
TIMEOUT = 10.0
CONNECTIONS = 16


def metrics_site(
    reactor: Any, counts: Iterable[Counts], ready: Callable[[], bool], own_counts: Counts
) -> IProtocolFactory:
    """Return a site with ``/metrics``, ``/healthz`` (200 while the reactor turns) and ``/readyz`` (200 or 503).

    :param reactor: tells the time.
    :param counts: of each service.
    :param ready: whether the services take new peers.
    :param own_counts: where the site's own connections are counted.
    """
    registry = CollectorRegistry()
    registry.register(ServiceCollector(counts))
    ProcessCollector(registry=registry)
    root = _Page(lambda: (200, "/metrics\n/healthz\n/readyz\n"))
    root.putChild(b"", root)
    root.putChild(b"metrics", _MetricsPage(registry))
    root.putChild(b"healthz", _Page(lambda: (200, "ok\n")))
    root.putChild(b"readyz", _Page(lambda: (200, "ready\n") if ready() else (503, "not ready\n")))
    site = _QuietSite(root, requestFactory=_OnlyRequest, timeout=TIMEOUT, reactor=reactor)
    return _FewClients(site, reactor, own_counts)


class ServiceCollector(Collector):
    """The numbers of services as Prometheus has them.

    :param counts: of each service.
    """

    def __init__(self, counts: Iterable[Counts]) -> None:
        self._counts = tuple(counts)

    def collect(self) -> Iterator[Metric]:
        now = GaugeMetricFamily("netsvc_connections", "Connections at this time.", labels=["service"])
        for counts in self._counts:
            now.add_metric([counts.service], counts.opened - counts.closed)
        yield now
        for name, meaning, attribute in (
            ("netsvc_connections_opened", "Connections that were let in.", "opened"),
            ("netsvc_received_bytes", "Bytes that peers sent, as far as they were read.", "received_bytes"),
            ("netsvc_sent_bytes", "Bytes for peers, those that wait for them included.", "sent_bytes"),
            ("netsvc_dropped_bytes", "Bytes that waited for a peer which was cut.", "dropped_bytes"),
            ("netsvc_replies", "Answers, echoed pieces and chat lines, one for each peer.", "replies"),
            ("netsvc_stalls", "How often more than 64 KiB waited for a peer.", "stalls"),
        ):
            family = CounterMetricFamily(name, meaning, labels=["service"])
            for counts in self._counts:
                family.add_metric([counts.service], getattr(counts, attribute))
            yield family
        for name, meaning, attribute in (
            ("netsvc_refused", "Connections, datagrams, lines and names that were refused.", "refused"),
            ("netsvc_cut", "Connections that were ended for a fault of the peer's.", "cut"),
            ("netsvc_unsent", "Datagrams that the system did not send.", "unsent"),
        ):
            family = CounterMetricFamily(name, meaning, labels=["service", "cause"])
            for counts in self._counts:
                for cause, number in getattr(counts, attribute).items():
                    family.add_metric([counts.service, cause], number)
            yield family


class _Readable(Resource):
    """A page to be read. Twisted logs a HEAD request that is answered with a body, and what was asked with it."""

    def render_GET(self, request: Request) -> bytes:
        raise NotImplementedError

    def render_HEAD(self, request: Request) -> bytes:
        request.setHeader(b"content-length", b"%d" % len(self.render_GET(request)))
        return b""


class _Page(_Readable):
    """A page of plain text.

    :param content: returns its status and its text.
    """

    def __init__(self, content: Callable[[], tuple[int, str]]) -> None:
        super().__init__()
        self._content = content

    def getChild(self, path: bytes, request: Request) -> Resource:
        return _Page(lambda: (404, "not found\n"))

    def render_GET(self, request: Request) -> bytes:
        status, text = self._content()
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        request.setHeader(b"cache-control", b"no-store")
        return text.encode("utf-8")


class _MetricsPage(_Readable):
    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def render_GET(self, request: Request) -> bytes:
        try:
            encode, content_type = choose_encoder(request.getHeader("accept") or "")
        except (TypeError, ValueError):  # it compares version numbers, and has not seen every one
            encode, content_type = choose_encoder("")
        request.setHeader(b"content-type", content_type.encode("ascii"))
        return encode(self._registry)


class _OnlyRequest(Request):
    """The only request of its connection, whose body, which nobody needs, is not kept.

    Twisted takes every request that came in one piece within one turn of the reactor: 1,500 of them took half a second.
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
    """A site that logs no requests: they come every few seconds, and are nobody's news."""

    noisy = False
    displayTracebacks = False

    def startFactory(self) -> None:
        """Do not keep the time for the log, which takes a timer each second."""

    def log(self, request: Any) -> None:
        """Say nothing."""


class _FewClients(WrappingFactory):
    """Closes whoever comes while there are as many as there may be, and whoever takes too long.

    :param clock: tells the time.
    :param counts: where they are counted.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory, clock: IReactorTime, counts: Counts) -> None:
        super().__init__(factory)
        self.protocol = _Client
        self.clock = clock
        self.counts = counts

    def buildProtocol(self, addr: IAddress | None) -> Any:
        if len(self.protocols) < CONNECTIONS:
            return super().buildProtocol(addr)
        self.counts.refuse("server full", getattr(addr, "host", None) or "a local peer")
        return None

    def stopFactory(self) -> None:
        for client in tuple(self.protocols):
            client.transport.abortConnection()


@implementer(IHalfCloseableProtocol)
class _Client(ProtocolWrapper):
    """A connection that is over after a time, however much or little is said on it."""

    factory: _FewClients
    transport: Any

    def connectionMade(self) -> None:
        self._deadline = self.factory.clock.callLater(TIMEOUT, self._too_late)
        self.factory.counts.opened += 1
        super().connectionMade()

    def readConnectionLost(self) -> None:
        self.loseConnection()  # once what was asked for is sent, which Twisted's own would drop

    def writeConnectionLost(self) -> None:
        """Never half-closed from here."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        cancel(self._deadline)
        self.factory.counts.closed += 1
        super().connectionLost(reason)

    def _too_late(self) -> None:
        self.factory.counts.cut_off("took too long", peer_text(self.transport.getPeer()))
        self.transport.abortConnection()
