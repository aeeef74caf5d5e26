"""The phases in which a factory ends its connections."""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionLost

from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory, EchoProtocol
from netsvc.limits.message_share import MESSAGES_PER_ITERATION
from netsvc.net.drain import CHECK_INTERVAL, READ_TIME, SILENCE
from tests.connections import IterationClock, TCPTransport, connect, lose, taken, terms


@pytest.fixture
def clock() -> IterationClock:
    return IterationClock()


def member(factory: ChatFactory, nick: str) -> tuple[ChatProtocol, TCPTransport]:
    protocol, transport = connect(factory)
    assert isinstance(protocol, ChatProtocol)
    protocol.dataReceived(b"/nick %s\n" % nick.encode())
    factory.hub.announce_arrival(protocol)
    return protocol, transport


def block(protocol: ChatProtocol, transport: TCPTransport) -> None:
    """Send so much to a member that does not read that nothing more fits."""
    transport.reads = False
    while not protocol.output_blocked:
        protocol.send(b"x" * 10_000)


def test_members_are_told_only_when_every_line_that_was_read_is_said(clock: IterationClock) -> None:
    factory = ChatFactory(terms(clock), rate=0)
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    taken(to_bob)
    count = 30 * MESSAGES_PER_ITERATION
    ann.dataReceived(b"x\n" * count)
    factory.drain(1.0)  # the time for reading is over after 0.5 s, and the lines are said after 0.6 s
    for _ in range(50):
        clock.iterate(CHECK_INTERVAL)
    assert taken(to_bob) == b"<ann> x\n" * count + b"* the server stops; bye\n"


def test_a_peer_that_is_not_read_from_is_not_silent(clock: IterationClock) -> None:
    factory = ChatFactory(terms(clock), rate=0)
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    count = 10 * MESSAGES_PER_ITERATION
    ann.dataReceived(b"x\n" * count)
    factory.drain(5.0)
    while to_ann.producerState != "producing":
        clock.iterate(0.15)
    ann.dataReceived(b"the rest\n")  # waited in the kernel
    for _ in range(20):
        clock.iterate(CHECK_INTERVAL)
    received = taken(to_bob)
    assert received.count(b"<ann> x\n") == count
    assert received.endswith(b"<ann> the rest\n* the server stops; bye\n")


def test_the_lines_of_a_member_that_does_not_read_are_said_when_it_reads(clock: IterationClock) -> None:
    factory = ChatFactory(terms(clock), rate=0)
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    taken(to_bob)
    block(ann, to_ann)
    ann.dataReceived(b"x\n" * 5)
    factory.drain(5.0)
    for _ in range(100):
        clock.iterate(CHECK_INTERVAL)
    assert taken(to_bob) == b""
    to_ann.read_all()
    for _ in range(15):
        clock.iterate(CHECK_INTERVAL)
    assert taken(to_bob) == b"<ann> x\n" * 5 + b"* the server stops; bye\n"


def test_a_member_that_does_not_read_delays_the_others_for_a_bounded_time(clock: IterationClock) -> None:
    factory = ChatFactory(terms(clock, stall_timeout=0), rate=0)
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    block(ann, to_ann)
    ann.dataReceived(b"x\n" * 5)
    drained = factory.drain(4.0)
    while not to_bob.write_closed:
        clock.iterate(CHECK_INTERVAL)
    assert 3.0 <= clock.seconds() < 3.1
    while not to_ann.aborted:
        clock.iterate(CHECK_INTERVAL)
    assert 4.0 <= clock.seconds() < 4.1
    assert factory.terms.counters.dropped_lines == 5
    for protocol in tuple(factory.connections):
        lose(protocol)
    assert drained.called


def test_every_message_is_answered_if_the_peer_reads_late(clock: IterationClock) -> None:
    factory = AcknowledgeFactory(terms(clock), ReplyTemplate("x" * 199), "line")
    protocol, transport = connect(factory)
    transport.reads = False
    protocol.dataReceived(b"\n" * 1_000)
    factory.drain(5.0)
    while clock.seconds() < 4.5:
        clock.iterate(CHECK_INTERVAL)
    transport.read_all()
    for _ in range(30):
        clock.iterate(0.01)
    assert transport.value().count(b"\n") == 1_000
    assert transport.write_closed


def test_without_a_timeout_a_peer_that_sends_for_ever_is_read_for_a_bounded_time(clock: IterationClock) -> None:
    factory = EchoFactory(terms(clock))
    protocol, transport = connect(factory)
    factory.drain(0)
    while not transport.write_closed:
        protocol.dataReceived(b"x")
        clock.iterate(0.1)
    assert READ_TIME <= clock.seconds() < READ_TIME + 0.2


def test_nothing_of_a_drain_is_left_when_its_timeout_ends_a_lost_connection(clock: IterationClock) -> None:
    factory = ChatFactory(terms(clock, idle_timeout=0, line_timeout=0))
    ann, _ = member(factory, "ann")
    ann.dataReceived(b"x\n" * 1_000)
    drained = factory.drain(1e-3)
    lose(ann, ConnectionLost)
    clock.iterate(1e-3)
    assert drained.called
    assert not clock.getDelayedCalls()
    late, _ = connect(factory)
    clock.iterate(CHECK_INTERVAL)
    assert factory.connections == {late}
    lose(late)


class Failing(EchoProtocol):
    def end_drain(self) -> None:
        raise ZeroDivisionError


class SometimesFailing(EchoFactory):
    def build_connection(self) -> EchoProtocol:
        return EchoProtocol() if len(self.connections) % 2 else Failing()


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_connection_that_fails_does_not_stop_the_drain_of_the_others(clock: IterationClock) -> None:
    factory = SometimesFailing(terms(clock))
    transports = [connect(factory)[1] for _ in range(10)]
    factory.drain(5.0)
    for _ in range(20):
        clock.iterate(CHECK_INTERVAL)
    assert sum(transport.write_closed for transport in transports) == 5
    assert sum(transport.aborted for transport in transports) == 5


def test_a_stop_of_silent_peers_takes_little_more_than_the_time_of_silence(clock: IterationClock) -> None:
    factory = EchoFactory(terms(clock))
    _, transport = connect(factory)
    factory.drain(5.0)
    while not transport.write_closed:
        clock.iterate(0.01)
    assert clock.seconds() == pytest.approx(SILENCE, abs=2 * CHECK_INTERVAL)
