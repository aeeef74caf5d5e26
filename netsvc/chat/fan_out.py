"""Delivers the entries of rooms to their members, a bounded number in each reactor iteration."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from netsvc.chat.entries import Entry
from netsvc.chat.participant import Participant
from netsvc.chat.room import Membership, Room
from netsvc.net.reactors import Clock, cancel

#: Deliveries in one reactor iteration. On the slowest reactor one takes about 12 us.
DELIVERIES_PER_ITERATION = 400


class _Job:
    """An entry of a large room, and the deliveries that remain."""

    def __init__(self, entry: Entry, deliveries: list[tuple[Membership[Participant], bytes]]) -> None:
        self.entry = entry
        self.deliveries = deliveries
        self.done = 0


class FanOut:
    """Delivers entries. Those of a room with more members than are served in one iteration are delivered in pieces.

    :param clock: schedules the next iteration.
    :ivar busy: whether something waits for the next iteration.
    :ivar finished: called when all entries are delivered, after some had to wait.
    """

    log = Logger()
    finished: Callable[[], object]

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: deque[_Job] = deque()
        self._next: IDelayedCall | None = None
        self.busy = False

    def deliver(self, room: Room[Participant], entry: Entry) -> None:
        """Deliver an entry to all live members of its room."""
        if len(room.members) > DELIVERIES_PER_ITERATION or (self._jobs and self.delivered(room) < entry.offset - 1):
            self._jobs.append(_Job(entry, list(_deliveries(room, entry))))
            self.busy = True
            if self._next is None:
                self._next = self._clock.callLater(0, self._deliver_some)
        else:
            self._deliver_now(room, entry)

    def delivered(self, room: Room[Participant]) -> int:
        """Return the offset of the last entry of a room that all of its members have."""
        waiting = (job.entry.offset for job in self._jobs if job.entry.room == room.name)
        return next(waiting, room.last + 1) - 1

    def flush(self, membership: Membership[Participant]) -> None:
        """Deliver now what waits for one member, which is about to leave its room."""
        if membership.is_live:
            for job in self._jobs:
                for other, data in job.deliveries[job.done :]:
                    if other is membership:
                        self._send(membership, data)

    def close(self) -> None:
        """Deliver the rest at once."""
        cancel(self._next)
        self._next = None
        self.busy = False
        while self._jobs:
            job = self._jobs.popleft()
            for membership, data in job.deliveries[job.done :]:
                self._send(membership, data)

    def _deliver_some(self) -> None:
        self._next = None
        left = DELIVERIES_PER_ITERATION
        while left and self._jobs:
            job = self._jobs[0]
            piece = job.deliveries[job.done : job.done + left]
            job.done += len(piece)
            left -= len(piece)
            if job.done == len(job.deliveries):
                self._jobs.popleft()
            for membership, data in piece:
                self._send(membership, data)
        if self._jobs:
            self._next = self._clock.callLater(0, self._deliver_some)
        else:
            self.busy = False
            self.finished()

    def _deliver_now(self, room: Room[Participant], entry: Entry) -> None:
        speaker = room.members.get(entry.author)
        for entry_format, audience in list(room.live.items()):
            data = entry_format.entry(entry)  # once for all of them
            if not data:
                continue
            for membership in list(audience):
                if membership is not speaker:
                    try:
                        membership.send(data)
                    except Exception:
                        self._failed()
        if speaker is not None and speaker.is_live:
            own = speaker.participant.member.entry_format.own_entry(entry)
            if own:
                self._send(speaker, own)

    def _send(self, membership: Membership[Participant], data: bytes) -> None:
        if membership.is_live:
            try:
                membership.send(data)
            except Exception:
                self._failed()

    def _failed(self) -> None:
        # The others are delivered to.
        self.log.failure("a member of the chat failed")


def _deliveries(room: Room[Participant], entry: Entry) -> Iterator[tuple[Membership[Participant], bytes]]:
    """Yield each live member of a room with what it is sent for an entry."""
    speaker = room.members.get(entry.author)
    for entry_format, audience in room.live.items():
        data = entry_format.entry(entry)
        for membership in audience:
            yours = entry_format.own_entry(entry) if membership is speaker else data
            if yours:
                yield membership, yours
