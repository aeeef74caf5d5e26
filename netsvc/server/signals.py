"""Signals of a server: the first SIGTERM or SIGINT stops it in order, the second ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any, Protocol


class StoppableReactor(Protocol):
    """A reactor that a signal can stop."""

    @property
    def addSystemEventTrigger(self) -> Callable[..., object]:
        """``addSystemEventTrigger(phase, event, function)`` calls ``function`` at an event such as the shutdown."""

    @property
    def callWhenRunning(self) -> Callable[..., object]:
        """``callWhenRunning(function, *args)`` calls ``function`` once the reactor runs."""

    @property
    def callFromThread(self) -> Callable[..., object]:
        """``callFromThread(function, *args)`` calls ``function`` in the reactor's thread."""

    @property
    def stop(self) -> Callable[[], object]:
        """``stop()`` stops the reactor."""


class Signals:
    """Handles SIGTERM, SIGINT, SIGHUP and SIGUSR1 for a reactor.

    After a SIGTERM that Twisted handled, ``twist`` ends by that signal and ignores a second one. Here the exit status
    after an orderly stop is 0, as systemd and containers expect. After SIGINT it is the one that the runner chooses.

    :param reactor: the reactor to stop.
    :param reload: called at SIGHUP, in the reactor's thread.
    :param report: called at SIGUSR1, in the reactor's thread.
    :ivar interrupted: whether SIGINT has stopped the reactor.
    """

    def __init__(self, reactor: StoppableReactor, reload: Callable[[], None], report: Callable[[], None]) -> None:
        self._reactor = reactor
        self._calls = {signal.SIGHUP: reload, signal.SIGUSR1: report}
        self._previous: dict[int, Any] = {}
        self._stopping = False
        self.interrupted = False

    def install(self) -> None:
        """Handle the signals from now on. Call it in the main thread once the reactor runs: its start sets its own."""
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._interrupt),
            *((number, self._call) for number in self._calls),
        ):
            if number != signal.SIGINT or callable(signal.getsignal(number)):  # under nohup it stays ignored
                self._previous[number] = signal.signal(number, handler)

    def restore(self) -> None:
        """Restore the previous handlers."""
        for number, previous in self._previous.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()

    def _stop(self, number: int, frame: Any) -> None:
        self._end_if_repeated(number)
        self._reactor.callFromThread(self._reactor.stop)

    def _interrupt(self, number: int, frame: Any) -> None:
        self._end_if_repeated(number)
        self.interrupted = True
        self._previous[number](number, frame)

    def _call(self, number: int, frame: Any) -> None:
        self._reactor.callFromThread(self._calls[signal.Signals(number)])
        if callable(self._previous[number]):  # that of twistd, which rotates its log at SIGUSR1
            self._previous[number](number, frame)

    def _end_if_repeated(self, number: int) -> None:
        if self._stopping:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            os._exit(128 + number)  # no signal ends the first process of a container by default
        self._stopping = True
