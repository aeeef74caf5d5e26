"""Ctrl-C while scenarios run. It ends a run between two events: programs, and Twisted, catch ``KeyboardInterrupt``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_runs = 0
_requested = False


def handle_interrupts() -> None:
    """Let Ctrl-C end a run after its present event. A second one ends the process at once."""
    signal.signal(signal.SIGINT, _interrupt)


def ignore_interrupts() -> None:
    """Ignore Ctrl-C, in a process whose parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def interruptible_run() -> Iterator[None]:
    """A block in which :func:`check_interrupt` is called often.

    :raises KeyboardInterrupt: at the end, if there was a Ctrl-C since the last check.
    """
    global _runs  # noqa: PLW0603  the signal handler of a process is global
    _runs += 1
    try:
        yield
    finally:
        _runs -= 1
    check_interrupt()


def check_interrupt() -> None:
    """Raise ``KeyboardInterrupt`` if there was a Ctrl-C."""
    global _requested  # noqa: PLW0603
    if _requested:
        _requested = False
        raise KeyboardInterrupt


def _interrupt(_signal: int, _frame: object) -> None:
    global _requested  # noqa: PLW0603
    if _requested:
        os._exit(130)
    if not _runs:
        raise KeyboardInterrupt
    _requested = True
