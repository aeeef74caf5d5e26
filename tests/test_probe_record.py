"""The record of a target: its verdicts, counts and summaries."""

from __future__ import annotations

import errno

import pytest

from netsvc.probe.one_way_delay import ClockClaim
from netsvc.probe.probe_dialects import ReflectedTimes
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_ledger import MEMORY_TIME, LedgerError
from netsvc.probe.probe_record import ERRORS_MAX, ProbeRecord
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeProtocol, ProbeTarget
from tests.probe_memory import GROWTH_MAX, grown

MS = 1_000_000
SECOND = 1_000 * MS
TIMEOUT = SECOND
OFFSET = 1_800_000_000 * SECOND

#: By this the clock of the reflector is ahead.
AHEAD = 7 * SECOND


class Recording:
    """A record whose probes are due each 10 ms.

    :ivar events: what it has told.
    """

    def __init__(self, protocol: ProbeProtocol = "stamp") -> None:
        self.events: list[ProbeEvent] = []
        self.record = ProbeRecord(
            ProbeTarget(protocol, "host", 9),
            "192.0.2.1:9",
            ProbeSchedule(0, 10 * MS),
            TIMEOUT,
            OFFSET,
            on_event=self.events.append,
        )

    def send(self, *numbers: int, late: int = 0) -> None:
        for number in numbers:
            self.record.sent(number, number * 10 * MS, number * 10 * MS + late)

    def answer(
        self, number: int, counter: int | None = None, *, there: int = MS, back: int = MS, void: bool = False
    ) -> ProbeEvent:
        """Answer a probe, on the way back with the counter of a reflector, and return the event."""
        sent = number * 10 * MS
        times = None
        if counter is not None:
            arrived = sent + there + OFFSET + AHEAD
            times = ReflectedTimes(counter, arrived, arrived + MS, True, 0.002, 64)
        self.record.answered(
            number, sent + there + back + MS * (counter is not None), "kernel", OFFSET, void=void, times=times
        )
        return self.events[-1]

    def advance(self, milliseconds: int) -> ProbeSummary:
        self.record.advance(milliseconds * MS)
        return self.record.total(milliseconds * MS)

    @property
    def lost_in_series(self) -> int:
        return sum(interval.lost for interval in self.record.series)


def test_the_time_of_the_reflector_and_the_difference_of_the_clocks_are_no_part_of_the_delays() -> None:
    recording = Recording()
    recording.send(0, 1)
    recording.answer(0, 0, there=5 * MS, back=9 * MS)
    event = recording.answer(1, 1, there=7 * MS, back=8 * MS)
    assert (event.rtt, event.rtt_intended) == (15 * MS, 16 * MS)  # the reflector took 1 ms
    assert (event.there_change, event.back_change) == (2 * MS, 0)
    assert event.there_delay is None
    summary = recording.advance(100)
    assert summary.durations["responder"].maximum == MS
    assert summary.clock is not None
    assert summary.clock.estimate is not None
    assert abs(summary.clock.estimate.offset - AHEAD) <= summary.clock.estimate.offset_uncertainty


def test_absolute_delays_are_told_only_while_both_clocks_claim_to_be_right() -> None:
    recording = Recording()
    recording.send(0, 1, 2)
    assert recording.answer(0, 0).there_delay is None
    recording.record.claim = ClockClaim(synchronised=True, error=3 * MS)
    event = recording.answer(1, 1)
    assert (event.there_delay, event.back_delay, event.delay_uncertainty) == (MS + AHEAD, MS - AHEAD, 5 * MS)
    recording.record.claim = ClockClaim(synchronised=False, error=3 * MS)
    assert recording.answer(2, 2).there_delay is None


def test_losses_are_told_by_direction_although_the_numbers_of_stamp_begin_with_1() -> None:
    recording = Recording()
    recording.send(*range(6))
    for number, counter in ((0, 0), (2, 1), (5, 4)):  # 1 was lost there; 3 and 4 arrived
        recording.answer(number, counter)
    direction = recording.advance(2_000).direction
    assert direction is not None
    assert (direction.stateful, direction.lost_there, direction.lost_back, direction.lost_unknown) == (True, 1, 2, 0)


def test_a_probe_that_was_not_sent_is_no_loss_of_a_direction() -> None:
    recording = Recording()
    recording.send(0)
    recording.record.unsent(1, 10 * MS, OSError(errno.ENOBUFS, "No buffer space available"))
    recording.send(2)
    recording.answer(0, 0)
    recording.answer(2, 1)
    summary = recording.advance(2_000)
    assert summary.direction is not None
    assert (summary.counts.unsent, summary.counts.lost, summary.direction.lost_there) == (1, 0, 0)
    assert summary.errors == {"no buffer space available": 1}
    assert [event.error for event in recording.events if event.kind == "unsent"] == ["no buffer space available"]


def test_a_late_answer_takes_its_probe_from_the_losses_of_the_count_the_directions_and_the_course() -> None:
    recording = Recording()
    recording.send(0, 1)
    recording.answer(0, 0)
    assert recording.advance(1_500).counts.lost == recording.lost_in_series == 1
    event = recording.answer(1, 1, back=1_400 * MS)
    assert (event.kind, event.rtt) == ("late", 1_401 * MS)
    summary = recording.advance(1_600)
    assert summary.direction is not None
    assert (summary.counts.lost, summary.counts.late, recording.lost_in_series) == (0, 1, 0)
    assert summary.direction.lost_there + summary.direction.lost_back + summary.direction.lost_unknown == 0


