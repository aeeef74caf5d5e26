"""Metrics for Prometheus, and the pages for health checks.

It does not use prometheus_client's resource for Twisted, which imports the global reactor and serves the global
registry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IProtocolFactory
from twisted.web.server import Request

from netsvc.limits.connection_counter import TOP_NETWORKS
from netsvc.limits.networks import NetworkRules
from netsvc.net.counters import Counters
from netsvc.net.http_site import BoundedSite, ReadablePage, TextPage
from netsvc.net.reactors import Clock
from netsvc.server.probe_metrics import ProbeCollector
from netsvc.server.reported_server import BY_CAUSE, OF_STORE, TOP_SOURCES, TOTALS, ReportedServer
from netsvc.server.status_page import status_pages

#: Other metrics: name and meaning.
STORE_UP = ("netsvc_store_up", "Whether the store can be used.")
STORE_WAITING = ("netsvc_store_waiting", "Lines that have no outcome yet.")
STORE_OLDEST = ("netsvc_store_oldest_wait_seconds", "For how long the oldest of them has waited.")
STORE_NODES = ("netsvc_store_nodes", "Nodes that share the store and are alive. 0 if the store cannot be used.")
CONNECTIONS = ("netsvc_connections", "Open connections.")
OF_NETWORKS = ("netsvc_top_network_connections", "Open connections of the five networks that have the most.")
OF_SOURCES = (
    "netsvc_top_rate_limited_datagrams",
    "Datagrams that were refused because there were too many per second, of the five sources with the most.",
)
LOG_LINES = ("netsvc_dropped_log_lines", "Lines of the log that were dropped because it was not read.")
CERTIFICATE = ("netsvc_certificate_expiry_seconds", "When the certificate in use expires, in seconds since the epoch.")


def metrics_site(
    server: ReportedServer,
    clock: Clock,
    own_counters: Counters,
    networks: NetworkRules | None = None,
    names: Collection[str] = (),
) -> IProtocolFactory:
    """Return a site with ``/status``, ``/status.json``, ``/metrics``, ``/healthz`` and ``/readyz``.

    ``/healthz`` answers 200 while the reactor runs, and ``/readyz`` 200 or 503.

    :param server: the server to report.
    :param clock: a reactor, or a ``Clock`` in a test.
    :param own_counters: where the site itself counts.
    :param networks: the networks from which the pages may be reached.
    :param names: names that the Host header of a request may have, besides IP addresses and ``localhost``.
    """
    registry = CollectorRegistry()
    registry.register(ServiceCollector(server))
    registry.register(ProbeCollector(server))
    ProcessCollector(registry=registry)
    root = TextPage(lambda: (200, "/status\n/status.json\n/metrics\n/healthz\n/readyz\n"))
    root.putChild(b"", root)
    for path, page in status_pages(server, clock):
        root.putChild(path, page)
    root.putChild(b"metrics", _MetricsPage(registry))
    root.putChild(b"healthz", TextPage(lambda: (200, "ok\n")))
    root.putChild(b"readyz", TextPage(lambda: (200, "ready\n") if server.is_ready() else (503, "not ready\n")))
    return BoundedSite(root, clock, own_counters, networks, names)


class ServiceCollector(Collector):
    """The counters of a server as Prometheus metrics.

    :param server: has them.
    """

    def __init__(self, server: ReportedServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        connections = GaugeMetricFamily(*CONNECTIONS, labels=["service"])
        for counters in self._server.counters:
            connections.add_metric([counters.service], counters.opened - counters.closed)
        yield connections
        networks = GaugeMetricFamily(*OF_NETWORKS, labels=["network"])
        for network, count in self._server.connections.top(TOP_NETWORKS):
            networks.add_metric([network], count)
        yield networks
        sources = GaugeMetricFamily(*OF_SOURCES, labels=["service", "network"])
        for counters in self._server.counters:
            for source, count in counters.rate_limited.top(TOP_SOURCES):
                sources.add_metric([counters.service, source], count)
        yield sources
        yield CounterMetricFamily(*LOG_LINES, value=self._server.dropped_log_lines)
        if self._server.certificate_expires is not None:
            yield GaugeMetricFamily(*CERTIFICATE, value=self._server.certificate_expires)
        for name, meaning, attribute in TOTALS:
            family = CounterMetricFamily(name, meaning, labels=["service"])
            for counters in self._server.counters:
                family.add_metric([counters.service], getattr(counters, attribute))
            yield family
        yield from self._of_stores()
        for name, meaning, attribute in BY_CAUSE:
            family = CounterMetricFamily(name, meaning, labels=["service", "cause"])
            for counters in self._server.counters:
                for cause, count in getattr(counters, attribute).items():
                    family.add_metric([counters.service, getattr(cause, "label", cause)], count)
            yield family

    def _of_stores(self) -> Iterator[Metric]:
        stores = [(counters.service, counters.store) for counters in self._server.counters if counters.store]
        for name, meaning, attribute in OF_STORE if stores else ():
            family = CounterMetricFamily(name, meaning, labels=["service"])
            for service, store in stores:
                family.add_metric([service], getattr(store, attribute))
            yield family
        for service, store in stores:
            waiting, oldest = store.waiting()
            gauges = [(STORE_UP, store.is_connected), (STORE_WAITING, waiting), (STORE_OLDEST, oldest)]
            if store.nodes is not None:
                gauges.append((STORE_NODES, store.nodes()[1]))
            for metric, value in gauges:
                gauge = GaugeMetricFamily(*metric, labels=["service"])
                gauge.add_metric([service], float(value))
                yield gauge


class _MetricsPage(ReadablePage):
    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def render_GET(self, request: Request) -> bytes:
        try:
            encode, content_type = choose_encoder(request.getHeader("accept") or "")
        except (TypeError, ValueError):  # it compares version numbers and fails for some
            encode, content_type = choose_encoder("")
        request.setHeader(b"content-type", content_type.encode("ascii"))
        return encode(self._registry)
