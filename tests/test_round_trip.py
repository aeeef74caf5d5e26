from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.timestamp.round_trip import READINGS_MAX, Moment, Stopwatch, kernel_round_trip

EPOCH = 1_780_000_000.0


def moment(monotonic: float, wall: float, uncertainty: float = 0.0) -> Moment:
    return Moment(monotonic, EPOCH + wall, uncertainty)


def test_the_round_trip_ends_at_the_receive_stamp_however_late_the_answer_is_processed() -> None:
    assert kernel_round_trip(moment(5, 0), EPOCH + 0.25, moment(65, 60)) == 0.25


@pytest.mark.parametrize("step", [3600.0, -3600.0, 0.001, -0.001, 0.00002])
def test_a_measurement_is_void_if_the_wall_clock_was_set_meanwhile(step: float) -> None:
    sent, processed = moment(5, 0), moment(6, 1 + step)
    assert kernel_round_trip(sent, EPOCH + 0.5, processed) is None
    assert kernel_round_trip(sent, EPOCH + 0.5, moment(6, 1)) == 0.5


@pytest.mark.parametrize("received", [-0.5, 1.5])
def test_a_measurement_is_void_if_the_wall_clock_was_set_there_and_back(received: float) -> None:
    assert kernel_round_trip(moment(5, 0), EPOCH + received, moment(6, 1)) is None


def test_clocks_that_could_not_be_read_at_once_may_differ_by_the_time_of_the_reading() -> None:
    sent = moment(5, 0.003, uncertainty=0.004)
    assert kernel_round_trip(sent, EPOCH + 0.5, moment(6, 1)) == pytest.approx(0.497)


@given(st.floats(0, 1e6), st.floats(0, 100), st.floats(0, 100))
def test_an_undisturbed_measurement_is_never_void(start: float, round_trip: float, later: float) -> None:
    sent = moment(start, 0)
    measured = kernel_round_trip(sent, EPOCH + round_trip, moment(start + round_trip + later, round_trip + later))
    assert measured == pytest.approx(round_trip, abs=1e-6)


def test_both_clocks_are_read_again_if_the_process_was_interrupted_meanwhile() -> None:
    times = iter([1.0, 1.5, 2.0, 2.0])
    assert Stopwatch(lambda: next(times), lambda: EPOCH).read() == Moment(2.0, EPOCH, 0.0)


def test_the_clocks_are_read_a_bounded_number_of_times() -> None:
    times: Iterator[int] = count()
    assert Stopwatch(lambda: next(times), lambda: EPOCH).read().uncertainty == 1
    assert next(times) == 2 * READINGS_MAX
