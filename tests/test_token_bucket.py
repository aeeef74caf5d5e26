from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from netsvc.limits.token_bucket import TABLE_SIZE, SourceBuckets, TokenBucket


def never() -> float:
    """Return a random number with which no source above its rate is answered."""
    return 1.0


def source_buckets(rate: float = 10, burst: float = 5, total: float = 0) -> SourceBuckets:
    return SourceBuckets(rate, burst, total, never)


def admitted(buckets: SourceBuckets, host: str, times: int, now: float) -> int:
    return sum(buckets.admits(host, now) for _ in range(times))


def test_a_source_may_send_a_burst_and_is_then_limited_to_its_rate() -> None:
    buckets = source_buckets()
    assert admitted(buckets, "192.0.2.1", 100, 0.0) == 5
    assert admitted(buckets, "192.0.2.1", 100, 0.2) == 2
    assert admitted(buckets, "192.0.2.1", 100, 100.0) == 5


def test_one_source_does_not_use_the_tokens_of_another() -> None:
    buckets = source_buckets()
    admitted(buckets, "192.0.2.1", 100, 0.0)
    assert buckets.admits("192.0.2.2", 0.0)


def test_all_sources_together_are_limited_to_the_total() -> None:
    buckets = source_buckets(total=20)
    for now, admitted_now in ((0.0, 20), (1.0, 20), (1.8, 16)):  # a quarter of them is for those that ask again
        new = sum(buckets.admits(f"192.0.{now:.0f}.{n}", now) for n in range(100))
        again = sum(buckets.admits(f"192.0.{now:.0f}.{n}", now) for n in range(100))
        assert new + again == admitted_now
        assert again == admitted_now / 4


def test_during_a_flood_of_forged_sources_the_second_try_of_a_client_is_answered() -> None:
    buckets = SourceBuckets(chance=never)
    chance = random.Random(1)
    asked_again = answered = 0
    waiting: list[tuple[int, str]] = []
    for number in range(120):  # 50 ms each, so 1,000 forged datagrams
        now = number * 0.05
        for _ in range(1000):
            buckets.admits(f"{chance.randrange(1, 224)}.{chance.randrange(256)}.{chance.randrange(1 << 16)}", now)
        client = f"192.0.2.{number}"
        if not buckets.admits(client, now):
            waiting.append((number + 20, client))  # it asks again after a second
        if waiting and waiting[0][0] <= number:
            asked_again += 1
            answered += buckets.admits(waiting.pop(0)[1], now)
    assert asked_again > 50
    assert answered >= 0.9 * asked_again


def test_a_total_below_four_reserves_nothing() -> None:
    assert admitted(source_buckets(total=3), "192.0.2.1", 100, 0.0) == 3


def test_a_source_above_its_rate_is_answered_at_random() -> None:
    random_numbers = iter([0.9, 0.01, 0.9])
    buckets = SourceBuckets(10, 1, 0, lambda: next(random_numbers))
    assert [buckets.admits("192.0.2.1", 0.0) for _ in range(4)] == [True, False, True, False]


def test_random_answers_do_not_exceed_the_total() -> None:
    buckets = SourceBuckets(10, 1, 3, lambda: 0.0)
    assert admitted(buckets, "192.0.2.1", 100, 0.0) == 3


def test_zero_means_no_limit() -> None:
    for buckets in (SourceBuckets(0, 5, 0, never), SourceBuckets(10, 0, 0, never)):
        assert admitted(buckets, "192.0.2.1", 1000, 0.0) == 1000


def test_a_burst_and_a_total_are_at_least_one() -> None:
    assert admitted(SourceBuckets(0.5, 0.5, 0.5, never), "192.0.2.1", 10, 0.0) == 1
    assert admitted(SourceBuckets(0, 0, 0.5, never), "192.0.2.1", 10, 0.0) == 1


def test_a_clock_that_is_set_back_neither_adds_nor_removes_tokens() -> None:
    bucket = TokenBucket(rate=5, burst=2, now=7200.0)
    assert bucket.take(3600.0)
    assert [bucket.take(3600.0) for _ in range(2)] == [True, False]
    assert not bucket.take(0.0)
    assert bucket.wait(0.0) < 0.201
    assert [bucket.take(0.201) for _ in range(2)] == [True, False]


@given(rate=st.floats(1, 1e7), burst=st.integers(1, 10_000))
def test_a_burst_is_exact_with_the_clock_at_seconds_since_1970(rate: float, burst: int) -> None:
    now = 1.8e9
    bucket = TokenBucket(rate, burst, now)
    assert sum(bucket.take(now) for _ in range(burst + 10)) == burst
    later = now + 10 * burst / rate
    assert sum(bucket.take(later) for _ in range(burst + 10)) == burst


def test_wait_returns_the_time_until_the_next_token() -> None:
    bucket = TokenBucket(rate=5, burst=2, now=0.0)
    assert bucket.wait(0.0) == 0.0
    assert bucket.take(0.0)
    assert bucket.take(0.0)
    wait = bucket.wait(0.0)
    assert 0.2 <= wait < 0.201
    assert bucket.wait(wait) == 0.0
    assert bucket.take(wait)


def test_the_table_is_bounded_and_drops_the_least_recently_active_source() -> None:
    buckets = source_buckets(rate=0.01, burst=1)
    for n in range(TABLE_SIZE):
        buckets.admits(f"source-{n}", 0.0)
    assert not buckets.admits("source-0", 1.0)  # kept, and no longer the least recently active
    buckets.admits("one more", 1.0)
    assert len(buckets) == TABLE_SIZE
    assert not buckets.admits("source-0", 1.0)
    assert buckets.admits("source-1", 1.0)  # dropped, so its bucket is full again


def test_a_clock_that_is_set_back_adds_no_tokens() -> None:
    bucket = TokenBucket(1, 1, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)
