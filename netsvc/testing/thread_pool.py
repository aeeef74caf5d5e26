"""The thread pool of a simulated host. It has no threads: a function runs at once, after a virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from twisted.python.context import theContextTracker
from twisted.python.failure import Failure


class SimulatedThreadPool:
    """Runs functions that may block. It has the methods of Twisted's ``ThreadPool`` that start a function.

    :param call_later: schedules a call after virtual seconds.
    :ivar seconds: virtual seconds that each function takes. They pass before it runs, and the host is not blocked.
    """

    log = Logger()

    def __init__(self, call_later: Callable[..., object]) -> None:
        self._call_later = call_later
        self.seconds = 0.0

    def callInThread(self, func: Callable[..., object], *args: object, **kw: object) -> None:
        """Run a function. An exception that it raises is logged."""
        self.callInThreadWithCallback(None, func, *args, **kw)

    def callInThreadWithCallback(
        self,
        onResult: Callable[[bool, Any], object] | None,
        func: Callable[..., object],
        *args: object,
        **kw: object,
    ) -> None:
        """Run a function. Call ``onResult`` with True and its result, or with False and its failure."""
        context = theContextTracker.currentContext().contexts[-1]
        self._call_later(self.seconds, self._run, context, onResult, func, args, kw)

    def _run(
        self,
        context: Any,
        on_result: Callable[[bool, Any], object] | None,
        func: Callable[..., object],
        args: tuple[object, ...],
        kw: dict[str, object],
    ) -> None:
        try:
            result = theContextTracker.callWithContext(context, func, *args, **kw)
        except Exception:
            if on_result is None:
                self.log.failure("while a function ran in a thread of the host")
            else:
                on_result(False, Failure())
        else:
            if on_result is not None:
                on_result(True, result)
