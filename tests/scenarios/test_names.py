"""Scenarios with name resolution."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from netsvc.net.host_names import resolve
from tests.scenarios.environments import Environment
from tests.scenarios.protocols import RecordingProtocol


def test_a_name_resolves_to_its_addresses(environment: Environment) -> None:
    async def scenario() -> None:
        assert environment.address in await resolve(environment.client, environment.hostname)

    environment.run(scenario())


def test_resolving_an_unknown_name_is_an_error(environment: Environment) -> None:
    async def scenario() -> None:
        with pytest.raises(error.DNSLookupError):
            await resolve(environment.client, "nobody.invalid")
        with pytest.raises(error.DNSLookupError):
            await connectProtocol(HostnameEndpoint(environment.client, "nobody.invalid", 80), RecordingProtocol())

    environment.run(scenario())


def test_a_client_can_connect_to_a_host_by_name(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        factory: Factory[Any] = Factory.forProtocol(lambda: server)
        port = environment.close_at_end(environment.server.listenTCP(0, factory, interface=environment.address))
        await connectProtocol(HostnameEndpoint(environment.client, environment.hostname, port), client)
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert client.events == server.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())
