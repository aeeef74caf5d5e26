from __future__ import annotations

import math
import statistics
import tracemalloc
from itertools import chain

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.duration_histogram import DURATION_MAX, DurationHistogram
from netsvc.probe.duration_summary import PERCENTILES, DurationSummary
from netsvc.probe.probe_statistics import DurationKind, ProbeStatistics

magnitudes = st.integers(0, 42).flatmap(lambda bits: st.integers(0, 2**bits)).filter(lambda one: one <= DURATION_MAX)
durations = st.lists(magnitudes | magnitudes.map(lambda one: -one), min_size=1, max_size=60)


def recorded(values: list[int]) -> DurationHistogram:
    histogram = DurationHistogram()
    for value in values:
        histogram.record(value)
    return histogram


def assert_describes(summary: DurationSummary | None, values: list[int]) -> None:
    assert summary is not None
    assert (summary.count, summary.minimum, summary.maximum) == (len(values), min(values), max(values))
    assert summary.mean == pytest.approx(statistics.fmean(values), abs=1e-6)
    assert summary.stddev == pytest.approx(statistics.pstdev(values), rel=1e-9, abs=1e-6)
    for name, percentile in PERCENTILES.items():
        exact = sorted(values)[math.ceil(len(values) * percentile / 100 - 1e-9) - 1]
        assert abs(summary.percentiles[name] - exact) <= abs(exact) / 1000


@given(durations)
def test_a_summary_is_exact_and_its_percentiles_have_three_digits_also_below_zero(values: list[int]) -> None:
    assert_describes(recorded(values).total(), values)


@given(st.lists(durations, min_size=1, max_size=5))
def test_intervals_describe_what_was_recorded_since_the_last_one_and_add_up_to_the_total(
    intervals: list[list[int]],
) -> None:
    histogram = DurationHistogram()
    for number, values in enumerate(intervals):
        for value in values:
            histogram.record(value)
        assert_describes(histogram.interval(), values)
        assert_describes(histogram.total(), list(chain(*intervals[: number + 1])))
        histogram.end_interval()
        assert histogram.interval() is None
    assert_describes(histogram.total(), list(chain(*intervals)))


@given(st.lists(magnitudes, min_size=1, max_size=60))
def test_the_buckets_are_those_of_hdr_histogram(values: list[int]) -> None:
    reference = HdrHistogram(1, DURATION_MAX, 3)
    for value in values:
        reference.record_value(value)
    expected = [
        (item.value_iterated_to, item.count_added_in_this_iter_step) for item in reference.get_recorded_iterator()
    ]
    assert recorded(values).buckets() == [(value, number) for value, number in expected if number]


def test_a_round_trip_of_20_us_is_told_to_20_ns() -> None:
    summary = recorded([20_011] * 9 + [50_000]).total()
    assert summary is not None
    assert abs(summary.percentiles["p50"] - 20_011) < 20


def test_more_than_an_hour_counts_as_an_hour_and_the_maximum_stays_exact() -> None:
    summary = recorded([10 * DURATION_MAX] * 2 + [-5 * DURATION_MAX]).total()
    assert summary is not None
    assert (summary.minimum, summary.maximum) == (-5 * DURATION_MAX, 10 * DURATION_MAX)
    assert summary.percentiles["p50"] == pytest.approx(DURATION_MAX, rel=1e-3)


def test_an_empty_histogram_has_no_summary() -> None:
    histogram = DurationHistogram()
    assert (histogram.total(), histogram.interval(), histogram.buckets()) == (None, None, [])


def test_statistics_have_the_kinds_that_occur() -> None:
    probes = ProbeStatistics()
    probes.record(DurationKind.RTT, 5)
    probes.end_interval()
    probes.record(DurationKind.RTT, 7)
    probes.record(DurationKind.CONNECT, 9)
    assert {name: summary.count for name, summary in probes.totals().items()} == {"rtt": 2, "connect": 1}
    probes.end_interval()
    assert probes.interval() == {}
    assert set(probes.histograms) == {DurationKind.RTT, DurationKind.CONNECT}


def test_memory_does_not_grow_with_the_number_of_durations() -> None:
    histogram = DurationHistogram()

    def a_minute() -> None:
        for value in range(20_000):
            histogram.record(value * 7_919 % 10**9)
        histogram.total()
        histogram.end_interval()

    a_minute()
    tracemalloc.start()
    try:
        a_minute()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(3):
            a_minute()
        assert tracemalloc.get_traced_memory()[0] - before < 50_000
    finally:
        tracemalloc.stop()
