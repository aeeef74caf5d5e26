"""The SQLite file of a store: opened for one process, with its schema, and what to tell people when that fails."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass

from netsvc.errors import NetsvcError

#: Marks a file of netsvc ("nchl"), and the version of its schema.
APPLICATION = 0x6E63686C
SCHEMA = 1

#: Seconds to wait for a lock that another program holds.
BUSY_TIMEOUT = 0.5

#: KiB of pages that a connection caches, and bytes of a log that are kept after they were copied into the database.
_CACHE = 8_192
_WAL_MAX = 16 * 1024 * 1024

# ``last`` is a column because it outlives the entries; so does the topic. The index has the entries up to ``indexed``.
# ``unfinished`` has a row while the words of erased entries may still be in the index.
_TABLES = """
CREATE TABLE rooms (
    room INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL, last INTEGER NOT NULL,
    indexed INTEGER NOT NULL
);
CREATE TABLE entries (
    room INTEGER NOT NULL, offset INTEGER NOT NULL, kind TEXT NOT NULL, nick TEXT NOT NULL, text TEXT NOT NULL,
    time REAL NOT NULL, author TEXT NOT NULL, message_id TEXT NOT NULL, PRIMARY KEY (room, offset)
) WITHOUT ROWID;
CREATE UNIQUE INDEX message_ids ON entries (room, author, message_id) WHERE message_id <> '';
CREATE TABLE topics (
    room INTEGER PRIMARY KEY, offset INTEGER NOT NULL, nick TEXT NOT NULL, text TEXT NOT NULL, time REAL NOT NULL,
    author TEXT NOT NULL, message_id TEXT NOT NULL
);
CREATE TABLE unfinished (removal INTEGER PRIMARY KEY);
"""

# The words are those of netsvc.chat.words, joined by spaces, so that search finds the same with any version of SQLite;
# the tokenizer "ascii" splits them at the spaces. The index keeps no copy of them.
_INDEX = "CREATE VIRTUAL TABLE word_index USING fts5(words, content='', detail=none, tokenize='ascii')"


#: The first bytes of a SQLite file, how many of them are read, and where its application id is.
_MAGIC = b"SQLite format 3\0"
_HEAD = 100
_APPLICATION_AT = 68


class LogFileError(NetsvcError):
    """The file cannot be used. The text is ``PATH: reason; remedy``."""


@dataclass(frozen=True, slots=True)
class LogFile:
    """An open file.

    :ivar writing: the connection that writes.
    :ivar reading: the connection that only reads.
    :ivar searching: another one that only reads, so that no other reader waits for a search.
    :ivar has_index: whether there is an index of words. There is none if SQLite was built without FTS5.
    """

    writing: sqlite3.Connection
    reading: sqlite3.Connection
    searching: sqlite3.Connection
    has_index: bool
    _lock: int

    def close(self) -> None:
        """Close the connections. The written pages are copied from the log of SQLite into the database."""
        self.reading.close()
        self.searching.close()
        with suppress(sqlite3.Error):  # without space the log stays beside the database, and nothing is lost
            self.writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.writing.close()
        os.close(self._lock)


def open_log_file(path: str) -> LogFile:
    """Open a file, which is made if it does not exist.

    :raises LogFileError: if it cannot be used.
    """
    _refuse_folder(path)
    lock = _lock(path)
    try:
        _make_private(path)
        writing = _connect(path)
        try:
            has_index = _prepare(writing, path)
            reading, searching = _connect(path), _connect(path)
            for connection in (reading, searching):
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            writing.close()
            raise
    except sqlite3.Error as e:
        os.close(lock)
        raise LogFileError(f"{path}: {reason_of(e)}; {_remedy_of(e)}") from e
    except OSError as e:
        os.close(lock)
        raise LogFileError(f"{path}: {_problem_of(e)}") from e
    except BaseException:
        os.close(lock)
        raise
    return LogFile(writing, reading, searching, has_index, lock)


def check_log_file(path: str) -> None:
    """Check whether a file could be opened, without making, locking or changing anything.

    :raises LogFileError: if it could not, as far as can be seen from outside.
    """
    _refuse_folder(path)
    folder = os.path.dirname(path) or "."
    try:
        os.stat(folder)
        usable = os.access(folder, os.W_OK | os.X_OK)
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as e:
        if not os.path.isdir(folder):
            raise LogFileError(f"{path}: {_problem_of(e)}") from e
        head = b""
    except OSError as e:
        raise LogFileError(f"{path}: {_problem_of(e)}") from e
    if not usable or (head and not os.access(path, os.W_OK)):
        raise LogFileError(f"{path}: {_problem_of(OSError(errno.EACCES, ''))}")
    if head and not head.startswith(_MAGIC):
        raise LogFileError(f"{path}: is not a database; name another file")
    application = int.from_bytes(head[_APPLICATION_AT : _APPLICATION_AT + 4], "big")
    if application not in (0, APPLICATION):  # 0 while the head is in SQLite's log only
        raise LogFileError(f"{path}: is a database of another program; name another file")


def _refuse_folder(path: str) -> None:
    if os.path.isdir(path):
        raise LogFileError(f"{path}: is a folder; name a file in it")


def reason_of(error: sqlite3.Error) -> str:
    """Return, for people, why SQLite cannot do something."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "the disk is full"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "the database is locked by another program"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return "the database cannot be written"
        case sqlite3.SQLITE_NOTADB:
            return "is not a database"
        case sqlite3.SQLITE_CORRUPT:
            return "the database is damaged"
        case sqlite3.SQLITE_IOERR if code == sqlite3.SQLITE_IOERR_SHMSIZE:
            return "the disk is full"  # for the shared memory of SQLite
        case sqlite3.SQLITE_IOERR:
            return "the disk cannot be read or written"
    return " ".join(f"the database failed: {error}".split())


