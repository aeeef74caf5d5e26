"""The record of one target: it judges what the prober tells, counts it, and sums it up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from netsvc.net.error_words import failure_words
from netsvc.probe.clock_offset import ClockOffset
from netsvc.probe.delay_variation import DelayVariation, InterarrivalJitter
from netsvc.probe.loss_direction import AnswerPath, DirectionCounts, LossDirection
from netsvc.probe.one_way_delay import ClockClaim, OneWayDelay, absolute_delay, clock_claim
from netsvc.probe.probe_counters import ProbeCounters
from netsvc.probe.probe_dialects import FIRST_SEQUENCE, ReflectedTimes
from netsvc.probe.probe_event import ProbeEvent, ProbeEventKind
from netsvc.probe.probe_ledger import AnswerVerdict, LedgerCounts, ProbeAnswer, ProbeLedger, StampSource
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_series import ProbeSeries
from netsvc.probe.probe_statistics import DurationKind, ProbeStatistics
from netsvc.probe.probe_summary import (
    ClockSummary,
    ProbeSummary,
    StampSourceCounts,
    SummaryScope,
    counts_since,
    directions_since,
    sources_since,
)
from netsvc.probe.probe_target import ProbeTarget
from netsvc.probe.rate_limit_pattern import RateLimitPattern

#: Errors of the network that are counted by their words. Further ones are counted together.
ERRORS_MAX = 16

_FIRST_ANSWERS = (AnswerVerdict.ANSWERED, AnswerVerdict.LATE)
_DUPLICATED: dict[AnswerPath | None, Literal["there", "back"]] = {
    AnswerPath.DUPLICATED_THERE: "there",
    AnswerPath.DUPLICATED_BACK: "back",
}


@dataclass(frozen=True, slots=True)
class _Marks:
    """The counters at the beginning of an interval, which began at ``mono``."""

    mono: int
    counts: LedgerCounts
    directions: DirectionCounts
    sources: StampSourceCounts
    late_sends: int
    void_times: int
    errors: Counter[str]


class ProbeRecord:
    """Records the probes of one target. It is a :class:`~netsvc.probe.probe_recorder.ProbeRecorder`.

    The answers of TCP and TLS targets are connections. Their durations are those of ``connect`` and ``handshake``.

    :param target: what is measured.
    :param address: the IP address and the port, as it would be typed.
    :param schedule: of the prober.
    :param timeout: nanoseconds after which a probe without an answer is lost.
    :param offset: the wall clock less the monotonic clock at the start, in nanoseconds.
    :param on_event: is called with everything that happens to a probe, except that it was sent.
    :ivar claim: what this host says of its clock; None if the system does not tell.
    :ivar series: the course over time.
    :ivar statistics: the histograms.
    """

    def __init__(
        self,
        target: ProbeTarget,
        address: str,
        schedule: ProbeSchedule,
        timeout: int,
        offset: int = 0,
        *,
        on_event: Callable[[ProbeEvent], None] | None = None,
    ) -> None:
        self.target = target
        self.address = address
        self.schedule = schedule
        self.statistics = ProbeStatistics()
        self.series = ProbeSeries(schedule.interval)
        self.claim: ClockClaim | None = None
        self._name = str(target)
        self._is_stamp = target.protocol == "stamp"
        self._on_event = on_event
        self._offset = offset
        self._main = DurationKind.CONNECT if target.protocol in ("tcp", "tls") else DurationKind.RTT
        self._ledger = ProbeLedger(timeout)
        self._directions = LossDirection()
        self._delays = OneWayDelay()
        self._clock = ClockOffset()
        self._jitter = {"rtt": InterarrivalJitter(), "there": InterarrivalJitter(), "back": InterarrivalJitter()}
        self._variation = DelayVariation()
        self._rate_limit = RateLimitPattern()
        self._reflector: ClockClaim | None = None
        self._reflector_claim: tuple[bool, float] | None = None  # as it was received; it changes seldom
        self._sources: Counter[tuple[StampSource | None, StampSource | None]] = Counter()
        self._errors: Counter[str] = Counter()
        self._late_sends = self._void_times = 0
        self._marks = self._marks_at(schedule.start)

    # Called by the prober

    def sent(self, sequence: int, due: int, mono: int) -> None:
        self._ledger.sent(sequence, due, mono)
        if self._is_stamp:
            self._directions.sent(sequence + FIRST_SEQUENCE)
        self.series.sent(due - self.schedule.start)
        if self.schedule.is_late(sequence, mono):
            self._late_sends += 1

    def unsent(self, sequence: int, due: int, error: OSError) -> None:
        self._ledger.unsent(sequence, due)
        words = self._count_error(error)
        if self._on_event is not None:
            self._on_event(ProbeEvent(self._name, "unsent", due - self.schedule.start, sequence, error=words))

    def transmitted(self, sequence: int, mono: int) -> None:
        self._ledger.transmitted(sequence, mono)

    def answered(
        self,
        sequence: int,
        mono: int,
        source: StampSource,
        offset: int,
        *,
        void: bool = False,
        times: ReflectedTimes | None = None,
        handshake: int | None = None,
    ) -> None:
        answer = self._ledger.answered(sequence, mono, source, void=void)
        path = None
        if times is not None:
            path = self._directions.answered(sequence + FIRST_SEQUENCE, times.sequence)
        measured: dict[str, Any] | None = None if self._on_event is None else {}
        if answer.verdict in _FIRST_ANSWERS:
            if void:
                self._void_times += 1
            else:
                self._measure(answer, mono, offset, times, measured)
            if handshake is not None:
                self.statistics.record(DurationKind.HANDSHAKE, handshake)
            if sequence < self._ledger.decided_below:  # it counted as lost
                self.series.lost(self._place(sequence), -1)
        if self._on_event is not None:
            self._on_event(self._event(answer, mono, path, handshake, measured or {}))

    def corrupted(self, mono: int) -> None:
        self._ledger.corrupted()
        self._tell_unknown("corrupted", mono)

    def foreign(self, mono: int) -> None:
        self._ledger.foreign()
        self._tell_unknown("foreign", mono)

    def refused(self, error: OSError, count: int = 1) -> None:
        self._count_error(error, count)

    def advance(self, mono: int) -> bool:
        for probe in self._ledger.advance(mono):
            self._rate_limit.decided(probe.sent, probe.answered)
            if not probe.answered:
                self.series.lost(self._place(probe.sequence))
                if self._on_event is not None:
                    self._on_event(ProbeEvent(self._name, "lost", mono - self.schedule.start, probe.sequence))
        # Answers to older probes tell nothing any more. Without this, directions would remember hours of probes.
        self._directions.forget_below(self._ledger.remembered_from + FIRST_SEQUENCE)
        return self._ledger.counts.pending > 0

    # Called to show the numbers

    def total(self, mono: int) -> ProbeSummary:
        """Return the numbers since the start."""
        return self._summary("total", mono, None)

    def interval(self, mono: int) -> ProbeSummary:
        """Return the numbers since the last call of this method, or since the start, and begin a new interval."""
        summary = self._summary("interval", mono, self._marks)
        self._marks = self._marks_at(mono)
        self.statistics.end_interval()
        return summary

    def buckets(self) -> list[tuple[int, int]]:
        """Return the histogram of the round trips, or of the connections: nanoseconds, and how many."""
        histogram = self.statistics.histograms.get(self._main)
        return [] if histogram is None else histogram.buckets()

    def counters(self) -> ProbeCounters:
        """Return the counters since the start. Unlike a summary, this costs little after months, too."""
        below = self._ledger.decided_below + FIRST_SEQUENCE
        return ProbeCounters(
            self._ledger.counts,
            self._late_sends,
            self._directions.counts(below) if self._is_stamp else None,
            self._directions.open_losses(below) if self._is_stamp else 0,
            self._clock_summary(),
        )

    # The rest is private

    def _place(self, sequence: int) -> int:
        """Return the place of a probe in the series: nanoseconds from the start until it is due."""
        return sequence * self.schedule.interval

    def _measure(
        self,
        answer: ProbeAnswer,
        mono: int,
        offset: int,
        times: ReflectedTimes | None,
        found: dict[str, Any] | None,
    ) -> None:
        """Count the times of a first answer. Add those that its event has to ``found``, unless there is no event."""
        assert answer.rtt is not None
        assert answer.rtt_intended is not None
        self._sources[answer.sent_source, answer.received_source] += 1
        place = self._place(answer.sequence)
        rtt = answer.rtt
        if times is not None:
            t4 = mono + offset
            rtt = self._measure_directions(t4 - answer.rtt, times, t4, mono, place, found)
        record = self.statistics.record
        record(self._main, rtt)
        self.series.value("rtt", place, rtt)
        if self._main is DurationKind.RTT:
            # The time of a reflector is part of it: a request that had waited there would have waited as long.
            record(DurationKind.RTT_INTENDED, answer.rtt_intended)
            if found is not None:
                found |= {"rtt": rtt, "rtt_intended": answer.rtt_intended}
        elif found is not None:
            found["connect"] = rtt
        self._jitter["rtt"].add(rtt)
        for difference in self._variation.add(answer.sequence, rtt):
            record(DurationKind.DELAY_VARIATION, abs(difference))

    def _measure_directions(
        self, t1: int, times: ReflectedTimes, t4: int, mono: int, place: int, found: dict[str, Any] | None
    ) -> int:
        """Count the times of a reflector. Return the round trip without the time that it took."""
        record = self.statistics.record
        sample = self._delays.add(t1, times.received, times.transmitted, t4, mono)
        self._clock.add(t1, times.received, times.transmitted, t4, mono)
        record(DurationKind.RESPONDER, times.transmitted - times.received)
        record(DurationKind.THERE_CHANGE, sample.there_change)
        record(DurationKind.BACK_CHANGE, sample.back_change)
        self.series.value("there", place, sample.there_change)
        self.series.value("back", place, sample.back_change)
        self._jitter["there"].add(sample.there)
        self._jitter["back"].add(sample.back)
        if found is not None:
            found |= {"there_change": sample.there_change, "back_change": sample.back_change}
        theirs = self._reflector
        if theirs is None or (times.synchronized, times.error) != self._reflector_claim:
            self._reflector_claim = times.synchronized, times.error
            self._reflector = theirs = clock_claim(times.synchronized, times.error)
        absolute = None if self.claim is None else absolute_delay(sample, self.claim, theirs)
        if absolute is not None:
            record(DurationKind.THERE_DELAY, absolute.there)
            record(DurationKind.BACK_DELAY, absolute.back)
            if found is not None:
                found |= {
                    "there_delay": absolute.there,
                    "back_delay": absolute.back,
                    "delay_uncertainty": absolute.uncertainty,
                }
        return sample.rtt

    def _tell_unknown(self, kind: ProbeEventKind, mono: int) -> None:
        """Report an answer whose probe is not known."""
        if self._on_event is not None:
            self._on_event(ProbeEvent(self._name, kind, mono - self.schedule.start))

    def _event(
        self,
        answer: ProbeAnswer,
        mono: int,
        path: AnswerPath | None,
        handshake: int | None,
        measured: dict[str, Any],
    ) -> ProbeEvent:
        kind: ProbeEventKind = answer.verdict.value
        return ProbeEvent(
            self._name,
            kind,
            mono - self.schedule.start,
            answer.sequence,
            handshake=handshake,
            sent_source=answer.sent_source,
            received_source=answer.received_source,
            extent=answer.extent,
            duplicated=_DUPLICATED.get(path),
            **measured,
        )

    def _count_error(self, error: OSError, count: int = 1) -> str:
        words = failure_words(error)
        if words not in self._errors and len(self._errors) >= ERRORS_MAX:
            words = "other errors"
        self._errors[words] += count
        return words

    def _summary(self, scope: SummaryScope, mono: int, since: _Marks | None) -> ProbeSummary:
        now = self._marks_at(mono)
        began = self.schedule.start if since is None else since.mono
        counts, directions, sources, errors = now.counts, now.directions, now.sources, now.errors
        late_sends, void_times = now.late_sends, now.void_times
        if since is not None:
            counts = counts_since(counts, since.counts)
            directions = directions_since(directions, since.directions)
            sources = sources_since(sources, since.sources)
            late_sends, void_times = late_sends - since.late_sends, void_times - since.void_times
            errors = errors - since.errors
        return ProbeSummary(
            target=self._name,
            address=self.address,
            protocol=self.target.protocol,
            scope=scope,
            started=began + self._offset,
            duration=max(0, mono - began),
            interval=self.schedule.interval,
            counts=counts,
            late_sends=late_sends,
            void_times=void_times,
            durations=self.statistics.totals() if since is None else self.statistics.interval(),
            jitter={name: jitter.value for name, jitter in self._jitter.items() if jitter.value is not None},
            direction=directions if self._is_stamp else None,
            clock=self._clock_summary(),
            sources=sources,
            rate_limit=self._rate_limit.rate,
            errors=dict(errors),
        )

    def _clock_summary(self) -> ClockSummary | None:
        """Return what is known of the clocks; None before the first answer with times of the reflector."""
        claim, reflector = self.claim, self._reflector
        if reflector is None:
            return None
        return ClockSummary(
            self._clock.estimate,
            self._clock.steps,
            self._delays.clock_movements,
            None if claim is None else claim.synchronised,
            reflector.synchronised,
        )

    def _marks_at(self, mono: int) -> _Marks:
        counted = self._sources
        return _Marks(
            mono,
            self._ledger.counts,
            self._directions.counts(self._ledger.decided_below + FIRST_SEQUENCE),
            StampSourceCounts(
                sum(count for (sent, _), count in counted.items() if sent == "kernel"),
                sum(count for (sent, _), count in counted.items() if sent == "process"),
                sum(count for (_, received), count in counted.items() if received == "kernel"),
                sum(count for (_, received), count in counted.items() if received == "process"),
            ),
            self._late_sends,
            self._void_times,
            Counter(self._errors),
        )
