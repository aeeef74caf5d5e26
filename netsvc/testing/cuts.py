"""Where a stream is cut: how many bytes each read returns.

TCP has no record boundaries. What is written at once may be read in pieces, and what is written in pieces may be read
at once; a protocol has to be right however its stream is cut.

A policy takes a source of random numbers and returns the lengths of the pieces, one after another; after the last of
them the rest comes in lumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise, repeat
from random import Random

Policy = Callable[[Random], Iterator[int]]


def lumps(_random: Random) -> Iterator[int]:
    """Cut nowhere: a read returns all that has arrived, as the kernel does."""
    return iter(())


def one_byte(_random: Random) -> Iterator[int]:
    """Read one byte at a time."""
    return repeat(1)


def anywhere(random: Random) -> Iterator[int]:
    """Cut at random: mostly into a few bytes, sometimes into many."""
    while True:
        scale = 1 << int(random.random() * 10)
        yield scale + int(random.random() * scale)


def every(length: int) -> Policy:
    """Cut after every ``length`` bytes."""
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"a piece has at least one byte, not {length!r}")
    return _named(f"every({length})", lambda _random: repeat(length))


def at(*offsets: int) -> Policy:
    """Cut at these offsets of the stream, counted in bytes from its beginning."""
    if any(b <= a for a, b in pairwise((0, *offsets))):
        raise ValueError(f"offsets begin above 0 and grow: {offsets}")
    lengths = [b - a for a, b in pairwise((0, *offsets))]
    return _named(f"at{offsets}", lambda _random: iter(lengths))


def _named(name: str, policy: Policy) -> Policy:
    """Give a policy the name by which the trace shows it."""
    policy.__name__ = name
    return policy
