"""The live view of ``netsvc probe`` on a terminal. It needs rich (``netsvc[probe]``)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from netsvc.cli.probe_lines import times
from netsvc.probe.duration_summary import PERCENTILES
from netsvc.probe.probe_series import ProbeSeries
from netsvc.probe.probe_summary import ProbeSummary

#: On a terminal with fewer columns, there are fewer percentiles.
NARROW = 60

#: Rows of a plot, if the terminal has enough.
PLOT_ROWS = 4

_BLOCKS = "▁▂▃▄▅▆▇█"
_LOST = "x"  # so that nothing depends on a colour
_NOTHING = " "
_NAMES = {
    "rtt": "round trip",
    "connect": "connect",
    "handshake": "handshake",
    "there_change": "there +",
    "back_change": "back +",
}


class ProbeScreen:
    """Shows the numbers of all targets in place, and the course of each.

    :param console: the terminal; by default standard output. ``NO_COLOR`` is obeyed.
    """

    def __init__(self, console: Console | None = None) -> None:
        if console is None:
            # Without the size that a shell may have exported: the terminal may have another one by now.
            environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            console = Console(highlight=False, _environ=environment)
        self._console = console
        self._live = Live(console=self._console, auto_refresh=False, screen=True, vertical_overflow="ellipsis")

    def start(self) -> None:
        """Hide the cursor."""
        self._live.start()

    def update(self, targets: Sequence[tuple[ProbeSummary, ProbeSeries]]) -> None:
        """Show the numbers of now."""
        width, height = self._console.size
        self._live.update(probe_picture(targets, width, height), refresh=True)

    def stop(self) -> None:
        """Remove the view, and show the cursor again."""
        self._live.stop()


def probe_picture(targets: Sequence[tuple[ProbeSummary, ProbeSeries]], width: int, height: int) -> Group:
    """Return the view of some targets.

    It takes about 1 ms for each target. A table of rich would take twice as long, and probes would leave late.

    :param width: columns of the terminal.
    :param height: rows of the terminal. If they suffice, the plots are higher than one row.
    """
    parts: list[Text] = []
    for number, (summary, series) in enumerate(targets):
        text = [
            _head(summary),
            *_numbers(summary, width),
            *(Text(line, "yellow") for line in _remarks(summary)),
            Text(),
        ]
        rows = min(PLOT_ROWS, (height - 1) // len(targets) - len(text) - 1)
        shown = [text[0], *_plot(series, width, max(1, rows)), *text[1:]]
        below = 1 if number == len(targets) - 1 else 2
        if parts and len(parts) + len(shown) + below > height:
            left = "1 more target does" if number == len(targets) - 1 else f"{len(targets) - number:,} more targets do"
            parts.append(Text(f"{left} not fit; make the terminal higher", "yellow", no_wrap=True))
            break
        parts += shown
    parts.append(Text("Ctrl-C ends the measurement and prints the summary.", style="dim"))
    return Group(*parts)


def _head(summary: ProbeSummary) -> Text:
    counts = summary.counts
    loss = "" if summary.loss is None else f" ({float(summary.loss):.2%})"
    head = Text(summary.target, style="bold", overflow="ellipsis", no_wrap=True)
    head.append(f"  {counts.sent:,} sent, ", style="not bold")
    head.append(f"{counts.lost:,} lost{loss}", style="bold red" if counts.lost else "not bold")
    others: tuple[tuple[str, int], ...] = (
        ("late", counts.late),
        ("duplicate", counts.duplicates),
        ("reordered", counts.reordered),
    )
    others += (("corrupted", counts.corrupted), ("of other runs", counts.foreign), ("not sent", counts.unsent))
    for name, number in others:
        if number:
            head.append(f", {number:,} {name}", style="not bold")
    return head


def _plot(series: ProbeSeries, width: int, rows: int) -> list[Text]:
    """Return a plot: a column for the mean of each of the last intervals, with an x if a probe of it was lost.

    A line below it tells the scale.
    """
    intervals = series.latest(max(1, width - 1))
    means = [interval.values["rtt"].mean if "rtt" in interval.values else None for interval in intervals]
    known = [mean for mean in means if mean is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    top = rows * len(_BLOCKS) - 1
    levels = [
        -1 if mean is None else round((mean - least) / (most - least) * top) if most > least else 0 for mean in means
    ]
    plot = []
    for row in reversed(range(rows)):
        begin = row * len(_BLOCKS)
        line = "".join(
            _LOST if interval.lost > 0 and not row else _BLOCKS[min(level - begin, 7)] if level >= begin else _NOTHING
            for interval, level in zip(intervals, levels, strict=True)
        )
        plot.append(Text(line.rstrip(), "cyan", no_wrap=True))
    plot[-1].highlight_regex(f"{_LOST}+", "bold red")
    column = f"{series.width / 1e9:g} s a column"
    scale = f"{least / 1e6:.3f} to {most / 1e6:.3f} ms, {column}" if known else column
    return [*plot, Text(scale, "dim", no_wrap=True)]


def _numbers(summary: ProbeSummary, width: int) -> list[Text]:
    names = tuple(PERCENTILES) if width >= NARROW else ("p50", "p99")
    rows = [(name, summary.durations[kind].row(names)) for kind, name in _NAMES.items() if kind in summary.durations]
    if not rows:
        return []
    label = max(map(len, _NAMES.values()))
    cells = [[f"{value / 1e6:.3f}" for value in row] for _, row in rows]
    number = max(len(cell) for row in cells for cell in row)
    head = "".join(f"  {name:>{number}}" for name in ("min", *names, "max"))
    lines = [Text(f"{'ms':<{label}}{head}", "dim", no_wrap=True)]
    for (name, _), row in zip(rows, cells, strict=True):
        lines.append(Text(f"{name:<{label}}{''.join(f'  {cell:>{number}}' for cell in row)}", no_wrap=True))
    return lines


def _remarks(summary: ProbeSummary) -> list[str]:
    remarks = []
    direction = summary.direction
    if direction is not None and direction.stateful and summary.counts.lost:
        remarks.append(
            f"lost there {direction.lost_there:,}, back {direction.lost_back:,}, not known {direction.lost_unknown:,}"
        )
    if summary.rate_limit is not None:
        remarks.append(f"the rate seems to be limited to {summary.rate_limit:,.0f} answers a second")
    if "rtt" in summary.jitter:
        remarks.append(f"jitter {summary.jitter['rtt'] / 1e6:.3f} ms")
    if summary.late_sends:
        remarks.append(f"sent late: {summary.late_sends:,}")
    if summary.void_times:
        remarks.append(f"answers without times: {summary.void_times:,}, because the clock of this host was set")
    return [*remarks, *(f"{words}: {times(count)}" for words, count in summary.errors.items())]
