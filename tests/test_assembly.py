from __future__ import annotations

import errno
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
from twisted.python.failure import Failure

from netsvc import Config, ConfigError, EchoClient, ListenError, ask_timestamp, netsvc_service
from netsvc.net.listening import Listener
from netsvc.testing import Host, Network

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
    """Collects what it receives, and tells when the connection is lost."""

    def __init__(self) -> None:
        self.data = b""
        self.first: Deferred[bytes] = Deferred()
        self.lost: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if not self.first.called:
            self.first.callback(data)

    def connectionLost(self, reason: object = None) -> None:
        self.lost.callback(self.data)


async def connected(port: int, protocol: Any) -> Any:
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
    return await connectProtocol(endpoint, protocol).addTimeout(SECONDS, reactor)


@pytest.mark.parametrize("lost", [0, 1])
@ensureDeferred
async def test_a_service_is_ready_while_every_port_is_open(lost: int) -> None:
    service = netsvc_service(reactor, Config(tcp=["127.0.0.1:0"], udp=["127.0.0.1:0"]))
    assert not service.is_ready()
    service.startService()
    assert service.is_ready()
    [port] = listeners(service)[lost].ports
    port.connectionLost(Failure(OSError(errno.EIO, "")))  # type: ignore[attr-defined]  # as the reactor does
    assert not service.is_ready()
    await service.stopService()
    service.startService()
    assert service.is_ready()
    await service.stopService()
    assert not service.is_ready()


def test_metrics_without_their_extra_are_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "netsvc.server.metrics", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError) as refusal:
        netsvc_service(reactor, Config(metrics="9100"))
    assert str(refusal.value) == (
        "--metrics 9100: prometheus_client is not installed; run pip install '.[metrics]' in netsvc's source folder"
    )


def test_a_target_without_its_extra_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("probe_service", "probe_run", "probe_record", "probe_statistics", "duration_histogram"):
        monkeypatch.delitem(sys.modules, f"netsvc.probe.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "hdrh.histogram", None)
    with pytest.raises(ConfigError) as refusal:
        netsvc_service(reactor, Config(probe=["host"]))
    assert str(refusal.value) == (
        "--probe host: hdrh.histogram is not installed; run pip install '.[probe]' in netsvc's source folder"
    )


def test_a_bare_metrics_port_is_opened_on_the_loopback_address(network: Network) -> None:
    service = netsvc_service(network.host("host").reactor, Config(metrics="9100"))
    service.startService()
    assert service.pages is not None
    assert service.pages.where() == "127.0.0.1:9100"


async def line_from(host: Host, port: int) -> bytes:
    """Connect from the host to itself, send ``x``, and return the first bytes that come back."""
    client = await connectProtocol(TCP4ClientEndpoint(host.reactor, "127.0.0.1", port), Collector())
    client.transport.write(b"x\n")
    first: bytes = await client.first
    return first


def test_each_listening_string_gets_the_service_of_its_flag(network: Network) -> None:
    host = network.host("host")
    config = Config(tcp=["127.0.0.1:1", "[::1]:1"], udp=["127.0.0.1:2"], chat=["127.0.0.1:3"], daytime=["4"])
    service = netsvc_service(host.reactor, config)
    service.startService()
    assert [listener.where() for listener in listeners(service)] == [
        *("127.0.0.1:1", "[::1]:1", "127.0.0.1:3", "127.0.0.1:2", "[::]:4")
    ]
    assert network.run(line_from(host, 1)) == b"x\n"
    assert network.run(line_from(host, 3)).startswith(b"* welcome")
    assert network.run(line_from(host, 4)).endswith(b"\r\n")
    assert network.run(ask_timestamp(host.reactor, "127.0.0.1", 2, b"x")).payload == b"x"
    assert [counters.service for counters in service.counters] == ["tcp", "chat", "udp", "daytime"]


def test_with_a_reply_template_messages_are_acknowledged(network: Network) -> None:
    host = network.host("host")
    netsvc_service(host.reactor, Config(tcp=["127.0.0.1:1"], reply="ok", framing="line")).startService()
    assert network.run(line_from(host, 1)) == b"ok\n"


def test_a_bad_listening_string_is_refused_before_a_port_is_opened(network: Network) -> None:
    host = network.host("host")
    with pytest.raises(ConfigError):
        netsvc_service(host.reactor, Config(tcp=["127.0.0.1:1"], udp=["nonsense"]))
    assert not host.reactor.getReaders()


@ensureDeferred
async def test_the_service_can_be_started_again_with_all_its_parts() -> None:
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
async def test_accepted_data_is_sent_when_the_service_stops() -> None:
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
async def test_if_one_part_cannot_start_no_port_is_left_open() -> None:
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
async def test_an_application_may_have_two_services() -> None:
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
async def test_after_a_stop_connections_are_refused() -> None:
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
