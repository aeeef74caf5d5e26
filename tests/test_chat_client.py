"""The chat's clients for programs, against the server on the simulated network and against a hostile server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from netsvc.chat.chat_connection import ChatConnection
from netsvc.chat.chat_events import (
    Entries,
    Event,
    MemberList,
    NickSet,
    Notice,
    Refused,
    Replaced,
    Resumed,
    RoomEntered,
    Verdict,
    Whispered,
)
from netsvc.chat.client import PENDING_MAX, ChatClient, ClientEvent, Disconnected, NotSaidError
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.hub import ChatHub
from netsvc.chat.lines import ChatFactory
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.names import ASCII_NAMES
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Join, Leave, Rename, Request, Say, Whisper, Who
from netsvc.chat.room import Mode
from netsvc.chat.store import LogState, StoreError
from netsvc.chat.unicode_names import UnicodeNames
from netsvc.chat.web_member import WebChatFactory
from netsvc.chat.web_socket_client import WebSocketChatClient
from netsvc.limits.cause import Cause
from netsvc.server.assembly import StreamService
from netsvc.testing import Host, Network
from tests.connections import attach, lose, taken, terms

E = TypeVar("E")

#: The front ends. Each has a client of its own.
FACTORIES = {"lines": ChatFactory, "web": WebChatFactory}


class UnreliableStore(MemoryStore):
    """A store that cannot be read while the test says so."""

    fails = False
    opens = True

    def subscribe(self, room: str) -> Deferred[LogState]:
        return super().subscribe(room) if self.opens else fail(StoreError("the disk cannot be read"))

    def read(self, room: str, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        return fail(StoreError("the disk cannot be read")) if self.fails else super().read(room, after, limit)


class Chat:
    """A chat server on a simulated network.

    :param front_end: ``lines`` or ``web``.
    """

    def __init__(self, network: Network, front_end: str = "lines") -> None:
        self.network = network
        self._front_end = front_end
        self.host = network.host("server", "10.0.0.1")
        self.store = UnreliableStore(self.host.reactor.seconds, entries_max=50)
        self.said: list[tuple[str, str]] = []
        self.start()

    def start(self, **options: Any) -> None:
        chat_terms = terms(self.host.reactor)
        self.hub = ChatHub(chat_terms, self.store, **options)
        self.hub.listen(self._appended)
        self.factory = FACTORIES[self._front_end](chat_terms, self.hub, rate=0)
        self.service = StreamService(self.host.reactor, ["10.0.0.1:1400"], self.factory)
        self.service.startService()

    def client(
        self, endpoint: IStreamClientEndpoint, received: Callable[[ClientEvent], object], host: Host, **options: Any
    ) -> ChatClient:
        """Return a client of the front end."""
        if self._front_end == "web":
            return WebSocketChatClient(endpoint, "ws://chat.example.org/ws", received, host.reactor, **options)
        return ChatClient(endpoint, received, host.reactor, **options)

    def _appended(self, entry: Entry) -> None:
        if entry.kind is EntryKind.SAID:
            self.said.append((entry.room, entry.text))

    def restart(self, **options: Any) -> None:
        """Crash, and start again with the same store."""
        self.host.crash()
        self.host.restart()
        self.start(**options)

    def close_room(self, name: str, *, is_open: bool = False) -> None:
        """Let only invited members into a room that has members, or everybody."""
        room = self.hub.room(name)
        assert room is not None
        room.modes.discard(Mode.INVITE_ONLY) if is_open else room.modes.add(Mode.INVITE_ONLY)


class Recorder:
    """A client and what it received."""

    def __init__(
        self, chat: Chat, nick: str, room: str = "#dev", host: str | Host = "", server: str = "10.0.0.1"
    ) -> None:
        self.events: list[ClientEvent] = []
        self.host = host if isinstance(host, Host) else chat.network.host(host or nick)
        reactor = self.host.reactor
        endpoint = TCP4ClientEndpoint(reactor, server, 1400)
        self.client = chat.client(
            endpoint, self.events.append, self.host, nick=nick, room=room, retry_policy=lambda _: 1.0
        )
        self.client.start()
        chat.network.advance(1)

    def abort(self) -> None:
        """Abort the connection of the client."""
        assert self.client.connection is not None
        self.host.run(self.client.connection.transport.abortConnection)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def texts(self) -> list[str]:
        """Return what was said, as it was received."""
        return [each.entry.text for each in self.of(ReceivedEntry) if each.entry.kind is EntryKind.SAID]

    def offsets(self) -> list[int]:
        """Return the offsets of the entries of the room ``#dev``."""
        return [each.entry.offset for each in self.of(ReceivedEntry) if each.entry.room == "#dev"]


