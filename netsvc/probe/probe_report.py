"""A picture of a measurement, for a ticket: the course over time, the histogram, the percentiles by direction.

It needs matplotlib (``netsvc[plot]``).
"""

from __future__ import annotations

import html
import io
import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from netsvc.errors import NetsvcError
from netsvc.net.error_words import failure_words
from netsvc.probe.duration_summary import PERCENTILES
from netsvc.probe.probe_series import Extent, ProbeSeries
from netsvc.probe.probe_summary import ProbeSummary

#: Targets in one picture. Further ones are left out, and the picture says so.
TARGETS_MAX = 8

#: Colours that people with any colour vision can tell apart (Okabe and Ito, 2008).
_LINE, _BAND, _LOST, _THERE, _BACK = "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7"

_SUFFIXES = (".svg", ".png", ".html")
_MAIN = ("rtt", "connect")
_STYLE: dict[Any, Any] = {"svg.hashsalt": "netsvc", "svg.fonttype": "none", "font.size": 9.0, "axes.spines.top": False}


class ReportError(NetsvcError):
    """The report cannot be written; the message says why, and what to do."""


@dataclass(frozen=True)
class ReportedTarget:
    """The part of a report about one target.

    :param summary: its numbers since the start.
    :param series: their course.
    :param buckets: the histogram of its round trips, or of its connections: values in nanoseconds, and how many.
    """

    summary: ProbeSummary
    series: ProbeSeries
    buckets: Sequence[tuple[int, int]]


def check_report_path(path: str) -> None:
    """Check that a report can have this path.

    :raises ReportError: if its end tells no format, if there is no such folder, or if it cannot be written.
    """
    if Path(path).suffix.lower() not in _SUFFIXES:
        raise ReportError(f"{path}: the name has to end with .svg, .png or .html")
    folder = Path(path).parent
    if not folder.is_dir():
        raise ReportError(f"{path}: there is no folder {folder}; make it, or name another one")
    if Path(path).is_dir():
        raise ReportError(f"{path}: this is a folder; name a file in it")
    if not os.access(folder, os.W_OK):
        raise ReportError(f"{path}: the folder {folder} cannot be written; name another one")


def write_report(path: str, targets: Sequence[ReportedTarget]) -> None:
    """Write the picture of a measurement. The file is complete or not there.

    :param path: a file that ends with ``.svg``, ``.png`` or ``.html``, which is one file with the picture in it.
    :raises ReportError: if the file cannot be written.
    """
    check_report_path(path)
    suffix = Path(path).suffix.lower()
    picture = _picture(targets, "png" if suffix == ".png" else "svg")
    data = _page(picture.decode("utf-8"), targets).encode("utf-8") if suffix == ".html" else picture
    partial = Path(path).with_name(f".netsvc-report-{os.getpid()}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as e:
        with suppress(OSError):
            partial.unlink()
        raise ReportError(f"{path}: {failure_words(e)}; name a file that can be written") from None


def _picture(targets: Sequence[ReportedTarget], kind: str) -> bytes:
    shown = targets[:TARGETS_MAX]
    with rc_context(_STYLE):
        figure = Figure(figsize=(11, 0.6 + 2.9 * max(1, len(shown))), layout="constrained")
        FigureCanvasAgg(figure)
        left_out = len(targets) - len(shown)
        figure.suptitle(f"{left_out} further targets are not shown" if left_out else "", fontsize=9)
        axes = figure.subplots(max(1, len(shown)), 3, width_ratios=(3, 1.4, 1.4), squeeze=False)
        for row, target in zip(axes, shown, strict=False):
            _draw_course(row[0], target)
            _draw_histogram(row[1], target)
            _draw_percentiles(row[2], target)
        written = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(written, format=kind, dpi=120, metadata=metadata)
    return written.getvalue()


def _draw_course(axes: Any, target: ReportedTarget) -> None:
    """Draw the round trips over time: the band from the least to the most, the mean, and what was lost."""
    summary, series = target.summary, target.series
    axes.set_title(f"{summary.target}: {_words(summary)}", loc="left", fontsize=9)
    axes.set_xlabel("time since the start")
    axes.set_ylabel("connect" if summary.protocol in ("tcp", "tls") else "round trip")
    intervals = list(series)
    known = [interval.values["rtt"] for interval in intervals if "rtt" in interval.values]
    # NaN interrupts the line and the band where no probe was answered.
    asked = [interval for interval in intervals if interval.sent or "rtt" in interval.values]
    times = [interval.start / 1e9 for interval in asked]
    least, mean, most = (
        [getattr(interval.values["rtt"], height) if "rtt" in interval.values else math.nan for interval in asked]
        for height in ("least", "mean", "most")
    )
    axes.fill_between(times, least, most, color=_BAND, alpha=0.45, linewidth=0, label="least to most")
    marker = "o" if len(known) < _FEW else None
    axes.plot(times, mean, marker=marker, color=_LINE, linewidth=1.2, markersize=4, label="mean")
    lost = [interval for interval in intervals if interval.lost > 0]
    if lost:
        shares = axes.twinx()
        width = series.width / 1e9
        shares.bar(
            [interval.start / 1e9 for interval in lost],
            [100 * interval.lost / max(1, interval.sent) for interval in lost],
            width=max(width, (times[-1] if times else 1) / 400),
            align="edge",
            color=_LOST,
            alpha=0.7,
        )
        shares.set_ylim(0, 300)  # the lower third of the picture
        shares.set_yticks([0, 50, 100], ["0", "50", "100 %"])
        shares.set_ylabel("lost", color=_LOST, loc="bottom")
        shares.spines["top"].set_visible(False)
    if known:
        _limit(axes, summary, known)
        axes.legend(loc="upper right", fontsize=8, frameon=False)
    else:
        axes.set_yticks([])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration_text(value)))


