from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.limits.ranked_counter import RankedCounter


@given(steps=st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=200))
def test_it_agrees_with_a_plain_counter(steps: list[tuple[str, bool]]) -> None:
    ranked: RankedCounter[str] = RankedCounter()
    plain: Counter[str] = Counter()
    for key, up in steps:
        if up:
            ranked.increment(key)
            plain[key] += 1
        elif plain[key]:
            ranked.decrement(key)
            plain[key] -= 1
        plain = +plain
        assert {key: ranked[key] for key in "abcd"} == {key: plain[key] for key in "abcd"}
        assert len(ranked) == len(plain)
        assert [count for _, count in ranked.top(2)] == [count for _, count in plain.most_common(2)]
        if plain:
            assert plain[ranked.largest()] == max(plain.values())


def test_an_empty_one_has_no_largest_key() -> None:
    ranked: RankedCounter[str] = RankedCounter()
    ranked.increment("a")
    ranked.decrement("a")
    assert "a" not in ranked
    with pytest.raises(KeyError):
        ranked.largest()