@pytest.fixture(params=FACTORIES)
def chat(network: Network, request: pytest.FixtureRequest) -> Chat:
    return Chat(network, request.param)


def outcome(said: Deferred[Position]) -> list[object]:
    """Return a list that will have the outcome."""
    outcomes: list[object] = []
    said.addCallbacks(outcomes.append, lambda failure: outcomes.append(failure.value))
    return outcomes


def test_a_client_takes_its_nick_and_its_room_without_a_word_in_the_lobby(network: Network, chat: Chat) -> None:
    lurker = Recorder(chat, "lurker", "#lobby")
    ann = Recorder(chat, "ann")
    assert (ann.client.nick, ann.client.room) == ("ann", "#dev")
    assert [each.entry.nick for each in lurker.of(ReceivedEntry)] == ["lurker"]
    assert chat.hub.members("#dev") == ["ann"]


def test_what_a_client_says_is_acknowledged_with_its_position(network: Network, chat: Chat) -> None:
    ann, bob = Recorder(chat, "ann"), Recorder(chat, "bob")
    said = outcome(ann.client.say("hello"))
    acted = outcome(ann.client.act("waves"))
    network.advance(1)
    assert ann.client.position is not None
    epoch = ann.client.position.epoch
    assert (said, acted) == ([Position(epoch, 3)], [Position(epoch, 4)])
    assert bob.texts() == ["hello"]
    assert bob.offsets() == [2, 3, 4]
    assert ann.offsets() == [1, 2, 3, 4]


def test_events_are_values(network: Network, chat: Chat) -> None:
    ann, bob = Recorder(chat, "ann"), Recorder(chat, "bob")
    bob.client.request(Whisper("ann", "psst"))
    bob.client.request(Who())
    bob.client.request(Whisper("eve", "psst"))
    network.advance(1)
    assert ann.of(Whispered) == [Whispered("bob", "ann", "psst")]
    assert bob.of(MemberList) == [MemberList("#dev", 2, ("ann", "bob"))]
    assert bob.of(Refused) == [Refused(Cause.NO_SUCH_NICK, "there is no member eve")]
    bob.client.request(Join("#ops"))
    network.advance(1)
    assert bob.client.room == "#ops"
    last = ann.of(ReceivedEntry)[-1].entry
    assert (last.kind, last.nick, last.text) == (EntryKind.LEFT, "bob", "moved to #ops")


def test_a_refused_nick_leaves_the_client_with_the_one_that_the_server_gave(network: Network, chat: Chat) -> None:
    Recorder(chat, "ann", "#lobby")
    second = Recorder(chat, "ANN", host="other")
    assert [refused.cause for refused in second.of(Refused)] == [Cause.NICK_TAKEN]
    assert second.client.nick == "guest-2"
    assert second.of(NickSet) == [NickSet("guest-2")]


def test_a_client_that_lost_its_connection_resumes_and_says_what_it_said_meanwhile_once(
    network: Network, chat: Chat
) -> None:
    ann, bob = Recorder(chat, "ann"), Recorder(chat, "bob")
    links = network.link("server", "bob")
    links.partition()
    before = outcome(bob.client.say("on its way"))
    ann.client.say("you miss this")
    network.advance(0.5)
    bob.abort()
    network.advance(0.1)
    meanwhile = outcome(bob.client.say("while away"))
    links.heal()
    network.advance(20)
    assert len(bob.of(Disconnected)) == 1
    assert [resumed.verdict for resumed in bob.of(Resumed)] == [Verdict.RECOVERED]
    assert isinstance(before[0], Position)
    assert isinstance(meanwhile[0], Position)
    assert ann.texts() == bob.texts() == ["you miss this", "on its way", "while away"]
    assert bob.offsets() == list(range(2, 2 + len(bob.offsets())))
    assert chat.hub.members("#dev") == ["ann", "bob"]


