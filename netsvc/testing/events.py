"""Virtual time: a queue of scheduled events, in the order of their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from heapq import heapify, heappop, heappush
from itertools import count
from math import ceil
from typing import Any

from netsvc.errors import NetsvcError

#: Consecutive events at the same virtual time that are taken as an endless loop.
STANDSTILL = 10_000_000

#: Cancelled events that the heap may contain before they are removed from it.
CANCELLED_MAX = 1_000

#: Virtual time is a whole number of ticks; an event between two ticks is run at the later one. A rounding error can
#: therefore never run an event early. Without ticks, a ``LoopingCall`` every 0.1 s would sometimes be called twice, and
#: ten times 0.1 s would be less than 1 s. The number is a power of two, so that the conversion itself is exact.
TICKS_PER_SECOND = 2**32


class StandstillError(NetsvcError, RuntimeError):
    """The events at one instant schedule each other without end, so that virtual time cannot advance."""


#: ``[time, sequence number, whether it is in flight, function, arguments]``. The function of a cancelled event is None.
ScheduledEvent = list[Any]


class KeptTime(float):
    """The time of an event that does not happen before it is released.

    :param time: when it would have happened. If it is released later, it happens then.
    :param kept: the list to which the event is added.
    """

    __slots__ = ("kept",)

    kept: list[ScheduledEvent]

    def __new__(cls, time: float, kept: list[ScheduledEvent]) -> KeptTime:
        self = super().__new__(cls, time)
        self.kept = kept
        return self


class EventQueue:
    """The scheduled events. The earliest is run first; of two at the same time, the one that was scheduled first.

    There are two kinds. A *timer* is a delayed call. A *delivery* is in flight: a packet, or a change that a host must
    process at once. ``Network.settle`` waits for deliveries, but not for timers.

    :ivar now: virtual seconds since the beginning.
    :ivar in_flight: the number of scheduled deliveries.
    :ivar standstill: consecutive events at the same time that are taken as an endless loop.
    :ivar surroundings: a block that surrounds the events while they run.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.surroundings: AbstractContextManager[object] = nullcontext()
        self.in_flight = 0
        self.standstill = STANDSTILL
        self._events_at_this_time = 0
        self._heap: list[ScheduledEvent] = []
        self._sequence = count()
        self._cancelled = 0
        self._running = False

    def call_at(self, time: float, call: Callable[..., object], *args: Any) -> ScheduledEvent:
        """Schedule a timer."""
        event = [ceil(time * TICKS_PER_SECOND) / TICKS_PER_SECOND, next(self._sequence), False, call, args]
        if type(time) is KeptTime:
            time.kept.append(event)
        else:
            heappush(self._heap, event)
        return event

    def deliver_at(self, time: float, call: Callable[..., object], *args: Any) -> None:
        """Schedule a delivery."""
        event = [ceil(time * TICKS_PER_SECOND) / TICKS_PER_SECOND, next(self._sequence), True, call, args]
        if type(time) is KeptTime:
            time.kept.append(event)
        else:
            self.in_flight += 1
            heappush(self._heap, event)

    def release(self, kept: list[ScheduledEvent]) -> None:
        """Let events that were kept happen at their time, or now if it is past. It empties the list."""
        for event in kept:
            if event[3] is None:  # it was cancelled
                self._cancelled = max(0, self._cancelled - 1)
                continue
            event[0] = max(event[0], self.now)
            event[1] = next(self._sequence)
            self.in_flight += event[2]
            heappush(self._heap, event)
        kept.clear()

    def cancel(self, event: ScheduledEvent) -> None:
        """Cancel a timer. A timer that has run or was cancelled before is ignored."""
        if event[3] is not None:
            event[3] = None
            event[4] = ()
            self._cancelled += 1
            if self._cancelled > CANCELLED_MAX and self._cancelled > len(self._heap) // 2:
                self._heap[:] = [kept for kept in self._heap if kept[3] is not None]
                heapify(self._heap)
                self._cancelled = 0

    def next_time(self) -> float | None:
        """Return the time of the next event, or None if no event is scheduled."""
        heap = self._heap
        while heap and heap[0][3] is None:
            heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    @property
    def has_event_now(self) -> bool:
        """Whether an event is scheduled for the present time."""
        next_time = self.next_time()
        return next_time is not None and next_time <= self.now

    @contextmanager
    def running(self) -> Iterator[None]:
        """Mark the queue as running for the duration of a block.

        :raises RuntimeError: if it is running already, because an event or a coroutine makes this call.
        """
        if self._running:
            raise RuntimeError(
                "the network is running already; this must not be called from inside a callback or a coroutine, which "
                "wait by 'await deferLater(host.reactor, seconds)' instead"
            )
        self._running = True
        try:
            with self.surroundings:
                yield
        finally:
            self._running = False

    def step(self) -> None:
        """Run the next event. The queue must not be empty.

        :raises StandstillError: when virtual time has not advanced for as many events as :attr:`standstill`.
        """
        event = heappop(self._heap)
        time, _, in_flight, call, args = event
        if call is None:
            self._cancelled -= 1
            return
        event[3] = None
        if time > self.now:
            self.now = time
            self._events_at_this_time = 0
        else:
            self._events_at_this_time += 1
            if self._events_at_this_time > self.standstill:
                raise StandstillError(
                    f"{self.standstill:,} consecutive events at {time:g} s: this is an endless loop, "
                    "or the links need a latency"
                )
        if in_flight:
            self.in_flight -= 1
        call(*args)

    def observe(self, after_step: Callable[[int], object]) -> None:
        """Call a function after each event from now on, with the number of these events."""
        step, numbers = self.step, count(1)

        def observed() -> None:
            step()
            after_step(next(numbers))

        self.step = observed  # type: ignore[method-assign]  # without an observer, it costs nothing

    def run_until(self, time: float) -> None:
        """Run every event that is scheduled up to ``time``, and set the virtual time to ``time``."""
        time = ceil(time * TICKS_PER_SECOND) / TICKS_PER_SECOND
        heap = self._heap
        with self.running():
            while heap and heap[0][0] <= time:
                self.step()
        self.now = max(self.now, time)
