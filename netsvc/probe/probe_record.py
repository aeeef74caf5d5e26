"""The record of one target: it judges what the prober tells, and counts it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netsvc.probe.clock_offset import ClockOffset
from netsvc.probe.delay_variation import DelayVariation, InterarrivalJitter
from netsvc.probe.loss_direction import AnswerPath, LossDirection
from netsvc.probe.one_way_delay import AbsoluteDelay, ClockClaim, OneWayDelay, OneWaySample, absolute_delay
from netsvc.probe.probe_dialects import FIRST_SEQUENCE, ReflectedTimes
from netsvc.probe.probe_ledger import AnswerVerdict, ProbeAnswer, ProbeLedger, StampSource
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_series import ProbeSeries
from netsvc.probe.probe_statistics import DurationKind, ProbeStatistics
from netsvc.probe.rate_limit_pattern import RateLimitPattern

_FIRST_ANSWERS = (AnswerVerdict.ANSWERED, AnswerVerdict.LATE)


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer, and what follows from it.

    :ivar answer: the verdict, and the round trip as the sender sees it.
    :ivar rtt: the round trip in nanoseconds without the time that a STAMP reflector took; None if it is not known.
    :ivar sample: the delays by direction; None without the times of a reflector, and for duplicates.
    :ivar absolute: the absolute delays by direction; None unless both clocks claim to be right.
    :ivar path: what a stateful reflector tells; None without one.
    :ivar times: those of the reflector.
    """

    answer: ProbeAnswer
    rtt: int | None = None
    sample: OneWaySample | None = None
    absolute: AbsoluteDelay | None = None
    path: AnswerPath | None = None
    times: ReflectedTimes | None = None


