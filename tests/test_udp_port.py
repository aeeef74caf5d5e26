"""netsvc's UDP ports, on real sockets and on simulated ones."""

from __future__ import annotations

import errno
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any
from unittest.mock import Mock

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  real sockets
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock

from netsvc.limits.cause import Cause
from netsvc.net.datagram_protocol import DATAGRAMS_PER_ITERATION, ConnectedDatagramProtocol, DatagramService, listen_for
from netsvc.net.listening import Listener, datagram_listener
from netsvc.net.shared_ports import SharedPorts
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import SINGLE_SENDS_MAX, TELLS_LOCAL_ADDRESS, KernelUdpSocket, open_udp_socket
from netsvc.testing import Network
from netsvc.timestamp.client import ask_timestamp
from netsvc.timestamp.server import TimestampProtocol
from netsvc.wire.datagram import Datagram, UdpSocket
from tests.connections import terms

SECONDS = 10

linux = pytest.mark.skipif(not TELLS_LOCAL_ADDRESS, reason="the system does not tell the local address")


def serve(ports: Any, text: str, service: Any = None) -> tuple[Listener, int]:
    listener = datagram_listener(ports, "udp", text, service or (lambda: TimestampProtocol(terms(reactor))), 1400)
    listener.startService()
    port: int = listener.addresses()[0].port  # type: ignore[attr-defined]
    return listener, port


async def stop(*listeners: Listener) -> None:
    for listener in listeners:
        await listener.stopService().addTimeout(SECONDS, reactor)


@linux
@pytest.mark.parametrize("ports", [reactor, SharedPorts(reactor)], ids=["alone", "shared"])
@pytest.mark.parametrize("wildcard", ["0", "0.0.0.0:0"])
@pytest.mark.parametrize("asked", ["127.0.0.1", "127.0.0.77"])
@ensureDeferred
async def test_a_reply_leaves_from_the_address_that_was_asked(ports: Any, wildcard: str, asked: str) -> None:
    # The client's socket is connected: the system drops what comes from another address.
    listener, port = serve(ports, wildcard)
    for payload in (b"one", b"two"):
        answer = await Deferred.fromCoroutine(ask_timestamp(reactor, asked, port, payload))
        assert answer.payload == payload
    await stop(listener)


@ensureDeferred
async def test_ipv6_is_answered_on_a_bare_port() -> None:
    listener, port = serve(reactor, "0")
    answer = await Deferred.fromCoroutine(ask_timestamp(reactor, "::1", port, b"hello"))
    assert answer.payload == b"hello"
    await stop(listener)


@linux
@ensureDeferred
async def test_a_socket_that_systemd_opened_replies_from_the_address_that_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as inherited:
        inherited.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        inherited.bind(("::", 0))
        monkeypatch.setenv("LISTEN_FDNAMES", ":".join([*["other"] * (inherited.fileno() - 3), "mine"]))
        listener, port = serve(reactor, "systemd:domain=INET6:name=mine")
        for _ in range(2):  # and once more after a stop
            answer = await Deferred.fromCoroutine(ask_timestamp(reactor, "127.0.0.77", port, b"hello"))
            assert answer.payload == b"hello"
            await stop(listener)
            listener.startService()
        await stop(listener)


