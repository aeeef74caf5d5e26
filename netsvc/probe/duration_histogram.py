"""A histogram of durations with bounded memory: three significant digits from 1 ns to one hour, of either sign."""

from __future__ import annotations

import ctypes
import math
import sys
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from hdrh.histogram import HdrHistogram

from netsvc.probe.duration_summary import PERCENTILES, DurationSummary

#: The longest duration in nanoseconds. A longer one counts as this, except in the mean, the maximum and the deviation.
DURATION_MAX = 3600 * 1_000_000_000

_SIGNIFICANT_DIGITS = 3

#: HdrHistogram divides the values of each power of two into 2**10 buckets, enough for these digits.
_HALF_BITS = 10

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
        self.positive: HdrHistogram | None = None
        self.negative: HdrHistogram | None = None

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
            self.negative = _record(self.negative, [-value for value in values if value < 0])
            values = [value for value in values if value >= 0]
        self.positive = _record(self.positive, values)

    def merge(self, other: _Distribution) -> None:
        if not other.count:
            return
        self.minimum = min(self.minimum, other.minimum) if self.count else other.minimum
        self.maximum = max(self.maximum, other.maximum) if self.count else other.maximum
        self.count += other.count
        self.sum += other.sum
        self.squares += other.squares
        self.positive = _merge(self.positive, other.positive)
        self.negative = _merge(self.negative, other.negative)

    def clear(self) -> None:
        self.count = self.sum = self.squares = 0
        _clear(self.positive)
        _clear(self.negative)


class _Buckets:
    """The buckets of distributions from the least value on, with empty ones between them.

    :ivar numbers: how many durations are in each.
    """

    def __init__(self, parts: Sequence[_Distribution]) -> None:
        self._first_negative, negative = _joined([part.negative for part in parts])
        self._first_positive, positive = _joined([part.positive for part in parts])
        self._positive = len(negative)
        self.numbers = negative[::-1] + positive

    def value(self, place: int) -> int:
        """Return the value that stands for a bucket: the farthest one from zero."""
        if place < self._positive:
            return -_farthest(self._first_negative + self._positive - 1 - place)
        return _farthest(self._first_positive + place - self._positive)


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
        """Return, since the start, the value of each bucket that is not empty, and its count, in order.

        The value is the farthest one from zero that the bucket holds.
        """
        self._count()
        buckets = _Buckets([self._before, self._interval])
        return [(buckets.value(place), number) for place, number in enumerate(buckets.numbers) if number]

    def _count(self) -> None:
        self._interval.add(self._waiting)
        self._waiting.clear()


def _summary(parts: list[_Distribution]) -> DurationSummary | None:
    parts = [part for part in parts if part.count]
    if not parts:
        return None
    count, total = sum(part.count for part in parts), sum(part.sum for part in parts)
    minimum, maximum = min(part.minimum for part in parts), max(part.maximum for part in parts)
    variance = (count * sum(part.squares for part in parts) - total * total) / (count * count)
    buckets = _Buckets(parts)
    cumulative = list(accumulate(buckets.numbers))
    percentiles = {}
    for name, percentile in PERCENTILES.items():
        # The margin is for the error of the division, which would otherwise round a whole number up.
        rank = math.ceil(count * percentile / 100 - 1e-9)
        value = buckets.value(bisect_left(cumulative, rank))
        percentiles[name] = max(minimum, min(maximum, value))
    return DurationSummary(count, minimum, total / count, maximum, math.sqrt(variance), percentiles)


def _record(histogram: HdrHistogram | None, values: list[int]) -> HdrHistogram | None:
    """Record values from 0 to ``DURATION_MAX``: what ``HdrHistogram.record_value`` does, in a third of its time."""
    if not values:
        return histogram
    if histogram is None:
        histogram = HdrHistogram(1, DURATION_MAX, _SIGNIFICANT_DIGITS)
    counts = histogram.counts
    for value in values:
        shift = value.bit_length() - _HALF_BITS - 1
        if shift > 0:
            counts[(shift << _HALF_BITS) + (value >> shift)] += 1
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


def _joined(histograms: Sequence[HdrHistogram | None]) -> tuple[int, list[int]]:
    """Return the index of the first bucket in use, and the counts from it to the last one in use."""
    used = [histogram for histogram in histograms if histogram is not None and histogram.total_count]
    if not used:
        return 0, []
    first = min(histogram.get_counts_array_index(histogram.min_value) for histogram in used)
    last = max(histogram.get_counts_array_index(histogram.max_value) for histogram in used)
    counts = [histogram.counts[first : last + 1] for histogram in used]
    # Each summary reads thousands of buckets, so this is done without a loop of Python's.
    return first, list(map(sum, zip(*counts, strict=True))) if len(counts) > 1 else counts[0]


def _farthest(index: int) -> int:
    """Return the largest value of a bucket: the inverse of the index in :func:`_record`."""
    shift = (index >> _HALF_BITS) - 1
    if shift <= 0:
        return index
    half = 1 << _HALF_BITS
    return (half + index % half + 1 << shift) - 1
