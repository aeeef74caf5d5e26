from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.timestamp.format import (
    TimestampFormatError,
    TimestampFormatter,
    TimestampReply,
    is_timestamp_reply,
    parse_timestamp_reply,
)

NOW = time.mktime((2026, 11, 21, 0, 33, 33, 0, 0, -1))


def test_a_reply_is_the_time_in_brackets_a_space_and_the_payload() -> None:
    assert TimestampFormatter().prefix(NOW) + b"hello" == b"[Sat Nov 21 00:33:33 2026] hello"


def test_the_day_of_the_month_is_padded_with_a_space_as_in_ctime() -> None:
    second_of_january = time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))
    assert TimestampFormatter().prefix(second_of_january) == b"[Fri Jan  2 03:04:05 2026] "


def test_the_time_changes_each_second() -> None:
    formatter = TimestampFormatter()
    assert formatter.prefix(NOW + 0.9) == b"[Sat Nov 21 00:33:33 2026] "
    assert formatter.prefix(NOW + 1.0) == b"[Sat Nov 21 00:33:34 2026] "


@given(st.binary(), st.integers(0, 4_000_000_000))
def test_a_reply_is_recognised_and_parsed(payload: bytes, now: int) -> None:
    answer = TimestampFormatter().prefix(now) + payload
    assert is_timestamp_reply(answer)
    assert parse_timestamp_reply(answer) == TimestampReply(datetime.fromtimestamp(now), payload)


@given(st.binary())
def test_any_bytes_are_parsed_or_refused_with_one_exception(data: bytes) -> None:
    try:
        assert is_timestamp_reply(data)
        parse_timestamp_reply(data)
    except (TimestampFormatError, AssertionError):
        assert not is_timestamp_reply(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"[Sat Nov 21 00:33:33 2026]hello",
        b"[Xxx Nov 21 00:33:33 2026] ",
        b"[Sat Nov 99 00:33:33 2026] ",
        b"[Sat Feb 30 00:33:33 2026] ",
        b"[Sat Nov 21 24:33:33 2026] ",
    ],
)
def test_bytes_that_are_no_reply_are_refused(data: bytes) -> None:
    with pytest.raises(TimestampFormatError):
        parse_timestamp_reply(data)


def test_a_leap_second_is_accepted() -> None:
    assert parse_timestamp_reply(b"[Sat Dec 31 23:59:60 2016] x").time == datetime(2016, 12, 31, 23, 59, 59)


def test_a_request_that_looks_like_a_reply_counts_as_one_even_without_the_space() -> None:
    assert is_timestamp_reply(b"[Sat Nov 21 00:33:33 2026]")