class Receiver(ConnectedDatagramProtocol):
    """Keeps the datagrams of its peer."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.received: Deferred[bytes] = Deferred()

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.callback(datagram)

    def closed(self, reason: Exception) -> None: ...


class Later(DatagramService):
    """Sends something to another address at once, and replies later."""

    def __init__(self, other: tuple[str, int]) -> None:
        super().__init__(reactor)
        self._other = other

    def received(self, datagram: Datagram) -> None:
        self.transport.write(b"to another", self._other)
        reactor.callLater(0, self.transport.write, b"later", datagram.peer[:2])


@pytest.mark.parametrize("where", ["0.0.0.0:0", "0"])
@ensureDeferred
async def test_a_service_may_send_at_any_time(where: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(SECONDS)
        listener, port = serve(reactor, where, lambda: Later(other.getsockname()))
        client = Receiver("127.0.0.1", port)
        clients = listen_for(reactor, client, "127.0.0.1")
        client.transport.write(b"hello")
        assert await client.received.addTimeout(SECONDS, reactor) == b"later"
        assert other.recv(100) == b"to another"
        await maybeDeferred(clients.stopListening)
        await stop(listener)


class Faulty(DatagramService):
    """Fails at the first batch, and echoes those after it."""

    failed = False

    def __init__(self) -> None:
        super().__init__(reactor)

    def batch_received(self, batch: Sequence[Datagram]) -> list[Datagram]:
        if not self.failed:
            self.failed = True
            raise ValueError("a fault of the service")
        return [Datagram(datagram.payload, datagram.peer, datagram.local) for datagram in batch]


@pytest.mark.logs_failure("ValueError")
@ensureDeferred
async def test_the_failure_of_a_service_is_logged_and_the_port_stays_open() -> None:
    service = Faulty()
    listener, port = serve(reactor, "0", lambda: service)
    client = Receiver("127.0.0.77", port)
    clients = listen_for(reactor, client, "127.0.0.1")
    client.transport.write(b"one")
    while not service.failed:
        await iteration()
    client.transport.write(b"two")
    assert await client.received.addTimeout(SECONDS, reactor) == b"two"
    await maybeDeferred(clients.stopListening)
    await stop(listener)


async def iteration() -> None:
    done: Deferred[None] = Deferred()
    reactor.callLater(0, done.callback, None)
    await done


class FailsForOne(DatagramService):
    """Fails for the datagram ``bad``."""

    def __init__(self) -> None:
        super().__init__(reactor)
        self.payloads: list[bytes] = []

    def received(self, datagram: Datagram) -> None:
        if datagram.payload == b"bad":
            raise ValueError("a fault of the service")
        self.payloads.append(datagram.payload)


@pytest.mark.logs_failure("ValueError")
@ensureDeferred
async def test_the_failure_for_one_datagram_does_not_lose_the_others_of_its_batch() -> None:
    service = FailsForOne()
    listener, port = serve(reactor, "127.0.0.1:0", lambda: service)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        for payload in (b"one", b"bad", b"two"):
            client.send(payload)
        while len(service.payloads) < 2:
            await iteration()
    await stop(listener)
    assert service.payloads == [b"one", b"two"]
    service.pauseProducing()  # after the port is closed
    service.resumeProducing()


class Collector(DatagramService):
    """Keeps the sizes of the batches."""

    def __init__(self) -> None:
        super().__init__(reactor)
        self.sizes: list[int] = []

    def batch_received(self, batch: Sequence[Datagram]) -> list[Datagram]:
        self.sizes.append(len(batch))
        return []


@ensureDeferred
async def test_a_port_receives_a_bounded_batch_per_iteration_and_none_while_it_is_paused() -> None:
    service = Collector()
    listener, port = serve(reactor, "127.0.0.1:0", lambda: service)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port))
        service.pauseProducing()
        for _ in range(100):
            client.send(b"x")
        for _ in range(5):
            await iteration()
        assert service.sizes == []
        service.resumeProducing()
        totals = [0]
        while totals[-1] < 100:
            await iteration()
            totals.append(sum(service.sizes))
    assert max(after - before for before, after in pairwise(totals)) == DATAGRAMS_PER_ITERATION
    await stop(listener)


class CountedSocket:
    """A socket with datagrams in memory, which keeps what each call asked for and returned."""

    def __init__(self) -> None:
        self.waiting = 0
        self.calls: list[tuple[int, int]] = []

    def arrive(self, number: int) -> None:
        self.waiting += number

    def receive_batch(self, maximum: int) -> list[Datagram]:
        count = min(maximum, self.waiting)
        self.waiting -= count
        self.calls.append((maximum, count))
        return [Datagram(b"x", ("192.0.2.1", 7))] * count

    def send_batch(self, datagrams: Sequence[Datagram]) -> list[Any]:
        return []

    def dropped(self) -> int:
        return 0

    def fileno(self) -> int:
        return 3


def counted_port() -> tuple[UdpPort, CountedSocket]:
    counted = CountedSocket()
    port = UdpPort(Mock(), Collector(), counted)  # type: ignore[arg-type]  # what doRead calls
    port.startReading()
    return port, counted


def reads(port: UdpPort, counted: CountedSocket, number: int) -> list[tuple[int, int]]:
    """Return the calls of one read of the port, before which ``number`` datagrams have arrived."""
    counted.arrive(number)
    counted.calls.clear()
    port.doRead()
    return list(counted.calls)


def test_many_datagrams_are_received_by_one_call_and_few_by_one_for_each() -> None:
    port, counted = counted_port()
    assert reads(port, counted, 20) == [(1, 1)] * 4 + [(60, 16), (44, 0)]
    assert reads(port, counted, 20) == [(64, 20), (44, 0)]
    assert reads(port, counted, 2) == [(64, 2), (1, 0)]
    assert reads(port, counted, 2) == [(1, 1), (1, 1), (1, 0)]
    assert sum(count for _, count in reads(port, counted, 100)) == DATAGRAMS_PER_ITERATION


def test_a_port_seldom_tries_to_receive_a_second_datagram_if_there_has_been_none() -> None:
    port, counted = counted_port()
    assert [len(reads(port, counted, 1)) for _ in range(4)] == [2] * 4
    tries = sum(len(reads(port, counted, 1)) - 1 for _ in range(30))
    assert tries == 4
    counted.arrive(20)
    while counted.waiting:  # a try finds one
        port.doRead()
    assert len(reads(port, counted, 2)) > 1


@pytest.mark.parametrize("burst", range(2, 20))
def test_a_burst_of_any_length_ends_the_reading_of_single_datagrams(burst: int) -> None:
    port, counted = counted_port()
    for _ in range(4):
        reads(port, counted, 1)
    for _ in range(15):
        counted.arrive(burst)
        while counted.waiting:
            port.doRead()
    assert sum(count for _, count in reads(port, counted, burst)) == burst


# The socket interface: the same on real and on simulated sockets


def receive(udp: UdpSocket, network: Network) -> list[Datagram]:
    """Return the next batch. Real datagrams on loopback are there at once; simulated ones take a step."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        network.advance(0.01)
        if batch := udp.receive_batch(10):
            return batch
    raise AssertionError("no datagram arrived")


