"""The minimum of the recent past, with bounded memory."""

from __future__ import annotations

from collections import deque

from netsvc.errors import NetsvcError


class MinimumWindowError(NetsvcError, ValueError):
    """The window is too short to be divided."""


class RecentMinimum:
    """The minimum over a window that moves with time, in steps.

    :param window: nanoseconds.
    :param steps: the number of steps in a window. Values are forgotten after ``window`` at the latest, and not before
        ``window * (steps - 1) / steps``.
    :raises MinimumWindowError: if a step would be shorter than 1 ns.
    """

    def __init__(self, window: int, steps: int = 12) -> None:
        if steps < 1 or window < steps:
            raise MinimumWindowError(f"a window of {window} ns in {steps} steps: choose at least 1 ns for each step")
        self._step = window // steps
        self._steps = steps
        self._minimums: deque[tuple[int, int]] = deque()  # the step and its minimum; the minimums increase

    def add(self, now: int, value: int) -> int:
        """Add a value, and return the minimum of the window, this value included.

        :param now: nanoseconds on a monotonic clock.
        """
        minimums = self._minimums
        step = now // self._step
        while minimums and minimums[0][0] <= step - self._steps:
            minimums.popleft()
        while minimums and minimums[-1][1] >= value:
            minimums.pop()
        if not minimums or minimums[-1][0] != step:
            minimums.append((step, value))
        return minimums[0][1]

    def clear(self) -> None:
        """Forget all values."""
        self._minimums.clear()
