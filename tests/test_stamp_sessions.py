from __future__ import annotations

import tracemalloc
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from netsvc.stamp.stamp_sessions import HOLD, IDLE, StampSessions


def test_each_session_counts_its_answers_from_zero() -> None:
    sessions: StampSessions[str] = StampSessions(10)
    assert [sessions.next_sequence(key, 0.0) for key in "abaab"] == [0, 0, 1, 2, 1]


def test_a_stateless_reflector_counts_nothing() -> None:
    sessions: StampSessions[str] = StampSessions(0)
    assert [sessions.next_sequence("a", 0.0) for _ in range(3)] == [None] * 3
    assert len(sessions) == 0


def test_a_session_begins_anew_after_a_time_without_a_question() -> None:
    for times in (1, 2):  # on probation and kept
        sessions: StampSessions[str] = StampSessions(10)
        for _ in range(times):
            sessions.next_sequence("a", 0.0)
        assert sessions.next_sequence("a", IDLE) == times
        assert sessions.next_sequence("a", 2 * IDLE + 0.1) == 0


def test_idle_sessions_are_forgotten() -> None:
    sessions: StampSessions[str] = StampSessions(10)
    for key, now in (("a", 0.0), ("a", 0.0), ("b", 0.0), ("c", 1.0), ("d", 1.0), ("d", 1.0)):
        sessions.next_sequence(key, now)
    sessions.forget_idle(IDLE)
    assert len(sessions) == 4
    sessions.forget_idle(IDLE + 0.5)
    assert len(sessions) == 2
    assert [sessions.next_sequence(key, IDLE + 0.5) for key in "acd"] == [0, 1, 2]


def test_the_numbers_wrap_after_32_bits() -> None:
    sessions: StampSessions[str] = StampSessions(10)
    sessions.next_sequence("a", 0.0)
    sessions._probation["a"].next_sequence = 2**32 - 2  # four billion questions later
    assert [sessions.next_sequence("a", 0.0) for _ in range(3)] == [2**32 - 2, 2**32 - 1, 0]


def test_forged_sessions_do_not_end_sessions_in_use() -> None:
    sessions: StampSessions[int] = StampSessions(100)
    used = range(50)
    for key in [*used, *used]:
        sessions.next_sequence(key, 0.0)
    for forged in range(1000, 31000):
        now = forged / 1000
        sessions.next_sequence(forged, now)
        sessions.next_sequence(forged, now)  # each forged one asks twice
        assert len(sessions) <= 100
    assert {sessions.next_sequence(key, HOLD) for key in used} == {2}


def test_a_session_on_probation_is_the_first_to_lose_its_place() -> None:
    sessions: StampSessions[str] = StampSessions(4)
    assert [sessions.next_sequence(key, 0.0) for key in "abc"] == [0, 0, 0]
    assert sessions.next_sequence("b", 0.0) == 1  # is kept
    assert sessions.next_sequence("a", 0.0) == 0  # lost its place to c


def test_a_new_session_takes_the_place_of_the_kept_one_that_has_not_asked_for_longest() -> None:
    sessions: StampSessions[str] = StampSessions(4)
    for second, key in enumerate("aabba"):
        sessions.next_sequence(key, float(second))
    now = 3 + HOLD  # b asked last at 3.0
    sessions.next_sequence("c", now)
    assert sessions.next_sequence("c", now) == 1  # stays on probation
    assert sessions.next_sequence("c", now + 0.1) == 2  # is kept instead of b
    assert sessions.next_sequence("a", now + 0.1) == 3
    assert sessions.next_sequence("b", now + 0.1) == 0


def test_one_place_is_enough_for_one_session() -> None:
    sessions: StampSessions[str] = StampSessions(1)
    assert [sessions.next_sequence(key, 0.0) for key in "aaba"] == [0, 1, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), max_size=100), st.integers(20, 30))
def test_with_places_enough_each_session_counts_all_its_answers(asked: list[tuple[int, float]], maximum: int) -> None:
    sessions: StampSessions[int] = StampSessions(maximum)
    counts: Counter[int] = Counter()
    now = 0.0
    for key, later in asked:
        now += later
        assert sessions.next_sequence(key, now) == counts[key]
        counts[key] += 1


@given(st.lists(st.integers(0, 50)), st.integers(0, 20))
def test_there_are_never_more_sessions_than_allowed(asked: list[int], maximum: int) -> None:
    sessions: StampSessions[int] = StampSessions(maximum)
    for now, key in enumerate(asked):
        sessions.next_sequence(key, now * 40.0)
        assert len(sessions) <= maximum


def test_a_session_takes_less_than_500_bytes() -> None:
    tracemalloc.start()
    try:
        sessions: StampSessions[tuple[tuple[str, int], str, int]] = StampSessions(2000)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(20_000):
            for _ in range(1 + number % 2):
                key = ((f"2001:db8:0:1234::{number:x}", number), "2001:db8::1", number)
                sessions.next_sequence(key, number / 10)
        took = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(sessions) >= 1999
    assert took < 2000 * 500