def hosts(kind: str, network: Network) -> tuple[Any, str, str]:
    """Return a reactor, and two addresses of its host."""
    if kind == "real":
        return reactor, "127.0.0.1", "127.0.0.77"
    return network.host("host", "10.0.0.1", "10.0.0.77", "fd00::1").reactor, "10.0.0.1", "10.0.0.77"


kinds = pytest.mark.parametrize("kind", [pytest.param("real", marks=linux), "simulated"])


@kinds
@pytest.mark.parametrize("interface", ["0.0.0.0", "::"])
def test_a_datagram_carries_its_peer_its_local_address_and_its_metadata(
    kind: str, network: Network, interface: str
) -> None:
    host, first, second = hosts(kind, network)
    server = open_udp_socket(host, interface, 0, 1000, metadata=True)
    client = open_udp_socket(host, first, 0, 1000)
    port = server.getsockname()[1]
    assert client.send_batch([Datagram(b"to one", (first, port)), Datagram(b"to the other", (second, port))]) == []
    batch = receive(server, network)
    while len(batch) < 2:
        batch += receive(server, network)
    mapped = "::ffff:" if interface == "::" else ""
    assert [datagram.peer[:2] for datagram in batch] == [(mapped + first, client.getsockname()[1])] * 2
    locals_ = [socket.inet_ntoa((datagram.local or b"")[-4:]) for datagram in batch]
    assert locals_ == [first, second]
    now = time.time() if kind == "real" else network.now  # noqa: TID251  the clock of the kernel
    for datagram in batch:
        assert datagram.kernel_time is not None
        assert abs(now - datagram.kernel_time / 1e9) < SECONDS
        assert (datagram.ttl, datagram.traffic_class) == (64, 0)
    # A reply that takes over the local address leaves from it.
    assert server.send_batch([Datagram(b"reply", datagram.peer, datagram.local) for datagram in batch]) == []
    replies = receive(client, network)
    while len(replies) < 2:
        replies += receive(client, network)
    assert [(reply.payload, reply.peer[0]) for reply in replies] == [(b"reply", first), (b"reply", second)]
    server.close()
    client.close()
    assert server.fileno() == -1


