"""A store in Redis, which several nodes share: each appends, and all are told.

A script appends an entry and publishes it. An answer that does not come says nothing: the entry may be in the log or
not. So each entry has a tag with a counter, by which the script recognises what it has appended before, and refuses
what would come out of turn. After each loss of the connection, and from time to time, the node compares its position
with the log, and reads what it has missed.

It works with one Redis or Valkey, version 7 or later. A Redis Cluster is not supported: the scripts use keys of several
slots.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.chat.chat_limits import HISTORY_AGE, HISTORY_MAX
from netsvc.chat.entries import Draft, Entry, Position
from netsvc.chat.redis_entries import Tag, TaggedEntry, decode_entry, mark, retry_key
from netsvc.chat.redis_feed import RedisFeed
from netsvc.chat.redis_log import OwnEntry, RedisLog
from netsvc.chat.redis_log_scripts import APPEND, CHECK, END
from netsvc.chat.redis_node import CUT_OFF, LEASES, RETRY_AFTER, TEMPORARY, RedisNode, redis_reason
from netsvc.chat.redis_reader import READ_AT_ONCE, RedisReader
from netsvc.chat.store import (
    Appended,
    BegunAnew,
    Deliver,
    LogState,
    NewLog,
    Outcome,
    Retried,
    StoreError,
    Unconfirmed,
)
from netsvc.net.deadline import Deadline
from netsvc.net.reactors import Clock
from netsvc.net.store_counters import StoreCounters
from netsvc.redis.redis_protocol import RedisReplyError, Reply

#: Seconds after which an author is told that its line is not confirmed, or, if the line was not written, refused.
OUTCOME_AFTER = 2.0

#: Seconds between two looks at what waits, and between two comparisons of a position with its log.
TICK = 0.1
CHECK_EVERY = 2.0

#: Positions that one script compares, and that are compared at each tick at least.
ROOMS_AT_ONCE = 100
CHECKED_AT_ONCE = 10

#: Seconds in which the entries that come again are told together.
TOLD_TOGETHER_IN = 0.5

#: Seconds in which the nodes notice that a log has lost something, and append it again.
APPENDED_AGAIN_IN = 1.5

#: Messages of a room that are kept while its subscription begins. Further ones are read again.
EARLY_MAX = 1_000


class RedisStore:
    """Keeps the logs of rooms in Redis.

    Entries that are too old are not shown, and are removed when something is appended to their log. A log that no
    node has used for so long is removed as a whole.

    :param node: this process as a node.
    :param clock: schedules the checks.
    :param wall: returns the seconds since the epoch of UNIX.
    :param entries_max: entries of one room that are kept; 0 for no limit.
    :param age_max: seconds for which an entry is kept; 0 for no limit.
    :param counters: where the store counts.
    :param new_epoch: returns another epoch at each call, as hexadecimal digits.
    """

    log = Logger()

    def __init__(
        self,
        node: RedisNode,
        clock: Clock,
        wall: Callable[[], float],
        *,
        entries_max: int = HISTORY_MAX,
        age_max: float = HISTORY_AGE,
        counters: StoreCounters | None = None,
        new_epoch: Callable[[], str] = partial(secrets.token_hex, 4),  # noqa: B008  it has no state
    ) -> None:
        self._node = node
        self._clock = clock
        self._reader = RedisReader(node, wall, age_max)
        self._entries_max = entries_max
        self._new_epoch = new_epoch
        self._counters = StoreCounters("redis") if counters is None else counters
        self._counters.waiting = self._waiting
        self._counters.nodes = lambda: (node.id, node.alive)
        self._logs: dict[str, RedisLog] = {}
        self._is_open = False
        self._deliver: Deliver | None = None
        self._begun_anew: BegunAnew | None = None
        self._timer: Deadline | None = None
        self._connections = 0
        self._closing: Deferred[None] | None = None

    # Used by the hub

    def open(self, deliver: Deliver, begun_anew: BegunAnew) -> None:
        self._is_open = True
        self._deliver, self._begun_anew = deliver, begun_anew
        self._node.open(self)
        self._schedule()

    def close(self) -> Deferred[None]:
        if not self._is_open:
            return succeed(None)
        self._is_open = False
        for room in list(self._logs):
            self.unsubscribe(room)
        return Deferred.fromCoroutine(self._close())

    def subscribe(self, room: str) -> Deferred[LogState]:
        if not self._is_open:
            return fail(StoreError("the store is closed"))
        log = self._logs.get(room)
        if log is None:
            log = self._logs[room] = RedisLog(room)
            self._start(self._begin(log))
        self._tell_untold(log)
        log.is_wanted = True
        if log.feed is not None:
            return succeed(log.state)
        answer: Deferred[LogState] = Deferred()
        log.answers.append(answer)
        return answer

    def unsubscribe(self, room: str) -> None:
        log = self._logs.get(room)
        if log is not None:
            log.is_wanted = False
            self._drop_if_idle(log)

    def append(self, draft: Draft, appended: Appended) -> None:
        log = self._logs.get(draft.room)
        if log is None:
            appended(StoreError("the room is closed"))
            return
        log.unsent.append(OwnEntry(draft, appended, self._node.monotonic()))
        self._send(log)

    def read(self, room: str, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        return Deferred.fromCoroutine(self._reader.read(room, after, limit))

    def newest(self, room: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        return Deferred.fromCoroutine(self._reader.newest(room, self._known(room, until), limit))

    def search(self, room: str, words: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        return Deferred.fromCoroutine(self._reader.search(room, words, self._known(room, until), limit))

    def entry_at(self, room: str, offset: int) -> Deferred[Entry | None]:
        return Deferred.fromCoroutine(self._reader.entry_at(room, offset))

    def erase(self, room: str, offset: int) -> Deferred[None]:
        return Deferred.fromCoroutine(self._reader.erase(room, offset))

    # Called by the node

    def connected(self, *, is_new: bool) -> None:
        self._counters.is_connected = True
        self._counters.connections += 1
        self._connections += 1
        self._check(self._logs.values())

    def disconnected(self) -> None:
        self._counters.is_connected = False
        for log in self._logs.values():
            log.is_checked = False

    def resubscribed(self) -> None:
        for log in self._logs.values():
            log.end_there = 0  # what is missing now will not come
        self._check(self._logs.values(), reads_at_once=True)

    def nodes_died(self, nodes: Sequence[str]) -> None:
        """The directory removes their members."""

    # Own entries

    def _send(self, log: RedisLog) -> None:
        """Send what is to be sent, if that may be now."""
        if not log.is_checked or log.is_halted or not self._node.is_serving or not log.unsent:
            return
        oldest = max(0, int(self._reader.oldest()))
        for own in log.to_send():
            assert own.tag is not None
            draft = own.draft
            self._node.evaluate(
                APPEND,
                (*log.keys, LEASES, b"netsvc:counted:" + own.tag.node.encode()),
                (
                    *(own.tag.node, own.tag.counter, log.lowest, own.data, mark(draft), f"{draft.time:.0f}"),
                    *(retry_key(draft), self._entries_max, oldest, log.channel, self._new_epoch(), log.room),
                ),
                partial(self._answered, log, own, own.tag),
            )

    def _answered(self, log: RedisLog, own: OwnEntry, tag: Tag, reply: Reply) -> None:
        """Take the answer to an append."""
        log.in_flight -= 1
        if isinstance(reply, RedisReplyError):
            own.error = reply
            log.is_halted = True
        elif isinstance(reply, list):
            self._counters.appends += 1
            self._counters.append_seconds += self._node.monotonic() - own.since
            self._appended(log, own, tag, reply)
        # Without an answer the entry may be in the log or not. Then the connection was lost.
        if log.is_halted and not log.in_flight:
            self._take_refused(log)

    def _appended(self, log: RedisLog, own: OwnEntry, tag: Tag, reply: list[Reply]) -> None:
        how, *rest = reply
        if not rest:
            return  # it is in the log, and comes
        offset, epoch, *data = rest
        assert isinstance(offset, int)
        assert isinstance(epoch, bytes)
        name = epoch.decode()
        if how == b"new":
            if log.feed is not None and log.feed.epoch == name:
                entry = Entry._make((*own.draft, name, offset))
                self._take(log, TaggedEntry(tag, entry))
            else:
                self._check([log])
            return
        tagged = self._reader.decoded(log.room, name, offset, data[0])
        if tagged is not None and tagged.tag != tag and tag in log.sent:
            appended = log.resolved(tag, self._node.monotonic())
            log.acknowledged.pop()  # it is not in the log under this tag
            self._tell(appended, Retried(tagged.entry))
            self._drop_if_idle(log)

    def _take_refused(self, log: RedisLog) -> None:
        """All answers are known, and some are errors. Those entries are not in the log."""
        refused = log.take_refused()
        again: list[OwnEntry] = []
        problem: RedisReplyError | None = None
        for own in refused:
            error = own.error
            assert isinstance(error, RedisReplyError)
            if error.code == "COUNTER" and problem is not None:
                error = problem  # it came too early only because of the one that was refused
            if error.code in TEMPORARY:
                again.append(own)
            else:
                problem = error
                self._counters.refused += 1
                self._tell(own.appended, StoreError(redis_reason(error)))
        log.unsent.extendleft(reversed(again))
        if again:
            error = again[0].error
            assert isinstance(error, RedisReplyError)
            self._node.repair(error)
        self._clock.callLater(RETRY_AFTER if again else 0, self._check, [log])

    def _tick(self) -> None:
        self._schedule()
        now = self._node.monotonic()
        due: list[RedisLog] = []
        for log in list(self._logs.values()):
            if log.untold is not None and now >= log.untold_until:
                self._tell_untold(log)
                self._drop_if_idle(log)
            if log.unsent or log.sent:
                self._tell_outcomes(log, now)
            if log.check_due <= now:
                due.append(log)
        # Some at a time: Redis does nothing else meanwhile.
        due = due[: max(CHECKED_AT_ONCE, int(len(self._logs) * TICK / CHECK_EVERY) + 1)]
        for log in due:
            log.check_due = now + CHECK_EVERY
        self._check(due)

    def _tell_outcomes(self, log: RedisLog, now: float) -> None:
        """Tell what became of the entries that wait for too long."""
        late = [own for own in log.sent.values() if now - own.since >= OUTCOME_AFTER]
        if not self._node.is_serving or not log.is_checked:
            late += [own for own in log.unsent if now - own.since >= OUTCOME_AFTER]
        for own in late:
            if own.may_be_there or own.tag in log.sent:
                if not own.was_unconfirmed:
                    own.was_unconfirmed = True
                    self._tell(own.appended, Unconfirmed())
            elif own.appended is not None:
                self._counters.refused += 1
                log.unsent.remove(own)
                self._tell(own.appended, StoreError(self._node.reason))
        self._drop_if_idle(log)

    # Entries of all nodes

    def _message(self, log: RedisLog, data: bytes) -> None:
        """Take a message of the append script."""
        feed = log.feed
        if feed is None:
            if len(log.early) < EARLY_MAX:
                log.early.append(data)
            return
        try:
            epoch, offset, entry = data.split(b" ", 2)
            tagged = decode_entry(log.room, epoch.decode(), int(offset), entry)
        except ValueError as e:
            self.log.error("a message in Redis is no entry: {problem}", problem=str(e))
            return
        if tagged.entry.epoch != feed.epoch:
            # The log was begun anew, or another database of this Redis has such a room. The next tick finds out.
            log.is_stale = True
            log.check_due = 0.0
            return
        self._take(log, tagged)
        if tagged.entry.offset > feed.offset:
            self._counters.gaps += 1
            self._synchronise(log)  # a message is missing

    def _take(self, log: RedisLog, tagged: TaggedEntry) -> None:
        feed = log.feed
        assert feed is not None
        for each, is_new in feed.take(tagged):
            appended = log.delivered(each, self._node.monotonic())
            if not is_new and log.untold is None:
                # The log had lost it. More may follow, and the room is told once.
                log.untold, log.untold_until = [], self._node.monotonic() + TOLD_TOGETHER_IN
            if log.untold is not None:
                log.untold.append((each.entry, is_new, appended))
                continue
            if log.is_wanted and self._deliver is not None:
                self._call(self._deliver, each.entry)
            self._tell(appended, each.entry)
        if not log.is_wanted:
            self._drop_if_idle(log)

    def _tell_untold(self, log: RedisLog) -> None:
        """Tell of the last entries, some of which have come again."""
        untold, log.untold = log.untold, None
        if not untold:
            return
        end = untold[-1][0].position
        self._tell_begun_anew(log, end, [entry for entry, is_new, _ in untold if is_new])
        for entry, _, appended in untold:
            self._tell(appended, entry)

    def _check(self, logs: Iterable[RedisLog], *, reads_at_once: bool = False) -> None:
        """Compare positions with the logs."""
        checked = [log for log in logs if log.feed is not None and self._logs.get(log.room) is log]
        if not self._node.is_serving:
            return
        for begin in range(0, len(checked), ROOMS_AT_ONCE):
            some = checked[begin : begin + ROOMS_AT_ONCE]
            keys = [key for log in some for key in log.keys]
            arguments: list[str | int] = [self._new_epoch(), self._reader.age_in_ms]
            for log in some:
                assert log.feed is not None
                tag = log.feed.tag
                arguments += (log.feed.epoch, log.feed.offset, "" if tag is None else tag.text)
                arguments.append(self._node.id)
            self._node.evaluate(CHECK, keys, arguments, partial(self._checked, some, reads_at_once))

    def _checked(self, logs: list[RedisLog], reads_at_once: bool, reply: Reply) -> None:
        if isinstance(reply, RedisReplyError):
            self._node.repair(reply)
        if not isinstance(reply, list):
            return  # the next check comes soon
        for log, answer in zip(logs, reply, strict=True):
            assert isinstance(answer, list)
            epoch, end, counter = answer
            assert isinstance(epoch, bytes)
            assert isinstance(end, int)
            assert isinstance(counter, int)
            feed = log.feed
            if feed is None:
                continue
            log.counter_there = counter
            log.is_other = epoch.decode() != feed.epoch
            if not log.is_other:
                feed.end = max(feed.end, end)
                if log.is_checked:  # if not, the log may have lost them, though its epoch is the same
                    log.forget_acknowledged(self._node.monotonic())
            # Entries that were missing at the last check will not come by themselves; newer ones may be on their way.
            is_missing = feed.offset < (end if reads_at_once else min(end, log.end_there))
            log.end_there = end
            if log.is_other or is_missing or not log.is_checked or log.is_halted or log.has_undelivered:
                self._synchronise(log)

    def _synchronise(self, log: RedisLog) -> None:
        """Read what is missing, and send again what is not in the log."""
        if log.is_reading:
            log.is_stale = True
            return
        log.is_reading = True
        self._start(self._read_missing(log))

    async def _read_missing(self, log: RedisLog) -> None:
        connections = self._connections
        try:
            if log.is_other:
                if log.node == self._node.id:
                    self._send_again(log)
                # The other nodes append again what was lost, so that it is there when the log is read.
                await self._node.pause(APPENDED_AGAIN_IN)
                if connections == self._connections:
                    await self._switch(log)
            elif not await self._fill(log):
                log.is_other = True
            if not log.is_other and not log.in_flight and connections == self._connections:
                await self._tell_of_undelivered(log, connections)
            if not log.is_other and connections == self._connections:
                self._send_again(log)
                self._drop_if_idle(log)
        except StoreError:
            return  # the next check tries again
        finally:
            log.is_reading = False
            is_stale, log.is_stale = log.is_stale, False
        # Results from before Redis was away do not count: it may have lost data.
        if is_stale or log.is_other or connections != self._connections:
            self._check([log], reads_at_once=True)

    def _send_again(self, log: RedisLog) -> None:
        """Send what is not in the log, unless answers are still to come."""
        if not log.in_flight and self._node.is_serving:
            if log.node != self._node.id:
                # They were said under nicks that others may have now.
                for own in log.take_all():
                    self._counters.refused += 1
                    self._tell(own.appended, StoreError(CUT_OFF))
            log.count_as(self._node.id)
            log.send_again(log.counter_there)
            log.is_checked = True
            log.is_halted = False
            self._send(log)

    async def _fill(self, log: RedisLog) -> bool:
        """Read what is missing. Return whether the log is the same."""
        feed = log.feed
        assert feed is not None
        while feed.has_gap:
            before = feed.offset
            epoch, end, found = await self._reader.tagged(log.room, before, READ_AT_ONCE)
            if epoch != feed.epoch or end < feed.offset:
                return False
            if found and found[0].entry.offset > feed.offset + 1:
                # The log does not keep that long what this node has missed.
                self._tell_untold(log)
                feed.skip(found[0].entry.offset - 1, None)
                self._tell_begun_anew(log, log.state.end, ())
            for tagged in found:
                if tagged.entry.offset > feed.offset:
                    self._counters.filled += 1
                    self._take(log, tagged)
            if feed.offset == before:
                break
        return True

    async def _switch(self, log: RedisLog) -> None:
        """Go on in a log that was begun anew, or was set back."""
        feed = log.feed
        assert feed is not None
        begun = await self._reader.begin(log.room, self._new_epoch())
        epoch, end = begun.end
        after = feed.read_again_after(end, is_new_log=begun.is_new_log)
        read: list[TaggedEntry] = []
        while after < end:
            same, _, found = await self._reader.tagged(log.room, after, min(READ_AT_ONCE, end - after))
            if same != epoch or not found:
                break
            read += found
            after = found[-1].entry.offset
        self._counters.new_logs += 1
        self._tell_untold(log)
        unseen = feed.switch(epoch, end, begun.tag, read, is_new_log=begun.is_new_log)
        log.topic = begun.topic
        log.counter_there = begun.counters.get(self._node.id, 0)
        log.is_other = False
        log.end_there = 0
        self._tell_begun_anew(log, log.state.end, [tagged.entry for tagged in unseen])
        for tagged in read:
            self._tell(log.resolved(tagged.tag, self._node.monotonic()), tagged.entry)

    async def _tell_of_undelivered(self, log: RedisLog, connections: int) -> None:
        """Tell the authors of entries that the log has seen, and that were not delivered, what became of them.

        Such an entry is a retry whose answer was lost, or the log no longer keeps it.
        """
        assert log.feed is not None
        counter = log.counter_there  # a later one belongs to entries that are on their way
        for tag, own in list(log.sent.items()):
            if tag.node != log.node or tag.counter > counter:
                continue
            earlier = await self._reader.earlier(own.draft) if own.draft.message_id else None
            if connections != self._connections:
                return
            if tag not in log.sent:
                continue  # it was delivered meanwhile
            appended = log.resolved(tag, self._node.monotonic())
            if earlier is None:
                self._tell(appended, Retried(Entry._make((*own.draft, log.feed.epoch, log.feed.offset))))
                continue
            if earlier.tag != tag:
                log.acknowledged.pop()  # it is not in the log under this tag
            self._tell(appended, Retried(earlier.entry))

    def _tell_begun_anew(self, log: RedisLog, end: Position, unseen: Sequence[Entry]) -> None:
        if log.is_wanted and self._begun_anew is not None:
            self._call(self._begun_anew, NewLog(log.room, LogState(end, log.topic), unseen))

    # Subscriptions

    async def _begin(self, log: RedisLog) -> None:
        try:
            await self._node.subscribe(log.channel, partial(self._message, log))
            begun = await self._reader.begin(log.room, self._new_epoch())
        except StoreError as e:
            if self._logs.get(log.room) is log:
                del self._logs[log.room]
                self._node.unsubscribe(log.channel)
            log.fail_answers(e)
            return
        log.feed = RedisFeed(begun.end.epoch, begun.end.offset, begun.tag, begun.counters)
        log.topic = begun.topic
        log.count_as(self._node.id, begun.counters.get(self._node.id, 0))
        log.is_checked = self._node.is_serving
        answers, log.answers = log.answers, []
        for answer in answers:
            answer.callback(log.state)
        early, log.early = log.early, []
        for data in early:
            self._message(log, data)
        self._send(log)
        self._drop_if_idle(log)

    def _drop_if_idle(self, log: RedisLog) -> None:
        """End a subscription that nobody wants, once the outcome of all entries is known."""
        if log.is_wanted or not log.is_idle or log.feed is None or self._logs.get(log.room) is not log:
            return
        del self._logs[log.room]
        self._node.unsubscribe(log.channel)
        if self._node.is_serving:
            self._node.evaluate(END, log.keys, (), _ignore)
        if self._closing is not None and not self._logs:
            closing, self._closing = self._closing, None
            closing.callback(None)

    async def _close(self) -> None:
        if any(not log.is_idle for log in self._logs.values()):
            self._closing = Deferred()
            timer = Deadline(self._clock, self._node.monotonic, OUTCOME_AFTER, self._give_up)
            await self._closing
            timer.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for log in list(self._logs.values()):
            log.fail_answers(StoreError("the store is closed"))
        self._logs.clear()
        self._deliver = self._begun_anew = None
        self._counters.is_connected = False
        await self._node.close(self)

    def _give_up(self) -> None:
        for log in self._logs.values():
            self._tell_untold(log)
            for own in [*log.sent.values(), *log.unsent]:
                self._tell(own.appended, StoreError("the store is closed"))
        self._logs.clear()
        closing, self._closing = self._closing, None
        if closing is not None:
            closing.callback(None)

    # Internal

    def _waiting(self) -> tuple[int, float]:
        waiting = [own.since for log in self._logs.values() for own in (*log.sent.values(), *log.unsent)]
        return len(waiting), self._node.monotonic() - min(waiting) if waiting else 0.0

    def _known(self, room: str, until: int) -> int:
        """Return an offset, or the end of the log if that is before."""
        log = self._logs.get(room)
        return until if log is None or log.feed is None else min(until, log.feed.end)

    def _schedule(self) -> None:
        self._timer = Deadline(self._clock, self._node.monotonic, TICK, self._tick)

    def _start(self, work: object) -> None:
        Deferred.fromCoroutine(work).addErrback(self._failed)  # type: ignore[arg-type]

    def _failed(self, failure: Failure) -> None:
        self.log.failure("the store failed", failure)

    def _tell(self, appended: Appended | None, outcome: Outcome) -> None:
        if appended is not None:
            self._call(appended, outcome)

    def _call(self, function: Callable[..., object], argument: object) -> None:
        # The others are told, whatever fails.
        try:
            function(argument)
        except Exception:
            self.log.failure("a user of the store failed")


def _ignore(reply: Reply) -> None:
    """Take no note of an answer."""
