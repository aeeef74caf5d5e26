"""The timestamp client, on the simulated network."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import DatagramProtocol
from twisted.python.failure import Failure

from netsvc.net.listening import datagram_listener
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import open_udp_socket
from netsvc.testing import Host, Network
from netsvc.timestamp.client import TimestampAnswer, TimestampClient, ask_timestamp
from netsvc.timestamp.format import TimestampFormatter
from netsvc.timestamp.round_trip import Stopwatch
from netsvc.timestamp.server import TimestampProtocol
from tests.connections import terms

NOW = time.mktime((2026, 11, 21, 0, 33, 33, 0, 0, -1))
SERVER = "10.0.0.1"


@pytest.fixture
def server(network: Network) -> Host:
    return network.host("server", SERVER, "fd00::1")


@pytest.fixture
def host(network: Network) -> Host:
    """The host of the client."""
    return network.host("client")


def serve(server: Host, where: str = "5200") -> None:
    datagram_listener(server.reactor, "udp", where, lambda: TimestampProtocol(terms(server.reactor))).startService()


class Silent(DatagramProtocol):
    """Receives requests and never answers."""

    transport: Any

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, Any]] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.requests.append((datagram, addr))


def silent(server: Host) -> Silent:
    protocol = Silent()
    server.reactor.listenUDP(5200, protocol)
    return protocol


def client_of(host: Host, port: int = 5200) -> tuple[TimestampClient, IListeningPort]:
    client = TimestampClient(host.reactor, SERVER, port, timeout=1.0, tries=3)
    return client, host.reactor.listenUDP(0, client)


def failure_of(asked: Deferred[TimestampAnswer]) -> type[BaseException] | None:
    failures: list[Failure] = []
    asked.addErrback(failures.append)
    return failures[0].type


def test_the_client_returns_time_payload_and_round_trip(network: Network, server: Host, host: Host) -> None:
    network.links().set(latency=0.25)
    serve(server)
    network.advance(NOW)
    client, _ = client_of(host)
    answers: list[TimestampAnswer] = []
    client.ask(b"hello").addCallback(answers.append)
    network.advance(0.6)
    assert answers == [TimestampAnswer(datetime(2026, 11, 21, 0, 33, 33), b"hello", 0.5, 1)]
    assert not host.reactor.getDelayedCalls()


def test_a_lost_request_is_sent_again_and_the_round_trip_counts_from_the_first_try(
    network: Network, server: Host, host: Host
) -> None:
    other = silent(server)
    client, _ = client_of(host)
    answers: list[TimestampAnswer] = []
    client.ask(b"q").addCallback(answers.append)
    network.advance(1.5)
    assert [request for request, _ in other.requests] == [b"q", b"q"]
    other.transport.write(TimestampFormatter().prefix(NOW) + b"q", other.requests[-1][1])
    network.settle()
    assert [(answer.round_trip, answer.tries) for answer in answers] == [(1.5, 2)]


def test_no_answer_is_a_timeout_after_the_last_try(network: Network, server: Host, host: Host) -> None:
    other = silent(server)
    client, _ = client_of(host)
    asked = client.ask(b"q")
    network.advance(2.9)
    assert not asked.called
    network.advance(0.1)
    assert failure_of(asked) is error.TimeoutError
    assert len(other.requests) == 3


def test_only_an_answer_from_its_own_server_to_its_own_request_is_accepted(
    network: Network, server: Host, host: Host
) -> None:
    other = silent(server)
    client, port = client_of(host)
    asked = client.ask(b"mine")
    network.settle()
    peer = other.requests[0][1]
    answer = TimestampFormatter().prefix(NOW) + b"mine"
    client.datagramReceived(answer, ("192.0.2.66", 5200))  # another host
    client.datagramReceived(answer, (SERVER, 5201))  # another service of the server
    other.transport.write(TimestampFormatter().prefix(NOW) + b"yours", peer)
    other.transport.write(b"mine", peer)
    network.settle()
    assert not asked.called
    assert client.ignored == 4
    for _ in range(2):
        other.transport.write(answer, peer)
    network.settle()
    assert asked.called
    assert (client.ignored, client.duplicates) == (4, 1)
    port.stopListening()


def test_several_requests_with_different_payloads_may_be_open(network: Network, server: Host, host: Host) -> None:
    serve(server)
    client, _ = client_of(host)
    answers: list[bytes] = []
    for payload in (b"a", b"b"):
        client.ask(payload).addCallback(lambda answer: answers.append(answer.payload))
    with pytest.raises(ValueError, match="already open"):
        client.ask(b"a")
    network.settle()
    assert answers == [b"a", b"b"]


def test_a_refusal_fails_at_once(network: Network, server: Host, host: Host) -> None:
    client, _ = client_of(host, port=9)
    asked = client.ask(b"q")
    network.advance(0.1)
    assert failure_of(asked) is error.ConnectionRefusedError
    assert not host.reactor.getDelayedCalls()


def test_closing_the_port_fails_the_open_requests(network: Network, server: Host, host: Host) -> None:
    silent(server)
    client, port = client_of(host)
    asked = client.ask(b"q")
    port.stopListening()
    network.advance(0.1)
    assert failure_of(asked) is error.ConnectionDone


def test_a_cancelled_request_may_be_asked_again(network: Network, server: Host, host: Host) -> None:
    silent(server)
    client, _ = client_of(host)
    asked = client.ask(b"q")
    asked.cancel()
    assert failure_of(asked) is CancelledError
    network.settle()
    assert not host.reactor.getDelayedCalls()
    client.ask(b"q").addErrback(lambda _: None)
    network.advance(4.0)


def test_a_request_that_is_too_long_for_a_datagram_fails(server: Host, host: Host) -> None:
    client, _ = client_of(host)
    assert failure_of(client.ask(b"x" * 70_000)) is error.MessageLengthError
    assert not host.reactor.getDelayedCalls()


@pytest.mark.parametrize("port", [5200, 9])
def test_ask_timestamp_closes_its_port_after_an_answer_and_after_a_failure(
    network: Network, server: Host, host: Host, port: int
) -> None:
    serve(server)
    asking = ask_timestamp(host.reactor, "server", port, b"hello")
    if port == 9:
        with pytest.raises(error.ConnectionRefusedError):
            network.run(asking)
    else:
        assert network.run(asking).payload == b"hello"
    network.settle()
    assert not host.reactor.getReaders()


def test_the_addresses_of_a_name_are_asked_one_after_another_until_one_answers(
    network: Network, server: Host, host: Host
) -> None:
    serve(server, "[fd00::1]:5200")
    network.name("both", SERVER, "fd00::1")
    silent(server)
    answer = network.run(ask_timestamp(host.reactor, "both", 5200, b"x", timeout=1, tries=1))
    assert answer.payload == b"x"
    assert network.now >= 1.0


def test_the_kernel_of_a_simulated_host_stamps_the_answers(network: Network, server: Host, host: Host) -> None:
    network.links().set(latency=0.25)
    serve(server)
    answer = network.run(ask_timestamp(host.reactor, "server", 5200, b"x"))
    assert (answer.round_trip, answer.round_trip_source) == (0.5, "kernel")


def test_a_port_without_receive_stamps_measures_by_the_clock_of_the_process(
    network: Network, server: Host, host: Host
) -> None:
    serve(server)
    client, _ = client_of(host)
    asked = client.ask(b"x")
    network.settle()
    asked.addCallback(lambda answer: answer.round_trip_source)
    assert asked.result == "process"


def test_a_question_leaves_from_the_address_and_port_that_were_chosen(network: Network, server: Host) -> None:
    other = silent(server)
    host = network.host("multihomed", "10.0.0.5", "10.0.0.6")
    asked = ask_timestamp(host.reactor, SERVER, 5200, b"x", tries=1, source="10.0.0.6", source_port=4711)
    with pytest.raises(error.TimeoutError):
        network.run(asked)
    assert other.requests == [(b"x", ("10.0.0.6", 4711))]


def test_a_source_address_of_another_host_cannot_be_used(network: Network, server: Host, host: Host) -> None:
    with pytest.raises(error.CannotListenError):
        network.run(ask_timestamp(host.reactor, SERVER, 5200, b"x", source="10.0.0.99"))


class SetClock:
    """A wall clock that is an hour ahead at some of its readings, by their numbers."""

    def __init__(self, host: Host, ahead: range) -> None:
        self._host = host
        self._ahead = ahead
        self._number = 0

    def __call__(self) -> float:
        self._number += 1
        return self._host.reactor.seconds() + (3600 if self._number in self._ahead else 0)


def ask_with_a_clock_that_is_set(
    network: Network, server: Host, host: Host, ahead: range
) -> tuple[TimestampAnswer, TimestampClient]:
    """Ask a question whose round trip takes half a second. The wall clock is read at each send and each answer."""
    network.links().set(latency=0.25)
    serve(server)
    stopwatch = Stopwatch(host.reactor.seconds, SetClock(host, ahead))
    client = TimestampClient(host.reactor, SERVER, 5200, tries=2, stopwatch=stopwatch)
    port = UdpPort(host.reactor, client, open_udp_socket(host.reactor, "", 0, 1000, metadata=True))
    port.startListening()
    answers: list[TimestampAnswer] = []
    client.ask(b"x").addCallback(answers.append)
    network.advance(1.0)
    assert not host.reactor.getDelayedCalls()
    return answers[0], client


def test_a_question_is_asked_again_if_the_clock_was_set_during_the_measurement(
    network: Network, server: Host, host: Host
) -> None:
    answer, client = ask_with_a_clock_that_is_set(network, server, host, range(2, 3))
    assert (answer.round_trip, answer.round_trip_source) == (0.5, "kernel")
    assert (answer.tries, answer.void_round_trips) == (2, 1)
    assert (client.sent, client.lost, client.late, client.duplicates) == (2, 0, 0, 0)


def test_the_process_measures_the_round_trip_if_the_clock_was_set_at_each_try(
    network: Network, server: Host, host: Host
) -> None:
    answer, _ = ask_with_a_clock_that_is_set(network, server, host, range(2, 9, 2))
    assert (answer.round_trip, answer.round_trip_source) == (0.5, "process")
    assert (answer.tries, answer.void_round_trips) == (2, 2)


def test_a_clock_that_is_set_after_the_answer_does_no_harm(network: Network, server: Host, host: Host) -> None:
    answer, _ = ask_with_a_clock_that_is_set(network, server, host, range(3, 9))
    assert (answer.round_trip, answer.tries, answer.void_round_trips) == (0.5, 1, 0)