def test_an_answer_in_time_that_is_processed_late_takes_its_probe_from_the_losses_too() -> None:
    """The process stood still, and the kernel has the time at which the answer arrived."""
    recording = Recording("udp-echo")
    recording.send(0)
    assert recording.advance(1_500).counts.lost == recording.lost_in_series == 1
    assert recording.answer(0).kind == "answered"
    assert recording.advance(1_600).counts.lost == recording.lost_in_series == 0


def test_a_late_answer_before_anyone_has_looked_was_never_lost() -> None:
    recording = Recording("udp-echo")
    recording.send(0)
    assert recording.answer(0, back=1_100 * MS).kind == "late"
    recording.advance(2_000)
    assert recording.lost_in_series == 0
    assert [event.kind for event in recording.events] == ["late"]


def test_a_void_answer_counts_and_has_no_times() -> None:
    recording = Recording()
    recording.send(0, 1)
    recording.answer(0, 0)
    event = recording.answer(1, 1, void=True)
    assert (event.kind, event.rtt, event.there_change) == ("answered", None, None)
    summary = recording.advance(100)
    assert (summary.counts.answered, summary.void_times, summary.durations["rtt"].count) == (2, 1, 1)


def test_duplicates_have_no_times_and_tell_their_direction() -> None:
    recording = Recording()
    recording.send(0, 1)
    recording.answer(0, 0)
    again = recording.answer(0, 0), recording.answer(0, 1)
    assert [(event.kind, event.rtt, event.duplicated) for event in again] == [
        ("duplicate", None, "back"),
        ("duplicate", None, "there"),
    ]
    assert recording.advance(100).durations["rtt"].count == 1


def test_an_answer_to_a_probe_that_was_never_sent_changes_nothing_but_its_count() -> None:
    recording = Recording()
    recording.send(0)
    assert recording.answer(5, 0).kind == "foreign"
    summary = recording.advance(100)
    assert (summary.counts.foreign, summary.counts.pending, summary.durations) == (1, 1, {})


def test_late_sends_are_those_that_the_schedule_does_not_allow() -> None:
    recording = Recording("udp-echo")
    recording.send(0, late=MS)
    recording.send(1, late=MS + 1)
    assert recording.advance(20).late_sends == 1


def test_the_answers_of_tcp_are_connections() -> None:
    recording = Recording("tcp")
    recording.send(0)
    event = recording.answer(0)
    assert (event.connect, event.rtt) == (2 * MS, None)
    assert set(recording.advance(20).durations) == {"connect"}


def test_an_interval_has_what_happened_since_the_last_one() -> None:
    recording = Recording("udp-echo")
    recording.send(0, 1)
    recording.answer(0)
    recording.record.refused(OSError(errno.ECONNREFUSED, "Connection refused"))
    first = recording.record.interval(20 * MS)
    assert (first.counts.sent, first.counts.answered, first.started) == (2, 1, OFFSET)
    recording.send(2)
    recording.answer(1)
    recording.record.refused(OSError(errno.ECONNREFUSED, "Connection refused"), 3)
    second = recording.record.interval(50 * MS)
    assert (second.counts.sent, second.counts.answered, second.counts.pending) == (1, 1, 1)
    assert (second.started, second.duration) == (OFFSET + 20 * MS, 30 * MS)
    assert (second.errors, recording.record.total(50 * MS).errors) == (
        {"connection refused": 3},
        {"connection refused": 4},
    )
    assert second.durations["rtt"].count == 1
    assert recording.record.total(50 * MS).durations["rtt"].count == 2


def test_errors_are_counted_by_their_words_and_those_beyond_a_number_together() -> None:
    recording = Recording("udp-echo")
    for number in range(ERRORS_MAX + 5):
        recording.record.refused(OSError(number, f"Error {number}"))
    errors = recording.advance(0).errors
    assert len(errors) == ERRORS_MAX + 1
    assert (errors["error 0"], errors["other errors"]) == (1, 5)


def test_a_probe_that_is_recorded_twice_is_a_fault_of_the_caller_and_changes_nothing() -> None:
    recording = Recording()
    recording.send(0)
    with pytest.raises(LedgerError):
        recording.send(0)
    summary = recording.advance(0)
    assert (summary.counts.sent, summary.late_sends) == (1, 0)
    assert sum(interval.sent for interval in recording.record.series) == 1


def test_directions_are_forgotten_with_the_probes() -> None:
    recording = Recording()
    recording.send(0, 1)
    recording.answer(1, 0)
    seconds = (MEMORY_TIME + TIMEOUT) // SECOND + 1
    recording.advance(seconds * 1_000)
    event = recording.answer(0, 1)
    assert (event.kind, event.duplicated) == ("forgotten", None)
    direction = recording.advance(seconds * 1_000).direction
    assert direction is not None
    assert (direction.lost_there, direction.lost_back + direction.lost_unknown) == (1, 0)


def test_memory_does_not_grow_after_the_first_minutes() -> None:
    sizes = list(grown(rate=15, minutes=13))
    assert sizes[-1] - sizes[-11] < GROWTH_MAX