def test_a_broadcast_datagram_has_another_destination_than_the_address_to_reply_from(network: Network) -> None:
    server = network.host("server", "10.0.0.1")
    client = network.host("client", "10.0.0.2")
    receiving = open_udp_socket(server.reactor, "0.0.0.0", 7, 1000)
    sending = client.reactor.listenUDP(0, DatagramService(client.reactor))
    sending.setBroadcastAllowed(True)  # type: ignore[attr-defined]
    sending.write(b"anybody?", ("255.255.255.255", 7))  # type: ignore[attr-defined]
    [datagram] = receive(receiving, network)
    assert datagram.destination == b"\xff\xff\xff\xff"
    assert datagram.local == b"\x0a\0\0\x01"
    assert datagram.sent_to_group
    assert receiving.send_batch([Datagram(b"here", datagram.peer, datagram.local)]) == []


@linux
@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize(("interface", "prefix"), [("0.0.0.0", b""), ("::", b"\0" * 10 + b"\xff\xff")])
def test_a_real_broadcast_datagram_has_another_destination_than_the_address_to_reply_from(
    network: Network, interface: str, prefix: bytes, metadata: bool
) -> None:
    server = open_udp_socket(reactor, interface, 0, 1000, metadata=metadata)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"anybody?", ("127.255.255.255", server.getsockname()[1]))
        [datagram] = receive(server, network)
    assert datagram.destination == prefix + socket.inet_aton("127.255.255.255")
    assert datagram.local == prefix + socket.inet_aton("127.0.0.1")
    assert datagram.sent_to_group
    server.close()


@linux
@pytest.mark.parametrize("where", ["0", "0.0.0.0:0"])
@ensureDeferred
async def test_a_datagram_to_a_broadcast_address_is_not_answered(where: str) -> None:
    service = terms(reactor)
    listener, port = serve(reactor, where, lambda: TimestampProtocol(service))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.sendto(b"anybody?", ("127.255.255.255", port))
        answer = await Deferred.fromCoroutine(ask_timestamp(reactor, "127.0.0.1", port, b"you"))
        assert answer.payload == b"you"
        with pytest.raises(BlockingIOError):
            client.recv(100, socket.MSG_DONTWAIT)
    assert service.counters.refused == {Cause.SENT_TO_GROUP: 1}
    assert service.counters.replies == 1
    await stop(listener)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
@pytest.mark.parametrize("size", [100, 8_000])
@ensureDeferred
async def test_datagrams_that_the_kernel_drops_are_counted(size: int) -> None:
    service = terms(reactor)
    port = UdpPort(reactor, TimestampProtocol(service), open_udp_socket(reactor, "127.0.0.1", 0, 1000))
    address = port.getHost()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((address.host, address.port))
        port.startListening()
        for _ in range(20):
            for _ in range(1_000):
                client.send(bytes(size))
            port.doRead()
    assert 0 < service.counters.dropped_datagrams <= port.socket.dropped() < 20_000
    await port.stopListening()


def test_datagrams_that_a_simulated_host_drops_are_counted(network: Network) -> None:
    server, client = network.host("server", "10.0.0.1"), network.host("client", "10.0.0.2")
    service = terms(server.reactor)
    port = UdpPort(server.reactor, TimestampProtocol(service), open_udp_socket(server.reactor, "10.0.0.1", 7, 1000))
    sender = open_udp_socket(client.reactor, "10.0.0.2", 0, 1000)
    sender.send_batch([Datagram(bytes(1000), ("10.0.0.1", 7))] * 2_000)
    network.advance(1.0)
    port.startListening()
    network.advance(1.0)
    assert 0 < service.counters.dropped_datagrams < 2_000
    port.stopListening()


class FailingSocket:
    """A real socket whose system calls fail at first."""

    def __init__(self, udp_socket: UdpSocket, failures: list[OSError]) -> None:
        self._socket = udp_socket
        self._failures = failures

    def receive_batch(self, maximum: int) -> list[Datagram]:
        if self._failures:
            raise self._failures.pop()
        return self._socket.receive_batch(maximum)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@ensureDeferred
async def test_a_failed_receive_is_counted_and_the_port_lives_on() -> None:
    service = terms(reactor)
    failing: Any = FailingSocket(
        open_udp_socket(reactor, "127.0.0.1", 0, 1000), [OSError(errno.ENOMEM, ""), OSError(errno.EIO, "")]
    )
    port = UdpPort(reactor, TimestampProtocol(service), failing)
    port.startListening()
    answer = await Deferred.fromCoroutine(ask_timestamp(reactor, "127.0.0.1", port.getHost().port, b"hello"))
    assert answer.payload == b"hello"
    assert service.counters.unreceived == {"EIO": 1, "ENOMEM": 1}
    await port.stopListening()


