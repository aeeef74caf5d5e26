"""Virtual time: what is due, in the order in which it is due."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import ceil
from typing import Any

#: Events in a row between which time does not move, after which something must go round in a circle.
STANDSTILL = 1_000_000

#: Virtual time goes in ticks, and what is due between two is due at the later one. Nothing is ever early by a rounding
#: error: a ``LoopingCall`` every 0.1 s would otherwise sometimes be called twice, and 0.1 s ten times be less than 1.
#: The number is a power of two, so that counting in ticks rounds nothing else.
TICKS_A_SECOND = 2**32


class StandstillError(RuntimeError):
    """So much happens at one instant that time does not move any more."""


class Events:
    """What is due, earliest first; of two that are due together, the one that was scheduled first.

    :ivar now: seconds since the beginning.
    :ivar moving: how many of the events are something under way, and not only a timer.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.moving = 0
        self._still = 0
        self._heap: list[tuple[float, int, bool, Callable[..., object], tuple[Any, ...]]] = []
        self._number = count()

    def wait(self, time: float, call: Callable[..., object], *args: Any) -> None:
        """Call at ``time``: a timer."""
        heappush(self._heap, (ceil(time * TICKS_A_SECOND) / TICKS_A_SECOND, next(self._number), False, call, args))

    def move(self, time: float, call: Callable[..., object], *args: Any) -> None:
        """Call at ``time``: something is under way until then."""
        self.moving += 1
        heappush(self._heap, (ceil(time * TICKS_A_SECOND) / TICKS_A_SECOND, next(self._number), True, call, args))

    def due(self) -> float | None:
        """Return when the next event is due, or None if there is none."""
        return self._heap[0][0] if self._heap else None

    @property
    def due_now(self) -> bool:
        """Whether an event is due before time moves."""
        return bool(self._heap) and self._heap[0][0] <= self.now

    def step(self) -> None:
        """Let the next event happen, which there has to be.

        :raises StandstillError: when time has not moved for a million events.
        """
        time, _, moving, call, args = heappop(self._heap)
        if time > self.now:
            self.now = time
            self._still = 0
        else:
            self._still += 1
            if self._still > STANDSTILL:
                raise StandstillError(f"{STANDSTILL:,} events in a row at {time:g} s: something goes round in a circle")
        if moving:
            self.moving -= 1
        call(*args)

    def run_until(self, time: float) -> None:
        """Let everything happen that is due until ``time``, and let it be ``time``."""
        time = ceil(time * TICKS_A_SECOND) / TICKS_A_SECOND
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.step()
        self.now = max(self.now, time)
