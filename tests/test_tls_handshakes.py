from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.address import IPv4Address

from netsvc.echo.server import EchoFactory
from netsvc.net.server_tls import ServerTLS
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.tls_handshakes import HANDSHAKES_PER_ITERATION, HandshakeTurns
from tests.connections import IterationClock, TCPTransport, lose, terms


@pytest.fixture
def clock() -> IterationClock:
    return IterationClock()


class Step:
    """A handshake that keeps in a list when it takes its turn."""

    def __init__(self, host: str | None, name: str, taken: list[str], fails: bool = False) -> None:
        self.host = host
        self.has_begun = False
        self._name = name
        self._taken = taken
        self._fails = fails

    def take_turn(self) -> None:
        self.has_begun = True
        self._taken.append(self._name)
        if self._fails:
            raise ZeroDivisionError


class Steps:
    """Requests turns, and keeps the order in which they were given."""

    def __init__(self, clock: IterationClock, rate: float = 0) -> None:
        self.taken: list[str] = []
        self.turns = HandshakeTurns(clock, clock.seconds, rate)

    def request(self, host: str | None, name: str, *, fails: bool = False) -> bool:
        return self.turns.request(Step(host, name, self.taken, fails))


def test_a_handshake_that_has_no_others_before_it_proceeds_at_once(clock: IterationClock) -> None:
    steps = Steps(clock)
    assert steps.request("192.0.2.1", "a")
    assert steps.taken == ["a"]


def test_a_bounded_number_of_handshakes_proceeds_in_each_iteration(clock: IterationClock) -> None:
    steps = Steps(clock)
    for number in range(3 * HANDSHAKES_PER_ITERATION):
        steps.request("192.0.2.1", str(number))
    assert len(steps.taken) == HANDSHAKES_PER_ITERATION
    clock.iterate()
    assert len(steps.taken) == 2 * HANDSHAKES_PER_ITERATION
    clock.iterate()
    assert steps.taken == [str(number) for number in range(3 * HANDSHAKES_PER_ITERATION)]


def test_hosts_take_turns(clock: IterationClock) -> None:
    steps = Steps(clock)
    for number in range(100):
        steps.request("192.0.2.1", f"a{number}")
    steps.request("192.0.2.2", "b")
    steps.request(None, "a UNIX socket")
    clock.iterate()
    assert {"b", "a UNIX socket"} <= set(steps.taken)


def test_the_connections_of_one_ipv6_network_are_one_host(clock: IterationClock) -> None:
    steps = Steps(clock)
    for number in range(100):
        steps.request(f"2001:db8::{number:x}", f"a{number}")
    steps.request("2001:db8:0:1::1", "b")
    clock.iterate()
    assert "b" in steps.taken


def test_all_handshakes_together_have_a_rate(clock: IterationClock) -> None:
    steps = Steps(clock, rate=10)
    for number in range(100):
        steps.request(f"192.0.2.{number}", str(number))
    for _ in range(10):
        clock.advance(0)
    assert len(steps.taken) == 10  # the burst
    for _ in range(100):
        clock.advance(0.01)
    assert len(steps.taken) in (19, 20)


def test_a_step_that_fails_does_not_stop_the_others(clock: IterationClock) -> None:
    steps = Steps(clock)
    for _ in range(HANDSHAKES_PER_ITERATION):
        steps.request("192.0.2.1", "a")
    steps.request("192.0.2.1", "fails", fails=True)
    steps.request("192.0.2.1", "b")
    with pytest.raises(ZeroDivisionError):
        clock.iterate()
    clock.iterate()
    assert steps.taken[-1] == "b"


def test_only_the_first_step_of_a_handshake_counts_for_the_rate(clock: IterationClock) -> None:
    steps = Steps(clock, rate=1)
    handshake = Step("192.0.2.1", "a", steps.taken)
    for _ in range(3):
        assert steps.turns.request(handshake)
    assert not steps.request("192.0.2.2", "b")


def test_a_handshake_that_is_withdrawn_takes_neither_a_turn_nor_a_place(clock: IterationClock) -> None:
    steps = Steps(clock, rate=1)
    steps.request("192.0.2.1", "a")
    lost = [Step(f"192.0.2.{number}", "lost", steps.taken) for number in range(2, 100)]
    for handshake in lost:
        assert not steps.turns.request(handshake)
    steps.request("192.0.2.100", "b")
    for handshake in lost:
        steps.turns.withdraw(handshake)
        steps.turns.withdraw(handshake)
    clock.iterate(1.1)
    assert steps.taken == ["a", "b"]


def client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.fixture
def tls(clock: IterationClock, tmp_path: Path) -> ServerTLS:
    path = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return ServerTLS(clock, str(path))


def test_a_peer_is_not_read_from_until_its_turn_and_is_answered_then(clock: IterationClock, tls: ServerTLS) -> None:
    wrapped = tls.wrap(EchoFactory(terms(clock)))
    transports: list[tuple[Any, TCPTransport]] = []
    hello = client_hello()
    for number in range(HANDSHAKES_PER_ITERATION + 2):
        protocol: Any = wrapped.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000 + number))
        transport = TCPTransport()
        protocol.makeConnection(transport)
        protocol.dataReceived(hello[:100])
        protocol.dataReceived(hello[100:])
        transports.append((protocol, transport))
    (lost, _), (_, last) = transports[-2:]
    assert last.producerState == "paused"
    assert not last.value()
    lose(lost)
    for _ in range(10):
        clock.advance(0)
    assert last.producerState == "producing"
    assert all(transport.value() for protocol, transport in transports if protocol is not lost)


def test_a_client_hello_that_arrives_byte_by_byte_takes_one_turn(clock: IterationClock, tls: ServerTLS) -> None:
    protocol: Any = tls.wrap(EchoFactory(terms(clock))).buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000))
    transport = TCPTransport()
    protocol.makeConnection(transport)
    hello = client_hello()
    for byte in hello[:-1]:
        protocol.dataReceived(bytes([byte]))
    assert not protocol.has_begun
    protocol.dataReceived(hello[-1:])
    assert protocol.has_begun
    assert transport.value()


def test_bytes_that_are_no_tls_end_the_connection(clock: IterationClock, tls: ServerTLS) -> None:
    protocol: Any = tls.wrap(EchoFactory(terms(clock))).buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000))
    transport = TCPTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"GET / HTTP/1.0")
    assert transport.disconnecting


class Pausing(StreamProtocol):
    """Pauses as soon as it can be used."""

    def connection_ready(self) -> None:
        self.pause_reading()

    def received(self, data: bytes) -> None: ...


class PausingFactory(StreamFactory):
    def build_connection(self) -> Pausing:
        return Pausing()


def test_an_application_that_pauses_during_its_turn_stays_paused(clock: IterationClock, tls: ServerTLS) -> None:
    wrapped = tls.wrap(PausingFactory(terms(clock)))
    hello = client_hello()
    for number in range(HANDSHAKES_PER_ITERATION):  # so that the next one has to wait
        first: Any = wrapped.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000 + number))
        first.makeConnection(TCPTransport())
        first.dataReceived(hello)
    protocol: Any = wrapped.buildProtocol(IPv4Address("TCP", "192.0.2.1", 50_000))
    transport = TCPTransport()
    protocol.makeConnection(transport)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = context.wrap_bio(incoming, outgoing)
    for _ in range(3):
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        protocol.dataReceived(outgoing.read() or b"\x16")
        for _ in range(10):
            clock.iterate()
        incoming.write(transport.value())
        transport.clear()
    assert transport.producerState == "paused"
