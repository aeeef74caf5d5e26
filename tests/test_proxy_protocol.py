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
from netsvc.limits.admission import Admission
from netsvc.limits.cause import Cause
from netsvc.limits.connection_counter import UNKNOWN_MAX, ConnectionCounter
from netsvc.limits.networks import NetworkRules
from netsvc.net.proxy_protocol import ProxyProtocolFactory
from netsvc.net.server_tls import ServerTLS
from netsvc.net.terms import Terms
from tests.connections import TCPTransport, taken, terms

PROXY = IPv4Address("TCP", "10.0.0.1", 5)
HEADER = b"PROXY TCP4 192.0.2.1 10.0.0.1 40000 1314\r\n"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def proxied(factory: Any, service: Terms) -> ProxyProtocolFactory:
    return ProxyProtocolFactory(factory, NetworkRules(["10.0.0.0/8"]), service)


def proxied_echo(clock: Clock, admission: Admission | None = None) -> ProxyProtocolFactory:
    service = terms(clock, admission)
    return proxied(EchoFactory(service), service)


def connect(factory: ProxyProtocolFactory, address: IPv4Address = PROXY) -> tuple[Any, TCPTransport]:
    protocol = factory.buildProtocol(address)
    transport = TCPTransport()
    protocol.makeConnection(transport)
    return protocol, transport


def lose(protocol: Any) -> None:
    protocol.connectionLost(Failure(ConnectionDone()))


def answering(clock: Clock) -> AcknowledgeFactory:
    return AcknowledgeFactory(terms(clock), ReplyTemplate("{peer} said {message}"), "line")


@pytest.mark.parametrize("split", range(len(HEADER) + 6))
def test_the_address_in_the_header_is_the_peers_however_the_header_is_split(clock: Clock, split: int) -> None:
    protocol, transport = connect(proxied(answering(clock), terms(clock)))
    stream = HEADER + b"hello\n"
    protocol.dataReceived(stream[:split])
    protocol.dataReceived(stream[split:])
    assert taken(transport) == b"192.0.2.1:40000 said hello\n"
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_a_header_from_another_address_is_data(clock: Clock) -> None:
    protocol, transport = connect(proxied_echo(clock), IPv4Address("TCP", "192.0.2.9", 5))
    protocol.dataReceived(HEADER)
    assert taken(transport) == HEADER
    lose(protocol)


def test_a_health_check_of_a_proxy_has_the_address_of_the_proxy(clock: Clock) -> None:
    protocol, transport = connect(proxied_echo(clock))
    protocol.dataReceived(b"PROXY UNKNOWN\r\nping")
    assert taken(transport) == b"ping"
    assert protocol.getPeer() == transport.getPeer()
    lose(protocol)


def test_a_proxy_that_sends_no_header_is_disconnected_at_the_deadline(clock: Clock) -> None:
    factory = proxied_echo(clock)
    protocol, transport = connect(factory)
    for _ in range(9):
        clock.advance(1)
        protocol.dataReceived(HEADER[:1] if _ == 0 else b"")
    assert not transport.aborted
    clock.advance(1)
    assert transport.aborted
    assert factory.terms.counters.refused == {Cause.PROXY_HEADER_TIMEOUT: 1}
    lose(protocol)


def test_bytes_that_are_no_header_are_refused_and_counted(clock: Clock) -> None:
    factory = proxied_echo(clock)
    protocol, transport = connect(factory)
    protocol.dataReceived(b"GET / HTTP/1.0\r\n")
    assert transport.aborted
    assert factory.terms.counters.refused == {Cause.PROXY_HEADER_INVALID: 1}
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_the_limits_of_a_host_apply_to_the_address_in_the_header(clock: Clock) -> None:
    rules = NetworkRules(deny=["192.0.2.66"])
    factory = proxied_echo(clock, Admission(ConnectionCounter(max_per_host=1), rules))
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


def test_a_connection_without_a_header_yet_counts_as_a_connection(clock: Clock) -> None:
    connections = ConnectionCounter(2)
    factory = proxied_echo(clock, Admission(connections))
    first, _ = connect(factory)
    others = [connect(factory)[0] for _ in range(UNKNOWN_MAX - 1)]
    assert factory.buildProtocol(PROXY) is None
    assert factory.terms.counters.refused == {Cause.SERVER_FULL: 1}
    assert len(connections) == UNKNOWN_MAX
    for protocol in (first, *others):
        lose(protocol)
    assert len(connections) == 0


def test_a_connection_without_a_header_is_aborted_when_the_port_is_closed(clock: Clock) -> None:
    factory = proxied_echo(clock)
    factory.doStart()
    waiting, to_waiting = connect(factory)
    with_header, to_with_header = connect(factory)
    with_header.dataReceived(HEADER)
    factory.doStop()
    assert to_waiting.aborted
    assert not to_with_header.aborted  # the drain ends it
    for protocol in (waiting, with_header):
        lose(protocol)
    assert not clock.getDelayedCalls()


def test_a_half_close_reaches_the_protocol(clock: Clock) -> None:
    protocol, transport = connect(proxied_echo(clock))
    protocol.dataReceived(HEADER + b"x")
    protocol.readConnectionLost()
    assert taken(transport) == b"x"
    assert transport.disconnecting
    lose(protocol)


def test_a_peer_that_closes_before_its_header_leaves_nothing_behind(clock: Clock) -> None:
    protocol, transport = connect(proxied_echo(clock))
    protocol.dataReceived(HEADER[:5])
    protocol.readConnectionLost()
    assert transport.disconnecting
    lose(protocol)
    assert not clock.getDelayedCalls()


@pytest.fixture
def secured(clock: Clock, tmp_path: Path) -> ProxyProtocolFactory:
    """Answers over TLS, behind a proxy."""
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    return proxied(ServerTLS(clock, str(pem)).wrap(answering(clock)), terms(clock))


def test_a_half_close_ends_tls(clock: Clock, secured: ProxyProtocolFactory) -> None:
    protocol, transport = connect(secured)
    protocol.dataReceived(HEADER)
    protocol.readConnectionLost()
    assert transport.disconnecting
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_the_header_is_read_before_tls(clock: Clock, secured: ProxyProtocolFactory) -> None:
    protocol, transport = connect(secured)
    protocol.dataReceived(HEADER + b"\x16\x03\x01\x00\x05hello")
    assert taken(transport)[:1] == b"\x15"  # an alert of TLS
    assert protocol.wrappedProtocol.wrappedProtocol.peer == "192.0.2.1:40000"
    lose(protocol)
