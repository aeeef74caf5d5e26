from __future__ import annotations

import pytest

from netsvc.probe.clock_reading import MOVEMENT_MAX, ClockReading, clocks_moved

EPOCH = 1_780_000_000_000_000_000
SECOND = 1_000_000_000


@pytest.mark.parametrize("step", [3600 * SECOND, -3600 * SECOND, MOVEMENT_MAX + 1, -MOVEMENT_MAX - 1])
def test_the_clocks_have_moved_if_the_wall_clock_was_set_between_the_readings(step: int) -> None:
    before = ClockReading(0, EPOCH)
    assert clocks_moved(before, ClockReading(SECOND, EPOCH + SECOND + step))
    assert not clocks_moved(before, ClockReading(SECOND, EPOCH + SECOND))


def test_readings_that_took_long_allow_that_much_movement() -> None:
    before, after = ClockReading(0, EPOCH, 40_000), ClockReading(SECOND, EPOCH + SECOND + 45_000)
    assert not clocks_moved(before, after)
    assert clocks_moved(ClockReading(0, EPOCH, 30_000), after)
