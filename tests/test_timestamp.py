from __future__ import annotations

import errno
import time
from datetime import datetime

import pytest
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from netsvc.limits.datagram_guard import Guard
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.timestamp.format import Stamper
from netsvc.timestamp.server import Answer, TimestampClient, TimestampProtocol, ask_timestamp
from tests.memory_reactor import DatagramPort, MemoryReactor

NOW = time.mktime((2026, 11, 21, 0, 33, 33, 0, 0, -1))
SOMEBODY = ("192.0.2.1", 40_000)


@pytest.fixture
def reactor() -> MemoryReactor:
    reactor = MemoryReactor()
    reactor.advance(NOW)
    return reactor


def serve(reactor: MemoryReactor, port: int = 5200, guard: Guard | None = None) -> DatagramPort:
    return reactor.listenUDP(port, TimestampProtocol(reactor, guard), maxPacketSize=1401)


def failure_of(asked: Deferred[Answer]) -> type[BaseException] | None:
    failures: list[Failure] = []
    asked.addErrback(failures.append)
    return failures[0].type


def test_a_datagram_is_answered_with_the_time_and_its_bytes(reactor: MemoryReactor) -> None:
    server = serve(reactor)
    server.deliver(b"hello", SOMEBODY)
    server.deliver(b"\xff\x00", SOMEBODY)
    server.deliver(b"", SOMEBODY)
    assert server.sent == [
        (b"[Sat Nov 21 00:33:33 2026] hello", SOMEBODY),
        (b"[Sat Nov 21 00:33:33 2026] \xff\x00", SOMEBODY),
        (b"[Sat Nov 21 00:33:33 2026] ", SOMEBODY),
    ]


def test_a_datagram_longer_than_the_limit_is_counted_and_never_answered_in_part(reactor: MemoryReactor) -> None:
    protocol = TimestampProtocol(reactor)
    server = reactor.listenUDP(5200, protocol, maxPacketSize=1401)
    server.deliver(b"x" * 1400, SOMEBODY)
    server.deliver(b"x" * 9000, SOMEBODY)
    assert [len(datagram) for datagram, _ in server.sent] == [1400 + len("[Sat Nov 21 00:33:33 2026] ")]
    assert protocol.counts.refused == {"too long": 1}


def test_an_answer_is_not_answered(reactor: MemoryReactor) -> None:
    protocol = TimestampProtocol(reactor)
    server = reactor.listenUDP(5200, protocol)
    server.deliver(Stamper().answer(b"x", 0), SOMEBODY)
    assert server.sent == []
    assert protocol.counts.refused == {"already stamped": 1}


class Echo(DatagramProtocol):
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.write(datagram, addr)


