"""Scenarios of datagrams: the same events in the same order, simulated and real."""

from __future__ import annotations

import socket

import pytest
from twisted.internet import error

from tests.scenarios.actors import Datagrams
from tests.scenarios.worlds import World


def opened(world: World) -> tuple[Datagrams, Datagrams, tuple[str, int]]:
    """Return a server and a client, each on a port of its own, and the server's address."""
    server, client = Datagrams(), Datagrams()
    port = world.listens(world.server.listenUDP(0, server, interface=world.address, maxPacketSize=65_536))
    world.listens(world.client.listenUDP(0, client, maxPacketSize=65_536))
    return server, client, (world.address, port)


def test_datagrams_keep_their_boundaries_and_their_source(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        server, client, address = opened(world)
        sent = [b"one", b"", b"three", b"x" * 60_000]
        for datagram in sent:
            client.transport.write(datagram, address)
        await server.until(lambda: len(server.received) == 4)
        assert sorted(server.received) == sorted(sent)  # some may have overtaken others
        assert {port for _, port in server.sources} == {client.transport.getHost().port}
        server.transport.write(b"answer", server.sources[0])
        await client.until(lambda: bool(client.received))
        assert client.sources == [address]

    world.play(scenario())


def test_what_is_longer_than_the_receiver_takes_is_cut(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        short, client = Datagrams(), Datagrams()
        port = world.listens(world.server.listenUDP(0, short, interface=world.address, maxPacketSize=4))
        world.listens(world.client.listenUDP(0, client))
        client.transport.write(b"longer", (world.address, port))
        await short.until(lambda: bool(short.received))
        assert short.received == [b"long"]

    world.play(scenario())


def test_a_datagram_longer_than_any_may_be_is_an_error(world: World) -> None:
    async def scenario() -> None:
        _, client, address = opened(world)
        with pytest.raises(error.MessageLengthError):
            client.transport.write(b"x" * 65_508, address)

    world.play(scenario())


def test_port_0_cannot_be_written_to(world: World) -> None:
    async def scenario() -> None:
        _, client, (host, _) = opened(world)
        with pytest.raises(OSError, match="Invalid argument"):
            client.transport.write(b"x", (host, 0))

    world.play(scenario())


def test_a_connected_port_takes_only_what_its_peer_sends(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        server, client, address = opened(world)
        stranger = Datagrams()
        world.listens(world.server.listenUDP(0, stranger, interface=world.address))
        client.transport.connect(*address)
        client.transport.write(b"hello")
        await server.until(lambda: bool(server.received))
        stranger.transport.write(b"from a stranger", server.sources[0])
        server.transport.write(b"from the peer", server.sources[0])
        await client.until(lambda: bool(client.received))
        assert client.received == [b"from the peer"]

    world.play(scenario())


def test_a_connected_port_hears_that_nobody_listens(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        client = Datagrams()
        world.listens(world.client.listenUDP(0, client))
        client.transport.connect(world.address, world.free_port(socket.SOCK_DGRAM))
        client.transport.write(b"anybody there?")
        await client.until(lambda: bool(client.events))
        # EPollReactor takes the error for the end of the port; the others read it and report it.
        assert client.events == (["refused"] if world.kind in ("asyncio", "native") else ["stopped"])

    world.play(scenario())


def test_a_port_that_is_not_connected_does_not_hear_that_nobody_listens(reliable_world: World) -> None:
    world = reliable_world

    async def scenario() -> None:
        server, client, address = opened(world)
        client.transport.write(b"anybody there?", (world.address, world.free_port(socket.SOCK_DGRAM)))
        client.transport.write(b"and there?", address)
        await server.until(lambda: bool(server.received))
        server.transport.write(b"yes", server.sources[0])
        await client.until(lambda: bool(client.received))
        assert client.events == []

    world.play(scenario())


def test_a_port_that_is_taken_cannot_be_listened_on(world: World) -> None:
    async def scenario() -> None:
        _, _, (host, port) = opened(world)
        with pytest.raises(error.CannotListenError, match="Address already in use"):
            world.server.listenUDP(port, Datagrams(), interface=host)

    world.play(scenario())
