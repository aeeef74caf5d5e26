"""The live view of a measurement: as text, and on the screen of a terminal."""

from __future__ import annotations

import re
import signal

import pytest
from rich.console import Console

from netsvc.cli.probe_screen import probe_picture
from netsvc.probe.probe_dialects import ReflectedTimes
from netsvc.probe.probe_record import ProbeRecord
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_series import ProbeSeries
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeTarget
from tests.programs import NETSVC, serving
from tests.terminals import at_terminal

MS = 1_000_000


def measured(lost: range, *, probes: int = 10) -> tuple[ProbeSummary, ProbeSeries]:
    schedule = ProbeSchedule(0, 10 * MS, count=probes)
    record = ProbeRecord(ProbeTarget("stamp", "host", 862), "192.0.2.1:862", schedule, 100 * MS)
    for sequence in range(probes):
        due = schedule.time_of(sequence)
        record.sent(sequence, due, due)
        if sequence not in lost:
            rtt = MS * (sequence + 1)
            times = ReflectedTimes(sequence - len(lost) * (sequence > lost.stop), due, due, False, 1.0, 64)
            record.answered(sequence, due + rtt, "kernel", 0, times=times)
    record.advance(10_000 * MS)
    return record.total(10_000 * MS), record.series


def lines(*targets: tuple[ProbeSummary, ProbeSeries], width: int = 80, height: int = 10) -> list[str]:
    console = Console(width=width, height=height, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(probe_picture(targets, width, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_view_has_the_numbers_of_the_summary_and_a_plot_with_the_losses_and_its_scale() -> None:
    summary, series = measured(range(4, 6))
    view = lines((summary, series))
    assert view[0] == "stamp/host:862  10 sent, 2 lost (20.00%)"
    assert view[1] == "▁▂▃▃xx▆▆▇█"
    assert view[2] == "1.000 to 10.000 ms, 0.01 s a column"
    assert re.fullmatch(r"ms +min +p50 +p90 +p99 +p99.9 +max", view[3])
    percentiles = [f"{value / 1e6:.3f}" for value in summary.durations["rtt"].percentiles.values()]
    assert view[4].split() == ["round", "trip", "1.000", *percentiles, "10.000"]
    assert view[-1] == "Ctrl-C ends the measurement and prints the summary."


@pytest.mark.parametrize(
    ("height", "shown", "left"),
    [(40, 3, None), (22, 2, "1 more target does not fit"), (14, 1, "2 more targets do not fit")],
)
def test_targets_that_do_not_fit_are_counted(height: int, shown: int, left: str | None) -> None:
    target = measured(range(4, 6))
    view = lines(target, target, target, height=height)
    assert len(view) <= height
    assert sum(line.startswith("stamp/host:862") for line in view) == shown
    hints = [line for line in view if "not fit" in line]
    assert hints == ([] if left is None else [f"{left}; make the terminal higher"])
    assert view[-1] == "Ctrl-C ends the measurement and prints the summary."


def test_a_plot_uses_the_rows_that_the_terminal_has() -> None:
    target = measured(range(4, 6))
    assert lines(target, height=40)[1:6] == [
        "       ▁▅█",
        "      ▆███",
        "   ▃  ████",
        "▁▄██xx████",
        "1.000 to 10.000 ms, 0.01 s a column",
    ]
    assert lines(target, height=12)[1:3] == ["      ▃▅▆█", "▁▃▄▆xx████"]


def test_a_long_plot_shows_its_end() -> None:
    view = lines(measured(range(90, 91), probes=100), width=40)
    assert len(view[1]) == 39
    assert view[1].index("x") == 29


def test_several_targets_stand_below_each_other_and_none_needs_an_answer() -> None:
    view = lines(measured(range(10)), measured(range(0)), height=24)
    assert view[0] == "stamp/host:862  10 sent, 10 lost (100.00%)"
    assert "x" * 10 in view
    assert view.count("stamp/host:862  10 sent, 0 lost (0.00%)") == 1


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
def test_a_terminal_shows_the_view_in_place_and_the_summary_at_the_end(size: tuple[int, int]) -> None:
    columns, rows = size
    with serving("--stamp=127.0.0.1:0") as (_, [port]):
        command = [*NETSVC, "probe", f"127.0.0.1:{port}", "-i", "0.05"]
        with at_terminal(*command, columns=columns, rows=rows) as terminal:
            terminal.wait_for("round trip")
            assert terminal.text.count(f"stamp/127.0.0.1:{port}") == 1, terminal.text
            terminal.process.send_signal(signal.SIGINT)
            terminal.wait_for("times of sending")
            assert terminal.process.wait(20) == 130
