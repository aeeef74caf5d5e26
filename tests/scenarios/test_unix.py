"""Scenarios of UNIX sockets: the same events in the same order, simulated and real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import DeferredList
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from tests.scenarios.actors import Actor, HalfActor
from tests.scenarios.worlds import World


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path that is short enough for a socket's."""
    monkeypatch.chdir(tmp_path)
    return "socket"


def connected(world: World, path: str, server: Actor, client: Actor) -> Any:
    """Connect two actors on the server's host."""
    factory: Factory[Any] = Factory.forProtocol(lambda: server)
    factory.noisy = False
    port = world.server.listenUNIX(path, factory)
    world.afterwards(port.stopListening)
    return connectProtocol(UNIXClientEndpoint(world.server, path), client)


def test_bytes_arrive_in_both_directions(world: World, path: str) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, path, server, client)
        client.transport.write(b"question")
        await server.got(8)
        server.transport.write(b"answer")
        await client.got(6)
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_a_half_closed_side_still_hears(world: World, path: str) -> None:
    async def scenario() -> None:
        server, client = HalfActor(), HalfActor()
        await connected(world, path, server, client)
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await server.happened("ended")
        server.transport.write(b"answer")
        await client.got(6)
        client.transport.loseConnection()
        server.transport.loseConnection()
        await client.lost
        await server.lost
        assert (bytes(server.received), bytes(client.received)) == (b"question", b"answer")

    world.play(scenario())


def test_closing_with_unread_bytes_resets_the_other_side(world: World, path: str) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, path, server, client)
        await server.happened("made")
        server.transport.pauseProducing()
        client.transport.write(b"unread")
        await world.turn()
        server.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == ["made", "lost: ConnectionDone"]
        assert client.events == ["made", "lost: ConnectionLost"]

    world.play(scenario())


def test_aborting_ends_the_other_side_in_order(world: World, path: str) -> None:
    """There is no reset on a UNIX socket."""

    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, path, server, client)
        await server.happened("made")
        client.transport.abortConnection()
        await client.lost
        await server.lost
        assert client.events == ["made", "lost: ConnectionAborted"]
        assert server.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_a_path_that_nobody_listens_on_cannot_be_connected_to(world: World, path: str) -> None:
    async def scenario() -> None:
        with pytest.raises(error.ConnectError, match="No such file"):
            await connectProtocol(UNIXClientEndpoint(world.server, path), Actor())

    world.play(scenario())


def test_a_full_backlog_refuses(world: World, path: str) -> None:
    async def scenario() -> None:
        factory: Factory[Any] = Factory.forProtocol(Actor)
        factory.noisy = False
        port = world.server.listenUNIX(path, factory, backlog=1)
        port.pauseProducing()
        clients = [Actor() for _ in range(4)]
        ended = await DeferredList(
            # The asyncio reactor alone does not hear of it, and waits for the end of the time.
            [connectProtocol(UNIXClientEndpoint(world.server, path, timeout=0.2), client) for client in clients],
            consumeErrors=True,
        )
        assert [done for done, _ in ended] == [True, True, False, False]
        assert ended[2][1].check(error.ConnectError)
        for client in clients[:2]:
            client.transport.loseConnection()
            await client.lost
        await port.stopListening()

    world.play(scenario())