def _limit(axes: Any, summary: ProbeSummary, extents: Sequence[Extent]) -> None:
    """Show values up to a little above p99.9. A single one far above it would make all others a line at 0."""
    kind = next(kind for kind in _MAIN if kind in summary.durations)
    most = max(extent.most for extent in extents)
    top = min(1.1 * most, 1.5 * summary.durations[kind].percentiles["p99.9"])
    axes.set_ylim(min(0, *(extent.least for extent in extents)), top)
    if most > top:
        axes.text(0.01, 0.97, f"up to {duration_text(most)}", va="top", transform=axes.transAxes, fontsize=8)


def _draw_histogram(axes: Any, target: ReportedTarget) -> None:
    """Draw how many round trips took how long, on a logarithmic scale."""
    axes.set_title("how many took how long", loc="left", fontsize=9)
    values = [(max(1, value), count) for value, count in target.buckets if count]
    if not values:
        axes.set_title("")
        axes.text(0.5, 0.5, "no answer", ha="center", va="center", transform=axes.transAxes, color=_LOST)
        axes.set_axis_off()
        return
    least, most = math.log10(values[0][0]) - 0.05, math.log10(values[-1][0]) + 0.05
    bins = 40
    heights = [0] * bins
    for value, count in values:
        heights[min(bins - 1, int((math.log10(value) - least) / (most - least) * bins))] += count
    edges = [10 ** (least + (most - least) * number / bins) for number in range(bins + 1)]
    axes.stairs(heights, edges, fill=True, color=_LINE)
    axes.set_xscale("log")
    axes.set_yscale("symlog")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration_text(value)))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.tick_params(axis="x", labelrotation=30)


def _draw_percentiles(axes: Any, target: ReportedTarget) -> None:
    """Draw the percentiles of the round trip, and of the changes by direction if they are known."""
    axes.set_title("percentiles", loc="left", fontsize=9)
    kinds = [
        ("rtt", "round trip", _LINE),
        ("connect", "connect", _LINE),
        ("handshake", "handshake", _THERE),
        ("there_change", "there, change", _THERE),
        ("back_change", "back, change", _BACK),
    ]
    shown = [(kind, name, colour) for kind, name, colour in kinds if kind in target.summary.durations]
    if not shown:
        axes.set_title("")
        axes.set_axis_off()
        return
    for kind, name, colour in shown:
        percentiles = target.summary.durations[kind].percentiles
        values = [percentiles[one] for one in PERCENTILES]
        axes.plot(
            range(len(values)), values, "o-", color=colour, markersize=3.5, linewidth=1.2, clip_on=False, label=name
        )
    axes.set_xticks(range(len(PERCENTILES)), list(PERCENTILES))
    axes.set_yscale("symlog", linthresh=_LINEAR)  # a change may be 0
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "" if 0 < value < _LINEAR else duration_text(value)))
    axes.yaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    axes.legend(fontsize=7.5, frameon=False)


_FEW = 3

#: Nanoseconds below which the scale of the percentiles is linear.
_LINEAR = 1_000


def duration_text(nanoseconds: float) -> str:
    """Return a duration with a unit that fits: ``12 us``, ``3.5 ms``, ``2 s``."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if abs(nanoseconds) >= unit:
            return f"{nanoseconds / unit:.3g} {name}"
    return f"{nanoseconds:.3g} ns" if nanoseconds else "0"


def _time(seconds: float) -> str:
    for unit, name in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if abs(seconds) >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def _words(summary: ProbeSummary) -> str:
    loss = "" if summary.loss is None else f" ({float(summary.loss):.2%})"
    words = f"{summary.counts.sent:,} probes in {_time(summary.duration / 1e9)}, {summary.counts.lost:,} lost{loss}"
    direction = summary.direction
    if direction is not None and direction.stateful and summary.counts.lost:
        words += f", there {direction.lost_there:,}, back {direction.lost_back:,}"
    return words


def _page(picture: str, targets: Sequence[ReportedTarget]) -> str:
    """Return the page with the picture and the numbers."""
    columns = ("target", "sent", "answered", "lost", "loss", "duplicates", "reordered", "min", *PERCENTILES, "max")
    rows = [
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _cells(target.summary))}</tr>" for target in targets
    ]
    began = min((target.summary.started for target in targets), default=0)
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(began / 1e9))
    svg = picture[picture.index("<svg") :]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>netsvc probe</title>\n'
        "<style>body{font:14px system-ui,sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}"
        "th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #ccc}"
        "th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}</style>\n"
        f"<h1>netsvc probe</h1>\n<p>Begun {when}.</p>\n{svg}\n<table>\n"
        f"<tr>{''.join(f'<th>{column}</th>' for column in columns)}</tr>\n{chr(10).join(rows)}\n</table>\n</html>\n"
    )


def _cells(summary: ProbeSummary) -> list[str]:
    counts = summary.counts
    kind = next((kind for kind in _MAIN if kind in summary.durations), None)
    durations = [""] * (len(PERCENTILES) + 2)
    if kind is not None:
        durations = [duration_text(value) for value in summary.durations[kind].row()]
    return [
        summary.target,
        *(f"{number:,}" for number in (counts.sent, counts.answered, counts.lost)),
        "" if summary.loss is None else f"{float(summary.loss):.2%}",
        *(f"{number:,}" for number in (counts.duplicates, counts.reordered)),
        *durations,
    ]
