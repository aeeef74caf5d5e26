from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory

from netsvc.echo.server import EchoFactory
from netsvc.limits.stream_limits import StreamLimits
from netsvc.net.connection_state import ConnectionState
from netsvc.net.kernel_buffers import SEND_BUFFER, UNSENT_MAX, acknowledged_bytes, bound_kernel_buffers
from netsvc.net.stream_factory import CLOSES_PER_ITERATION
from netsvc.net.stream_protocol import StreamProtocol
from tests.connections import IterationClock, TCPTransport, connect, terms

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")

KIB = 1024


class Connection:
    """A real TCP connection on loopback that a bounded port has accepted."""

    def __init__(self, stack: ExitStack, limits: StreamLimits) -> None:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        bound_kernel_buffers(listening, limits)
        self.peer = stack.enter_context(socket.socket())
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.peer.connect(listening.getsockname())
        self.peer.setblocking(False)
        self.socket = stack.enter_context(listening.accept()[0])
        self.socket.setblocking(False)

    def option(self, level: int, option: int) -> int:
        return self.socket.getsockopt(level, option)

    def fill(self) -> int:
        """Send until the kernel takes no more. Return the number of bytes."""
        sent = 0
        while True:
            try:
                sent += self.socket.send(bytes(64 * KIB))
            except BlockingIOError:
                return sent

    def read_all(self) -> None:
        """Let the peer read until everything has arrived."""
        while acknowledged_bytes(transport_on(self.socket)) is not None:
            try:
                self.peer.recv(64 * KIB)
            except BlockingIOError:
                continue


