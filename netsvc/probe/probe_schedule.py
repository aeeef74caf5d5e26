"""When probes are due. The schedule is an open loop: answers, losses and stalls do not move it.

A closed loop sends the next probe after the answer to the previous one. While a peer stalls, it sends nothing, and so
it omits exactly the probes that would have shown the stall ("coordinated omission", HdrHistogram issue 148).
"""

from __future__ import annotations

from netsvc.errors import NetsvcError

#: A send may be this late before it is counted, however long the interval is.
LATENESS_MAX = 1_000_000

#: A send may always be this late. At 20,000 a second, 10 % of the interval would be 5 us, which no process holds.
LATENESS_MIN = 50_000


class ScheduleError(NetsvcError, ValueError):
    """The interval, the count or the duration has no meaning; the message says why."""


class ProbeSchedule:
    """Probe i is due at ``start + i * interval``. The integers are exact, so nothing drifts.

    :param start: nanoseconds on a monotonic clock: the time of probe 0.
    :param interval: nanoseconds between two probes, at least 1.
    :param count: probes in total; None for no limit.
    :param duration: nanoseconds after the start before which a probe must be due; None for no limit. If both limits
        are given, the smaller one holds.
    :raises ScheduleError: if a number is out of its range.
    """

    def __init__(self, start: int, interval: int, *, count: int | None = None, duration: int | None = None) -> None:
        if interval < 1:
            raise ScheduleError(f"an interval of {interval} ns: choose at least 1 ns")
        if count is not None and count < 1:
            raise ScheduleError(f"{count} probes: choose at least 1")
        if duration is not None and duration < 1:
            raise ScheduleError(f"a duration of {duration} ns: choose at least 1 ns")
        limits = [] if count is None else [count]
        if duration is not None:
            limits.append(-(-duration // interval))
        self.start = start
        self.interval = interval
        #: Probes in total; None if the schedule has no end.
        self.total = min(limits, default=None)
        #: A send later than this, in nanoseconds, counts as late: the smaller of 1 ms and 10 % of the interval, but
        #: at least 50 us.
        self.lateness_limit = min(LATENESS_MAX, max(LATENESS_MIN, interval // 10))
        self._next = 0

    @property
    def finished(self) -> bool:
        """Whether ``due`` has returned the last probe."""
        return self._next == self.total

    def due(self, now: int) -> range:
        """Return the sequence numbers to send now, each of them once: also those that a stall has delayed."""
        first = self._next
        if now >= self.start:
            due = (now - self.start) // self.interval + 1
            self._next = max(first, due if self.total is None else min(due, self.total))
        return range(first, self._next)

    def time_of(self, sequence: int) -> int:
        """Return when a probe is due."""
        return self.start + sequence * self.interval

    def next_time(self) -> int | None:
        """Return when the next probe is due that ``due`` has not returned; None after the last one."""
        return None if self.finished else self.time_of(self._next)

    def next_wake(self, next_look: int) -> int:
        """Return when a prober has to wake: to send the next probe, or to look for what is lost.

        :param next_look: when it looks next; 0 before the first time, which comes with the first probe.
        """
        due = self.next_time()
        return next_look if due is None else min(due, next_look or due)

    def is_late(self, sequence: int, sent: int) -> bool:
        """Whether a probe that left at ``sent`` left so late that the process or the system did not keep up."""
        return sent - self.time_of(sequence) > self.lateness_limit