def test_a_service_that_pauses_after_a_failed_receive_stays_paused(network: Network) -> None:
    host = network.host("server", "10.0.0.1")
    failing: Any = FailingSocket(open_udp_socket(host.reactor, "10.0.0.1", 7, 1000), [OSError(errno.ENOMEM, "")])
    service = TimestampProtocol(terms(host.reactor))
    port = UdpPort(host.reactor, service, failing)
    port.startListening()
    port.doRead()
    service.pauseProducing()
    network.advance(1.0)
    assert port not in host.reactor.getReaders()
    service.resumeProducing()
    assert port in host.reactor.getReaders()
    port.stopListening()
    network.advance(1.0)


def test_datagrams_that_arrived_before_a_failed_receive_are_returned_first() -> None:
    received: list[Any] = [(b"one", [], 0, ("192.0.2.1", 4000)), (b"two", [], 0, ("192.0.2.1", 4000))]

    class Socket(socket.socket):
        def recvmsg(self, *_: int) -> Any:
            if not received:
                raise OSError(errno.ENOMEM, "")
            return received.pop(0)

    bound = Socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    udp_socket = KernelUdpSocket(bound, 1000, batches=False)
    assert [datagram.payload for datagram in udp_socket.receive_batch(64)] == [b"one", b"two"]
    with pytest.raises(OSError, match="12"):
        udp_socket.receive_batch(64)
    udp_socket.close()


@ensureDeferred
async def test_a_port_may_be_closed_after_a_failed_receive() -> None:
    failing: Any = FailingSocket(open_udp_socket(reactor, "127.0.0.1", 0, 1000), [OSError(errno.ENOMEM, "")])
    port = UdpPort(reactor, TimestampProtocol(terms(reactor)), failing)
    port.startListening()
    port.doRead()
    await port.stopListening()


@linux
def test_an_inherited_socket_may_have_other_ancillary_data(network: Network) -> None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP, whose data comes first
    bound.bind(("0.0.0.0", 0))
    server = KernelUdpSocket(bound, 1000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.77", server.getsockname()[1]))
        [datagram] = receive(server, network)
    assert datagram.local in (socket.inet_aton("127.0.0.77"), None)
    server.close()


@pytest.mark.parametrize("destination", ["10.0.0.1", "fd00::1"])
def test_a_simulated_datagram_arrives_with_the_ttl_and_the_traffic_class_of_its_socket_or_its_own(
    network: Network, destination: str
) -> None:
    host = network.host("host", "10.0.0.1", "fd00::1")
    server = open_udp_socket(host.reactor, destination, 0, 1000, metadata=True)
    port = host.reactor.listenUDP(0, DatagramService(host.reactor), interface=destination)
    options = (
        [(socket.IPPROTO_IPV6, socket.IPV6_TCLASS), (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)]
        if ":" in destination
        else [(socket.IPPROTO_IP, socket.IP_TOS), (socket.IPPROTO_IP, socket.IP_TTL)]
    )
    for option, value in zip(options, (184, 7), strict=True):
        port.socket.setsockopt(*option, value)  # type: ignore[attr-defined]
    client = open_udp_socket(host.reactor, destination, 0, 1000)
    peer = (destination, server.getsockname()[1])
    port.write(b"of the socket", peer)  # type: ignore[attr-defined]
    assert client.send_batch([Datagram(b"its own", peer, traffic_class=1), Datagram(b"usual", peer)]) == []
    network.settle()
    arrived = [(datagram.ttl, datagram.traffic_class) for datagram in server.receive_batch(10)]
    assert arrived == [(7, 184), (64, 1), (64, 0)]


@pytest.mark.skipif(sys.platform != "linux", reason="the options of Linux")
def test_the_metadata_of_ipv6_and_the_traffic_class_are_read(network: Network) -> None:
    server = open_udp_socket(reactor, "::1", 0, 1000, metadata=True)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 46 << 2 | 1)
        client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 7)
        client.sendto(b"x", server.getsockname())
        [datagram] = receive(server, network)
    assert (datagram.ttl, datagram.traffic_class) == (7, 46 << 2 | 1)
    server.close()


