from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from netsvc.probe.rate_limit_pattern import PERIODS_MAX, RateLimitPattern

SEEDS = 12


def run(rate: int, seconds: int, answers: Callable[[float], bool]) -> float | None:
    pattern = RateLimitPattern()
    for number in range(rate * seconds):
        pattern.decided(number * 1_000_000_000 // rate, answers(number / rate))
    return pattern.rate


def limited(limit: float, burst: int, chance: random.Random, extra: float = 0.0) -> Callable[[float], bool]:
    """A token bucket, which the probes reach with a jitter of up to 2 ms, and which answers some others at random."""
    tokens, last = float(burst), 0.0

    def answers(time: float) -> bool:
        nonlocal tokens, last
        arrival = max(last, time + chance.random() * 0.002)
        tokens, last = min(burst, tokens + (arrival - last) * limit), arrival
        if tokens >= 1:
            tokens -= 1
            return True
        return chance.random() < extra

    return answers


@pytest.mark.parametrize("rate", [150, 200, 1000, 3000])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_limited_responder_is_recognised_and_its_rate_is_told(rate: int, seed: int) -> None:
    assert run(rate, 10, limited(100, 200, random.Random(seed))) == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize("rate", [150, 200, 1000])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_limit_of_netsvc_is_recognised_though_it_answers_some_others_at_random(rate: int, seed: int) -> None:
    found = run(rate, 15, limited(100, 200, random.Random(seed), extra=1 / 16))
    assert found == pytest.approx(100 + (rate - 100) / 16, rel=0.1)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_limit_of_one_a_second_is_recognised_within_two_minutes(seed: int) -> None:
    assert run(10, 120, limited(1, 6, random.Random(seed))) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.12, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("rate", [5, 100, 1000])
def test_random_loss_is_no_limit(rate: int, loss: float) -> None:
    for seed in range(SEEDS):
        chance = random.Random(seed)
        assert run(rate, 12, lambda _, chance=chance: chance.random() >= loss) is None  # type: ignore[misc]


@pytest.mark.parametrize(("good_to_bad", "bad_to_good"), [(0.01, 0.05), (0.2, 0.2), (0.02, 0.5)])
@pytest.mark.parametrize("rate", [100, 1000])
def test_bursts_of_loss_are_no_limit(rate: int, good_to_bad: float, bad_to_good: float) -> None:
    for seed in range(SEEDS):
        chance = random.Random(seed)
        bad = False

        def answers(_: float, chance: random.Random = chance) -> bool:
            nonlocal bad
            bad = chance.random() >= bad_to_good if bad else chance.random() < good_to_bad
            return not bad

        assert run(rate, 12, answers) is None


@pytest.mark.parametrize("rate", [10, 100, 1000])
@pytest.mark.parametrize("end", [5, 8, 30])
def test_an_outage_is_no_limit(rate: int, end: int) -> None:
    assert run(rate, 12, lambda time: not 3 <= time < end) is None


@pytest.mark.parametrize("rate", [10, 20, 50, 100])
@pytest.mark.parametrize("outage", [30, 62, 300])
def test_an_outage_that_ends_is_no_limit_at_any_moment(rate: int, outage: int) -> None:
    pattern = RateLimitPattern()
    for number in range((outage + 15) * rate):
        time = number / rate
        pattern.decided(round(time * 1e9), not 1 <= time < 1 + outage)
        if time > outage:
            assert pattern.rate is None


def test_a_limit_with_little_loss_is_not_judged() -> None:
    assert run(105, 30, limited(100, 20, random.Random(1))) is None


def test_no_answers_and_no_probes_are_no_limit() -> None:
    assert RateLimitPattern().rate is None
    assert run(1000, 2, lambda _: False) is None


def test_a_limit_that_ended_is_forgotten() -> None:
    chance = random.Random(1)
    answers = limited(100, 200, chance)
    seconds = PERIODS_MAX // 50 + 15
    assert run(1000, seconds, lambda time: answers(time) if time < 10 else chance.random() < 0.5) is None
