"""The results of a measurement of one target: the numbers that text, JSON, the live view and metrics show.

The schema has a version. Times and durations are seconds, as floats, and their names end with ``_seconds``. Fractions
are from 0 to 1. A value that is not known is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from typing import Literal

from netsvc.probe.clock_offset import ClockEstimate
from netsvc.probe.duration_summary import PERCENTILES, DurationSummary
from netsvc.probe.loss_direction import DirectionCounts
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.probe.probe_target import ProbeProtocol

#: The version of the schema. It changes when a field is removed or gets another meaning, not when one is added.
SCHEMA_VERSION = 1

#: ``total``: since the start. ``interval``: since the last summary of an interval.
SummaryScope = Literal["total", "interval"]


@dataclass(frozen=True, slots=True)
class StampSourceCounts:
    """How many times of sends and receipts came from each source (``StampSource``), by the answers with times."""

    sent_kernel: int = 0
    sent_process: int = 0
    received_kernel: int = 0
    received_process: int = 0


@dataclass(frozen=True, slots=True)
class ClockSummary:
    """The clocks of both hosts, as STAMP shows them.

    :ivar estimate: the offset and the drift; None before the first answer.
    :ivar steps: how often the offset jumped by more than any drift explains.
    :ivar movements: how often the bases of one-way changes were forgotten, because the clocks had moved.
    :ivar sender_synchronised: whether this host claims that its clock is synchronised; None if it is not known.
    :ivar reflector_synchronised: the same of the reflector.
    """

    estimate: ClockEstimate | None = None
    steps: int = 0
    movements: int = 0
    sender_synchronised: bool | None = None
    reflector_synchronised: bool | None = None


@dataclass(frozen=True, slots=True)
class ProbeSummary:
    """The numbers of one target.

    :ivar target: as it was typed.
    :ivar address: the address and the port that were measured; None before the name was resolved.
    :ivar started: nanoseconds since the epoch at the first probe of this scope.
    :ivar duration: nanoseconds since then.
    :ivar interval: nanoseconds between two probes.
    :ivar counts: probes and answers. In an interval, ``lost`` is negative if probes of before were answered late.
    :ivar late_sends: probes that left later than the schedule allows (``ProbeSchedule.is_late``).
    :ivar void_times: answers whose times were discarded, because a clock was set while they were under way.
    :ivar durations: by the names of ``DurationKind``; only those that occurred.
    :ivar jitter: nanoseconds by the names ``rtt``, ``there``, ``back`` (RFC 3550, 6.4.1); only those known.
    :ivar direction: None unless the protocol tells directions.
    :ivar clock: None unless the protocol tells the clock of the peer.
    :ivar sources: of the times.
    :ivar rate_limit: answers per second, if the responder or the path seems to limit them; else None.
    :ivar errors: how often a send or a connection failed, by the error in words.
    """

    target: str
    protocol: ProbeProtocol
    scope: SummaryScope
    started: int
    duration: int
    interval: int
    counts: LedgerCounts
    address: str | None = None
    late_sends: int = 0
    void_times: int = 0
    durations: Mapping[str, DurationSummary] = field(default_factory=dict)
    jitter: Mapping[str, float] = field(default_factory=dict)
    direction: DirectionCounts | None = None
    clock: ClockSummary | None = None
    sources: StampSourceCounts = StampSourceCounts()
    rate_limit: float | None = None
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def decided(self) -> int:
        """Probes that were sent and have a verdict."""
        return self.counts.answered + self.counts.late + self.counts.lost

    def share(self, number: int) -> Fraction | None:
        """Return a number as a fraction of the probes that have a verdict; None if there are none."""
        return Fraction(number, self.decided) if self.decided > 0 else None

    @property
    def loss(self) -> Fraction | None:
        """The fraction of the probes with a verdict that were lost; None if there are none.

        It is None of an interval in which more earlier losses were answered late than probes were lost.
        """
        return None if self.counts.lost < 0 else self.share(self.counts.lost)

    def to_json(self) -> dict[str, object]:
        """Return the summary as plain values (``docs/reference``)."""
        counts = asdict(self.counts)
        return {
            "type": "summary",
            "version": SCHEMA_VERSION,
            "target": self.target,
            "address": self.address,
            "protocol": self.protocol,
            "scope": self.scope,
            "started_seconds": self.started / 1_000_000_000,
            "duration_seconds": self.duration / 1_000_000_000,
            "interval_seconds": self.interval / 1_000_000_000,
            **counts,
            "loss": None if self.loss is None else float(self.loss),
            "late_sends": self.late_sends,
            "void_times": self.void_times,
            "durations": {name: durations_json(summary) for name, summary in self.durations.items()},
            "jitter": {f"{name}_seconds": value / 1_000_000_000 for name, value in self.jitter.items()},
            "direction": None if self.direction is None else asdict(self.direction),
            "clock": None if self.clock is None else _clock_json(self.clock),
            "sources": asdict(self.sources),
            "rate_limit": self.rate_limit,
            "errors": dict(self.errors),
        }


def durations_json(summary: DurationSummary) -> dict[str, object]:
    """Return a summary of durations as plain values: ``count``, ``p99_9_seconds`` and so on."""
    return {
        "count": summary.count,
        "min_seconds": summary.minimum / 1_000_000_000,
        "mean_seconds": summary.mean / 1_000_000_000,
        "max_seconds": summary.maximum / 1_000_000_000,
        "stddev_seconds": summary.stddev / 1_000_000_000,
        **{f"{name.replace('.', '_')}_seconds": summary.percentiles[name] / 1_000_000_000 for name in PERCENTILES},
    }


def _clock_json(clock: ClockSummary) -> dict[str, object]:
    estimate = clock.estimate
    return {
        "offset_seconds": None if estimate is None else estimate.offset / 1_000_000_000,
        "offset_uncertainty_seconds": None if estimate is None else estimate.offset_uncertainty / 1_000_000_000,
        "drift_ppm": None if estimate is None else estimate.drift_ppm,
        "drift_uncertainty_ppm": None if estimate is None else estimate.drift_uncertainty_ppm,
        "steps": clock.steps,
        "movements": clock.movements,
        "sender_synchronised": clock.sender_synchronised,
        "reflector_synchronised": clock.reflector_synchronised,
    }


def counts_since(counts: LedgerCounts, before: LedgerCounts) -> LedgerCounts:
    """Return the numbers since an earlier moment. ``pending`` and ``reordering_extent_max`` are those of now."""
    changed = {one.name: getattr(counts, one.name) - getattr(before, one.name) for one in fields(counts)}
    changed |= {"pending": counts.pending, "reordering_extent_max": counts.reordering_extent_max}
    return LedgerCounts(**changed)


def directions_since(direction: DirectionCounts, before: DirectionCounts) -> DirectionCounts:
    """Return the numbers since an earlier moment. They may be negative where an unknown direction became known."""
    changed = {one.name: getattr(direction, one.name) - getattr(before, one.name) for one in fields(direction)}
    return DirectionCounts(**(changed | {"stateful": direction.stateful}))


def sources_since(sources: StampSourceCounts, before: StampSourceCounts) -> StampSourceCounts:
    """Return the numbers since an earlier moment."""
    return StampSourceCounts(
        **{one.name: getattr(sources, one.name) - getattr(before, one.name) for one in fields(sources)}
    )
