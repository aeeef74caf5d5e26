"""``netsvc probe`` against netsvc's own responders and against ten lines of blocking sockets."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netsvc.cli.probe_lines import event_line, summary_lines
from netsvc.probe.clock_offset import ClockEstimate
from netsvc.probe.duration_summary import DurationSummary
from netsvc.probe.loss_direction import DirectionCounts
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.probe.probe_summary import ClockSummary, ProbeSummary, StampSourceCounts
from tests.programs import NETSVC, SECONDS, netsvc, running, serving

FAST = ("-i", "0.02")


def objects(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@contextmanager
def blocking_echo(change: Callable[[bytes], bytes] = lambda payload: payload) -> Iterator[int]:
    """Run a UDP echo with blocking sockets on a thread. It may change what it sends back."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo:
        echo.bind(("127.0.0.1", 0))

        def answer() -> None:
            while True:
                payload, peer = echo.recvfrom(2_000)
                if payload == b"end":
                    return
                echo.sendto(change(payload), peer)

        thread = threading.Thread(target=answer)
        thread.start()
        yield echo.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", echo.getsockname())
        thread.join()


def test_each_protocol_is_measured_and_the_schema_is_that_of_the_summary() -> None:
    flags = ("--stamp=127.0.0.1:0", "--udp=127.0.0.1:0", "--udp-echo=127.0.0.1:0", "--tcp=127.0.0.1:0")
    with serving(*flags) as (_, ports):
        server = dict(zip(("tcp", "udp", "udp-echo", "stamp"), ports, strict=True))
        targets = [f"{protocol}/127.0.0.1:{port}" for protocol, port in server.items()]
        done = netsvc("probe", *FAST, "-c", 5, "--json", *targets)
    assert (done.returncode, done.stderr) == (0, b"")
    events = [event for event in objects(done.stdout) if event["type"] != "summary"]
    assert sorted({event["target"] for event in events}) == sorted(targets)
    assert [event["sequence"] for event in events if event["target"] == targets[0]] == [0, 1, 2, 3, 4]
    summaries = {summary["protocol"]: summary for summary in objects(done.stdout) if summary["type"] == "summary"}
    for summary in summaries.values():
        assert (summary["version"], summary["sent"], summary["answered"], summary["loss"]) == (1, 5, 5, 0.0)
    assert set(summaries["tcp"]["durations"]) == {"connect", "delay_variation"}
    assert summaries["stamp"]["direction"]["stateful"]
    assert summaries["stamp"]["durations"]["there_change"]["count"] == 5
    assert summaries["udp-echo"]["direction"] is None


def test_an_echo_of_blocking_sockets_is_measured() -> None:
    with blocking_echo() as port:
        done = netsvc("probe", "--udp-echo", f"127.0.0.1:{port}", *FAST, "-c", 3, "--size", 200)
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith(f"udp-echo/127.0.0.1:{port} seq=0 rtt=")
    assert lines[4] == "3 sent, 3 answered, 0 lost (0.00%)"


def test_a_target_that_does_not_answer_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = f"udp/127.0.0.1:{silent.getsockname()[1]}"
        done = netsvc("probe", target, *FAST, "-c", 2, "-w", 0.1)
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[:2] == [f"{target} seq=0 lost", f"{target} seq=1 lost"]
    assert done.stderr.decode().startswith(f"netsvc: {target}: no answer")


def test_damaged_answers_have_events_and_another_error_than_silence() -> None:
    with blocking_echo(lambda payload: payload[:-1] + b"?") as port:
        done = netsvc("probe", *FAST, "-c", 3, "-w", 0.2, "--json", f"udp-echo/127.0.0.1:{port}")
    kinds = [event["type"] for event in objects(done.stdout)]
    assert (kinds.count("corrupted"), kinds.count("lost"), done.returncode) == (3, 3, 1)
    assert b"all answers were damaged" in done.stderr


def test_lines_are_printed_at_any_interval_if_they_are_asked_for() -> None:
    with blocking_echo() as port:
        done = netsvc("probe", "-i", 0.005, "-c", 20, "--lines", f"udp-echo/127.0.0.1:{port}")
    assert done.stdout.count(b"seq=") == 20


def test_connections_leave_from_the_source_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        netsvc("probe", "-c", 1, "-s", "127.0.0.9", f"tcp/127.0.0.1:{listener.getsockname()[1]}")
        connection, peer = listener.accept()
        connection.close()
    assert peer[0] == "127.0.0.9"


