from __future__ import annotations

import shutil
import socket
import subprocess

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from netsvc import ChargenFactory, Config, netsvc_service
from netsvc.limits.cause import Cause
from netsvc.rfc.character_lines import CHARACTER_LINES, character_line
from netsvc.rfc.chargen_server import PIECES_PER_ITERATION
from netsvc.testing import Network
from tests.connections import IterationClock, connect, lose, taken, terms
from tests.programs import SECONDS, serving

PIECE = len(CHARACTER_LINES)


def character_at(offset: int) -> int:
    """Return the character at an offset of the stream, as RFC 864 defines it: the characters are on a ring of 95."""
    line, column = divmod(offset, 74)
    return b"\r\n"[column - 72] if column >= 72 else 0x20 + (line + column) % 95


def is_from_the_stream(data: bytes, offset: int = 0) -> bool:
    return data == bytes(character_at(offset + at) for at in range(len(data)))


def test_the_lines_are_those_of_the_rfc() -> None:
    assert character_line(0) == b" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg\r\n"
    assert character_line(1) == b"!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefgh\r\n"
    assert character_line(94).startswith(b'~ !"')
    assert character_line(95) == character_line(0)


@given(st.integers(0, 10**9), st.integers(0, 300))
def test_the_stream_repeats_from_every_offset(offset: int, size: int) -> None:
    repeated = CHARACTER_LINES * 2
    assert is_from_the_stream(repeated[offset % PIECE :][:size], offset)


@given(st.lists(st.sampled_from(["iterate", "stop reading", "read"]), max_size=60))
def test_pauses_at_any_place_lose_and_repeat_nothing(steps: list[str]) -> None:
    clock = IterationClock()
    protocol, transport = connect(ChargenFactory(terms(clock)))
    for step in steps:
        match step:
            case "iterate":
                clock.iterate(0.001)
            case "stop reading":
                transport.reads = False
            case "read" if not transport.reads:
                transport.read_all()
    assert is_from_the_stream(taken(transport))
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_a_peer_that_does_not_read_is_sent_no_more_than_the_transport_holds_and_is_disconnected() -> None:
    clock = IterationClock()
    service = terms(clock, stall_timeout=10)
    protocol, transport = connect(ChargenFactory(service))
    transport.reads = False
    for _ in range(100):
        clock.iterate(0.01)
    assert transport.waiting <= 65_536 + PIECE
    assert not transport.aborted
    clock.advance(10)
    assert transport.aborted
    assert service.counters.disconnected == {Cause.STALL_TIMEOUT: 1}
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_a_peer_that_reads_again_gets_the_rest() -> None:
    clock = IterationClock()
    protocol, transport = connect(ChargenFactory(terms(clock)))
    transport.reads = False
    for _ in range(20):
        clock.iterate()
    stopped_at = len(transport.value())
    transport.read_all()
    clock.iterate()
    assert len(transport.value()) == stopped_at + PIECE
    assert is_from_the_stream(taken(transport))
    lose(protocol)


def test_peers_take_turns_and_an_iteration_sends_a_bounded_number_of_pieces() -> None:
    clock = IterationClock()
    factory = ChargenFactory(terms(clock))
    peers = [connect(factory) for _ in range(PIECES_PER_ITERATION + 36)]
    clock.iterate()
    assert sum(len(transport.value()) for _, transport in peers) == PIECES_PER_ITERATION * PIECE
    for _ in range(24):
        clock.iterate()
    assert {len(transport.value()) for _, transport in peers} == {16 * PIECE}
    for protocol, _ in peers:
        lose(protocol)
    assert not clock.getDelayedCalls()


def test_what_the_peer_sends_is_discarded_and_the_end_of_its_stream_ends_this_one() -> None:
    clock = IterationClock()
    protocol, transport = connect(ChargenFactory(terms(clock)))
    protocol.dataReceived(b"hello")
    clock.iterate()
    assert is_from_the_stream(taken(transport))
    protocol.readConnectionLost()
    assert transport.disconnecting
    clock.iterate()
    assert taken(transport) == b""
    lose(protocol)


def test_a_peer_that_reads_and_sends_nothing_is_not_idle() -> None:
    clock = IterationClock()
    protocol, transport = connect(ChargenFactory(terms(clock, idle_timeout=5)))
    for _ in range(100):
        clock.iterate(0.5)
        transport.clear()
    assert not transport.write_closed
    lose(protocol)


def test_a_peer_that_leaves_for_another_gets_no_sentence_in_its_stream() -> None:
    protocol, transport = connect(ChargenFactory(terms(Clock())))
    protocol.displace()
    assert is_from_the_stream(taken(transport))
    lose(protocol)


def test_a_stop_ends_the_stream_at_once() -> None:
    clock = IterationClock()
    factory = ChargenFactory(terms(clock))
    protocol, transport = connect(factory)
    clock.iterate()
    stopped: list[None] = []
    factory.drain(5).addCallback(stopped.append)
    assert transport.write_closed
    sent = len(transport.value())
    clock.iterate(0.1)
    assert len(transport.value()) == sent
    lose(protocol)
    assert stopped == [None]


class Collector(Protocol):
    """Keeps what it receives."""

    def __init__(self) -> None:
        self.data = b""
        self.is_lost = False

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_lost = True


def test_a_client_on_a_slow_network_gets_the_stream_and_a_stop_ends_it(network: Network) -> None:
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01, bandwidth=1_000_000)
    service = netsvc_service(server.reactor, Config(chargen=["19"]))
    service.startService()
    collector = Collector()
    connectProtocol(TCP4ClientEndpoint(client.reactor, server.address, 19), collector)
    network.advance(1.0)
    assert len(collector.data) > 10_000
    service.stopService()
    network.advance(5.0)
    assert collector.is_lost
    assert is_from_the_stream(collector.data)


def test_programs_read_the_stream_and_a_server_with_an_endless_reader_stops() -> None:
    with serving("--chargen", "127.0.0.1:0", "--tcp", "127.0.0.1:0") as (server, ports):
        echo, port = ports
        if shutil.which("socat"):
            command = ["socat", "-u", f"TCP4:127.0.0.1:{port}", "STDOUT"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
                assert program.stdout is not None
                assert is_from_the_stream(program.stdout.read(100_000))
                program.kill()
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            received = b""
            while len(received) < 1_000_000:
                received += client.recv(65_536)
            assert received == (CHARACTER_LINES * (len(received) // PIECE + 1))[: len(received)]
            with socket.create_connection(("127.0.0.1", echo), SECONDS) as other:
                other.sendall(b"still answered")
                assert other.recv(100) == b"still answered"
            server.process.terminate()
            while client.recv(65_536):
                pass
        assert server.end() == 0