def test_a_client_whose_line_arrived_but_not_its_acknowledgement_does_not_say_it_twice(
    network: Network, chat: Chat
) -> None:
    ann, bob = Recorder(chat, "ann"), Recorder(chat, "bob")
    network.link("server", "bob").set(latency=0.5)
    said = outcome(bob.client.say("once"))
    network.advance(0.7)
    assert ann.texts() == ["once"]
    bob.abort()
    network.advance(20)
    assert len(said) == 1
    assert ann.texts() == bob.texts() == ["once"]


def test_a_client_is_told_what_it_lost_and_that_a_log_was_begun_anew(network: Network, chat: Chat) -> None:
    ann, bob = Recorder(chat, "ann"), Recorder(chat, "bob")
    network.link("server", "bob").partition()
    bob.abort()
    for number in range(60):
        ann.client.say(f"{number}")
    network.advance(5)
    network.link("server", "bob").heal()
    network.advance(10)
    [first] = bob.of(Resumed)
    assert first.verdict is Verdict.LOST
    assert bob.texts() == [f"{number}" for number in range(60)][-len(bob.texts()) :]
    chat.host.crash()
    chat.host.restart()
    chat.store = UnreliableStore(chat.host.reactor.seconds)
    chat.start()
    ann.client.say("anybody?")
    network.advance(200)
    assert [resumed.verdict for resumed in bob.of(Resumed)[1:]] == [Verdict.UNKNOWN]
    assert [entry.text for entry in bob.of(Entries)[-1].entries] == ["anybody?"]


def test_a_client_that_cannot_resume_because_the_store_fails_tries_again(network: Network, chat: Chat) -> None:
    Recorder(chat, "ann")
    bob = Recorder(chat, "bob")
    bob.abort()
    network.advance(0.5)
    chat.store.fails = True
    network.advance(3)
    assert [refused.text for refused in bob.of(Refused)][:1] == ["not done: the disk cannot be read"]
    chat.store.fails = False
    network.advance(10)
    assert bob.of(Resumed)[-1].verdict is Verdict.RECOVERED
    assert sorted(chat.hub.members("#dev")) == ["ann", "bob"]


def test_a_client_that_stops_says_which_lines_are_not_acknowledged(network: Network, chat: Chat) -> None:
    ann = Recorder(chat, "ann")
    network.links().partition()
    said = outcome(ann.client.say("lost"))
    ann.client.stop()
    [error] = said
    assert isinstance(error, NotSaidError)
    assert error.cause is None
    network.links().heal()
    network.advance(10)
    assert chat.hub.members("#dev") == []


def test_a_refused_line_fails_with_the_cause(network: Network, chat: Chat) -> None:
    ann, bob = Recorder(chat, "ann"), Recorder(chat, "bob")
    room = chat.hub.room("#dev")
    assert room is not None
    ann.client.request(Join("#ops"))
    room.modes.add(Mode.MODERATED)
    said = outcome(bob.client.say("hi"))
    network.advance(1)
    [error] = said
    assert isinstance(error, NotSaidError)
    assert (error.cause, str(error)) == (Cause.MODERATED, "only operators may speak in #dev")


def test_a_client_refuses_what_is_no_line_and_more_lines_than_it_can_remember(network: Network, chat: Chat) -> None:
    ann = Recorder(chat, "ann")
    for text in ("two\nlines", "x" * 1_024):
        with pytest.raises(MessageError):
            ann.client.say(text)
    network.links().partition()
    for number in range(PENDING_MAX):
        ann.client.say(f"{number}").addErrback(lambda _: None)
    with pytest.raises(MessageError, match="1,000 lines are not acknowledged yet"):
        ann.client.say("one more")
    ann.client.stop()


