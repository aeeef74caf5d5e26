"""The figures of an attack, each with its bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hostile.target import Serving, Target

MIB = 1024 * 1024


class Finding(NamedTuple):
    """One figure of an attack. An infinite one means that what it measures never happened.

    :ivar most: the bound.
    """

    what: str
    figure: float
    most: float
    unit: str

    @property
    def within_bound(self) -> bool:
        return self.figure <= self.most


#: Called with what runs the server, and with the seconds that a flood lasts.
Attack = Callable[[Serving, float], Iterator[Finding]]


def quiet(target: Target) -> Iterator[Finding]:
    """Check that the server has logged no traceback."""
    yield Finding("tracebacks in the log", target.log_lines("Traceback"), 0, "")


def at(share: float, trips: Sequence[float]) -> float:
    """Return the percentile of ``trips`` (seconds) in milliseconds; 0.99 for the 99th."""
    ordered = sorted(trips)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
