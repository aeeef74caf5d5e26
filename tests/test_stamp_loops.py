"""One forged datagram between a STAMP reflector and another server: it starts no exchange that lasts.

The reflector knows an answer by its time of receipt, which is about now, and refuses source ports of services. A
reflector whose clock is wrong by more than an hour, at a port above 1023, cannot be told from a sender: only
``--udp-rate`` bounds the exchange with it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.protocol import DatagramProtocol

from netsvc import Config, netsvc_service
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.limits.token_bucket import BURST, RATE
from netsvc.net.terms import Terms
from netsvc.stamp.packets import (
    CLOCK_TOLERANCE,
    StampQuestion,
    encode_question,
    finish_answer,
    finish_authenticated_answer,
    prepare_answer,
    prepare_authenticated_answer,
)
from netsvc.stamp.stamp_times import SECOND, ErrorEstimate, TimeFormat
from netsvc.testing import Host, Network
from netsvc.testing.datagram_socket import DatagramSocket
from netsvc.timestamp.format import TimestampFormatter
from netsvc.timestamp.server import TimestampProtocol

KEY = bytes(range(32))
REFLECTOR, OTHER = "10.0.0.1", "10.0.0.2"
PREFIX = TimestampFormatter().prefix(0)

Answer = Callable[[bytes, int], bytes]


class ForeignServer(DatagramProtocol):
    """Answers every datagram, without any rule.

    :param answer: returns the answer, from the datagram and the time in nanoseconds.
    """

    def __init__(self, host: Host, answer: Answer) -> None:
        self._host = host
        self._answer = answer

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        now = round(self._host.reactor.seconds() * SECOND)
        self.transport.write(self._answer(datagram, now), addr)


def echo(datagram: bytes, now: int) -> bytes:
    """Answer as RFC 862 says."""
    return datagram


def classic(datagram: bytes, now: int) -> bytes:
    """Answer as the server of CVE-2024-2169 does."""
    return (PREFIX + datagram)[:8_192]


def reflect(datagram: bytes, now: int) -> bytes:
    """Answer as a reflector does that has no rule against loops."""
    return finish_answer(datagram, 0, 1, prepare_answer(datagram, now, 64) + datagram[44:], now)


def reflect_with_hmac(datagram: bytes, now: int) -> bytes:
    tail = prepare_authenticated_answer(datagram, now, 64)
    return finish_authenticated_answer(datagram, 0, 1, tail, now, KEY)


def reflect_with_wrong_clock(datagram: bytes, now: int) -> bytes:
    return reflect(datagram, now + (CLOCK_TOLERANCE + 60) * SECOND)


def question(key: bytes | None = None, time_format: TimeFormat = TimeFormat.NTP) -> bytes:
    return encode_question(StampQuestion(7, 0, ErrorEstimate(False, time_format, 0.001), 9), key)


def serve(network: Network, **settings: object) -> None:
    """Serve STAMP on one host."""
    netsvc_service(network.host("reflector", REFLECTOR).reactor, Config(**settings)).startService()  # type: ignore[arg-type]


def listen(network: Network, port: int, answer: Answer) -> None:
    """Let the other host answer."""
    other = network.host("other", OTHER)
    other.reactor.listenUDP(port, ForeignServer(other, answer))


def forge(network: Network, port: int, source: int, payload: bytes, count: int = 1) -> None:
    """Let datagrams arrive at the reflector that seem to come from the other server."""
    network.advance(1.0)  # at the epoch, a time in the format of PTP is zeros, as in a question
    [receiver] = network.hosts["reflector"].reactor.stack.sockets_for(socket.SOCK_DGRAM, REFLECTOR, port)
    assert isinstance(receiver, DatagramSocket)
    for _ in range(count):
        receiver.receive(payload, (OTHER, source), REFLECTOR)


def exchanged(network: Network, seconds: float = 10.0) -> int:
    """Let time pass. Return how many datagrams were sent meanwhile."""

    def sent() -> int:
        return sum(event.kind == "datagram" for event in network.trace)

    before = sent()
    network.advance(seconds)
    return sent() - before


#: Two reflectors of netsvc: the ports of both.
PAIRS = [(862, 862), (8620, 8620), (8620, 8621), (862, 8620), (8620, 862)]


@pytest.mark.parametrize("time_format", TimeFormat)
@pytest.mark.parametrize("trusted", [False, True], ids=["default", "stamp-from"])
@pytest.mark.parametrize("key", [None, KEY], ids=["unauthenticated", "authenticated"])
@pytest.mark.parametrize(("port", "source"), PAIRS)
def test_the_first_answer_between_two_reflectors_is_the_last_one(
    network: Network, tmp_path: Path, port: int, source: int, key: bytes | None, trusted: bool, time_format: TimeFormat
) -> None:
    network.links().set(latency=0.01)
    file = tmp_path / "keys"
    file.write_text(f"* {KEY.hex()}\n")
    keys = None if key is None else str(file)
    serve(network, stamp=[str(port)], stamp_keys=keys, stamp_from=[OTHER] if trusted else [])
    other = Config(stamp=[str(source)], stamp_keys=keys, stamp_from=[REFLECTOR] if trusted else [])
    netsvc_service(network.host("other", OTHER).reactor, other).startService()
    forge(network, port, source, question(key, time_format))
    is_refused = not trusted and (source < 1024 or source == port)
    assert exchanged(network) == (0 if is_refused else 1)
    assert exchanged(network) == 0


#: Other servers: their port, what they answer, what is forged, and how many datagrams that costs.
OTHERS = {
    "an echo": (50_000, echo, question(), 2),
    "an echo at its own port": (7, echo, question(), 0),
    "a reflector": (8621, reflect, question(), 2),
    "a reflector at its own port": (862, reflect, question(), 0),
    # Its answers are 27 octets longer, until they are longer than --udp-max-size.
    "a classic timestamp server": (50_000, classic, question(), 2 * (MAX_SIZE - 44) // 27 + 2),
    "a classic timestamp server, from its answer": (50_000, classic, PREFIX + b"boo", 2 * (MAX_SIZE - 44) // 27 + 2),
    "a classic timestamp server at its own port": (520, classic, question(), 0),
}


@pytest.mark.parametrize(("port", "answer", "payload", "most"), OTHERS.values(), ids=OTHERS)
def test_a_server_without_any_rule_does_not_keep_a_reflector_busy(
    network: Network, port: int, answer: Answer, payload: bytes, most: int
) -> None:
    network.links().set(latency=0.01)
    serve(network, stamp=["8620"])
    listen(network, port, answer)
    forge(network, 8620, port, payload)
    assert exchanged(network) == most
    assert exchanged(network) == 0


@pytest.mark.parametrize(("answer", "key"), [(echo, KEY), (reflect_with_hmac, KEY)], ids=["echo", "reflector"])
def test_nor_does_one_without_any_rule_in_the_authenticated_mode(
    network: Network, tmp_path: Path, answer: Answer, key: bytes
) -> None:
    network.links().set(latency=0.01)
    file = tmp_path / "keys"
    file.write_text(f"* {key.hex()}\n")
    serve(network, stamp=["8620"], stamp_keys=str(file))
    listen(network, 50_000, answer)
    forge(network, 8620, 50_000, question(key))
    assert exchanged(network) == 2
    assert exchanged(network) == 0


@pytest.mark.parametrize("answer", [echo, reflect], ids=["echo", "reflector"])
@pytest.mark.parametrize("port", [7, 862, 8620])
def test_nor_does_one_that_stamp_from_names(network: Network, port: int, answer: Answer) -> None:
    network.links().set(latency=0.01)
    serve(network, stamp=["8620"], stamp_from=[OTHER])
    listen(network, port, answer)
    forge(network, 8620, port, question())
    assert exchanged(network) == 2
    assert exchanged(network) == 0


def test_the_timestamps_of_netsvc_end_the_exchange_when_their_answers_are_too_long(network: Network) -> None:
    network.links().set(latency=0.01)
    serve(network, stamp=["8620"])
    other = network.host("other", OTHER)
    other.reactor.listenUDP(5200, TimestampProtocol(Terms.on(other.reactor)))
    forge(network, 8620, 5200, question())
    assert exchanged(network) <= 2 * MAX_SIZE // 27 + 2
    assert exchanged(network) == 0


def test_a_reflector_with_a_wrong_clock_is_not_told_from_a_sender_and_the_rate_limit_bounds_it(
    network: Network,
) -> None:
    network.links().set(latency=0.01)
    serve(network, stamp=["8620"])
    listen(network, 8621, reflect_with_wrong_clock)
    forge(network, 8620, 8621, question())
    assert exchanged(network) == 1_000  # a round trip takes 20 ms: 50 answers per second each
    forge(network, 8620, 8621, question(), count=1_000)
    exchanged(network)
    # Above the limit, 1 in 16 is answered nevertheless, so not all of them end.
    assert 10 * RATE < exchanged(network) <= 2 * 10 * RATE * 1.05


def test_on_a_short_way_the_rate_limit_ends_it(network: Network) -> None:
    network.links().set(latency=0.0005)
    serve(network, stamp=["8620"])
    listen(network, 8621, reflect_with_wrong_clock)
    forge(network, 8620, 8621, question())
    assert 2 * BURST <= exchanged(network) <= 6 * BURST
    assert exchanged(network) == 0
