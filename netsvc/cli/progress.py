"""The progress of a transfer, on one line of a terminal that is rewritten and at last erased."""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.task import LoopingCall

from netsvc.net.reactors import Clock, monotonic_of

#: Seconds after which the first line appears, and from one line to the next.
INTERVAL = 1.0

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Progress:
    """Shows how many bytes were transferred, and how many per second, while there are more and more of them.

    It writes to standard error, and nothing if that is no terminal.

    :param clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
    :param transferred: returns the number of bytes so far.
    """

    def __init__(self, clock: Clock, transferred: Callable[[], int]) -> None:
        self._transferred = transferred
        self._monotonic = monotonic_of(clock)
        self._bytes = 0
        self._time = self._monotonic()
        self._width = 0  # of what is on the terminal
        self._loop = LoopingCall(self._show)
        self._loop.clock = clock  # type: ignore[assignment]  # zope describes it as IReactorTime
        if os.isatty(2):
            self._loop.start(INTERVAL, now=False)

    def erase(self) -> None:
        """Remove the line from the terminal."""
        if self._width:
            self._write("\r" + " " * self._width + "\r")
            self._width = 0

    def stop(self) -> None:
        """Remove the line, and write no other."""
        if self._loop.running:
            self._loop.stop()
        self.erase()

    def _show(self) -> None:
        total, now = self._transferred(), self._monotonic()
        if total == self._bytes:  # nothing happens
            self.erase()
            return
        rate = (total - self._bytes) / max(now - self._time, 1e-9)
        self._bytes, self._time = total, now
        line = f"{format_bytes(total)}, {format_bytes(rate)}/s"
        self._write("\r" + line.ljust(self._width))
        self._width = max(self._width, len(line))

    def _write(self, text: str) -> None:
        try:
            os.write(2, text.encode("ascii"))
        except OSError:  # the terminal is full, or gone
            self._width = 0


def format_bytes(number: float) -> str:
    """Return a number of bytes for people: ``12 bytes``, ``3.0 MB``."""
    unit = 0
    while number >= 999.95 and unit < len(_UNITS) - 1:
        number /= 1000
        unit += 1
    return f"{number:.1f} {_UNITS[unit]}" if unit else f"{number:.0f} {_UNITS[0]}"
