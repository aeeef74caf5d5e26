from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.application.service import Application, IService, MultiService
from twisted.internet import reactor  # noqa: TID251  real sockets
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import CannotListenError, ConnectionRefusedError  # noqa: A004
from twisted.internet.protocol import Protocol

from netsvc import ChatFactory, Config, ConfigError, EchoClient, ListenError, ask_timestamp, netsvc_service
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.net.listening import Listener
from tests.memory_reactor import MemoryReactor

SECONDS = 10


def listeners(service: MultiService) -> list[Listener]:
    found: list[Listener] = []
    for child in service:
        found += [child] if isinstance(child, Listener) else listeners(child)
    return found


def port_of(service: MultiService, number: int) -> int:
    [address] = listeners(service)[number].addresses()
    port: int = address.port  # type: ignore[attr-defined]
    return port


class Collector(Protocol):
    """Collects what comes, and says when the connection is over."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(self.data)


async def connected(port: int, protocol: Any) -> Any:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    return await connectProtocol(endpoint, protocol).addTimeout(SECONDS, reactor)


def test_metrics_without_their_package_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "netsvc.server.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError) as refusal:
        netsvc_service(MemoryReactor(), Config(metrics="9100"))
    assert str(refusal.value) == "metrics 9100: prometheus_client is not installed; pip install 'netsvc[metrics]'"


def test_metrics_on_a_bare_port_are_for_this_host_alone() -> None:
    memory = MemoryReactor()
    service = netsvc_service(memory, Config(metrics="9100"))
    service.startService()
    assert next((port, interface) for port, _, _, interface in memory.tcpServers) == (9100, "127.0.0.1")
    service.stopService()


def test_each_string_becomes_a_listener_with_the_factory_of_its_flag() -> None:
    memory = MemoryReactor()
    config = Config(tcp=["127.0.0.1:1", "[::1]:1"], udp=["127.0.0.1:2"], chat=["127.0.0.1:3"])
    netsvc_service(memory, config).startService()
    factories = {(interface, port): type(factory) for port, factory, _, interface in memory.tcpServers}
    assert factories == {("127.0.0.1", 1): EchoFactory, ("::1", 1): EchoFactory, ("127.0.0.1", 3): ChatFactory}
    assert list(memory.udp_ports) == [2]


def test_a_reply_makes_echo_an_acknowledgement() -> None:
    memory = MemoryReactor()
    netsvc_service(memory, Config(tcp=["127.0.0.1:1"], reply="ok", framing="line")).startService()
    assert isinstance(memory.tcpServers[0][1], AcknowledgeFactory)


def test_nonsense_is_refused_before_anything_listens() -> None:
    memory = MemoryReactor()
    with pytest.raises(ConfigError):
        netsvc_service(memory, Config(tcp=["127.0.0.1:1"], udp=["nonsense"]))
    assert not memory.tcpServers


@ensureDeferred
async def test_it_starts_stops_and_starts_again_with_every_part_back() -> None:
    where = "127.0.0.1:0"
    service = netsvc_service(reactor, Config(tcp=[where], udp=[where], chat=[where]))
    for _ in range(3):
        service.startService()
        echo = await connected(port_of(service, 0), EchoClient(reactor))
        assert (await echo.ask(b"hello").addTimeout(SECONDS, reactor)).data == b"hello"
        chat = await connected(port_of(service, 1), Collector())
        chat.transport.write(b"/quit\n")
        assert (await chat.lost.addTimeout(SECONDS, reactor)).endswith(b"* bye\n")
        assert (await ask_timestamp(reactor, "127.0.0.1", port_of(service, 2), b"x")).payload == b"x"
        echo.transport.loseConnection()
        await service.stopService().addTimeout(SECONDS, reactor)
        assert not any(listener.addresses() for listener in listeners(service))


@ensureDeferred
async def test_what_was_accepted_is_flushed_when_it_stops() -> None:
    service = netsvc_service(reactor, Config(tcp=["127.0.0.1:0"], chat=["127.0.0.1:0"]))
    service.startService()
    chat = await connected(port_of(service, 1), Collector())
    echo = await connected(port_of(service, 0), Collector())
    sent = b"x" * 1_000_000
    echo.transport.write(sent)
    while len(echo.data) < 100_000:
        await pause()
    await service.stopService().addTimeout(SECONDS, reactor)
    got = await echo.lost.addTimeout(SECONDS, reactor)
    assert len(got) >= 100_000
    assert sent.startswith(got)
    assert (await chat.lost.addTimeout(SECONDS, reactor)).endswith(b"* the server stops; bye\n")


async def pause() -> None:
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    await turn


@ensureDeferred
async def test_a_part_that_cannot_start_leaves_nothing_listening() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        service = netsvc_service(reactor, Config(tcp=["127.0.0.1:0", f"127.0.0.1:{taken}"], udp=["127.0.0.1:0"]))
        for start in (service.startService, service.privilegedStartService):
            with pytest.raises(ListenError) as refusal:
                start()
            assert isinstance(refusal.value.__cause__, CannotListenError)
            await pause()
            assert not any(listener.addresses() for listener in listeners(service))
        await service.stopService().addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_two_of_them_fit_in_one_application() -> None:
    application = Application("two")
    services = [netsvc_service(reactor, Config(tcp=["127.0.0.1:0"])) for _ in range(2)]
    for service in services:
        service.setServiceParent(application)
    IService(application).privilegedStartService()
    IService(application).startService()
    for service in services:
        echo = await connected(port_of(service, 0), EchoClient(reactor))
        assert (await echo.ask(b"hello").addTimeout(SECONDS, reactor)).data == b"hello"
        echo.transport.loseConnection()
    await IService(application).stopService().addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_after_a_stop_nobody_is_let_in() -> None:
    service = netsvc_service(reactor, Config(tcp=["127.0.0.1:0"]))
    service.startService()
    port = port_of(service, 0)
    await service.stopService().addTimeout(SECONDS, reactor)
    with pytest.raises(ConnectionRefusedError):
        await connected(port, Collector())


@ensureDeferred
async def test_the_whole_echo_arrives_after_a_half_close() -> None:
    service = netsvc_service(reactor, Config(tcp=["127.0.0.1:0"]))
    service.startService()
    client = await connected(port_of(service, 0), Collector())
    client.transport.write(b"x" * 3_000_000)
    client.transport.loseWriteConnection()
    assert len(await client.lost.addTimeout(SECONDS, reactor)) == 3_000_000
    await service.stopService().addTimeout(SECONDS, reactor)
