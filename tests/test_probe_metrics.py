"""The metrics of measured targets: their values, their forms, and the queries of the guide."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from netsvc import Config, netsvc_service
from netsvc.probe.bucketed_durations import BUCKET_BOUNDS, BucketedDurations
from netsvc.probe.clock_offset import ClockEstimate
from netsvc.probe.loss_direction import DirectionCounts
from netsvc.probe.probe_counters import ProbeCounters, RunningCounters
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.probe.probe_service import BUCKETED
from netsvc.probe.probe_summary import ClockSummary
from netsvc.testing import Network
from tests.programs import NETSVC, SECONDS, netsvc, running, serving
from tests.reported_pages import FakeProbe, Pages

GUIDE = Path(__file__).parent.parent / "docs" / "how-to" / "watch-a-network.md"
MS = 1_000_000


def samples_of(pages: Pages) -> dict[tuple[str, ...], float]:
    """Return the samples of the probes, by their names and labels without the target."""
    return {
        (
            sample.name.removeprefix("netsvc_probe_"),
            *(sample.labels[name] for name in ("direction", "le") if name in sample.labels),
        ): sample.value
        for family in text_string_to_metric_families(pages.get("/metrics")[1])
        for sample in family.samples
        if sample.name.startswith("netsvc_probe_")
    }


def test_without_a_target_there_are_no_such_metrics() -> None:
    assert samples_of(Pages()) == {}


def test_the_counters_of_a_target_are_metrics() -> None:
    pages, probe = Pages(), FakeProbe()
    pages.probes = [probe]
    probe.found = ProbeCounters(
        LedgerCounts(100, 99, 1, 90, 2, 5, 2, duplicates=3, reordered=4, corrupted=6),
        7,
        DirectionCounts(stateful=True, lost_there=1, lost_back=2, lost_unknown=2),
        1,
        ClockSummary(ClockEstimate(-7 * MS, 2 * MS, None, None)),
    )
    expected: dict[tuple[str, ...], float] = {
        ("up",): 1,
        **{("sent_total",): 99, ("unsent_total",): 1, ("answered_total",): 90, ("lost_total",): 7},
        **{("late_total",): 2, ("duplicates_total",): 3, ("reordered_total",): 4, ("corrupted_total",): 6},
        ("late_sends_total",): 7,
        ("lost_by_direction_total", "there"): 1,
        ("lost_by_direction_total", "back"): 2,
        ("lost_by_direction_total", "unknown"): 1,
        ("clock_offset_seconds",): -0.007,
        ("clock_offset_uncertainty_seconds",): 0.002,
    }
    assert samples_of(pages) == expected
    probe.is_up = False
    assert samples_of(pages)["up",] == 0


def test_the_target_is_a_label_with_its_protocol_and_port() -> None:
    pages = Pages()
    pages.probes = [FakeProbe("192.0.2.1"), FakeProbe("tcp/[2001:db8::1]:443")]
    text = pages.get("/metrics")[1]
    assert re.findall(r'netsvc_probe_up\{target="(.*)"\}', text) == ["stamp/192.0.2.1:862", "tcp/[2001:db8::1]:443"]
    assert "netsvc_probe_lost_by_direction_total{" in text
    assert 'direction="there",target="tcp' not in text


@pytest.mark.parametrize(
    ("kind", "name", "direction"),
    [
        ("rtt", "rtt_seconds", ()),
        ("connect", "connect_seconds", ()),
        ("handshake", "handshake_seconds", ()),
        ("there_change", "delay_change_seconds", ("there",)),
        ("back_change", "delay_change_seconds", ("back",)),
    ],
)
def test_durations_are_cumulative_histograms(kind: str, name: str, direction: tuple[str, ...]) -> None:
    pages, probe = Pages(), FakeProbe()
    pages.probes = [probe]
    probe.durations[kind] = durations = BucketedDurations()
    for duration in (-1, 50_000, 50_001, 20 * MS, 11_000 * MS):
        durations.record(duration)
    samples = samples_of(pages)
    buckets = {key[-1]: value for key, value in samples.items() if key[:-1] == (f"{name}_bucket", *direction)}
    assert len(buckets) == len(BUCKET_BOUNDS) + 1
    assert (buckets["5e-05"], buckets["0.0001"], buckets["0.02"], buckets["10.0"], buckets["+Inf"]) == (2, 3, 4, 4, 5)
    assert samples[(f"{name}_count", *direction)] == 5
    assert samples[(f"{name}_sum", *direction)] == pytest.approx(11.0201)


def test_no_counter_goes_backwards_and_the_next_run_adds_to_it() -> None:
    counters = RunningCounters()
    counters.update(ProbeCounters(LedgerCounts(sent=10, answered=6, lost=4)))
    counters.update(ProbeCounters(LedgerCounts(sent=10, answered=6, lost=3, late=1)))
    assert (counters["lost"], counters["late"]) == (4, 1)
    counters.update(ProbeCounters(LedgerCounts(sent=10), direction=DirectionCounts(lost_there=3, lost_unknown=1)))
    counters.update(ProbeCounters(LedgerCounts(sent=10), direction=DirectionCounts(lost_there=2, lost_unknown=2)))
    assert (counters["lost_there"], counters["lost_unknown"]) == (3, 2)
    counters.end_run()
    counters.update(ProbeCounters(LedgerCounts(sent=1, answered=1)))
    assert (counters["sent"], counters["answered"], counters["lost"], counters["lost_there"]) == (11, 7, 4, 3)


def test_a_server_measures_its_targets_and_reports_them(network: Network) -> None:
    reflector, prober = network.host("reflector", "10.0.0.1"), network.host("prober")
    netsvc_service(reflector.reactor, Config(stamp=["862"], tcp=["1314"])).startService()
    service = netsvc_service(prober.reactor, Config(probe=["reflector", "tcp/reflector:1314"], probe_interval=0.5))
    service.startService()
    network.advance(10.1)
    assert service.is_ready()
    assert [probe.is_up for probe in service.probes] == [True, True]
    network.run(service.stopService())
    network.advance(10)
    counts = [probe.counters["answered"] for probe in service.probes]
    assert counts == [21, 20]  # they take turns
    service.startService()
    network.advance(1)
    assert [probe.is_up for probe in service.probes] == [True, True]
    network.run(service.stopService())


# On real sockets


@pytest.mark.parametrize("reactor", ["epoll", "uvloop"])
def test_each_reactor_measures_with_the_times_of_the_kernel(reactor: str) -> None:
    with serving("--stamp=127.0.0.1:0", "--tcp=127.0.0.1:0") as (_, ports):
        tcp, stamp = ports
        silent = f"udp-echo/127.0.0.1:{tcp}"  # no program listens there, so each probe causes an ICMP error
        flags = [f"--probe=127.0.0.1:{stamp}", f"--probe=tcp/127.0.0.1:{tcp}", f"--probe={silent}"]
        flags += ["--probe-interval=0.05", "--metrics=127.0.0.1:0", f"--reactor={reactor}"]
        with running(*NETSVC, "serve", *flags, seconds=10 * SECONDS) as program:
            metrics = int(program.wait_for(r"metrics: listening on \S*:(\d+)\n")[1])
            program.wait_for(
                rf"{re.escape(silent)}: no answer to the last 3 probes, for [\d.]+ s; answered before: 0\n"
            )
            report = report_of(metrics)
    by_protocol = {each["summary"]["protocol"]: each for each in report["probes"]}
    assert {name: each["up"] for name, each in by_protocol.items()} == {"stamp": True, "tcp": True, "udp-echo": False}
    of_stamp = by_protocol["stamp"]["summary"]
    assert of_stamp["lost"] == of_stamp["unsent"] == 0
    assert of_stamp["sources"]["sent_kernel"] > of_stamp["sources"]["sent_process"]
    assert by_protocol["udp-echo"]["summary"]["sent"] >= 20
    assert set(by_protocol["udp-echo"]["summary"]["errors"]) == {"connection refused"}


def report_of(port: int) -> Any:

    with urlopen(f"http://127.0.0.1:{port}/status.json", timeout=SECONDS) as answer:
        return json.load(answer)


def test_the_check_of_a_start_names_the_targets() -> None:
    done = netsvc("serve", "--check", "--probe", "stamp/host", "--probe", "tls/host:443")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().splitlines()[:2] == [
        "probe: stamp/host:862, every 1 s",
        "probe: tls/host:443, every 1 s",
    ]
    assert b"1314" not in done.stdout


def test_the_queries_and_alerts_of_the_guide_name_metrics_and_labels_that_exist() -> None:
    named = set(re.findall(r"netsvc_probe_\w+", GUIDE.read_text()))
    pages, probe = Pages(), FakeProbe()
    pages.probes = [probe]
    probe.durations = {kind: BucketedDurations() for kind in BUCKETED}
    exported = set(re.findall(r"^(netsvc_probe_\w+)", pages.get("/metrics")[1], re.MULTILINE))
    assert len(named) >= 8
    assert named <= exported
