"""A target that is measured for ever: on a simulated network, with outages, another address, stops and starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from twisted.logger import Logger, capturedLogs, formatEvent
from twisted.python.failure import Failure

from netsvc import Config, netsvc_service
from netsvc.probe.probe_run import START_LEAD, ProbeRun, ProbeSettings
from netsvc.probe.probe_service import LOOKUP_INTERVAL, RETRY_MAX, SUMMARY_INTERVAL, ProbeService
from netsvc.probe.probe_target import parse_probe_target
from netsvc.testing import Host, Network

SECOND = ProbeSettings(interval=1_000_000_000)
SERVICES = Config(stamp=["862"], udp_echo=["7"], tcp=["1314"], udp_rate=0)


@pytest.fixture
def reflector(network: Network) -> Host:
    host = network.host("reflector", "10.0.0.1")
    netsvc_service(host.reactor, SERVICES).startService()
    return host


def measuring(network: Network, target: str) -> ProbeService:
    """Start to measure a target each second."""
    service = ProbeService(network.host("prober").reactor, parse_probe_target(target), SECOND)
    service.startService()
    return service


def count(service: ProbeService, *names: str) -> tuple[int, ...]:
    service.count()
    return tuple(service.counters[name] for name in names)


@contextmanager
def log_of(source: type) -> Iterator[list[str]]:
    """Collect the log lines of a class."""
    log: Logger = source.log  # type: ignore[attr-defined]
    lines: list[str] = []
    with capturedLogs() as events:
        yield lines
    lines += [formatEvent(event) for event in events if event["log_namespace"] == log.namespace]


@pytest.mark.parametrize(
    ("target", "durations"),
    [
        ("stamp/10.0.0.1", {"rtt", "there_change", "back_change"}),
        ("udp-echo/10.0.0.1", {"rtt"}),
        ("tcp/10.0.0.1:1314", {"connect"}),
    ],
)
def test_a_target_is_measured_until_the_stop(
    network: Network, reflector: Host, target: str, durations: set[str]
) -> None:
    network.links().set(latency=0.02)
    service = measuring(network, target)
    assert not service.is_up
    with log_of(ProbeService) as lines:
        network.advance(10.5)
        assert service.is_up
        assert count(service, "sent", "answered", "lost") == (11, 11, 0)
        network.run(service.stopService())
        network.advance(10)
    assert lines == []
    assert count(service, "sent") == (11,)
    assert not service.is_up
    assert {kind: histogram.cumulative()[-1] for kind, histogram in service.durations.items()} == dict.fromkeys(
        durations, 11
    )


def test_an_outage_is_two_log_lines_and_its_losses_are_counted_at_once(network: Network, reflector: Host) -> None:
    service = measuring(network, "stamp/10.0.0.1")
    network.advance(9.5)
    with log_of(ProbeService) as lines:
        network.links().partition()
        network.advance(60)
        assert not service.is_up
        assert count(service, "answered", "lost", "lost_there") == (10, 58, 0)
        network.links().heal()
        network.advance(1)
    assert service.is_up
    assert lines == [
        "stamp/10.0.0.1:862: no answer to the last 3 probes, for 5.0 s; answered before: 10",
        "stamp/10.0.0.1:862: answers again after 61.0 s; 60 probes had no answer",
    ]
    network.advance(5)
    assert count(service, "lost", "late") == (60, 0)


def test_a_short_outage_at_a_short_interval_is_no_log_line_because_it_is_over_when_its_losses_are_known(
    network: Network, reflector: Host
) -> None:
    fast = ProbeSettings(interval=10_000_000)
    service = ProbeService(network.host("prober").reactor, parse_probe_target("stamp/10.0.0.1"), fast)
    with log_of(ProbeService) as lines:
        service.startService()
        network.advance(5)
        network.links().partition()
        network.advance(1)
        network.links().heal()
        network.advance(5)
    assert lines == []
    assert service.is_up
    assert count(service, "lost") == (100,)


def test_at_a_short_interval_the_end_of_an_outage_tells_all_its_losses(network: Network, reflector: Host) -> None:
    fast = ProbeSettings(interval=10_000_000)
    service = ProbeService(network.host("prober").reactor, parse_probe_target("stamp/10.0.0.1"), fast)
    service.startService()
    network.advance(5.005)
    network.links().partition()
    with log_of(ProbeService) as lines:
        network.advance(10)
        network.links().heal()
        network.advance(10)
    [silent, again] = lines
    assert silent.startswith("stamp/10.0.0.1:862: no answer to the last 3 probes, for 2.0 s; answered before: ")
    assert again == "stamp/10.0.0.1:862: answers again after 10.0 s; 1,000 probes had no answer"
    assert count(service, "lost") == (1_000,)


def test_the_first_answer_of_a_target_that_was_silent_at_the_start_is_told(network: Network) -> None:
    host = network.host("reflector", "10.0.0.1")
    service = measuring(network, "stamp/10.0.0.1")
    with log_of(ProbeService) as lines:
        network.advance(20)
        netsvc_service(host.reactor, SERVICES).startService()
        network.advance(2)
    assert lines[1] == "stamp/10.0.0.1:862: answers for the first time, after 20.1 s; 20 probes had no answer"
    assert service.is_up


@pytest.mark.parametrize(("source", "destination", "lost"), [("prober", "reflector", 10), ("reflector", "prober", 0)])
def test_the_direction_of_losses_counts_when_a_later_answer_tells_it(
    network: Network, reflector: Host, source: str, destination: str, lost: int
) -> None:
    service = measuring(network, "stamp/10.0.0.1")
    network.advance(9.5)
    network.link_from(source, destination).set(loss=1.0)
    network.advance(10)
    assert count(service, "lost_there", "lost_back", "lost_unknown") == (0, 0, 0)
    network.link_from(source, destination).set(loss=0.0)
    network.advance(5)
    assert count(service, "lost", "lost_there", "lost_back", "lost_unknown") == (10, lost, 10 - lost, 0)


def test_no_counter_goes_backwards_when_answers_are_late(network: Network, reflector: Host) -> None:
    service = measuring(network, "stamp/10.0.0.1")
    network.advance(5.5)
    network.links().set(latency=1.5)  # a round trip of 3 s: longer than the timeout
    before = count(service, "lost", "late", "answered")
    for _ in range(20):
        network.advance(0.5)
        now = count(service, "lost", "late", "answered")
        assert all(new >= old for old, new in zip(before, now, strict=True))
        before = now
    assert before == (8, 7, 6)
    network.links().set(latency=0.0)
    network.advance(5)
    assert count(service, "lost_there", "lost_back") == (0, 0)


def test_a_name_with_another_address_begins_a_new_run_and_the_counters_go_on(network: Network, reflector: Host) -> None:
    other = network.host("other", "10.0.0.2")
    netsvc_service(other.reactor, SERVICES).startService()
    network.name("probed.example.org", "reflector")
    service = measuring(network, "stamp/probed.example.org")
    network.advance(9.5)
    assert service.summary().address == "10.0.0.1:862"
    network.name("probed.example.org", "other", "reflector")  # the address in use is still one of them
    network.advance(LOOKUP_INTERVAL)
    assert service.summary().address == "10.0.0.1:862"
    network.name("probed.example.org", "other")
    with log_of(ProbeService) as lines:
        network.advance(LOOKUP_INTERVAL)
    assert service.summary().address == "10.0.0.2:862"
    assert service.is_up
    assert lines == []
    sent, answered, lost = count(service, "sent", "answered", "lost")
    assert sent - answered <= 1  # the one under way when the first run ended
    assert lost == 0
    assert 609 <= sent <= 611
    assert service.durations["rtt"].cumulative()[-1] == answered


def test_a_target_that_stops_is_looked_up_again_soon(network: Network, reflector: Host) -> None:
    other = network.host("other", "10.0.0.2")
    netsvc_service(other.reactor, SERVICES).startService()
    network.name("probed.example.org", "reflector")
    service = measuring(network, "stamp/probed.example.org")
    network.advance(9.5)
    reflector.crash()
    network.name("probed.example.org", "other")
    network.advance(10)
    assert service.is_up
    assert service.summary().address == "10.0.0.2:862"


def test_a_name_without_an_address_is_tried_again_less_and_less_often(network: Network, reflector: Host) -> None:
    with log_of(ProbeService) as lines:
        service = measuring(network, "stamp/probed.example.org")
        network.advance(3600)
        assert not service.is_up
        assert service.summary().address is None
        network.name("probed.example.org", "reflector")
        network.advance(RETRY_MAX + 1)
        assert service.is_up
    cannot, again = lines
    assert cannot == "stamp/probed.example.org:862: cannot be probed: the name has no address"
    assert again.startswith("stamp/probed.example.org:862: answers for the first time, after 36")


def test_a_run_that_cannot_begin_is_tried_again_and_logged_once(network: Network, reflector: Host) -> None:
    settings = ProbeSettings(interval=1_000_000_000, source="10.9.9.9")
    service = ProbeService(network.host("prober").reactor, parse_probe_target("udp-echo/10.0.0.1"), settings)
    with log_of(ProbeService) as lines:
        service.startService()
        network.advance(600)
    assert not service.is_up
    assert lines == ["udp-echo/10.0.0.1:7: cannot be probed: cannot assign requested address"]
    network.run(service.stopService())


def test_a_name_server_that_is_away_does_not_end_a_measurement(network: Network, reflector: Host) -> None:
    network.name("probed.example.org", "reflector")
    service = measuring(network, "stamp/probed.example.org")
    network.advance(1)
    network.name("probed.example.org")
    with log_of(ProbeService) as lines:
        network.advance(3 * LOOKUP_INTERVAL)
    assert service.is_up
    assert lines == []


def test_a_service_can_be_stopped_and_started_again_and_its_counters_go_on(network: Network, reflector: Host) -> None:
    service = measuring(network, "stamp/10.0.0.1")
    network.advance(4.5)
    network.run(service.stopService())
    network.advance(100)
    service.startService()
    network.advance(4.5)
    assert count(service, "sent", "answered", "lost") == (10, 10, 0)
    network.run(service.stopService())


def test_a_stop_during_a_look_up_begins_no_run(network: Network, reflector: Host) -> None:
    network.name("probed.example.org", "reflector", delay=5.0)
    service = measuring(network, "stamp/probed.example.org")
    network.advance(1)
    network.run(service.stopService())
    network.advance(60)
    assert count(service, "sent") == (0,)


def test_a_socket_that_the_system_closes_is_opened_again(network: Network, reflector: Host) -> None:
    service = measuring(network, "stamp/10.0.0.1")
    network.advance(4.5)
    assert service._run is not None
    network.run(service._run.stop())  # as far as the service knows, the reactor has closed it
    network.advance(5)
    assert service.is_up
    assert count(service, "sent", "lost")[0] >= 9


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_run_that_fails_is_logged_and_begins_anew(
    network: Network, reflector: Host, logged_failures: list[Failure]
) -> None:
    service = measuring(network, "stamp/10.0.0.1")
    network.advance(2.5)
    with log_of(ProbeService) as lines:
        assert service._run is not None
        service._run.finished.errback(ZeroDivisionError("a fault"))
        assert not service.is_up
        network.advance(5)
    assert service.is_up
    assert lines[0] == "stamp/10.0.0.1:862: a run has failed"
    assert count(service, "sent")[0] >= 6
    assert logged_failures.pop().check(ZeroDivisionError)


def test_the_first_probe_leaves_on_time(network: Network, reflector: Host) -> None:
    run = ProbeRun(network.host("prober").reactor, parse_probe_target("stamp/10.0.0.1"), "10.0.0.1", SECOND)
    network.advance(START_LEAD / 1e9 / 2)  # the time that it takes to open the socket
    run.start()
    network.advance(2.5)
    assert (run.total().counts.answered, run.total().late_sends) == (3, 0)
    network.run(run.stop())


def test_the_summary_is_that_of_the_last_complete_minute(network: Network, reflector: Host) -> None:
    service = measuring(network, "stamp/10.0.0.1")
    network.advance(9.5)
    assert (service.summary().scope, service.summary().counts.answered) == ("total", 10)
    network.advance(3 * SUMMARY_INTERVAL)
    assert (service.summary().scope, service.summary().counts.answered) == ("interval", 60)
