"""What is read from the SQLite file. Every method may block."""

from __future__ import annotations

import sqlite3
from itertools import islice

from netsvc.chat.entries import Entry
from netsvc.chat.sqlite_entries import COLUMNS, IS_SHOWN, entry_of, index_key
from netsvc.chat.words import word_finder, words_of


class LogReader:
    """Reads the logs. What is older than the time ``oldest`` is left out; it may not be removed yet.

    :param connection: is used by nobody else.
    :param has_index: whether there is an index of words.
    """

    def __init__(self, connection: sqlite3.Connection, has_index: bool) -> None:
        self._execute = connection.execute
        self._has_index = has_index

    def read(self, room: str, after: int, limit: int, oldest: float) -> list[Entry]:
        """Return at most ``limit`` entries after an offset, the oldest first."""
        return self._entries(room, "offset > ? AND time >= ? ORDER BY offset LIMIT ?", after, oldest, limit)

    def newest(self, room: str, until: int, limit: int, oldest: float) -> list[Entry]:
        """Return the last ``limit`` entries up to the offset ``until`` that a history shows, the oldest first."""
        condition = f"offset <= ? AND time >= ? AND {IS_SHOWN} ORDER BY offset DESC LIMIT ?"
        return self._entries(room, condition, until, oldest, limit)[::-1]

    def entry_at(self, room: str, offset: int, oldest: float) -> Entry | None:
        """Return one entry; None if it is not kept."""
        return next(iter(self._entries(room, "offset = ? AND time >= ?", offset, oldest)), None)

    def search(self, room: str, words: str, until: int, limit: int, oldest: float) -> list[Entry]:
        """Return the last ``limit`` entries up to the offset ``until`` with all of the words, the oldest first.

        What is not in the index is looked at entry by entry; without an index, that is all of the room.
        """
        number, epoch, indexed = self._room(room)
        wanted, has_all = words_of(words), word_finder(words)
        if not wanted:
            return []
        if not self._has_index:
            indexed = 0
        condition = f"time >= ? AND {IS_SHOWN}"
        not_indexed = self._execute(
            f"SELECT {COLUMNS} FROM entries WHERE room = ? AND offset > ? AND offset <= ? AND {condition} "
            "ORDER BY offset DESC",
            (number, indexed, until, oldest),
        )
        found = list(islice((row for row in not_indexed if has_all(row[2])), limit))
        not_indexed.close()
        if indexed:
            # A word consists of letters and digits, so nothing in it is syntax.
            expression = " ".join(f'"{word}"*' for word in wanted)
            found += self._execute(
                f"SELECT {COLUMNS} FROM word_index JOIN entries ON room = ? AND offset = word_index.rowid - ? "
                f"WHERE word_index MATCH ? AND word_index.rowid BETWEEN ? AND ? AND {condition} "
                "ORDER BY word_index.rowid DESC LIMIT ?",
                (
                    *(number, index_key(number, 0), expression),
                    *(index_key(number, 0), index_key(number, min(until, indexed)), oldest, limit - len(found)),
                ),
            )
        return [entry_of(room, epoch, row) for row in reversed(found)]

    def _room(self, room: str) -> tuple[int, str, int]:
        row = self._execute("SELECT room, epoch, indexed FROM rooms WHERE name = ?", (room,)).fetchone()
        return row or (0, "", 0)

    def _entries(self, room: str, condition: str, *parameters: float) -> list[Entry]:
        number, epoch, _ = self._room(room)
        rows = self._execute(f"SELECT {COLUMNS} FROM entries WHERE room = ? AND {condition}", (number, *parameters))
        return [entry_of(room, epoch, row) for row in rows]