@pytest.mark.parametrize("text", ["", "  ", "\u200b", "\u0301", "\ud800", "half \ud800"])
def test_a_client_refuses_a_text_that_the_server_would_not_answer(network: Network, chat: Chat, text: str) -> None:
    ann = Recorder(chat, "ann")
    for speak in (ann.client.say, ann.client.act):
        with pytest.raises(MessageError):
            speak(text)
    assert not ann.client.unacknowledged


def test_a_text_that_begins_with_an_invisible_character_is_no_command(network: Network, chat: Chat) -> None:
    ann = Recorder(chat, "ann")
    said = outcome(ann.client.say("\u200b/quit"))
    network.advance(1)
    assert len(said) == 1
    assert ann.texts() == ["/quit"]


def test_a_client_that_is_not_connected_refuses_other_requests(network: Network) -> None:
    host = network.host("ann")
    client = ChatClient(TCP4ClientEndpoint(host.reactor, "10.0.0.9", 1400), lambda _: None, host.reactor)
    with pytest.raises(MessageError, match="not connected"):
        client.request(Who())


# The opening of a connection


class Relay(Factory):
    """Relays connections to the chat. It cuts one of them after some bytes of one direction.

    :ivar is_cut: whether it has done so.
    """

    def __init__(self, chat: Chat) -> None:
        self.reactor = chat.network.host("relay", "10.0.0.2").reactor
        self.reactor.listenTCP(1400, self, interface="10.0.0.2")
        self.cut_after(-1, 0, to_server=True)

    def cut_after(self, number: int, length: int, *, to_server: bool) -> None:
        """Cut the connection with this number from now on, counted from 0, after ``length`` bytes."""
        self.number, self.length, self.to_server = number, length, to_server
        self.is_cut = False

    def buildProtocol(self, _: object) -> Protocol:
        self.number -= 1
        near, far = RelayEnd(self, to_server=True), RelayEnd(self, to_server=False)
        near.is_watched = far.is_watched = self.number == -1
        near.other, far.other = far, near
        return near


class RelayEnd(Protocol):
    """One end of a relayed connection."""

    transport: Any = None
    is_watched = False
    other: RelayEnd

    def __init__(self, relay: Relay, *, to_server: bool) -> None:
        self._relay = relay
        self._to_server = to_server
        self._waiting = b""

    def connectionMade(self) -> None:
        if self._to_server:
            endpoint = TCP4ClientEndpoint(self._relay.reactor, "10.0.0.1", 1400)
            connectProtocol(endpoint, self.other).addErrback(lambda _: self.transport.abortConnection())
        else:
            self.other.dataReceived(b"")

    def dataReceived(self, data: bytes) -> None:
        relay = self._relay
        self._waiting += data
        if self.other.transport is None or (self.is_watched and relay.is_cut):
            return
        data, self._waiting = self._waiting, b""
        if self.is_watched and self._to_server is relay.to_server:
            self.other.transport.write(data[: relay.length])
            if len(data) < relay.length:
                relay.length -= len(data)
                return
            relay.is_cut = True
            for end in (self, self.other):  # a reset, because an end in order would end the line
                relay.reactor.callLater(0.01, end.transport.abortConnection)
        else:
            self.other.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        if self.other.transport is not None:
            self.other.transport.loseConnection()


