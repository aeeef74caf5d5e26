"""Timers that are measured by the monotonic clock, in a reactor whose time is the wall time.

Twisted measures its timers by the wall clock: if the clock of the system is set forward by an hour, all timers of that
hour run at once; if it is set back, nothing happens for an hour. Here, only the times that programs see are wall time:
``reactor.seconds()`` and ``DelayedCall.getTime()``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.logger import Logger

#: Seconds that a reactor waits at the longest, as in Twisted.
LONGEST_TIMEOUT = 2_147_483.0

#: The number of cancelled calls that are kept at least, as in Twisted.
CANCELLATIONS_KEPT = 50


class TimedCall(DelayedCall):
    """A call whose ``time`` is of the clock ``seconds``, and whose ``getTime`` is wall time.

    :ivar wall: returns the wall time in seconds.
    """

    wall: Callable[[], float]

    def getTime(self) -> float:
        if self.wall is self.seconds:
            return super().getTime()
        return super().getTime() - self.seconds() + self.wall()


class MonotonicTimers(ReactorBase):
    """Replaces the timers of a reactor.

    If a program replaces ``reactor.seconds``, this clock measures the timers, as in Twisted.
    """

    #: Its ``seconds`` are wall time, as those of Twisted's reactors.
    follows_wall_time = True

    seconds = staticmethod(time.time)  # noqa: TID251  a reactor tells others the time

    _timer_logger = Logger()
    _timer_failures = _timer_logger.failureHandler("while handling timed call")
    _thread_failures = _timer_logger.failureHandler("while calling from thread")

    def timer_clock(self) -> Callable[[], float]:
        """Return the clock that measures the timers."""
        replaced: Callable[[], float] | None = vars(self).get("seconds")
        return replaced or time.monotonic

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: A002  Twisted's name
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        clock = self.timer_clock()
        call = TimedCall(clock() + delay, callable, args, kw, self._cancelCallLater, self._moveCallLaterSooner, clock)
        call.wall = self.seconds
        self._newTimedCalls.append(call)
        return call

    def next_call_at(self) -> float:
        """Return the time of the next call by the clock of the timers, or infinity if there is none."""
        self._insertNewDelayedCalls()
        return self._pendingTimedCalls[0].time if self._pendingTimedCalls else inf

    def has_new_calls(self) -> bool:
        """Return whether ``stop`` or ``callLater`` was called since the last call of ``next_call_at``."""
        return bool(self._justStopped or self._newTimedCalls)

    def timeout(self) -> float | None:
        due = self.next_call_at()
        return None if due == inf else min(max(0.0, due - self.timer_clock()()), LONGEST_TIMEOUT)

    def runUntilCurrent(self) -> None:
        if self.threadCallQueue:
            self._run_thread_calls()
        self._insertNewDelayedCalls()
        if self._pendingTimedCalls:
            self._run_timed_calls(self.timer_clock()())
        if self._justStopped:
            self._justStopped = False
            self.fireSystemEvent("shutdown")

    def _run_thread_calls(self) -> None:
        """Run the calls of other threads that are queued by now, and leave later ones for the next iteration."""
        number = len(self.threadCallQueue)
        called = 0
        for call, args, kwargs in self.threadCallQueue:
            with self._thread_failures:
                call(*args, **kwargs)
            called += 1
            if called == number:
                break
        del self.threadCallQueue[:called]
        if self.threadCallQueue:
            self.wakeUp()

    def _run_timed_calls(self, now: float) -> None:
        """Run the calls that are due, and remove cancelled calls if there are many of them."""
        while self._pendingTimedCalls and self._pendingTimedCalls[0].time <= now:
            call = heappop(self._pendingTimedCalls)
            if call.cancelled:
                self._cancellations -= 1
            elif call.delayed_time > 0.0:
                call.activate_delay()
                heappush(self._pendingTimedCalls, call)
            else:
                with self._timer_failures if call.creator is None else self._failures_of(call.creator):
                    call.called = 1
                    call.func(*call.args, **call.kw)
        if self._cancellations > max(CANCELLATIONS_KEPT, len(self._pendingTimedCalls) >> 1):
            self._cancellations = 0
            self._pendingTimedCalls = [call for call in self._pendingTimedCalls if not call.cancelled]
            heapify(self._pendingTimedCalls)

    def _failures_of(self, creator: Any) -> Any:
        """Return what logs the failures of a call, with the place that created it (``DelayedCall.debug``)."""
        place = "".join(creator).rstrip().replace("\n", "\n C:")
        return self._timer_logger.failuresHandled(
            "while handling timed call {previous}",
            previous=f"\n C: from a DelayedCall created here:\n C:{place}\n",
        )
