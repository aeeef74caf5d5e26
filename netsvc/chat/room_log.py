"""The log of one room in memory, with a bound on its entries."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator, Set
from itertools import islice

from netsvc.chat.entries import SHOWN_LATER, Draft, Entry, EntryKind, Position
from netsvc.chat.words import folded, spaced_words, wanted_words, word_finder

#: Bytes that an entry takes besides its text, its words besides theirs, and a log besides its entries.
ENTRY_SIZE = 360
WORDS_SIZE = 100
LOG_SIZE = 1_000

#: The costs of a search in units of 0.2 us at most: of its beginning, of reading an entry, and of finding its words
#: the first time, besides one unit for each of its characters. A word is looked for in 128 characters for one unit.
_BEGIN_COST = 5_000
_ENTRY_COST = 2
_FOLD_COST = 20
_SCAN_SPEED = 128


class RoomLog:
    """The newest entries of one room.

    :param epoch: identifies this log.
    :param entries_max: how many entries are kept; 0 for no limit.
    :ivar last: the offset of the last entry; 0 if there was none.
    :ivar first: the offset of the first entry that is kept; ``last + 1`` if none is.
    :ivar size: bytes that the log takes in memory, about.
    :ivar topic: the entry that set the topic; None without one. It is kept when the log forgets it.
    """

    def __init__(self, epoch: str, entries_max: int = 0) -> None:
        self.epoch = epoch
        self.first = 1
        self.last = 0
        self.size = LOG_SIZE
        self.topic: Entry | None = None
        self._entries_max = entries_max
        self._entries: dict[int, Entry] = {}
        self._by_message_id: dict[tuple[str, str], int] = {}
        self._words: dict[int, str] = {}  # of entries that a search has read

    def __len__(self) -> int:
        """Return the number of entries that are kept."""
        return len(self._entries)

    @property
    def end(self) -> Position:
        """The position of the last entry."""
        return Position(self.epoch, self.last)

    @property
    def newest_time(self) -> float:
        """The time of the last entry; 0 if none is kept."""
        return self._entries[self.last].time if self._entries else 0.0

    def was_appended(self, draft: Draft) -> Entry | None:
        """Return the entry of which ``draft`` is a retry, or None."""
        if not draft.message_id:
            return None
        offset = self._by_message_id.get((draft.author, draft.message_id))
        return None if offset is None else self._entries[offset]

    def append(self, draft: Draft) -> Entry:
        """Append ``draft``."""
        self.last = offset = self.last + 1
        entry = Entry._make((*draft, self.epoch, offset))
        self._entries[offset] = entry
        self.size += ENTRY_SIZE + sys.getsizeof(entry.text)
        if entry.message_id:
            self._by_message_id[entry.author, entry.message_id] = entry.offset
        if entry.kind is EntryKind.TOPIC:
            self.topic = entry if entry.text else None
        if 0 < self._entries_max < len(self._entries):
            self.drop_oldest()
        return entry

    def entry_at(self, offset: int) -> Entry | None:
        """Return the entry at ``offset``; None if it is not kept."""
        return self._entries.get(offset)

    def after(self, offset: int, limit: int) -> list[Entry]:
        """Return at most ``limit`` entries after ``offset``, the oldest first."""
        start = max(offset + 1, self.first)
        return [self._entries[place] for place in range(start, min(start + limit, self.last + 1))]

    def newest(self, limit: int, until: int, kinds: Set[EntryKind] = SHOWN_LATER) -> list[Entry]:
        """Return the last ``limit`` entries of some kinds up to ``until``, the oldest first, without erased ones."""
        shown = (entry for entry in self._backwards(until) if entry.kind in kinds)
        return list(islice(shown, limit))[::-1]

    def search(self, words: str, limit: int, until: int) -> Generator[int, None, list[Entry]]:
        """Search for the last ``limit`` entries up to ``until`` with all of the words: see ``words``.

        The words of each entry are kept, because finding them takes long: 0.9 ms for the worst text.

        :return: a generator that yields the cost of each step, in units of 0.2 us at most, and returns the entries.
            The log may change between two steps.
        """
        yield _BEGIN_COST
        wanted = wanted_words(words)
        has_all = word_finder(wanted)
        found: list[int] = []
        offset = min(until, self.last) if wanted else 0
        while offset >= self.first and len(found) < limit:
            cost = _ENTRY_COST
            known = self._words.get(offset)
            if known is None:
                entry = self._entries[offset]
                if entry.kind in SHOWN_LATER and entry.text:
                    text = folded(entry.text)
                    known = self._words[offset] = spaced_words(text)
                    self.size += WORDS_SIZE + sys.getsizeof(known)
                    cost += _FOLD_COST + len(text)
            if known:
                cost += len(wanted) * len(known) // _SCAN_SPEED
                if has_all(known):
                    found.append(offset)
            yield cost
            offset -= 1
        entries = (self._entries.get(offset) for offset in reversed(found))
        return [entry for entry in entries if entry is not None and not entry.erased]

    def forget_words(self) -> bool:
        """Forget the words that searches have found. Return whether there were any."""
        self.size -= sum(WORDS_SIZE + sys.getsizeof(words) for words in self._words.values())
        had_words = bool(self._words)
        self._words = {}
        return had_words

    def erase(self, offset: int) -> None:
        """Remove the text of an entry. Its position stays."""
        entry = self._entries.get(offset)
        if entry is not None:
            self.size -= sys.getsizeof(entry.text) - sys.getsizeof("")
            self._entries[offset] = entry._replace(text="")
            self._forget_words_of(offset)

    def drop_oldest(self) -> None:
        """Forget the oldest entry."""
        entry = self._entries.pop(self.first)
        self.first += 1
        self.size -= ENTRY_SIZE + sys.getsizeof(entry.text)
        if self._words:
            self._forget_words_of(entry.offset)
        if entry.message_id:
            del self._by_message_id[entry.author, entry.message_id]

    def drop_before(self, time: float) -> None:
        """Forget the entries from before ``time`` (seconds since the epoch of UNIX)."""
        while self._entries and self._entries[self.first].time < time:
            self.drop_oldest()

    def has_something_to_show(self) -> bool:
        """Whether an entry that a history would show is kept."""
        return self.topic is not None or any(entry.kind in SHOWN_LATER for entry in self._entries.values())

    def _forget_words_of(self, offset: int) -> None:
        words = self._words.pop(offset, None)
        if words is not None:
            self.size -= WORDS_SIZE + sys.getsizeof(words)

    def _backwards(self, until: int) -> Iterator[Entry]:
        for offset in range(min(until, self.last), self.first - 1, -1):
            entry = self._entries[offset]
            if not entry.erased:
                yield entry
