"""The front end for browsers: a page, and JSON over WebSocket. The hub decides; this module delivers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import msgspec

from netsvc.chat.chat_events import Event, Refused
from netsvc.chat.entries import EntryKind, Position
from netsvc.chat.hub import ChatHub
from netsvc.chat.json_events import JSON_FORMAT, JsonFormat, message_frame
from netsvc.chat.json_messages import (
    IDENTIFIED,
    POSITIONS_MAX,
    REQUESTS,
    SUBPROTOCOL,
    TEXT_MAX,
    AwayRequest,
    BeginRequest,
    EraseRequest,
    HistoryRequest,
    JoinRequest,
    JsonRequest,
    MembersRequest,
    NickRequest,
    PartRequest,
    PingRequest,
    PongEvent,
    QuitRequest,
    ResumeRequest,
    RoomsRequest,
    SayRequest,
    SearchRequest,
    ShowTopicRequest,
    TopicRequest,
    WhisperRequest,
)
from netsvc.chat.member_protocol import SEARCH_COST, MemberFactory, MemberProtocol
from netsvc.chat.names import InvalidNameError
from netsvc.chat.pace import CHAT_BURST, CHAT_RATE
from netsvc.chat.participant import Resumption
from netsvc.chat.request_lines import MessageError
from netsvc.chat.words import search_refusal
from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.net.terms import Terms
from netsvc.web.static_site import StaticSite, files_in
from netsvc.web.web_protocol import (
    POLICY,
    REQUEST_TIMEOUT,
    WebMessage,
    WebProtocol,
    WebTerms,
    refusal_bytes,
)
from netsvc.web.websocket_messages import ping_frame
from netsvc.wire.text import clean, is_blank

#: The name of the WebSocket, beside the page.
SOCKET = "ws"

#: Characters of the longest error of msgspec that a peer is told.
ERROR_MAX = 200

#: How many requests a new session counts as, at least. With the default rates, a host may then begin as many as with
#: netcat. All members of a room are told of each one that joins, and that leaves.
SESSION_COST = 4

#: How many lines a frame counts as that completes no message. A page sends none, and a browser few.
FRAME_COST = 0.25

#: How many lines a ping counts as.
PING_COST = 0.25


class WebMember(MemberProtocol[WebMessage], WebProtocol):
    """The connection of a browser: it serves the page, or is a member of the chat."""

    factory: WebChatFactory
    entry_format: JsonFormat = JSON_FORMAT
    _upgraded_at = 0.0

    @property
    def is_in_room(self) -> bool:
        return self in self.factory.hub and bool(self.factory.hub.rooms_of(self))

    @property
    def keeps_nick(self) -> bool:
        return True

    def tell(self, event: Event) -> None:
        self.send(self.entry_format.event(event))

    def probe(self) -> None:
        self.send(ping_frame())

    # Called by the base class

    def upgraded(self) -> None:
        self._upgraded_at = self.terms.monotonic()

    def check_idle(self, now: float) -> bool:
        is_waiting = self.is_upgraded and not self.is_member and self.accepts_input
        if is_waiting and now - self._upgraded_at >= REQUEST_TIMEOUT:  # whatever else the peer has sent
            self.close(POLICY, "no session was begun in time", Cause.REQUEST_TIMEOUT)
            return True
        return super().check_idle(now)

    def frame_received(self) -> None:
        if self._is_within_rate():
            self.is_alive(FRAME_COST)

    def text_received(self, text: str) -> None:
        if not self._is_within_rate():
            return
        try:
            request = decode_message(text)
        except MessageError as e:
            self.charge()
            self._refuse(str(e), _id_of(text))
            return
        try:
            if not self.is_member:
                self._begin(request)
            elif isinstance(request, PingRequest):
                self.is_alive(PING_COST)
                self.send(message_frame(PongEvent()))
            else:
                self.charge()
                self._request(request)
        except (MessageError, InvalidNameError) as e:
            self._refuse(str(e), getattr(request, "id", ""))

    # Internal

    def _refuse(self, reason: str, message_id: str) -> None:
        self.terms.counters.refuse(Cause.INVALID_MESSAGE, self.peer)
        self.tell(Refused(Cause.INVALID_MESSAGE, reason, message_id))

    def _is_within_rate(self, cost: float = 1.0) -> bool:
        """Count what a peer sends that is no member, whose messages do not wait. Close if its host sends too much.

        :param cost: how many requests it counts as.
        """
        if self.is_member or self.count_request(cost):
            return True
        self.close(POLICY, Cause.REQUEST_RATE.sentence)
        return False

    def _begin(self, request: JsonRequest) -> None:
        hub = self.factory.hub
        match request:
            case BeginRequest():
                if self._is_within_rate(SESSION_COST - 1):
                    self.enter_chat(has_keepalive=False)
            case ResumeRequest(token, nick, positions, message_id):
                nick = hub.names.nick(nick)
                rooms = {hub.names.room(each.room): Position(each.epoch, each.offset) for each in positions}
                if self._is_within_rate(max(SESSION_COST, len(rooms)) - 1):
                    self.enter_chat(Resumption(token, nick, rooms, message_id), has_keepalive=False)
            case PingRequest():
                self.send(message_frame(PongEvent()))
            case _:
                raise MessageError("begin or resume a session first")

    def _request(self, request: JsonRequest) -> None:  # noqa: PLR0912  one branch for each request
        hub, names = self.factory.hub, self.factory.hub.names
        if not isinstance(request, NickRequest | JoinRequest | PartRequest):
            self.announce_arrival()
        match request:
            case SayRequest(room, text, action, message_id):
                kind = EntryKind.ACTION if action else EntryKind.SAID
                hub.say(self, names.room(room), _visible(text), kind, message_id)
            case WhisperRequest(nick, text, message_id):
                hub.whisper(self, names.nick(nick), _visible(text), message_id)
            case NickRequest(nick, message_id):
                self.charge(max(0, len(hub.rooms_of(self)) - 1))  # each of its rooms is told
                hub.rename(self, names.nick(nick), message_id)
            case JoinRequest(room, only, message_id):
                left = hub.rooms_of(self) if only else ()
                if not only and len(hub.rooms_of(self)) >= POSITIONS_MAX:
                    raise MessageError(f"you are in {POSITIONS_MAX} rooms; leave one first")
                hub.join(self, names.room(room), leaving=left, message_id=message_id)
            case PartRequest(room, message_id):
                hub.part(self, names.room(room), message_id=message_id)
            case TopicRequest(room, text, message_id):
                hub.set_topic(self, names.room(room), _line(text).strip(), message_id)
            case ShowTopicRequest(room):
                hub.show_topic(self, names.room(room))
            case AwayRequest(text):
                hub.set_away(self, _line(text).strip())
            case RoomsRequest():
                hub.list_rooms(self)
            case MembersRequest(room):
                hub.list_members(self, names.room(room))
            case HistoryRequest(room, count, before):
                hub.show_history(self, names.room(room), count, before)
            case SearchRequest(room, words):
                self._search(names.room(room), _visible(words))
            case EraseRequest(room, offset, message_id):
                hub.erase(self, names.room(room), offset, message_id)
            case QuitRequest():
                hub.leave(self)  # its nick is free at once
                self.finish()
            case BeginRequest() | ResumeRequest():
                raise MessageError("the session has begun already")

    def _search(self, room: str, words: str) -> None:
        refusal = search_refusal(words)
        if refusal:
            raise MessageError(refusal)
        self.charge(SEARCH_COST - 1)
        self.factory.hub.search(self, room, words)


class WebChatFactory(MemberFactory):
    """Serves the page of a chat, and adds each of its WebSockets to the chat as a member.

    :param terms: the terms of the service.
    :param hub: the chat; by default a new one. Front ends may share one.
    :param rate: lines per second of one member; see :class:`~netsvc.chat.member_protocol.MemberFactory`.
    :param burst: lines that a member may send at once after a pause.
    :param path: the path of the page, which begins and ends with ``/``. The WebSocket is ``ws`` below it.
    :param origins: the origins of the pages that may open the WebSocket, such as ``https://chat.example.org``. By
        default those with the host and port by which the server is asked.
    :param proxies: the networks of the reverse proxies that name the client in ``X-Forwarded-For``.
    """

    def __init__(
        self,
        terms: Terms,
        hub: ChatHub | None = None,
        *,
        rate: float = CHAT_RATE,
        burst: int = CHAT_BURST,
        path: str = "/",
        origins: Sequence[str] = (),
        proxies: NetworkRules | None = None,
    ) -> None:
        super().__init__(terms, hub, rate=rate, burst=burst)
        site = StaticSite(files_in(files("netsvc.chat") / "page"), path)
        self.web = WebTerms(site, SOCKET, SUBPROTOCOL, origins, proxies)

    def build_connection(self) -> WebMember:
        return WebMember()

    def counted_host(self, host: str | None) -> str | None:
        # A reverse proxy has the connections of many clients. Each is counted when a request names it.
        return None if self.web.names_client(host) else host

    def refusal_notice(self, cause: Cause) -> bytes:
        return refusal_bytes(cause)


def decode_message(text: str) -> JsonRequest:
    """Return the request in a message.

    :raises MessageError: and nothing else, whatever the text.
    """
    try:
        return REQUESTS.decode(text)
    except msgspec.MsgspecError as e:
        raise MessageError(f"the message is not valid: {str(e)[:ERROR_MAX]}") from None  # it quotes the peer
    except RecursionError:  # msgspec reads a member that is not known before it refuses it
        raise MessageError("the message is not valid: it is nested too deeply") from None


def _id_of(text: str) -> str:
    """Return the ID in a message that is not valid; empty if there is none that can be read."""
    try:
        return IDENTIFIED.decode(text).id
    except (msgspec.MsgspecError, RecursionError):
        return ""


def _line(text: str) -> str:
    """Return a text without unsafe characters.

    :raises MessageError: if it is more than a line, or too long.
    """
    if "\n" in text or "\r" in text:
        raise MessageError("a message is one line")
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TEXT_MAX:
        raise MessageError(f"too long: {size:,} of at most {TEXT_MAX:,} bytes")
    return clean(text)


def _visible(text: str) -> str:
    line = _line(text)
    if is_blank(line):
        raise MessageError("the text is empty")
    return line
