from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.clock_reading import MOVEMENT_MAX, ClockReading, clocks_moved, monotonic_stamp

EPOCH = 1_780_000_000_000_000_000
SECOND = 1_000_000_000


@given(st.integers(0, 10**15), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_stamp_between_two_readings_is_converted_exactly(start: int, first: int, second: int) -> None:
    before, after = ClockReading(start, EPOCH), ClockReading(start + first + second, EPOCH + first + second)
    assert monotonic_stamp(EPOCH + first, before, after) == start + first


@pytest.mark.parametrize("step", [3600 * SECOND, -3600 * SECOND, MOVEMENT_MAX + 1, -MOVEMENT_MAX - 1])
def test_a_stamp_is_void_if_the_wall_clock_was_set_between_the_readings(step: int) -> None:
    before, after = ClockReading(0, EPOCH), ClockReading(SECOND, EPOCH + SECOND + step)
    assert clocks_moved(before, after)
    assert monotonic_stamp(EPOCH + 5, before, after) is None


@pytest.mark.parametrize("stamp", [EPOCH - SECOND, EPOCH + 2 * SECOND])
def test_a_stamp_is_void_if_the_wall_clock_was_set_there_and_back(stamp: int) -> None:
    before, after = ClockReading(0, EPOCH), ClockReading(SECOND, EPOCH + SECOND)
    assert not clocks_moved(before, after)
    assert monotonic_stamp(stamp, before, after) is None


def test_readings_that_took_long_allow_that_much_movement() -> None:
    before, after = ClockReading(0, EPOCH, 40_000), ClockReading(SECOND, EPOCH + SECOND + 45_000)
    assert not clocks_moved(before, after)
    assert clocks_moved(ClockReading(0, EPOCH, 30_000), after)
