from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.timestamp.format import Stamped, Stamper, StampError, is_stamped, parse

NOW = time.mktime((2026, 11, 21, 0, 33, 33, 0, 0, -1))


def test_an_answer_is_the_time_in_brackets_a_blank_and_the_payload() -> None:
    assert Stamper().answer(b"hello", NOW) == b"[Sat Nov 21 00:33:33 2026] hello"


def test_the_day_of_the_month_is_padded_with_a_blank_as_ctime_does() -> None:
    assert Stamper().answer(b"", time.mktime((2026, 1, 2, 3, 4, 5, 0, 0, -1))) == b"[Fri Jan  2 03:04:05 2026] "


def test_the_time_goes_on_from_second_to_second() -> None:
    stamper = Stamper()
    assert stamper.answer(b"", NOW + 0.9) == b"[Sat Nov 21 00:33:33 2026] "
    assert stamper.answer(b"", NOW + 1.0) == b"[Sat Nov 21 00:33:34 2026] "


@given(st.binary(), st.integers(0, 4_000_000_000))
def test_an_answer_is_recognised_and_parsed_back(payload: bytes, now: int) -> None:
    answer = Stamper().answer(payload, now)
    assert is_stamped(answer)
    assert parse(answer) == Stamped(datetime.fromtimestamp(now), payload)


@given(st.binary())
def test_any_bytes_are_parsed_or_refused_in_one_way(data: bytes) -> None:
    try:
        assert is_stamped(data)
        parse(data)
    except (StampError, AssertionError):
        assert not is_stamped(data)


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
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(StampError):
        parse(data)


def test_a_leap_second_is_a_time() -> None:
    assert parse(b"[Sat Dec 31 23:59:60 2016] x").time == datetime(2016, 12, 31, 23, 59, 59)


def test_a_question_that_looks_like_an_answer_counts_as_one_even_without_the_blank() -> None:
    assert is_stamped(b"[Sat Nov 21 00:33:33 2026]")