class ProbeRecord:
    """Records the probes of one target. It is a :class:`~netsvc.probe.probe_recorder.ProbeRecorder`.

    :param schedule: of the prober.
    :param timeout: nanoseconds after which a probe without an answer is lost.
    :param on_answer: is called with each answer to a probe.
    :param on_loss: is called with the number of each lost probe.
    :ivar late_sends: probes that were sent too late, because the process or the system did not keep up.
    :ivar refusals: errors by which the network or the target told that a probe was not delivered.
    :ivar refusal: the last of them, in words; empty if there was none.
    :ivar unsent_reason: why the system refused to send a probe, the last time; empty if it never did.
    :ivar void: answers whose times could not be compared, because the clock was set meanwhile.
    :ivar claim: what this host says of its clock.
    """

    def __init__(
        self,
        schedule: ProbeSchedule,
        timeout: int,
        *,
        on_answer: Callable[[JudgedAnswer], None] | None = None,
        on_loss: Callable[[int], None] | None = None,
    ) -> None:
        self.schedule = schedule
        self.ledger = ProbeLedger(timeout)
        self.directions = LossDirection()
        self.delays = OneWayDelay()
        self.clock = ClockOffset()
        self.jitter = InterarrivalJitter()
        self.statistics = ProbeStatistics()
        self.rate_limit = RateLimitPattern()
        self.series = ProbeSeries(schedule.interval)
        self.claim = ClockClaim(synchronised=False, error=0)
        self.late_sends = self.refusals = self.void = 0
        self.refusal = self.unsent_reason = ""
        self.reflector: ReflectedTimes | None = None
        self.sent_source: StampSource | None = None
        self.received_source: StampSource | None = None
        self._variation = DelayVariation()
        self._on_answer = on_answer
        self._on_loss = on_loss

    # Called by the prober

    def sent(self, sequence: int, due: int, mono: int) -> None:
        self.ledger.sent(sequence, due, mono)
        self.directions.sent(sequence + FIRST_SEQUENCE)
        self.series.sent(due - self.schedule.start)
        self.late_sends += self.schedule.is_late(sequence, mono)

    def unsent(self, sequence: int, due: int, error: OSError) -> None:
        self.ledger.unsent(sequence, due)
        self.unsent_reason = (error.strerror or str(error)).lower()

    def transmitted(self, sequence: int, mono: int) -> None:
        self.ledger.transmitted(sequence, mono)

    def answered(
        self,
        sequence: int,
        mono: int,
        source: StampSource,
        offset: int,
        *,
        void: bool = False,
        times: ReflectedTimes | None = None,
    ) -> None:
        answer = self.ledger.answered(sequence, mono, source, void=void)
        judged = JudgedAnswer(answer, answer.rtt, times=times)
        if times is not None and answer.verdict is not AnswerVerdict.FOREIGN:
            self.reflector = times
            path = self.directions.answered(sequence + FIRST_SEQUENCE, times.sequence)
            judged = JudgedAnswer(answer, answer.rtt, path=path, times=times)
        if answer.verdict in _FIRST_ANSWERS:
            self.void += void
            if answer.rtt is not None and answer.rtt_intended is not None:
                judged = self._measured(judged, answer.rtt, answer.rtt_intended, mono, offset)
            if answer.verdict is AnswerVerdict.LATE and sequence < self.ledger.decided_below:
                self.series.lost(self.schedule.time_of(sequence) - self.schedule.start, -1)
        if self._on_answer is not None:
            self._on_answer(judged)

    def secured(self, nanoseconds: int) -> None:
        self.statistics.record(DurationKind.HANDSHAKE, nanoseconds)

    def corrupted(self) -> None:
        self.ledger.corrupted()

    def foreign(self) -> None:
        self.ledger.foreign()

    def refused(self, error: OSError) -> None:
        self.refusals += 1
        self.refusal = (error.strerror or str(error)).lower()

    def advance(self, mono: int) -> bool:
        for probe in self.ledger.advance(mono):
            self.rate_limit.decided(probe.sent, probe.answered)
            if not probe.answered:
                self.series.lost(probe.due - self.schedule.start)
                if self._on_loss is not None:
                    self._on_loss(probe.sequence)
        return self.ledger.counts.pending > 0

    # The rest is private

    def _measured(self, judged: JudgedAnswer, whole: int, intended: int, mono: int, offset: int) -> JudgedAnswer:
        """Count the times of a first answer.

        :param whole: the round trip as the sender sees it.
        :param intended: the same from the moment at which the probe was due.
        """
        answer, times = judged.answer, judged.times
        self.sent_source, self.received_source = answer.sent_source, answer.received_source
        place = self.schedule.time_of(answer.sequence) - self.schedule.start
        record, rtt, sample, absolute = self.statistics.record, whole, None, None
        if times is not None:
            t4 = mono + offset
            t1 = t4 - whole
            sample = self.delays.add(t1, times.received, times.transmitted, t4, mono)
            self.clock.add(t1, times.received, times.transmitted, t4, mono)
            rtt = sample.rtt
            record(DurationKind.RESPONDER, times.transmitted - times.received)
            record(DurationKind.FORWARD_CHANGE, sample.forward_change)
            record(DurationKind.BACKWARD_CHANGE, sample.backward_change)
            self.series.value("forward", place, sample.forward_change)
            self.series.value("backward", place, sample.backward_change)
            theirs = ClockClaim(times.synchronized, round(min(times.error, 1e9) * 1e9))
            absolute = absolute_delay(sample, self.claim, theirs)
            if absolute is not None:
                record(DurationKind.FORWARD_DELAY, absolute.forward)
                record(DurationKind.BACKWARD_DELAY, absolute.backward)
        record(DurationKind.RTT, rtt)
        record(DurationKind.RTT_INTENDED, intended)
        self.series.value("rtt", place, rtt)
        self.series.value("rtt_intended", place, intended)
        self.jitter.add(rtt)
        for difference in self._variation.add(answer.sequence, rtt):
            record(DurationKind.DELAY_VARIATION, abs(difference))
        return JudgedAnswer(answer, rtt, sample, absolute, judged.path, times)
