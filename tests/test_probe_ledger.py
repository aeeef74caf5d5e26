from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netsvc.probe.probe_ledger import AnswerVerdict, DecidedProbe, LedgerCounts, LedgerError, ProbeLedger

TIMEOUT = 1_000
SECOND = 1_000_000_000


@dataclass
class ModelProbe:
    sent: int | None
    due: int
    first_answer: int | None = None


@dataclass
class Model:
    """The same verdicts, with unbounded memory and without care for speed."""

    probes: dict[int, ModelProbe] = field(default_factory=dict)
    arrivals: list[int] = field(default_factory=list)
    duplicates: int = 0
    foreign: int = 0
    extents: list[int] = field(default_factory=list)

    def answered(self, sequence: int, received: int) -> tuple[AnswerVerdict, int]:
        probe = self.probes.get(sequence)
        if probe is None or probe.sent is None:
            self.foreign += 1
            return AnswerVerdict.FOREIGN, 0
        if probe.first_answer is not None:
            self.duplicates += 1
            return AnswerVerdict.DUPLICATE, 0
        probe.first_answer = received
        larger = [place for place, earlier in enumerate(self.arrivals) if earlier > sequence]
        extent = len(self.arrivals) - larger[0] if larger else 0
        self.arrivals.append(sequence)
        self.extents.append(extent)
        late = received - probe.sent > TIMEOUT
        return (AnswerVerdict.LATE if late else AnswerVerdict.ANSWERED), extent

    def counts(self, now: int) -> LedgerCounts:
        sent = [probe for probe in self.probes.values() if probe.sent is not None]
        times = [
            (probe.first_answer - probe.sent)
            for probe in sent
            if probe.sent is not None and probe.first_answer is not None
        ]
        # advance() stops at the first probe that is pending, so the probes are decided in their order.
        silent = [now - probe.sent > TIMEOUT for probe in sent if probe.sent is not None and probe.first_answer is None]
        lost = silent.index(False) if False in silent else len(silent)
        return LedgerCounts(
            attempted=len(self.probes),
            sent=len(sent),
            unsent=len(self.probes) - len(sent),
            answered=sum(time <= TIMEOUT for time in times),
            late=sum(time > TIMEOUT for time in times),
            lost=lost,
            pending=len(silent) - lost,
            duplicates=self.duplicates,
            reordered=sum(extent > 0 for extent in self.extents),
            reordering_extent_max=max(self.extents, default=0),
            foreign=self.foreign,
        )


class LedgerBesideModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = ProbeLedger(TIMEOUT)
        self.model = Model()
        self.now = 0
        self.next = 0
        self.decided: list[DecidedProbe] = []

    @rule(elapsed=st.integers(0, 700))
    def time_passes(self, elapsed: int) -> None:
        self.now += elapsed

    @rule(number=st.integers(1, 5), gap=st.sampled_from([0, 0, 0, 2]), delay=st.integers(0, 300))
    def probes_leave(self, number: int, gap: int, delay: int) -> None:
        self.next += gap
        for _ in range(number):
            self.ledger.sent(self.next, self.now - delay, self.now)
            self.model.probes[self.next] = ModelProbe(self.now, self.now - delay)
            self.next += 1

    @rule()
    def a_send_fails(self) -> None:
        self.ledger.unsent(self.next, self.now)
        self.model.probes[self.next] = ModelProbe(None, self.now)
        self.next += 1

    @precondition(lambda self: self.next)
    @rule(data=st.data(), stalled=st.integers(0, 500))
    def an_answer_is_processed(self, data: st.DataObject, stalled: int) -> None:
        """The kernel received it ``stalled`` before, perhaps before the timeout, while the process did not run."""
        sequence = data.draw(st.integers(max(0, self.next - 8), self.next))
        received = self.now - stalled
        verdict, extent = self.model.answered(sequence, received)
        answer = self.ledger.answered(sequence, received, "kernel")
        assert (answer.verdict, answer.extent, answer.reordered) == (verdict, extent, extent > 0)
        if verdict is not AnswerVerdict.FOREIGN:
            probe = self.model.probes[sequence]
            assert probe.sent is not None
            assert (answer.rtt, answer.rtt_intended) == (received - probe.sent, received - probe.due)
            assert (answer.sent_source, answer.received_source) == ("process", "kernel")

    @rule()
    def the_ledger_decides(self) -> None:
        self.decided += self.ledger.advance(self.now)
        assert self.ledger.counts == self.model.counts(self.now)
        expected = [sequence for sequence, probe in self.model.probes.items() if probe.sent is not None]
        assert [probe.sequence for probe in self.decided] == expected[: len(self.decided)]
        undecided = expected[len(self.decided) :]
        assert not undecided or self.model.probes[undecided[0]].first_answer is None
        assert self.ledger.decided_below >= len(self.decided)

    @invariant()
    def the_totals_add_up(self) -> None:
        counts = self.ledger.counts
        assert counts.attempted == len(self.model.probes)
        assert counts.attempted == counts.sent + counts.unsent
        assert counts.sent == counts.answered + counts.late + counts.lost + counts.pending
        assert min(counts.answered, counts.late, counts.lost, counts.pending, counts.unsent) >= 0


