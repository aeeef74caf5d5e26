"""The live view of ``netsvc probe`` on a terminal. It needs rich (``netsvc[probe]``)."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from netsvc.probe.duration_summary import PERCENTILES
from netsvc.probe.probe_series import ProbeSeries
from netsvc.probe.probe_summary import ProbeSummary

#: Seconds between two pictures.
REFRESH = 0.25

#: On a terminal with fewer columns, there are fewer percentiles.
NARROW = 60

_BLOCKS = "▁▂▃▄▅▆▇█"
_LOST = "x"  # so that nothing depends on a colour
_NOTHING = " "
_NAMES = {"rtt": "round trip", "connect": "connect", "there_change": "there +", "back_change": "back +"}


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
        self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="ellipsis")

    def start(self) -> None:
        """Hide the cursor."""
        self._live.start()

    def update(self, targets: Sequence[tuple[ProbeSummary, ProbeSeries]]) -> None:
        """Show the numbers of now."""
        self._live.update(probe_picture(targets, self._console.width), refresh=True)

    def stop(self) -> None:
        """Remove the view, and show the cursor again."""
        self._live.stop()


def probe_picture(targets: Sequence[tuple[ProbeSummary, ProbeSeries]], width: int) -> Group:
    """Return the view of some targets.

    :param width: columns of the terminal.
    """
    parts: list[Text | Table] = []
    for summary, series in targets:
        parts += [_head(summary), _course(series, width - 1), _numbers(summary, width)]
        parts += [Text(line, style="yellow") for line in _remarks(summary)]
        parts.append(Text(""))
    parts.append(Text("Ctrl-C ends the measurement and prints the summary.", style="dim"))
    return Group(*parts)


def _head(summary: ProbeSummary) -> Text:
    counts = summary.counts
    loss = "" if summary.loss is None else f" ({float(summary.loss):.2%})"
    head = Text(summary.target, style="bold", overflow="ellipsis", no_wrap=True)
    head.append(f"  {counts.sent:,} sent, ", style="not bold")
    head.append(f"{counts.lost:,} lost{loss}", style="bold red" if counts.lost else "not bold")
    others = (("late", counts.late), ("duplicate", counts.duplicates), ("reordered", counts.reordered))
    for name, number in (*others, ("corrupted", counts.corrupted), ("not sent", counts.unsent)):
        if number:
            head.append(f", {number:,} {name}", style="not bold")
    return head


def _course(series: ProbeSeries, width: int) -> Text:
    """Return one column for each of the last intervals: the mean, as a block, or an x if a probe was lost."""
    intervals = list(series)[-max(1, width) :]
    means = [interval.values["rtt"].mean if "rtt" in interval.values else None for interval in intervals]
    known = [mean for mean in means if mean is not None]
    least, most = min(known, default=0.0), max(known, default=0.0)
    course = Text(no_wrap=True)
    for interval, mean in zip(intervals, means, strict=True):
        if interval.lost > 0:
            course.append(_LOST, style="bold red")
        elif mean is None:
            course.append(_NOTHING)
        else:
            share = (mean - least) / (most - least) if most > least else 0.0
            course.append(_BLOCKS[min(len(_BLOCKS) - 1, int(share * len(_BLOCKS)))], style="cyan")
    return course


def _numbers(summary: ProbeSummary, width: int) -> Table:
    names = tuple(PERCENTILES) if width >= NARROW else ("p50", "p99")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=max(map(len, _NAMES.values())))
    for _ in range(len(names) + 2):
        table.add_column(justify="right")
    table.add_row("ms", "min", *names, "max", style="dim")
    for kind, name in _NAMES.items():
        found = summary.durations.get(kind)
        if found is not None:
            table.add_row(name, *(f"{value / 1e6:.3f}" for value in found.row(names)))
    return table


def _remarks(summary: ProbeSummary) -> list[str]:
    remarks = []
    direction = summary.direction
    if direction is not None and direction.stateful and summary.counts.lost:
        remarks.append(
            f"lost there {direction.lost_there:,}, back {direction.lost_back:,}, not known {direction.lost_unknown:,}"
        )
    if summary.rate_limit is not None:
        remarks.append(f"the rate seems to be limited to {summary.rate_limit:,.0f} answers a second")
    if summary.late_sends:
        remarks.append(f"sent late: {summary.late_sends:,}")
    return [*remarks, *(f"{words}: {count:,} times" for words, count in summary.errors.items())]
