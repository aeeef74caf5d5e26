from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from netsvc.chat.lines import ChatFactory
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.limits.admission import Admission
from netsvc.limits.cause import Cause
from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.limits.networks import NetworkRules
from netsvc.net.stream_factory import NOTICES_PER_ITERATION, RefusalProtocol, StreamFactory
from netsvc.net.stream_protocol import DISPLACED_LINGER, StreamProtocol
from netsvc.net.terms import Terms
from tests.connections import TCPTransport, attach, lose, terms
from tests.connections import connect as open_connection


@pytest.fixture
def clock() -> Clock:
    return Clock()


def factory(clock: Clock, *, maximum: int = 2, networks: NetworkRules | None = None) -> EchoFactory:
    return EchoFactory(terms(clock, Admission(ConnectionCounter(maximum), networks, connect_rate=0)))


def connect(echo: StreamFactory, host: str = "192.0.2.1") -> Protocol | None:
    protocol = echo.buildProtocol(IPv4Address("TCP", host, 40_000))
    if isinstance(protocol, StreamProtocol):
        attach(protocol)
    return protocol


def test_a_peer_is_told_that_the_server_is_full_and_closed(clock: Clock) -> None:
    echo = factory(clock)
    first, _ = connect(echo), connect(echo)
    refused = connect(echo)
    assert isinstance(refused, RefusalProtocol)
    transport = TCPTransport()
    refused.makeConnection(transport)
    assert transport.value() == b"server full\n"
    assert transport.disconnecting
    assert isinstance(first, StreamProtocol)
    lose(first)
    assert isinstance(connect(echo), StreamProtocol)


def test_a_refused_peer_is_not_counted_as_a_connection(clock: Clock) -> None:
    echo = factory(clock, maximum=1)
    first = connect(echo)
    for _ in range(5):
        connect(echo)
    assert isinstance(first, StreamProtocol)
    lose(first)
    lose(first)  # even if the transport reports it twice
    assert [isinstance(connect(echo), StreamProtocol) for _ in range(2)] == [True, False]


def test_only_some_peers_per_iteration_are_told_and_the_others_are_closed_at_once(clock: Clock) -> None:
    echo = factory(clock, maximum=1)
    connect(echo)
    answers = [connect(echo) for _ in range(NOTICES_PER_ITERATION + 10)]
    assert [answer is not None for answer in answers] == [True] * NOTICES_PER_ITERATION + [False] * 10
    clock.advance(0)
    assert connect(echo) is not None


def test_a_peer_that_is_not_allowed_is_closed_without_a_word(clock: Clock) -> None:
    echo = factory(clock, networks=NetworkRules(deny=["192.0.2.0/24"]))
    assert connect(echo, "192.0.2.1") is None
    assert isinstance(connect(echo, "192.0.3.1"), StreamProtocol)


def test_a_peer_on_a_unix_socket_counts_in_all_but_for_no_host(clock: Clock) -> None:
    echo = factory(clock, maximum=1, networks=NetworkRules(allow=["192.0.2.0/24"]))
    protocol = echo.buildProtocol(UNIXAddress(None))
    assert isinstance(protocol, StreamProtocol)
    protocol.makeConnection(StringTransport())
    assert isinstance(connect(echo), RefusalProtocol)
    lose(protocol)


def test_a_factory_on_default_terms_limits_the_connections_of_a_host(clock: Clock) -> None:
    echo = EchoFactory(Terms.on(clock))
    protocols = [connect(echo) for _ in range(65)]
    assert [isinstance(protocol, StreamProtocol) for protocol in protocols] == [True] * 64 + [False]


def full(clock: Clock, server: StreamFactory) -> tuple[StreamProtocol, TCPTransport]:
    """Fill a server with two connections of one host, and return one that is idle for longer than the other."""
    first, transport = open_connection(server)
    clock.advance(2)
    open_connection(server)
    return first, transport


def test_a_peer_that_is_displaced_is_told_and_closed_and_another_host_is_served(clock: Clock) -> None:
    echo = factory(clock)
    first, transport = full(clock, echo)
    newcomer = connect(echo, "198.51.100.1")
    assert isinstance(newcomer, StreamProtocol)
    assert transport.value() == b"the server is full, and another host gets the place\n"
    assert transport.disconnecting
    clock.advance(DISPLACED_LINGER)
    assert transport.aborted
    assert echo.terms.counters.disconnected[Cause.DISPLACED] == 1
    lose(first)
    assert len(echo.terms.admission.connections) == 2


def test_a_displaced_peer_that_does_not_read_is_aborted_at_once(clock: Clock) -> None:
    echo = factory(clock)
    _, transport = full(clock, echo)
    transport.reads = False
    assert isinstance(transport.producer, StreamProtocol)
    transport.producer.send(bytes(70_000))
    connect(echo, "198.51.100.1")
    assert transport.aborted


def test_a_chat_member_is_displaced_with_a_notice(clock: Clock) -> None:
    chat = ChatFactory(terms(clock, Admission(ConnectionCounter(2), connect_rate=0)))
    _, transport = full(clock, chat)
    connect(chat, "198.51.100.1")
    assert b"* the server is full, and another host gets the place\n" in transport.value()


def test_a_displaced_peer_of_acknowledgements_is_told_in_their_framing(clock: Clock) -> None:
    admission = Admission(ConnectionCounter(2), connect_rate=0)
    acknowledge = AcknowledgeFactory(terms(clock, admission), ReplyTemplate("{message}"), "line")
    _, transport = full(clock, acknowledge)
    connect(acknowledge, "198.51.100.1")
    assert transport.value() == b"the server is full, and another host gets the place\n"


@pytest.mark.parametrize("reads", [True, False])
def test_lines_of_a_displaced_peer_that_are_not_processed_are_counted(clock: Clock, reads: bool) -> None:
    chat = ChatFactory(terms(clock, Admission(ConnectionCounter(2), connect_rate=0)), burst=1)
    member, transport = full(clock, chat)
    member.dataReceived(b"hello\n" * 50)
    waiting = member.framing.waiting()  # type: ignore[attr-defined]  # of MessageProtocol
    if not reads:
        transport.reads = False
        member.send(bytes(70_000))
    assert waiting > 40
    connect(chat, "198.51.100.1")
    assert chat.terms.counters.dropped_lines == waiting
    lose(member)
    assert chat.terms.counters.dropped_lines == waiting
