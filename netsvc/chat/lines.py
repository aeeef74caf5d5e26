"""Chat for netcat: each line is a message. The room decides; the protocol carries."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from netsvc.chat.messages import Event, MessageError, Notice, decode_request, encode_event
from netsvc.chat.room import Delivery, Room
from netsvc.limits.admission import HostCounter
from netsvc.limits.token_bucket import TokenBucket
from netsvc.net.counters import Counts
from netsvc.net.door import Door
from netsvc.net.message_protocol import MessageProtocol
from netsvc.net.stream_protocol import DEFAULT_LIMITS, Limits, StreamFactory, StreamProtocol
from netsvc.wire.framing import LineFraming

#: Lines a second, and at once, that a member may say by default: more than anybody types, and less than makes the
#: others' queues overflow.
CHAT_RATE = 5.0
CHAT_BURST = 10

#: Members of one host (an IPv4 address or IPv6 /64) who may each say that much. When there are more, each has its share
#: of what so many may say, whether the others talk or not; or one host with its 64 connections would talk for 64.
FULL_RATE_MEMBERS = 8

#: Seconds for which a member may say nothing by default, and before whose end it is asked whether it is still there.
CHAT_IDLE = 150.0
NUDGE = 30.0


class ChatProtocol(MessageProtocol):
    """One member's connection."""

    factory: ChatFactory

    _nudged = False
    _paced_since = 0.0  # since when it has said more than may be taken

    def __init__(self, bucket: TokenBucket) -> None:
        super().__init__(LineFraming())
        self._bucket = bucket

    def opened(self) -> None:
        self._paced_since = self.factory.clock.seconds()
        self._deliver(self.factory.room.enter(self))

    def pace(self) -> float:
        return self._bucket.wait(self.factory.clock.seconds())

    def look(self, now: float) -> bool:
        idle = self.factory.limits.idle_timeout
        if self._turn is None or not self.pace():
            self._paced_since = now
        elif 0 < idle <= 2 * (now - self._paced_since):
            # Who is not read from can be gone without anybody's noticing, but not when it is written to twice.
            self._paced_since = now
            self.tell(Notice(f"slow down: your lines wait their turn, {self.factory.rate:g} a second at most"))
        return super().look(now)

    def silent(self, seconds: float) -> None:
        idle = self.factory.limits.idle_timeout
        left = idle - seconds
        if left <= 0:
            self.tell(Notice("you have said nothing for too long; bye"))
            self.factory.counts.cut_off("said nothing for too long", self.peer)
            self.finish()
        elif left <= min(NUDGE, idle / 2) and not self._nudged:
            self._nudged = True
            self.tell(Notice(f"still there? say something within {left:.0f} seconds; an empty line will do"))

    def messageReceived(self, message: bytes) -> None:
        self._nudged = False
        self._pay()
        try:
            request = decode_request(message, self.factory.room.names)
        except MessageError as e:
            self.factory.counts.refuse("not a message", self.peer)
            self.tell(Notice(str(e)))
            return
        room = self.factory.room
        self._deliver(room.receive(self, request))
        if self not in room:
            self.finish()

    def refused(self, why: str) -> None:
        self._pay()
        self.tell(Notice(f"{why}; nothing was sent on"))

    def drained(self) -> None:
        if self in self.factory.room:
            self.tell(Notice("the server stops; bye"))
        self.finish()

    def finish(self) -> None:
        super().finish()
        # Gone from the room before it is gone from the network: it can neither say nor be told anything more.
        self._leave()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._leave()

    def tell(self, event: Event) -> None:
        """Owe one event to this member."""
        self.send(self.framing.encode(encode_event(event)))

    def _pay(self) -> None:
        """Take what a line costs out of the bucket."""
        self._bucket.take(self.factory.clock.seconds(), self.factory.cost(self.host))

    def _leave(self) -> None:
        left = self.factory.room.leave(self)
        if not self.factory.draining:  # when all leave, nobody needs to know who did
            self._deliver(left)

    def _deliver(self, deliveries: Iterable[Delivery[ChatProtocol]]) -> None:
        for delivery in deliveries:
            if delivery.refusal:
                self.factory.counts.refuse(delivery.refusal, self.peer)
            line = self.framing.encode(encode_event(delivery.event))  # once, for all of them
            for member in delivery.members:
                member.send(line)


class ChatFactory(StreamFactory):
    """Lets every connection into a room.

    :param room: where the members meet; factories may share one.
    :param clock: a reactor, or a ``Clock`` in a test.
    :param limits: what each connection may cost.
    :param door: who may connect; by default anybody.
    :param counts: where what happens is counted.
    :param rate: lines a second that a member may say; who says more is read more slowly. 0 for no limit.
    :param burst: lines that a member who was silent may say at once; 0 for no limit.
    :ivar rate: the same as the parameter; for each of 8 members of one host. Each of more than 8 has its
        share of what 8 may say.
    """

    def __init__(
        self,
        room: Room[ChatProtocol],
        clock: IReactorTime,
        limits: Limits = DEFAULT_LIMITS,
        door: Door | None = None,
        counts: Counts | None = None,
        *,
        rate: float = CHAT_RATE,
        burst: int = CHAT_BURST,
    ) -> None:
        super().__init__(clock, limits, door, counts)
        self.room = room
        self.rate = rate
        self._burst = burst
        self._of_host = HostCounter()

    def came(self, connection: StreamProtocol) -> None:
        super().came(connection)
        self._of_host.add(connection.host, 1)

    def gone(self, connection: StreamProtocol) -> None:
        if connection in self.connections:
            self._of_host.add(connection.host, -1)
        super().gone(connection)

    def cost(self, host: str | None) -> float:
        """Return how many tokens a line of a member from ``host`` costs: 1, unless there are many of them."""
        return max(1.0, self._of_host.of(host) / FULL_RATE_MEMBERS)

    def connection(self) -> ChatProtocol:
        # One to begin with, or who comes again and again would say more than who stays.
        return ChatProtocol(TokenBucket(self.rate, self._burst, self.clock.seconds(), 1))
