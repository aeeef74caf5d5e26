"""The front end for netcat: each line is a message. The room decides; this module delivers."""

from __future__ import annotations

from collections.abc import Iterable

from netsvc.chat.messages import Event, MessageError, Notice, decode_request, encode_event
from netsvc.chat.pace import CHAT_BURST, CHAT_RATE, FULL_RATE_MEMBERS, MENTIONED_DELAY, WARNING_TIME
from netsvc.chat.room import Delivery, Room
from netsvc.limits.cause import Cause
from netsvc.limits.host_counter import HostCounter
from netsvc.limits.numbers import check_number
from netsvc.limits.token_bucket import TokenBucket
from netsvc.net.message_protocol import MessageProtocol
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms
from netsvc.wire.framing import LineFraming


class ChatProtocol(MessageProtocol):
    """The connection of one member.

    :param bucket: limits the lines of this member.
    """

    factory: ChatFactory

    _warned = False
    _throttled_since = 0.0
    _told_of_delay = False

    def __init__(self, bucket: TokenBucket) -> None:
        super().__init__(LineFraming())
        self._bucket = bucket

    def connection_ready(self) -> None:
        self._throttled_since = self.terms.monotonic()
        self._deliver(self.factory.room.enter(self))

    def pace(self) -> float:
        return self._bucket.wait(self.terms.monotonic())

    def delayed(self) -> None:
        lines = self.framing.waiting()
        self._told_of_delay = self._told_of_delay and lines > 0
        if self._told_of_delay:
            return
        seconds = lines * self.factory.cost(self.host) / self.factory.rate
        if seconds >= MENTIONED_DELAY:
            self._told_of_delay = True
            self.tell(
                Notice(f"{lines} {'line waits' if lines == 1 else 'lines wait'}; the last is sent in {seconds:.0f} s")
            )

    def check_idle(self, now: float) -> bool:
        limit = self.terms.limits.idle_timeout
        if not (self.has_unprocessed_input and self.pace()):
            self._throttled_since = now
        elif 0 < limit <= 2 * (now - self._throttled_since):
            # A peer that is not read from may have disconnected unnoticed. Two writes to it reveal that.
            self._throttled_since = now
            rate = f"{self.factory.rate:g} lines per second"
            self.tell(Notice(f"slow down: at most {rate} are accepted; your other lines wait"))
        return super().check_idle(now)

    def idle(self, seconds: float) -> None:
        limit = self.terms.limits.idle_timeout
        left = limit - seconds
        if left <= 0:
            self.tell(Notice("you said nothing for too long; bye"))
            self.finish(Cause.IDLE_TIMEOUT)
        elif left <= min(WARNING_TIME, limit / 2) and not self._warned:
            self._warned = True
            self.tell(Notice(f"still there? send a line within {left:.0f} seconds; an empty line is enough"))

    def message_received(self, message: bytes) -> None:
        self._warned = False
        self._charge_line()
        try:
            request = decode_request(message, self.factory.room.names)
        except MessageError as e:
            self.terms.counters.refuse(Cause.INVALID_MESSAGE, self.peer)
            self.tell(Notice(str(e)))
            return
        room = self.factory.room
        self._deliver(room.receive(self, request))
        if self not in room:
            self.finish()

    def message_refused(self, reason: str) -> None:
        self._charge_line()
        self.tell(Notice(f"{reason}; the line was not sent"))

    def displaced(self) -> None:
        self.tell(Notice(Cause.DISPLACED.sentence))

    def end_drain(self) -> None:
        if self in self.factory.room:
            self.tell(Notice("the server stops; bye"))
        self.finish()

    def finish(self, cause: Cause | None = None) -> None:
        super().finish(cause)
        # The member leaves the room before the connection is closed: it can neither say nor be told anything more.
        self._leave()

    def closed(self) -> None:
        super().closed()
        self._leave()

    def tell(self, event: Event) -> None:
        """Send one event to this member."""
        self.send(self.framing.encode(encode_event(event)))

    def _charge_line(self) -> None:
        """Take the cost of a line out of the bucket."""
        self._bucket.take(self.terms.monotonic(), self.factory.cost(self.host))

    def _leave(self) -> None:
        left = self.factory.room.leave(self)
        if not self.factory.draining:  # when all members leave, none needs to be told
            self._deliver(left)

    def _deliver(self, deliveries: Iterable[Delivery[ChatProtocol]]) -> None:
        for delivery in deliveries:
            if delivery.cause is not None:
                self.terms.counters.refuse(delivery.cause, self.peer)
            line = self.framing.encode(encode_event(delivery.event))  # once for all of them
            for member in delivery.members:
                member.send(line)


class ChatFactory(StreamFactory):
    """Adds every connection to a chat as a member.

    :param terms: the terms of the service.
    :param room: the chat; by default a new one. Factories may share one.
    :param rate: lines per second of one member; 0 for no limit. Lines above it are processed later, and none is lost.
        At most 8 members of one host have this rate; more of them share it.
    :param burst: lines that a member may send at once after a pause; 0 for no limit.
    :raises ConfigError: for a number that is negative or not finite.
    """

    def __init__(
        self,
        terms: Terms,
        room: Room[ChatProtocol] | None = None,
        *,
        rate: float = CHAT_RATE,
        burst: int = CHAT_BURST,
    ) -> None:
        super().__init__(terms)
        self.room: Room[ChatProtocol] = Room() if room is None else room
        check_number("chat_rate", rate, whole=False)
        check_number("chat_burst", burst, whole=True)
        self.rate = rate
        self._burst = burst
        self._members_of_host = HostCounter()

    def connection_opened(self, connection: StreamProtocol) -> None:
        super().connection_opened(connection)
        self._members_of_host.add(connection.host, 1)

    def connection_closed(self, connection: StreamProtocol) -> None:
        if connection in self.connections:
            self._members_of_host.add(connection.host, -1)
        super().connection_closed(connection)

    def cost(self, host: str | None) -> float:
        """Return the tokens that a line of a member from ``host`` costs: 1, or more if the host has many members."""
        return max(1.0, self._members_of_host.count(host) / FULL_RATE_MEMBERS)

    def build_connection(self) -> ChatProtocol:
        # It starts with one token. Otherwise a peer that reconnects again and again could say more than one that stays.
        return ChatProtocol(TokenBucket(self.rate, self._burst, self.terms.monotonic(), 1))
