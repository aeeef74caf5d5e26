"""Policies that decide where a stream is split: how many bytes each read returns.

TCP has no record boundaries. Data that is written in one call may be read in several pieces, and data that is written
in several calls may be read in one piece. A protocol has to work at every split.

A policy takes a random number generator and yields the lengths of the successive pieces. After the last length, a read
returns everything that has arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, repeat
from random import Random

SplitPolicy = Callable[[Random], Iterator[int]]


def nowhere(_random: Random) -> Iterator[int]:
    """Never split: a read returns everything that has arrived, as from the kernel."""
    return iter(())


def every_byte(_random: Random) -> Iterator[int]:
    """Split after every byte."""
    return repeat(1)


def at_random(random: Random) -> Iterator[int]:
    """Split at random offsets. Most pieces are a few bytes long, some are up to 1,023 bytes long."""
    while True:
        scale = 1 << int(random.random() * 10)
        yield scale + int(random.random() * scale)


def every(length: int) -> SplitPolicy:
    """Split after every ``length`` bytes."""
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"the length of a piece must be at least 1 byte, not {length!r}")
    return _with_name(f"every({length})", lambda _random: repeat(length))


def at(*offsets: int) -> SplitPolicy:
    """Split at these offsets, counted in bytes from the beginning of the stream."""
    if any(b <= a for a, b in pairwise((0, *offsets))):
        raise ValueError(f"the offsets must be above 0 and in ascending order: {offsets}")
    lengths = [b - a for a, b in pairwise((0, *offsets))]
    return _with_name(f"at{offsets}", lambda _random: iter(lengths))


def _with_name(name: str, policy: SplitPolicy) -> SplitPolicy:
    """Set the name that the trace shows for a policy."""
    policy.__name__ = name
    return policy
