"""The course of a measurement over time, in bounded memory: the longer it lasts, the coarser it becomes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: The number of intervals that are kept. A picture is not wider.
INTERVALS_MAX = 1_024


class Extent(NamedTuple):
    """The smallest and largest value of an interval, their sum and their number. Values are nanoseconds."""

    least: int
    most: int
    total: int
    number: int

    @property
    def mean(self) -> float:
        """The mean of the values."""
        return self.total / self.number


#: As an extent, and changed in place: an extent for each value would take five times as long.
_Cell = list[int]


class SeriesInterval(NamedTuple):
    """The events of one interval.

    :ivar start: when it begins, in nanoseconds since the start of the measurement.
    :ivar sent: probes that were due in it.
    :ivar lost: those of them that are lost.
    :ivar values: the extent of each kind of values that it has.
    """

    start: int
    sent: int
    lost: int
    values: dict[str, Extent]


class ProbeSeries:
    """Keeps at most 1,024 intervals. When they are full, each two become one that is twice as long.

    :param width: nanoseconds of an interval at first.
    :ivar width: nanoseconds of an interval now.
    """

    def __init__(self, width: int) -> None:
        self.width = max(1, width)
        self._sent: list[int] = []
        self._lost: list[int] = []
        self._values: list[dict[str, _Cell]] = []

    def __len__(self) -> int:
        """Return the number of intervals."""
        return len(self._sent)

    def sent(self, time: int) -> None:
        """A probe was due at ``time``, nanoseconds since the start."""
        index = self._index(time)  # first: it may replace the lists
        self._sent[index] += 1

    def lost(self, time: int, change: int = 1) -> None:
        """The probe that was due at ``time`` is lost; with a change of -1, it was answered late."""
        index = self._index(time)
        self._lost[index] += change

    def value(self, kind: str, time: int, value: int) -> None:
        """A value of a kind, in nanoseconds, belongs to the probe that was due at ``time``."""
        index = self._index(time)
        values = self._values[index]
        cell = values.get(kind)
        if cell is None:
            values[kind] = [value, value, value, 1]
            return
        if value < cell[0]:
            cell[0] = value
        elif value > cell[1]:
            cell[1] = value
        cell[2] += value
        cell[3] += 1

    def __iter__(self) -> Iterator[SeriesInterval]:
        """Yield the intervals in their order, also those in which nothing happened."""
        return map(self._interval, range(len(self)))

    def latest(self, count: int) -> list[SeriesInterval]:
        """Return the last intervals, at most ``count``."""
        return [self._interval(number) for number in range(len(self))[-count:]]

    def _interval(self, number: int) -> SeriesInterval:
        extents = {kind: Extent(*cell) for kind, cell in self._values[number].items()}
        return SeriesInterval(number * self.width, self._sent[number], self._lost[number], extents)

    def _index(self, time: int) -> int:
        index = time // self.width
        if 0 <= index < len(self._sent):
            return index
        index = max(0, index)
        while index >= INTERVALS_MAX:
            self._halve()
            index = time // self.width
        while len(self._sent) <= index:
            self._sent.append(0)
            self._lost.append(0)
            self._values.append({})
        return index

    def _halve(self) -> None:
        self.width *= 2
        if len(self._sent) % 2:
            self._sent.append(0)
            self._lost.append(0)
            self._values.append({})
        self._sent = [first + second for first, second in zip(self._sent[::2], self._sent[1::2], strict=True)]
        self._lost = [first + second for first, second in zip(self._lost[::2], self._lost[1::2], strict=True)]
        pairs = zip(self._values[::2], self._values[1::2], strict=True)
        self._values = [_joined(first, second) for first, second in pairs]


def _joined(first: dict[str, _Cell], second: dict[str, _Cell]) -> dict[str, _Cell]:
    for kind, (least, most, total, number) in second.items():
        cell = first.get(kind)
        if cell is None:
            first[kind] = [least, most, total, number]
        else:
            cell[:] = min(cell[0], least), max(cell[1], most), cell[2] + total, cell[3] + number
    return first
