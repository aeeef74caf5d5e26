"""Which host's code runs in this thread."""

from __future__ import annotations

import threading
from typing import Any


class _Stack(threading.local):
    def __init__(self) -> None:
        self.reactors: list[Any] = []  # the innermost host is the last


_stack = _Stack()


def running_reactor() -> Any:
    """Return the reactor of the host whose code runs in this thread; None if it is not the code of a host."""
    reactors = _stack.reactors
    return reactors[-1] if reactors else None


class RunningHost:
    """A block in which the code of one host runs.

    :param reactor: the reactor of the host.
    """

    __slots__ = ("_reactor",)

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def __enter__(self) -> None:
        _stack.reactors.append(self._reactor)

    def __exit__(self, *_: object) -> None:
        _stack.reactors.pop()
