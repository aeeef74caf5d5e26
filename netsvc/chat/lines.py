"""The front end for netcat: each line is a request. The hub decides; this module delivers."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from netsvc.chat.chat_events import Event, Notice, Refused, Replaced, RoomEntered, RoomLeft
from netsvc.chat.entries import EntryKind
from netsvc.chat.hub import ChatHub
from netsvc.chat.pace import CHAT_BURST, CHAT_RATE, FULL_RATE_MEMBERS, MENTIONED_DELAY, Action, MemberPace
from netsvc.chat.people_lines import PEOPLE_LINES, PeopleLines
from netsvc.chat.program_lines import PROGRAM_LINES, ProgramLines
from netsvc.chat.request_lines import HELP, MessageError, decode_request, split_message_id
from netsvc.chat.requests import (
    Act,
    Away,
    Erase,
    Help,
    History,
    Join,
    Leave,
    ListRooms,
    Positions,
    Quit,
    Rename,
    Request,
    Resume,
    Say,
    Search,
    SetTopic,
    ShowTopic,
    Whisper,
    Who,
)
from netsvc.chat.room import LOBBY
from netsvc.limits.cause import Cause
from netsvc.limits.host_counter import HostCounter
from netsvc.limits.numbers import check_number
from netsvc.net.connection_state import SENDING
from netsvc.net.message_protocol import MessageProtocol
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms
from netsvc.wire.framing import LineFraming
from netsvc.wire.text import is_blank

#: How many lines a search counts as. It may read the whole log of a room.
SEARCH_COST = 5.0

#: Seconds between two notices to a member whose lines wait. A peer that is not read from may have disconnected
#: unnoticed. Two writes to it reveal that.
THROTTLED_INTERVAL = 45.0


class ChatProtocol(MessageProtocol):
    """The connection of one member.

    :ivar entry_format: the form of the entries for this member.
    :ivar room: its current room; empty while it is in none.
    """

    factory: ChatFactory

    entry_format: PeopleLines | ProgramLines = PEOPLE_LINES
    room = ""

    _pace: MemberPace
    _throttled_since = 0.0
    _told_of_delay = False
    _is_announced = False

    def __init__(self) -> None:
        super().__init__(LineFraming())

    def connection_ready(self) -> None:
        now = self._throttled_since = self.terms.monotonic()
        factory = self.factory
        # The kernel notices by TCP keepalive, or on a UNIX socket at once, that the peer is gone.
        self._pace = MemberPace(factory.rate, factory.burst, self.terms.limits.idle_timeout, now, has_keepalive=True)
        factory.hub.enter(self)

    # Called by the hub

    def tell(self, event: Event) -> None:
        """Send one event to this member."""
        if isinstance(event, RoomEntered):
            self.room = event.room
        elif isinstance(event, RoomLeft) and event.room == self.room:
            self.room = ""
        lines = self.entry_format.event(event)
        if lines:
            self.send(lines)

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
        return self._pace.wait(self.terms.monotonic())

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
        if self.state in SENDING and not self.factory.draining:
            self._announce_arrival()
        if not (self.has_unprocessed_input and self.pace()):
            self._throttled_since = now
        elif now - self._throttled_since >= THROTTLED_INTERVAL:
            self._throttled_since = now
            rate = f"{self.factory.rate:g} lines per second"
            self.tell(Notice(f"slow down: at most {rate} are accepted; your other lines wait"))
        return super().check_idle(now)

    def idle(self, seconds: float) -> None:
        now = self.terms.monotonic()
        match self._pace.check(now):
            case Action.WARN:
                left = self._pace.seconds_left(now)
                self.tell(Notice(f"still there? send a line within {left:.0f} seconds; an empty line is enough"))
            case Action.CLOSE | Action.GIVE_UP:
                self.tell(Notice("you said nothing for too long; bye"))
                self.finish(Cause.IDLE_TIMEOUT)

    def message_received(self, message: bytes) -> None:
        self._charge_line()
        message_id = ""
        try:
            if self.entry_format is PROGRAM_LINES:
                message_id, message = split_message_id(message)
            request = decode_request(message, self.factory.hub.names)
        except MessageError as e:
            if message.startswith(b"/resume "):
                self.entry_format = PROGRAM_LINES  # a program is to read the refusal
            self.terms.counters.refuse(Cause.INVALID_MESSAGE, self.peer)
            self.tell(Refused(Cause.INVALID_MESSAGE, str(e), message_id))
            return
        self._request(request, message_id)

    def unfinished_message_received(self, message: bytes) -> None:
        # A person may end its input without a line end. A program sends a line again that it does not see acknowledged.
        if self.entry_format is not PROGRAM_LINES:
            super().unfinished_message_received(message)

    def message_refused(self, reason: str) -> None:
        self._charge_line()
        self.tell(Refused(Cause.LINE_TOO_LONG, f"{reason}; the line was not sent"))

    def resume_processing(self) -> None:
        super().resume_processing()
        self.factory.hub.output_drained(self)

    def displaced(self) -> None:
        self.tell(Notice(Cause.DISPLACED.sentence))

    def end_drain(self) -> None:
        if self in self.factory.hub:
            self.tell(Notice("the server stops; bye"))
        self.finish()

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

    def _announce_arrival(self) -> None:
        # The hub announces a member once. The flag saves asking it for each line.
        if not self._is_announced and self.room:
            self._is_announced = True
            self.factory.hub.announce_arrival(self)

    def _charge_line(self, cost: float = 1.0) -> None:
        self._pace.spoke(self.terms.monotonic(), cost * self.factory.cost(self.host))

    def _leave(self) -> None:
        is_program = self.entry_format is PROGRAM_LINES
        is_end = self.factory.draining and not self.factory.hub.is_shared  # all leave, and there is nobody to be told
        self.factory.hub.leave(self, quietly=is_end, keep_nick=is_program)

    def _say(self, text: str, message_id: str) -> None:
        self._announce_arrival()
        if not is_blank(text):
            self.factory.hub.say(self, self.room, text, message_id=message_id)
        elif message_id:
            self.tell(Refused(Cause.INVALID_MESSAGE, "the text is empty", message_id))

    def _request(self, request: Request, message_id: str) -> None:  # noqa: PLR0912  one branch for each request
        hub = self.factory.hub
        if isinstance(request, Say):  # first, because it is the usual one
            self._say(request.text, message_id)
            return
        if not isinstance(request, Rename | Join | Positions | Resume):
            self._announce_arrival()
        match request:
            case Act(text):
                hub.say(self, self.room, text, EntryKind.ACTION, message_id)
            case Whisper(nick, text):
                hub.whisper(self, nick, text, message_id)
            case Rename(nick):
                hub.rename(self, nick, message_id)
            case Join(room):
                hub.join(self, room, leaving=self.room, message_id=message_id)
            case Leave():
                hub.join(self, LOBBY, leaving=self.room, message_id=message_id)
            case ListRooms():
                hub.list_rooms(self)
            case Who():
                hub.list_members(self, self.room)
            case ShowTopic():
                hub.show_topic(self, self.room)
            case SetTopic(text):
                hub.set_topic(self, self.room, text, message_id)
            case Away(text):
                hub.set_away(self, text)
            case History(count):
                hub.show_history(self, self.room, count)
            case Search(words):
                self._charge_line(SEARCH_COST - 1)
                hub.search(self, self.room, words)
            case Erase(offset):
                hub.erase(self, self.room, offset, message_id)
            case Positions(on):
                self.entry_format = PROGRAM_LINES if on else PEOPLE_LINES
                if on:
                    hub.begin_session(self)
                else:
                    hub.change_format(self)
            case Resume(token, nick, room, position):
                self.entry_format = PROGRAM_LINES
                hub.resume(self, token, nick, {room: position}, message_id)
            case Help():
                self.tell(Notice(HELP))
            case Quit():
                self.tell(Notice("bye"))
                hub.leave(self)  # its nick is free at once
                self.finish()


class ChatFactory(StreamFactory):
    """Adds every connection to a chat as a member.

    :param terms: the terms of the service.
    :param hub: the chat; by default a new one. Factories may share one.
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
        self._members_of_host = HostCounter()

    def connection_opened(self, connection: StreamProtocol) -> None:
        self.hub.open(self)  # for an application that listens with this factory itself
        super().connection_opened(connection)
        self._members_of_host.add(connection.host, 1)

    def connection_closed(self, connection: StreamProtocol) -> None:
        if connection in self.connections:
            self._members_of_host.add(connection.host, -1)
        super().connection_closed(connection)

    def cost(self, host: str | None) -> float:
        """Return how many lines a line of a member from ``host`` counts as: 1, or more if the host has many members."""
        return max(1.0, self._members_of_host.count(host) / FULL_RATE_MEMBERS)

    def build_connection(self) -> ChatProtocol:
        return ChatProtocol()

    def prepare(self) -> None:
        self.hub.open(self)

    def drain(self, timeout: float) -> Deferred[None]:
        """Finish all connections, then close the store of the chat."""
        self.hub.begin_drain()
        return super().drain(timeout).addCallback(lambda _: self.hub.close(self))