@pytest.mark.parametrize("to_server", [True, False])
@pytest.mark.parametrize("number", [0, 1])
def test_wherever_the_opening_is_cut_each_line_is_said_once_and_in_its_room(
    network: Network, chat: Chat, number: int, to_server: bool
) -> None:
    chat.restart(replay=0)
    relay = Relay(chat)
    ops = Recorder(chat, "ops", "#ops")
    host = network.host("bot")
    length = 0
    while True:
        nick = f"c{length}"
        relay.cut_after(number, length, to_server=to_server)
        bot = Recorder(chat, nick, "#ops", host, "10.0.0.2")
        said = [outcome(bot.client.say(f"{nick} first"))]
        network.advance(0.1)
        if number and bot.client.connection is not None:
            bot.abort()
        said.append(outcome(bot.client.say(f"{nick} second")))
        network.advance(2.5)
        assert [type(each) for outcomes in said for each in outcomes] == [Position, Position], nick
        mine = [(room, text) for room, text in chat.said if text.startswith(f"{nick} ")]
        assert mine == [("#ops", f"{nick} first"), ("#ops", f"{nick} second")]
        assert bot.client.room == "#ops"
        assert bot.client.nick == nick or number == 0  # the server may keep it for a session that the client lost
        bot.client.stop()
        ops.client.request(Who())  # it is not idle
        network.advance(0.5)
        if not relay.is_cut:
            break
        length += 1
    assert length > 50


@pytest.mark.parametrize("to_server", [True, False])
def test_wherever_the_opening_is_cut_a_line_for_a_room_that_refuses_the_client_is_not_said(
    network: Network, chat: Chat, to_server: bool
) -> None:
    chat.restart(replay=0)
    relay = Relay(chat)
    ops = Recorder(chat, "ops", "#ops")
    chat.close_room("#ops")
    host = network.host("bot")
    length = 0
    while True:
        relay.cut_after(0, length, to_server=to_server)
        bot = Recorder(chat, f"c{length}", "#ops", host, "10.0.0.2")
        said = [outcome(bot.client.say("secret"))]
        network.advance(0.1)
        said.append(outcome(bot.client.say("secret")))
        network.advance(2.5)
        causes = [error.cause for [error] in said if isinstance(error, NotSaidError)]
        assert causes == [Cause.INVITE_ONLY, Cause.INVITE_ONLY], length
        bot.client.stop()
        ops.client.request(Who())  # it is not idle
        network.advance(0.5)
        if not relay.is_cut:
            break
        length += 1
    assert chat.said == []
    assert length > 50


def test_a_client_whose_room_is_refused_says_nothing_until_its_application_joins_another_one(
    network: Network, chat: Chat
) -> None:
    ops = Recorder(chat, "ops", "#ops")
    lurker = Recorder(chat, "lurker", "#lobby")
    chat.close_room("#ops")
    ann = Recorder(chat, "ann", "#ops")
    assert [refused.cause for refused in ann.of(Refused)] == [Cause.INVITE_ONLY]
    assert ann.of(RoomEntered) == []
    lurker.client.say("is anybody here?")
    [error] = outcome(ann.client.say("secret"))
    assert isinstance(error, NotSaidError)
    assert error.cause is Cause.INVITE_ONLY
    ann.client.request(Join("#LOBBY"))
    network.advance(1)
    ann.client.say("hello")
    network.advance(1)
    assert (lurker.texts(), ann.texts()) == (["is anybody here?", "hello"], ["hello"])
    assert [entered.room for entered in ann.of(RoomEntered)] == ["#lobby"]
    chat.close_room("#ops", is_open=True)
    ann.client.request(Join("#ops"))
    meanwhile = outcome(ann.client.say("at last"))
    network.advance(1)
    assert isinstance(meanwhile[0], Position)
    assert ops.texts() == ["at last"]


def test_a_line_is_said_in_the_room_of_the_latest_request_to_join(network: Network, chat: Chat) -> None:
    ann = Recorder(chat, "ann")
    Recorder(chat, "ops", "#ops")
    chat.close_room("#ops")
    outcomes = [outcome(ann.client.say("dev"))]
    for request, text in (
        (Join("#tea"), "tea"),
        (Join("#ops"), "ops"),
        (Leave(), "lobby"),
        (Join("#Dev"), "dev again"),
    ):
        ann.client.request(request)
        outcomes.append(outcome(ann.client.say(text)))
    ann.client.request(Join("#dev"))
    outcomes.append(outcome(ann.client.say("still dev")))
    network.advance(5)
    assert chat.said == [("#dev", "dev"), ("#dev", "dev again"), ("#dev", "still dev")]
    errors = [error for [error] in outcomes if isinstance(error, NotSaidError)]
    assert [error.cause for error in errors] == [Cause.NOT_IN_ROOM, Cause.INVITE_ONLY, Cause.NOT_IN_ROOM]