@linux
@pytest.mark.parametrize("number", [1, SINGLE_SENDS_MAX + 1])
@pytest.mark.parametrize(
    ("interface", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "::ffff:127.0.0.1"), ("::", "::1"), ("::1", "::1")]
)
def test_each_datagram_leaves_with_its_own_traffic_class_and_arrives_with_its_own_time(
    network: Network, interface: str, host: str, number: int
) -> None:
    server = open_udp_socket(reactor, interface, 0, 1000, metadata=True)
    client = open_udp_socket(reactor, interface, 0, 1000)
    peer = (host, server.getsockname()[1])
    began = time.clock_gettime_ns(time.CLOCK_REALTIME)
    sent = [Datagram(b"x", peer, traffic_class=traffic_class) for traffic_class in (None, 184, 1)] * number
    assert client.send_batch(sent) == []
    received: list[Datagram] = []
    while len(received) < len(sent):
        received += server.receive_batch(len(sent) if number > 1 else 1)
    assert [datagram.traffic_class for datagram in received] == [0, 184, 1] * number
    times = [datagram.kernel_time or 0 for datagram in received]
    assert began <= times[0] < times[-1] <= time.clock_gettime_ns(time.CLOCK_REALTIME)
    assert times == sorted(times)
    server.close()
    client.close()


@kinds
def test_a_datagram_of_an_iterator_is_sent_before_the_next_one_is_asked_for(kind: str, network: Network) -> None:
    host, first, _ = hosts(kind, network)
    server = open_udp_socket(host, first, 0, 1000)
    client = open_udp_socket(host, first, 0, 1000)
    arrived: list[Datagram] = []

    def datagrams() -> Iterator[Datagram]:
        yield Datagram(b"first", server.getsockname())
        arrived.extend(receive(server, network))
        yield Datagram(b"second", server.getsockname())

    assert client.send_batch(datagrams()) == []
    assert [datagram.payload for datagram in arrived] == [b"first"]
    assert [datagram.payload for datagram in receive(server, network)] == [b"second"]
    server.close()
    client.close()


@kinds
@pytest.mark.parametrize("number", [1, SINGLE_SENDS_MAX])
def test_a_datagram_that_cannot_be_sent_does_not_stop_the_others(kind: str, network: Network, number: int) -> None:
    host, first, _ = hosts(kind, network)
    server = open_udp_socket(host, first, 0, 1000)
    client = open_udp_socket(host, first, 0, 1000)
    good = Datagram(b"good", server.getsockname())
    to_port_0 = Datagram(b"bad", (first, 0))
    too_long = Datagram(bytes(70_000), server.getsockname())
    not_sent = client.send_batch([*[good] * number, to_port_0, too_long, good])
    assert [datagram for datagram, _ in not_sent] == [to_port_0, too_long]
    batch = receive(server, network)
    while len(batch) <= number:
        batch += receive(server, network)
    assert [datagram.payload for datagram in batch] == [b"good"] * (number + 1)
    server.close()
    client.close()


@kinds
def test_a_longer_datagram_is_truncated_and_a_batch_has_a_maximum(kind: str, network: Network) -> None:
    host, first, _ = hosts(kind, network)
    server = open_udp_socket(host, first, 0, 4)
    client = open_udp_socket(host, first, 0, 1000)
    client.send_batch([Datagram(b"hello", server.getsockname())] * 3)
    network.advance(0.01)
    assert [datagram.payload for datagram in server.receive_batch(2)] == [b"hell"] * 2
    assert len(server.receive_batch(2)) == 1
    assert server.receive_batch(2) == []
    server.close()
    client.close()


@kinds
def test_a_port_is_shared_only_by_sockets_that_all_ask_for_it(kind: str, network: Network) -> None:
    host, first, _ = hosts(kind, network)
    one = open_udp_socket(host, first, 0, 1000, reuse_port=True)
    port = one.getsockname()[1]
    two = open_udp_socket(host, first, port, 1000, reuse_port=True)
    with pytest.raises(CannotListenError):
        open_udp_socket(host, first, port, 1000)
    one.close()
    two.close()


@kinds
def test_an_address_of_another_host_is_refused(kind: str, network: Network) -> None:
    host, _, _ = hosts(kind, network)
    with pytest.raises(CannotListenError):
        open_udp_socket(host, "203.0.113.1", 0, 1000)


