"""What signals do to a server: the first asks it to stop in order, a second one ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


class Signals:
    """Handles SIGTERM, SIGINT and SIGHUP for a reactor.

    ``twist`` ends by the signal after a SIGTERM that Twisted handled, and takes no notice of a second one. Here the
    status is 0 after a stop in order, as systemd and containers expect it; after SIGINT it is what the runner makes of
    it.

    :param reactor: the reactor that is to stop.
    :param reload: called at SIGHUP, in the reactor.
    """

    def __init__(self, reactor: Any, reload: Callable[[], None]) -> None:
        self._reactor = reactor
        self._reload = reload
        self._before: dict[int, Any] = {}
        self._stopping = False

    def install(self) -> None:
        """Handle them from now on. To be called in the main thread, when the reactor runs: it sets its own before."""
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._interrupt),
            (signal.SIGHUP, self._hang_up),
        ):
            self._before[number] = signal.signal(number, handler)

    def restore(self) -> None:
        """Handle them no more."""
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _stop(self, number: int, frame: Any) -> None:
        self._at_once_if_again(number)
        self._reactor.callFromThread(self._reactor.stop)

    def _interrupt(self, number: int, frame: Any) -> None:
        self._at_once_if_again(number)
        self._before[number](number, frame)

    def _hang_up(self, number: int, frame: Any) -> None:
        self._reactor.callFromThread(self._reload)

    def _at_once_if_again(self, number: int) -> None:
        if self._stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._stopping = True
