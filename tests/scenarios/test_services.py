"""Scenarios of netsvc: each service with each of its clients."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from netsvc import Config, netsvc_service
from netsvc.chat.client import ChatClient
from netsvc.chat.messages import Event, Join, Notice, Rename, Said, Say, Whisper, Whispered
from netsvc.echo.server import EchoClient
from netsvc.talk import Conversation, DatagramConversation
from netsvc.timestamp.server import TimestampClient, ask_timestamp
from tests.scenarios.actors import Actor, HalfActor
from tests.scenarios.worlds import World, all_listening


async def serving(world: World, **config: Any) -> int:
    """Run what is configured, with ``WHERE`` replaced by a port of the server's, until the end. Returns the port."""
    settings: dict[str, Any] = {
        name: [f"{world.address}:0"] if value == "WHERE" else value for name, value in config.items()
    }
    service = netsvc_service(world.server, Config(**settings))
    service.startService()
    world.afterwards(service.stopService)
    [address] = all_listening(service)
    port: int = address.port
    return port


async def called(world: World, port: int, protocol: Any) -> Any:
    """Connect a protocol to the server."""
    return await connectProtocol(TCP4ClientEndpoint(world.client, world.address, port), protocol)


def test_echo_and_its_client(world: World) -> None:
    async def scenario() -> None:
        port = await serving(world, tcp="WHERE")
        client = await called(world, port, EchoClient(world.client))
        first, second = client.ask(b"hello"), client.ask(b"x" * world.big)
        assert (await first).data == b"hello"
        assert (await second).data == b"x" * world.big
        client.transport.loseConnection()

    world.play(scenario())


def test_echo_returns_everything_to_a_client_that_half_closes(world: World) -> None:
    async def scenario() -> None:
        port = await serving(world, tcp="WHERE")
        client = await called(world, port, HalfActor())
        client.transport.write(b"x" * world.big)
        client.transport.loseWriteConnection()
        await client.happened("ended")
        assert client.received == b"x" * world.big
        client.transport.loseConnection()
        await client.lost

    world.play(scenario())


def test_echo_and_talk(world: World) -> None:
    async def scenario() -> None:
        port = await serving(world, tcp="WHERE")
        heard: list[str] = []
        talk = Conversation(world.client, heard.append, framing="line")
        await called(world, port, talk)
        talk.say(b"one")
        talk.say(b"two")
        talk.end()
        await talk.ended
        assert heard == ["one", "two"]

    world.play(scenario())


def test_acknowledgements_and_talk(world: World) -> None:
    async def scenario() -> None:
        port = await serving(world, tcp="WHERE", reply="got {message}", framing="line")
        heard: list[str] = []
        talk = Conversation(world.client, heard.append, framing="line")
        await called(world, port, talk)
        talk.say(b"one")
        talk.say(b"two")
        talk.end()
        await talk.ended
        assert heard == ["got one", "got two"]

    world.play(scenario())


def test_timestamps_and_their_clients(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        port = await serving(world, udp="WHERE")
        answer = await ask_timestamp(world.client, world.hostname, port, b"by name")
        assert (answer.payload, answer.tries) == (b"by name", 1)
        client = TimestampClient(world.client, world.address, port)
        world.listens(world.client.listenUDP(0, client))
        questions = [client.ask(b"%d" % number) for number in range(5)]
        assert [(await question).payload for question in questions] == [b"0", b"1", b"2", b"3", b"4"]

    world.play(scenario())


def test_timestamps_and_talk(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        port = await serving(world, udp="WHERE")
        heard: list[str] = []
        talk = DatagramConversation(world.client, heard.append, partner=(world.address, port))
        world.listens(world.client.listenUDP(0, talk))
        talk.say(b"hello")
        talk.end()
        await talk.ended
        assert len(heard) == 1
        assert heard[0].endswith("] hello")

    world.play(scenario())


def test_a_timestamp_client_hears_that_nobody_listens(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        with pytest.raises(error.ConnectionRefusedError):
            await ask_timestamp(world.client, world.address, world.free_port(), b"anybody?")

    world.play(scenario())


def test_chat_and_its_clients(world: World) -> None:
    async def scenario() -> None:
        port = await serving(world, chat="WHERE")
        heard: dict[str, list[Event]] = {"ann": [], "bob": []}
        members = {}
        for name, events in heard.items():
            members[name] = await called(world, port, ChatClient(events.append))
            members[name].send(Rename(name))
            await until(world, partial(events.__contains__, Notice(f"you are {name} now")))
        members["ann"].send(Say("hello"))
        members["bob"].send(Whisper("ann", "psst"))
        await until(world, lambda: Said("ann", "hello") in heard["bob"])
        await until(world, lambda: Whispered("bob", "ann", "psst") in heard["ann"])
        members["bob"].send(Join("#den"))
        await until(world, lambda: Notice("bob went to #den") in heard["ann"])
        members["ann"].send(Say("gone?"))
        await members["ann"].quit()
        await members["bob"].quit()
        assert Said("ann", "gone?") not in heard["bob"]
        assert heard["ann"][-1] == heard["bob"][-1] == Notice("bye")

    world.play(scenario())


def test_chat_and_a_member_with_netcat(world: World) -> None:
    async def scenario() -> None:
        port = await serving(world, chat="WHERE")
        member = await called(world, port, HalfActor())
        member.transport.write(b"/nick nec\n/who\n")
        member.transport.loseWriteConnection()
        await member.happened("ended")
        assert member.received.decode().splitlines()[2:] == ["* you are nec now", "* 1 in #lobby: nec"]
        member.transport.loseConnection()
        await member.lost

    world.play(scenario())


def test_stopping_a_service_flushes_what_it_accepted(world: World) -> None:
    async def scenario() -> None:
        service = netsvc_service(world.server, Config(tcp=[f"{world.address}:0"]))
        service.startService()
        [address] = all_listening(service)
        client = await called(world, address.port, Actor())
        client.transport.write(b"x" * 50_000)
        await client.until(lambda: bool(client.received))
        stopped = service.stopService()
        await client.lost
        await stopped
        assert client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


async def until(world: World, condition: Any) -> None:
    """Wait, a turn of the client's reactor after another, until the condition holds."""
    while not condition():
        await deferLater(world.client, 0.001, lambda: None)
