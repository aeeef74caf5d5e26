from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, INegotiated, IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer
from zope.interface.verify import verifyObject

from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, AcknowledgeProtocol, EchoFactory, EchoProtocol
from netsvc.limits.admission import Admission
from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.limits.message_share import MESSAGES_PER_ITERATION
from netsvc.net.drain import CHECK_INTERVAL, SILENCE
from netsvc.net.stream_protocol import LINGER, StreamProtocol
from netsvc.wire.framing import LineFraming
from tests.connections import TCPTransport, attach, connect, lose, taken, terms

KIB = 1024


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> EchoFactory:
    return EchoFactory(terms(clock, idle_timeout=0, line_timeout=0))


def stuck(factory: EchoFactory) -> tuple[EchoProtocol, TCPTransport]:
    """Return a connection whose peer sent 65 KiB and does not read."""
    protocol, transport = connect(factory)
    assert isinstance(protocol, EchoProtocol)
    transport.reads = False
    protocol.dataReceived(b"x" * 65 * KIB)
    return protocol, transport


def test_the_protocol_is_what_transports_expect(factory: EchoFactory) -> None:
    protocol, _ = connect(factory)
    verifyObject(IHalfCloseableProtocol, protocol)
    verifyObject(IPushProducer, protocol)


def test_a_peer_that_does_not_read_is_not_read_from(factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    assert transport.producerState == "paused"
    transport.read_all()
    assert transport.producerState == "producing"
    lose(protocol)


def test_a_peer_that_does_not_read_is_disconnected_at_the_stall_timeout(clock: Clock, factory: EchoFactory) -> None:
    _, transport = stuck(factory)
    clock.advance(9.9)
    assert not transport.aborted
    clock.advance(0.1)
    assert transport.aborted


def test_a_peer_that_reads_again_in_time_is_not_disconnected(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    clock.advance(9.9)
    transport.read_all()
    clock.advance(100)
    assert not transport.aborted
    lose(protocol)


def test_a_peer_whose_queue_is_above_the_limit_for_half_a_second_is_disconnected(
    clock: Clock, factory: EchoFactory
) -> None:
    protocol, transport = stuck(factory)
    protocol.send(b"x" * 192 * KIB)
    clock.advance(0.4)
    protocol.send(b"x")
    assert not transport.aborted
    clock.advance(0.1)
    protocol.send(b"x")
    assert transport.aborted
    assert not protocol.output_blocked


def test_a_peer_that_reads_may_be_given_more_than_the_limit_at_once(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    for _ in range(20):
        transport.reads = False
        for _ in range(1_000):
            protocol.send(b"x" * KIB)
        clock.advance(0.1)
        transport.read_all()
        assert len(taken(transport)) == 1_000 * KIB
    assert not transport.aborted
    lose(protocol)


def test_a_peer_that_reads_too_slowly_is_disconnected(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    for _ in range(10):  # tenths of a second
        for _ in range(20):
            protocol.send(b"x" * 10 * KIB)
        clock.advance(0.1)
        transport.waiting = 0  # and it takes 70 KiB of those 200
        if not transport.aborted:
            protocol.resumeProducing()
    assert transport.aborted


def test_a_peer_that_catches_up_has_half_a_second_again(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    for _ in range(10):
        for _ in range(21):
            protocol.send(b"x" * 10 * KIB)
        clock.advance(0.4)
        while transport.waiting + factory.terms.counters.sent_bytes - len(transport.value()) > 100 * KIB:
            transport.waiting = 0
            protocol.resumeProducing()
    assert not transport.aborted
    lose(protocol)


def test_the_queue_is_sent_in_order_when_the_peer_reads_again(factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    taken(transport)
    for n in range(100):
        protocol.send(b"%d," % n)
    assert taken(transport) == b""
    transport.read_all()
    assert taken(transport) == b"".join(b"%d," % n for n in range(100))
    lose(protocol)


def test_a_peer_that_reads_a_part_is_given_no_more_than_the_transport_holds(factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    for _ in range(10):
        protocol.send(b"x" * 10 * KIB)
    taken(transport)
    transport.waiting = 0  # the peer has read once, and stops again
    protocol.resumeProducing()
    assert len(taken(transport)) == 70 * KIB
    protocol.send(b"x" * 40 * KIB)
    assert not transport.aborted
    lose(protocol)


def test_without_limits_no_peer_is_disconnected(clock: Clock) -> None:
    protocol, transport = stuck(EchoFactory(terms(clock, queue_max=0, stall_timeout=0, close_timeout=0)))
    protocol.send(b"x" * 10_000 * KIB)
    clock.advance(1e6)
    protocol.finish()
    clock.advance(1e6)
    assert not transport.aborted
    lose(protocol)


def test_when_the_peer_ends_its_input_everything_is_sent_before_the_close(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    protocol.dataReceived(b"last words")
    protocol.readConnectionLost()
    assert taken(transport) == b"last words"
    assert transport.disconnecting
    assert not transport.aborted
    lose(protocol)


def test_the_queue_is_sent_before_the_close_when_the_peer_ends_its_input(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    protocol.send(b"waiting")
    protocol.readConnectionLost()
    assert not transport.disconnecting
    taken(transport)
    transport.read_all()
    assert taken(transport) == b"waiting"
    assert transport.disconnecting
    lose(protocol)


def test_a_close_that_makes_no_progress_ends_in_an_abort(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    protocol.finish()
    clock.advance(4.9)
    assert not transport.aborted
    clock.advance(0.1)
    assert transport.aborted


def test_a_close_that_the_transport_never_completes_ends_in_an_abort(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    protocol.readConnectionLost()
    clock.advance(5.0)
    assert transport.aborted


def test_finishing_waits_for_the_peer_to_close_so_that_no_data_is_lost(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    protocol.finish()
    assert transport.write_closed
    assert not transport.disconnecting
    protocol.dataReceived(b"too late")
    assert taken(transport) == b""
    protocol.readConnectionLost()
    assert transport.disconnecting
    lose(protocol)


def test_a_peer_that_does_not_close_its_side_is_closed_after_the_linger(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    protocol.finish()
    protocol.writeConnectionLost()
    assert not transport.disconnecting
    clock.advance(LINGER)
    assert transport.disconnecting
    assert not transport.aborted
    lose(protocol)


def test_finish_may_be_called_twice(clock: Clock, factory: EchoFactory) -> None:
    protocol, _ = connect(factory)
    before = len(clock.getDelayedCalls())
    protocol.finish()
    protocol.finish()
    assert len(clock.getDelayedCalls()) == before + 1
    protocol.abort()
    protocol.abort()
    assert len(clock.getDelayedCalls()) == before


def test_a_transport_that_cannot_half_close_is_closed(factory: EchoFactory) -> None:
    protocol = factory.buildProtocol(None)
    assert isinstance(protocol, StreamProtocol)
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.finish()
    assert transport.disconnecting
    lose(protocol)


def test_a_lost_connection_leaves_no_timer_and_no_queue(clock: Clock, factory: EchoFactory) -> None:
    protocol, _ = stuck(factory)
    protocol.send(b"never sent")
    lose(protocol, ConnectionAborted)
    assert not clock.getDelayedCalls()
    assert not factory.connections
    assert not protocol.output_blocked


def test_draining_without_connections_is_done_at_once(factory: EchoFactory) -> None:
    assert factory.drain(5.0).called


def test_draining_fires_when_the_last_connection_is_closed(clock: Clock, factory: EchoFactory) -> None:
    connections = [connect(factory)[0] for _ in range(3)]
    drained = factory.drain(5.0)
    for protocol in connections:
        assert not drained.called
        lose(protocol)
    assert drained.called
    assert not clock.getDelayedCalls()


def test_connections_are_refused_while_draining_and_accepted_afterwards(factory: EchoFactory) -> None:
    protocol, _ = connect(factory)
    factory.drain(5.0)
    assert factory.buildProtocol(None) is None
    lose(protocol)
    assert factory.buildProtocol(None) is not None


def test_a_connection_that_does_not_drain_in_time_is_aborted(clock: Clock) -> None:
    factory = EchoFactory(terms(clock, close_timeout=100))
    protocol, transport = stuck(factory)
    drained = factory.drain(5.0)
    clock.advance(4.9)
    assert not transport.aborted
    clock.advance(0.1)
    assert transport.aborted
    lose(protocol, ConnectionAborted)
    assert drained.called


def test_drain_may_be_called_twice(clock: Clock, factory: EchoFactory) -> None:
    protocol, _ = connect(factory)
    first, second = factory.drain(5.0), factory.drain(5.0)
    lose(protocol)
    assert first.called
    assert second.called
    assert not clock.getDelayedCalls()


class Faulty(EchoProtocol):
    """A subclass whose ``connectionLost`` fails."""

    def connectionLost(self, reason: object = None) -> None:
        raise ZeroDivisionError


class FaultyFactory(EchoFactory):
    def build_connection(self) -> Faulty:
        return Faulty()


def test_draining_ends_even_if_a_connection_never_reports_its_loss(clock: Clock) -> None:
    factory = FaultyFactory(terms(clock))
    connect(factory)
    drained = factory.drain(5.0)
    clock.advance(5.0)
    clock.advance(0.0)
    assert drained.called


class ClosesWhenMade(EchoProtocol):
    """A subclass that ends its connection before the base class has seen it."""

    abort_it: bool

    def connectionMade(self) -> None:
        self.abort() if self.abort_it else self.finish()
        super().connectionMade()


@pytest.mark.parametrize("abort", [False, True])
def test_a_subclass_may_end_its_connection_before_the_base_class_has_seen_it(
    clock: Clock, factory: EchoFactory, abort: bool
) -> None:
    protocol = ClosesWhenMade()
    protocol.factory, protocol.terms, protocol.abort_it = factory, factory.terms, abort
    transport = attach(protocol)
    assert (transport.aborted, transport.write_closed) == (abort, not abort)
    protocol.dataReceived(b"too late")
    assert transport.value() == b""
    lose(protocol)
    assert not factory.connections
    assert not clock.getDelayedCalls()


@implementer(INegotiated)
class HandshakingTransport(TCPTransport):
    """Claims to be a TLS transport whose handshake is not complete."""

    negotiatedProtocol = None

    def getPeerCertificate(self) -> None: ...


def test_a_peer_that_does_not_read_during_its_handshake_is_not_read_from_and_keeps_its_deadline(clock: Clock) -> None:
    factory = EchoFactory(terms(clock, handshake_timeout=10, stall_timeout=1))
    protocol, transport = connect(factory, transport=HandshakingTransport())
    protocol.pauseProducing()
    assert transport.producerState == "paused"
    protocol.resumeProducing()
    assert transport.producerState == "producing"
    protocol.pauseProducing()
    clock.advance(9.9)
    assert not transport.aborted
    clock.advance(0.1)
    assert transport.aborted
    lose(protocol)


class FaultyTransport(TCPTransport):
    def setTcpNoDelay(self, enabled: bool) -> None:
        raise ZeroDivisionError


def test_a_connection_whose_start_fails_leaves_its_place_to_another_one(clock: Clock) -> None:
    counter = ConnectionCounter(1)
    factory = EchoFactory(terms(clock, Admission(counter, connect_rate=0)))
    protocol = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 40_000))
    assert isinstance(protocol, EchoProtocol)
    with pytest.raises(ZeroDivisionError):
        attach(protocol, FaultyTransport())
    lose(protocol)
    again, _ = connect(factory)
    lose(again)


def test_messages_that_were_read_are_answered_before_the_drain_ends(clock: Clock) -> None:
    factory = AcknowledgeFactory(terms(clock), ReplyTemplate("{message}"), "line")
    protocol, transport = connect(factory)
    protocol.dataReceived(b"\n" * 200)
    factory.drain(5.0)
    factory.drain(5.0)  # a second time changes nothing
    assert not transport.write_closed
    clock.pump([0.0, 0.0, SILENCE, CHECK_INTERVAL])
    assert transport.value() == b"\n" * 200
    assert transport.write_closed
    lose(protocol)


def test_a_drain_reads_on_until_every_peer_has_been_silent(clock: Clock, factory: EchoFactory) -> None:
    (talker, to_talker), (_, to_other) = connect(factory), connect(factory)
    factory.drain(5.0)
    for _ in range(10):
        talker.dataReceived(b"x")
        clock.advance(SILENCE - CHECK_INTERVAL)
    assert to_talker.value() == b"x" * 10
    assert not to_other.write_closed
    clock.pump([CHECK_INTERVAL] * 11)
    assert to_talker.write_closed
    assert to_other.write_closed


@pytest.mark.parametrize("timeout", [2.0, 5.0])
def test_a_drain_reads_for_at_most_half_of_its_timeout(clock: Clock, factory: EchoFactory, timeout: float) -> None:
    talker, to_talker = connect(factory)
    factory.drain(timeout)
    began = clock.seconds()
    while not to_talker.write_closed:
        talker.dataReceived(b"x")
        clock.advance(CHECK_INTERVAL)
    assert clock.seconds() - began == pytest.approx(timeout / 2, abs=2 * CHECK_INTERVAL)
    assert to_talker.producerState == "producing"  # to see the peer close its side
    lose(talker)


def test_a_message_that_fails_after_the_connection_was_lost_ends_the_connection(clock: Clock) -> None:
    class Failing(AcknowledgeProtocol):
        def message_received(self, message: bytes) -> None:
            raise ZeroDivisionError

    class FailingFactory(AcknowledgeFactory):
        def build_connection(self) -> Failing:
            return Failing(LineFraming())

    factory = FailingFactory(terms(clock), ReplyTemplate("x"), "line")
    protocol, _ = connect(factory)
    assert isinstance(protocol, Failing)
    protocol.framing.receive(b"x\n")
    with pytest.raises(ZeroDivisionError):
        lose(protocol)
    assert not factory.connections
    assert not clock.getDelayedCalls()


def test_a_message_that_fails_in_a_later_iteration_aborts_the_connection(clock: Clock) -> None:
    class FailingLater(AcknowledgeProtocol):
        def message_received(self, message: bytes) -> None:
            if message:
                raise ZeroDivisionError

    class FailingFactory(AcknowledgeFactory):
        def build_connection(self) -> FailingLater:
            return FailingLater(LineFraming())

    protocol, transport = connect(FailingFactory(terms(clock), ReplyTemplate("x"), "line"))
    protocol.dataReceived(b"\n" * MESSAGES_PER_ITERATION + b"x\n")
    with pytest.raises(ZeroDivisionError):
        clock.advance(0)
    assert transport.aborted
    lose(protocol)


def test_a_connection_in_its_handshake_is_closed_when_the_server_stops(clock: Clock) -> None:
    factory = AcknowledgeFactory(terms(clock), ReplyTemplate("x"))
    protocol, transport = connect(factory, transport=HandshakingTransport())
    factory.drain(5.0)
    assert transport.disconnecting
    lose(protocol)


def test_many_messages_in_one_read_are_processed_in_several_iterations(clock: Clock) -> None:
    protocol, transport = connect(AcknowledgeFactory(terms(clock), ReplyTemplate("{message}"), "line"))
    protocol.dataReceived(b"".join(b"%d\n" % n for n in range(3 * MESSAGES_PER_ITERATION)))
    assert taken(transport).count(b"\n") == MESSAGES_PER_ITERATION
    assert transport.producerState == "paused"
    protocol.dataReceived(b"and one more\n")  # TLS delivers data although it was paused
    clock.advance(0)
    assert taken(transport).endswith(b"%d\nand one more\n" % (3 * MESSAGES_PER_ITERATION - 1))
    assert transport.producerState == "producing"
    lose(protocol)


def test_messages_wait_while_the_peer_does_not_read_their_answers(clock: Clock) -> None:
    protocol, transport = connect(AcknowledgeFactory(terms(clock), ReplyTemplate("x" * 10 * KIB), "line"))
    transport.reads = False
    protocol.dataReceived(b"\n" * 60)
    assert taken(transport).count(b"\n") == 7  # the seventh answer fills the transport
    transport.read_all()
    assert taken(transport).count(b"\n") == 53
    assert len(clock.getDelayedCalls()) == 1  # the idle check of the factory; there is no stall timer
    lose(protocol)


def test_a_lost_connection_leaves_no_scheduled_messages(clock: Clock) -> None:
    protocol, _ = connect(AcknowledgeFactory(terms(clock), ReplyTemplate("{message}"), "line"))
    protocol.dataReceived(b"\n" * 1000)
    lose(protocol, ConnectionLost)
    clock.pump([0.0] * 20)
    assert not clock.getDelayedCalls()


def test_messages_wait_for_the_next_iteration_even_if_the_peer_reads_again(clock: Clock) -> None:
    protocol, transport = connect(AcknowledgeFactory(terms(clock), ReplyTemplate("{message}"), "line"))
    protocol.dataReceived(b"\n" * 2 * MESSAGES_PER_ITERATION)
    taken(transport)
    protocol.resumeProducing()
    assert taken(transport) == b""
    clock.advance(0)
    assert taken(transport) == b"\n" * MESSAGES_PER_ITERATION
    lose(protocol)


def test_an_aborted_connection_sends_nothing_more(factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    protocol.abort()
    taken(transport)
    protocol.send(b"x")
    protocol.resumeProducing()
    assert taken(transport) == b""
    assert not protocol.output_blocked
    lose(protocol, ConnectionAborted)


def test_the_close_timeout_starts_again_when_the_peer_stops_reading_again(clock: Clock, factory: EchoFactory) -> None:
    protocol, transport = stuck(factory)
    for _ in range(12):
        protocol.send(b"x" * 10 * KIB)
    protocol.finish()
    clock.advance(4.0)
    transport.waiting = 0  # it has read once, and stops again
    protocol.resumeProducing()
    clock.advance(4.9)
    assert not transport.aborted
    clock.advance(0.1)
    assert transport.aborted
    lose(protocol, ConnectionAborted)


def test_stop_producing_does_not_close_the_connection_by_itself(factory: EchoFactory) -> None:
    protocol, _ = connect(factory)
    protocol.stopProducing()
    assert protocol in factory.connections
    lose(protocol)
    assert protocol not in factory.connections


def test_nagles_algorithm_is_off(factory: EchoFactory) -> None:
    protocol, transport = connect(factory)
    assert transport.no_delay  # TCP_NODELAY
    lose(protocol)
