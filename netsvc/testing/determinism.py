"""Random numbers, clocks and asyncio during a simulated run: they follow the seed and the virtual time, or are refused.

While the events of a network run, and while the code of a host runs, these are replaced: the state of the generator
behind the functions of ``random``, the function ``os.urandom``, and ``time``, ``time_ns``, ``monotonic`` and
``monotonic_ns`` of the module ``time``, also where another module has imported them by these names. ``uuid.uuid4`` and
``secrets`` follow from ``os.urandom``. ``random.Random()`` and ``random.seed()`` take a seed from the run, not from
the system. The running event loop of asyncio is one that refuses everything. Afterwards, all of them are what they
were.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable
from types import MethodType
from typing import Any

from netsvc.testing.refusing_loop import REFUSING_LOOP

_FUNCTIONS: dict[str, Any] = {
    "time": time.time,  # noqa: TID251  it is replaced
    "time_ns": time.time_ns,
    "monotonic": time.monotonic,
    "monotonic_ns": time.monotonic_ns,
    "urandom": os.urandom,
    "_urandom": os.urandom,  # as random has imported it, for SystemRandom, and so for secrets
    "seed": random.seed,
}

_really_seed = random.Random.seed


def _seed_from_the_run(self: random.Random, a: Any = None, version: int = 2) -> None:
    """Stand for ``Random.seed``, which without a seed would take one from the system."""
    _really_seed(self, random.randbytes(32) if a is None else a, version)


class _Importers:
    """The modules that have one of these functions. Finding them takes a millisecond."""

    def __init__(self) -> None:
        self._loaded = 0
        self._found: list[tuple[Any, str]] = []

    def find(self) -> list[tuple[Any, str]]:
        """Return each module with the name of the function."""
        if len(sys.modules) != self._loaded:
            self._loaded = len(sys.modules)
            self._found = [
                (module, name)
                for module in list(sys.modules.values())
                for name, function in _FUNCTIONS.items()
                if getattr(module, "__dict__", {}).get(name) is function and module.__name__ != __name__
            ]
        return self._found


_importers = _Importers()


class Determinism:
    """A block in which random numbers follow the seed, and clocks the virtual time. It may contain itself.

    :param seed: the seed. Each block gets other numbers.
    :param now: returns the time that ``time.time`` tells, in seconds.
    :param monotonic: returns the time that ``time.monotonic`` tells, in seconds.
    """

    def __init__(self, seed: int, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._seeds = random.Random(f"{seed} determinism")
        self._depth = 0
        self._state: Any = None
        self._replaced: list[tuple[Any, str]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

        self._replacements = {
            "time": now,
            "time_ns": lambda: int(now() * 1_000_000_000),
            "monotonic": monotonic,
            "monotonic_ns": lambda: int(monotonic() * 1_000_000_000),
            "urandom": random.randbytes,
            "_urandom": random.randbytes,
            "seed": MethodType(_seed_from_the_run, _FUNCTIONS["seed"].__self__),
        }

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        self._state = random.getstate()
        random.seed(self._seeds.getrandbits(64))
        self._replaced = _importers.find()
        for module, name in self._replaced:
            setattr(module, name, self._replacements[name])
        random.Random.seed = _seed_from_the_run  # type: ignore[method-assign]
        self._loop = asyncio._get_running_loop()
        asyncio._set_running_loop(REFUSING_LOOP)

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth:
            return
        asyncio._set_running_loop(self._loop)
        for module, name in self._replaced:
            setattr(module, name, _FUNCTIONS[name])
        random.Random.seed = _really_seed  # type: ignore[method-assign]
        random.setstate(self._state)
