"""A chat of two nodes as members see it, on a simulated network with a simulated Redis."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from netsvc.chat.chat_events import NotConfirmed, Resumed, Verdict
from netsvc.chat.client import ChatClient
from netsvc.chat.entries import EntryKind
from netsvc.chat.hub import ChatHub
from netsvc.chat.lines import ChatFactory
from netsvc.chat.names import ASCII_NAMES
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.redis_directory_scripts import MEMBERS
from netsvc.chat.redis_node import LEASE
from netsvc.server.assembly import StreamService
from netsvc.server.config import Config
from netsvc.server.redis_chat import redis_chat
from netsvc.testing import Host, Network
from tests.connections import terms
from tests.redis_nodes import REDIS, SimulatedRedisHost


class Person(Protocol):
    """A member like netcat."""

    transport: Any

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self.lines += [line.decode() for line in lines]

    def say(self, line: str) -> None:
        self.transport.write(line.encode() + b"\n")

    def taken(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self.lines = self.lines, []
        return lines


class Chat:
    """Two servers and a Redis."""

    def __init__(self) -> None:
        self.network = Network()
        self.redis = SimulatedRedisHost(self.network)
        self.servers = [self.network.host(name) for name in ("one", "two")]
        self.network.links().set(latency=0.001)
        self.services = [self._serve(host) for host in self.servers]
        self.network.advance(2 * LEASE)
        self._people = 0

    def _serve(self, host: Host) -> StreamService:
        config = Config(chat=["1400"], chat_store=f"redis://{REDIS[0]}:{REDIS[1]}/0", chat_rate=0)
        address = config.chat_redis
        assert address is not None
        chat_terms = terms(host.reactor)
        store, directory = redis_chat(chat_terms, config, ASCII_NAMES, address, {})
        hub = ChatHub(chat_terms, store, directory=directory)
        service = StreamService(host.reactor, ["1400"], ChatFactory(chat_terms, hub, rate=0))
        service.startService()
        return service

    def person(self, server: int, nick: str) -> Person:
        """Return a person who is in the lobby of a server."""
        self._people += 1
        host = self.network.host(f"person{self._people}")
        person = Person()
        endpoint = TCP4ClientEndpoint(host.reactor, self.servers[server].address, 1400)
        endpoint.connect(_factory(person))
        self.network.advance(0.1)
        person.say(f"/nick {nick}")
        person.say("")
        self.network.advance(0.1)
        person.taken()
        return person

    def program(self, server: int, nick: str) -> tuple[ChatClient, list[Any]]:
        """Return a program that connects to a server, or to the other one if that is down, and what it receives."""
        host = self.network.host(f"program-{nick}")
        received: list[Any] = []
        order = [self.servers[server], self.servers[1 - server]]

        class Either:
            def connect(self, factory: Any) -> Any:
                address = next(each.address for each in order if each.up)
                return TCP4ClientEndpoint(host.reactor, address, 1400, timeout=2).connect(factory)

        client = ChatClient(Either(), received.append, host.reactor, nick=nick, retry_policy=lambda _: 0.2)  # type: ignore[arg-type]
        client.start()
        self.network.advance(0.5)
        return client, received


def _factory(protocol: Protocol) -> Any:
    return Factory.forProtocol(lambda: protocol)


@pytest.fixture
def chat() -> Chat:
    return Chat()


def test_members_of_two_nodes_are_in_one_room(chat: Chat) -> None:
    ann, bob = chat.person(0, "ann"), chat.person(1, "bob")
    assert ann.taken() == ["* bob joined #lobby"]
    ann.say("hello")
    bob.say("/who")
    chat.network.advance(0.1)
    assert bob.taken() == ["<ann> hello", "* 2 in #lobby: ann, bob"]
    bob.say("/msg ann psst")
    bob.say("/nick Ann")
    bob.say("/topic news")
    bob.say("/rooms")
    chat.network.advance(0.1)
    assert ann.taken() == ["<bob -> ann> psst", "* bob set the topic: news"]
    assert bob.taken() == [
        "<bob -> ann> psst",
        "* Ann is taken; take another nick",
        "* bob set the topic: news",
        "* rooms: #lobby (2)",
    ]
    bob.transport.loseConnection()
    chat.network.advance(0.1)
    assert ann.taken() == ["* bob left"]


def test_what_was_said_on_one_node_is_shown_on_another(chat: Chat) -> None:
    ann = chat.person(0, "ann")
    for text in ("the deploy is done", "lunch"):
        ann.say(text)
    chat.network.advance(0.1)
    bob = chat.person(1, "bob")
    bob.say("/history 1")
    bob.say("/search Depl")
    chat.network.advance(0.1)
    lines = bob.taken()
    assert [line.partition("] ")[2] or line for line in lines] == [
        "* the last line of #lobby (times in UTC):",
        "<ann> lunch",
        "* found in #lobby (times in UTC):",
        "<ann> the deploy is done",
    ]
    ann.say("/erase")
    chat.network.advance(0.1)
    assert bob.taken() == ["* ann erased a line"]
    bob.say("/search lunch")
    chat.network.advance(0.1)
    assert bob.taken() == ["* nothing was found in #lobby"]


def test_while_redis_does_not_answer_members_stay_and_know_what_became_of_their_lines(chat: Chat) -> None:
    ann, bob = chat.person(0, "ann"), chat.person(1, "bob")
    chat.redis.server.pause()
    ann.say("one")
    ann.say("two")
    chat.network.advance(3.0)
    assert ann.taken() == ["* bob joined #lobby", "* not confirmed: your line may not be sent yet; please wait"]
    chat.redis.server.resume()
    chat.network.advance(3.0)
    assert ann.taken() == ["* your line was sent"]
    assert bob.taken() == ["<ann> one", "<ann> two"]
    chat.redis.server.kill()
    chat.network.advance(1.0)
    ann.say("three")
    chat.network.advance(3.0)
    [refusal] = ann.taken()
    assert refusal.startswith("* not sent: ")
    chat.redis.server.start()
    chat.network.advance(1.0)
    ann.say("four")
    chat.network.advance(0.1)
    assert bob.taken() == ["<ann> four"]


def test_a_program_resumes_on_the_other_node_with_its_nick_and_without_a_gap(chat: Chat) -> None:
    client, received = chat.program(0, "bot")
    bob = chat.person(1, "bob")
    said = client.say("before")
    chat.network.run(said)
    chat.servers[0].crash()
    bob.say("meanwhile")
    chat.network.advance(130.0)  # the program notices by itself after two minutes at most
    assert client.is_connected
    assert client.nick == "bot"
    chat.network.run(client.say("after"))
    entries = [each.entry for each in received if isinstance(each, ReceivedEntry)]
    texts = [entry.text for entry in entries if entry.kind is EntryKind.SAID]
    assert texts == ["before", "meanwhile", "after"]
    assert [each.verdict for each in received if isinstance(each, Resumed)] == [Verdict.RECOVERED]
    assert [line for line in bob.taken() if line.startswith("<")] == ["<bot> before", "<bot> after"]


def test_members_of_a_node_that_fails_are_announced_as_gone(chat: Chat) -> None:
    chat.person(0, "ann")
    bob = chat.person(1, "bob")
    chat.servers[0].crash()
    chat.network.advance(LEASE + 1.0)
    assert bob.taken() == ["* ann left: its server failed"]
    bob.say("/nick ann")
    chat.network.advance(0.1)
    assert bob.taken() == ["* you are now ann"]


def test_members_of_a_node_that_was_cut_off_are_told_what_changed(chat: Chat) -> None:
    ann, _ = chat.person(0, "ann"), chat.person(0, "cy")
    bob = chat.person(1, "bob")
    ann.lines.clear()
    link = chat.network.link("one", "redis")
    link.partition()
    chat.network.advance(LEASE + 2.0)
    bob.taken()
    bob.say("/nick ann")
    bob.say("hello")
    chat.network.advance(0.1)
    link.heal()
    chat.network.advance(40.0)
    assert sorted(bob.taken()) == ["* cy joined #lobby", "* guest-4 joined #lobby", "* you are now ann"]
    lines = ann.taken()
    assert "* you are now guest-4" in lines
    assert "<ann> hello" in lines
    bob.say("/who")
    chat.network.advance(0.1)
    [members] = bob.taken()
    assert sorted(members.removeprefix("* 3 in #lobby: ").split(", ")) == ["ann", "cy", "guest-4"]


def test_a_crowd_of_a_node_that_was_cut_off_is_summed_up_when_it_is_back(chat: Chat) -> None:
    host = chat.network.host("crowd")
    crowd = [Person() for _ in range(60)]
    for person in crowd:
        TCP4ClientEndpoint(host.reactor, chat.servers[0].address, 1400).connect(_factory(person))
    chat.network.advance(8.0)
    bob = chat.person(1, "bob")
    link = chat.network.link("one", "redis")
    link.partition()
    chat.network.advance(LEASE + 3.0)
    assert bob.taken()[-1] == "* 10 left: their server failed"
    crowd[0].lines.clear()
    link.heal()
    chat.network.advance(30.0)
    assert bob.taken() == ["* 60 joined"]
    assert crowd[0].taken() == ["* 50 left: their server failed", "* 10 left: their server failed", "* 60 joined"]


def test_members_are_told_that_redis_has_lost_its_data(chat: Chat) -> None:
    ann, bob = chat.person(0, "ann"), chat.person(1, "bob")
    client, received = chat.program(0, "bot")
    ann.say("before")
    chat.network.advance(10.0)
    for lines in (ann.lines, bob.lines, received):
        lines.clear()
    chat.redis.data.flushall()
    chat.network.advance(5.0)
    for person in (ann, bob):
        assert "* the log of #lobby was begun anew; what you missed is unknown" in person.taken()
    assert [each.verdict for each in received if isinstance(each, Resumed)] == [Verdict.UNKNOWN]
    chat.network.run(client.say("after"))
    chat.network.advance(0.1)
    assert bob.taken() == ["<bot> after"]
    ann.say("/who")
    chat.network.advance(30.0)
    [members] = [line for line in ann.taken() if line.startswith("* ")]
    assert sorted(members.removeprefix("* 3 in #lobby: ").split(", ")) == ["ann", "bob", "bot"]


def test_when_a_log_is_begun_anew_a_node_asks_once_for_the_members_of_the_room(chat: Chat) -> None:
    people = [chat.person(0, nick) for nick in ("ann", "bob", "cy", "dee")]
    chat.network.advance(10.0)
    asked: list[bytes] = []
    execute = chat.redis.data.execute

    def record(arguments: list[bytes]) -> Any:
        if MEMBERS.digest.encode() in arguments:
            asked.append(arguments[3])
        return execute(arguments)

    chat.redis.data.execute = record  # type: ignore[method-assign]
    for person in people:
        person.lines.clear()
    chat.redis.data.flushall()
    chat.network.advance(5.0)
    assert asked == [b"#lobby"]
    assert people[0].taken() == [
        "* you are in #lobby with bob, cy, dee",
        "* the log of #lobby was begun anew; what you missed is unknown",
    ]


def test_a_line_that_comes_into_a_log_that_was_begun_anew_is_acknowledged(chat: Chat) -> None:
    client, _ = chat.program(0, "bot")
    chat.network.run(client.say("before"))
    chat.network.advance(10.0)
    chat.redis.server.pause()
    said = client.say("meanwhile")
    chat.network.advance(1.0)
    chat.redis.data.flushall()
    chat.redis.server.kill()
    chat.redis.server.start()
    position = chat.network.run(said, timeout=10.0)
    assert client.position is not None
    assert position.epoch == client.position.epoch


def test_a_program_is_told_that_its_line_is_not_confirmed(chat: Chat) -> None:
    client, received = chat.program(0, "bot")
    chat.redis.server.pause()
    said = client.say("hello")
    chat.network.advance(3.0)
    assert [type(each) for each in received if isinstance(each, NotConfirmed)] == [NotConfirmed]
    chat.redis.server.resume()
    assert chat.network.run(said).offset > 0


def test_when_a_server_stops_its_members_are_gone_at_once(chat: Chat) -> None:
    chat.person(0, "ann")
    bob = chat.person(1, "bob")
    chat.network.run(chat.services[0].stopService())
    chat.network.advance(0.1)
    assert bob.taken() == ["* ann left"]
    bob.say("/nick ann")
    chat.network.advance(0.1)
    assert bob.taken() == ["* you are now ann"]
