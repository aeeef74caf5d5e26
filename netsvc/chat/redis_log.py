"""The log of one room in Redis as a node knows it: which entries it has, and which of its own are on their way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from netsvc.chat.entries import Draft, Entry, EntryKind, Position
from netsvc.chat.redis_entries import Tag, TaggedEntry, encode_entry
from netsvc.chat.redis_feed import RedisFeed
from netsvc.chat.store import Appended, LogState, StoreError

#: Seconds for which an acknowledged entry is kept, until the next comparison of positions after that. A Redis that
#: loses its last seconds gets it again.
OFFERED_FOR = 4.0


@dataclass(slots=True, eq=False)
class OwnEntry:
    """An entry of this node.

    :ivar appended: told the outcome; None once it was.
    :ivar since: the monotonic time at which it was given to the store, or was acknowledged.
    :ivar tag: by which it is recognised; None until it is sent the first time.
    :ivar data: its form in Redis.
    :ivar was_unconfirmed: whether ``appended`` was told that the outcome is not known yet.
    :ivar may_be_there: whether it was sent, and it is not certain that it cannot come into the log any more.
    :ivar error: with which Redis has refused it; None if it has not.
    """

    draft: Draft
    appended: Appended | None
    since: float
    tag: Tag | None = None
    data: bytes = b""
    was_unconfirmed: bool = False
    may_be_there: bool = False
    error: Exception | None = None


class RedisLog:
    """The log of one room.

    :ivar channel: of its messages.
    :ivar keys: its keys, in the order in which the scripts take them.
    :ivar feed: puts the entries in order; None until the subscription is in effect.
    :ivar topic: the entry that set the topic.
    :ivar is_wanted: whether the room is subscribed to. If not, the log is kept until the outcome of all is known.
    :ivar answers: what waits for the subscription.
    :ivar unsent: own entries of which it is known that they are not in the log.
    :ivar sent: own entries of which it is not known, in the order of their counters.
    :ivar acknowledged: own entries of the last seconds.
    :ivar in_flight: how many answers are to come.
    :ivar is_halted: whether nothing is sent, because what became of the entries that were sent is to be found out.
    :ivar is_checked: whether it was found out, since the connection was made, what of the sent is in the log.
    :ivar is_reading: whether missing entries are being read.
    :ivar is_stale: whether something has happened meanwhile, so that they are to be read once more.
    :ivar is_other: whether the log has another epoch now.
    :ivar counter_there: the highest counter of this node that the log had when it was checked last.
    :ivar end_there: the offset of its last entry then.
    :ivar untold: since an entry came again, which the log had lost: the entries that are to be told together, each with
        whether it is new, and who is told about it; None if there are none.
    :ivar untold_until: when they are told.
    :ivar check_due: when the position is to be compared with the log.
    :ivar early: messages that came before the subscription was in effect.
    :ivar node: the node whose counters these are.
    """

    def __init__(self, room: str) -> None:
        name = room.encode()
        self.room = room
        self.channel = b"netsvc:room:" + name
        self.keys = tuple(b"netsvc:%b:%b" % (kind, name) for kind in (b"log", b"entries", b"retries", b"erased"))
        self.feed: RedisFeed | None = None
        self.topic: Entry | None = None
        self.is_wanted = True
        self.answers: list[Deferred[LogState]] = []
        self.unsent: deque[OwnEntry] = deque()
        self.sent: dict[Tag, OwnEntry] = {}
        self.acknowledged: deque[OwnEntry] = deque()
        self.in_flight = 0
        self.is_halted = False
        self.is_checked = False
        self.is_reading = False
        self.is_stale = False
        self.is_other = False
        self.counter_there = 0
        self.end_there = 0
        self.untold: list[tuple[Entry, bool, Appended | None]] | None = None
        self.untold_until = 0.0
        self.check_due = 0.0
        self.early: list[bytes] = []
        self.node = ""
        self._counter = 0

    @property
    def state(self) -> LogState:
        """The state of the log as far as it was delivered."""
        assert self.feed is not None
        return LogState(Position(self.feed.epoch, self.feed.offset), self.topic)

    @property
    def is_idle(self) -> bool:
        """Whether the outcome of all own entries is known."""
        return not self.unsent and not self.sent and self.untold is None

    def fail_answers(self, error: StoreError) -> None:
        """Fail what waits for the subscription."""
        answers, self.answers = self.answers, []
        for answer in answers:
            answer.errback(error)

    def count_as(self, node: str, counter: int = 0) -> None:
        """Count anew, as another node.

        :param counter: the highest counter of this node that the log has.
        """
        if self.node != node:
            self.node, self._counter = node, counter
            self.acknowledged.clear()

    def to_send(self) -> Iterator[OwnEntry]:
        """Yield the entries that are to be sent, each with its tag."""
        while self.unsent:
            own = self.unsent.popleft()
            if own.tag is None or own.tag.node != self.node:
                self._counter += 1
                own.tag = Tag(self.node, self._counter)
                own.data = encode_entry(own.tag, own.draft)
            own.error = None
            self.sent[own.tag] = own
            self.in_flight += 1
            yield own

    @property
    def lowest(self) -> int:
        """The lowest counter without an answer."""
        return next(iter(self.sent)).counter

    def send_again(self, counter: int) -> None:
        """Prepare to send again what is not in the log.

        :param counter: the highest one that the log has of this node.
        """
        lost: list[OwnEntry] = []
        kept: deque[OwnEntry] = deque()
        for own in self.acknowledged:
            assert own.tag is not None
            (lost if own.tag.counter > counter else kept).append(own)
        self.acknowledged = kept
        missing = [own for tag, own in self.sent.items() if tag.node != self.node or tag.counter > counter]
        for own in missing:
            assert own.tag is not None
            del self.sent[own.tag]
            own.may_be_there = True  # an earlier connection may still deliver it to Redis
        unsent = [*lost, *missing, *self.unsent]
        # By their counters: the log takes none that is lower than one that it has.
        counted = {own.tag.counter: own for own in unsent if own.tag is not None and own.tag.node == self.node}
        others = (own for own in unsent if own.tag is None or own.tag.node != self.node)
        self.unsent = deque([*(own for _, own in sorted(counted.items())), *others])

    @property
    def has_undelivered(self) -> bool:
        """Whether the log has seen an own entry that was not delivered, and no answer is to come."""
        first = next(iter(self.sent), None)
        is_seen = first is not None and first.node == self.node and first.counter <= self.counter_there
        return is_seen and not self.in_flight

    def take_all(self) -> list[OwnEntry]:
        """Return the own entries that are not in the log, and cannot come into it: they were sent as another node."""
        own = [*self.sent.values(), *self.unsent]
        self.sent.clear()
        self.unsent.clear()
        return own

    def take_refused(self) -> list[OwnEntry]:
        """Return the own entries that Redis has refused. They are not in the log."""
        refused = [own for own in self.sent.values() if own.error is not None]
        for own in refused:
            assert own.tag is not None
            del self.sent[own.tag]
            own.may_be_there = False
        return refused

    def delivered(self, tagged: TaggedEntry, now: float) -> Appended | None:
        """Take note of an entry of the log. Return what is told about it, if it is an own one."""
        if tagged.entry.kind is EntryKind.TOPIC:
            self.topic = tagged.entry if tagged.entry.text else None
        return self.resolved(tagged.tag, now)

    def resolved(self, tag: Tag, now: float) -> Appended | None:
        """An own entry is in the log. Return what is told about it."""
        own = self.sent.pop(tag, None)
        if own is None:
            return None
        appended, own.appended, own.since = own.appended, None, now
        self.acknowledged.append(own)
        return appended

    def forget_acknowledged(self, now: float) -> None:
        """Forget the entries that were acknowledged too long ago to be sent again. The log has just shown them."""
        while self.acknowledged and now - self.acknowledged[0].since > OFFERED_FOR:
            self.acknowledged.popleft()
