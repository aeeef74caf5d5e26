"""What an attack has found, beside the bound that is to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hostile.target import Serving, Target

MIB = 1024 * 1024


class Finding(NamedTuple):
    """One figure of an attack.

    :ivar most: what it may be at most.
    """

    what: str
    figure: float
    most: float
    unit: str

    @property
    def holds(self) -> bool:
        return self.figure <= self.most


#: Takes what serves, and the seconds that a flood lasts.
Attack = Callable[[Serving, float], Iterator[Finding]]


def quiet(target: Target) -> Iterator[Finding]:
    """Find that the server has logged no fault of its own."""
    yield Finding("tracebacks in the log", target.lines("Traceback"), 0, "")


def at(share: float, trips: Sequence[float]) -> float:
    """Return the milliseconds that so large a share of ``trips``, in seconds, did not exceed."""
    ordered = sorted(trips)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000
