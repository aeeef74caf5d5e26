"""Reads from the SQLite file. Every method may block."""

from __future__ import annotations

import sqlite3

from netsvc.chat.entries import Entry
from netsvc.chat.sqlite_entries import COLUMNS, IS_SHOWN, entry_of


class LogReader:
    """Reads the logs. An entry that is older than the time ``oldest`` is left out; it may not be removed yet.

    :param connection: is used by nobody else.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

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

    def _room(self, room: str) -> tuple[int, str]:
        return self._execute("SELECT room, epoch FROM rooms WHERE name = ?", (room,)).fetchone() or (0, "")

    def _entries(self, room: str, condition: str, *parameters: float) -> list[Entry]:
        number, epoch = self._room(room)
        rows = self._execute(f"SELECT {COLUMNS} FROM entries WHERE room = ? AND {condition}", (number, *parameters))
        return [entry_of(room, epoch, row) for row in rows]
