"""Scenarios with UNIX sockets. Simulated and real networks give the same events in the same order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import DeferredList
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from tests.scenarios.environments import Environment
from tests.scenarios.protocols import HalfCloseProtocol, RecordingProtocol


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path that is short enough for a UNIX socket."""
    monkeypatch.chdir(tmp_path)
    return "socket"


def connect_pair(environment: Environment, path: str, server: RecordingProtocol, client: RecordingProtocol) -> Any:
    """Connect two protocols on the server's host."""
    factory: Factory[Any] = Factory.forProtocol(lambda: server)
    factory.noisy = False
    port = environment.server.listenUNIX(path, factory)
    environment.at_end(port.stopListening)
    return connectProtocol(UNIXClientEndpoint(environment.server, path), client)


def test_bytes_arrive_in_both_directions(environment: Environment, path: str) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, path, server, client)
        client.transport.write(b"question")
        await server.has_received(8)
        server.transport.write(b"answer")
        await client.has_received(6)
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_a_side_that_has_half_closed_still_receives(environment: Environment, path: str) -> None:
    async def scenario() -> None:
        server, client = HalfCloseProtocol(), HalfCloseProtocol()
        await connect_pair(environment, path, server, client)
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await server.happened("read closed")
        server.transport.write(b"answer")
        await client.has_received(6)
        client.transport.loseConnection()
        server.transport.loseConnection()
        await client.lost
        await server.lost
        assert (bytes(server.received), bytes(client.received)) == (b"question", b"answer")

    environment.run(scenario())


def test_closing_with_unread_bytes_resets_the_peer(environment: Environment, path: str) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, path, server, client)
        await server.happened("connected")
        server.transport.pauseProducing()
        client.transport.write(b"unread")
        await environment.wait_briefly()
        server.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == ["connected", "lost: ConnectionDone"]
        assert client.events == ["connected", "lost: ConnectionLost"]

    environment.run(scenario())


def test_aborting_closes_the_peer_cleanly(environment: Environment, path: str) -> None:
    """UNIX sockets have no reset."""

    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, path, server, client)
        await server.happened("connected")
        client.transport.abortConnection()
        await client.lost
        await server.lost
        assert client.events == ["connected", "lost: ConnectionAborted"]
        assert server.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_connecting_to_an_unused_path_is_an_error(environment: Environment, path: str) -> None:
    async def scenario() -> None:
        with pytest.raises(error.ConnectError, match="No such file"):
            await connectProtocol(UNIXClientEndpoint(environment.server, path), RecordingProtocol())

    environment.run(scenario())


def test_a_full_backlog_refuses_connections(environment: Environment, path: str) -> None:
    async def scenario() -> None:
        factory: Factory[Any] = Factory.forProtocol(RecordingProtocol)
        factory.noisy = False
        port = environment.server.listenUNIX(path, factory, backlog=1)
        port.pauseProducing()
        clients = [RecordingProtocol() for _ in range(4)]
        results = await DeferredList(
            # The asyncio reactor does not report the refusal; with this reactor, the attempt times out.
            [connectProtocol(UNIXClientEndpoint(environment.server, path, timeout=0.2), client) for client in clients],
            consumeErrors=True,
        )
        assert [done for done, _ in results] == [True, True, False, False]
        assert results[2][1].check(error.ConnectError)
        for client in clients[:2]:
            client.transport.loseConnection()
            await client.lost
        await port.stopListening()

    environment.run(scenario())
