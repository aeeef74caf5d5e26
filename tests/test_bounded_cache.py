"""The cache with a bound."""

from __future__ import annotations

from netsvc.wire.bounded_cache import BoundedCache


def test_a_value_is_made_once_and_the_cache_is_emptied_when_it_is_full() -> None:
    made: list[int] = []

    def make(key: int) -> int:
        made.append(key)
        return 10 * key

    cache = BoundedCache(make, 2)
    assert [cache[key] for key in (1, 2, 1, 2)] == [10, 20, 10, 20]
    assert made == [1, 2]
    assert cache[3] == 30
    assert dict(cache) == {3: 30}
