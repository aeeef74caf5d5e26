"""A timer that can be restarted and cancelled."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from netsvc.net.reactors import Clock, cancel


class RestartableTimer:
    """Calls a function once, unless the timer is restarted or cancelled before.

    :param clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._call: IDelayedCall | None = None

    def restart(self, seconds: float, function: Callable[[], object]) -> None:
        """Call ``function`` after ``seconds`` from now, instead of the call that is pending."""
        self.cancel()
        self._call = self._clock.callLater(seconds, function)

    def cancel(self) -> None:
        """Cancel the pending call, if there is one."""
        cancel(self._call)
        self._call = None
