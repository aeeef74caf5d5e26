"""Puts the entries of one log in order. They come from several sources: messages, answers, and what is read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netsvc.chat.redis_entries import Tag, TaggedEntry

#: Entries that wait for those before them. Further ones are read again later.
WAITING_MAX = 1_000

#: Entries of a log that was begun anew, or set back, which are read again.
READ_AGAIN = 500


class RedisFeed:
    """Says which entries of a log are next.

    :param epoch: of the log.
    :param offset: of the last entry before.
    :param tag: of this entry; None if it is unknown.
    :param counters: the highest counter of each node in the log.
    :ivar end: the highest offset of the log that is known.
    """

    def __init__(self, epoch: str, offset: int, tag: Tag | None, counters: Mapping[str, int]) -> None:
        self.epoch = epoch
        self.offset = self.end = self._begin = offset
        self.tag = tag
        self._counters = dict(counters)
        self._waiting: dict[int, TaggedEntry] = {}

    @property
    def has_gap(self) -> bool:
        """Whether entries are missing."""
        return self.offset < self.end

    def take(self, tagged: TaggedEntry) -> list[tuple[TaggedEntry, bool]]:
        """Take an entry of this epoch. Return those that are next now, in order.

        With each comes whether it is new. It is not if the log was set back, and its node has appended it again.
        """
        offset = tagged.entry.offset
        self.end = max(self.end, offset)
        if offset != self.offset + 1:
            if offset > self.offset and len(self._waiting) < WAITING_MAX:
                self._waiting[offset] = tagged
            return []
        following = [(tagged, self._pass(tagged))]
        while self._waiting and (waiting := self._waiting.pop(self.offset + 1, None)) is not None:
            following.append((waiting, self._pass(waiting)))
        return following

    def read_again_after(self, end: int, *, is_new_log: bool) -> int:
        """Return the offset after which the log is to be read again, because it has a new epoch.

        :param end: its last offset.
        :param is_new_log: whether the log was begun anew. If not, it was set back, and has entries from before.
        """
        return max(0 if is_new_log else min(self._begin, end), end - READ_AGAIN)

    def switch(
        self, epoch: str, end: int, tag: Tag | None, read: Iterable[TaggedEntry], *, is_new_log: bool
    ) -> list[TaggedEntry]:
        """Go on in a log with another epoch.

        :param end: the offset after which entries are taken.
        :param tag: of the entry there.
        :param read: the entries that were read again.
        :return: those of them that are new.
        """
        unseen = [each for each in read if self._is_unseen(each, is_new_log=is_new_log)]
        self.epoch, self.offset, self.tag = epoch, end, tag
        self.end = self._begin = end
        self._waiting.clear()
        for each in unseen:
            self._count(each.tag)
        return unseen

    def skip(self, end: int, tag: Tag | None) -> None:
        """Go on after ``end``, because the entries before are no longer kept."""
        self.offset, self.tag = end, tag
        self.end = max(self.end, end)
        self._waiting = {offset: each for offset, each in self._waiting.items() if offset > end}

    def _is_unseen(self, tagged: TaggedEntry, *, is_new_log: bool) -> bool:
        seen = self._counters.get(tagged.tag.node)
        if seen is not None:
            return tagged.tag.counter > seen
        return is_new_log or tagged.entry.offset > self._begin

    def _pass(self, tagged: TaggedEntry) -> bool:
        self.offset, self.tag = tagged.entry.offset, tagged.tag
        return self._count(tagged.tag)

    def _count(self, tag: Tag) -> bool:
        """Take note of a tag. Return whether it is new."""
        if tag.counter <= self._counters.get(tag.node, 0):
            return False
        self._counters[tag.node] = tag.counter
        return True
