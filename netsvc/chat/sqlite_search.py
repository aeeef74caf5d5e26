"""A search of the SQLite file, in steps, so that many searches take turns. Every method may block."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from netsvc.chat.entries import Entry
from netsvc.chat.sqlite_entries import COLUMNS, IS_SHOWN, entry_of, index_key
from netsvc.chat.words import folded, spaced_words, wanted_words, word_finder

#: Seconds that the index may take. It cannot be interrupted while it makes the list of entries for one beginning of a
#: word: that takes 25 ms for one letter in 200,000 entries.
INDEX_TIME = 0.05

#: The cost of the entries that one step scans, in units of 0.2 us at most: 50 ms. An entry costs as many units, and
#: one more for each of its characters.
STEP_COST = 250_000
_ENTRY_COST = 30

#: Instructions of SQLite between two checks of the time.
_INSTRUCTIONS = 10


class LogSearch:
    """Searches the log of a room for the last entries that have all of some words: see :mod:`netsvc.chat.words`.

    The index is queried for the entries that it has. The others are scanned: new entries, everything if there is no
    index, and everything if the index takes too long. The index is slow for beginnings of words that many entries have,
    and these are found soon without it.

    :param connection: is used by one step at a time.
    :param has_index: whether there is an index of words.
    :param until: the offset of the last entry that is searched.
    :param limit: how many entries are looked for.
    :param oldest: the time before which entries are left out.
    :param monotonic: returns the seconds of a clock.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        has_index: bool,
        room: str,
        words: str,
        until: int,
        limit: int,
        oldest: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._uses_index = has_index
        self._room = room
        self._words = words
        self._until = until
        self._limit = limit
        self._oldest = oldest
        self._monotonic = monotonic
        self._epoch = ""
        self._wanted: list[str] = []
        self._found: list[tuple[Any, ...]] = []

    @property
    def found(self) -> list[Entry]:
        """The entries that were found, the oldest first."""
        return [entry_of(self._room, self._epoch, row) for row in reversed(self._found)]

    def step(self) -> bool:
        """Continue. Return whether the search is finished."""
        query = "SELECT room, epoch, indexed FROM rooms WHERE name = ?"
        row = self._connection.execute(query, (self._room,)).fetchone()
        if row is None or self._epoch not in ("", row[1]):
            return True  # the log was forgotten
        number, self._epoch, indexed = row
        self._wanted = self._wanted or wanted_words(self._words)
        if not self._wanted:
            return True
        if not self._uses_index:
            indexed = 0
        if self._until > indexed and not self._scan_entries(number, indexed):
            return False
        if len(self._found) == self._limit or not indexed:
            return True
        return self._query_index(number)

    def _scan_entries(self, number: int, after: int) -> bool:
        """Scan the entries after an offset, the last one first. Return whether that is finished."""
        has_all = word_finder(self._wanted)
        rows = self._connection.execute(
            f"SELECT {COLUMNS} FROM entries WHERE room = ? AND offset > ? AND offset <= ? AND time >= ? AND {IS_SHOWN} "
            "ORDER BY offset DESC",
            (number, after, self._until, self._oldest),
        )
        left = STEP_COST
        try:
            for row in rows:
                text = folded(row[2])
                # Few texts have all of the words anywhere. Finding where words begin takes 20 times as long.
                if all(word in text for word in self._wanted) and has_all(spaced_words(text)):
                    self._found.append(row)
                    if len(self._found) == self._limit:
                        return True
                left -= _ENTRY_COST + len(text)
                if left <= 0:
                    self._until = row[-1] - 1
                    return False
        finally:
            rows.close()
        self._until = after
        return True

    def _query_index(self, number: int) -> bool:
        """Query the index for the rest. Return False if that takes too long."""
        end = self._monotonic() + INDEX_TIME
        is_late = False

        def check_time() -> bool:
            nonlocal is_late
            is_late = self._monotonic() > end
            return is_late

        # A word consists of letters and digits, so nothing in it is syntax.
        expression = " ".join(f'"{word}"*' for word in self._wanted)
        self._connection.set_progress_handler(check_time, _INSTRUCTIONS)
        try:
            self._found += self._connection.execute(
                f"SELECT {COLUMNS} FROM word_index JOIN entries ON room = ? AND offset = word_index.rowid - ? "
                f"WHERE word_index MATCH ? AND word_index.rowid BETWEEN ? AND ? AND time >= ? AND {IS_SHOWN} "
                "ORDER BY word_index.rowid DESC LIMIT ?",
                (
                    *(number, index_key(number, 0), expression, index_key(number, 0), index_key(number, self._until)),
                    *(self._oldest, self._limit - len(self._found)),
                ),
            ).fetchall()
        except sqlite3.OperationalError:
            if not is_late:
                raise
            self._uses_index = False
            return False
        finally:
            self._connection.set_progress_handler(None, 0)
        return True
