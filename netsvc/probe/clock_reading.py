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


def monotonic_stamp(stamp: int, before: ClockReading, after: ClockReading) -> int | None:
    """Return a stamp of the kernel on the monotonic clock; None if it cannot be trusted.

    :param stamp: nanoseconds since the epoch, between the two readings.
    :param before: a reading before the event, such as at the send of the probe.
    :param after: a reading after it, such as at the processing of the answer.
    """
    if clocks_moved(before, after):
        return None
    mono = stamp - (before.wall - before.mono)
    tolerance = before.uncertainty + after.uncertainty + MOVEMENT_MAX
    # A clock that was set there and back shows the same difference in both readings.
    return mono if before.mono - tolerance <= mono <= after.mono + tolerance else None