TestLedgerBesideModel = LedgerBesideModel.TestCase


def test_an_answer_at_the_timeout_is_in_time_and_one_after_it_is_late_and_no_longer_lost() -> None:
    ledger = ProbeLedger(TIMEOUT)
    ledger.sent(0, 0, 0)
    ledger.sent(1, 0, 0)
    ledger.advance(TIMEOUT)
    assert ledger.counts.pending == 2
    ledger.advance(TIMEOUT + 1)
    assert ledger.counts.lost == 2
    assert ledger.answered(0, TIMEOUT).verdict is AnswerVerdict.ANSWERED
    assert ledger.answered(1, TIMEOUT + 1).verdict is AnswerVerdict.LATE
    assert ledger.answered(1, TIMEOUT + 2).verdict is AnswerVerdict.DUPLICATE
    counts = ledger.counts
    assert (counts.answered, counts.late, counts.lost, counts.duplicates) == (1, 1, 0, 1)


def test_the_time_from_the_intended_send_includes_the_delay_of_the_sender() -> None:
    ledger = ProbeLedger(SECOND)
    ledger.sent(0, due=100, sent=5_100)
    answer = ledger.answered(0, 5_130)
    assert (answer.rtt, answer.rtt_intended) == (30, 5_030)


def test_a_transmit_stamp_of_the_kernel_replaces_the_time_of_the_send() -> None:
    ledger = ProbeLedger(SECOND)
    ledger.sent(0, 0, 1_000)
    ledger.transmitted(0, 1_040)
    ledger.transmitted(7, 9)
    answer = ledger.answered(0, 2_000, "kernel")
    assert (answer.rtt, answer.sent_source, answer.received_source) == (960, "kernel", "kernel")
    ledger.transmitted(0, 1_500)
    assert ledger.answered(0, 2_000).rtt == 960


def test_an_answer_with_void_times_counts_and_has_no_round_trip_time() -> None:
    ledger = ProbeLedger(SECOND)
    ledger.sent(0, 0, 0)
    answer = ledger.answered(0, 50, void=True)
    assert (answer.verdict, answer.rtt, answer.rtt_intended) == (AnswerVerdict.ANSWERED, None, None)


def test_corrupted_and_foreign_answers_leave_the_probe_pending() -> None:
    ledger = ProbeLedger(SECOND)
    ledger.sent(0, 0, 0)
    ledger.corrupted()
    ledger.foreign()
    counts = ledger.counts
    assert (counts.pending, counts.corrupted, counts.foreign) == (1, 1, 1)


