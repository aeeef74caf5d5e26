"""Ports that several processes share: here several services in one process, which the kernel does not tell apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from pytest_twisted import ensureDeferred
from twisted.application.service import Service
from twisted.internet import reactor  # noqa: TID251  real sockets
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from netsvc import Config, ConfigError, ListenError, ask_timestamp
from netsvc.net.listening import Listener, datagram_listener, stream_listener
from netsvc.net.shared_ports import SharedPorts
from netsvc.timestamp.server import TimestampProtocol
from tests.connections import terms

SECONDS = 10

#: ConnectionCounter of which, with a chance of 1 in 2**63, none goes to one of two services.
MANY = 64

shared = SharedPorts(reactor)


class Counter(Protocol):
    """Counters the connections of its factory, and closes them."""

    def connectionMade(self) -> None:
        self.factory.connected.append(self)
        assert self.transport is not None
        self.transport.loseConnection()


def counting() -> Any:
    factory: Any = Factory.forProtocol(Counter)
    factory.noisy = False
    factory.connected = []
    return factory


class Closed(Protocol):
    """Tells when the connection is lost."""

    def __init__(self) -> None:
        self.over: Deferred[None] = Deferred()

    def connectionLost(self, reason: object = None) -> None:
        self.over.callback(None)


async def connect(port: int) -> None:
    client = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Closed())
    client.transport.loseWriteConnection()
    await client.over.addTimeout(SECONDS, reactor)


def port_of(listener: Listener) -> int:
    port: int = listener.addresses()[0].port  # type: ignore[attr-defined]
    return port


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


async def stop(*services: Service) -> None:
    for service in services:
        await service.stopService().addTimeout(SECONDS, reactor)


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:{port}", "tcp:{port}:interface=127.0.0.1", "ssl:{port}:privateKey={key}:certKey={key}"],
)
@ensureDeferred
async def test_each_service_that_shares_a_port_gets_some_of_the_connections(text: str, key: Path) -> None:
    factories = [counting(), counting()]
    port = 0
    services = []
    for factory in factories:
        services.append(stream_listener(shared, "tcp", text.format(port=port, key=key), factory))
        services[-1].startService()
        port = port_of(services[-1])
    for _ in range(MANY):
        await connect(port)
    assert sum(len(factory.connected) for factory in factories) == MANY
    assert all(factory.connected for factory in factories)
    await stop(services[0])
    await connect(port)
    await stop(services[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::]"])
@ensureDeferred
async def test_a_datagram_port_is_shared_and_the_last_service_answers_all(host: str) -> None:
    port = 0
    services = []
    for _ in range(2):
        services.append(
            datagram_listener(shared, "udp", f"{host}:{port}", lambda: TimestampProtocol(terms(reactor)), 1400)
        )
        services[-1].startService()
        port = port_of(services[-1])
    asked = "127.0.0.1" if host == "[::]" else host.strip("[]")
    for service in services:
        for number in range(8):
            payload = b"%d" % number
            assert (await ask_timestamp(reactor, asked, port, payload)).payload == payload
        await stop(service)


Open = Callable[[Any, str], Listener]


@pytest.mark.parametrize(
    "open_at",
    [
        lambda ports, text: stream_listener(ports, "tcp", text, counting()),
        lambda ports, text: datagram_listener(ports, "udp", text, lambda: TimestampProtocol(terms(reactor))),
    ],
)
@pytest.mark.parametrize("ports", [(shared, reactor), (reactor, shared)])
@ensureDeferred
async def test_a_port_is_in_use_for_a_service_that_does_not_share_it(open_at: Open, ports: tuple[Any, Any]) -> None:
    one = open_at(ports[0], "127.0.0.1:0")
    one.startService()
    other = open_at(ports[1], f"127.0.0.1:{port_of(one)}")
    with pytest.raises(ListenError, match="already in use"):
        other.startService()
    await stop(one, other)


def test_a_chat_is_not_shared_because_each_process_would_have_its_own() -> None:
    with pytest.raises(ConfigError) as refusal:
        Config(chat=["1"], reuse_port=True)
    assert str(refusal.value) == (
        "--reuse-port: each process would have a chat of its own; add --chat-store redis://HOST, which all processes "
        "share"
    )
