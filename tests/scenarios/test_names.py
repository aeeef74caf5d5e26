"""Scenarios of names: found, not found, and connected to by name."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from netsvc.net.datagram_protocol import resolve
from tests.scenarios.actors import Actor
from tests.scenarios.worlds import World


def test_a_name_leads_to_its_addresses(world: World) -> None:
    async def scenario() -> None:
        assert world.address in await resolve(world.client, world.hostname)

    world.play(scenario())


def test_a_name_that_nobody_has_is_an_error(world: World) -> None:
    async def scenario() -> None:
        with pytest.raises(error.DNSLookupError):
            await resolve(world.client, "nobody.invalid")
        with pytest.raises(error.DNSLookupError):
            await connectProtocol(HostnameEndpoint(world.client, "nobody.invalid", 80), Actor())

    world.play(scenario())


def test_a_host_is_connected_to_by_its_name(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        factory: Factory[Any] = Factory.forProtocol(lambda: server)
        port = world.listens(world.server.listenTCP(0, factory, interface=world.address))
        await connectProtocol(HostnameEndpoint(world.client, world.hostname, port), client)
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert client.events == server.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())
