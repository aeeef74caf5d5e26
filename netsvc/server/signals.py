"""What signals do to a server: the first asks it to stop in order, a second one ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any


class Signals:
    """Handles SIGTERM, SIGINT, SIGHUP and SIGUSR1 for a reactor.

    ``twist`` ends by the signal after a SIGTERM that Twisted handled, and takes no notice of a second one. Here the
    status is 0 after a stop in order, as systemd and containers expect it; after SIGINT it is what the runner makes of
    it.

    :param reactor: the reactor that is to stop.
    :param reload: called at SIGHUP, in the reactor.
    :param report: called at SIGUSR1, in the reactor.
    """

    def __init__(self, reactor: Any, reload: Callable[[], None], report: Callable[[], None]) -> None:
        self._reactor = reactor
        self._calls = {signal.SIGHUP: reload, signal.SIGUSR1: report}
        self._before: dict[int, Any] = {}
        self._stopping = False

    def install(self) -> None:
        """Handle them from now on. To be called in the main thread, when the reactor runs: it sets its own before."""
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._interrupt),
            *((number, self._call) for number in self._calls),
        ):
            if number != signal.SIGINT or callable(signal.getsignal(number)):  # nohup's stays ignored
                self._before[number] = signal.signal(number, handler)

    def restore(self) -> None:
        """Handle them no more."""
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
        self._before.clear()

    def _stop(self, number: int, frame: Any) -> None:
        self._at_once_if_again(number)
        self._reactor.callFromThread(self._reactor.stop)

    def _interrupt(self, number: int, frame: Any) -> None:
        self._at_once_if_again(number)
        self._before[number](number, frame)

    def _call(self, number: int, frame: Any) -> None:
        self._reactor.callFromThread(self._calls[signal.Signals(number)])
        if callable(self._before[number]):  # twistd's, which begins a new log file at SIGUSR1
            self._before[number](number, frame)

    def _at_once_if_again(self, number: int) -> None:
        if self._stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            os._exit(128 + number)  # the first process of a container, which no signal ends by default
        self._stopping = True
