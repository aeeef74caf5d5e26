"""The pages of ``--metrics`` for tests: a server that they report, and requests to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.limits.networks import NetworkRules
from netsvc.net.counters import Counters
from netsvc.probe.bucketed_durations import BucketedDurations
from netsvc.probe.probe_counters import ProbeCounters, RunningCounters
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.probe.probe_summary import ClockSummary, ProbeSummary
from netsvc.probe.probe_target import parse_probe_target
from netsvc.server.metrics import metrics_site
from netsvc.server.reported_server import ReportedChat, ReportedProbe

PEER = IPv4Address("TCP", "192.0.2.1", 40_000)


class FakeProbe:
    """A target with these numbers."""

    def __init__(self, target: str = "stamp/192.0.2.1:862") -> None:
        self.target = parse_probe_target(target)
        self.is_up = True
        self.counters = RunningCounters()
        self.durations: dict[str, BucketedDurations] = {}
        self.clock: ClockSummary | None = None
        self.found = ProbeCounters(LedgerCounts())
        self.last_minute = ProbeSummary(target, self.target.protocol, "interval", 0, 60, 1, LedgerCounts())

    def count(self) -> None:
        self.counters.update(self.found)
        self.clock = self.found.clock

    def summary(self) -> ProbeSummary:
        return self.last_minute


class Pages:
    """The metrics site of one service, "tcp", and requests to it."""

    def __init__(self, names: Sequence[str] = (), networks: NetworkRules | None = None) -> None:
        self.clock = Clock()
        self.tcp = Counters(self.clock.seconds, "tcp")
        self.counters = [self.tcp]
        self.chat: ReportedChat | None = None
        self.probes: list[ReportedProbe] = []
        self.certificate_expires: float | None = None
        self.dropped_log_lines = 0
        self.connections = ConnectionCounter()
        self.ready = True
        self.own_counters = Counters(self.clock.seconds, "metrics")
        self.site: IProtocolFactory = metrics_site(self, self.clock, self.own_counters, networks, names)

    def is_ready(self) -> bool:
        return self.ready

    def connect(self, host: str = "192.0.2.1") -> tuple[Any, StringTransport] | None:
        protocol = self.site.buildProtocol(IPv4Address("TCP", host, 40_000))
        if protocol is None:
            return None
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def request(self, data: bytes) -> bytes:
        """Send a request. Returns the whole answer, with its head."""
        protocol = self.site.buildProtocol(PEER)
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        assert transport.disconnecting
        protocol.connectionLost(Failure(ConnectionDone()))
        answer: bytes = transport.value()
        return answer

    def get(self, path: str) -> tuple[int, str]:
        """Get a page. Returns its status and body."""
        status, _, body = self.ask("GET", path)
        return status, body

    def ask(self, method: str, path: str) -> tuple[int, dict[str, str], str]:
        """Ask for a page. Returns its status, its headers with small letters, and its body."""
        answer = self.request(f"{method} {path} HTTP/1.0\r\n\r\n".encode()).decode()
        head, _, body = answer.partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        headers = (line.partition(": ") for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, _, value in headers}, body
