"""The course of a measurement in bounded memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.probe_series import INTERVALS_MAX, Extent, ProbeSeries

SECOND = 1_000_000_000


def test_each_interval_tells_what_happened_to_the_probes_that_were_due_in_it() -> None:
    series = ProbeSeries(SECOND)
    for time in (0, SECOND - 1, 3 * SECOND):
        series.sent(time)
    series.value("rtt", 0, 30)
    series.value("rtt", 5, -10)
    series.lost(3 * SECOND)
    assert [(interval.start, interval.sent, interval.lost) for interval in series] == [
        (0, 2, 0),
        (SECOND, 0, 0),
        (2 * SECOND, 0, 0),
        (3 * SECOND, 1, 1),
    ]
    [first, *others] = series
    assert first.values == {"rtt": Extent(-10, 30, 20, 2)}
    assert first.values["rtt"].mean == 10
    assert all(interval.values == {} for interval in others)


def test_the_latest_intervals_are_the_last_ones() -> None:
    series = ProbeSeries(SECOND)
    series.sent(3 * SECOND)
    assert [interval.start for interval in series.latest(2)] == [2 * SECOND, 3 * SECOND]
    assert series.latest(9) == list(series)


def test_a_late_answer_takes_a_loss_back() -> None:
    series = ProbeSeries(SECOND)
    series.sent(0)
    series.lost(0)
    series.lost(0, -1)
    assert [interval.lost for interval in series] == [0]


@given(st.lists(st.tuples(st.integers(0, 10_000_000), st.integers(-1_000, 1_000)), min_size=1, max_size=50))
def test_no_probe_and_no_extreme_is_lost_when_the_intervals_become_longer(probes: list[tuple[int, int]]) -> None:
    series = ProbeSeries(1)
    for time, value in probes:
        series.sent(time)
        series.value("rtt", time, value)
    intervals = list(series)
    assert len(intervals) <= INTERVALS_MAX
    assert sum(interval.sent for interval in intervals) == len(probes)
    extents = [interval.values["rtt"] for interval in intervals if interval.values]
    assert min(extent.least for extent in extents) == min(value for _, value in probes)
    assert max(extent.most for extent in extents) == max(value for _, value in probes)
    assert sum(extent.total for extent in extents) == sum(value for _, value in probes)
    for interval in intervals:
        within = [time for time, _ in probes if interval.start <= time < interval.start + series.width]
        assert interval.sent == len(within)


def test_months_take_no_more_memory_than_hours() -> None:
    series = ProbeSeries(SECOND)
    for day in range(100):
        for hour in range(24):
            series.sent((day * 24 + hour) * 3_600 * SECOND)
    assert INTERVALS_MAX // 2 < len(series) <= INTERVALS_MAX
