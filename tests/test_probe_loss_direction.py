"""Each scenario is a list of questions. A simulation carries them there and back, and knows the truth."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from netsvc.probe.loss_direction import AnswerPath, DirectionCounts, LossDirection

#: For each copy of a question that arrives, its delay; for each copy of the answer that arrives, its delay.
Path = list[tuple[int, list[int]]]


@dataclass
class Truth:
    """The fates of the questions, as the two paths decided them."""

    there: int = 0
    back: int = 0
    tail: int = 0  # questions without an answer after the last answered one
    after: int = 0  # questions that reached the reflector after the last one whose answer is known
    hidden: int = 0  # copies of questions without an answer, beside the first
    duplicates_there: int = 0
    duplicates_back: int = 0
    reordered_back: int = 0
    reordered_there: int = 0
    answers: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Simulation:
    """Sends question i at time 10 * i, and records the answers."""

    paths: list[Path]
    direction: LossDirection = field(default_factory=LossDirection)
    stateless: bool = False
    base: int = 0
    truth: Truth = field(default_factory=Truth)

    def arrivals(self) -> list[tuple[int, int, list[int]]]:
        """Return the time, the question and the answers of each arrival at the reflector, in their order."""
        copies = [
            (10 * sequence + delay, sequence, number, answers)
            for sequence, path in enumerate(self.paths)
            for number, (delay, answers) in enumerate(path)
        ]
        return [(time, sequence, answers) for time, sequence, _, answers in sorted(copies, key=lambda one: one[:3])]

    def run(self) -> DirectionCounts:
        """Run the scenario, and compare each verdict on an answer."""
        events: list[tuple[int, int, int, int | None]] = [
            (10 * sequence, 0, sequence, None) for sequence in range(len(self.paths))
        ]
        seen_counters: dict[int, list[int]] = {}
        for counter, (time, sequence, answers) in enumerate(self.arrivals()):
            number = sequence if self.stateless else counter + self.base
            events += [(time + delay, 1, sequence, number % 2**32) for delay in answers]
            if answers:
                seen_counters.setdefault(sequence, []).append(counter)
        seen: set[tuple[int, int]] = set()
        for _, _, sequence, value in sorted(events, key=lambda one: one[:2]):
            if value is None:
                self.direction.sent(sequence)
                continue
            path = self.direction.answered(sequence, value)
            if (sequence, value) in seen:
                assert path is AnswerPath.DUPLICATED_BACK
                self.truth.duplicates_back += 1
            elif sequence in {other for other, _ in seen}:
                assert path is AnswerPath.DUPLICATED_THERE
                self.truth.duplicates_there += 1
            else:
                assert path is AnswerPath.FIRST
                self.truth.reordered_back += any((other - value) % 2**32 < 2**31 for _, other in seen)
            seen.add((sequence, value))
        highest = max((max(counters) for counters in seen_counters.values()), default=-1)
        arrived = {sequence for _, sequence, _ in self.arrivals()[: highest + 1]}
        self.truth.after = sum(
            bool(path) and sequence not in arrived and sequence <= max(seen_counters, default=-1)
            for sequence, path in enumerate(self.paths)
        )
        self._judge(seen_counters)
        return self.direction.counts(len(self.paths))

    def _judge(self, seen: dict[int, list[int]]) -> None:
        truth = self.truth
        last = max(seen, default=-1)
        for sequence, path in enumerate(self.paths):
            silent = sum(not answers for _, answers in path)
            if sequence in seen:
                truth.hidden += silent
            elif not path:
                truth.there += 1
            else:
                truth.back += 1
                truth.hidden += silent - 1
            truth.tail += sequence > last and sequence not in seen
        first = sorted((min(counters), sequence) for sequence, counters in seen.items())
        truth.reordered_there = sum(
            any(other > sequence for _, other in first[:place]) for place, (_, sequence) in enumerate(first)
        )


def paths(
    *, delay_there: int = 0, copies_there: int = 1, delay_back: int = 60, copies_back: int = 2
) -> st.SearchStrategy[list[Path]]:
    answers = st.lists(st.integers(0, delay_back), max_size=copies_back)
    return st.lists(st.lists(st.tuples(st.integers(0, delay_there), answers), max_size=copies_there), max_size=40)


@given(paths(), st.sampled_from([0, 2**32 - 20]))
@settings(max_examples=500)
def test_without_reordering_and_duplicates_there_every_loss_before_the_last_answer_is_exact(
    scenario: list[Path], base: int
) -> None:
    simulation = Simulation(scenario, LossDirection(stateful=True), base=0)
    counts, truth = simulation.run(), simulation.truth
    assert counts.lost_unknown == truth.tail
    assert counts.lost_there <= truth.there <= counts.lost_there + truth.tail
    assert counts.lost_back <= truth.back <= counts.lost_back + truth.tail
    assert (counts.duplicates_there, counts.duplicates_back) == (0, truth.duplicates_back)
    assert (counts.reordered_there, counts.reordered_back) == (0, truth.reordered_back)


@given(paths(delay_there=60))
@settings(max_examples=500)
def test_with_reordering_there_no_loss_is_told_wrongly(scenario: list[Path]) -> None:
    simulation = Simulation(scenario, LossDirection(stateful=True))
    counts, truth = simulation.run(), simulation.truth
    assert counts.lost_there - truth.after <= truth.there <= counts.lost_there + counts.lost_unknown
    assert counts.lost_back <= truth.back <= counts.lost_back + counts.lost_unknown + truth.after
    assert counts.lost_there + counts.lost_back + counts.lost_unknown == truth.there + truth.back
    assert counts.reordered_back == truth.reordered_back


@given(paths(delay_there=60, copies_there=3))
@settings(max_examples=1000)
def test_with_duplicates_there_each_error_needs_a_copy_whose_answer_was_lost(scenario: list[Path]) -> None:
    simulation = Simulation(scenario, LossDirection(stateful=True))
    counts, truth = simulation.run(), simulation.truth
    event(f"unknown {counts.lost_unknown > truth.tail}")
    assert counts.lost_there - truth.after <= truth.there <= counts.lost_there + counts.lost_unknown + truth.hidden
    assert counts.lost_back - truth.hidden <= truth.back <= counts.lost_back + counts.lost_unknown + truth.after
    assert counts.lost_there + counts.lost_back + counts.lost_unknown == truth.there + truth.back
    assert (counts.duplicates_there, counts.duplicates_back) == (truth.duplicates_there, truth.duplicates_back)
    assert counts.reordered_there == truth.reordered_there
    assert counts.restarts == 0


@given(paths(delay_there=60, copies_there=1), st.sampled_from([5000, 2**32 - 20]))
def test_a_reflector_that_counted_already_hides_the_losses_before_its_first_answer(
    scenario: list[Path], base: int
) -> None:
    in_order: list[Path] = [[(0, path[0][1])] if path else [] for path in scenario]
    simulation = Simulation(in_order, LossDirection(stateful=True), base=base)
    counts, truth = simulation.run(), simulation.truth
    answered = [sequence for sequence, path in enumerate(in_order) if path and path[0][1]]
    before = answered[0] if answered else 0
    assert counts.lost_unknown <= truth.tail + before
    assert counts.lost_there <= truth.there <= counts.lost_there + counts.lost_unknown
    assert counts.lost_back <= truth.back <= counts.lost_back + counts.lost_unknown
    assert counts.restarts == 0


@given(paths(delay_there=60, copies_there=3))
def test_a_stateless_reflector_is_recognised_and_its_losses_are_unknown(scenario: list[Path]) -> None:
    direction = LossDirection()
    lost = 0
    for sequence, path in enumerate(scenario):
        direction.sent(sequence)
        answers = sum(len(answers) for _, answers in path)
        for _ in range(answers):
            direction.answered(sequence, sequence)
        lost += not answers
    assert direction.counts(len(scenario)) == DirectionCounts(
        lost_unknown=lost,
        duplicates_unknown=sum(max(0, sum(len(answers) for _, answers in path) - 1) for path in scenario),
    )


def test_one_question_that_was_not_sent_shows_that_a_reflector_counts_by_itself() -> None:
    direction = LossDirection()
    for sequence, counter in [(1, 0), (2, None), (3, 2), (4, None), (5, 3)]:
        direction.sent(sequence)
        if counter is not None:
            direction.answered(sequence, counter)
    counts = direction.counts(6)
    assert (counts.stateful, counts.lost_there, counts.lost_back, counts.lost_unknown) == (True, 1, 1, 0)


def test_losses_become_known_when_the_first_loss_there_shows_that_the_reflector_counts() -> None:
    direction = LossDirection()
    for sequence, counter in [(0, 0), (1, None), (2, 2)]:
        direction.sent(sequence)
        if counter is not None:
            direction.answered(sequence, counter)
    assert direction.counts(3) == DirectionCounts(lost_unknown=1)
    direction.sent(3)
    direction.sent(4)
    direction.answered(4, 3)
    assert direction.counts(5) == DirectionCounts(stateful=True, lost_there=1, lost_back=1)


def test_a_restart_of_the_reflector_hides_only_the_losses_around_it() -> None:
    direction = LossDirection()
    for sequence in range(100):
        direction.sent(sequence)
        if sequence < 40 and sequence != 20:  # 20 was lost back
            direction.answered(sequence, sequence)
        elif sequence >= 50 and sequence != 70:  # 40 to 49 during the restart, 70 lost there
            direction.answered(sequence, sequence - 50 - (sequence > 70))
    counts = direction.counts(100)
    assert (counts.restarts, counts.lost_there, counts.lost_back, counts.lost_unknown) == (1, 1, 1, 10)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 5))
def test_every_restart_is_found_however_often_it_happens(lengths: list[int], delay: int) -> None:
    """The answers are ``delay`` questions late."""
    direction = LossDirection(stateful=True)
    points = [(first, counter) for first, length in enumerate(lengths) for counter in range(length)]
    for sequence in range(len(points) + delay):
        if sequence < len(points):
            direction.sent(sequence)
        if sequence >= delay:
            direction.answered(sequence - delay, points[sequence - delay][1])
        direction.forget_below(sequence - delay - 3)
    counts = direction.counts(len(points))
    # A run that is shorter than the delay ends before its restart can be seen.
    if min(lengths) > delay:
        assert counts == DirectionCounts(stateful=True, restarts=len(lengths) - 1)


def carried(
    seed: int, number: int, *, duplicates: bool
) -> tuple[list[tuple[int, int, int, int | None]], list[tuple[int, int, list[int]]], list[Path]]:
    chance = random.Random(seed)
    scenario: list[Path] = []
    for _ in range(number):
        copies = 0 if chance.random() < 0.1 else 2 if duplicates and chance.random() < 0.03 else 1
        scenario.append(
            [
                (
                    chance.randrange(25) if chance.random() < 0.05 else 0,
                    [chance.randrange(40) for _ in range(0 if chance.random() < 0.1 else 1)],
                )
                for _ in range(copies)
            ]
        )
    simulation = Simulation(scenario)
    arrivals = simulation.arrivals()
    events: list[tuple[int, int, int, int | None]] = [(10 * sequence, 0, sequence, None) for sequence in range(number)]
    for counter, (time, sequence, answers) in enumerate(arrivals):
        events += [(time + delay, 1, sequence, counter) for delay in answers]
    return sorted(events, key=lambda one: one[:2]), arrivals, scenario


@pytest.mark.parametrize("distance", [1, 7, 1024])
@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_reading_the_counts_and_forgetting_old_questions_changes_no_result(
    seed: int, duplicates: bool, distance: int
) -> None:
    events, _, _ = carried(seed, 1000, duplicates=duplicates)
    whole, piecewise = LossDirection(stateful=True), LossDirection(stateful=True, checkpoint_distance=distance)
    chance = random.Random(seed)
    sent = 0
    for _, _, sequence, counter in events:
        for direction in (whole, piecewise):
            if counter is None:
                direction.sent(sequence)
                sent = sequence
            else:
                direction.answered(sequence, counter)
        if chance.random() < 0.2:
            piecewise.counts(max(0, sent - chance.randrange(10)))
        if chance.random() < 0.2:
            piecewise.forget_below(sent - 12)
    assert piecewise.counts(1000) == whole.counts(1000)


@pytest.mark.parametrize("seed", range(10))
def test_the_losses_of_a_bad_network_are_told_nearly_all(seed: int) -> None:
    simulation = Simulation(carried(seed, 2000, duplicates=True)[2], LossDirection(stateful=True))
    counts, truth = simulation.run(), simulation.truth
    assert abs(counts.lost_there - truth.there) <= counts.lost_unknown + truth.hidden
    assert counts.lost_unknown < 0.15 * (truth.there + truth.back)


@given(st.lists(st.tuples(st.integers(-1, 25), st.integers(0, 2**32 - 1) | st.integers(0, 40)), max_size=80))
@settings(max_examples=500)
def test_a_reflector_that_lies_changes_no_total(answers: list[tuple[int, int]]) -> None:
    direction = LossDirection()
    sent = 0
    usable: set[int] = set()
    for place, (sequence, counter) in enumerate(answers):
        if sequence < 0 or place % 3 == 0:
            direction.sent(sent)
            sent += 1
        elif direction.answered(sequence, counter) is not AnswerPath.UNUSABLE:
            usable.add(sequence)
        if place % 7 == 0:
            direction.counts(sent)
    counts = direction.counts(sent)
    lost = counts.lost_there + counts.lost_back + counts.lost_unknown
    assert 0 <= lost <= sent - len(usable)
    assert min(counts.lost_there, counts.lost_back, counts.lost_unknown) >= 0
    direction.forget_below(sent)
    assert direction.answered(0, 0) is AnswerPath.UNUSABLE


def test_memory_is_bounded_in_outages_and_when_an_answer_arrives_a_thousand_times() -> None:
    direction = LossDirection(window=500)
    for sequence in range(5_000):
        direction.sent(sequence)
    for counter in range(1_000):
        direction.answered(4_999, counter)
    [segment] = direction._segments
    assert max(len(segment.floors), len(segment.arrivals), len(segment.question)) <= 500
    assert direction.counts(5_000).lost_unknown + direction.counts(5_000).lost_there == 4_999


@pytest.mark.parametrize(
    ("points", "there", "back", "unknown"),
    [
        ([(0, 0), (2, 1)], 1, 0, 0),
        ([(0, 0), (2, 2)], 0, 1, 0),
        ([(0, 0), (3, 2)], 1, 1, 0),
        ([(0, 0), (2, 2), (2, 3)], 0, 0, 1),  # counter 1 was question 1, or another copy of question 2
        ([(0, 0), (2, 1), (2, 2)], 1, 0, 0),
        ([(0, 0), (1, 2)], 0, 0, 0),  # counter 1 was a copy
        ([(0, 0), (1, 2), (3, 3)], 0, 0, 1),  # counter 1 was a copy, or question 2 in another order
        ([(0, 0), (2, 1), (1, 2), (4, 3), (5, 5)], 0, 1, 0),  # the same where such an order was seen
        ([(0, 0)], 0, 0, 0),
    ],
)
def test_the_smallest_cases_are_judged_as_documented(
    points: list[tuple[int, int]], there: int, back: int, unknown: int
) -> None:
    direction = LossDirection(stateful=True)
    number = max(sequence for sequence, _ in points) + 1
    for sequence in range(number):
        direction.sent(sequence)
    for sequence, counter in points:
        direction.answered(sequence, counter)
    counts = direction.counts(number)
    assert (counts.lost_there, counts.lost_back, counts.lost_unknown) == (there, back, unknown)
