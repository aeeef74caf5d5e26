"""Scenarios with the services of netsvc: each service with each of its clients."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.task import deferLater

from netsvc import Config, Conversation, DatagramConversation, netsvc_service
from netsvc.chat.chat_connection import ChatConnection
from netsvc.chat.chat_events import Event, NickSet, Notice, Whispered
from netsvc.chat.entries import EntryKind
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.requests import Join, Rename, Say, Whisper
from netsvc.echo.client import EchoClient
from netsvc.timestamp.client import TimestampClient, ask_timestamp
from tests.scenarios.environments import Environment, all_listening
from tests.scenarios.protocols import HalfCloseProtocol, RecordingProtocol


async def start_service(environment: Environment, **config: Any) -> int:
    """Run the configured service until the end of the scenario. Returns its port.

    The value ``ADDRESS`` is replaced by the server's address and a free port.
    """
    settings: dict[str, Any] = {
        name: [f"{environment.address}:0"] if value == "ADDRESS" else value for name, value in config.items()
    }
    service = netsvc_service(environment.server, Config(**settings))
    service.startService()
    environment.at_end(service.stopService)
    [address] = all_listening(service)
    port: int = address.port
    return port


async def connect(environment: Environment, port: int, protocol: Any) -> Any:
    """Connect a protocol to the server."""
    return await connectProtocol(TCP4ClientEndpoint(environment.client, environment.address, port), protocol)


def test_echo_works_with_its_client(environment: Environment) -> None:
    async def scenario() -> None:
        port = await start_service(environment, tcp="ADDRESS")
        client = await connect(environment, port, EchoClient(environment.client))
        first, second = client.ask(b"hello"), client.ask(b"x" * environment.big)
        assert (await first).data == b"hello"
        assert (await second).data == b"x" * environment.big
        client.transport.loseConnection()

    environment.run(scenario())


def test_echo_returns_everything_to_a_client_that_half_closes(environment: Environment) -> None:
    async def scenario() -> None:
        port = await start_service(environment, tcp="ADDRESS")
        client = await connect(environment, port, HalfCloseProtocol())
        client.transport.write(b"x" * environment.big)
        client.transport.loseWriteConnection()
        await client.happened("read closed")
        assert client.received == b"x" * environment.big
        client.transport.loseConnection()
        await client.lost

    environment.run(scenario())


def test_echo_works_with_talk(environment: Environment) -> None:
    async def scenario() -> None:
        port = await start_service(environment, tcp="ADDRESS")
        received: list[str] = []
        talk = Conversation(environment.client, received.append, framing="line")
        await connect(environment, port, talk)
        talk.send(b"one")
        talk.send(b"two")
        talk.end()
        await talk.ended
        assert received == ["one", "two"]

    environment.run(scenario())


def test_acknowledgements_work_with_talk(environment: Environment) -> None:
    async def scenario() -> None:
        port = await start_service(environment, tcp="ADDRESS", reply="got {message}", framing="line")
        received: list[str] = []
        talk = Conversation(environment.client, received.append, framing="line")
        await connect(environment, port, talk)
        talk.send(b"one")
        talk.send(b"two")
        talk.end()
        await talk.ended
        assert received == ["got one", "got two"]

    environment.run(scenario())


def test_timestamps_work_with_their_clients(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        port = await start_service(environment, udp="ADDRESS")
        answer = await ask_timestamp(environment.client, environment.hostname, port, b"by name")
        assert (answer.payload, answer.tries) == (b"by name", 1)
        client = TimestampClient(environment.client, environment.address, port)
        environment.close_at_end(environment.client.listenUDP(0, client))
        questions = [client.ask(b"%d" % number) for number in range(5)]
        assert [(await question).payload for question in questions] == [b"0", b"1", b"2", b"3", b"4"]

    environment.run(scenario())


def test_timestamps_work_with_talk(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        port = await start_service(environment, udp="ADDRESS")
        received: list[str] = []
        talk = DatagramConversation(environment.client, received.append, peer=(environment.address, port))
        environment.close_at_end(environment.client.listenUDP(0, talk))
        talk.send(b"hello")
        talk.end()
        await talk.ended
        assert len(received) == 1
        assert received[0].endswith("] hello")

    environment.run(scenario())


def test_a_timestamp_request_to_a_closed_port_fails_with_connection_refused(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        with pytest.raises(error.ConnectionRefusedError):
            await ask_timestamp(environment.client, environment.address, environment.free_port(), b"anybody?")

    environment.run(scenario())


def test_chat_works_with_its_client(environment: Environment) -> None:
    async def scenario() -> None:
        port = await start_service(environment, chat="ADDRESS")
        received: dict[str, list[Event | ReceivedEntry]] = {"ann": [], "bob": []}

        def has_entry(name: str, kind: EntryKind, nick: str, text: str) -> bool:
            entries = [each.entry for each in received[name] if isinstance(each, ReceivedEntry)]
            return (kind, nick, text) in [(entry.kind, entry.nick, entry.text) for entry in entries]

        members = {}
        for name, events in received.items():
            members[name] = await connect(environment, port, ChatConnection(events.append))
            members[name].send(Rename(name))
            await until(environment, partial(events.__contains__, NickSet(name)))
        members["ann"].send(Say("hello"))
        members["bob"].send(Whisper("ann", "psst"))
        await until(environment, lambda: has_entry("bob", EntryKind.SAID, "ann", "hello"))
        await until(environment, lambda: Whispered("bob", "ann", "psst") in received["ann"])
        members["bob"].send(Join("#den"))
        await until(environment, lambda: has_entry("ann", EntryKind.LEFT, "bob", "moved to #den"))
        members["ann"].send(Say("anybody else?"))
        await members["ann"].quit()
        await members["bob"].quit()
        assert not has_entry("bob", EntryKind.SAID, "ann", "anybody else?")
        assert received["ann"][-1] == received["bob"][-1] == Notice("bye")

    environment.run(scenario())


def test_chat_works_with_netcat(environment: Environment) -> None:
    async def scenario() -> None:
        port = await start_service(environment, chat="ADDRESS")
        member = await connect(environment, port, HalfCloseProtocol())
        member.transport.write(b"/nick nec\n/who\n")
        member.transport.loseWriteConnection()
        await member.happened("read closed")
        assert member.received.decode().splitlines()[2:] == ["* you are now nec", "* 1 in #lobby: nec"]
        member.transport.loseConnection()
        await member.lost

    environment.run(scenario())


def test_stopping_a_service_closes_its_connections_cleanly(environment: Environment) -> None:
    async def scenario() -> None:
        service = netsvc_service(environment.server, Config(tcp=[f"{environment.address}:0"]))
        service.startService()
        [address] = all_listening(service)
        client = await connect(environment, address.port, RecordingProtocol())
        client.transport.write(b"x" * 50_000)
        await client.until(lambda: bool(client.received))
        stopped = service.stopService()
        await client.lost
        await stopped
        assert client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


async def until(environment: Environment, condition: Any) -> None:
    """Wait until the condition is true. It is checked every millisecond."""
    while not condition():
        await deferLater(environment.client, 0.001, lambda: None)
