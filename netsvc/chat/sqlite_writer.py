"""Writes to the SQLite file: new entries, erasures, and the removal of entries beyond the bounds.

Every method may block.
"""

from __future__ import annotations

import math
import secrets
import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

from netsvc.chat.entries import SHOWN_LATER, Draft, Entry, EntryKind
from netsvc.chat.sqlite_entries import COLUMNS, IS_SHOWN, KINDS, entry_of, index_key, indexed_words
from netsvc.chat.sqlite_file import BUSY_TIMEOUT

#: Entries of one room that one transaction removes, besides as many as it appends.
REMOVED_AT_ONCE = 200

#: After so many changes so many rooms are looked at, whether or not anything is appended to them. A new room costs two
#: changes at least, so they are looked at as fast as they can be made.
CHANGES_PER_SWEEP = 40
ROOMS_PER_SWEEP = 20

#: Appended entries after which the index is brought up to date. For each transaction that would cost more than the rest
#: of it: 355 us a line at 1,000 lines per second.
INDEXED_AT_ONCE = 500

#: Pages that one step of rewriting the index writes, about.
_PAGES_AT_ONCE = 100

#: Epochs of rooms without a log that are remembered, besides those of open rooms.
_EPOCHS_MAX = 64


class Erasure(NamedTuple):
    """That the text of an entry is to be removed."""

    room: str
    offset: int


class StoredState(NamedTuple):
    """The state of a log: its epoch, its last offset, and the entry that set the topic."""

    epoch: str
    last: int
    topic: Entry | None


class Written(NamedTuple):
    """The outcome of a draft.

    :ivar is_new: whether it was appended. If not, ``entry`` is what was appended the first time.
    """

    entry: Entry
    is_new: bool


@dataclass(slots=True)
class _Log:
    """The row of a room, and how many entries the transaction appends to it."""

    number: int
    name: str
    epoch: str
    last: int
    indexed: int
    appended: int = 0


