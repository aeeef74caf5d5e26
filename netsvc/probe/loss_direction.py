"""Where probes were lost: on the way there, or on the way back. A stateful STAMP reflector makes this known.

The answer to question s carries s and the reflector's own counter r, which numbers its answers of this session (RFC
8762, 4.2). So the answers are points (s, r). A number s that is missing is a question without an answer. A number r
that is missing is a question that arrived, and whose answer was lost. Two numbers s for one answer cannot be; two
numbers r for one s are a question that was duplicated on the way there; the same point twice is an answer that was
duplicated on the way back.

The points are cut into blocks: between two blocks, both s and r of all points increase. Without reordering on the way
there, a block is one answer with the gap before it. In a block, n questions have no answer and k counters are missing:

- k = 0: all n were lost there. n = 0: nothing was lost.
- 0 < k <= n: k were lost back, n - k there.
- A duplicate there was seen in the block: each of the missing counters may be another copy of it. min(n, k) are
  unknown.
- k > n: there is a surplus of k - n. These questions belong to another block, because they were overtaken on the way
  there; or they are duplicates, whose answers were lost. The surplus is set against questions that count as lost there
  in blocks nearby. These become lost back if reordering there was seen and duplicates there were not; else unknown.
- After the last point, no counter tells anything: unknown.

So one assumption remains. A question that was duplicated there, with the answer to one copy lost, next to a question
that was lost there, looks as a question whose answer was lost. It needs three events in one block. The result is off
by at most one for each of them.

A stateless reflector copies s into r. As long as r equals s in all answers, it cannot be told from a stateful one
behind a path that loses nothing there, and all losses are unknown. One question that is left out on purpose tells them
apart: a stateful reflector does not count it.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import dataclass, field
from enum import Enum

#: The number of questions that are remembered at most.
WINDOW = 131_072

#: How many sequence numbers apart questions may have overtaken each other, if their answers were lost.
REORDERING_MAX = 1024

#: Copies of one question that are told apart.
_COPIES_MAX = 64

_SEGMENTS_MAX = 8

#: Questions between two states of a scan that are kept. A late answer makes it begin again at one of them: the scan of
#: a minute at 1,000 a second takes 56 ms, in which no probe would leave.
CHECKPOINT_DISTANCE = 1024
_MODULUS = 1 << 32


class AnswerPath(Enum):
    """The way of an answer, as far as it tells.

    :cvar FIRST: the first answer to its question.
    :cvar DUPLICATED_THERE: the reflector received the question again.
    :cvar DUPLICATED_BACK: the reflector sent the answer once, and it arrived again.
    :cvar UNUSABLE: its question is not remembered, or its counter contradicts other answers.
    """

    FIRST = "first"
    DUPLICATED_THERE = "duplicated there"
    DUPLICATED_BACK = "duplicated back"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class DirectionCounts:
    """Losses, duplicates and reordering by direction.

    The losses of all three kinds add up to the questions without an answer.

    :ivar stateful: whether the reflector is known to count by itself. If not, ``lost_there`` and ``lost_back`` are 0,
        and all losses and duplicates are unknown.
    :ivar lost_there: questions that did not reach the reflector.
    :ivar lost_back: questions that reached it, and whose answer was lost.
    :ivar lost_unknown: questions of which the answers do not tell.
    :ivar duplicates_there: further arrivals of a question at the reflector. Those whose answer was lost are not seen.
    :ivar duplicates_back: further arrivals of the same answer.
    :ivar duplicates_unknown: duplicates whose direction is not known.
    :ivar reordered_there: questions that arrived after a later one (RFC 4737, 3.3), as far as they were answered and
        the block is complete.
    :ivar reordered_back: answers that arrived after one that the reflector sent later.
    :ivar restarts: how often the reflector began to count anew.
    """

    stateful: bool = False
    lost_there: int = 0
    lost_back: int = 0
    lost_unknown: int = 0
    duplicates_there: int = 0
    duplicates_back: int = 0
    duplicates_unknown: int = 0
    reordered_there: int = 0
    reordered_back: int = 0
    restarts: int = 0


@dataclass(slots=True)
class _Scan:
    """A pass over the points of a segment in the order of s, and what it found so far.

    :ivar sequence: the next question.
    :ivar first: the first question of the block.
    :ivar counter: the next counter.
    :ivar begin: the first counter of the block.
    :ivar base_known: whether the counter before the block is known. It is not before the first answer of a reflector
        that counted already.
    :ivar highest: the highest counter of the questions that were passed in this block; -1 before its first answer.
    :ivar needed: the highest question that belongs to the block.
    """

    sequence: int
    first: int = 0
    counter: int = 0
    begin: int = 0
    base_known: bool = True
    highest: int = -1
    needed: int = -1
    unanswered: int = 0
    missing: int = 0
    copies: int = 0
    there: int = 0
    back: int = 0
    unknown: int = 0
    reordered: int = 0
    duplicates_seen: bool = False
    losses_nearby: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=REORDERING_MAX))
    surplus_nearby: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=REORDERING_MAX))

    def clone(self) -> _Scan:
        other = copy(self)
        other.losses_nearby = self.losses_nearby.copy()
        other.surplus_nearby = self.surplus_nearby.copy()
        return other

    def close_block(self) -> None:
        """Judge the block before ``sequence``."""
        if not self.base_known:
            self.unknown += self.unanswered
        else:
            matched = min(self.unanswered, self.missing)
            if self.copies:
                self.duplicates_seen = True
                self.unknown += matched
            else:
                self.back += matched
            self.there += self.unanswered - matched
            self._balance(self.unanswered - matched, self.missing - matched)
        self.first = self.sequence
        self.begin = self.counter
        self.base_known = True
        self.highest = self.needed = -1
        self.unanswered = self.missing = self.copies = 0

    def _balance(self, losses: int, surplus: int) -> None:
        """Set a surplus of counters against losses there in blocks nearby, and the other way round."""
        converted = 0
        if surplus:
            rest = _take(self.losses_nearby, surplus, self.sequence)
            converted = surplus - rest
            if rest:
                self.surplus_nearby.append((self.sequence, rest))
        elif losses:
            rest = _take(self.surplus_nearby, losses, self.sequence)
            converted = losses - rest
            if rest:
                self.losses_nearby.append((self.sequence, rest))
        self.there -= converted
        if self.reordered and not self.duplicates_seen:
            self.back += converted
        else:
            self.unknown += converted


def _take(entries: deque[tuple[int, int]], number: int, sequence: int) -> int:
    """Take up to ``number`` from the latest entries, and return how many were not there."""
    while number and entries:
        place, there = entries.pop()
        if sequence - place > REORDERING_MAX:
            entries.clear()
            break
        taken = min(there, number)
        number -= taken
        if there > taken:
            entries.append((place, there - taken))
    return number


class _Segment:
    """The questions and answers between two restarts of the reflector.

    :ivar end: the first question of the next segment; None if this is the last one.
    :ivar floors: for each question without an answer, the highest counter that was known when it was sent. Its own
        counter must be higher.
    :ivar arrivals: for each question with an answer, its counters.
    :ivar question: for each counter that was seen, its question.
    """

    def __init__(self, start: int, distance: int, *, restarted: bool) -> None:
        self.start = start
        self._distance = distance
        self._restarted = restarted
        self._sent = 0
        self.end: int | None = None
        self.floors: dict[int, int] = {}
        self.arrivals: dict[int, tuple[int, ...]] = {}
        self.question: dict[int, int] = {}
        self.highest = -1
        self.last_answered = start - 1
        self.final = _Scan(start, first=start)  # its questions are forgotten
        self.current = self.final.clone()  # it is ahead, up to the questions that are decided
        self._checkpoints: list[_Scan] = []  # its states, between those of the two

    @property
    def empty(self) -> bool:
        return self.highest < 0

    def sent(self, sequence: int) -> None:
        self.floors[sequence] = self.highest
        self._sent += 1

    def begin_at(self, sequence: int, outstanding: dict[int, int]) -> None:
        """Take over the questions that may have reached the reflector after its restart."""
        self.start = self.final.sequence = self.final.first = sequence
        self.floors.update(dict.fromkeys(outstanding, -1))
        self._scan_again(-1, -1)

    def end_at(self, sequence: int) -> dict[int, int]:
        """Give up the questions from this one on, and return them."""
        self.end = sequence
        given = {other: floor for other, floor in self.floors.items() if other >= sequence}
        for other in given:
            del self.floors[other]
        self._scan_again(-1, -1)
        return given

    def contradicts(self, sequence: int, counter: int) -> bool:
        """Whether the counter of the first answer to a question shows that the reflector has restarted."""
        if self.empty:
            return False
        if counter <= self.floors[sequence] or counter in self.question:
            return True
        # All these arrivals would be questions without an answer, or duplicates.
        return counter - self.highest > _plausible(len(self.floors))

    def add(self, sequence: int, counter: int) -> None:
        # A new reflector has counted the questions of this segment and their duplicates. After a restart, it may also
        # have counted questions of the segment before.
        if self.empty and counter > (0 if self._restarted else _plausible(self._sent)):
            self._count_from(counter)
        self.floors.pop(sequence, None)
        self.arrivals[sequence] = (*self.arrivals.get(sequence, ()), counter)
        self.highest = max(self.highest, counter)
        self.last_answered = max(self.last_answered, sequence)
        if counter >= self.final.counter:
            self.question[counter] = sequence
        elif self.final.base_known:
            # It was missing when the scan passed.
            self.final.missing -= 1
            if counter >= self.final.begin:
                self.final.needed = max(self.final.needed, sequence)
        if sequence < self.current.sequence or counter < self.current.counter:
            self._scan_again(sequence, counter)

    def _count_from(self, counter: int) -> None:
        """Begin with a reflector that counted already."""
        self.final.counter = self.final.begin = counter
        self.final.base_known = False
        self._scan_again(-1, -1)

    def advance(self, limit: int) -> _Scan:
        """Pass the questions below ``limit``, and return what is known of them."""
        checkpoints = self._checkpoints
        if self.current.sequence < self.final.sequence:
            self._scan_again(-1, -1)
        while checkpoints and checkpoints[0].sequence <= self.final.sequence:
            del checkpoints[0]
        current = self.current
        last = checkpoints[-1].sequence if checkpoints else self.final.sequence
        while limit - last > self._distance:
            last += self._distance
            if last > current.sequence:
                self._pass(current, last)
                if current.sequence < last:  # the segment has ended
                    break
                checkpoints.append(current.clone())
        self._pass(current, limit)
        return current

    def forget(self, limit: int) -> None:
        """Pass the questions below ``limit`` finally."""
        scan = self.final
        sequence, first, begin = scan.sequence, scan.first, scan.begin
        self._pass(scan, limit)
        for passed in range(sequence, scan.sequence):
            self.floors.pop(passed, None)
        for passed in range(first, scan.first):
            self.arrivals.pop(passed, None)
        for counter in range(begin, scan.begin):
            self.question.pop(counter, None)

    def _scan_again(self, sequence: int, counter: int) -> None:
        """Go back to a state of the scan that an answer does not change."""
        checkpoints = self._checkpoints
        while checkpoints and (sequence < checkpoints[-1].sequence or counter < checkpoints[-1].counter):
            checkpoints.pop()
        self.current = (checkpoints[-1] if checkpoints else self.final).clone()

    def _pass(self, scan: _Scan, limit: int) -> None:
        arrivals, question, floors = self.arrivals, self.question, self.floors
        if self.end is not None:
            limit = min(limit, self.end)
        while scan.sequence < limit:
            sequence = scan.sequence
            scan.sequence += 1
            counters = arrivals.get(sequence)
            if counters is None:
                scan.unanswered += sequence in floors
            else:
                scan.copies += len(counters) - 1
                scan.highest = max(scan.highest, *counters)
                while scan.counter <= scan.highest:
                    other = question.get(scan.counter)
                    if other is None:
                        scan.missing += 1
                    elif other > scan.needed:
                        scan.needed = other
                    elif other < scan.needed and scan.counter == min(arrivals[other]):
                        scan.reordered += 1
                    scan.counter += 1
            if scan.highest >= 0 and scan.needed < scan.sequence:
                scan.close_block()


class LossDirection:
    """Finds the direction of losses and duplicates from the answers of one reflector. Memory is bounded.

    :param stateful: whether the reflector is known to count by itself; if not, the answers show it.
    :param window: the number of questions that are remembered at most.
    :param checkpoint_distance: the number of questions after which the state of the scan is kept.
    """

    def __init__(
        self, *, stateful: bool = False, window: int = WINDOW, checkpoint_distance: int = CHECKPOINT_DISTANCE
    ) -> None:
        self._stateful = stateful
        self._distance = checkpoint_distance
        self._window = window
        self._segments = [_Segment(0, checkpoint_distance, restarted=False)]
        self._passed = DirectionCounts()  # the segments that are forgotten
        self._restarts = 0
        self._duplicates_there = self._duplicates_back = self._reordered_back = 0

    def sent(self, sequence: int) -> None:
        """Record a question that left. The numbers increase; those that are left out were not sent."""
        self._segments[-1].sent(sequence)
        if sequence - self._segments[0].final.sequence >= self._window:
            self.forget_below(sequence - self._window + 1)

    def answered(self, sequence: int, counter: int) -> AnswerPath:
        """Record an answer.

        :param sequence: the number of the question, as it was given to ``sent``.
        :param counter: the number of the answer, modulo 2**32, as the reflector wrote it.
        """
        segment = self._segments[-1]
        if sequence < segment.start:
            segment = next((one for one in reversed(self._segments) if one.start <= sequence), self._segments[0])
        first = sequence in segment.floors
        if sequence < segment.final.sequence or not (first or sequence in segment.arrivals):
            return AnswerPath.UNUSABLE
        self._stateful = self._stateful or counter != sequence % _MODULUS
        full = counter if segment.empty else _nearest(counter, segment.highest)
        if not first:
            return self._duplicate(segment, sequence, full)
        if segment.contradicts(sequence, full):
            restarted = self._restart(segment, sequence)
            if restarted is None:
                del segment.floors[sequence]  # it was not lost
                return AnswerPath.UNUSABLE
            segment, full = restarted, counter if restarted.empty else _nearest(counter, restarted.highest)
        if full < segment.highest:
            self._reordered_back += 1
        segment.add(sequence, full)
        return AnswerPath.FIRST

    def forget_below(self, sequence: int) -> None:
        """Decide finally on all questions with smaller numbers. Their answers become unusable."""
        for segment in self._segments:
            segment.forget(sequence)
        while self._segments[0].end is not None and self._segments[0].final.sequence >= self._segments[0].end:
            self._passed = _sum(self._passed, self._segments.pop(0).final)

    def counts(self, decided_below: int) -> DirectionCounts:
        """Return the numbers so far.

        :param decided_below: the questions with smaller numbers count as lost if they have no answer.
        """
        total = self._passed
        for segment in self._segments:
            total = _sum(total, segment.advance(decided_below))
        there, back, unknown = total.lost_there, total.lost_back, total.lost_unknown
        if not self._stateful:
            return DirectionCounts(
                lost_unknown=there + back + unknown, duplicates_unknown=self._duplicates_there + self._duplicates_back
            )
        return DirectionCounts(
            stateful=True,
            lost_there=there,
            lost_back=back,
            lost_unknown=unknown,
            duplicates_there=self._duplicates_there,
            duplicates_back=self._duplicates_back,
            reordered_there=total.reordered_there,
            reordered_back=self._reordered_back,
            restarts=self._restarts,
        )

    def open_losses(self, decided_below: int) -> int:
        """Return how many of the losses of :meth:`counts` are unknown only because no later answer has arrived yet."""
        return self._segments[-1].advance(decided_below).unanswered

    def _duplicate(self, segment: _Segment, sequence: int, counter: int) -> AnswerPath:
        counters = segment.arrivals[sequence]
        if counter in counters:
            self._duplicates_back += 1
            return AnswerPath.DUPLICATED_BACK
        if counter in segment.question or len(counters) >= _COPIES_MAX or counter < 0:
            return AnswerPath.UNUSABLE
        if counter - segment.highest > _plausible(len(segment.floors)):
            return AnswerPath.UNUSABLE
        self._duplicates_there += 1
        segment.add(sequence, counter)
        return AnswerPath.DUPLICATED_THERE

    def _restart(self, segment: _Segment, sequence: int) -> _Segment | None:
        """Return the segment of a question whose counter contradicts those before; None if there is no such segment."""
        if sequence <= segment.last_answered:
            return None
        following = next((one for one in self._segments if one.start == segment.end), None)
        if following is None:
            if len(self._segments) == _SEGMENTS_MAX:
                return None
            self._restarts += 1
            following = _Segment(sequence, self._distance, restarted=True)
            self._segments.append(following)
        # The questions from this one on reached the reflector after its restart, or not at all.
        following.begin_at(sequence, segment.end_at(sequence))
        return following


def _plausible(questions: int) -> int:
    """Return how many arrivals a number of questions may cause on a network that duplicates."""
    return 16 * (questions + 4)


def _nearest(counter: int, highest: int) -> int:
    """Return the number that is ``counter`` modulo 2**32 and nearest to ``highest``."""
    distance = counter - highest
    if -_MODULUS // 2 <= distance < _MODULUS // 2:  # the usual case
        return counter
    distance %= _MODULUS
    return highest + (distance if distance < _MODULUS // 2 else distance - _MODULUS)


def _sum(total: DirectionCounts, scan: _Scan) -> DirectionCounts:
    return DirectionCounts(
        lost_there=total.lost_there + scan.there,
        lost_back=total.lost_back + scan.back,
        lost_unknown=total.lost_unknown + scan.unknown + scan.unanswered,
        reordered_there=total.reordered_there + scan.reordered,
    )
