"""A call after some seconds that no change of the system's time shortens."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from netsvc.net.reactors import Clock, cancel

#: Seconds that a call may come too early.
TOLERANCE = 0.01


class Deadline:
    """Calls a function after ``seconds`` of monotonic time.

    Twisted's reactors keep wall time. If that is set forward by an hour, they make all calls of that hour at once. Then
    this one is scheduled again, for the time that is left. If wall time is set back, the call is late on Twisted's own
    reactors; on netsvc's it is not.

    :param clock: schedules the call.
    :param monotonic: returns the monotonic time in seconds.
    """

    __slots__ = ("_call", "_clock", "_due", "_function", "_monotonic")

    def __init__(
        self, clock: Clock, monotonic: Callable[[], float], seconds: float, function: Callable[[], object]
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._due = monotonic() + seconds
        self._function = function
        self._call: IDelayedCall = clock.callLater(seconds, self._reached)

    def cancel(self) -> None:
        """Do not call the function, unless it was called before."""
        cancel(self._call)

    def _reached(self) -> None:
        left = self._due - self._monotonic()
        if left > TOLERANCE:
            self._call = self._clock.callLater(left, self._reached)
        else:
            self._function()
