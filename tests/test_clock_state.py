"""The state of the system's clock, as the kernel tells it."""

from __future__ import annotations

import math
import struct
import sys

import pytest

from netsvc.linux.clock_state import ClockState, parse_timex, read_clock_state


@pytest.mark.parametrize(
    ("returned", "status", "synchronized"),
    [(0, 0x2001, True), (0, 0x41, False), (5, 0x2001, False), (1, 0x11, True)],
    ids=["NTP", "STA_UNSYNC", "TIME_ERROR", "a leap second today"],
)
def test_a_clock_is_synchronized_and_has_an_error_if_both_the_status_and_the_return_value_say_so(
    returned: int, status: int, synchronized: bool
) -> None:
    timex = struct.pack("@Illlli", 0, 0, 0, 2_500, 30, status)
    assert parse_timex(returned, timex) == ClockState(synchronized, 0.0025 if synchronized else math.inf)


@pytest.mark.skipif(sys.platform != "linux", reason="adjtimex is a call of Linux")
def test_the_kernel_tells_an_error_of_less_than_16_s_or_none() -> None:
    state = read_clock_state()
    assert state is not None
    assert 0 <= state.error < 16 if state.synchronized else state.error == math.inf
