from __future__ import annotations

import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import error, reactor  # noqa: TID251  real sockets, where the system has a say
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock

from netsvc import DatagramConversation, TimestampProtocol, ask_timestamp
from netsvc.net.datagram_protocol import DATAGRAMS_PER_ITERATION, DatagramService, listen_for
from netsvc.timestamp.format import is_timestamp_reply
from netsvc.wire.datagram import Datagram
from tests.connections import terms
from tests.programs import listening, port_of

SECONDS = 10
PEER = ("192.0.2.1", 40_000)


class Port:
    """The part of a ``reactor.listenUDP`` port that a service calls."""

    maxThroughput = 256 * 1024

    def __init__(self, failure: Exception | None = None) -> None:
        self.sent: list[tuple[bytes, Any]] = []
        self._failure = failure

    def write(self, payload: bytes, peer: Any) -> None:
        if self._failure is not None:
            raise self._failure
        self.sent.append((payload, peer))


class Echo(DatagramService):
    """Replies with the datagram; keeps what could not be sent."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.failures: list[Exception] = []

    def batch_received(self, batch: Any) -> list[Datagram]:
        return [Datagram(datagram.payload, datagram.peer) for datagram in batch]

    def not_sent(self, reply: Datagram, failure: Exception) -> None:
        self.failures.append(failure)


def connected(clock: Clock, port: Port) -> Echo:
    service = Echo(clock)
    service.makeConnection(port)  # type: ignore[arg-type]
    return service


def test_a_service_replies_on_the_port_of_listen_udp_too() -> None:
    port = Port()
    connected(Clock(), port).datagramReceived(b"hello", PEER)
    assert port.sent == [(b"hello", PEER)]


@pytest.mark.parametrize("failure", [OSError(113, "No route to host"), error.MessageLengthError("too long")])
def test_the_service_is_told_of_a_reply_that_was_not_sent(failure: Exception) -> None:
    service = connected(Clock(), Port(failure))
    service.datagramReceived(b"hello", PEER)
    assert service.failures == [failure]


def test_the_port_of_listen_udp_is_stopped_after_so_many_datagrams_in_an_iteration() -> None:
    clock, port = Clock(), Port()
    service = connected(clock, port)
    for _ in range(DATAGRAMS_PER_ITERATION):
        assert port.maxThroughput > 0  # Twisted's loop goes on
        service.datagramReceived(b"", PEER)
    assert port.maxThroughput == 0  # and ends here
    service.datagramReceived(b"", PEER)  # from a reactor that does not know this limit
    clock.advance(0)
    assert port.maxThroughput > 0


def test_a_port_that_closes_in_mid_iteration_leaves_no_call() -> None:
    clock, port = Clock(), Port()
    service = connected(clock, port)
    for _ in range(DATAGRAMS_PER_ITERATION):
        service.datagramReceived(b"", PEER)
    service.doStop()
    assert not clock.getDelayedCalls()


@ensureDeferred
async def test_a_refusal_by_the_system_is_reported_on_every_reactor() -> None:
    with listening(socket.SOCK_DGRAM) as gone:
        port = port_of(gone)
    with pytest.raises(error.ConnectionRefusedError):
        await Deferred.fromCoroutine(ask_timestamp(reactor, "127.0.0.1", port, b"x")).addTimeout(SECONDS, reactor)
    talk = DatagramConversation(reactor, print, peer=("127.0.0.1", port))
    listen_for(reactor, talk, "127.0.0.1")
    talk.send(b"anybody?")
    with pytest.raises(error.ConnectionRefusedError):
        await talk.ended.addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_a_real_port_of_listen_udp_processes_so_many_datagrams_per_iteration() -> None:
    service = terms(reactor)
    port = listen_for(reactor, TimestampProtocol(service), "127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port.getHost().port))  # type: ignore[attr-defined]
        for _ in range(100):
            client.send(b"")
        replies = []
        while service.counters.replies < 100:
            iteration: Deferred[None] = Deferred()
            reactor.callLater(0, iteration.callback, None)
            await iteration
            replies.append(service.counters.replies)
        assert DATAGRAMS_PER_ITERATION in replies
        client.settimeout(SECONDS)
        assert is_timestamp_reply(client.recv(100))
    await maybeDeferred(port.stopListening)