def test_a_report_is_written_also_if_nobody_reads_the_lines(tmp_path: Path) -> None:
    report = tmp_path / "report.svg"
    with blocking_echo() as port:
        command = [*map(str, NETSVC), "probe", *FAST, "-c", "40", "--report", str(report), f"udp-echo/127.0.0.1:{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            program.stdout.readline()
            program.stdout.close()
            program.wait(SECONDS)
    assert report.read_text().startswith("<?xml")


def test_a_report_that_cannot_be_a_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    done = netsvc("probe", "127.0.0.1", "--report", tmp_path / "folder.svg")
    assert (done.returncode, done.stdout) == (64, b"")
    assert b"this is a folder; name a file in it" in done.stderr


def test_the_results_are_printed_before_the_report_fails(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with blocking_echo() as port:
        target = f"udp-echo/127.0.0.1:{port}"
        options = ("-d", "30", "--fail-if", "loss<1%", "--report", str(folder / "a.svg"))
        with running(*NETSVC, "probe", target, *FAST, *options) as probe:
            probe.wait_for("seq=3 ")
            folder.rmdir()
            assert probe.stop(signal.SIGINT) == 1
    assert " answered, 0 lost (0.00%)" in probe.output
    assert f"there is no folder {folder}" in probe.output


def test_a_refused_target_is_told_as_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"tcp/127.0.0.1:{unused.getsockname()[1]}"
        done = netsvc("probe", target, *FAST, "-c", 2)
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"netsvc: {target}: no answer; no program listens on the port, or a firewall refuses\n"
    )


def test_a_condition_that_holds_is_told_and_is_an_error() -> None:
    with blocking_echo() as port:
        target = f"udp-echo/127.0.0.1:{port}"
        done = netsvc("probe", target, *FAST, "-c", 2, "--fail-if", "loss>1%", "--fail-if", "p99>1ns")
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"netsvc: {target}: p99>1ns: p99 is ")


def test_summaries_come_so_often_as_they_are_asked_for() -> None:
    with blocking_echo() as port:
        done = netsvc("probe", f"udp-echo/127.0.0.1:{port}", *FAST, "-d", 0.5, "--every", 0.2, "--json")
    scopes = [summary["scope"] for summary in objects(done.stdout)]
    assert scopes[:2] == ["interval", "interval"]
    assert scopes[-1] == "total"
    *intervals, total = objects(done.stdout)
    assert sum(interval["sent"] for interval in intervals) <= total["sent"] == 25


def test_ctrl_c_prints_the_summary_and_is_status_130() -> None:
    with blocking_echo() as port, running(*NETSVC, "probe", f"udp-echo/127.0.0.1:{port}", *FAST) as probe:
        probe.wait_for("seq=3 ")
        assert probe.stop(signal.SIGINT) == 130
        assert " answered, 0 lost (0.00%)" in probe.output
        assert "Traceback" not in probe.output


def test_a_closed_pipe_ends_it_silently_and_a_full_disk_with_one_line() -> None:
    with blocking_echo() as port:
        command = [*NETSVC, "probe", f"udp-echo/127.0.0.1:{port}", *FAST]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(SECONDS) == 0
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (1, b"netsvc: standard output: no space left on device\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["icmp/host"], "icmp/host: 'icmp' is neither stamp, udp, udp-echo, tcp nor tls; write stamp/host"),
        (["--udp", "--tcp", "host"], "--udp cannot be combined with --tcp"),
        (["--size", "45", "127.0.0.1"], "--size 45: a STAMP packet has 44 bytes, or 48 or more"),
        (["--dscp", "46", "tcp/127.0.0.1:1"], "--dscp: tcp/127.0.0.1:1 is a connection and has no such choice"),
        (["-i", "1e300", "127.0.0.1"], "--interval 1e300: out of range; choose 0.000001 to 86400"),
        (["-i", "1e-12", "127.0.0.1"], "--interval 1e-12: out of range; choose 0.000001 to 86400"),
        (["-d", "1e300", "127.0.0.1"], "--duration 1e300: out of range; choose 0.000001 to 1000000000"),
        (["-w", "1e300", "127.0.0.1"], "--timeout 1e300: out of range; choose 0.000001 to 1000000"),
        (["--lines", "--every", "1", "127.0.0.1"], "--lines cannot be combined with --every"),
        (["--report", "nowhere/a.svg", "127.0.0.1"], "--report nowhere/a.svg: there is no folder nowhere; make it"),
        (["127.0.0.1:99999"], "127.0.0.1:99999: there is no port 99999 (the range is 0 to 65535); see netsvc probe"),
        (["https://host"], "https://host: a URL is no target; write tls/HOST:443 or tcp/HOST:80"),
        (["--fail-if", "loss", "127.0.0.1"], "--fail-if 'loss' is not a condition"),
        (["-i", "0", "127.0.0.1"], "--interval 0: not a number above 0"),
        (["--source", "::1", "-4", "127.0.0.1"], "--source ::1: an address of the other family"),
    ],
)
def test_wrong_usage_is_one_line_and_status_64(arguments: list[str], message: str) -> None:
    done = netsvc("probe", *arguments)
    assert done.returncode == 64
    assert done.stderr.decode().startswith(f"netsvc: {message}")
    assert done.stderr.count(b"\n") == 1