def _remedy_of(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", None) or 0
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return "free some space"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "end that program"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return "allow this user to write it and its folder"
        case sqlite3.SQLITE_IOERR:
            return "free some space" if code == sqlite3.SQLITE_IOERR_SHMSIZE else "check the disk"
    return "name another file"


def _lock(path: str) -> int:
    """Take the lock that keeps a second netsvc away. Return its descriptor.

    It is a lock on a file of its own, which is never removed. A lock on the database itself would need a descriptor of
    it, and closing that drops the locks that SQLite holds in this process: they are POSIX locks. ``flock`` ends with
    the process, however it ends.
    """
    try:
        descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise LogFileError(f"{path}: {_problem_of(e)}") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        os.close(descriptor)
        if e.errno == errno.EWOULDBLOCK:
            raise LogFileError(f"{path}: is in use by another netsvc; end it or name another file") from e
        raise LogFileError(f"{path}: {_problem_of(e)}") from e
    return descriptor


def _make_private(path: str) -> None:
    """Make a file that does not exist, so that only its owner can read it. SQLite gives its other files the same mode.

    No connection to the file is open in this process, so closing the descriptor drops no lock of SQLite.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _problem_of(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return "there is no such folder; make it"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return "the database cannot be written; allow this user to write it and its folder"
        case errno.ENOSPC | errno.EDQUOT:
            return "the disk is full; free some space"
    return f"{error.strerror}; name another file"


def _connect(path: str) -> sqlite3.Connection:
    # Every use is in some thread of the pool, one at a time.
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, path: str) -> bool:
    """Set up a connection that writes, and make the tables of a new file. Return whether there is an index of words."""
    application, schema, tables = (
        connection.execute(query).fetchone()[0]
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    )
    if tables and application != APPLICATION:
        raise LogFileError(f"{path}: is a database of another program; name another file")
    if schema > SCHEMA:
        raise LogFileError(
            f"{path}: was written by a newer netsvc (schema {schema}, known are up to {SCHEMA}); "
            "install that version or name another file"
        )
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        f"cache_size = -{_CACHE}",
        f"journal_size_limit = {_WAL_MAX}",
    ):
        connection.execute(f"PRAGMA {pragma}")
    if not tables:
        _create(connection)
    # SQLite opens a file that it may only read, and says so when something is to be written.
    connection.execute("DELETE FROM unfinished WHERE FALSE")
    return bool(connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'word_index'").fetchone()[0])


def _create(connection: sqlite3.Connection) -> None:
    has_fts5 = connection.execute("SELECT count(*) FROM pragma_module_list WHERE name = 'fts5'").fetchone()[0]
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} {_INDEX if has_fts5 else ''}; "
        f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;"
    )
