from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  real sockets
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from netsvc.errors import ConfigError, ListenError
from netsvc.net.datagram_protocol import DatagramService
from netsvc.net.listening import BACKLOG, Listener, datagram_listener, stream_listener
from netsvc.testing import Host, Network
from tests.programs import backlog_of

factory = Factory.forProtocol(Protocol)
factory.noisy = False


def service() -> DatagramService:
    return DatagramService(reactor)


@pytest.fixture
def host(network: Network) -> Host:
    return network.host("host", "10.0.0.1", "fd00::1")


def streams(host: Host, text: str) -> list[IAddress]:
    """Start a listener and return its addresses."""
    listener = stream_listener(host.reactor, "tcp", text, factory)
    listener.startService()
    return listener.addresses()


@pytest.mark.parametrize(
    ("text", "interface"),
    [("127.0.0.1:1314", "127.0.0.1"), ("[::1]:1314", "::1"), ("tcp:1314:interface=10.0.0.1", "10.0.0.1")],
)
def test_a_stream_service_listens_on_the_address_of_its_string(host: Host, text: str, interface: str) -> None:
    [address] = streams(host, text)
    assert (address.port, address.host) == (1314, interface)  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize(
    ("text", "longest"), [("tcp:0:interface=127.0.0.1", BACKLOG), ("tcp:0:backlog=7", 7), ("tcp:0:127.0.0.1:7", 7)]
)
@ensureDeferred
async def test_an_endpoint_has_a_long_backlog_unless_its_string_sets_one(text: str, longest: int) -> None:
    listener = stream_listener(reactor, "tcp", text, factory)
    listener.startService()
    assert backlog_of(listener.ports[0].socket) == longest  # type: ignore[attr-defined]
    await listener.stopService()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@ensureDeferred
async def test_a_bare_port_has_a_long_backlog() -> None:
    listener = stream_listener(reactor, "tcp", "0", factory)
    listener.startService()
    assert [backlog_of(port.socket) for port in listener.ports] == [BACKLOG]  # type: ignore[attr-defined]
    await listener.stopService()


def test_a_stream_service_listens_on_a_unix_socket(host: Host) -> None:
    [address] = streams(host, "unix:/run/netsvc.sock")
    assert "/run/netsvc.sock" in str(address)


@ensureDeferred
async def test_a_unix_socket_has_the_mode_of_its_string(tmp_path: Path) -> None:
    listener = stream_listener(reactor, "tcp", f"unix:{tmp_path}/socket:mode=660", factory)
    listener.startService()
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o660
    await stopped(listener)


