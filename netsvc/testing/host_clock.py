"""The clocks of a simulated host, which may be wrong: they are ahead or behind, and too fast or too slow."""

from __future__ import annotations

from math import ceil

from netsvc.testing.events import TICKS_PER_SECOND


class HostClock:
    """Two clocks of one host, from the virtual time of the network, in seconds.

    The wall clock can be set. The monotonic clock never jumps. Both run at the same rate. At first, both tell the
    virtual time.
    """

    def __init__(self) -> None:
        self._since = 0.0  # the virtual time of the last change
        self._wall = 0.0  # what the clocks told then
        self._monotonic = 0.0
        self._rate = 1.0

    def change(self, now: float, *, skew: float | None, drift: float | None) -> None:
        """Set the clock, or let it run at another rate from now on.

        :param now: the virtual time.
        :param skew: seconds by which the wall clock is ahead of the virtual time from now on; None leaves it alone.
        :param drift: seconds that both clocks gain in a second, such as 100e-6; more than -1. None leaves it alone.
        """
        self._wall, self._monotonic = self.wall(now) if skew is None else now + skew, self.monotonic(now)
        self._since = now
        if drift is not None:
            self._rate = 1.0 + drift

    def wall(self, now: float) -> float:
        """Return what the wall clock tells at a virtual time."""
        return self._wall + (now - self._since) * self._rate

    def monotonic(self, now: float) -> float:
        """Return what the monotonic clock tells at a virtual time."""
        return self._monotonic + (now - self._since) * self._rate

    def next_tick(self, wall: float) -> float:
        """Return the first tick of the virtual time at which the wall clock tells this or more.

        A call that is due then must not run before its time, or it would schedule itself again and again.
        """
        tick = ceil((self._since + (wall - self._wall) / self._rate) * TICKS_PER_SECOND)
        step = 1  # the time of day has fewer digits than the ticks
        while self.wall(tick / TICKS_PER_SECOND) < wall:
            tick += step
            step *= 2
        return tick / TICKS_PER_SECOND
