from __future__ import annotations

import errno
import socket
import time
from functools import partial

import pytest
from twisted.internet import error
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from netsvc.limits.cause import Cause
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.listening import datagram_listener
from netsvc.testing import Network
from netsvc.testing.datagram_socket import DatagramSocket
from netsvc.timestamp.format import TimestampFormatter
from netsvc.timestamp.server import TimestampProtocol
from netsvc.wire.datagram import Datagram
from tests.connections import terms

NOW = time.mktime((2026, 11, 21, 0, 33, 33, 0, 0, -1))
PEER = ("192.0.2.1", 40_000)


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(NOW)
    return clock


def serve(clock: Clock, guard: DatagramGuard | None = None) -> TimestampProtocol:
    return TimestampProtocol(terms(clock), guard)


def replies_to(server: TimestampProtocol, *payloads: bytes) -> list[bytes]:
    return [reply.payload for reply in server.batch_received([Datagram(payload, PEER) for payload in payloads])]


def test_a_datagram_is_answered_with_the_time_and_its_bytes(clock: Clock) -> None:
    assert replies_to(serve(clock), b"hello", b"\xff\x00", b"") == [
        b"[Sat Nov 21 00:33:33 2026] hello",
        b"[Sat Nov 21 00:33:33 2026] \xff\x00",
        b"[Sat Nov 21 00:33:33 2026] ",
    ]


def test_a_reply_goes_to_the_peer_from_the_address_that_was_asked(clock: Clock) -> None:
    [reply] = serve(clock).batch_received([Datagram(b"x", PEER, b"\x7f\0\0\x4d")])
    assert (reply.peer, reply.local) == (PEER, b"\x7f\0\0\x4d")


def test_a_reply_of_a_timestamp_server_is_not_answered(clock: Clock) -> None:
    service = terms(clock)
    assert replies_to(TimestampProtocol(service), TimestampFormatter().prefix(0) + b"x") == []
    assert service.counters.refused == {Cause.OWN_REPLY: 1}


def test_a_datagram_longer_than_the_limit_is_counted_and_not_answered_in_part(clock: Clock) -> None:
    service = terms(clock)
    replies = replies_to(TimestampProtocol(service), b"x" * 1400, b"x" * 1401)
    assert [len(reply) for reply in replies] == [1400 + len("[Sat Nov 21 00:33:33 2026] ")]
    assert service.counters.refused == {Cause.DATAGRAM_TOO_LONG: 1}


def test_a_flood_is_answered_up_to_the_limit(clock: Clock) -> None:
    guard = DatagramGuard(SourceBuckets(rate=100, burst=200, total=0, chance=lambda: 1.0))
    assert len(replies_to(serve(clock, guard), *[b"x"] * 1000)) == 200


@pytest.mark.parametrize(
    ("failure", "label"),
    [
        (OSError(errno.EHOSTUNREACH, "No route to host"), "EHOSTUNREACH"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "EAGAIN"),
        (error.MessageLengthError("message too long"), "EMSGSIZE"),
        (OSError("without a number"), "unknown"),
    ],
)
def test_a_reply_that_cannot_be_sent_is_counted_by_its_error(clock: Clock, failure: Exception, label: str) -> None:
    service = terms(clock)
    server = TimestampProtocol(service)
    [reply] = server.batch_received([Datagram(b"x", PEER)])
    server.not_sent(reply, failure)
    counters = service.counters
    assert counters.unsent == {label: 1}
    assert (counters.replies, counters.sent_bytes, counters.received_bytes) == (0, 0, 1)


class Echo(DatagramProtocol):
    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.write(datagram, addr)


class ClassicServer(DatagramProtocol):
    """The classic ``[ctime] data`` server, which answers every datagram."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        self.transport.write(TimestampFormatter().prefix(NOW) + datagram, addr)


@pytest.mark.parametrize("other", ["itself", "netsvc", "echo", "classic"])
def test_one_forged_datagram_starts_no_endless_exchange(network: Network, other: str) -> None:
    victim = network.host("victim", "10.0.0.1")
    for port in [5200, 6200] if other == "netsvc" else [5200]:
        server = TimestampProtocol(terms(victim.reactor))
        datagram_listener(victim.reactor, "udp", str(port), partial(_same, server)).startService()
    if other in ("echo", "classic"):
        victim.reactor.listenUDP(6200, Echo() if other == "echo" else ClassicServer())
    # A datagram arrives at port 5200 that seems to come from the other service.
    [receiver] = victim.reactor.stack.sockets_for(socket.SOCK_DGRAM, "10.0.0.1", 5200)
    assert isinstance(receiver, DatagramSocket)
    receiver.receive(b"boo", ("10.0.0.1", 5200 if other == "itself" else 6200), "10.0.0.1")
    network.advance(1.0)
    sent = [event for event in network.trace if event.kind == "datagram"]
    assert len(sent) <= 2


def _same(server: TimestampProtocol) -> TimestampProtocol:
    return server
