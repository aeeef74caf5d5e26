"""The output of ``netsvc probe``: a line for each event of a probe, and the summary of a target."""

from __future__ import annotations

from collections.abc import Iterable

from netsvc.probe.duration_summary import PERCENTILES
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_summary import ClockSummary, ProbeSummary

_KINDS = {
    "rtt": "round trip",
    "rtt_intended": "from schedule",
    "responder": "in reflector",
    "connect": "connect",
    "handshake": "handshake",
    "delay_variation": "variation",
    "there_change": "there, change",
    "back_change": "back, change",
    "there_delay": "there",
    "back_delay": "back",
}
_WIDTH = max(map(len, _KINDS.values()))


def event_line(event: ProbeEvent) -> str:
    """Return one line about an event."""
    parts = [event.target]
    if event.sequence is not None:
        parts.append(f"seq={event.sequence}")
    if event.kind != "answered":
        parts.append(event.kind if event.duplicated is None else f"{event.kind} on the way {event.duplicated}")
    for name, value in (("rtt", event.rtt), ("connect", event.connect), ("handshake", event.handshake)):
        if value is not None:
            parts.append(f"{name}={_milliseconds(value)}")
    if event.there_delay is not None and event.back_delay is not None:
        parts.append(f"there={_milliseconds(event.there_delay)} back={_milliseconds(event.back_delay)}")
    elif event.there_change is not None and event.back_change is not None:
        parts.append(f"there=+{_milliseconds(event.there_change)} back=+{_milliseconds(event.back_change)}")
    if event.extent:
        parts.append(f"reordered by {event.extent}")
    if event.error is not None:
        parts.append(event.error)
    return " ".join(parts)


def summary_lines(summary: ProbeSummary) -> list[str]:
    """Return the lines about a target."""
    counts = summary.counts
    is_named = summary.address is None or summary.target.endswith(f"/{summary.address}")
    address = "" if is_named else f" ({summary.address})"
    scope = "the last " if summary.scope == "interval" else ""
    head = f"--- {summary.target}{address}, {scope}{summary.duration / 1e9:.1f} s ---"
    numbers = [f"{counts.sent:,} sent", f"{counts.answered:,} answered", f"{counts.lost:,} lost{_percent(summary)}"]
    numbers += [
        f"{number:,} {name}"
        for name, number in (
            ("late", counts.late),
            ("duplicate", counts.duplicates),
            ("reordered", counts.reordered),
            ("corrupted", counts.corrupted),
            ("of other runs", counts.foreign),
            ("too old to tell", counts.forgotten),
            ("not sent", counts.unsent),
            ("under way", counts.pending),
        )
        if number
    ]
    return [head, ", ".join(numbers), *_directions(summary), *_durations(summary), *_remarks(summary)]


def times(count: int) -> str:
    """Return how often something happened: ``once``, ``1,200 times``."""
    return "once" if count == 1 else f"{count:,} times"


def _milliseconds(nanoseconds: float) -> str:
    """Return a duration with its unit: ``0.042 ms``."""
    return f"{nanoseconds / 1e6:.3f} ms"


def _percent(summary: ProbeSummary) -> str:
    return "" if summary.loss is None else f" ({float(summary.loss):.2%})"


def _directions(summary: ProbeSummary) -> Iterable[str]:
    direction = summary.direction
    if direction is None:
        return
    if direction.lost_there or direction.lost_back or direction.lost_unknown:
        yield (
            f"lost on the way there {direction.lost_there:,}, back {direction.lost_back:,}, "
            f"not known {direction.lost_unknown:,}"
        )
    if direction.duplicates_there or direction.duplicates_back:
        yield f"duplicated on the way there {direction.duplicates_there:,}, back {direction.duplicates_back:,}"
    if direction.restarts:
        yield f"the reflector began to count anew {times(direction.restarts)}"


def _durations(summary: ProbeSummary) -> Iterable[str]:
    kinds = [kind for kind in _KINDS if kind in summary.durations]
    if not kinds:
        return
    columns = ["min", *PERCENTILES, "max"]
    yield f"{'ms':<{_WIDTH}}  {''.join(f'{column:>10}' for column in columns)}"
    for kind in kinds:
        values = summary.durations[kind].row()
        yield f"{_KINDS[kind]:<{_WIDTH}}  {''.join(f'{value / 1e6:>10.3f}' for value in values)}"
    if "rtt" in summary.jitter:
        yield f"jitter {_milliseconds(summary.jitter['rtt'])}"


def _remarks(summary: ProbeSummary) -> Iterable[str]:
    if summary.clock is not None:
        yield from _clock(summary.clock)
    sources = summary.sources
    if any((sources.sent_kernel, sources.sent_process)):
        sent = _source(sources.sent_kernel, sources.sent_process)
        received = _source(sources.received_kernel, sources.received_process)
        yield f"times of sending by {sent}, of arrival by {received}"
    if summary.late_sends:
        yield f"sent late: {summary.late_sends:,}, because this host did not keep up with the schedule"
    if summary.void_times:
        yield f"answers without times: {summary.void_times:,}, because the clock of this host was set"
    if summary.rate_limit is not None:
        yield f"the responder, or the path, seems to limit the rate to {summary.rate_limit:,.0f} answers a second"
    for words, count in summary.errors.items():
        yield f"{words}: {times(count)}"


def _clock(clock: ClockSummary) -> Iterable[str]:
    estimate = clock.estimate
    if estimate is not None:
        drift = ""
        if estimate.drift_ppm is not None and estimate.drift_uncertainty_ppm is not None:
            drift = f", drift {estimate.drift_ppm:+.2f} ± {estimate.drift_uncertainty_ppm:.2f} ppm"
        uncertainty = _milliseconds(estimate.offset_uncertainty)
        yield f"clock of the reflector {estimate.offset / 1e6:+.3f} ± {uncertainty}{drift}"
    claims = ((clock.sender_synchronised, "this host"), (clock.reflector_synchronised, "the reflector"))
    free = [name for claim, name in claims if not claim]
    if free:
        verb = "do" if len(free) > 1 else "does"
        yield f"no absolute one-way delays: {' and '.join(free)} {verb} not claim a synchronised clock"


def _source(kernel: int, process: int) -> str:
    if kernel and process:
        return f"the kernel ({kernel:,}) and this process ({process:,})"
    return "the kernel" if kernel else "this process"