@kinds
def test_a_connected_socket_receives_from_its_peer_only_and_learns_of_a_refusal(kind: str, network: Network) -> None:
    host, first, _ = hosts(kind, network)
    client, server, other = (open_udp_socket(host, first, 0, 1000, metadata=True) for _ in range(3))
    client.connect(server.getsockname())
    client.send(b"question")
    [question] = receive(server, network)
    assert (question.payload, question.peer) == (b"question", client.getsockname())
    other.send_batch([Datagram(b"forged", client.getsockname())])
    server.send_batch([Datagram(b"answer", client.getsockname())])
    [answer] = receive(client, network)
    assert answer.payload == b"answer"
    assert answer.kernel_time is not None
    server.close()
    client.send(b"refused")
    network.settle()
    with pytest.raises(ConnectionRefusedError):
        client.send(b"and reported")
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    client.close()
    other.close()


class Refusing(DatagramService):
    """Cannot start."""

    def startProtocol(self) -> None:
        raise OSError(errno.ENETUNREACH, "no route")


def test_the_socket_of_a_service_that_cannot_start_is_closed() -> None:
    udp_socket = open_udp_socket(reactor, "127.0.0.1", 0, 1000)
    port = UdpPort(reactor, Refusing(reactor), udp_socket)
    with pytest.raises(OSError, match="no route"):
        port.startListening()
    assert udp_socket.fileno() == -1
    assert port not in reactor.getReaders()


class EndlessSocket:
    """A socket at which one datagram after the other arrives."""

    def __init__(self) -> None:
        self.reads = 0

    def receive_batch(self, maximum: int) -> list[Datagram]:
        self.reads += 1
        return [Datagram(b"x", ("192.0.2.1", 9_999))]

    def send_batch(self, _: Any) -> list[Any]:
        return []

    def dropped(self) -> int:
        return 0

    def fileno(self) -> int:
        return 3


class Recorder(DatagramService):
    """Stops receiving after a number of datagrams."""

    def __init__(self, stop_after: int) -> None:
        super().__init__(Clock())
        self.number = 0
        self._stop_after = stop_after

    def received(self, datagram: Datagram) -> None:
        self.number += 1
        if self.number == self._stop_after:
            self.pauseProducing()


@pytest.mark.parametrize(("stop_after", "expected"), [(0, DATAGRAMS_PER_ITERATION), (5, 5)])
def test_a_port_reads_a_bounded_number_of_datagrams_at_a_time_and_none_when_it_was_paused(
    stop_after: int, expected: int
) -> None:
    endless: Any = EndlessSocket()
    service = Recorder(stop_after)
    port = UdpPort(Mock(), service, endless)
    port.startListening()
    port.doRead()
    assert (service.number, endless.reads) == (expected, expected)


class Collecting(DatagramService):
    """Collects what one port is told, and tells each of them."""

    def __init__(self) -> None:
        super().__init__(reactor)
        self.errors: list[int | None] = []
        self.answers: list[bytes] = []
        self.told: Deferred[None] = Deferred()

    def received(self, datagram: Datagram) -> None:
        self.answers.append(datagram.payload)
        self._tell()

    def not_received(self, failure: OSError) -> None:
        self.errors.append(failure.errno)
        self._tell()

    async def next(self) -> None:
        await self.told.addTimeout(SECONDS, reactor)

    def _tell(self) -> None:
        told, self.told = self.told, Deferred()
        told.callback(None)


@linux
@ensureDeferred
async def test_a_port_that_outlives_errors_stays_open_when_twisted_closes_it() -> None:
    service = Collecting()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        udp_socket = open_udp_socket(reactor, "127.0.0.1", 0, 1400, metadata=True, transmit_times=True)
        port = UdpPort(reactor, service, udp_socket, outlives_errors=True)
        port.startListening()
        port.connect(*peer.getsockname())
        for payload in (b"one", b"two", b"three"):
            port.write(
                payload
            )  # Twisted's reactors take the time of the send, which is at the socket now, for an error
            peer.sendto(*peer.recvfrom(100))
            await service.next()
    assert service.answers == [b"one", b"two", b"three"]
    assert [number for number, _ in udp_socket.transmit_times(10)] == [0, 1, 2]
    for _ in range(2):
        port.write(b"refused")
        await service.next()
    assert service.errors == [errno.ECONNREFUSED] * 2
    assert udp_socket.fileno() != -1
    await maybeDeferred(port.stopListening)
    assert udp_socket.fileno() == -1
