"""The verdict on each probe: answered, late, lost or unsent; and on each answer: duplicate, reordered, foreign.

Memory is bounded for months: about 17 bytes a probe, for as many probes as may still be answered.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from netsvc.errors import NetsvcError

#: The source of a time: a stamp of the kernel, or a clock that the process read.
StampSource = Literal["kernel", "process"]

#: Nanoseconds after the timeout for which a probe is remembered, so that its late answer and duplicates are recognised.
MEMORY_TIME = 60_000_000_000

#: The number of probes that are remembered at most. It holds a timeout of 6.5 s at 20,000 probes a second.
MEMORY_PROBES = 131_072

#: The largest reordering extent that is told exactly; a larger one counts as this.
EXTENT_MAX = 1024

_CAPACITY_MIN = 1024

# The states of a probe. One that was never attempted has state 0.
_PENDING, _LOST, _ANSWERED, _LATE, _UNSENT = 1, 2, 3, 4, 5
_STATE = 0x0F
_KERNEL = 0x10  # flag: the time of the send is a stamp of the kernel


class LedgerError(NetsvcError, ValueError):
    """A probe was recorded out of order, or a limit has no meaning; the message says why."""


class AnswerVerdict(Enum):
    """The verdict on an answer with the sequence number of a probe.

    :cvar ANSWERED: the first answer, within the timeout.
    :cvar LATE: the first answer, after the timeout. The probe no longer counts as lost.
    :cvar DUPLICATE: a further answer.
    :cvar FOREIGN: the probe was never sent.
    :cvar FORGOTTEN: the probe was sent so long ago that it is not known whether this is a late answer or a duplicate.
    """

    ANSWERED = "answered"
    LATE = "late"
    DUPLICATE = "duplicate"
    FOREIGN = "foreign"
    FORGOTTEN = "forgotten"


class ProbeAnswer(NamedTuple):
    """The verdict on one answer. Times are in nanoseconds.

    :ivar rtt: from the actual send to the receipt; None if the probe is unknown or the times are void.
    :ivar rtt_intended: from the moment at which the schedule wanted to send it. This includes the delay of the sender,
        as every request behind a stalled one would see it (coordinated omission, HdrHistogram issue 148).
    :ivar sent_source: the source of the time of the send; None if the probe is unknown.
    :ivar received_source: the source of the time of the receipt.
    :ivar reordered: whether a probe sent later was answered earlier (Type-P-Reordered, RFC 4737, 3.3). Only first
        answers are judged.
    :ivar extent: the reordering extent (RFC 4737, 4.2): how many answers earlier the first one came that had a larger
        sequence number; 0 if not reordered.
    """

    sequence: int
    verdict: AnswerVerdict
    rtt: int | None = None
    rtt_intended: int | None = None
    sent_source: StampSource | None = None
    received_source: StampSource | None = None
    reordered: bool = False
    extent: int = 0


class DecidedProbe(NamedTuple):
    """A probe that has a verdict. If it was lost, a late answer may still arrive.

    :ivar sent: the time of the send in nanoseconds.
    :ivar answered: whether an answer arrived, in time or late.
    """

    sequence: int
    sent: int
    answered: bool


@dataclass(frozen=True, slots=True)
class LedgerCounts:
    """The numbers of probes and answers.

    Each probe that was attempted is in exactly one of ``answered``, ``late``, ``lost``, ``pending`` and ``unsent``.

    :ivar attempted: probes that were due and handed to the system, or refused by it.
    :ivar sent: probes that left: ``attempted - unsent``.
    :ivar unsent: probes that the system refused to send.
    :ivar answered: probes with an answer within the timeout.
    :ivar late: probes whose first answer came after the timeout.
    :ivar lost: probes without an answer after the timeout.
    :ivar pending: probes whose timeout has not yet elapsed.
    :ivar duplicates: answers after the first one to the same probe.
    :ivar reordered: first answers that came after the answer to a later probe (RFC 4737).
    :ivar reordering_extent_max: the largest reordering extent (RFC 4737, 4.2).
    :ivar corrupted: answers whose content was damaged.
    :ivar foreign: answers to other runs, or to probes that were never sent.
    :ivar forgotten: answers to probes that are no longer remembered.
    """

    attempted: int = 0
    sent: int = 0
    unsent: int = 0
    answered: int = 0
    late: int = 0
    lost: int = 0
    pending: int = 0
    duplicates: int = 0
    reordered: int = 0
    reordering_extent_max: int = 0
    corrupted: int = 0
    foreign: int = 0
    forgotten: int = 0


class ProbeLedger:
    """Records the probes and the answers of one target.

    All times are nanoseconds on one monotonic clock. Stamps of the kernel, which are on the wall clock, are converted
    before (``ClockReading``).

    :param timeout: nanoseconds after the actual send after which a probe without an answer counts as lost. An answer
        that took exactly this long is in time.
    :param memory_time: nanoseconds after the timeout for which late answers and duplicates are recognised.
    :param memory_probes: the number of probes that are remembered at most. If more are outstanding, the oldest one
        counts as lost before its timeout.
    :raises LedgerError: if a limit is out of its range.
    """

    def __init__(self, timeout: int, *, memory_time: int = MEMORY_TIME, memory_probes: int = MEMORY_PROBES) -> None:
        if timeout < 1 or memory_time < 0 or memory_probes < 1:
            raise LedgerError("a timeout of at least 1 ns and memory for at least 1 probe are needed")
        self._timeout = timeout
        self._memory_time = memory_time
        self._memory_probes = memory_probes
        # Rings: the probe with a sequence number is at its remainder. They grow to the capacity that is needed.
        self._capacity = min(_CAPACITY_MIN, memory_probes)
        self._sent = array("q", bytes(8 * self._capacity))
        self._due = array("q", bytes(8 * self._capacity))
        self._state = bytearray(self._capacity)
        self._first = 0  # the oldest probe that is remembered
        self._undecided = 0  # the oldest probe that may be pending
        self._next = 0
        self._decided_early: list[DecidedProbe] = []  # when the memory was full
        self._unsent = self._answered = self._late = self._lost = self._pending = 0
        self._duplicates = self._corrupted = self._foreign = self._forgotten = 0
        # RFC 4737: the arrivals that were in order, that is, those that raised NextExp.
        self._next_expected = 0
        self._arrivals = 0
        self._reordered = self._extent_max = 0
        self._in_order: list[int] = []
        self._in_order_arrival: list[int] = []

    @property
    def counts(self) -> LedgerCounts:
        """The numbers so far."""
        sent = self._answered + self._late + self._lost + self._pending
        return LedgerCounts(
            attempted=sent + self._unsent,
            sent=sent,
            unsent=self._unsent,
            answered=self._answered,
            late=self._late,
            lost=self._lost,
            pending=self._pending,
            duplicates=self._duplicates,
            reordered=self._reordered,
            reordering_extent_max=self._extent_max,
            corrupted=self._corrupted,
            foreign=self._foreign,
            forgotten=self._forgotten,
        )

    @property
    def decided_below(self) -> int:
        """All probes with smaller sequence numbers have a verdict. It is still lost, not late, that may change."""
        return self._undecided

    @property
    def remembered_from(self) -> int:
        """The smallest sequence number that is remembered. The verdicts on all smaller ones are final."""
        return self._first

    def sent(self, sequence: int, due: int, sent: int, source: StampSource = "process") -> None:
        """Record a probe that left.

        :param sequence: larger than that of the probe before. Numbers that are left out were not attempted.
        :param due: the time of the schedule.
        :param sent: the actual time.
        :raises LedgerError: if the sequence number is not larger, or if more than ``memory_probes`` are left out.
        """
        self._append(sequence, due, sent, _PENDING | _KERNEL if source == "kernel" else _PENDING)
        self._pending += 1

    def unsent(self, sequence: int, due: int) -> None:
        """Record a probe that the system refused to send.

        :raises LedgerError: if the sequence number is not larger than the one before.
        """
        self._append(sequence, due, due, _UNSENT)
        self._unsent += 1

    def transmitted(self, sequence: int, sent: int) -> None:
        """Replace the time of a send by the transmit stamp of the kernel, which the system tells afterwards.

        It has no effect on an answer that was recorded before, nor on a probe that is no longer remembered.
        """
        if self._first <= sequence < self._next:
            place = sequence % self._capacity
            if self._state[place] & _STATE in (_PENDING, _LOST):
                self._sent[place] = sent
                self._state[place] |= _KERNEL

    def answered(
        self, sequence: int, received: int, source: StampSource = "process", *, void: bool = False
    ) -> ProbeAnswer:
        """Record an intact answer of the peer to this run, and return the verdict on it.

        :param received: the time of the receipt.
        :param void: the times cannot be compared, for instance because a clock was set between them. The answer
            counts, and it has no round-trip times.
        """
        place = sequence % self._capacity
        state = self._state[place]
        match state & _STATE if self._first <= sequence < self._next else 0:
            case 0 if 0 <= sequence < self._first:
                self._forgotten += 1
                return ProbeAnswer(sequence, AnswerVerdict.FORGOTTEN, received_source=source)
            case 0 | 5:  # _UNSENT
                self._foreign += 1
                return ProbeAnswer(sequence, AnswerVerdict.FOREIGN, received_source=source)
            case 1:  # _PENDING
                self._pending -= 1
                verdict = self._first_answer(place, received)
            case 2:  # _LOST
                self._lost -= 1
                verdict = self._first_answer(place, received)
            case _:
                self._duplicates += 1
                verdict = AnswerVerdict.DUPLICATE
        extent = 0 if verdict is AnswerVerdict.DUPLICATE else self._reordering_extent(sequence)
        return ProbeAnswer(
            sequence,
            verdict,
            None if void else received - self._sent[place],
            None if void else received - self._due[place],
            "kernel" if state & _KERNEL else "process",
            source,
            extent > 0,
            extent,
        )

    def corrupted(self) -> None:
        """Count an answer whose content was damaged. It does not answer its probe."""
        self._corrupted += 1

    def foreign(self) -> None:
        """Count an answer to another run."""
        self._foreign += 1

    def advance(self, now: int) -> list[DecidedProbe]:
        """Decide which probes are lost, and forget old ones. Call it at any time, at least before reading counts.

        :returns: the probes that have a verdict now, in the order of their sequence numbers, each once.
        """
        decided, self._decided_early = self._decided_early, []
        while self._undecided < self._next:
            place = self._undecided % self._capacity
            if self._state[place] & _STATE == _PENDING and now - self._sent[place] <= self._timeout:
                break
            if (probe := self._decide(place)) is not None:
                decided.append(probe)
        forget_before = now - self._timeout - self._memory_time
        while self._first < self._undecided and self._sent[self._first % self._capacity] < forget_before:
            self._first += 1
        return decided

    def _append(self, sequence: int, due: int, sent: int, state: int) -> None:
        if sequence < self._next:
            raise LedgerError(f"probe {sequence} was recorded after probe {self._next - 1}")
        if sequence - self._next > self._memory_probes:
            raise LedgerError(f"probe {sequence} was recorded after probe {self._next - 1}: too many were left out")
        for skipped in range(self._next, sequence):
            self._put(skipped, due, sent, 0)
        self._put(sequence, due, sent, state)

    def _put(self, sequence: int, due: int, sent: int, state: int) -> None:
        if sequence - self._first >= self._capacity:
            if self._capacity < self._memory_probes:
                self._grow()
            else:
                self._forget_oldest()
        place = sequence % self._capacity
        self._due[place] = due
        self._sent[place] = sent
        self._state[place] = state
        self._next = sequence + 1

    def _grow(self) -> None:
        old, self._capacity = self._capacity, min(2 * self._capacity, self._memory_probes)
        sent, due, state = self._sent, self._due, self._state
        self._sent = array("q", bytes(8 * self._capacity))
        self._due = array("q", bytes(8 * self._capacity))
        self._state = bytearray(self._capacity)
        for sequence in range(self._first, self._next):
            place = sequence % self._capacity
            self._sent[place] = sent[sequence % old]
            self._due[place] = due[sequence % old]
            self._state[place] = state[sequence % old]

    def _forget_oldest(self) -> None:
        if self._first == self._undecided and (probe := self._decide(self._first % self._capacity)) is not None:
            self._decided_early.append(probe)
            del self._decided_early[: -self._memory_probes]
        self._first += 1

    def _decide(self, place: int) -> DecidedProbe | None:
        """Decide on the oldest probe without a verdict; return None if it was not sent."""
        sequence, state = self._undecided, self._state[place]
        self._undecided += 1
        match state & _STATE:
            case 1:  # _PENDING
                self._state[place] = state & ~_STATE | _LOST
                self._pending -= 1
                self._lost += 1
                return DecidedProbe(sequence, self._sent[place], False)
            case 3 | 4:  # _ANSWERED, _LATE
                return DecidedProbe(sequence, self._sent[place], True)
            case _:
                return None

    def _first_answer(self, place: int, received: int) -> AnswerVerdict:
        if received - self._sent[place] <= self._timeout:
            self._state[place] = self._state[place] & ~_STATE | _ANSWERED
            self._answered += 1
            return AnswerVerdict.ANSWERED
        self._state[place] = self._state[place] & ~_STATE | _LATE
        self._late += 1
        return AnswerVerdict.LATE

    def _reordering_extent(self, sequence: int) -> int:
        """Return 0 if the answer is in order; else its distance from the first one with a larger number."""
        self._arrivals += 1
        if sequence >= self._next_expected:
            self._next_expected = sequence + 1
            self._in_order.append(sequence)
            self._in_order_arrival.append(self._arrivals)
            if len(self._in_order) > 2 * EXTENT_MAX:
                del self._in_order[:EXTENT_MAX], self._in_order_arrival[:EXTENT_MAX]
            return 0
        first_larger = self._in_order_arrival[bisect_right(self._in_order, sequence)]
        extent = min(self._arrivals - first_larger, EXTENT_MAX)
        self._reordered += 1
        self._extent_max = max(self._extent_max, extent)
        return extent
