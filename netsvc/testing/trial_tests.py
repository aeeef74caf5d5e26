"""Tests of trial that return a Deferred, or are coroutines: they run in virtual time if they use a network.

Trial waits for such a test with the real reactor, which does not advance the time of a network, until the timeout of
the test is over. So a network that is created in a test runs its events first.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from netsvc.errors import NetsvcError
from netsvc.testing.diagnosis import calls_in_threads, left_on_the_real_reactor

_log = Logger()


def run_in_virtual_time(run: Callable[[Deferred[Any]], object]) -> None:
    """Let the test of trial that creates a network wait in its virtual time. Elsewhere, do nothing.

    :param run: runs the network until a Deferred has a result.
    """
    case = _test_that_runs()
    if case is not None:
        vars(case).pop("_wait", None)  # that of an earlier network
        case._wait = partial(_wait, run, case._wait)


def _test_that_runs() -> Any:
    trial: Any = sys.modules.get("twisted.trial._asynctest")
    frame = sys._getframe() if trial is not None else None
    while frame is not None and frame.f_globals is not vars(trial):
        frame = frame.f_back
    case = None if frame is None else frame.f_locals.get("self")
    return case if isinstance(case, getattr(trial, "TestCase", ())) else None


def _wait(run: Callable[[Deferred[Any]], object], wait: Callable[[Deferred[Any]], object], test: Deferred[Any]) -> None:
    """Wait for the end of a test: in virtual time, and then, if it uses the real reactor as well, in real time."""
    if not test.called:
        try:
            run(test.addErrback(lambda _: None))  # trial has recorded the failure
        except NetsvcError:
            if not left_on_the_real_reactor() and not calls_in_threads():
                _log.failure("the test waits for something that cannot happen")
                test.cancel()
    wait(test)