def test_a_line_fails_if_the_client_leaves_its_room_before_it_is_acknowledged(network: Network, chat: Chat) -> None:
    ann, bob = Recorder(chat, "ann"), Recorder(chat, "bob")
    links = network.link("server", "bob")
    links.partition()
    old = outcome(bob.client.say("for dev"))
    bob.client.request(Join("#tea"))
    new = outcome(bob.client.say("for tea"))
    bob.abort()
    network.advance(0.1)
    links.heal()
    network.advance(10)
    assert isinstance(old[0], Position)  # the request to join was lost with the connection
    assert isinstance(new[0], NotSaidError)
    assert chat.said == [("#dev", "for dev")]
    assert ann.texts() == ["for dev"]


@pytest.mark.parametrize(
    ("names", "rooms_max", "cause"),
    [
        (ASCII_NAMES, 1024, Cause.INVALID_MESSAGE),
        (UnicodeNames(), 2, Cause.TOO_MANY_ROOMS),
        (UnicodeNames(), 1024, Cause.INVITE_ONLY),
    ],
)
def test_a_client_whose_session_cannot_be_continued_begins_a_new_one(
    network: Network, chat: Chat, names: Any, rooms_max: int, cause: Cause
) -> None:
    chat.restart(names=UnicodeNames())
    bob = Recorder(chat, "björn", host="bob")
    first_token = bob.client.token
    network.link("server", "bob").partition()
    sent = outcome(bob.client.say("sent"))
    bob.abort()
    network.advance(1)
    chat.restart(names=names, rooms_max=rooms_max)
    other = Recorder(chat, "other", "#tea" if rooms_max == 2 else "#dev")
    Recorder(chat, "third", "#lobby")
    unsent = outcome(bob.client.say("not sent"))
    if cause is Cause.INVITE_ONLY:
        chat.close_room("#dev")
    network.link("server", "bob").heal()
    network.advance(0.5)
    for _ in range(100):
        if not bob.of(Refused):
            network.advance(0.1)
    if cause is Cause.INVITE_ONLY:
        chat.close_room("#dev", is_open=True)
    other.client.request(Leave())
    network.advance(10)
    assert bob.of(Refused)[0].cause is cause
    assert bob.client.token != first_token
    assert isinstance(sent[0], NotSaidError)
    assert sent[0].cause is None
    assert isinstance(unsent[0], Position)
    assert [resumed.verdict for resumed in bob.of(Resumed)] == [Verdict.UNKNOWN]
    assert chat.said == [("#dev", "not sent")]
    assert bob.client.nick == "björn" or names is ASCII_NAMES


def test_a_client_asks_again_for_its_nick_when_it_has_resumed(network: Network, chat: Chat) -> None:
    first = Recorder(chat, "ann")
    second = Recorder(chat, "ann", host="other")
    first.client.request(Rename("eve"))
    network.advance(1)
    for recorder in (first, second):
        recorder.abort()
        network.advance(5)
    assert (first.client.nick, second.client.nick) == ("eve", "ann")


def test_a_client_that_cannot_enter_its_room_because_the_store_fails_tries_again(network: Network, chat: Chat) -> None:
    chat.store.opens = False
    ann = Recorder(chat, "ann")
    said = outcome(ann.client.say("hello"))
    network.advance(3)
    assert [refused.cause for refused in ann.of(Refused)][:1] == [Cause.STORE_FAILED]
    chat.store.opens = True
    network.advance(3)
    assert isinstance(said[0], Position)
    assert chat.said == [("#dev", "hello")]


class Script(Protocol):
    """A server that sends some lines at once."""

    transport: Any

    def __init__(self, lines: bytes) -> None:
        self.lines = lines

    def connectionMade(self) -> None:
        self.transport.write(self.lines)


