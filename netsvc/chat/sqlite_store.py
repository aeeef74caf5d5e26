"""A store in a SQLite file: the logs outlive the process.

What is to be written waits in a queue. All that is in it is written in one transaction, in a thread, while the next
changes wait: at a low rate each line is written at once, at a high rate many lines share one synchronisation with the
disk.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred, DeferredLock, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.chat.chat_limits import HISTORY_AGE, HISTORY_MAX
from netsvc.chat.entries import Draft, Entry, Position
from netsvc.chat.sqlite_file import LogFile, LogFileError, open_log_file, reason_of
from netsvc.chat.sqlite_reader import LogReader
from netsvc.chat.sqlite_search import LogSearch
from netsvc.chat.sqlite_writer import INDEXED_AT_ONCE, Erasure, LogWriter, StoredState, Written
from netsvc.chat.store import Appended, BegunAnew, Deliver, LogState, Retried, StoreError
from netsvc.net.blocking import RunBlocking
from netsvc.net.store_counters import StoreCounters

T = TypeVar("T")

#: Changes that one transaction makes. It bounds the time that a job takes.
CHANGES_AT_ONCE = 500


@dataclass(slots=True, eq=False)
class _Subscription:
    """A subscription to a room. Entries are delivered once it is live: once its state was answered."""

    room: str
    answer: Deferred[LogState] = field(default_factory=Deferred)
    is_live: bool = False


@dataclass(slots=True, eq=False)
class _Change:
    """Something to write.

    :ivar answer: told what became of it.
    :ivar since: the monotonic time at which it was given to the store.
    """

    change: Draft | Erasure
    answer: Appended | Deferred[None]
    since: float


@dataclass(slots=True)
class _Done:
    """The results of a job.

    :ivar states: what the subscriptions begin with.
    :ivar written: what became of the changes, or why there are none.
    :ivar is_stuck: whether remains of erased texts cannot be removed now.
    """

    states: list[StoredState | StoreError]
    written: list[Written | None] | StoreError
    is_stuck: bool = False


class _Opened:
    """An open file with what writes and reads it."""

    def __init__(self, file: LogFile, entries_max: int, indexed_at_once: int) -> None:
        self.file = file
        self.writer = LogWriter(file.writing, file.has_index, entries_max, indexed_at_once)
        self.reader = LogReader(file.reading)


class SqliteStore:
    """Keeps the logs of rooms in a file. One process uses a file at a time.

    Entries that are too old are not shown, and are removed little by little when something is written.

    :param path: the file, which is made if it does not exist.
    :param run_blocking: runs what may block, which is all use of the file except opening it.
    :param wall: returns the seconds since the epoch of UNIX.
    :param entries_max: entries of one room that are kept; 0 for no limit.
    :param age_max: seconds for which an entry is kept; 0 for no limit.
    :param indexed_at_once: appended entries after which the index of words is brought up to date. Search looks at the
        others one by one.
    :param monotonic: returns the seconds of a clock, in any thread; for the time that a search or a write takes.
    :param counters: where the store counts.
    """

    log = Logger()

    def __init__(
        self,
        path: str,
        run_blocking: RunBlocking,
        wall: Callable[[], float],
        *,
        entries_max: int = HISTORY_MAX,
        age_max: float = HISTORY_AGE,
        indexed_at_once: int = INDEXED_AT_ONCE,
        monotonic: Callable[[], float] = time.monotonic,
        counters: StoreCounters | None = None,
    ) -> None:
        self._path = path
        self._run_blocking = run_blocking
        self._wall = wall
        self._entries_max = entries_max
        self._age_max = age_max
        self._indexed_at_once = indexed_at_once
        self._monotonic = monotonic
        self._opened: _Opened | None = None
        self._deliver: Deliver | None = None
        self._subscriptions: dict[str, _Subscription] = {}
        self._new_subscriptions: list[_Subscription] = []
        self._changes: deque[_Change] = deque()
        self._being_written: list[_Change] = []
        self._counters = StoreCounters("sqlite") if counters is None else counters
        self._counters.waiting = self._waiting
        self._is_writing = False
        self._idle: Deferred[None] | None = None
        self._read_lock = DeferredLock()
        self._search_lock = DeferredLock()

    def open(self, deliver: Deliver, begun_anew: BegunAnew) -> None:
        try:
            file = open_log_file(self._path)
        except LogFileError as e:
            raise StoreError(str(e)) from e
        self._opened = _Opened(file, self._entries_max, self._indexed_at_once)
        self._deliver = deliver
        self._counters.is_connected = True
        self._counters.connections += 1
        self._begin_writing(self._opened)

    def close(self) -> Deferred[None]:
        opened, self._opened = self._opened, None
        self._counters.is_connected = False
        self._deliver = None
        self._subscriptions.clear()
        return succeed(None) if opened is None else Deferred.fromCoroutine(self._close(opened))

    async def _close(self, opened: _Opened) -> None:
        if self._is_writing:
            self._idle = Deferred()
            await self._idle
        await self._read_lock.acquire()
        await self._search_lock.acquire()
        try:
            await self._run_blocking(opened.file.close)
        finally:
            self._search_lock.release()
            self._read_lock.release()

    def subscribe(self, room: str) -> Deferred[LogState]:
        if self._opened is None:
            return fail(_closed())
        subscription = _Subscription(room)
        self._subscriptions.setdefault(room, subscription)
        self._new_subscriptions.append(subscription)
        self._begin_writing(self._opened)
        return subscription.answer

    def unsubscribe(self, room: str) -> None:
        self._subscriptions.pop(room, None)

    def append(self, draft: Draft, appended: Appended) -> None:
        if self._opened is None:
            appended(_closed())
            return
        self._changes.append(_Change(draft, appended, self._monotonic()))
        self._begin_writing(self._opened)

    def read(self, room: str, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        return self._read(LogReader.read, room, after, limit)

    def newest(self, room: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        return self._read(LogReader.newest, room, until, limit)

    def search(self, room: str, words: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        return Deferred.fromCoroutine(self._search(room, words, until, limit)).addErrback(_raise_store_error)

    def entry_at(self, room: str, offset: int) -> Deferred[Entry | None]:
        return self._read(LogReader.entry_at, room, offset)

    def erase(self, room: str, offset: int) -> Deferred[None]:
        if self._opened is None:
            return fail(_closed())
        erased: Deferred[None] = Deferred()
        self._changes.append(_Change(Erasure(room, offset), erased, self._monotonic()))
        self._begin_writing(self._opened)
        return erased

    def _read(self, method: Callable[..., T], *arguments: object) -> Deferred[T]:
        if self._opened is None:
            return fail(_closed())
        read = partial(method, self._opened.reader, *arguments, self._oldest())
        answer: Deferred[T] = self._read_lock.run(self._run_blocking, read)
        return answer.addErrback(_raise_store_error)

    async def _search(self, room: str, words: str, until: int, limit: int) -> Sequence[Entry]:
        """Search step by step. The steps of several searches take turns."""
        if self._opened is None:
            raise _closed()
        file = self._opened.file
        search = LogSearch(file.searching, file.has_index, room, words, until, limit, self._oldest(), self._monotonic)
        while not await self._search_lock.run(self._run_blocking, search.step):
            if self._opened is None or self._opened.file is not file:
                raise _closed()
        return search.found

    def _waiting(self) -> tuple[int, float]:
        """Return how many lines have no outcome yet, and for how many seconds the oldest has waited."""
        since = [each.since for each in (*self._being_written, *self._changes) if isinstance(each.change, Draft)]
        return len(since), self._monotonic() - since[0] if since else 0.0

    def _oldest(self) -> float:
        """Return the time before which entries are too old."""
        return self._wall() - self._age_max if self._age_max else -math.inf

    def _begin_writing(self, opened: _Opened) -> None:
        if not self._is_writing:
            self._is_writing = True
            Deferred.fromCoroutine(self._write(opened)).addErrback(self._failed)

    async def _write(self, opened: _Opened) -> None:
        """Write what is queued, one job after another, until nothing is left."""
        is_stuck = False
        while self._changes or self._new_subscriptions or (opened.writer.has_remains and not is_stuck):
            subscriptions, self._new_subscriptions = self._new_subscriptions, []
            changes = [self._changes.popleft() for _ in range(min(CHANGES_AT_ONCE, len(self._changes)))]
            self._being_written = changes
            rooms = [subscription.room for subscription in subscriptions]
            # The thread gets copies, because both change meanwhile.
            arguments = (rooms, [each.change for each in changes], self._oldest(), self._subscriptions.copy())
            try:
                done: _Done = await self._run_blocking(_work, opened.writer, *arguments)
            except Exception:
                self.log.failure("the store failed")
                error = StoreError("the store failed")
                done = _Done([error] * len(rooms), error)
            is_stuck = done.is_stuck
            self._being_written = []
            self._answer_subscriptions(subscriptions, done.states)
            self._answer_changes(changes, done.written)
        self._is_writing = False
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.callback(None)

    def _answer_subscriptions(self, subscriptions: list[_Subscription], states: list[StoredState | StoreError]) -> None:
        for subscription, state in zip(subscriptions, states, strict=True):
            if isinstance(state, StoreError):
                if self._subscriptions.get(subscription.room) is subscription:
                    del self._subscriptions[subscription.room]
                subscription.answer.errback(state)
            else:
                subscription.is_live = True
                subscription.answer.callback(LogState(Position(state.epoch, state.last), state.topic))

    def _answer_changes(self, changes: list[_Change], written: list[Written | None] | StoreError) -> None:
        results = [written] * len(changes) if isinstance(written, StoreError) else written
        now = self._monotonic()
        for each, result in zip(changes, results, strict=True):
            answer = each.answer
            if isinstance(answer, Deferred):
                if isinstance(result, StoreError):
                    answer.errback(result)
                else:
                    answer.callback(None)
            elif isinstance(result, Written):
                self._counters.appends += 1
                self._counters.append_seconds += now - each.since
                self._answer_append(answer, result)
            else:
                assert result is not None
                self._counters.refused += 1
                self._call(answer, result)

    def _answer_append(self, appended: Appended, written: Written) -> None:
        entry = written.entry
        if not written.is_new:
            self._call(appended, Retried(entry))
            return
        subscription = self._subscriptions.get(entry.room)
        if subscription is not None and subscription.is_live and self._deliver is not None:
            self._call(self._deliver, entry)
        self._call(appended, entry)

    def _call(self, function: Callable[[Any], object], argument: object) -> None:
        # The others are told, whatever fails.
        try:
            function(argument)
        except Exception:
            self.log.failure("a user of the store failed")

    def _failed(self, failure: Failure) -> None:
        self.log.failure("the store failed", failure)


def _work(
    writer: LogWriter,
    rooms: Sequence[str],
    changes: Sequence[Draft | Erasure],
    oldest: float,
    open_rooms: Collection[str],
) -> _Done:
    """Do one job in the thread.

    The states are those before the changes, so what the changes append is delivered to the new subscriptions.
    """
    done = _Done([_or_error(writer.state, room) for room in rooms], [])
    if changes:
        done.written = _or_error(writer.write, changes, oldest, open_rooms)
    if writer.has_remains:
        done.is_stuck = _or_error(writer.remove_remains) is not True
    return done


def _or_error(function: Callable[..., T], *arguments: object) -> T | StoreError:
    try:
        return function(*arguments)
    except sqlite3.Error as e:
        return StoreError(reason_of(e))


def _raise_store_error(failure: Failure) -> NoReturn:
    error = failure.value
    if isinstance(error, sqlite3.Error):
        raise StoreError(reason_of(error)) from error
    failure.raiseException()


def _closed() -> StoreError:
    return StoreError("the store is closed")
