"""The order of entries that come from several sources, and logs that were set back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.redis_entries import Tag, TaggedEntry, decode_entry, encode_entry
from netsvc.chat.redis_feed import READ_AGAIN, WAITING_MAX, RedisFeed


def tagged(offset: int, node: str = "n1", counter: int | None = None, epoch: str = "e1") -> TaggedEntry:
    entry = Entry("#room", EntryKind.SAID, "ann", f"text {offset}", 0.0, "a1", "", epoch, offset)
    return TaggedEntry(Tag(node, offset if counter is None else counter), entry)


def taken(feed: RedisFeed, *entries: TaggedEntry) -> list[tuple[int, bool]]:
    """Let a feed take entries. Return the offsets that are next, and whether each is new."""
    return [(each.entry.offset, is_new) for entry in entries for each, is_new in feed.take(entry)]


@pytest.fixture
def feed() -> RedisFeed:
    return RedisFeed("e1", 10, Tag("n1", 10), {"n1": 10})


def test_the_next_entry_is_taken_and_an_earlier_one_ignored(feed: RedisFeed) -> None:
    assert taken(feed, tagged(11), tagged(11), tagged(3), tagged(12)) == [(11, True), (12, True)]
    assert (feed.offset, feed.tag) == (12, Tag("n1", 12))


def test_a_later_entry_waits_for_those_before_it(feed: RedisFeed) -> None:
    assert taken(feed, tagged(13), tagged(12)) == []
    assert feed.has_gap
    assert taken(feed, tagged(11)) == [(11, True), (12, True), (13, True)]
    assert not feed.has_gap


@given(st.permutations(range(11, 31)), st.lists(st.integers(1, 35), max_size=20))
def test_whatever_the_order_each_entry_is_next_once_and_in_order(order: Sequence[int], again: Sequence[int]) -> None:
    feed = RedisFeed("e1", 10, None, {})
    offsets = [offset for offset, _ in taken(feed, *map(tagged, [*order, *again]))]
    assert offsets[:20] == list(range(11, 31))
    assert offsets == list(range(11, 11 + len(offsets)))


def test_entries_that_wait_are_bounded_and_the_end_of_the_log_stays_known(feed: RedisFeed) -> None:
    for offset in range(12, 12 + WAITING_MAX + 5):
        assert not feed.take(tagged(offset))
    assert feed.end == 11 + WAITING_MAX + 5
    assert taken(feed, tagged(11))[-1] == (11 + WAITING_MAX, True)
    assert feed.has_gap


def test_of_a_new_log_everything_is_unseen_but_what_was_appended_again(feed: RedisFeed) -> None:
    taken(feed, tagged(11), tagged(12, "n2", 1))
    assert feed.read_again_after(3, is_new_log=True) == 0
    read = [tagged(1, "n1", 11, "e2"), tagged(2, "n2", 2, "e2"), tagged(3, "n3", 1, "e2")]
    unseen = feed.switch("e2", 3, read[-1].tag, read, is_new_log=True)
    assert [each.entry.offset for each in unseen] == [2, 3]
    assert (feed.epoch, feed.offset) == ("e2", 3)
    assert taken(feed, tagged(4, "n2", 3, "e2")) == [(4, True)]


def test_of_a_log_that_was_set_back_what_was_there_before_the_subscription_is_seen() -> None:
    feed = RedisFeed("e1", 10, Tag("dead", 4), {})
    taken(feed, tagged(11, "n1", 1), tagged(12, "n2", 1))
    assert feed.read_again_after(11, is_new_log=False) == 10
    read = [tagged(10, "dead", 4, "e2"), tagged(11, "n2", 1, "e2"), tagged(12, "n3", 1, "e2")]
    assert [each.entry.offset for each in feed.switch("e2", 12, None, read, is_new_log=False)] == [12]


def test_what_is_read_again_is_bounded(feed: RedisFeed) -> None:
    assert feed.read_again_after(10_000, is_new_log=True) == 10_000 - READ_AGAIN


def test_an_entry_that_its_node_has_appended_again_is_not_new(feed: RedisFeed) -> None:
    taken(feed, tagged(11), tagged(12))
    feed.switch("e2", 5, None, [], is_new_log=False)
    assert taken(feed, tagged(6, "n1", 12, "e2"), tagged(7, "n1", 13, "e2")) == [(6, False), (7, True)]


def test_entries_that_are_no_longer_kept_are_skipped(feed: RedisFeed) -> None:
    taken(feed, tagged(20))
    feed.skip(18, None)
    assert taken(feed, tagged(19)) == [(19, True), (20, True)]


@given(
    st.sampled_from(list(EntryKind)),
    st.text(),
    st.text(),
    st.text(),
    st.text(),
    st.floats(allow_nan=False),
    st.integers(1),
)
def test_an_entry_is_decoded_as_it_was_encoded(
    kind: EntryKind, nick: str, text: str, author: str, message_id: str, time: float, counter: int
) -> None:
    draft = Draft("#room", kind, nick, text, time, author, message_id)
    try:
        data = encode_entry(Tag("node", counter), draft)
    except UnicodeEncodeError:
        return  # a lone surrogate, which no line contains
    decoded = decode_entry("#room", "e1", 7, data)
    assert decoded == TaggedEntry(Tag("node", counter), Entry._make((*draft, "e1", 7)))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"[1]", b"\xff", b'["n:1","said","a","b",0,"",1', b'["n:x","said","a","b",0,"",""]',
             b'["n:1","sung","a","b",0,"",""]', b'[1,"said","a","b",0,"",""]']
)  # fmt: skip
def test_what_is_no_entry_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not an entry"):
        decode_entry("#room", "e1", 1, data)