class Scripted(Factory):
    """Such a server, and the number of its connections."""

    def __init__(self, network: Network, lines: bytes) -> None:
        self.count = 0
        self.lines = lines
        network.host("scripted", "10.0.0.3").reactor.listenTCP(1400, self, interface="10.0.0.3")

    def buildProtocol(self, _: object) -> Protocol:
        self.count += 1
        return Script(self.lines)


SESSION = b"& session " + b"0" * 32 + b"\n& nick ann\n"


@pytest.mark.parametrize("lines", [b"", b"* welcome\n", SESSION, SESSION + b"& room #lobby 0a 0 1\n"])
def test_a_connection_that_does_not_lead_to_the_room_in_time_is_dropped(
    network: Network, chat: Chat, lines: bytes
) -> None:
    server = Scripted(network, lines)
    ann = Recorder(chat, "ann", server="10.0.0.3")
    network.advance(8.8)
    assert ann.of(Disconnected) == []
    network.advance(0.3)
    assert len(ann.of(Disconnected)) == 1
    network.advance(2)
    assert server.count == 2
    ann.client.stop()


def test_a_client_that_is_in_its_room_may_be_silent(network: Network, chat: Chat) -> None:
    ann = Recorder(chat, "ann")
    network.advance(100)
    assert ann.of(Disconnected) == []


@pytest.mark.parametrize("chat", ["lines"], indirect=True)  # as the server of the script
def test_a_client_that_was_replaced_does_not_connect_again(network: Network, chat: Chat) -> None:
    server = Scripted(network, SESSION + b"& room #dev 0a 0 1\n")
    ann = Recorder(chat, "ann", server="10.0.0.3")
    said = outcome(ann.client.say("hello"))
    connection = ann.client.connection
    assert connection is not None
    ann.host.run(connection.dataReceived, b"& replaced\n")
    network.advance(100)
    assert server.count == 1
    assert len(ann.of(Replaced)) == 1
    assert ann.client.connection is None
    [error, late] = [*said, *outcome(ann.client.say("late"))]
    assert isinstance(error, NotSaidError)
    assert error.cause is None
    assert isinstance(late, NotSaidError)


# One connection


@pytest.mark.parametrize("request_", [Say("two\nlines"), Say("x" * 1024), Whisper("ann", "x\n/quit"), Say("\ud800")])
def test_a_connection_sends_nothing_that_is_not_one_line(request_: Request) -> None:
    connection = ChatConnection(lambda _: None)
    transport = attach(connection)
    assert taken(transport) == b"/positions on\n"
    with pytest.raises(MessageError):
        connection.send(request_)
    assert taken(transport) == b""
    lose(connection)


def test_a_hostile_server_cannot_control_a_clients_terminal_or_fill_its_memory() -> None:
    events: list[Event | ReceivedEntry] = []
    connection = ChatConnection(events.append)
    attach(connection)
    connection.dataReceived(b"* \x1b[2J\n" + b"x" * 2000 + b"\nno shape\n* \xc2\n& entries #a replay 999999999\n")
    connection.dataReceived("<a -> b> \u202ex\n".encode())
    assert events == [Notice("[2J"), Whispered("a", "b", "x")]
    assert connection.ignored == 4
    lose(connection)


def test_a_connection_quits_and_is_closed_in_order() -> None:
    connection = ChatConnection(lambda _: None)
    transport = attach(connection)
    taken(transport)
    closed = connection.quit()
    assert taken(transport) == b"/quit\n"
    lose(connection, ConnectionDone)
    assert closed.called
    with pytest.raises(MessageError, match="the connection is closed"):
        connection.send(Who())


def test_a_connection_fails_with_the_reason_of_its_loss() -> None:
    connection = ChatConnection(lambda _: None)
    attach(connection)
    lose(connection, ConnectionLost)
    failed: list[object] = []
    connection.closed.addErrback(lambda failure: failed.append(failure.type))
    assert failed == [ConnectionLost]
