"""Runs on several cores: each in a process that is a copy of this one."""

from __future__ import annotations

import gc
import multiprocessing
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from netsvc.errors import NetsvcError
from netsvc.testing.interruption import ignore_interrupts

T = TypeVar("T")
R = TypeVar("R")

#: Values that a process takes at a time, unless another number is given.
CHUNK = 4


class WorkerEndedError(NetsvcError, RuntimeError):
    """A run has ended its process."""


class _Worker:
    """The function that a process of the pool calls. It need not be pickled: the process is a copy of its parent."""

    function: Callable[[Any], Any]


def map_on_cores(
    function: Callable[[T], R], values: Iterable[T], jobs: int | None = None, chunk: int = CHUNK
) -> Iterator[R]:
    """Yield ``function(value)`` for each value, in their order. Values and results are pickled.

    :param jobs: processes at a time; by default one for each core. With one, everything runs in this process.
    :param chunk: values that a process takes at a time.
    :raises WorkerEndedError: if a call has ended its process.
    """
    values = iter(values)
    jobs = jobs or len(os.sched_getaffinity(0))
    if jobs == 1:
        yield from map(function, values)
        return
    already_frozen = gc.get_freeze_count() > 0
    gc.freeze()  # each run collects garbage, and need not look at what is older
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn of threads. The copies do not use those of this process.
            warnings.simplefilter("ignore", DeprecationWarning)
            fork = multiprocessing.get_context("fork")
            with ProcessPoolExecutor(jobs, fork, _begin, (function,)) as pool:
                # Unlike ``pool.map``, this takes values only as they are needed: there may be no end of them.
                waiting: deque[Future[list[R]]] = deque()
                chunks = iter(lambda: list(islice(values, chunk)), [])
                try:
                    for each in chunks:
                        waiting.append(pool.submit(_call_each, each))
                        if len(waiting) > 2 * jobs:
                            yield from waiting.popleft().result()
                    while waiting:
                        yield from waiting.popleft().result()
                except BrokenProcessPool as e:
                    raise WorkerEndedError("a run has ended its process; --jobs 1 shows which one") from e
                except BaseException:  # Ctrl-C as well
                    processes = list((pool._processes or {}).values())
                    pool.shutdown(wait=False, cancel_futures=True)
                    for process in processes:
                        process.terminate()
                    raise
    finally:
        if not already_frozen:
            gc.unfreeze()


def _begin(function: Callable[[Any], Any]) -> None:
    ignore_interrupts()
    _Worker.function = staticmethod(function)


def _call_each(values: list[Any]) -> list[Any]:
    return [_Worker.function(value) for value in values]
