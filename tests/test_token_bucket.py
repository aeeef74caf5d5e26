from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.limits.token_bucket import TABLE_SIZE, SourceBuckets, TokenBucket, source_prefix


def never() -> float:
    return 1.0


def buckets(rate: float = 10, burst: float = 5, total: float = 0) -> SourceBuckets:
    return SourceBuckets(rate, burst, total, never)


def admitted(source: SourceBuckets, host: str, times: int, now: float) -> int:
    return sum(source.admits(host, now) for _ in range(times))


def test_a_source_may_burst_and_then_has_its_rate() -> None:
    source = buckets()
    assert admitted(source, "192.0.2.1", 100, 0.0) == 5
    assert admitted(source, "192.0.2.1", 100, 0.2) == 2
    assert admitted(source, "192.0.2.1", 100, 100.0) == 5


def test_one_source_does_not_use_up_anothers_tokens() -> None:
    source = buckets()
    admitted(source, "192.0.2.1", 100, 0.0)
    assert source.admits("192.0.2.2", 0.0)


def test_all_sources_together_have_a_total() -> None:
    source = buckets(total=20)
    assert sum(source.admits(f"192.0.2.{n}", 0.0) for n in range(100)) == 20
    assert sum(source.admits(f"192.0.3.{n}", 0.5) for n in range(100)) == 10


def test_a_limited_source_is_answered_now_and_then_at_random() -> None:
    chances = iter([0.9, 0.01, 0.9])
    source = SourceBuckets(10, 1, 0, lambda: next(chances))
    assert [source.admits("192.0.2.1", 0.0) for _ in range(4)] == [True, False, True, False]


def test_the_leak_does_not_go_beyond_the_total() -> None:
    source = SourceBuckets(10, 1, 3, lambda: 0.0)
    assert admitted(source, "192.0.2.1", 100, 0.0) == 3


def test_zero_is_no_limit() -> None:
    for source in (SourceBuckets(0, 5, 0, never), SourceBuckets(10, 0, 0, never)):
        assert admitted(source, "192.0.2.1", 1000, 0.0) == 1000


def test_a_burst_is_at_least_one_and_so_is_a_total() -> None:
    assert admitted(SourceBuckets(0.5, 0.5, 0.5, never), "192.0.2.1", 10, 0.0) == 1
    assert admitted(SourceBuckets(0, 0, 0.5, never), "192.0.2.1", 10, 0.0) == 1


def test_a_clock_that_was_set_back_neither_adds_a_token_nor_takes_one_away() -> None:
    bucket = TokenBucket(rate=5, burst=2, now=7200.0)
    assert bucket.take(3600.0)
    assert [bucket.take(3600.0) for _ in range(2)] == [True, False]
    assert not bucket.take(0.0)
    assert bucket.wait(0.0) < 0.201
    assert [bucket.take(0.201) for _ in range(2)] == [True, False]


@given(rate=st.floats(1, 1e7), burst=st.integers(1, 10_000))
def test_a_burst_is_whole_and_no_more_at_a_time_since_1970(rate: float, burst: int) -> None:
    now = 1.8e9
    bucket = TokenBucket(rate, burst, now)
    assert sum(bucket.take(now) for _ in range(burst + 10)) == burst
    later = now + 10 * burst / rate
    assert sum(bucket.take(later) for _ in range(burst + 10)) == burst


def test_the_wait_for_a_token_is_as_long_as_it_takes() -> None:
    bucket = TokenBucket(rate=5, burst=2, now=0.0)
    assert bucket.wait(0.0) == 0.0
    assert bucket.take(0.0)
    assert bucket.take(0.0)
    wait = bucket.wait(0.0)
    assert 0.2 <= wait < 0.201
    assert bucket.wait(wait) == 0.0
    assert bucket.take(wait)


def test_the_table_is_bounded_and_forgets_who_was_silent_longest() -> None:
    source = buckets(burst=1)
    source.admits("first", 0.0)
    for n in range(TABLE_SIZE - 1):
        source.admits(f"other-{n}", 0.0)
    assert not source.admits("first", 0.0)  # remembered, and no longer the most silent
    source.admits("one more", 0.0)
    assert len(source) == TABLE_SIZE
    assert not source.admits("first", 0.0)
    assert source.admits("other-0", 0.0)  # forgotten


def test_a_clock_that_is_set_back_adds_nothing() -> None:
    bucket = TokenBucket(1, 1, 100.0)
    assert bucket.take(100.0)
    assert not bucket.take(50.0)
    assert bucket.take(51.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_who_shares_a_prefix(one: str, other: str, same: bool) -> None:
    assert (source_prefix(one) == source_prefix(other)) is same
