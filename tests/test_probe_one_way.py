from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.clock_offset import OFFSET_WINDOW, ClockOffset
from netsvc.probe.delay_variation import DelayVariation, InterarrivalJitter
from netsvc.probe.one_way_delay import BASE_WINDOW, ClockClaim, OneWayDelay, OneWaySample, absolute_delay, clock_claim
from netsvc.probe.recent_minimum import MinimumWindowError, RecentMinimum

SECOND = 1_000_000_000
EPOCH = 1_780_000_000 * SECOND

delays = st.integers(0, 10**9)
offsets = st.integers(-(10**18), 10**18)


def times(sent: int, there: int, back: int, offset: int, processing: int = 70) -> tuple[int, int, int, int]:
    return (
        sent,
        sent + there + offset,
        sent + there + processing + offset,
        sent + there + processing + back,
    )


@given(st.lists(st.tuples(delays, delays), min_size=1, max_size=40), offsets)
def test_changes_are_exact_however_far_the_clocks_are_apart(pairs: list[tuple[int, int]], offset: int) -> None:
    one_way = OneWayDelay()
    for place, (there, back) in enumerate(pairs):
        now = place * SECOND
        sample = one_way.add(*times(EPOCH + now, there, back, offset), now)
        so_far = pairs[: place + 1]
        assert sample == OneWaySample(
            there + back,
            there + offset,
            back - offset,
            there - min(one for one, _ in so_far),
            back - min(one for _, one in so_far),
        )
    assert one_way.clock_movements == 0


def test_the_base_of_a_change_is_the_minimum_of_the_last_minute_only() -> None:
    one_way = OneWayDelay()
    changes = [
        one_way.add(*times(EPOCH + second * SECOND, 5 if second == 0 else 105, 5, 0), second * SECOND).there_change
        for second in range(62)
    ]
    assert changes[0] == 0
    assert changes[1:55] == [100] * 54
    assert changes[60:] == [0, 0]
    assert BASE_WINDOW == 60 * SECOND


def test_a_clock_that_was_set_by_more_than_a_round_trip_starts_the_minimums_anew() -> None:
    one_way = OneWayDelay()
    one_way.add(*times(EPOCH, 50, 50, 0), 0)
    for step in (SECOND, -SECOND):
        sample = one_way.add(*times(EPOCH, 60, 70, step), 0)
        assert (sample.rtt, sample.there_change, sample.back_change) == (130, 0, 0)
    assert one_way.clock_movements == 2


def test_absolute_delays_need_the_claim_of_both_hosts_and_may_be_negative() -> None:
    sample = OneWayDelay().add(*times(EPOCH, 40, 60, -100), 0)
    claim, none = ClockClaim(True, 300), ClockClaim(False, 5)
    absolute = absolute_delay(sample, claim, ClockClaim(True, 200))
    assert absolute is not None
    assert (absolute.there, absolute.back, absolute.uncertainty) == (-60, 160, 500)
    assert absolute_delay(sample, claim, none) is None
    assert absolute_delay(sample, none, claim) is None


def test_an_error_is_in_nanoseconds_also_if_it_is_unknown() -> None:
    assert clock_claim(True, 0.0025) == ClockClaim(True, 2_500_000)
    assert clock_claim(False, float("inf")) == ClockClaim(False, 10**18)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(-50, 50)), max_size=60), st.integers(1, 10))
def test_the_recent_minimum_is_that_of_the_steps_in_the_window(entries: list[tuple[int, int]], steps: int) -> None:
    recent = RecentMinimum(10 * steps, steps)
    now = 0
    seen: list[tuple[int, int]] = []
    for elapsed, value in entries:
        now += elapsed
        seen.append((now // 10, value))
        assert recent.add(now, value) == min(one for step, one in seen if step > now // 10 - steps)


def test_a_window_that_is_shorter_than_its_steps_is_refused() -> None:
    with pytest.raises(MinimumWindowError, match="choose at least 1 ns for each step"):
        RecentMinimum(5, 6)


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)), min_size=2, max_size=60),
    offsets,
    st.integers(-100, 100),
)
def test_the_true_offset_and_drift_are_within_the_uncertainty(
    pairs: list[tuple[int, int]], offset: int, ppm: int
) -> None:
    """Each exchange takes at most 20 ms, so the drift within it is at most 2 us."""
    clocks = ClockOffset()
    for place, (there, back) in enumerate(pairs):
        now = place * SECOND
        clocks.add(*times(EPOCH + now, there, back, offset + now * ppm // 1_000_000), now)
        estimate = clocks.estimate
        assert estimate is not None
        # The estimate may be from a probe of the same window.
        drifted = abs(ppm) * OFFSET_WINDOW // 1_000_000 + 2_000
        assert abs(estimate.offset - offset - now * ppm // 1_000_000) <= estimate.offset_uncertainty + drifted
    assert clocks.steps == 0
    estimate = clocks.estimate
    assert estimate is not None
    if estimate.drift_ppm is not None and estimate.drift_uncertainty_ppm is not None:
        assert abs(estimate.drift_ppm - ppm) <= estimate.drift_uncertainty_ppm + 4_000 / OFFSET_WINDOW * 1e6
    assert estimate.drift_ppm is not None or len(pairs) <= 20


def test_the_probe_with_the_least_round_trip_decides() -> None:
    clocks = ClockOffset()
    assert clocks.estimate is None
    for there, back in [(500_000, 100), (100, 100), (100, 900_000)]:
        clocks.add(*times(EPOCH, there, back, 7_001), 0)
    estimate = clocks.estimate
    assert estimate is not None
    assert (estimate.offset, estimate.offset_uncertainty) == (7_001, 100)


def test_a_clock_that_was_set_is_no_drift() -> None:
    clocks = ClockOffset()
    for second in range(100):
        clocks.add(*times(EPOCH, 100, 100, 0 if second < 50 else SECOND), second * SECOND)
    estimate = clocks.estimate
    assert estimate is not None
    assert (clocks.steps, estimate.offset, estimate.drift_ppm) == (1, SECOND, 0.0)


@given(st.lists(st.integers(-(10**9), 10**9), max_size=50))
def test_the_jitter_is_that_of_rfc_3550(arrivals: list[int]) -> None:
    jitter = InterarrivalJitter()
    expected = Fraction(0)
    for place, delay in enumerate(arrivals):
        jitter.add(delay)
        if place:
            expected += (abs(delay - arrivals[place - 1]) - expected) / 16
    assert (jitter.value is None) == (len(arrivals) < 2)
    if jitter.value is not None:
        assert jitter.value == pytest.approx(float(expected))


@given(st.dictionaries(st.integers(0, 60), st.integers(-100, 100)), st.randoms())
def test_each_pair_of_consecutive_probes_has_one_variation_in_any_order(delays: dict[int, int], order: object) -> None:
    variation = DelayVariation()
    values: list[int] = []
    for sequence in sorted(delays, key=lambda _: order.random()):  # type: ignore[attr-defined]
        values += variation.add(sequence, delays[sequence])
    pairs = [delays[sequence] - delays[sequence - 1] for sequence in delays if sequence - 1 in delays]
    assert sorted(values) == sorted(pairs)


def test_the_variation_remembers_a_bounded_number_of_probes() -> None:
    variation = DelayVariation()
    variation.add(0, 0)
    for sequence in range(10, 1_034):
        variation.add(sequence, 0)
    assert variation.add(1, 5) == []