class LogWriter:
    """Appends to the logs, erases, and removes what is beyond the bounds.

    :param connection: is used by nobody else.
    :param has_index: whether there is an index of words.
    :param entries_max: entries of one room that are kept; 0 for no limit.
    :param indexed_at_once: appended entries after which the index is brought up to date.
    :ivar has_remains: whether erased text may be left in the file. :meth:`remove_remains` removes it.
    """

    def __init__(
        self, connection: sqlite3.Connection, has_index: bool, entries_max: int, indexed_at_once: int = INDEXED_AT_ONCE
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._has_index = has_index
        self._entries_max = entries_max
        self._new_epochs: dict[str, str] = {}
        self._unswept = 0
        self._swept = 0
        self._indexed_at_once = indexed_at_once
        self._unindexed = indexed_at_once
        self._must_rewrite = self._execute("SELECT count(*) FROM unfinished").fetchone()[0] > 0
        self._is_rewriting = False
        self.has_remains = self._must_rewrite

    def state(self, room: str) -> StoredState:
        """Return the state of a log. This only reads, so it works on a full disk.

        The epoch of a log that does not exist is chosen now. It is the one that the log gets with its first entry.
        """
        log = self._find(room)
        if log is None:
            return StoredState(self._new_epochs.setdefault(room, secrets.token_hex(4)), 0, None)
        row = self._execute(
            "SELECT nick, text, time, author, message_id, offset FROM topics WHERE room = ?", (log.number,)
        )
        topic = next((entry_of(room, log.epoch, (EntryKind.TOPIC.value, *columns)) for columns in row), None)
        return StoredState(log.epoch, log.last, topic)

    def write(
        self, changes: Iterable[Draft | Erasure], oldest: float, open_rooms: Collection[str]
    ) -> list[Written | None]:
        """Make changes in one transaction. Return what became of each draft, and None for each erasure.

        :param oldest: what was written before this time is removed.
        :param open_rooms: the logs that stay, even if there is nothing to show in them.
        :raises sqlite3.Error: if it cannot be done. Then nothing is written.
        """
        logs: dict[str, _Log] = {}
        self._execute("BEGIN IMMEDIATE")
        try:
            done = [self._change(logs, change) for change in changes]
            for log in logs.values():
                self._execute("UPDATE rooms SET last = ? WHERE room = ?", (log.last, log.number))
                self._remove_old(log, oldest)
            unswept = self._unswept + len(done)
            if unswept >= CHANGES_PER_SWEEP:
                self._sweep(oldest, open_rooms)
                unswept = 0
            unindexed = self._unindexed + sum(log.appended for log in logs.values())
            if self._has_index and unindexed >= self._indexed_at_once:
                self._index_all()
                unindexed = 0
            self._execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
        for room in logs:
            self._new_epochs.pop(room, None)
        if len(self._new_epochs) > _EPOCHS_MAX + len(open_rooms):
            self._new_epochs = {room: epoch for room, epoch in self._new_epochs.items() if room in open_rooms}
        self._unindexed, self._unswept = unindexed, unswept
        if None in done:
            self.has_remains, self._is_rewriting = True, False
            self._must_rewrite = self._execute("SELECT count(*) FROM unfinished").fetchone()[0] > 0
        return done

    def remove_remains(self) -> bool:
        """Remove a part of what is left of erased texts. Return False if more must wait, for a reader.

        SQLite overwrites the text itself. The index only marks the words as removed, until it is rewritten. The rest is
        in the log of SQLite.

        :raises sqlite3.Error: if it cannot be done now.
        """
        if self._must_rewrite:
            if not self._rewrite_index():
                return True
            self._execute("DELETE FROM unfinished")
            self._must_rewrite = False
        self._execute("PRAGMA busy_timeout = 0")
        try:
            self.has_remains = bool(self._execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        finally:
            self._execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT * 1_000:.0f}")
        return not self.has_remains

    def _rewrite_index(self) -> bool:
        """Rewrite a part of the index. Return whether all of it is rewritten."""
        # https://www.sqlite.org/fts5.html#the_merge_command: a negative number begins, and the end is that a step
        # changes nothing.
        pages = _PAGES_AT_ONCE if self._is_rewriting else -_PAGES_AT_ONCE
        before = self._connection.total_changes
        self._execute("INSERT INTO word_index (word_index, rank) VALUES ('merge', ?)", (pages,))
        is_done = self._is_rewriting and self._connection.total_changes - before < 2
        self._is_rewriting = True
        return is_done

    def _find(self, room: str) -> _Log | None:
        row = self._execute("SELECT room, name, epoch, last, indexed FROM rooms WHERE name = ?", (room,)).fetchone()
        return None if row is None else _Log(*row)

    def _change(self, logs: dict[str, _Log], change: Draft | Erasure) -> Written | None:
        if isinstance(change, Draft):
            return self._append(logs, change)
        self._erase(change)
        return None

    def _append(self, logs: dict[str, _Log], draft: Draft) -> Written:
        log = logs.get(draft.room)
        if log is None:
            log = logs[draft.room] = self._find(draft.room) or self._begin(draft.room)
        offset = log.last + 1
        columns = (draft.kind.value, draft.nick, draft.text, draft.time, draft.author, draft.message_id, offset)
        inserted = self._execute(
            f"INSERT INTO entries (room, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (room, author, message_id) WHERE message_id <> '' DO NOTHING",
            (log.number, *columns),
        )
        if not inserted.rowcount:
            query = (
                f"SELECT {COLUMNS} FROM entries WHERE room = ? AND author = ? AND message_id = ? AND message_id <> ''"
            )
            row = self._execute(query, (log.number, draft.author, draft.message_id)).fetchone()
            return Written(entry_of(draft.room, log.epoch, row), False)
        log.last = offset
        log.appended += 1
        if draft.kind is EntryKind.TOPIC:
            self._execute("DELETE FROM topics WHERE room = ?", (log.number,))
            if draft.text:
                self._execute("INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?, ?)", (log.number, offset, *draft[2:]))
        return Written(Entry(*draft, log.epoch, offset), True)

    def _begin(self, room: str) -> _Log:
        epoch = self._new_epochs.get(room) or secrets.token_hex(4)
        begun = self._execute("INSERT INTO rooms (name, epoch, last, indexed) VALUES (?, ?, 0, 0)", (room, epoch))
        assert begun.lastrowid is not None
        return _Log(begun.lastrowid, room, epoch, 0, 0)

    def _erase(self, erasure: Erasure) -> None:
        log = self._find(erasure.room)
        if log is None:
            return
        place = (log.number, erasure.offset)
        row = self._execute("SELECT kind, text FROM entries WHERE room = ? AND offset = ?", place).fetchone()
        if row is not None:
            self._execute("UPDATE entries SET text = '' WHERE room = ? AND offset = ?", place)
            if self._unindex(log, erasure.offset, *row):
                self._execute("INSERT INTO unfinished DEFAULT VALUES")

    def _sweep(self, oldest: float, open_rooms: Collection[str]) -> None:
        """Remove what is beyond the bounds from the next rooms, and those with nothing to show that are not open."""
        query = "SELECT room, name, epoch, last, indexed FROM rooms WHERE room > ? ORDER BY room LIMIT ?"
        logs = [_Log(*row) for row in self._execute(query, (self._swept, ROOMS_PER_SWEEP))]
        self._swept = logs[-1].number if len(logs) == ROOMS_PER_SWEEP else 0
        for log in logs:
            self._remove_old(log, oldest)
            if log.name not in open_rooms and not self._has_something_to_show(log.number):
                self._forget(log)

    def _has_something_to_show(self, number: int) -> bool:
        topic = self._execute("SELECT 1 FROM topics WHERE room = ?", (number,))
        shown = f"SELECT 1 FROM entries WHERE room = ? AND {IS_SHOWN} LIMIT 1"
        return topic.fetchone() is not None or self._execute(shown, (number,)).fetchone() is not None

    def _forget(self, log: _Log) -> None:
        self._remove(log, log.last, math.inf, REMOVED_AT_ONCE)
        if self._execute("SELECT 1 FROM entries WHERE room = ? LIMIT 1", (log.number,)).fetchone() is None:
            self._execute("DELETE FROM rooms WHERE room = ?", (log.number,))

    def _remove_old(self, log: _Log, oldest: float) -> None:
        until = log.last - self._entries_max if self._entries_max else 0
        self._remove(log, until, oldest, log.appended + REMOVED_AT_ONCE)

    def _remove(self, log: _Log, until: int, oldest: float, limit: int) -> None:
        """Remove the oldest entries of a room: those up to an offset, and those from before a time."""
        query = "SELECT offset, time, kind, text FROM entries WHERE room = ? ORDER BY offset LIMIT ?"
        rows = self._execute(query, (log.number, limit))
        removed = [
            (offset, kind, text)
            for offset, _, kind, text in takewhile(lambda row: row[0] <= until or row[1] < oldest, rows)
        ]
        rows.close()
        for each in removed:
            self._unindex(log, *each)
        if removed:
            self._execute("DELETE FROM entries WHERE room = ? AND offset <= ?", (log.number, removed[-1][0]))

    def _index_all(self) -> None:
        """Bring the index up to date."""
        for number, indexed in self._execute("SELECT room, indexed FROM rooms WHERE indexed < last").fetchall():
            query = f"SELECT offset, text FROM entries WHERE room = ? AND offset > ? AND {IS_SHOWN}"
            words = [
                (index_key(number, offset), indexed_words(text))
                for offset, text in self._execute(query, (number, indexed))
            ]
            self._connection.executemany("INSERT INTO word_index (rowid, words) VALUES (?, ?)", words)
        self._execute("UPDATE rooms SET indexed = last WHERE indexed < last")

    def _unindex(self, log: _Log, offset: int, kind: str, text: str) -> bool:
        """Remove an entry from the index. Return whether it was there."""
        if not self._has_index or offset > log.indexed or not text or KINDS[kind] not in SHOWN_LATER:
            return False
        row = (index_key(log.number, offset), indexed_words(text))
        self._execute("INSERT INTO word_index (word_index, rowid, words) VALUES ('delete', ?, ?)", row)
        return True