@pytest.mark.parametrize("text", ["5200", "udp:5200", "0.0.0.0:5200", r"udp:5200:interface=\:\:"])
def test_a_datagram_service_listens_on_the_port_of_its_string(host: Host, text: str) -> None:
    listener = datagram_listener(host.reactor, "udp", text, service, 1400)
    listener.startService()
    assert {address.port for address in listener.addresses()} == {5200}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("80000", "there is no port 80000"),
        ("word", "not a port number"),
        ("", "not a port number"),
        ("256.1.1.1:80", "neither an IP address nor a kind of endpoint"),
        ("localhost:80", "neither an IP address nor a kind of endpoint"),
        ("nosuch:80", "'nosuch' is neither an IP address"),
        ("tcp:word", "invalid literal"),
        ("tcp:80:nosuch=1", "nosuch"),
        ("ssl:80:privateKey=/no/such.pem", "cannot read '/no/such.pem': no such file"),
        ("tls:/no/such/directory:80", "no file /no/such/directory/*.pem"),
        ("systemd:domain=INET6:name=nosuch", "systemd passed no such socket"),
        ("unix:", "the path is missing"),
        ("haproxy:tcp:1314", "use --proxy-from"),
        ("systemd:domain=INET6:index=5", "systemd passed no such socket"),
    ],
)
def test_a_text_that_is_no_listening_string_is_refused_before_a_port_is_opened(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        stream_listener(reactor, "tcp", text, factory)
    assert problem in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_key_file_without_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("not a key")
    with pytest.raises(ConfigError, match="OpenSSL cannot use the key or certificate; name PEM files"):
        stream_listener(reactor, "tcp", f"ssl:80:privateKey={tmp_path}/key.pem", factory)


@pytest.mark.parametrize(
    "text",
    [
        "80000",
        "word",
        "localhost:80",
        "tcp:80",
        "udp:80000",
        "udp:word",
        "udp:80:interface=nosuch",
        "udp:80:mode=1",
        "systemd:nosuch",
        "systemd:domain=INET:name=x",
        "systemd:domain=INET:index=9",
    ],
)
def test_a_text_that_is_no_datagram_listening_string_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        datagram_listener(reactor, "udp", text, service)


@pytest.fixture
def taken() -> Iterator[int]:
    """A TCP and UDP port of 127.0.0.1 that another program uses."""
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        stream.bind(("127.0.0.1", 0))
        stream.listen()
        port = stream.getsockname()[1]
        datagram.bind(("127.0.0.1", port))
        yield port


async def stopped(listener: Listener) -> None:
    await listener.stopService().addTimeout(5, reactor)


@ensureDeferred
async def test_a_port_that_is_in_use_is_refused_with_reason_and_remedy(taken: int) -> None:
    for listener in (
        stream_listener(reactor, "tcp", f"127.0.0.1:{taken}", factory),
        datagram_listener(reactor, "udp", f"127.0.0.1:{taken}", service),
    ):
        with pytest.raises(ListenError) as refusal:
            listener.startService()
        assert "already in use; stop the program that uses it" in str(refusal.value)
        assert listener.addresses() == []
        await stopped(listener)


@ensureDeferred
async def test_an_address_of_another_host_is_refused() -> None:
    listener = stream_listener(reactor, "tcp", "203.0.113.1:0", factory)
    with pytest.raises(ListenError, match="this host has no such address; netsvc lookup"):
        listener.startService()
    await stopped(listener)


@ensureDeferred
async def test_a_port_number_that_the_system_refuses_is_refused() -> None:
    listener = stream_listener(reactor, "tcp", "tcp:80000", factory)
    with pytest.raises(ListenError, match="port must be 0-65535"):
        listener.startService()
    await stopped(listener)


@ensureDeferred
async def test_a_unix_socket_in_a_missing_directory_is_refused() -> None:
    listener = stream_listener(reactor, "tcp", "unix:/no/such/socket", factory)
    with pytest.raises(ListenError, match="no such file"):
        listener.startService()
    await stopped(listener)


@ensureDeferred
async def test_a_unix_socket_that_is_in_use_is_refused(tmp_path: Path) -> None:
    listeners = [stream_listener(reactor, "tcp", f"unix:{tmp_path}/socket", factory) for _ in range(2)]
    listeners[0].startService()
    with pytest.raises(ListenError, match="already in use; choose a path"):
        listeners[1].startService()
    for listener in listeners:
        await stopped(listener)


class Refusing:
    """The real reactor, except that opening a TCP port fails."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def listenTCP(self, *args: object, **kwargs: object) -> Any:
        raise self._failure


def test_a_reserved_port_is_refused_with_the_remedies() -> None:
    listener = stream_listener(Refusing(PermissionError(13, "Permission denied")), "tcp", "127.0.0.1:520", factory)
    with pytest.raises(ListenError) as refusal:
        listener.startService()
    for way in ("above 1023", "systemd", "twistd --uid", "CAP_NET_BIND_SERVICE"):
        assert way in str(refusal.value)


def test_a_fault_of_our_own_is_not_reported_as_a_refusal() -> None:
    with pytest.raises(ZeroDivisionError):
        stream_listener(Refusing(ZeroDivisionError()), "tcp", "127.0.0.1:1314", factory).startService()


@ensureDeferred
async def test_a_listener_can_be_started_again_after_a_stop() -> None:
    for listener in (
        stream_listener(reactor, "tcp", "127.0.0.1:0", factory),
        datagram_listener(reactor, "udp", "127.0.0.1:0", service),
    ):
        for _ in range(3):
            listener.startService()
            assert listener.where().startswith("127.0.0.1:")
            await stopped(listener)
            assert listener.addresses() == []


@ensureDeferred
async def test_the_privileged_start_opens_the_port_and_the_start_does_not_open_it_again() -> None:
    listener = stream_listener(reactor, "tcp", "127.0.0.1:0", factory)
    listener.privilegedStartService()
    [before] = listener.addresses()
    listener.startService()
    assert listener.addresses() == [before]
    await stopped(listener)


class Slow:
    """An endpoint that opens its port later."""

    def __init__(self) -> None:
        self.opening: Deferred[object] = Deferred()

    def listen(self, factory: object) -> Deferred[object]:
        return self.opening


@pytest.mark.logs_failure("CannotListenError")
def test_the_failure_of_a_slow_endpoint_is_logged() -> None:
    slow = Slow()
    listener = Listener("tcp", "slow", [lambda: slow.listen(None)])  # type: ignore[list-item,return-value]
    listener.startService()
    slow.opening.errback(CannotListenError("", 1, OSError(98, "in use")))
    assert listener.addresses() == []


def test_a_slow_endpoint_is_cancelled_at_the_stop() -> None:
    slow = Slow()
    listener = Listener("tcp", "slow", [lambda: slow.listen(None)])  # type: ignore[list-item,return-value]
    listener.startService()
    assert listener.stopService().called
    assert slow.opening.called


def hosts(*addresses: str) -> tuple[Network, Host, Host]:
    """Return a network with a server that has these addresses, and a client that has an IPv4 and an IPv6 address."""
    network = Network()
    return network, network.host("server", *addresses), network.host("client")


@pytest.mark.parametrize(
    ("addresses", "bound"), [((), ["::"]), (("10.9.9.9",), ["0.0.0.0"]), (("10.9.9.9", "fd00::99"), ["::"])]
)
def test_a_bare_port_is_every_address_of_the_host(addresses: tuple[str, ...], bound: list[str]) -> None:
    network, server, client = hosts(*addresses)
    for listener in (
        stream_listener(server.reactor, "tcp", "1314", factory),
        datagram_listener(server.reactor, "udp", "1314", service),
    ):
        listener.startService()
        assert [at.host for at in listener.addresses()] == bound  # type: ignore[attr-defined]
    for address in server.addresses:
        endpoint = HostnameEndpoint(client.reactor, address, 1314)
        network.run(connectProtocol(endpoint, Protocol()))
