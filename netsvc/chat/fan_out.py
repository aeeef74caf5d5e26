"""Delivers the entries of rooms to their members, a bounded number in each reactor iteration."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from twisted.internet.interfaces import IDelayedCall

from netsvc.chat.entries import Entry
from netsvc.chat.participant import Participant
from netsvc.chat.room import Membership, Room
from netsvc.net.reactors import Clock, cancel

#: Deliveries in one reactor iteration. On the slowest reactor one takes about 12 us.
DELIVERIES_PER_ITERATION = 500


class FanOut:
    """Delivers entries. Those of a room with more members than are served in one iteration are delivered in pieces.

    :param clock: schedules the next iteration.
    :param finished: called when all entries are delivered, after some had to wait.
    :ivar busy: whether something waits for the next iteration.
    """

    def __init__(self, clock: Clock, finished: Callable[[], None]) -> None:
        self._clock = clock
        self._finished = finished
        self._jobs: deque[tuple[Entry, Iterator[tuple[Membership[Participant], bytes]]]] = deque()
        self._next: IDelayedCall | None = None
        self.busy = False

    def deliver(self, room: Room[Participant], entry: Entry) -> None:
        """Deliver an entry to all live members of its room."""
        if len(room.members) > DELIVERIES_PER_ITERATION or (self._jobs and self.delivered(room) < entry.offset - 1):
            self._jobs.append((entry, iter(list(_deliveries(room, entry)))))
            self.busy = True
            if self._next is None:
                self._next = self._clock.callLater(0, self._deliver_some)
        else:
            _deliver_now(room, entry)

    def delivered(self, room: Room[Participant]) -> int:
        """Return the offset of the last entry of a room that all of its members have."""
        waiting = (entry.offset for entry, _ in self._jobs if entry.room == room.name)
        return next(waiting, room.last + 1) - 1

    def close(self) -> None:
        """Deliver the rest at once."""
        cancel(self._next)
        self._next = None
        self.busy = False
        while self._jobs:
            for membership, data in self._jobs.popleft()[1]:
                if membership.is_live:
                    membership.send(data)

    def _deliver_some(self) -> None:
        self._next = None
        left = DELIVERIES_PER_ITERATION
        while left and self._jobs:
            delivered = 0
            for membership, data in islice(self._jobs[0][1], left):
                delivered += 1
                if membership.is_live:
                    membership.send(data)
            if delivered < left:
                self._jobs.popleft()
            left -= delivered
        if self._jobs:
            self._next = self._clock.callLater(0, self._deliver_some)
        else:
            self.busy = False
            self._finished()


def _deliver_now(room: Room[Participant], entry: Entry) -> None:
    speaker = room.members.get(entry.author)
    for entry_format, audience in room.live.items():
        data = entry_format.entry(entry)  # once for all of them
        if data:
            for membership in list(audience):
                if membership is not speaker:
                    membership.send(data)
    if speaker is not None and speaker.is_live:
        own = speaker.participant.member.entry_format.own_entry(entry)
        if own:
            speaker.send(own)


def _deliveries(room: Room[Participant], entry: Entry) -> Iterator[tuple[Membership[Participant], bytes]]:
    """Yield each live member of a room with what it is sent for an entry."""
    speaker = room.members.get(entry.author)
    for entry_format, audience in room.live.items():
        data = entry_format.entry(entry)
        for membership in audience:
            yours = entry_format.own_entry(entry) if membership is speaker else data
            if yours:
                yield membership, yours
