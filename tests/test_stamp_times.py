from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.stamp.stamp_times import (
    SECOND,
    ErrorEstimate,
    TimeFormat,
    decode_error_estimate,
    decode_time,
    encode_time,
)

formats = st.sampled_from(TimeFormat)
#: From 1900 to 2200.
times = st.integers(-2_208_988_800 * SECOND, 7_258_118_400 * SECOND)
#: Half of the 136 years after which the seconds of a timestamp begin anew.
HALF = 2**31 * SECOND


def at(*date: int) -> int:
    return int(datetime(*date, tzinfo=UTC).timestamp()) * SECOND  # type: ignore[arg-type,misc]


def test_an_ntp_time_is_seconds_since_1900_and_a_fraction() -> None:
    half_past = at(1970, 1, 1, 0, 0, 1) + SECOND // 2
    assert encode_time(half_past, TimeFormat.NTP) == bytes.fromhex("83aa7e81 80000000")


def test_a_ptp_time_is_seconds_since_1970_and_nanoseconds() -> None:
    assert encode_time(SECOND + 7, TimeFormat.PTP) == bytes.fromhex("00000001 00000007")


@pytest.mark.parametrize(
    ("time_format", "before", "after"),
    [
        (TimeFormat.NTP, "ffffffff 00000000", "00000000 00000000"),
        (TimeFormat.PTP, "ffffffff 00000000", "00000000 00000000"),
    ],
)
def test_the_seconds_begin_anew_in_2036_and_in_2106(time_format: TimeFormat, before: str, after: str) -> None:
    wrap = {TimeFormat.NTP: at(2036, 2, 7, 6, 28, 16), TimeFormat.PTP: at(2106, 2, 7, 6, 28, 16)}[time_format]
    assert encode_time(wrap - SECOND, time_format) == bytes.fromhex(before)
    assert encode_time(wrap, time_format) == bytes.fromhex(after)
    for near in (wrap - SECOND, wrap, wrap + 20 * 365 * 86400 * SECOND):
        assert decode_time(bytes.fromhex(before), time_format, near=near) == wrap - SECOND
        assert decode_time(bytes.fromhex(after), time_format, near=near) == wrap


@given(times, formats, st.integers(-HALF + 1, HALF - 1))
def test_a_time_is_read_to_the_nanosecond_near_any_time_less_than_68_years_away(
    time: int, time_format: TimeFormat, away: int
) -> None:
    assert decode_time(encode_time(time, time_format), time_format, near=time + away) == time


@given(st.binary(min_size=8, max_size=8), formats, times)
def test_any_octets_are_a_time_at_most_68_years_away(data: bytes, time_format: TimeFormat, near: int) -> None:
    time = decode_time(data, time_format, near=near)
    assert -HALF <= near - time <= HALF


def test_an_ntp_fraction_is_rounded_to_the_nearest_nanosecond() -> None:
    assert decode_time(bytes.fromhex("83aa7e80 ffffffff"), TimeFormat.NTP, near=0) == SECOND
    assert decode_time(bytes.fromhex("83aa7e80 00000002"), TimeFormat.NTP, near=0) == 0
    assert decode_time(bytes.fromhex("83aa7e80 00000003"), TimeFormat.NTP, near=0) == 1


def test_the_bits_of_an_error_estimate_are_those_of_rfc_4656() -> None:
    # 1 ms is 4,294,967.3 units of 2**-32 seconds, rounded up to 132 * 2**15: scale 15, multiplier 132.
    assert ErrorEstimate(True, TimeFormat.PTP, 0.001).encode() == 0b1_1_001111_10000100
    assert ErrorEstimate(False, TimeFormat.NTP, 1.0).encode() == 0b0_0_011001_10000000
    assert decode_error_estimate(0b1_0_100000_00000011) == ErrorEstimate(True, TimeFormat.NTP, 3.0)
    assert decode_error_estimate(0b0_1_100001_00000011) == ErrorEstimate(False, TimeFormat.PTP, 6.0)


@given(st.integers(0, 0xFFFF))
def test_all_16_bits_are_an_error_estimate_which_is_written_with_the_same_value(bits: int) -> None:
    estimate = decode_error_estimate(bits)
    again = decode_error_estimate(estimate.encode())
    assert (again.synchronized, again.time_format) == (estimate.synchronized, estimate.time_format)
    assert again.error == min(estimate.error, 255 * 2.0**31)


@given(st.floats(0, 255 * 2.0**31))
def test_an_error_is_rounded_up_by_less_than_a_hundredth_and_never_down(error: float) -> None:
    written = decode_error_estimate(ErrorEstimate(True, TimeFormat.NTP, error).encode()).error
    assert error <= written <= max(error * (1 + 1 / 127) + 2.0**-32, 2.0**-32)


@given(st.floats())
def test_no_error_is_written_with_a_multiplier_of_zero(error: float) -> None:
    assert ErrorEstimate(False, TimeFormat.NTP, error).encode() & 0xFF


def test_an_error_that_is_too_large_is_written_as_the_largest() -> None:
    for error in (math.inf, math.nan, 1e30, 255 * 2.0**31):
        assert ErrorEstimate(False, TimeFormat.NTP, error).encode() == 0x3FFF


def test_a_multiplier_of_zero_says_nothing_about_the_error() -> None:
    assert decode_error_estimate(0x8100) == ErrorEstimate(True, TimeFormat.NTP, math.inf)