def transport_on(opened: socket.socket) -> TCPTransport:
    transport = TCPTransport()
    transport.socket = opened  # type: ignore[attr-defined]  # as Twisted's transports have it
    return transport


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def test_an_accepted_connection_has_the_bounds_of_its_port(stack: ExitStack) -> None:
    connection = Connection(stack, StreamLimits(receive_buffer=20_000, stall_timeout=90))
    assert connection.option(socket.SOL_SOCKET, socket.SO_RCVBUF) == 40_000
    assert connection.option(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BUFFER
    assert connection.option(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_MAX
    assert connection.option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 105_000


def test_a_number_that_is_too_large_for_the_system_is_as_much_as_it_takes(stack: ExitStack) -> None:
    connection = Connection(stack, StreamLimits(receive_buffer=2**40, stall_timeout=1e9))
    assert connection.option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2**31 - 1


def test_zero_leaves_the_receive_buffer_and_the_timeout_to_the_kernel(stack: ExitStack) -> None:
    bounded = Connection(stack, StreamLimits(receive_buffer=20_000))
    connection = Connection(stack, StreamLimits(receive_buffer=0, stall_timeout=0))
    assert connection.option(socket.SOL_SOCKET, socket.SO_RCVBUF) > bounded.option(socket.SOL_SOCKET, socket.SO_RCVBUF)
    assert connection.option(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


def test_a_unix_socket_is_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        before = listening.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        bound_kernel_buffers(listening, StreamLimits())
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
        assert acknowledged_bytes(transport_on(listening)) is None


def test_the_kernel_takes_little_for_a_peer_that_does_not_read(stack: ExitStack) -> None:
    assert Connection(stack, StreamLimits()).fill() <= 3 * UNSENT_MAX  # one segment of 64 KiB may exceed the bound


def test_what_the_peer_has_acknowledged_is_known_until_it_is_everything(stack: ExitStack) -> None:
    connection = Connection(stack, StreamLimits())
    transport = transport_on(connection.socket)
    assert acknowledged_bytes(transport) is None
    sent = connection.fill()
    before = acknowledged_bytes(transport)
    assert before is not None
    assert before < sent
    connection.read_all()
    assert acknowledged_bytes(transport) is None


def test_a_wrapped_transport_is_looked_into(stack: ExitStack) -> None:
    connection = Connection(stack, StreamLimits())
    connection.fill()
    wrapper = ProtocolWrapper(WrappingFactory(EchoFactory(terms(Clock()))), StreamProtocol())
    wrapper.transport = transport_on(connection.socket)
    assert acknowledged_bytes(wrapper) is not None


def test_a_transport_without_a_socket_and_a_closed_one_tell_nothing(stack: ExitStack) -> None:
    connection = Connection(stack, StreamLimits())
    connection.socket.close()
    assert acknowledged_bytes(TCPTransport()) is None
    assert acknowledged_bytes(transport_on(connection.socket)) is None


def served(clock: Clock, connection: Connection, **limits: float) -> StreamProtocol:
    """Let an echo serve a real connection, and return its protocol."""
    transport = transport_on(connection.socket)
    protocol, _ = connect(EchoFactory(terms(clock, idle_timeout=0, **limits)), transport=transport)
    return protocol


def aborted(protocol: StreamProtocol) -> bool:
    return protocol.state is ConnectionState.ABORTED


def advance(clock: Clock, seconds: int) -> None:
    for _ in range(seconds):
        clock.advance(1)


def test_a_peer_that_acknowledges_nothing_for_a_minute_is_disconnected(stack: ExitStack) -> None:
    clock = Clock()
    connection = Connection(stack, StreamLimits())
    protocol = served(clock, connection)
    connection.fill()
    advance(clock, 59)
    assert not aborted(protocol)
    advance(clock, 11)
    assert aborted(protocol)
    assert [cause.label for cause in protocol.terms.counters.disconnected] == ["stall_timeout"]


def test_a_longer_stall_timeout_gives_a_silent_peer_as_long(stack: ExitStack) -> None:
    clock = Clock()
    connection = Connection(stack, StreamLimits())
    protocol = served(clock, connection, stall_timeout=200)
    connection.fill()
    advance(clock, 199)
    assert not aborted(protocol)
    advance(clock, 11)
    assert aborted(protocol)


def test_a_peer_that_reads_slowly_is_not_disconnected(stack: ExitStack) -> None:
    clock = Clock()
    connection = Connection(stack, StreamLimits())
    protocol = served(clock, connection)
    for _ in range(10):
        connection.fill()
        advance(clock, 50)
        connection.read_all()
    assert not aborted(protocol)


def test_without_a_stall_timeout_no_peer_is_disconnected_for_silence(stack: ExitStack) -> None:
    clock = Clock()
    connection = Connection(stack, StreamLimits())
    protocol = served(clock, connection, stall_timeout=0)
    connection.fill()
    advance(clock, 500)
    assert not aborted(protocol)


class Queueing(FileDescriptor):
    """The part of Twisted's transports that queues."""

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "192.0.2.1", 40_000)


def memory_of(pieces: list[bytes]) -> int:
    return sys.getsizeof(pieces) + sum(map(sys.getsizeof, pieces))


def test_small_pieces_that_wait_take_at_most_twice_their_size() -> None:
    clock = Clock()
    factory = EchoFactory(terms(clock))
    protocol = factory.buildProtocol(None)
    transport = Queueing(MemoryReactor())
    transport.connected = 1
    assert protocol is not None
    protocol.makeConnection(transport)
    for number in range(32 * KIB):
        protocol.dataReceived(number.to_bytes(2, "big"))
    pieces: list[bytes] = transport._tempDataBuffer
    assert b"".join(pieces) == b"".join(number.to_bytes(2, "big") for number in range(32 * KIB))
    assert memory_of(pieces) <= 128 * KIB


def test_a_limited_number_of_peers_is_disconnected_in_one_iteration(stack: ExitStack) -> None:
    clock = IterationClock()
    connection = Connection(stack, StreamLimits())
    connection.fill()
    factory = EchoFactory(terms(clock, idle_timeout=0))
    protocols = [connect(factory, transport=transport_on(connection.socket))[0] for _ in range(20)]
    disconnected: list[int] = []
    while not all(map(aborted, protocols)):
        clock.iterate(0.5)
        disconnected.append(sum(map(aborted, protocols)) - sum(disconnected))
    assert max(disconnected) <= CLOSES_PER_ITERATION
