"""On a host with several addresses, as loopback is, an answer leaves from the one that was asked."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  real sockets
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import DatagramProtocol

from netsvc.net.datagram_protocol import ConnectedDatagramProtocol, listen_for
from netsvc.net.listening import Listener, datagram_listener
from netsvc.net.shared_ports import SharedPorts
from netsvc.net.udp_port import POSSIBLE, AnsweringPort
from netsvc.timestamp.server import TimestampProtocol, ask_timestamp
from tests.memory_reactor import MemoryReactor

SECONDS = 10

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="the system tells no address")


def serve(ports: Any, text: str, protocol: Any = None) -> tuple[Listener, int]:
    listener = datagram_listener(ports, "udp", text, protocol or (lambda: TimestampProtocol(reactor)), 1400)
    listener.startService()
    port: int = listener.addresses()[0].port  # type: ignore[attr-defined]
    return listener, port


@pytest.mark.parametrize("ports", [reactor, SharedPorts(reactor)], ids=["alone", "shared"])
@pytest.mark.parametrize("everywhere", ["0", "0.0.0.0:0"])
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.77"])
@ensureDeferred
async def test_an_answer_leaves_from_the_address_that_was_asked(ports: Any, everywhere: str, asked: str) -> None:
    # The client's socket is connected: the system drops what comes from another address.
    listener, port = serve(ports, everywhere)
    for payload in (b"one", b"two"):
        answer = await Deferred.fromCoroutine(ask_timestamp(reactor, asked, port, payload))
        assert answer.payload == payload
    await listener.stopService().addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_ipv6_is_answered_too() -> None:
    listener, port = serve(reactor, "0")
    answer = await Deferred.fromCoroutine(ask_timestamp(reactor, "::1", port, b"hello"))
    assert answer.payload == b"hello"
    await listener.stopService().addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_a_socket_of_systemds_answers_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as inherited:
        inherited.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        inherited.bind(("::", 0))
        monkeypatch.setenv("LISTEN_FDNAMES", ":".join([*["other"] * (inherited.fileno() - 3), "mine"]))
        listener, port = serve(reactor, "systemd:domain=INET6:name=mine")
        answer = await Deferred.fromCoroutine(ask_timestamp(reactor, "127.0.0.77", port, b"hello"))
        assert answer.payload == b"hello"
        await listener.stopService().addTimeout(SECONDS, reactor)


class Listening(ConnectedDatagramProtocol):
    """Keeps what comes from its peer."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.came: Deferred[bytes] = Deferred()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.came.callback(datagram)

    def closed(self, reason: Exception) -> None: ...


class Later(DatagramProtocol):
    """Answers when the datagram is over; and at once somebody else than who asked."""

    def __init__(self, other: tuple[str, int]) -> None:
        self._other = other

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        assert self.transport is not None
        self.transport.write(b"to another", self._other)
        reactor.callLater(0, self.transport.write, b"later", addr)


@ensureDeferred
async def test_what_is_no_answer_leaves_from_wherever() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(SECONDS)
        listener, port = serve(reactor, "0.0.0.0:0", lambda: Later(other.getsockname()))
        client = Listening("127.0.0.1", port)
        clients = listen_for(reactor, client, "127.0.0.1")
        client.transport.write(b"hello")
        assert await client.came.addTimeout(SECONDS, reactor) == b"later"
        assert other.recv(100) == b"to another"
        await maybeDeferred(clients.stopListening)
        await listener.stopService().addTimeout(SECONDS, reactor)


class Faulty(DatagramProtocol):
    """Fails at the first datagram, and echoes those after it."""

    failed = False

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if not self.failed:
            self.failed = True
            raise ValueError("a fault of its own")
        assert self.transport is not None
        self.transport.write(datagram, addr)


@pytest.mark.logs_failure("ValueError")
@ensureDeferred
async def test_a_protocol_that_fails_is_logged_and_the_port_goes_on() -> None:
    listener, port = serve(reactor, "0", Faulty)
    client = Listening("127.0.0.77", port)
    clients = listen_for(reactor, client, "127.0.0.1")
    client.transport.write(b"one")
    client.transport.write(b"two")
    assert await client.came.addTimeout(SECONDS, reactor) == b"two"
    await maybeDeferred(clients.stopListening)
    await listener.stopService().addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_one_address_needs_no_such_port_and_neither_does_a_simulated_one() -> None:
    listener, _ = serve(reactor, "127.0.0.1:0")
    assert not isinstance(listener._ports[0], AnsweringPort)
    await listener.stopService().addTimeout(SECONDS, reactor)
    memory, _ = serve(MemoryReactor(), "5200")
    assert not isinstance(memory._ports[0], AnsweringPort)
    memory.stopService()
