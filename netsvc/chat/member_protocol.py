"""The connection of one member, whatever its front end: its pace, its idle time, its arrival and its leaving."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.defer import Deferred

from netsvc.chat.chat_events import Event, Notice, Replaced
from netsvc.chat.hub import ChatHub
from netsvc.chat.pace import CHAT_BURST, CHAT_RATE, FULL_RATE_MEMBERS, MENTIONED_DELAY, Action, MemberPace
from netsvc.chat.participant import EntryFormat, Resumption
from netsvc.limits.cause import Cause
from netsvc.limits.numbers import check_number
from netsvc.net.connection_state import SENDING
from netsvc.net.message_protocol import MessageProtocol
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms

M = TypeVar("M")

#: How many lines a search counts as. It may read the whole log of a room.
SEARCH_COST = 5.0

#: Seconds between two notices to a member whose lines wait. A peer that is not read from may have disconnected
#: unnoticed. Two writes to it reveal that.
THROTTLED_INTERVAL = 45.0


class MemberProtocol(MessageProtocol[M]):
    """The connection of one member. Before :meth:`enter_chat` it is none.

    A subclass overrides :meth:`tell`, :attr:`is_in_room` and :attr:`keeps_nick`, and where it needs it :meth:`probe`.
    It calls :meth:`charge` for each message.

    :ivar entry_format: the form of the entries for this member.
    """

    factory: MemberFactory
    entry_format: EntryFormat

    _pace: MemberPace | None = None
    _throttled_since = 0.0
    _told_of_delay = False
    _is_announced = False

    # Overridden by a subclass

    @property
    def is_in_room(self) -> bool:
        """Whether the member was told that it is in a room."""
        raise NotImplementedError

    @property
    def keeps_nick(self) -> bool:
        """Whether the nick is kept for some time after the connection is lost, because the member can resume."""
        raise NotImplementedError

    def tell(self, event: Event) -> None:
        """Send one event to this member. The hub calls this."""
        raise NotImplementedError

    def probe(self) -> None:
        """Ask the peer for a sign of life."""

    # Called by a subclass

    @property
    def is_member(self) -> bool:
        """Whether it has entered the chat."""
        return self._pace is not None

    def enter_chat(self, resumption: Resumption | None = None, *, has_keepalive: bool = True) -> None:
        """Become a member.

        :param resumption: the earlier session that it continues. Without one, it is in the lobby at first.
        :param has_keepalive: whether the transport notices that the peer is gone. If not, the peer is probed.
        """
        now = self._throttled_since = self.terms.monotonic()
        factory = self.factory
        self._pace = MemberPace(
            factory.rate, factory.burst, self.terms.limits.idle_timeout, now, has_keepalive=has_keepalive
        )
        factory.hub.enter(self, resumption)

    def charge(self, cost: float = 1.0) -> None:
        """Count a message of the member.

        :param cost: how many lines it counts as.
        """
        if self._pace is not None:
            self._pace.spoke(self.terms.monotonic(), cost * self.factory.cost(self.host))

    def is_alive(self, cost: float) -> None:
        """The member gave a sign of life, and said nothing.

        :param cost: how many lines that counts as.
        """
        if self._pace is not None:
            self._pace.is_alive(self.terms.monotonic(), cost * self.factory.cost(self.host))

    def announce_arrival(self) -> None:
        """Tell the rooms that the member has arrived, unless they were told."""
        # The hub announces a member once. The flag saves asking it for each line.
        if not self._is_announced and self.is_in_room:
            self._is_announced = True
            self.factory.hub.announce_arrival(self)

    # Called by the hub

    def pause_input(self) -> None:
        self.pause_messages()

    def resume_input(self) -> None:
        self.resume_messages()

    def replaced(self) -> None:
        self.count_dropped()
        self.tell(Replaced())
        self.finish()

    # Called by the base class

    def pace(self) -> float:
        return 0.0 if self._pace is None else self._pace.wait(self.terms.monotonic())

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
        if self._pace is None:
            return super().check_idle(now)
        if self.state in SENDING and not self.factory.draining:
            self.announce_arrival()
        if not (self.has_unprocessed_input and self.pace()):
            self._throttled_since = now
        elif now - self._throttled_since >= THROTTLED_INTERVAL:
            self._throttled_since = now
            rate = f"{self.factory.rate:g} lines per second"
            self.tell(Notice(f"slow down: at most {rate} are accepted; your other lines wait"))
        return super().check_idle(now)

    def idle(self, seconds: float) -> None:
        if self._pace is None:
            super().idle(seconds)
            return
        now = self.terms.monotonic()
        match self._pace.check(now):
            case Action.WARN:
                left = self._pace.seconds_left(now)
                self.tell(Notice(f"still there? send a line within {left:.0f} seconds; an empty line is enough"))
            case Action.CLOSE:
                self.tell(Notice("you said nothing for too long; bye"))
                self.finish(Cause.IDLE_TIMEOUT)
            case Action.PROBE:
                self.probe()
            case Action.GIVE_UP:
                self.disconnect(Cause.PING_TIMEOUT)

    def resume_processing(self) -> None:
        super().resume_processing()
        self.factory.hub.output_drained(self)

    def displaced(self) -> None:
        if self.is_member:
            self.tell(Notice(Cause.DISPLACED.sentence))
        else:
            super().displaced()

    def end_drain(self) -> None:
        if self in self.factory.hub:
            self.tell(Notice("the server stops; bye"))
        super().end_drain()

    def finish(self, cause: Cause | None = None) -> None:
        # The member leaves the chat before the connection is closed: it can neither say nor be told anything more.
        self._leave()
        super().finish(cause)

    def lost(self) -> None:
        self.factory.hub.output_drained(self)  # it reads nothing more
        super().lost()

    def closed(self) -> None:
        super().closed()
        self._leave()

    # Internal

    def _leave(self) -> None:
        is_end = self.factory.draining and not self.factory.hub.is_shared  # all leave, and there is nobody to be told
        self.factory.hub.leave(self, quietly=is_end, keep_nick=self.keeps_nick)


class MemberFactory(StreamFactory):
    """A front end of a chat: its connections become members.

    :param terms: the terms of the service.
    :param hub: the chat; by default a new one. Front ends may share one.
    :param rate: lines per second of one member; 0 for no limit. Lines above it are processed later, and none is lost.
        At most 8 members of one host have this rate; more of them share it.
    :param burst: lines that a member may send at once after a pause; 0 for no limit.
    :raises ConfigError: for a number that is negative or not finite.
    """

    def __init__(
        self,
        terms: Terms,
        hub: ChatHub | None = None,
        *,
        rate: float = CHAT_RATE,
        burst: int = CHAT_BURST,
    ) -> None:
        super().__init__(terms)
        self.hub = ChatHub(terms) if hub is None else hub
        check_number("chat_rate", rate, whole=False)
        check_number("chat_burst", burst, whole=True)
        self.rate = rate
        self.burst = burst

    def connection_opened(self, connection: StreamProtocol) -> None:
        self.hub.open(self)  # for an application that listens with this factory itself
        super().connection_opened(connection)

    def cost(self, host: str | None) -> float:
        """Return how many lines a line of a member from ``host`` counts as: 1, or more if the host has many members."""
        return max(1.0, self.hub.members_of_host(host) / FULL_RATE_MEMBERS)

    def prepare(self) -> None:
        self.hub.open(self)

    def drain(self, timeout: float) -> Deferred[None]:
        """Finish all connections, then close the store of the chat."""
        self.hub.begin_drain()
        return super().drain(timeout).addCallback(lambda _: self.hub.close(self))
