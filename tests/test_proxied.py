from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.limits.admission import Admission, Connections
from netsvc.limits.networks import Networks
from netsvc.net.counters import Counts
from netsvc.net.door import Door
from netsvc.net.proxy_protocol import ProxiedFactory
from netsvc.net.server_tls import ServerTLS
from tests.connections import TCPTransport, taken

PROXY = IPv4Address("TCP", "10.0.0.1", 5)
HEADER = b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 1314\r\n"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def proxied(clock: Clock, factory: Any, counts: Counts | None = None, timeout: float = 10.0) -> ProxiedFactory:
    return ProxiedFactory(factory, Networks(["10.0.0.0/8"]), clock, timeout, counts or Counts(clock))


def connect(factory: ProxiedFactory, address: IPv4Address = PROXY) -> tuple[Any, TCPTransport]:
    protocol = factory.buildProtocol(address)
    transport = TCPTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def lose(protocol: Any) -> None:
    protocol.connectionLost(Failure(ConnectionDone()))


def answering(clock: Clock) -> AcknowledgeFactory:
    return AcknowledgeFactory(clock, ReplyTemplate("{peer} said {message}"), "line")


@pytest.mark.parametrize("cut", range(len(HEADER) + 6))
def test_who_connected_to_the_proxy_counts_however_the_header_is_cut(clock: Clock, cut: int) -> None:
    protocol, transport = connect(proxied(clock, answering(clock)))
    stream = HEADER + b"hello\n"
    protocol.dataReceived(stream[:cut])
    protocol.dataReceived(stream[cut:])
    assert taken(transport) == b"192.0.2.1:40000 said hello\n"
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_a_header_from_anybody_else_is_data(clock: Clock) -> None:
    protocol, transport = connect(proxied(clock, EchoFactory(clock)), IPv4Address("TCP", "192.0.2.9", 5))
    protocol.dataReceived(HEADER)
    assert taken(transport) == HEADER
    lose(protocol)


def test_a_proxys_health_check_is_the_proxys_own_connection(clock: Clock) -> None:
    protocol, transport = connect(proxied(clock, EchoFactory(clock)))
    protocol.dataReceived(b"PROXY UNKNOWN\r\nping")
    assert taken(transport) == b"ping"
    assert protocol.getPeer() == transport.getPeer()
    lose(protocol)


def test_a_proxy_that_says_nothing_is_cut_at_the_deadline(clock: Clock) -> None:
    counts = Counts(clock)
    protocol, transport = connect(proxied(clock, EchoFactory(clock), counts))
    for _ in range(9):
        clock.advance(1)
        protocol.dataReceived(HEADER[:1] if _ == 0 else b"")
    assert not transport.aborted
    clock.advance(1)
    assert transport.aborted
    assert counts.refused == {"no PROXY header in time": 1}
    lose(protocol)


def test_what_is_no_header_is_cut_and_counted(clock: Clock) -> None:
    counts = Counts(clock)
    protocol, transport = connect(proxied(clock, EchoFactory(clock), counts))
    protocol.dataReceived(b"GET / HTTP/1.0\r\n")
    assert transport.aborted
    assert counts.refused == {"no PROXY header": 1}
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_the_limits_of_a_host_are_those_of_who_really_connected(clock: Clock) -> None:
    door = Door(clock, Admission(Connections(most_of_a_host=1), Networks(deny=["192.0.2.66"])))
    factory = proxied(clock, EchoFactory(clock, door=door))
    said = []
    connections = []
    for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.66"):
        protocol, transport = connect(factory)
        protocol.dataReceived(HEADER.replace(b"192.0.2.1", source.encode()) + b"x")
        said.append((taken(transport), transport.aborted))
        connections.append(protocol)
    assert said == [
        (b"x", False),
        (b"too many connections from one host\n", False),
        (b"x", False),
        (b"", True),
    ]
    for protocol in connections:
        lose(protocol)


def test_one_without_a_header_is_one_of_all_connections(clock: Clock) -> None:
    connections, counts = Connections(2), Counts(clock)
    door = Door(clock, Admission(connections))
    factory = ProxiedFactory(EchoFactory(clock, door=door), Networks(["10.0.0.0/8"]), clock, 10, counts, connections)
    first, _ = connect(factory)
    second, _ = connect(factory)
    assert factory.buildProtocol(PROXY) is None
    assert counts.refused == {"server full": 1}
    first.dataReceived(HEADER)
    assert len(connections) == 2
    for protocol in (first, second):
        lose(protocol)
    assert len(connections) == 0


def test_nobody_begins_when_the_port_is_closed(clock: Clock) -> None:
    factory = proxied(clock, EchoFactory(clock))
    factory.doStart()
    waiting, to_waiting = connect(factory)
    begun, to_begun = connect(factory)
    begun.dataReceived(HEADER)
    factory.doStop()
    assert to_waiting.aborted
    assert not to_begun.aborted  # which the drain ends
    for protocol in (waiting, begun):
        lose(protocol)
    assert not clock.getDelayedCalls()


def test_a_half_close_reaches_the_protocol(clock: Clock) -> None:
    protocol, transport = connect(proxied(clock, EchoFactory(clock)))
    protocol.dataReceived(HEADER + b"x")
    protocol.readConnectionLost()
    assert taken(transport) == b"x"
    assert transport.disconnecting
    lose(protocol)


def test_who_leaves_before_the_header_is_forgotten(clock: Clock) -> None:
    protocol, transport = connect(proxied(clock, EchoFactory(clock)))
    protocol.dataReceived(HEADER[:5])
    protocol.readConnectionLost()
    assert transport.disconnecting
    lose(protocol)
    assert not clock.getDelayedCalls()


@pytest.fixture
def secured(clock: Clock, tmp_path: Path) -> ProxiedFactory:
    """Answers over TLS, behind a proxy."""
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    return proxied(clock, ServerTLS(clock, str(pem)).wrap(answering(clock)))


def test_a_half_close_ends_tls(clock: Clock, secured: ProxiedFactory) -> None:
    protocol, transport = connect(secured)
    protocol.dataReceived(HEADER)
    protocol.readConnectionLost()
    assert transport.disconnecting
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_the_header_comes_before_tls(clock: Clock, secured: ProxiedFactory) -> None:
    protocol, transport = connect(secured)
    protocol.dataReceived(HEADER + b"\x16\x03\x01\x00\x05hello")
    assert taken(transport)[:1] == b"\x15"  # an alert of TLS
    assert protocol.wrappedProtocol.wrappedProtocol.peer == "192.0.2.1:40000"
    lose(protocol)
