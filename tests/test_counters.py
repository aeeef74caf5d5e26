from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from netsvc.chat.chat_limits import ROOMS_MAX
from netsvc.chat.lines import ChatFactory
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.net.counters import Counters
from netsvc.net.proxy_protocol import ProxyProtocolFactory
from netsvc.net.stream_factory import IDLE_CHECK_INTERVAL, StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.timestamp.server import TimestampProtocol
from netsvc.wire.datagram import Datagram
from tests.connections import attach, connect, lose, terms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Collect the lines that are logged during the test."""
    logged: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        logged.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield logged
    globalLogPublisher.removeObserver(observe)


def test_every_event_is_counted_but_a_cause_is_logged_once_per_second(clock: Clock, lines: list[str]) -> None:
    counters = Counters(clock.seconds, "tcp")
    for _ in range(1000):
        counters.refuse(Cause.SERVER_FULL, "192.0.2.1")
        counters.disconnect(Cause.IDLE_TIMEOUT, "192.0.2.2:40000")
        clock.advance(0.01)
    assert counters.refused == {Cause.SERVER_FULL: 1000}
    assert counters.disconnected == {Cause.IDLE_TIMEOUT: 1000}
    assert len(lines) in range(20, 23)
    assert lines[:3] == [
        "tcp: refused 192.0.2.1: server full",
        "tcp: disconnected 192.0.2.2:40000: idle for too long",
        "tcp: refused 192.0.2.1: server full (99 more since the last line)",
    ]


def test_no_input_of_a_peer_is_logged(clock: Clock, lines: list[str]) -> None:
    hostile = b"\n2026-11-21 forged line\r\x1b[31m\xff"
    chat = ChatFactory(terms(clock))
    for factory in (chat, AcknowledgeFactory(terms(clock), ReplyTemplate("ok"), "line"), EchoFactory(terms(clock))):
        protocol, _ = connect(factory)
        for prefix in (b"", b"/nick ", b"/join ", b"/msg ", b"/", b"x" * 2000):
            protocol.dataReceived(prefix + hostile + b"\n")
        clock.advance(1000)
        lose(protocol)
    proxied = ProxyProtocolFactory(EchoFactory(terms(clock)), NetworkRules(), terms(clock))
    for header in (hostile, b"PROXY TCP6 fe80::1%\n-forged- ::1 1 1\r\n", b"PROXY " + hostile + b"\r\n"):
        protocol = proxied.buildProtocol(IPv4Address("TCP", "10.0.0.1", 5))
        transport = attach(protocol)
        protocol.dataReceived(header)
        assert transport.aborted
        lose(protocol)
    datagrams = TimestampProtocol(terms(clock))
    datagrams.batch_received([Datagram(hostile, ("192.0.2.1", 7))])
    assert len(lines) == 6
    assert not [line for line in lines if "forged" in line or not line.isprintable()]


def test_refusals_of_a_member_are_counted_by_cause(clock: Clock) -> None:
    factory = ChatFactory(terms(clock), rate=0)
    ann, _ = connect(factory)
    bob, _ = connect(factory)
    ann.dataReceived(b"/nick ann\n")
    for line in (b"/nick ANN", b"/nick admin", b"/nick " + b"x" * 25, b"/nosuch", b"\xff", b"x" * 1_100):
        bob.dataReceived(line + b"\n")
    for number in range(ROOMS_MAX):
        peer, _ = connect(factory, f"198.51.100.{number % 200}")
        peer.dataReceived(b"/join #r%d\n" % number)
    assert factory.terms.counters.refused == {
        Cause.NICK_TAKEN: 1,
        Cause.INVALID_MESSAGE: 4,
        Cause.LINE_TOO_LONG: 1,
        Cause.TOO_MANY_ROOMS: 1,
    }
    for protocol in tuple(factory.connections):
        lose(protocol)


def test_the_echo_counts_bytes_and_connections(clock: Clock) -> None:
    factory = EchoFactory(terms(clock))
    protocol, _ = connect(factory)
    protocol.dataReceived(b"hello")
    protocol.dataReceived(b"you")
    counters = factory.terms.counters
    assert (counters.received_bytes, counters.sent_bytes, counters.replies) == (8, 8, 2)
    assert (counters.opened, counters.closed) == (1, 0)
    lose(protocol)
    assert (counters.opened, counters.closed) == (1, 1)


def test_an_acknowledgement_counts_its_own_bytes(clock: Clock) -> None:
    factory = AcknowledgeFactory(terms(clock), ReplyTemplate("ok"))
    protocol, _ = connect(factory)
    protocol.dataReceived(b"hello")
    counters = factory.terms.counters
    assert (counters.received_bytes, counters.sent_bytes, counters.replies) == (5, 2, 1)
    lose(protocol)


def test_a_chat_line_counts_once_for_each_receiving_member(clock: Clock) -> None:
    factory = ChatFactory(terms(clock))
    members = [connect(factory)[0] for _ in range(3)]
    clock.advance(IDLE_CHECK_INTERVAL)  # by now, those who joined are announced
    before = factory.terms.counters.replies
    members[0].dataReceived(b"hello\n")
    assert factory.terms.counters.replies - before == 2
    assert factory.terms.counters.received_bytes == 6
    for member in members:
        lose(member)


def stalled(factory: StreamFactory) -> StreamProtocol:
    """Connect a peer that does not read, and queue 100,000 bytes for it."""
    protocol, _ = connect(factory)
    protocol.pauseProducing()  # as the transport does when 64 KiB are queued
    protocol.send(bytes(100_000))
    return protocol


def test_a_disconnect_is_counted_by_cause_with_the_dropped_bytes(clock: Clock) -> None:
    factory = EchoFactory(terms(clock, stall_timeout=10))
    protocol = stalled(factory)
    assert factory.terms.counters.stalls == 1
    clock.advance(10)
    lose(protocol)
    assert factory.terms.counters.disconnected == {Cause.STALL_TIMEOUT: 1}
    assert factory.terms.counters.dropped_bytes == 100_000


def test_a_disconnect_for_a_full_send_queue_is_counted(clock: Clock) -> None:
    factory = EchoFactory(terms(clock, queue_max=65_536))
    protocol = stalled(factory)
    clock.advance(0.5)
    protocol.send(b"x")
    lose(protocol)
    assert factory.terms.counters.disconnected == {Cause.SEND_QUEUE_FULL: 1}


def test_a_connection_that_is_still_open_at_the_end_of_the_drain_is_counted(clock: Clock) -> None:
    factory = EchoFactory(terms(clock))
    protocol = stalled(factory)
    factory.drain(1)
    clock.advance(1)
    lose(protocol)
    clock.advance(0)
    assert factory.terms.counters.disconnected == {Cause.DRAIN_TIMEOUT: 1}


def test_a_graceful_close_is_not_counted_as_a_disconnect(clock: Clock) -> None:
    factory = EchoFactory(terms(clock))
    protocol, _ = connect(factory)
    protocol.dataReceived(b"x")
    lose(protocol)
    assert not factory.terms.counters.disconnected
    assert factory.terms.counters.dropped_bytes == 0


def test_the_summary_is_one_line(clock: Clock) -> None:
    counters = Counters(clock.seconds)
    counters.opened, counters.received_bytes, counters.replies = 1_234, 5_678_901, 3
    counters.refuse(Cause.SERVER_FULL, "192.0.2.1")
    assert counters.summary() == (
        "connections: 1,234 open, 1,234 in all; bytes: 5,678,901 received, 0 sent, 0 dropped; "
        "replies: 3; stalls: 0; "
        "refused: 1 server_full"
    )