@pytest.mark.parametrize(
    ("arrivals", "reordered", "extents"),
    [
        ([1, 2, 3, 5, 6, 7, 8, 4, 9, 10], {4}, [0, 0, 0, 0, 0, 0, 0, 4, 0, 0]),
        ([1, 2, 3, 7, 4, 5, 6, 8], {4, 5, 6}, [0, 0, 0, 0, 1, 2, 3, 0]),
        ([1, 2, 3, 5, 4, 6], {4}, [0, 0, 0, 0, 1, 0]),
        ([1, 2, 4, 7], set(), [0, 0, 0, 0]),
    ],
)
def test_reordering_is_that_of_rfc_4737(arrivals: list[int], reordered: set[int], extents: list[int]) -> None:
    ledger = ProbeLedger(SECOND)
    for sequence in range(11):
        ledger.sent(sequence, 0, 0)
    answers = [ledger.answered(sequence, 1) for sequence in arrivals]
    assert {answer.sequence for answer in answers if answer.reordered} == reordered
    assert [answer.extent for answer in answers] == extents


def test_answers_are_recognised_until_the_memory_ends_and_then_change_nothing() -> None:
    ledger = ProbeLedger(TIMEOUT, memory_time=SECOND)
    ledger.sent(0, 0, 0)
    ledger.advance(TIMEOUT + SECOND)
    assert ledger.remembered_from == 0
    ledger.advance(TIMEOUT + SECOND + 1)
    assert ledger.remembered_from == 1
    assert ledger.answered(0, TIMEOUT + SECOND + 2).verdict is AnswerVerdict.FORGOTTEN
    counts = ledger.counts
    assert (counts.lost, counts.late, counts.forgotten) == (1, 0, 1)


@given(st.integers(1, 40), st.integers(1, 3000))
@settings(max_examples=30)
def test_memory_is_bounded_however_many_probes_are_outstanding(memory: int, number: int) -> None:
    ledger = ProbeLedger(SECOND, memory_probes=memory)
    for sequence in range(number):
        ledger.sent(sequence, sequence, sequence)
    decided = ledger.advance(0)
    assert decided == [DecidedProbe(sequence, sequence, False) for sequence in range(max(0, number - memory))][-memory:]
    counts = ledger.counts
    assert (counts.pending, counts.lost) == (min(number, memory), max(0, number - memory))
    assert [ledger.answered(sequence, number).verdict for sequence in range(number)] == [
        AnswerVerdict.FORGOTTEN if sequence < number - memory else AnswerVerdict.ANSWERED for sequence in range(number)
    ]


def test_the_ring_keeps_every_probe_when_it_grows() -> None:
    ledger = ProbeLedger(SECOND)
    for sequence in range(5_000):
        ledger.sent(sequence, sequence, 2 * sequence)
        if sequence % 3 == 0:
            ledger.answered(sequence, 2 * sequence + 7)
        if sequence == 2_000:
            ledger.advance(2 * sequence)
    for sequence in range(5_000):
        answer = ledger.answered(sequence, 2 * sequence + 9)
        assert answer.rtt == 9
        assert (answer.verdict is AnswerVerdict.DUPLICATE) == (sequence % 3 == 0)


def test_a_probe_that_the_system_refused_has_no_answer() -> None:
    ledger = ProbeLedger(TIMEOUT)
    ledger.unsent(0, 0)
    assert ledger.answered(0, 1).verdict is AnswerVerdict.FOREIGN
    ledger.advance(SECOND)
    assert (ledger.counts.attempted, ledger.counts.unsent, ledger.counts.lost) == (1, 1, 0)


def test_probes_are_recorded_in_their_order() -> None:
    ledger = ProbeLedger(SECOND, memory_probes=10)
    ledger.sent(3, 0, 0)
    with pytest.raises(LedgerError, match="probe 3 was recorded after probe 3"):
        ledger.sent(3, 0, 0)
    with pytest.raises(LedgerError, match="too many were left out"):
        ledger.sent(100, 0, 0)
    with pytest.raises(LedgerError, match="at least 1 ns"):
        ProbeLedger(0)
