"""Why there is no result: what is known when a network has no event left, or when a timeout is over.

All of this is looked up when an error is raised, so it costs nothing before.
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from netsvc.testing.global_reactor import is_installed, refusals

#: How many things of one kind are listed.
LISTED_MAX = 3

_AWAIT = inspect.unwrap(vars(Deferred)["__await__"]).__code__  # where every coroutine waits in the end


class LoggedFailures:
    """A block that records the failures that are logged in it.

    :ivar failures: these failures.
    """

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._observer: Any = self._observe

    def __enter__(self) -> LoggedFailures:
        globalLogPublisher.addObserver(self._observer)
        return self

    def __exit__(self, *_: object) -> None:
        globalLogPublisher.removeObserver(self._observer)

    def _observe(self, event: Any) -> None:
        failure = event.get("log_failure") or event.get(
            "failure"
        )  # the latter of twisted.python.log, which transports use
        if failure is not None:
            self.failures.append(failure)


def waits(deferred: Deferred[Any]) -> list[str]:
    """Return where the coroutines of a Deferred wait, from the outermost to the innermost, and for what."""
    steps: list[str] = []
    seen: set[int] = set()
    while id(deferred) not in seen:
        seen.add(id(deferred))
        if deferred._chainedTo is not None:
            deferred = deferred._chainedTo
            continue
        status = _status(deferred)
        waited_for = getattr(status, "waitingOn", None)
        if not isinstance(waited_for, Deferred):
            break
        steps += [place for waiting in _waiting(waited_for, status) for place in _places(waiting)]
        deferred = waited_for
    all_of_it: list[Deferred[Any]] | None = getattr(deferred, "_deferredList", None)  # of a DeferredList
    if all_of_it is not None:
        pending = [each for each in all_of_it if not each.called or each._chainedTo is not None]
        texts = ["; ".join(waits(each)) for each in pending]
        return [*steps, f"{len(pending)} of {len(all_of_it)} Deferreds: {_listed(texts)}"]
    return [*steps, _name(deferred)]


def _status(deferred: Deferred[Any]) -> Any:
    """Return what Twisted knows of the coroutine behind a Deferred, or None. Only its canceller leads there."""
    cells = getattr(deferred._canceller, "__closure__", None) or ()
    return next((cell.cell_contents for cell in cells if hasattr(cell.cell_contents, "waitingOn")), None)


def _waiting(deferred: Deferred[Any], status: Any) -> Iterator[Any]:
    """Give the coroutine that waits for a Deferred. It is an argument of the callback that resumes it."""
    for (_, arguments, _), _ in deferred._callbacks:
        if any(argument is status for argument in arguments or ()):
            yield from (each for each in arguments if inspect.iscoroutine(each) or inspect.isgenerator(each))


def _places(coroutine: Any) -> Iterator[str]:
    """Give the line at which a coroutine waits, and those of the coroutines within it."""
    while True:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None or frame.f_code is _AWAIT:
            return
        yield f"{coroutine.__qualname__} ({os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno})"
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


def _name(deferred: Deferred[Any]) -> str:
    name = getattr(deferred._canceller, "__qualname__", "").partition(".<locals>")[0]
    return f"a Deferred of {name}" if name else "a Deferred"


def failures_without_errback() -> list[Failure]:
    """Return the failures of all Deferreds that have no errback for them. Twisted logs them when they are collected."""
    return [deferred._debugInfo.failResult for deferred in _failed_deferreds()]


def take_failures() -> list[Failure]:
    """Return the failures of :func:`failures_without_errback`, and make their Deferreds forget them.

    Twisted logs those of Deferreds that nothing refers to before this returns. They are not among the result.
    """
    gc.collect()
    found = []
    for deferred in _failed_deferreds():
        found.append(deferred._debugInfo.failResult)
        deferred._debugInfo.failResult = None
    return found


def _failed_deferreds() -> list[Any]:
    # The type of an object is always known; its ``__class__``, which isinstance asks for, may raise an exception.
    deferreds = [each for each in gc.get_objects() if issubclass(type(each), Deferred)]
    return [each for each in deferreds if getattr(each._debugInfo, "failResult", None) is not None]


def failure_text(failure: Failure) -> str:
    """Return the exception of a failure with the line that raised it."""
    raised_at: TracebackType | None = failure.getTracebackObject()
    while raised_at is not None and raised_at.tb_next is not None:
        raised_at = raised_at.tb_next
    place = f" ({os.path.basename(raised_at.tb_frame.f_code.co_filename)}:{raised_at.tb_lineno})" if raised_at else ""
    return f"{type(failure.value).__name__}: {failure.getErrorMessage()}{place}"


def left_on_the_real_reactor() -> list[Any]:
    """Return the delayed calls, readers and writers of the real reactor, if one is installed."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        return []
    calls = [call for call in reactor.getDelayedCalls() if not _is_of_trial(call)]
    own = getattr(reactor, "_internalReaders", ())  # which it has as soon as it is imported
    readers = [reader for reader in reactor.getReaders() if reader not in own]
    return [*calls, *readers, *reactor.getWriters()]


def _is_of_trial(call: Any) -> bool:
    return str(getattr(call.func, "__module__", "")).startswith("twisted.trial")  # the timeout of a test


def calls_in_threads() -> int:
    """Return the number of functions that run or wait in threads of the real reactor, and of calls from its threads."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    pool = getattr(reactor, "threadpool", None)
    in_pool = 0 if pool is None else len(pool.working) + pool.q.qsize()
    return in_pool + len(getattr(reactor, "threadCallQueue", ()))


def call_text(call: Any) -> str:
    """Return what a delayed call calls, and when."""
    return f"{getattr(call.func, '__qualname__', call.func)} at {call.getTime():g} s"


def known_facts(
    deferred: Deferred[Any],
    *,
    down: Iterable[str],
    partitions: Iterable[str],
    held: Iterable[str],
    calls: Iterable[str],
    logged: list[Failure],
    threads: Iterable[str],
) -> str:
    """Return a line for each thing that may be the reason why a Deferred has no result.

    :param down: the names of the hosts that have crashed.
    :param partitions: the names of the links in a partition.
    :param held: the names of the links that keep their packets.
    :param calls: the delayed calls of the hosts.
    :param logged: failures that were logged.
    :param threads: the names of threads that run.
    """
    real = [call_text(each) if hasattr(each, "getTime") else str(each) for each in left_on_the_real_reactor()]
    if in_threads := calls_in_threads():
        real.append(f"calls in threads ({in_threads})")
    remedy = "the option netsvc_global_reactor = true, or netsvc.testing.install(), makes it that of the host"
    facts = {
        "it waits for": [" > ".join(waits(deferred))],
        "failures were logged": [failure_text(failure) for failure in logged],
        "failures have no errback": [failure_text(failure) for failure in failures_without_errback()],
        "hosts are down": list(down),
        "in a partition": list(partitions),
        "held": list(held),
        "scheduled on hosts": list(calls),
        "refused": refusals,
        f"on the real reactor, which does not run meanwhile{'' if is_installed() else f' ({remedy})'}": real,
        "threads run in real time": list(threads),
    }
    return "".join(f"\n- {kind}: {_listed(things)}" for kind, things in facts.items() if things)


def _listed(things: list[str]) -> str:
    more = f", and {len(things) - LISTED_MAX} more" if len(things) > LISTED_MAX else ""
    return ", ".join(things[:LISTED_MAX]) + more
