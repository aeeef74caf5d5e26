"""A histogram of durations with bounded memory: three significant digits from 1 ns to one hour, of either sign."""

from __future__ import annotations

import ctypes
import math
import sys
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import itemgetter

from hdrh.histogram import HdrHistogram

from netsvc.probe.duration_summary import PERCENTILES, DurationSummary

#: The longest duration in nanoseconds. A longer one counts as this, except in the mean, the maximum and the deviation.
DURATION_MAX = 3600 * 1_000_000_000

_SIGNIFICANT_DIGITS = 3

#: Values are collected before they are counted.
_BATCH = 1024


class _Distribution:
    """Values of one period. Those below zero have a histogram of their own, which begins with the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0
        self.squares = 0
        self.minimum = 0
        self.maximum = 0
        self._positive: HdrHistogram | None = None
        self._negative: HdrHistogram | None = None

    def add(self, values: list[int]) -> None:
        if not values:
            return
        least, greatest = min(values), max(values)
        self.minimum = min(self.minimum, least) if self.count else least
        self.maximum = max(self.maximum, greatest) if self.count else greatest
        self.count += len(values)
        self.sum += sum(values)
        self.squares += sum([value * value for value in values])
        if greatest > DURATION_MAX or least < -DURATION_MAX:
            values = [max(-DURATION_MAX, min(DURATION_MAX, value)) for value in values]
        if least < 0:
            self._negative = _record(self._negative, [-value for value in values if value < 0])
            values = [value for value in values if value >= 0]
        self._positive = _record(self._positive, values)

    def merge(self, other: _Distribution) -> None:
        if not other.count:
            return
        self.minimum = min(self.minimum, other.minimum) if self.count else other.minimum
        self.maximum = max(self.maximum, other.maximum) if self.count else other.maximum
        self.count += other.count
        self.sum += other.sum
        self.squares += other.squares
        self._positive = _merge(self._positive, other._positive)
        self._negative = _merge(self._negative, other._negative)

    def clear(self) -> None:
        self.count = self.sum = self.squares = 0
        _clear(self._positive)
        _clear(self._negative)

    def buckets(self) -> Iterator[tuple[int, int]]:
        """Yield the largest value of each bucket that is not empty, and its count, in the order of the values."""
        for value, number in reversed(list(_buckets(self._negative))):
            yield -value, number
        yield from _buckets(self._positive)


class DurationHistogram:
    """Durations since the start, and since the end of the last interval.

    It needs 270 KB of counters for each of the two periods, and 270 KB more if there are negative values. The system
    gives memory only for the pages that are used.
    """

    def __init__(self) -> None:
        self._waiting: list[int] = []
        self._interval = _Distribution()
        self._before = _Distribution()

    def record(self, duration: int) -> None:
        """Record a duration in nanoseconds."""
        waiting = self._waiting
        waiting.append(duration)
        if len(waiting) >= _BATCH:
            self._count()

    def interval(self) -> DurationSummary | None:
        """Return the summary since the end of the last interval; None if nothing was recorded."""
        self._count()
        return _summary([self._interval])

    def end_interval(self) -> None:
        """Begin a new interval."""
        self._count()
        self._before.merge(self._interval)
        self._interval.clear()

    def total(self) -> DurationSummary | None:
        """Return the summary since the start; None if nothing was recorded."""
        self._count()
        return _summary([self._before, self._interval])

    def buckets(self) -> list[tuple[int, int]]:
        """Return, since the start, the largest value of each bucket that is not empty, and its count, in order."""
        self._count()
        return _buckets_of([self._before, self._interval])

    def at_most(self, bounds: Sequence[int]) -> list[int]:
        """Return, since the start, how many durations were at most each bound, to the precision of the histogram."""
        buckets = self.buckets()
        cumulative = [0, *accumulate(number for _, number in buckets)]
        return [cumulative[bisect_right(buckets, bound, key=itemgetter(0))] for bound in bounds]

    def sum(self) -> int:
        """Return the sum of all durations in nanoseconds. It is exact."""
        self._count()
        return self._before.sum + self._interval.sum

    def _count(self) -> None:
        self._interval.add(self._waiting)
        self._waiting.clear()


def _buckets_of(parts: list[_Distribution]) -> list[tuple[int, int]]:
    numbers: Counter[int] = Counter()
    for part in parts:
        for value, number in part.buckets():
            numbers[value] += number
    return sorted(numbers.items())


def _summary(parts: list[_Distribution]) -> DurationSummary | None:
    parts = [part for part in parts if part.count]
    if not parts:
        return None
    count, total = sum(part.count for part in parts), sum(part.sum for part in parts)
    minimum, maximum = min(part.minimum for part in parts), max(part.maximum for part in parts)
    variance = (count * sum(part.squares for part in parts) - total * total) / (count * count)
    buckets = _buckets_of(parts)
    cumulative = list(accumulate(number for _, number in buckets))
    percentiles = {}
    for name, percentile in PERCENTILES.items():
        # The margin is for the error of the division, which would otherwise round a whole number up.
        rank = math.ceil(count * percentile / 100 - 1e-9)
        value, _ = buckets[bisect_left(cumulative, rank)]
        percentiles[name] = max(minimum, min(maximum, value))
    return DurationSummary(count, minimum, total / count, maximum, math.sqrt(variance), percentiles)


def _record(histogram: HdrHistogram | None, values: list[int]) -> HdrHistogram | None:
    """Record values from 0 to ``DURATION_MAX``: what ``HdrHistogram.record_value`` does, in a third of its time."""
    if not values:
        return histogram
    if histogram is None:
        histogram = HdrHistogram(1, DURATION_MAX, _SIGNIFICANT_DIGITS)
    counts = histogram.counts
    half = histogram.sub_bucket_half_count_magnitude
    whole = half + 1
    for value in values:
        bucket = value.bit_length() - whole
        if bucket > 0:
            counts[(bucket << half) + (value >> bucket)] += 1
        else:
            counts[value] += 1
    histogram.total_count += len(values)
    histogram.min_value = min(histogram.min_value, *values)
    histogram.max_value = max(histogram.max_value, *values)
    return histogram


def _clear(histogram: HdrHistogram | None) -> None:
    """Empty a histogram in place: what ``HdrHistogram.reset`` does, in microseconds instead of 50 ms.

    A new histogram would do as well, but an old one is part of a reference cycle, and so 270 KB of garbage remain.
    """
    if histogram is not None:
        ctypes.memset(histogram.counts, 0, ctypes.sizeof(histogram.counts))
        histogram.total_count = histogram.max_value = 0
        histogram.min_value = sys.maxsize


def _merge(total: HdrHistogram | None, other: HdrHistogram | None) -> HdrHistogram | None:
    if other is None or not other.total_count:
        return total
    if total is None:
        total = HdrHistogram(1, DURATION_MAX, _SIGNIFICANT_DIGITS)
    total.add(other)
    return total


def _buckets(histogram: HdrHistogram | None) -> Iterator[tuple[int, int]]:
    """Yield the largest value of each bucket that is not empty, and its count."""
    if histogram is None or not histogram.total_count:
        return
    first = histogram.get_counts_array_index(histogram.min_value)
    last = histogram.get_counts_array_index(histogram.max_value)
    for index, number in enumerate(histogram.counts[first : last + 1], first):
        if number:
            yield histogram.get_highest_equivalent_value(histogram.get_value_from_index(index)), number
