"""A histogram with few fixed buckets, as monitoring systems store it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

#: The upper bounds of the buckets in nanoseconds: 50 us to 10 s.
BUCKET_BOUNDS = (
    *(50_000, 100_000, 200_000, 500_000),
    *(1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 50_000_000, 100_000_000, 200_000_000, 500_000_000),
    *(1_000_000_000, 2_000_000_000, 5_000_000_000, 10_000_000_000),
)


class BucketedDurations:
    """Counts durations by the buckets of ``BUCKET_BOUNDS``, exactly.

    To read it costs the same after a second and after a year. A ``DurationHistogram`` has thousands of buckets by then.

    :ivar sum: of all durations, in nanoseconds.
    """

    def __init__(self) -> None:
        self.sum = 0
        self._counts = [0] * (len(BUCKET_BOUNDS) + 1)

    def record(self, duration: int) -> None:
        """Count a duration in nanoseconds."""
        self.sum += duration
        self._counts[bisect_left(BUCKET_BOUNDS, duration)] += 1

    def cumulative(self) -> list[int]:
        """Return how many durations were at most each bound, and last, how many there were in all."""
        return list(accumulate(self._counts))
