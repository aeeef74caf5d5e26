from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.probe_schedule import ProbeSchedule, ScheduleError

START = 7_000_000_000
MS = 1_000_000

intervals = st.integers(1, 10**12)
times = st.lists(st.integers(START - 10**6, START + 10**9), max_size=30).map(sorted)


@given(intervals.filter(lambda interval: interval > 10**4), times, st.none() | st.integers(1, 5000))
def test_each_probe_is_returned_once_in_order_and_never_early(
    interval: int, moments: list[int], count: int | None
) -> None:
    schedule = ProbeSchedule(START, interval, count=count)
    returned: list[int] = []
    for now in moments:
        due = schedule.due(now)
        assert all(schedule.time_of(sequence) <= now for sequence in due[-1:])
        returned += due
        following = schedule.next_time()
        assert following is None or following > now
    assert returned == list(range(len(returned)))
    assert count is None or len(returned) <= count


def test_a_stall_delays_probes_and_cancels_none() -> None:
    schedule = ProbeSchedule(START, MS)
    assert list(schedule.due(START)) == [0]
    assert schedule.due(START + 1000 * MS) == range(1, 1001)


def test_the_schedule_does_not_drift_in_a_year() -> None:
    schedule = ProbeSchedule(START, 333_333_333)
    year = 365 * 86_400 * 10**9
    schedule.due(START + year)
    following = schedule.next_time()
    assert following is not None
    assert (following - START) % 333_333_333 == 0
    assert 0 < following - (START + year) <= 333_333_333


def test_nothing_is_due_before_the_start() -> None:
    schedule = ProbeSchedule(START, MS)
    assert not schedule.due(START - 1)
    assert schedule.next_time() == START


def test_a_clock_that_stands_still_returns_no_probe_twice() -> None:
    schedule = ProbeSchedule(START, MS)
    schedule.due(START + 5 * MS)
    assert not schedule.due(START + 5 * MS)


@pytest.mark.parametrize(
    ("count", "duration", "total"),
    [(3, None, 3), (None, 10 * MS, 10), (None, 10 * MS + 1, 11), (None, 1, 1), (3, 10 * MS, 3), (30, 10 * MS, 10)],
)
def test_the_schedule_ends_with_its_count_or_its_duration(count: int | None, duration: int | None, total: int) -> None:
    schedule = ProbeSchedule(START, MS, count=count, duration=duration)
    assert schedule.total == total
    assert len(schedule.due(START + 1000 * MS)) == total
    assert schedule.finished
    assert schedule.next_time() is None


@pytest.mark.parametrize(
    ("interval", "limit"), [(10**9, MS), (200 * MS, MS), (10 * MS, MS), (5 * MS, MS // 2), (50_000, 50_000)]
)
def test_a_send_is_late_after_1_ms_or_a_tenth_of_the_interval_but_never_within_50_us(interval: int, limit: int) -> None:
    schedule = ProbeSchedule(START, interval)
    assert not schedule.is_late(4, schedule.time_of(4) + limit)
    assert schedule.is_late(4, schedule.time_of(4) + limit + 1)


@pytest.mark.parametrize("wrong", [{"interval": 0}, {"interval": 1, "count": 0}, {"interval": 1, "duration": 0}])
def test_a_schedule_without_probes_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ScheduleError, match="choose at least 1"):
        ProbeSchedule(START, **wrong)
