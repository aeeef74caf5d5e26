from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.limits.fair_queue import FairQueue


def test_items_of_one_group_are_served_in_their_order() -> None:
    queue: FairQueue[str, int] = FairQueue(10)
    for number in range(5):
        queue.push("a", number, 25)
    assert [queue.pop() for _ in range(5)] == [(number, 25) for number in range(5)]
    assert queue.count == 0


def test_a_group_with_cheap_items_is_served_more_of_them_than_one_with_dear_items() -> None:
    queue: FairQueue[str, str] = FairQueue(100)
    for _ in range(10):
        queue.push("dear", "dear", 200)
    for _ in range(100):
        queue.push("cheap", "cheap", 10)
    first = [queue.pop()[0] for _ in range(63)]
    assert first.count("dear") == 3
    assert first.count("cheap") == 60


def test_an_item_of_an_idle_group_is_served_after_at_most_two_items_of_each_other_group() -> None:
    queue: FairQueue[str, str] = FairQueue(1)
    for group in "abc":
        for _ in range(10):
            queue.push(group, group, 1)
    for _ in range(6):
        queue.pop()
    queue.push("new", "new", 1)
    assert "new" in [queue.pop()[0] for _ in range(7)]


def test_an_empty_queue_has_nothing_to_serve() -> None:
    with pytest.raises(IndexError):
        FairQueue[str, str](1).pop()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 500)), max_size=50))
def test_every_item_is_served_once(items: list[tuple[str, int]]) -> None:
    queue: FairQueue[str, int] = FairQueue(100)
    for number, (group, cost) in enumerate(items):
        queue.push(group, number, cost)
    served = [queue.pop()[0] for _ in items]
    assert sorted(served) == list(range(len(items)))
    for group in "abc":
        own = [number for number in served if items[number][0] == group]
        assert own == sorted(own)
