"""Converts stamps of the kernel from the wall clock to the monotonic clock, and finds that a clock was set."""

from __future__ import annotations

from typing import NamedTuple

#: Nanoseconds by which the difference of the clocks may change between two readings. Linux slews both clocks together,
#: so this is for rounding and for the time between the two calls.
MOVEMENT_MAX = 5_000


class ClockReading(NamedTuple):
    """Both clocks, read at one moment.

    :ivar mono: nanoseconds on the monotonic clock.
    :ivar wall: nanoseconds since the epoch on the clock by which the kernel stamps packets.
    :ivar uncertainty: nanoseconds that the reading of both clocks took.
    """

    mono: int
    wall: int
    uncertainty: int = 0


def clocks_moved(before: ClockReading, after: ClockReading) -> bool:
    """Whether the difference of the clocks changed between two readings: the wall clock was set."""
    moved = (after.wall - after.mono) - (before.wall - before.mono)
    return abs(moved) > before.uncertainty + after.uncertainty + MOVEMENT_MAX
