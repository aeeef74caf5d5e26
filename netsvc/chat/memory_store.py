"""A store in memory: for one process, bounded, and lost when the process exits.

It answers at once, except for searches.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall

from netsvc.chat.chat_limits import HISTORY_AGE, HISTORY_MAX
from netsvc.chat.entries import Draft, Entry
from netsvc.chat.room_log import RoomLog
from netsvc.chat.store import Appended, BegunAnew, Deliver, LogState, Retried, StoreError
from netsvc.net.reactors import Clock

#: Bytes of all logs, and the number of logs of rooms without members.
MEMORY_MAX = 64 * 1024 * 1024
UNUSED_LOGS_MAX = 4_096

#: The share of the largest log that is dropped when all logs together are too large. Looking for the largest one for
#: each entry would take too long.
_SHARE_DROPPED = 1 / 16

#: Appended entries between two searches for entries that are too old.
_APPENDS_PER_AGE_CHECK = 1_000

#: The cost of all searching in one reactor iteration, in units of 0.2 us at most: 5 ms.
_SEARCH_SHARE = 25_000

#: The cost of showing a member what was found, in the same units.
_ANSWER_COST = 1_000


@dataclass(slots=True, eq=False)
class _Search:
    """A search that has begun."""

    room: str
    log: RoomLog
    steps: Generator[int, None, list[Entry]]
    answer: Deferred[Sequence[Entry]] = field(default_factory=Deferred)


class MemoryStore:
    """Keeps the logs of rooms in memory. If they are too large together, the largest one loses its oldest entries.

    :param wall: returns the seconds since the epoch of UNIX.
    :param clock: continues searches, of which each reactor iteration does a part. Without it, a search blocks until it
        is finished, which takes up to 10 s.
    :param entries_max: entries of one room that are kept; 0 for no limit.
    :param age_max: seconds for which an entry is kept; 0 for no limit.
    :param memory_max: bytes of all logs together, about; 0 for no limit.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        clock: Clock | None = None,
        *,
        entries_max: int = HISTORY_MAX,
        age_max: float = HISTORY_AGE,
        memory_max: int = MEMORY_MAX,
    ) -> None:
        self._wall = wall
        self._clock = clock
        self._entries_max = entries_max
        self._age_max = age_max
        self._memory_max = memory_max
        self._logs: dict[str, RoomLog] = {}
        self._subscribed: dict[str, RoomLog] = {}
        self._deliver: Deliver = _deliver_to_nobody
        self._size = 0
        self._appends = 0
        self._searches: deque[_Search] = deque()
        self._next_part: IDelayedCall | None = None

    @property
    def size(self) -> int:
        """Bytes of all logs together, about."""
        return self._size

    def open(self, deliver: Deliver, begun_anew: BegunAnew) -> None:
        self._deliver = deliver

    def close(self) -> Deferred[None]:
        self._subscribed.clear()
        self._deliver = _deliver_to_nobody
        if self._next_part is not None:
            self._next_part.cancel()
            self._next_part = None
        searches, self._searches = self._searches, deque()
        for search in searches:
            search.answer.errback(StoreError("the store is closed"))
        return succeed(None)

    def subscribe(self, room: str) -> Deferred[LogState]:
        log = self._logs.get(room)
        if log is None:
            log = self._logs[room] = RoomLog(secrets.token_hex(4), self._entries_max)
            self._size += log.size
        self._drop_old(log)
        self._subscribed[room] = log
        return succeed(LogState(log.end, log.topic))

    def unsubscribe(self, room: str) -> None:
        log = self._subscribed.pop(room, None)
        if log is None:
            return
        if not log.has_something_to_show():
            self._forget(room)
        elif len(self._logs) - len(self._subscribed) > UNUSED_LOGS_MAX:
            unused = (name for name in self._logs if name not in self._subscribed)
            self._forget(min(unused, key=lambda name: self._logs[name].newest_time))

    def append(self, draft: Draft, appended: Appended) -> None:
        log = self._subscribed[draft.room]
        earlier = log.was_appended(draft)
        if earlier is not None:
            appended(Retried(earlier))
            return
        before = log.size
        entry = log.append(draft)
        self._size += log.size - before
        self._appends += 1
        if self._appends % _APPENDS_PER_AGE_CHECK == 0:
            self._drop_old_of_all()
        if 0 < self._memory_max < self._size:
            self._drop_from_largest()
        self._deliver(entry)
        appended(entry)

    def read(self, room: str, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        return succeed(self._log(room).after(after, limit))

    def newest(self, room: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        return succeed(self._log(room).newest(limit, until))

    def search(self, room: str, words: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        log = self._log(room)
        search = _Search(room, log, log.search(words, limit, until))
        self._searches.append(search)
        if self._clock is None:
            while self._searches:
                self._search_a_part()
        elif self._next_part is None:
            self._next_part = self._clock.callLater(0, self._search_a_part)
        return search.answer

    def entry_at(self, room: str, offset: int) -> Deferred[Entry | None]:
        return succeed(self._log(room).entry_at(offset))

    def erase(self, room: str, offset: int) -> Deferred[None]:
        log = self._log(room)
        before = log.size
        log.erase(offset)
        self._size += log.size - before
        return succeed(None)

    def _search_a_part(self) -> None:
        """Continue with the searches, in turn, for as much as one reactor iteration may do."""
        self._next_part = None
        left = _SEARCH_SHARE
        answers: list[tuple[_Search, list[Entry]]] = []
        while left > 0 and self._searches:
            search = self._searches.popleft()
            before = search.log.size
            try:
                while left > 0:
                    left -= next(search.steps)
                self._searches.append(search)
            except StopIteration as finished:
                answers.append((search, finished.value))
                left -= _ANSWER_COST
            if self._logs.get(search.room) is search.log:  # if not, it was forgotten meanwhile
                self._size += search.log.size - before
                self._bound_words(search.log)
        if self._searches and self._clock is not None:
            self._next_part = self._clock.callLater(0, self._search_a_part)
        for search, found in answers:
            search.answer.callback(found)

    def _bound_words(self, log: RoomLog) -> None:
        """Forget the words of a log if they make the logs too large, so that a search removes no entries."""
        if 0 < self._memory_max < self._size:
            before = log.size
            log.forget_words()
            self._size += log.size - before

    def _log(self, room: str) -> RoomLog:
        """Return the log of a subscribed room, without the entries that are too old."""
        log = self._subscribed[room]
        self._drop_old(log)
        return log

    def _drop_old(self, log: RoomLog) -> None:
        if self._age_max:
            before = log.size
            log.drop_before(self._wall() - self._age_max)
            self._size += log.size - before

    def _drop_old_of_all(self) -> None:
        for room, log in list(self._logs.items()):
            self._drop_old(log)
            if room not in self._subscribed and not log.has_something_to_show():
                self._forget(room)

    def _drop_from_largest(self) -> None:
        log = max(self._logs.values(), key=lambda each: each.size)
        before = log.size
        if not log.forget_words():
            for _ in range(int(len(log) * _SHARE_DROPPED) + 1):
                if len(log) > 1:
                    log.drop_oldest()
        self._size += log.size - before

    def _forget(self, room: str) -> None:
        self._size -= self._logs.pop(room).size


def _deliver_to_nobody(entry: Entry) -> None:
    """Delivers entries while the store is closed."""
