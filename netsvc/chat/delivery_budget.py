"""How much a chat may deliver: speakers, and members that catch up, wait in a fair queue if it is too much."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from netsvc.chat.chat_limits import DELIVERIES_RATE
from netsvc.chat.fan_out import DELIVERIES_PER_ITERATION, FanOut
from netsvc.chat.participant import Participant
from netsvc.limits.fair_queue import FairQueue
from netsvc.limits.token_bucket import TokenBucket
from netsvc.net.reactors import cancel
from netsvc.net.terms import Terms


class DeliveryBudget:
    """Limits the deliveries of a chat by slowing down its members. It drops nothing.

    Groups share the deliveries equally, whatever an item costs in each. A room is a group, and its members speak one
    after another. A host is a group for what its members catch up with.

    :param terms: the clocks.
    :param fan_out: makes the deliveries. It must be idle for the next item.
    :param total: deliveries per second; 0 for no limit.
    """

    def __init__(self, terms: Terms, fan_out: FanOut, total: float = DELIVERIES_RATE) -> None:
        self._total = total
        self._clock = terms.clock
        self._monotonic = terms.monotonic
        self._fan_out = fan_out
        self._bucket = self._new_bucket(total)
        self._waiting: FairQueue[str, tuple[Participant, Callable[[], object]]] = FairQueue(DELIVERIES_PER_ITERATION)
        self._next: IDelayedCall | None = None
        fan_out.finished = self._schedule

    def take(self, cost: int) -> bool:
        """Take ``cost`` deliveries and return True; return False if the member has to :meth:`wait`."""
        if self._waiting.count or self._fan_out.busy:
            return False
        return self._bucket.take(self._monotonic(), cost)

    def wait(self, participant: Participant, group: str, cost: int, action: Callable[[], object]) -> None:
        """Call ``action`` when it may be. The member's input is paused until then.

        ``action`` is called also if the member has left meanwhile.
        """
        participant.begin_wait()
        self._waiting.push(group, (participant, action), cost)
        self._schedule()

    async def granted(self, participant: Participant, group: str, cost: int) -> None:
        """Wait until ``cost`` deliveries may be made."""
        if not self.take(cost):
            done: Deferred[None] = Deferred()
            self.wait(participant, group, cost, lambda: done.callback(None))
            await done

    def spend(self, cost: int) -> None:
        """Count deliveries that do not wait, such as those of a member that joins."""
        self._bucket.spend(self._monotonic(), cost)

    def lift_limit(self) -> None:
        """Limit nothing, because the server stops. The iterations of the reactor stay short."""
        self._bucket = self._new_bucket(0)
        cancel(self._next)
        self._next = None
        self._schedule()

    def restore_limit(self) -> None:
        """Limit the deliveries again."""
        self._bucket = self._new_bucket(self._total)

    def close(self) -> None:
        """Cancel the timer. No member may wait."""
        cancel(self._next)
        self._next = None

    def _new_bucket(self, rate: float) -> TokenBucket:
        return TokenBucket(rate, DELIVERIES_PER_ITERATION if rate else 0, self._monotonic())

    def _schedule(self) -> None:
        if self._waiting.count and self._next is None and not self._fan_out.busy:
            self._next = self._clock.callLater(self._bucket.wait(self._monotonic()), self._grant)

    def _grant(self) -> None:
        self._next = None
        left = float(DELIVERIES_PER_ITERATION)
        try:
            while self._waiting.count and left > 0 and not self._fan_out.busy:
                if self._bucket.wait(self._monotonic()):
                    break
                (participant, action), cost = self._waiting.pop()
                left -= max(1.0, cost)
                self._bucket.spend(self._monotonic(), cost)
                try:
                    action()
                finally:
                    participant.end_wait()
        finally:
            self._schedule()
