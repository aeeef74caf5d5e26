"""The front end for netcat: each line is a request. The hub decides; this module delivers."""

from __future__ import annotations

from netsvc.chat.chat_events import Event, Notice, Refused, RoomEntered, RoomLeft
from netsvc.chat.entries import EntryKind
from netsvc.chat.member_protocol import SEARCH_COST, MemberFactory, MemberProtocol
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
from netsvc.wire.framing import LineFraming
from netsvc.wire.text import is_blank


class ChatProtocol(MemberProtocol[bytes]):
    """The connection of one member.

    :ivar entry_format: the form of the entries for this member.
    :ivar room: its current room; empty while it is in none.
    """

    entry_format: PeopleLines | ProgramLines = PEOPLE_LINES
    room = ""

    def __init__(self) -> None:
        super().__init__(LineFraming())

    @property
    def is_in_room(self) -> bool:
        return bool(self.room)

    @property
    def keeps_nick(self) -> bool:
        return self.entry_format is PROGRAM_LINES

    def connection_ready(self) -> None:
        # The kernel notices by TCP keepalive, or on a UNIX socket at once, that the peer is gone.
        self.enter_chat()

    def tell(self, event: Event) -> None:
        if isinstance(event, RoomEntered):
            self.room = event.room
        elif isinstance(event, RoomLeft) and event.room == self.room:
            self.room = ""
        lines = self.entry_format.event(event)
        if lines:
            self.send(lines)

    def message_received(self, message: bytes) -> None:
        self.charge()
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
        self.charge()
        self.tell(Refused(Cause.LINE_TOO_LONG, f"{reason}; the line was not sent"))

    # Internal

    def _say(self, text: str, message_id: str) -> None:
        self.announce_arrival()
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
            self.announce_arrival()
        match request:
            case Act(text):
                hub.say(self, self.room, text, EntryKind.ACTION, message_id)
            case Whisper(nick, text):
                hub.whisper(self, nick, text, message_id)
            case Rename(nick):
                hub.rename(self, nick, message_id)
            case Join(room):
                hub.join(self, room, leaving=[self.room], message_id=message_id)
            case Leave():
                hub.join(self, LOBBY, leaving=[self.room], message_id=message_id)
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
                self.charge(SEARCH_COST - 1)
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


class ChatFactory(MemberFactory):
    """Adds every connection to a chat as a member. See :class:`~netsvc.chat.member_protocol.MemberFactory`."""

    def build_connection(self) -> ChatProtocol:
        return ChatProtocol()