class LiteralServer(DatagramProtocol):
    """The classic ``[ctime] data`` server, which answers whatever comes."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.write(Stamper().answer(datagram, NOW), addr)


@pytest.mark.parametrize("other", ["itself", "netsvc", "echo", "literal"])
def test_no_forged_datagram_makes_it_talk_for_ever(reactor: MemoryReactor, other: str) -> None:
    server = serve(reactor)
    victim = ("127.0.0.1", 5200 if other == "itself" else 6200)
    if other == "netsvc":
        serve(reactor, 6200)
    elif other != "itself":
        reactor.listenUDP(6200, Echo() if other == "echo" else LiteralServer())
    server.deliver(b"boo", victim)
    for _ in range(1000):
        reactor.advance(0.001)
    assert len(server.sent) <= 1


def test_a_flood_is_answered_up_to_the_limit(reactor: MemoryReactor) -> None:
    server = serve(reactor, guard=Guard(SourceBuckets(rate=100, burst=200, total=0, chance=lambda: 1.0)))
    for _ in range(1000):
        server.deliver(b"x", SOMEBODY)
        reactor.advance(0)
    assert len(server.sent) == 200


class BrokenTransport:
    """A transport whose system refuses to send."""

    def __init__(self, failure: Exception) -> None:
        self._failure = failure

    def getHost(self) -> object:
        return MemoryReactor().listenUDP(5200, DatagramProtocol()).getHost()

    def write(self, datagram: bytes, addr: object) -> None:
        raise self._failure


@pytest.mark.parametrize(
    "failure",
    [
        OSError(errno.EHOSTUNREACH, "No route to host"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.EINVAL, "Invalid argument"),
        error.MessageLengthError("message too long"),
    ],
)
def test_an_answer_that_cannot_be_sent_is_counted_and_no_traceback(reactor: MemoryReactor, failure: Exception) -> None:
    protocol = TimestampProtocol(reactor)
    protocol.makeConnection(BrokenTransport(failure))  # type: ignore[arg-type]
    protocol.datagramReceived(b"x", SOMEBODY)
    assert protocol.counts.unsent.total() == 1
    assert protocol.counts.replies == 0


def test_only_so_many_datagrams_are_taken_in_a_turn(reactor: MemoryReactor) -> None:
    server = serve(reactor)
    for _ in range(64):
        assert server.maxThroughput > 0  # Twisted's loop goes on
        server.deliver(b"", SOMEBODY)
    assert server.maxThroughput == 0  # and ends here
    server.deliver(b"", SOMEBODY)  # as a reactor might that knows no such limit
    reactor.advance(0)
    assert server.maxThroughput > 0


def test_a_port_that_is_closed_in_mid_turn_leaves_no_call(reactor: MemoryReactor) -> None:
    server = serve(reactor)
    for _ in range(64):
        server.deliver(b"", SOMEBODY)
    server.stopListening()
    reactor.advance(0)
    assert not reactor.getDelayedCalls()


# The client


def client_of(reactor: MemoryReactor, port: int = 5200) -> tuple[TimestampClient, DatagramPort]:
    client = TimestampClient(reactor, "127.0.0.1", port, timeout=1.0, tries=3)
    return client, reactor.listenUDP(0, client)


def test_the_client_returns_time_payload_and_round_trip(reactor: MemoryReactor) -> None:
    server = serve(reactor)
    client, port = client_of(reactor)
    answers: list[Answer] = []
    client.ask(b"hello").addCallback(answers.append)
    assert port.sent == [(b"hello", ("127.0.0.1", 5200))]
    reactor.pump([0.0])
    reactor.pump([0.0])
    assert server.sent
    assert answers == [Answer(datetime(2026, 11, 21, 0, 33, 33), b"hello", 0.0, 1)]
    assert not reactor.getDelayedCalls()


class Silence(DatagramProtocol):
    """Takes questions and says nothing."""


def test_a_lost_question_is_asked_again_and_the_round_trip_counts_from_the_first(reactor: MemoryReactor) -> None:
    reactor.listenUDP(5200, Silence())
    client, port = client_of(reactor)
    answers: list[Answer] = []
    client.ask(b"q").addCallback(answers.append)
    reactor.advance(1.0)
    assert [datagram for datagram, _ in port.sent] == [b"q", b"q"]
    reactor.advance(0.5)
    port.deliver(Stamper().answer(b"q", NOW), ("127.0.0.1", 5200))
    assert [(answer.round_trip, answer.tries) for answer in answers] == [(1.5, 2)]


def test_silence_is_a_timeout_after_the_last_try(reactor: MemoryReactor) -> None:
    reactor.listenUDP(5200, Silence())
    client, port = client_of(reactor)
    asked = client.ask(b"q")
    reactor.pump([0.5] * 5)
    assert not asked.called
    reactor.pump([0.5])
    assert failure_of(asked) is error.TimeoutError
    assert len(port.sent) == 3


def test_only_the_answer_to_its_own_question_from_its_own_server_is_taken(reactor: MemoryReactor) -> None:
    reactor.listenUDP(5200, Silence())
    client, port = client_of(reactor)
    asked = client.ask(b"mine")
    answer = Stamper().answer(b"mine", NOW)
    client.datagramReceived(answer, ("192.0.2.66", 5200))  # a stranger
    client.datagramReceived(answer, ("127.0.0.1", 5201))  # another service there
    port.deliver(Stamper().answer(b"yours", NOW), ("127.0.0.1", 5200))
    port.deliver(b"mine", ("127.0.0.1", 5200))
    assert not asked.called
    assert client.ignored == 4
    port.deliver(answer, ("127.0.0.1", 5200))
    assert asked.called
    port.deliver(answer, ("127.0.0.1", 5200))  # once more
    assert (client.ignored, client.doubled) == (4, 1)


def test_several_questions_may_be_open_if_they_differ(reactor: MemoryReactor) -> None:
    serve(reactor)
    client, _ = client_of(reactor)
    answers: list[bytes] = []
    for payload in (b"a", b"b"):
        client.ask(payload).addCallback(lambda answer: answers.append(answer.payload))
    with pytest.raises(ValueError, match="open already"):
        client.ask(b"a")
    reactor.pump([0.0] * 3)
    assert answers == [b"a", b"b"]


def test_a_refusal_fails_at_once(reactor: MemoryReactor) -> None:
    client, _ = client_of(reactor, port=9)
    asked = client.ask(b"q")
    reactor.pump([0.0])
    assert failure_of(asked) is error.ConnectionRefusedError
    assert not reactor.getDelayedCalls()


def test_a_closed_port_fails_what_is_open(reactor: MemoryReactor) -> None:
    reactor.listenUDP(5200, Silence())
    client, port = client_of(reactor)
    asked = client.ask(b"q")
    port.stopListening()
    reactor.advance(0)
    assert failure_of(asked) is error.ConnectionDone


def test_a_cancelled_question_is_forgotten(reactor: MemoryReactor) -> None:
    reactor.listenUDP(5200, Silence())
    client, _ = client_of(reactor)
    asked = client.ask(b"q")
    asked.cancel()
    assert failure_of(asked) is CancelledError
    reactor.pump([0.0])
    assert not reactor.getDelayedCalls()
    client.ask(b"q").addErrback(lambda _: None)
    reactor.pump([1.0] * 4)


def test_a_question_that_no_datagram_holds_fails(reactor: MemoryReactor) -> None:
    client, _ = client_of(reactor)
    assert failure_of(client.ask(b"x" * 70_000)) is error.MessageLengthError
    assert not reactor.getDelayedCalls()


def test_asking_by_name_uses_a_port_of_its_own_and_closes_it(reactor: MemoryReactor) -> None:
    serve(reactor)
    asked = Deferred.fromCoroutine(ask_timestamp(reactor, "localhost", 5200, b"hello"))
    reactor.pump([0.0] * 5)
    assert asked.called
    assert list(reactor.udp_ports) == [5200]


def test_a_failed_question_closes_its_port_too(reactor: MemoryReactor) -> None:
    asked = Deferred.fromCoroutine(ask_timestamp(reactor, "127.0.0.1", 9, b"hello"))
    reactor.pump([0.0] * 5)
    assert failure_of(asked) is error.ConnectionRefusedError
    assert not reactor.udp_ports
