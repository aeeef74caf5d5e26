"""Scenarios with datagrams. Simulated and real networks give the same events in the same order."""

from __future__ import annotations

import socket

import pytest
from twisted.internet import error

from tests.scenarios.environments import Environment
from tests.scenarios.protocols import RecordingDatagramProtocol


def open_ports(
    environment: Environment,
) -> tuple[RecordingDatagramProtocol, RecordingDatagramProtocol, tuple[str, int]]:
    """Open a port for a server and one for a client. Returns both protocols and the server's address."""
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    port = environment.close_at_end(
        environment.server.listenUDP(0, server, interface=environment.address, maxPacketSize=65_536)
    )
    environment.close_at_end(environment.client.listenUDP(0, client, maxPacketSize=65_536))
    return server, client, (environment.address, port)


def test_datagrams_keep_their_boundaries_and_their_source(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        server, client, address = open_ports(environment)
        sent = [b"one", b"", b"three", b"x" * 60_000]
        for datagram in sent:
            client.transport.write(datagram, address)
        await server.until(lambda: len(server.received) == 4)
        assert sorted(server.received) == sorted(sent)  # the network may reorder them
        assert {port for _, port in server.sources} == {client.transport.getHost().port}
        server.transport.write(b"answer", server.sources[0])
        await client.until(lambda: bool(client.received))
        assert client.sources == [address]

    environment.run(scenario())


def test_a_datagram_longer_than_the_maximum_packet_size_is_truncated(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        short, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
        port = environment.close_at_end(
            environment.server.listenUDP(0, short, interface=environment.address, maxPacketSize=4)
        )
        environment.close_at_end(environment.client.listenUDP(0, client))
        client.transport.write(b"longer", (environment.address, port))
        await short.until(lambda: bool(short.received))
        assert short.received == [b"long"]

    environment.run(scenario())


def test_sending_a_datagram_longer_than_the_udp_maximum_is_an_error(environment: Environment) -> None:
    async def scenario() -> None:
        _, client, address = open_ports(environment)
        with pytest.raises(error.MessageLengthError):
            client.transport.write(b"x" * 65_508, address)

    environment.run(scenario())


def test_sending_to_port_0_is_an_error(environment: Environment) -> None:
    async def scenario() -> None:
        _, client, (host, _) = open_ports(environment)
        with pytest.raises(OSError, match="Invalid argument"):
            client.transport.write(b"x", (host, 0))

    environment.run(scenario())


def test_a_connected_port_receives_datagrams_from_its_peer_only(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        server, client, address = open_ports(environment)
        stranger = RecordingDatagramProtocol()
        environment.close_at_end(environment.server.listenUDP(0, stranger, interface=environment.address))
        client.transport.connect(*address)
        client.transport.write(b"hello")
        await server.until(lambda: bool(server.received))
        stranger.transport.write(b"from a stranger", server.sources[0])
        server.transport.write(b"from the peer", server.sources[0])
        await client.until(lambda: bool(client.received))
        assert client.received == [b"from the peer"]

    environment.run(scenario())


def test_a_connected_port_is_told_when_its_peer_refuses_datagrams(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        client = RecordingDatagramProtocol()
        environment.close_at_end(environment.client.listenUDP(0, client))
        client.transport.connect(environment.address, environment.free_port(socket.SOCK_DGRAM))
        client.transport.write(b"anybody there?")
        await client.until(lambda: bool(client.events))
        # EPollReactor closes the port at this error. The other reactors report it to the protocol.
        assert client.events == (["refused"] if environment.kind in ("asyncio", "native") else ["stopped"])

    environment.run(scenario())


def test_an_unconnected_port_is_not_told_when_a_peer_refuses_datagrams(reliable_environment: Environment) -> None:
    environment = reliable_environment

    async def scenario() -> None:
        server, client, address = open_ports(environment)
        client.transport.write(b"anybody there?", (environment.address, environment.free_port(socket.SOCK_DGRAM)))
        client.transport.write(b"and there?", address)
        await server.until(lambda: bool(server.received))
        server.transport.write(b"yes", server.sources[0])
        await client.until(lambda: bool(client.received))
        assert client.events == []

    environment.run(scenario())


def test_listening_on_a_port_in_use_is_an_error(environment: Environment) -> None:
    async def scenario() -> None:
        _, _, (host, port) = open_ports(environment)
        with pytest.raises(error.CannotListenError, match="Address already in use"):
            environment.server.listenUDP(port, RecordingDatagramProtocol(), interface=host)

    environment.run(scenario())
