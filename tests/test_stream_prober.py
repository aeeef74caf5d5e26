"""The prober of TCP and TLS, on the simulated network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc import Config, netsvc_service
from netsvc.check.check_target import CheckTarget
from netsvc.check.tls_attempt import checking_contexts
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_record import ProbeRecord
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeTarget
from netsvc.probe.stream_prober import CONNECTIONS_MAX, StreamProber
from netsvc.testing import Host, Network
from netsvc.wire.wall_time import wall_nanoseconds

MS = 1_000_000
SECOND = 1_000 * MS
PORT = 1316


class Accepting(Protocol):
    """Reads and says nothing.

    :cvar open: the connections that are open.
    """

    open: list[Protocol]

    def connectionMade(self) -> None:
        self.open.append(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.open.remove(self)


class Probing:
    """A prober on a simulated host, and its record.

    :ivar finished: what its Deferred has fired with.
    """

    def __init__(
        self,
        network: Network,
        *,
        tls: bool = False,
        count: int | None = 5,
        interval: int = 10 * MS,
        on_event: Any = None,
        source: str = "",
    ) -> None:
        self.network = network
        self.client = network.hosts["client"]
        self.events: list[ProbeEvent] = []
        protocol = "tls" if tls else "tcp"
        schedule = ProbeSchedule(self._now(), interval, count=count)
        target = ProbeTarget("tls" if tls else "tcp", "server", PORT)
        timeout = 2 * SECOND if tls else SECOND
        self.record = ProbeRecord(target, "", schedule, timeout, on_event=on_event or self.events.append)
        self.prober = StreamProber(
            self.client.reactor,
            CheckTarget(protocol, "tls" if tls else "tcp", PORT),
            "server",
            network.hosts["server"].address,
            schedule,
            self.record,
            1.0,
            checking_contexts() if tls else (),
            source,
        )
        self.finished: list[Any] = []
        self.prober.finished.addBoth(self.finished.append)

    def run(self, seconds: float) -> ProbeSummary:
        self.prober.start()
        self.network.advance(seconds)
        return self.summary()

    def summary(self) -> ProbeSummary:
        return self.record.total(self._now())

    def _now(self) -> int:
        return wall_nanoseconds(self.network.now)


@pytest.fixture
def server(network: Network) -> Host:
    server = network.host("server")
    network.host("client")
    network.links().set(latency=0.05)
    return server


def listen(server: Host) -> type[Accepting]:
    class Listening(Accepting):
        open: list[Protocol] = []  # noqa: RUF012  for this test

    serverFromString(server.reactor, f"tcp:{PORT}").listen(Factory.forProtocol(Listening))
    return Listening


def test_each_probe_is_a_connection_that_is_closed_when_it_is_open(network: Network, server: Host) -> None:
    accepting = listen(server)
    probing = Probing(network)
    summary = probing.run(1.0)
    assert probing.finished == [None]
    assert (summary.counts.answered, summary.counts.lost, summary.errors) == (5, 0, {})
    connect = summary.durations["connect"]
    assert (connect.minimum, connect.maximum) == (100 * MS, 100 * MS)
    assert accepting.open == []
    assert not probing.client.reactor.getDelayedCalls()


def test_connections_are_opened_by_the_schedule_however_slow_they_are(network: Network, server: Host) -> None:
    listen(server)
    network.links().set(latency=0.4)
    assert Probing(network, count=20).run(0.195).counts.sent == 20
    network.advance(2.0)


def test_a_refused_probe_is_lost_and_its_reason_is_told(network: Network, server: Host) -> None:
    probing = Probing(network, count=2)
    summary = probing.run(2.0)
    assert probing.finished == [None]
    assert (summary.counts.answered, summary.counts.lost) == (0, 2)
    [(words, number)] = summary.errors.items()
    assert ("listens" in words or "refused" in words, number) == (True, 2)


def test_a_filtered_probe_is_lost_without_an_error(network: Network, server: Host) -> None:
    network.link("client", "server").partition()
    probing = Probing(network, count=2)
    summary = probing.run(3.0)
    assert probing.finished == [None]
    assert (summary.counts.lost, summary.errors) == (2, {})


def test_more_connections_than_the_limit_are_not_opened(network: Network, server: Host) -> None:
    network.link("client", "server").partition()
    probing = Probing(network, count=CONNECTIONS_MAX + 10, interval=MS)
    summary = probing.run(5.0)
    assert (summary.counts.unsent, summary.counts.lost) == (10, CONNECTIONS_MAX)
    assert summary.errors == {"too many connections are being opened": 10}


def test_stopping_gives_up_the_connections_that_are_being_opened(network: Network, server: Host) -> None:
    accepting = listen(server)
    probing = Probing(network, count=None)
    probing.run(0.125)
    assert probing.finished == []
    probing.prober.stop()
    assert probing.finished == [None]
    assert not probing.client.reactor.getDelayedCalls()
    network.advance(1.0)
    assert accepting.open == []
    assert probing.summary().counts.answered == 3
    probing.prober.stop()


def test_stopping_before_the_start_leaves_nothing(network: Network, server: Host) -> None:
    probing = Probing(network)
    probing.prober.stop()
    assert probing.finished == [None]
    assert not probing.client.reactor.getDelayedCalls()


def test_the_recorder_may_stop_it(network: Network, server: Host) -> None:
    listen(server)
    started: list[Probing] = []
    probing = Probing(network, count=None, on_event=lambda _event: started[0].prober.stop())
    started.append(probing)
    network.link("client", "server").partition()
    probing.run(5.0)
    assert probing.finished == [None]
    assert not probing.client.reactor.getDelayedCalls()


def test_a_fault_of_the_recorder_ends_it_with_that_fault(network: Network, server: Host) -> None:
    probing = Probing(network, on_event=lambda _event: 1 // 0)
    network.link("client", "server").partition()
    probing.run(5.0)
    [failure] = probing.finished
    assert failure.check(ZeroDivisionError)
    assert not probing.client.reactor.getDelayedCalls()


def test_a_tls_probe_reports_the_connection_and_the_handshake(network: Network, server: Host, tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("server").private_key_and_cert_chain_pem.write_to_path(str(pem))
    netsvc_service(server.reactor, Config(tcp=[str(PORT)], tls_cert=str(pem))).startService()
    probing = Probing(network, tls=True, count=3)
    summary = probing.run(2.0)
    assert probing.finished == [None]
    assert (summary.counts.answered, summary.errors) == (3, {})
    for name in ("connect", "handshake"):
        assert summary.durations[name].count == 3
        assert abs(summary.durations[name].minimum - 100 * MS) <= 1


def test_a_connection_whose_handshake_takes_too_long_is_lost_and_the_reason_is_told(
    network: Network, server: Host
) -> None:
    accepting = listen(server)
    probing = Probing(network, tls=True, count=2)
    summary = probing.run(4.0)
    assert probing.finished == [None]
    assert (summary.counts.answered, summary.counts.lost, summary.durations) == (0, 2, {})
    [(words, number)] = summary.errors.items()
    assert ("no answer to the handshake" in words, number) == (True, 2)
    assert [event.kind for event in probing.events] == ["lost", "lost"]
    assert accepting.open == []


def test_a_server_without_tls_answers_no_tls_probe(network: Network, server: Host) -> None:
    netsvc_service(server.reactor, Config(tcp=[str(PORT)])).startService()
    summary = Probing(network, tls=True, count=2).run(4.0)
    assert (summary.counts.answered, summary.counts.lost) == (0, 2)
    assert summary.errors == {f"the server does not speak TLS; try tcp/{PORT}": 2}


def test_a_handshake_that_ends_after_the_timeout_of_a_connection_is_no_loss_before(
    network: Network, server: Host, tmp_path: Path
) -> None:
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("server").private_key_and_cert_chain_pem.write_to_path(str(pem))
    netsvc_service(server.reactor, Config(tcp=[str(PORT)], tls_cert=str(pem))).startService()
    network.links().set(latency=0.4)  # the connection takes 0.8 s, the handshake as long
    probing = Probing(network, tls=True, count=2)
    assert probing.run(4.0).counts.answered == 2
    assert [event.kind for event in probing.events] == ["answered", "answered"]


def test_connections_leave_from_the_source(network: Network, server: Host) -> None:
    seen: list[str] = []

    class Noting(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            seen.append(self.transport.getPeer().host)  # type: ignore[attr-defined]

    serverFromString(server.reactor, f"tcp:{PORT}").listen(Factory.forProtocol(Noting))
    source = network.hosts["client"].address
    Probing(network, count=1, source=source).run(1.0)
    assert seen == [source]


def test_stopping_closes_the_connections_with_a_handshake_under_way(network: Network, server: Host) -> None:
    accepting = listen(server)
    probing = Probing(network, tls=True, count=2)
    probing.run(0.3)
    assert len(accepting.open) == 2
    probing.prober.stop()
    network.advance(0.3)
    assert accepting.open == []
    assert not probing.client.reactor.getDelayedCalls()