def test_without_its_extra_it_names_the_remedy(tmp_path: Path) -> None:
    program = "import sys; sys.modules['hdrh'] = None\nfrom netsvc.cli.main import main\nmain(['probe', '127.0.0.1'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 64
    assert b"hdrhistogram is not installed; run pip install" in done.stderr


# The lines


def durations(median: int) -> DurationSummary:
    return DurationSummary(3, median, float(median), 9 * median, 0.0, {"p50": median, "p90": 1, "p99": 2, "p99.9": 3})


def test_a_line_about_an_event_has_what_is_known() -> None:
    event = ProbeEvent(
        "stamp/host:862", "answered", 5, 7, rtt=1_234_567, there_change=1_000, back_change=2_000, extent=3
    )
    assert event_line(event) == ("stamp/host:862 seq=7 rtt=1.235 ms there=+0.001 ms back=+0.002 ms reordered by 3")
    both = ProbeEvent("t", "answered", 5, 7, rtt=1, there_delay=-1_000, back_delay=2_000, delay_uncertainty=1)
    assert event_line(both) == "t seq=7 rtt=0.000 ms there=-0.001 ms back=0.002 ms"
    assert event_line(ProbeEvent("t", "duplicate", 5, 7, duplicated="back")) == "t seq=7 duplicate on the way back"
    assert event_line(ProbeEvent("t", "unsent", 5, 7, error="no route")) == "t seq=7 unsent no route"
    tls = ProbeEvent("t", "answered", 5, 7, connect=1_000_000, handshake=2_000_000)
    assert event_line(tls) == "t seq=7 connect=1.000 ms handshake=2.000 ms"


def test_a_summary_tells_every_kind_of_number_that_occurred() -> None:
    summary = ProbeSummary(
        target="stamp/host:862",
        address="192.0.2.1:862",
        protocol="stamp",
        scope="interval",
        started=0,
        duration=10_000_000_000,
        interval=1,
        counts=LedgerCounts(
            attempted=1_010, sent=1_009, unsent=1, answered=900, late=2, lost=100, pending=7, duplicates=3, reordered=4
        ),
        late_sends=8,
        void_times=9,
        durations={"rtt": durations(1_000_000)},
        jitter={"rtt": 10_000.0},
        direction=DirectionCounts(stateful=True, lost_there=60, lost_back=39, lost_unknown=1, duplicates_there=3),
        clock=ClockSummary(ClockEstimate(1_000_000, 500_000, 1.5, 0.25), 0, 0, True, False),
        sources=StampSourceCounts(900, 2, 902, 0),
        rate_limit=100.0,
        errors={"connection refused": 5},
    )
    assert summary_lines(summary) == [
        "--- stamp/host:862 (192.0.2.1:862), the last 10.0 s ---",
        "1,009 sent, 900 answered, 100 lost (9.98%), 2 late, 3 duplicate, 4 reordered, 1 not sent, 7 under way",
        "lost on the way there 60, back 39, not known 1",
        "duplicated on the way there 3, back 0",
        "ms                    min       p50       p90       p99     p99.9       max",
        "round trip          1.000     1.000     0.000     0.000     0.000     9.000",
        "jitter 0.010 ms",
        "clock of the reflector +1.000 ± 0.500 ms, drift +1.50 ± 0.25 ppm",
        "no absolute one-way delays: the reflector does not claim a synchronised clock",
        "times of sending by the kernel (900) and this process (2), of arrival by the kernel",
        "sent late: 8, because this host did not keep up with the schedule",
        "answers without times: 9, because the clock of this host was set",
        "the responder, or the path, seems to limit the rate to 100 answers a second",
        "connection refused: 5 times",
    ]
