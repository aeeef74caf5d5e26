"""When members may speak: a chat delivers a bounded number of entries, and speakers take turns for them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from netsvc.chat.chat_limits import DELIVERIES_RATE
from netsvc.chat.entries import Entry
from netsvc.chat.fan_out import DELIVERIES_PER_ITERATION, FanOut
from netsvc.chat.participant import Participant
from netsvc.chat.room import Room
from netsvc.limits.fair_queue import FairQueue
from netsvc.limits.token_bucket import TokenBucket
from netsvc.net.reactors import cancel
from netsvc.net.terms import Terms


class Turns:
    """Limits the deliveries of a chat by slowing down its speakers. Nothing is dropped.

    Rooms share the deliveries equally, whatever a line costs in each, and the members of a room speak in turn.

    :param terms: the clocks.
    :param total: deliveries per second; 0 for no limit.
    """

    def __init__(self, terms: Terms, total: float = DELIVERIES_RATE) -> None:
        self._total = total
        self._clock = terms.clock
        self._monotonic = terms.monotonic
        self._budget = self._new_budget(total)
        self._waiting: FairQueue[str, tuple[Participant, Callable[[], object]]] = FairQueue(DELIVERIES_PER_ITERATION)
        self._next: IDelayedCall | None = None
        self._fan_out = FanOut(terms.clock, self._schedule)

    def take(self, room: Room[Participant]) -> bool:
        """Count the deliveries of an entry and return True; return False if its speaker has to wait for its turn."""
        if self._waiting.count or self._fan_out.busy:
            return False
        return self._budget.take(self._monotonic(), len(room.members))

    def wait(self, participant: Participant, room: Room[Participant], action: Callable[[], object]) -> None:
        """Call ``action``, by which a member says something in a room, when it is its turn.

        The member's input is paused meanwhile. ``action`` is not called if the member leaves first.
        """
        participant.begin_wait()
        self._waiting.push(room.name, (participant, action), len(room))
        self._schedule()

    def charge(self, room: Room[Participant]) -> None:
        """Count the deliveries of an entry that does not wait for its turn."""
        self._budget.take(self._monotonic(), len(room))

    def deliver(self, room: Room[Participant], entry: Entry) -> None:
        """Deliver an entry to all live members of its room."""
        self._fan_out.deliver(room, entry)

    def delivered(self, room: Room[Participant]) -> int:
        """Return the offset of the last entry of a room that all of its members have."""
        return self._fan_out.delivered(room)

    def lift_limit(self) -> None:
        """Let members speak without a limit, because the server stops. The iterations of the reactor stay short."""
        self._budget = self._new_budget(0)
        cancel(self._next)
        self._next = None
        self._schedule()

    def restore_limit(self) -> None:
        """Limit the members again."""
        self._budget = self._new_budget(self._total)

    def close(self) -> None:
        """Deliver what is left of the fan-out now, and forget who waits."""
        cancel(self._next)
        self._next = None
        self._fan_out.close()

    def _new_budget(self, rate: float) -> TokenBucket:
        return TokenBucket(rate, DELIVERIES_PER_ITERATION if rate else 0, self._monotonic())

    def _schedule(self) -> None:
        if self._waiting.count and self._next is None and not self._fan_out.busy:
            self._next = self._clock.callLater(self._budget.wait(self._monotonic()), self._take)

    def _take(self) -> None:
        self._next = None
        left = float(DELIVERIES_PER_ITERATION)
        while self._waiting.count and left > 0 and not self._fan_out.busy and not self._budget.wait(self._monotonic()):
            (participant, action), cost = self._waiting.pop()
            left -= max(1.0, cost)
            self._budget.take(self._monotonic(), cost)
            if participant.is_present:
                try:
                    action()
                finally:
                    participant.end_wait()
        self._schedule()
