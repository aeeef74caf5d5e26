"""Virtual time: what is due, in the order in which it is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from math import ceil
from typing import Any

#: Events in a row between which time does not move, after which something must go round in a circle.
STANDSTILL = 10_000_000

#: Cancelled events that are kept before the heap is cleared of them.
CANCELLED = 1_000

#: Virtual time goes in ticks, and what is due between two is due at the later one. Nothing is ever early by a rounding
#: error: a ``LoopingCall`` every 0.1 s would otherwise sometimes be called twice, and 0.1 s ten times be less than 1.
#: The number is a power of two, so that counting in ticks rounds nothing else.
TICKS_A_SECOND = 2**32


class StandstillError(RuntimeError):
    """So much happens at one instant that time does not move any more."""


#: One event: when, its number, whether it is something under way, what is called, and with what. Nothing is called of
#: one that was cancelled.
Entry = list[Any]


class Events:
    """What is due, earliest first; of two that are due together, the one that was scheduled first.

    :ivar now: seconds since the beginning.
    :ivar moving: how many of the events are something under way, and not only a timer.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.moving = 0
        self._still = 0
        self._heap: list[Entry] = []
        self._number = count()
        self._cancelled = 0
        self._driven = False

    def wait(self, time: float, call: Callable[..., object], *args: Any) -> Entry:
        """Call at ``time``: a timer."""
        entry = [ceil(time * TICKS_A_SECOND) / TICKS_A_SECOND, next(self._number), False, call, args]
        heappush(self._heap, entry)
        return entry

    def move(self, time: float, call: Callable[..., object], *args: Any) -> None:
        """Call at ``time``: something is under way until then."""
        self.moving += 1
        heappush(self._heap, [ceil(time * TICKS_A_SECOND) / TICKS_A_SECOND, next(self._number), True, call, args])

    def cancel(self, entry: Entry) -> None:
        """Call nothing after all."""
        if entry[3] is not None:
            entry[3] = None
            entry[4] = ()
            self._cancelled += 1
            if self._cancelled > CANCELLED and self._cancelled > len(self._heap) // 2:
                self._heap[:] = [kept for kept in self._heap if kept[3] is not None]
                heapify(self._heap)
                self._cancelled = 0

    def due(self) -> float | None:
        """Return when the next event is due, or None if there is none."""
        heap = self._heap
        while heap and heap[0][3] is None:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    @property
    def due_now(self) -> bool:
        """Whether an event is due before time moves."""
        due = self.due()
        return due is not None and due <= self.now

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Let time move for the length of a block.

        :raises RuntimeError: if it moves already: an event asks for it.
        """
        if self._driven:
            raise RuntimeError("the network runs already: this is called from inside a callback, which should return")
        self._driven = True
        try:
            yield
        finally:
            self._driven = False

    def step(self) -> None:
        """Let the next event happen, which there has to be.

        :raises StandstillError: when time has not moved for ten million events.
        """
        entry = heappop(self._heap)
        time, _, moving, call, args = entry
        if call is None:
            self._cancelled -= 1
            return
        entry[3] = None
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
        with self.driven():
            while heap and heap[0][0] <= time:
                self.step()
        self.now = max(self.now, time)
