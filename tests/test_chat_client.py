"""The chat's clients for programs, against the server on the simulated network and against a hostile server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectionDone, ConnectionLost

from netsvc.chat.chat_connection import ChatConnection
from netsvc.chat.chat_events import Entries, Event, MemberList, NickSet, Notice, Refused, Resumed, Verdict, Whispered
from netsvc.chat.client import PENDING_MAX, ChatClient, ClientEvent, Disconnected, NotSaidError
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.hub import ChatHub
from netsvc.chat.lines import ChatFactory
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Join, Request, Say, Whisper, Who
from netsvc.chat.room import Mode
from netsvc.chat.store import StoreError
from netsvc.limits.cause import Cause
from netsvc.server.assembly import StreamService
from netsvc.testing import Network
from tests.connections import attach, lose, taken, terms

E = TypeVar("E")


class UnreliableStore(MemoryStore):
    """A store that cannot be read while the test says so."""

    fails = False

    def read(self, room: str, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        return fail(StoreError("the disk cannot be read")) if self.fails else super().read(room, after, limit)


class Chat:
    """A chat server on a simulated network."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.host = network.host("server", "10.0.0.1")
        self.store = UnreliableStore(self.host.reactor.seconds, entries_max=50)
        self.start()

    def start(self) -> None:
        chat_terms = terms(self.host.reactor)
        self.hub = ChatHub(chat_terms, self.store)
        self.factory = ChatFactory(chat_terms, self.hub, rate=0)
        self.service = StreamService(self.host.reactor, ["10.0.0.1:1400"], self.factory)
        self.service.startService()


class Recorder:
    """A client and what it received."""

    def __init__(self, chat: Chat, nick: str, room: str = "#dev", host: str = "") -> None:
        self.events: list[ClientEvent] = []
        self.host = chat.network.host(host or nick)
        reactor = self.host.reactor
        endpoint = TCP4ClientEndpoint(reactor, "10.0.0.1", 1400)
        self.client = ChatClient(
            endpoint, self.events.append, reactor, nick=nick, room=room, retry_policy=lambda _: 1.0
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


@pytest.fixture
def chat(network: Network) -> Chat:
    return Chat(network)


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


def test_a_client_that_is_not_connected_refuses_other_requests(network: Network) -> None:
    host = network.host("ann")
    client = ChatClient(TCP4ClientEndpoint(host.reactor, "10.0.0.9", 1400), lambda _: None, host.reactor)
    with pytest.raises(MessageError, match="not connected"):
        client.request(Who())


# One connection


@pytest.mark.parametrize("request_", [Say("two\nlines"), Say("x" * 1024), Whisper("ann", "x\n/quit")])
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
