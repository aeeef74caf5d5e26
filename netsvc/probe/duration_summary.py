"""The numbers that describe many durations: count, minimum, mean, maximum, standard deviation, percentiles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

#: The percentiles of every summary, and their names.
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True, slots=True)
class DurationSummary:
    """Durations in nanoseconds. There is at least one.

    :ivar minimum: to ``stddev``: exact. The standard deviation is that of the population.
    :ivar percentiles: by name (``PERCENTILES``), to three significant digits. The p99 is the smallest value that at
        least 99 % of all values do not exceed, rounded up within the precision.
    """

    count: int
    minimum: int
    mean: float
    maximum: int
    stddev: float
    percentiles: dict[str, int]

    def row(self, names: Iterable[str] = PERCENTILES) -> list[int]:
        """Return the minimum, the percentiles of these names and the maximum: a row of a table."""
        return [self.minimum, *(self.percentiles[name] for name in names), self.maximum]
