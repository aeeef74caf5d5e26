from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer

from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.chat.room import ROOMS_MAX, Room
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.limits.networks import Networks
from netsvc.net.counters import Counts
from netsvc.net.proxy_protocol import ProxiedFactory
from netsvc.net.stream_protocol import Limits, StreamFactory, StreamProtocol
from netsvc.timestamp.server import TimestampProtocol
from tests.connections import attach, connect, lose


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged meanwhile."""
    logged: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        logged.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield logged
    globalLogPublisher.removeObserver(observe)


def test_a_cause_is_logged_once_a_second_and_counted_always(clock: Clock, lines: list[str]) -> None:
    counts = Counts(clock, "tcp")
    for _ in range(1000):
        counts.refuse("server full", "192.0.2.1")
        counts.cut_off("said nothing for too long", "192.0.2.2:40000")
        clock.advance(0.01)
    assert counts.refused == {"server full": 1000}
    assert counts.cut == {"said nothing for too long": 1000}
    assert len(lines) in range(20, 23)
    assert lines[:3] == [
        "tcp: refused 192.0.2.1: server full",
        "tcp: cut 192.0.2.2:40000: said nothing for too long",
        "tcp: refused 192.0.2.1: server full, and 99 more before",
    ]


def test_nothing_that_a_peer_says_reaches_the_log(clock: Clock, lines: list[str]) -> None:
    says = b"\n2026-11-21 forged line\r\x1b[31m\xff"
    chat = ChatFactory(Room[ChatProtocol](), clock)
    for factory in (chat, AcknowledgeFactory(clock, ReplyTemplate("ok"), "line"), EchoFactory(clock)):
        protocol, _ = connect(factory)
        for prefix in (b"", b"/nick ", b"/join ", b"/msg ", b"/", b"x" * 2000):
            protocol.dataReceived(prefix + says + b"\n")
        clock.advance(1000)
        lose(protocol)
    proxied = ProxiedFactory(EchoFactory(clock), Networks(), clock, 10, Counts(clock))
    for header in (says, b"PROXY TCP6 fe80::1%\n-forged- ::1 1 1\r\n", b"PROXY " + says + b"\r\n"):
        protocol = proxied.buildProtocol(IPv4Address("TCP", "10.0.0.1", 5))
        transport = attach(protocol)
        protocol.dataReceived(header)
        assert transport.aborted
        lose(protocol)
    datagrams = TimestampProtocol(clock)
    datagrams.received(says, "192.0.2.1", 7)
    assert len(lines) == 10
    assert not [line for line in lines if "forged" in line or not line.isprintable()]


def test_what_a_member_is_refused_is_counted_by_its_cause(clock: Clock) -> None:
    factory = ChatFactory(Room[ChatProtocol](), clock, rate=0)
    ann, _ = connect(factory)
    bob, _ = connect(factory)
    ann.dataReceived(b"/nick ann\n")
    for line in (b"/nick ANN", b"/nick admin", b"/nick " + b"x" * 25, b"/nosuch", b"\xff", b"x" * 1_100):
        bob.dataReceived(line + b"\n")
    for number in range(ROOMS_MAX):
        peer, _ = connect(factory)
        peer.dataReceived(b"/join #r%d\n" % number)
    assert factory.counts.refused == {"nick taken": 1, "not a message": 4, "line too long": 1, "too many rooms": 1}
    for protocol in tuple(factory.connections):
        lose(protocol)


def test_an_echo_counts_bytes_and_connections(clock: Clock) -> None:
    factory = EchoFactory(clock)
    protocol, _ = connect(factory)
    protocol.dataReceived(b"hello")
    protocol.dataReceived(b"you")
    counts = factory.counts
    assert (counts.received_bytes, counts.sent_bytes, counts.replies) == (8, 8, 2)
    assert (counts.opened, counts.closed) == (1, 0)
    lose(protocol)
    assert (counts.opened, counts.closed) == (1, 1)


def test_an_acknowledgement_counts_its_own_bytes(clock: Clock) -> None:
    factory = AcknowledgeFactory(clock, ReplyTemplate("ok"))
    protocol, _ = connect(factory)
    protocol.dataReceived(b"hello")
    assert (factory.counts.received_bytes, factory.counts.sent_bytes, factory.counts.replies) == (5, 2, 1)
    lose(protocol)


def test_a_chat_counts_a_line_once_for_each_who_is_told(clock: Clock) -> None:
    factory = ChatFactory(Room[ChatProtocol](), clock)
    members = [connect(factory)[0] for _ in range(3)]
    before = factory.counts.replies
    members[0].dataReceived(b"hello\n")
    assert factory.counts.replies - before == 2
    assert factory.counts.received_bytes == 6
    for member in members:
        lose(member)


def stuck(factory: StreamFactory) -> StreamProtocol:
    """Connect a peer that reads nothing, and owe it 100,000 bytes."""
    protocol, _ = connect(factory)
    protocol.pauseProducing()  # as the transport does when 64 KiB wait
    protocol.send(bytes(100_000))
    return protocol


def test_a_peer_that_is_cut_is_counted_by_its_fault_with_what_was_dropped(clock: Clock) -> None:
    factory = EchoFactory(clock, Limits(stall_timeout=10))
    protocol = stuck(factory)
    assert factory.counts.stalls == 1
    clock.advance(10)
    lose(protocol)
    assert factory.counts.cut == {"did not take what waits for it in time": 1}
    assert factory.counts.dropped_bytes == 100_000


def test_a_peer_that_leaves_too_much_unread_is_counted(clock: Clock) -> None:
    factory = EchoFactory(clock, Limits(queue_max=65_536))
    protocol = stuck(factory)
    clock.advance(0.5)
    protocol.send(b"x")
    lose(protocol)
    assert factory.counts.cut == {"leaves too much unread": 1}


def test_what_is_left_at_the_end_of_the_drain_is_counted(clock: Clock) -> None:
    factory = EchoFactory(clock)
    protocol = stuck(factory)
    factory.drain(1)
    clock.advance(1)
    lose(protocol)
    clock.advance(0)
    assert factory.counts.cut == {"was not finished when the server stopped": 1}


def test_an_orderly_end_is_nobodys_fault(clock: Clock) -> None:
    factory = EchoFactory(clock)
    protocol, _ = connect(factory)
    protocol.dataReceived(b"x")
    lose(protocol)
    assert not factory.counts.cut
    assert factory.counts.dropped_bytes == 0


def test_all_of_it_fits_on_one_line(clock: Clock) -> None:
    counts = Counts(clock)
    counts.opened, counts.received_bytes, counts.replies = 1_234, 5_678_901, 3
    counts.refuse("server full", "192.0.2.1")
    assert str(counts) == (
        "connections: 1,234 of 1,234; bytes: 5,678,901 in, 0 out, 0 dropped; replies: 3; stalls: 0; "
        "refused: 1 server full"
    )
