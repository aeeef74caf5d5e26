"""Calls that may block, such as name look-ups and SQLite. They run in a thread of the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool

T = TypeVar("T")

#: Calls a function with its arguments; the Deferred fires with its result or fails with its exception.
RunBlocking = Callable[..., Deferred[Any]]


def blocking_runner(reactor: object) -> RunBlocking:
    """Return what runs blocking calls for ``reactor``: its thread pool, or the calling thread if it has no threads."""
    if not IReactorThreads.providedBy(reactor):
        return execute

    def run_blocking(function: Callable[..., T], *args: object, **kwargs: object) -> Deferred[T]:
        threads: Any = reactor
        return deferToThreadPool(threads, threads.getThreadPool(), function, *args, **kwargs)

    return run_blocking
