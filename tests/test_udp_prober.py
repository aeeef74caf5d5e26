"""The UDP prober, on the simulated network and on real sockets."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  real sockets
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater

from netsvc.echo.udp_echo import EchoDatagramProtocol
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.token_bucket import SourceBuckets
from netsvc.net.datagram_protocol import DatagramService
from netsvc.net.terms import Terms
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import TELLS_LOCAL_ADDRESS, open_udp_socket
from netsvc.probe.probe_dialects import EchoDialect, ProbeDialect, ReflectedTimes, StampDialect
from netsvc.probe.probe_ledger import StampSource
from netsvc.probe.probe_recorder import LOSS_INTERVAL
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.udp_prober import SENDS_MAX, UdpProber
from netsvc.stamp.server import SessionKey, StampReflector
from netsvc.stamp.stamp_keys import StampKeys
from netsvc.stamp.stamp_sessions import StampSessions
from netsvc.testing import Host, Network
from netsvc.timestamp.server import TimestampProtocol
from netsvc.wire.datagram import Datagram
from netsvc.wire.wall_time import wall_nanoseconds

MS = 1_000_000
SECOND = 1_000 * MS
SECONDS = 10
HOUR = 3_600 * SECOND
SERVER = "10.0.0.1"
RUN = b"this run"

linux = pytest.mark.skipif(not TELLS_LOCAL_ADDRESS, reason="the kernel does not tell what is needed")


class Told:
    """Keeps what a prober tells.

    :param timeout: nanoseconds for which a probe may be answered.
    """

    def __init__(self, timeout: int = SECOND) -> None:
        self.sends: dict[int, tuple[int, int]] = {}  # when each was due, and when it was sent
        self.unsents: dict[int, int | None] = {}
        self.transmissions: dict[int, int] = {}
        self.answers: list[tuple[int, int, StampSource, bool]] = []
        self.times: list[ReflectedTimes | None] = []
        self.corruptions = self.foreigners = 0
        self.refusals: list[int | None] = []
        self.looks: list[int] = []
        self.looks_before_answer = -1
        self._timeout = timeout

    def sent(self, sequence: int, due: int, mono: int) -> None:
        assert sequence not in self.sends
        self.sends[sequence] = due, mono

    def unsent(self, sequence: int, due: int, error: OSError) -> None:
        self.unsents[sequence] = error.errno

    def transmitted(self, sequence: int, mono: int) -> None:
        self.transmissions[sequence] = mono

    def answered(
        self,
        sequence: int,
        mono: int,
        source: StampSource,
        offset: int,
        *,
        void: bool = False,
        times: ReflectedTimes | None = None,
        handshake: int | None = None,
    ) -> None:
        if not self.answers:
            self.looks_before_answer = len(self.looks)
        self.answers.append((sequence, mono, source, void))
        self.times.append(times)

    def corrupted(self, mono: int) -> None:
        self.corruptions += 1

    def foreign(self, mono: int) -> None:
        self.foreigners += 1

    def refused(self, error: OSError, count: int = 1) -> None:
        self.refusals += [error.errno] * count

    def advance(self, mono: int) -> bool:
        self.looks.append(mono)
        answered = self.answered_numbers
        return any(mono - sent <= self._timeout for number, (_, sent) in self.sends.items() if number not in answered)

    @property
    def answered_numbers(self) -> set[int]:
        return {sequence for sequence, _, _, _ in self.answers}


class FailingSocket:
    """The socket of a port whose sends fail when the test wants it, and whose kernel tells when it likes.

    :ivar errors: for each of the next sends, the number of its error; 0 for none.
    :ivar stamps: what the kernel tells of transmissions.
    :ivar ahead: nanoseconds by which the clock of the kernel is ahead of that of the network.
    """

    def __init__(self, udp: Any) -> None:
        self._udp = udp
        self.errors: list[int] = []
        self.stamps: list[tuple[int, int]] = []
        self.ahead = 0

    def send(self, payload: bytes) -> None:
        if self.errors and (number := self.errors.pop(0)):
            raise OSError(number, errno.errorcode[number])
        self._udp.send(payload)

    def receive_batch(self, maximum: int) -> list[Datagram]:
        batch = self._udp.receive_batch(maximum)
        return [datagram._replace(kernel_time=datagram.kernel_time + self.ahead) for datagram in batch]

    def transmit_times(self, maximum: int) -> list[tuple[int, int]]:
        stamps, self.stamps = self.stamps, []
        return stamps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._udp, name)


class Peer(DatagramProtocol):
    """Keeps the questions, and answers when the test wants it."""

    transport: Any

    def __init__(self) -> None:
        self.questions: list[tuple[bytes, Any]] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.questions.append((datagram, addr))

    def answer(self, number: int, change: Callable[[bytes], bytes] = bytes) -> None:
        payload, source = self.questions[number]
        self.transport.write(change(payload), source)


class Probing:
    """A prober on a simulated host, and its peer.

    :ivar port: its port.
    :ivar finished: what its Deferred has fired with.
    """

    def __init__(
        self,
        network: Network,
        count: int | None = 5,
        interval: int = 10 * MS,
        dialect: ProbeDialect | None = None,
        timeout: int = SECOND,
        wall: Callable[[], int] | None = None,
        address: str = SERVER,
    ) -> None:
        self.network = network
        self.host = network.host("client")
        self.start = wall_nanoseconds(network.now)
        self.told = Told(timeout)
        self.schedule = ProbeSchedule(self.start, interval, count=count)
        self.prober = UdpProber(
            self.host.reactor, address, 7, dialect or EchoDialect(RUN, 64), self.schedule, self.told, wall=wall
        )
        interface = "::" if ":" in address else ""
        self.socket = FailingSocket(open_udp_socket(self.host.reactor, interface, 0, 70_000, metadata=True))
        self.port = UdpPort(self.host.reactor, self.prober, self.socket, outlives_errors=True)
        self.finished: list[Any] = []
        self.prober.finished.addBoth(self.finished.append)

    def open(self) -> Probing:
        self.port.startListening()
        return self

    def close(self) -> None:
        self.port.stopListening()
        self.network.advance(0.01)
        assert not self.host.reactor.getDelayedCalls()


@pytest.fixture
def server(network: Network) -> Host:
    return network.host("server", SERVER, "fd00::1")


@pytest.fixture
def peer(server: Host) -> Peer:
    peer = Peer()
    server.reactor.listenUDP(7, peer)
    return peer


def unlimited() -> DatagramGuard:
    return DatagramGuard(SourceBuckets(rate=0, burst=0, total=0), max_size=0)


def serve(server: Host, service: DatagramService) -> None:
    opened = open_udp_socket(server.reactor, "::", 7, 70_000, metadata=True)
    UdpPort(server.reactor, service, opened).startListening()


# The open loop


def test_probes_leave_by_the_schedule_however_late_the_answers_are(network: Network, peer: Peer) -> None:
    probing = Probing(network, 20).open()
    network.advance(0.095)
    assert len(peer.questions) == 10
    peer.answer(3)
    network.advance(0.2)
    assert probing.told.sends == {
        number: (probing.start + number * 10 * MS, probing.start + number * 10 * MS) for number in range(20)
    }
    assert probing.told.answers == [(3, probing.start + 95 * MS, "kernel", False)]
    probing.close()


def test_a_stalled_process_sends_everything_that_was_due_in_several_iterations(network: Network, peer: Peer) -> None:
    """A host on which nothing runs cannot be simulated. A schedule that began in the past looks the same."""
    probing = Probing(network, 1_000_000)
    probing.start = 0
    network.advance(1.0)
    probing.port.startListening()
    network.settle()
    sends = probing.told.sends
    assert list(sends) == list(range(101))
    assert {mono - due for due, mono in sends.values()} == {SECOND - number * 10 * MS for number in range(101)}
    assert len(peer.questions) == 101 > 3 * SENDS_MAX
    probing.close()


def test_a_stall_of_hours_takes_no_memory(network: Network) -> None:
    probing = Probing(network, None, interval=1)
    network.advance(1.0)
    probing.port.startListening()
    assert probing.schedule.due(wall_nanoseconds(network.now)) == range(1_000_000_001)
    probing.port.stopListening()
    network.advance(0.0)
    assert len(probing.told.sends) <= 2 * SENDS_MAX


def test_answers_are_received_between_the_probes_of_a_burst(network: Network, server: Host) -> None:
    serve(server, EchoDatagramProtocol(Terms.on(server.reactor), unlimited()))
    probing = Probing(network, 1_000, interval=1_000).open()
    network.advance(0.5)
    assert probing.told.answered_numbers == set(range(1_000))
    assert probing.socket.dropped() == 0
    probing.close()


def test_a_port_of_netsvc_tells_answers_that_this_host_dropped(network: Network) -> None:
    probing = Probing(network).open()
    probing.prober.dropped(3)
    assert probing.told.refusals == [errno.ENOBUFS] * 3
    probing.close()


# The end


def test_it_finishes_when_the_last_probe_is_answered(network: Network, server: Host) -> None:
    network.links().set(latency=0.02)
    serve(server, EchoDatagramProtocol(Terms.on(server.reactor)))
    probing = Probing(network, 3).open()
    network.advance(0.05)
    assert probing.finished == []
    network.advance(0.06)
    assert probing.finished == [None]
    assert not probing.host.reactor.getDelayedCalls()
    probing.close()
    assert probing.finished == [None]


def test_it_finishes_when_the_last_probe_is_lost_and_not_before(network: Network, peer: Peer) -> None:
    probing = Probing(network, 3).open()
    network.advance(1.0)
    assert probing.finished == []
    network.advance(0.2)
    assert probing.finished == [None]
    probing.close()


def test_it_waits_for_the_next_probe_when_nothing_is_pending(network: Network, server: Host) -> None:
    serve(server, EchoDatagramProtocol(Terms.on(server.reactor)))
    probing = Probing(network, 2, interval=60 * SECOND).open()
    network.advance(59.9)
    assert (len(probing.told.sends), probing.finished) == (1, [])
    network.advance(0.3)
    assert (len(probing.told.sends), probing.finished) == (2, [None])
    probing.close()


def test_closing_the_port_ends_it_and_sends_nothing_more(network: Network, peer: Peer) -> None:
    probing = Probing(network, None).open()
    network.advance(0.025)
    probing.close()
    assert probing.finished == [None]
    assert len(peer.questions) == 3


def test_a_fault_of_the_recorder_ends_it_with_that_fault(network: Network, peer: Peer) -> None:
    class Broken(Told):
        def sent(self, sequence: int, due: int, mono: int) -> None:
            raise ZeroDivisionError

    probing = Probing(network)
    probing.told = Broken()
    prober = UdpProber(
        probing.host.reactor, SERVER, 7, EchoDialect(RUN, 64), ProbeSchedule(probing.start, MS), probing.told
    )
    port = UdpPort(
        probing.host.reactor, prober, open_udp_socket(probing.host.reactor, "", 0, 100), outlives_errors=True
    )
    port.startListening()
    network.settle()
    failures: list[Any] = []
    prober.finished.addErrback(failures.append)
    assert [failure.type for failure in failures] == [ZeroDivisionError]
    network.advance(1.0)
    assert len(peer.questions) == 1
    port.stopListening()
    network.settle()
    probing.socket.close()


@pytest.mark.parametrize("address", ["fd00::1", "192.0.2.1"])
def test_a_port_that_cannot_connect_raises_and_leaves_no_timer(network: Network, address: str) -> None:
    """The host has no IPv6, or it has the wrong socket for the address."""
    host = network.host("only IPv4", "10.0.0.77")
    told = Told()
    prober = UdpProber(host.reactor, "fd00::1", 7, EchoDialect(RUN, 64), ProbeSchedule(0, MS), told)
    port = UdpPort(host.reactor, prober, open_udp_socket(host.reactor, "", 0, 100), outlives_errors=True)
    with pytest.raises(OSError):  # noqa: PT011  its number depends on the system
        port.startListening()
    assert not host.reactor.getDelayedCalls()
    assert not host.reactor.getReaders()


# Probes that are not sent, and refusals


def test_a_probe_that_the_system_does_not_send_is_unsent_and_the_next_one_is_sent(network: Network, peer: Peer) -> None:
    probing = Probing(network, 3)
    probing.socket.errors = [0, errno.ENOBUFS]
    probing.open()
    network.advance(0.1)
    assert probing.told.unsents == {1: errno.ENOBUFS}
    assert list(probing.told.sends) == [0, 2]
    assert probing.told.refusals == []
    probing.close()


def test_a_refusal_of_an_earlier_probe_is_told_and_the_probe_is_sent_all_the_same(network: Network, peer: Peer) -> None:
    probing = Probing(network, 2)
    probing.socket.errors = [0, errno.ECONNREFUSED]
    probing.open()
    network.advance(0.1)
    assert (probing.told.unsents, probing.told.refusals) == ({}, [errno.ECONNREFUSED])
    assert len(peer.questions) == 2
    probing.close()


def test_a_host_without_a_route_sends_nothing_and_nothing_was_refused(network: Network, peer: Peer) -> None:
    probing = Probing(network, 1)
    probing.socket.errors = [errno.ENETUNREACH] * 2
    probing.open()
    network.advance(0.2)
    assert (probing.told.unsents, probing.told.refusals) == ({0: errno.ENETUNREACH}, [])
    assert probing.finished == [None]
    probing.close()


def test_a_refusal_and_another_error_of_the_same_send_are_both_told(network: Network, peer: Peer) -> None:
    probing = Probing(network, 1)
    probing.socket.errors = [errno.ECONNREFUSED, errno.ENOBUFS]
    probing.open()
    network.advance(0.2)
    assert (probing.told.unsents, probing.told.refusals) == ({0: errno.ENOBUFS}, [errno.ECONNREFUSED])
    probing.close()


def test_a_port_that_nobody_listens_at_refuses_each_probe(network: Network, server: Host) -> None:
    network.links().set(latency=0.001)
    probing = Probing(network, 5).open()
    network.advance(2.0)
    assert probing.told.refusals == [errno.ECONNREFUSED] * 5
    assert (len(probing.told.sends), probing.told.unsents, probing.finished) == (5, {}, [None])
    probing.close()


# The kernel's times of transmission


def stamped(network: Network, *offsets: int, numbers: Sequence[int] = (0, 1, 2)) -> tuple[Probing, dict[int, int]]:
    """Send three probes, and let the kernel tell transmissions after the last one. Return those that are told."""
    probing = Probing(network, 4).open()
    network.advance(0.025)
    probing.socket.stamps = [
        (number, probing.start + place * 10 * MS + offset)
        for place, (number, offset) in enumerate(zip(numbers, offsets, strict=True))
    ]
    network.advance(0.01)
    probing.close()
    return probing, {number: time - probing.start for number, time in probing.told.transmissions.items()}


@pytest.mark.usefixtures("peer")
def test_the_time_of_a_transmission_belongs_to_the_probe_with_its_number(network: Network) -> None:
    assert stamped(network, 1, 2, 3)[1] == {0: 1, 1: 10 * MS + 2, 2: 20 * MS + 3}


@pytest.mark.usefixtures("peer")
def test_a_transmission_without_a_time_is_passed_over(network: Network) -> None:
    probing = Probing(network, 4).open()
    network.advance(0.025)
    probing.socket.stamps = [(2, probing.start + 20 * MS + 3)]
    network.advance(0.01)
    probing.close()
    assert probing.told.transmissions == {2: probing.start + 20 * MS + 3}


@pytest.mark.usefixtures("peer")
def test_a_time_on_a_clock_that_was_set_meanwhile_is_not_believed(network: Network) -> None:
    assert stamped(network, HOUR, 2, -HOUR)[1] == {1: 10 * MS + 2}


@pytest.mark.usefixtures("peer")
def test_numbers_of_datagrams_that_the_kernel_counted_and_did_not_send_are_found(network: Network) -> None:
    probing = Probing(network, None).open()
    network.advance(0.025)
    probing.socket.stamps = [(5, probing.start + 30 * MS)]  # two that a firewall refused, such as EPERM
    network.advance(0.01)
    probing.socket.stamps = [(6, probing.start + 40 * MS), (1, probing.start)]  # the second one is old
    network.advance(0.01)
    probing.close()
    assert probing.told.transmissions == {3: probing.start + 30 * MS, 4: probing.start + 40 * MS}


# Clocks


def test_the_answers_to_probes_before_the_clock_was_set_are_void_and_later_ones_are_right(
    network: Network, peer: Peer
) -> None:
    host_ahead = [0]
    probing = Probing(network, None, timeout=SECOND, wall=lambda: wall_nanoseconds(network.now) + host_ahead[0]).open()
    network.advance(0.025)
    host_ahead[0] = probing.socket.ahead = HOUR
    network.advance(0.01)
    for number in range(4):
        peer.answer(number)
    network.settle()
    now = probing.start + 35 * MS
    assert probing.told.answers == [
        (0, now, "process", True),
        (1, now, "process", True),
        (2, now, "process", True),
        (3, now, "kernel", False),
    ]
    probing.close()


def test_a_stamp_that_lies_in_the_future_is_void(network: Network, peer: Peer) -> None:
    """The clock was set there and back between two readings."""
    probing = Probing(network, 1).open()
    network.advance(0.001)
    probing.socket.ahead = MS
    peer.answer(0)
    network.settle()
    assert probing.told.answers == [(0, probing.start + MS, "process", True)]
    probing.close()


# Answers


def test_damaged_foreign_and_doubled_answers_are_told_apart(network: Network, peer: Peer) -> None:
    probing = Probing(network, 1).open()
    network.settle()
    peer.answer(0)
    peer.answer(0)
    peer.answer(0, lambda payload: payload[:-1] + b"x")
    peer.answer(0, lambda _: EchoDialect(b"another.", 64).question(0, 0))
    peer.answer(0, lambda _: b"hello")
    network.settle()
    told = probing.told
    assert ([sequence for sequence, *_ in told.answers], told.corruptions, told.foreigners) == ([0, 0], 1, 2)
    probing.close()


# The responders of netsvc


@pytest.mark.parametrize("size", [44, 48, 100, 1_400])
@pytest.mark.parametrize("stateful", [True, False])
def test_a_stamp_reflector_answers_each_probe_with_its_times(
    network: Network, server: Host, size: int, stateful: bool
) -> None:
    network.links().set(latency=0.003)
    sessions = StampSessions[SessionKey](10) if stateful else None
    serve(server, StampReflector(Terms.on(server.reactor), unlimited(), sessions=sessions))
    probing = Probing(network, 3, dialect=StampDialect(7, size)).open()
    network.advance(0.2)
    first = probing.start
    assert probing.told.answers == [(number, first + (6 + 10 * number) * MS, "kernel", False) for number in range(3)]
    assert [
        (times.sequence, times.received, times.transmitted, times.ttl) for times in probing.told.times if times
    ] == [
        (number + (not stateful), first + (3 + 10 * number) * MS, first + (3 + 10 * number) * MS, 64)
        for number in range(3)
    ]
    assert (probing.told.corruptions, probing.told.foreigners) == (0, 0)
    probing.close()


def test_a_reflector_with_keys_does_not_answer(network: Network, server: Host) -> None:
    keys = StampKeys({}, bytes(range(32)))
    serve(server, StampReflector(Terms.on(server.reactor), unlimited(), keys=keys))
    probing = Probing(network, 3, dialect=StampDialect(7, 44)).open()
    network.advance(2.0)
    assert (probing.told.answers, probing.finished) == ([], [None])
    probing.close()


@pytest.mark.parametrize("size", [38, 64, 1_472, 65_000])
@pytest.mark.parametrize("service", [EchoDatagramProtocol, TimestampProtocol])
def test_echo_and_timestamp_responders_answer_each_probe(
    network: Network, server: Host, size: int, service: Callable[[Terms, DatagramGuard], DatagramService]
) -> None:
    serve(server, service(Terms.on(server.reactor), unlimited()))
    probing = Probing(network, 3, dialect=EchoDialect(RUN, size)).open()
    network.advance(0.2)
    assert probing.told.answered_numbers == {0, 1, 2}
    assert (probing.told.corruptions, probing.told.foreigners) == (0, 0)
    probing.close()


def test_a_responder_on_ipv6_is_probed(network: Network, server: Host) -> None:
    serve(server, EchoDatagramProtocol(Terms.on(server.reactor), unlimited()))
    probing = Probing(network, 3, address="fd00::1").open()
    network.advance(0.2)
    assert probing.told.answered_numbers == {0, 1, 2}
    probing.close()


# Real sockets


@contextmanager
def listening(service: DatagramService, host: str) -> Iterator[int]:
    opened = open_udp_socket(reactor, host, 0, 2_000, metadata=True)
    port = UdpPort(reactor, service, opened)
    port.startListening()
    try:
        yield port.getHost().port
    finally:
        port.stopListening()


async def probed(
    host: str, port: int, told: Told, count: int = 20, interval: int = MS, dialect: ProbeDialect | None = None
) -> None:
    """Probe a real responder, and wait for the end."""
    schedule = ProbeSchedule(time.monotonic_ns(), interval, count=count)
    prober = UdpProber(reactor, host, port, dialect or StampDialect(7, 44), schedule, told)
    udp = open_udp_socket(reactor, "::" if ":" in host else "", 0, 2_000, metadata=True, transmit_times=True)
    opened = UdpPort(reactor, prober, udp, outlives_errors=True)
    opened.startListening()
    try:
        await prober.finished.addTimeout(SECONDS, reactor)
    finally:
        closed = opened.stopListening()
        await closed


@linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@ensureDeferred
async def test_the_kernel_tells_when_real_probes_were_sent_and_received(host: str) -> None:
    told = Told()
    with listening(StampReflector(Terms.on(reactor), unlimited()), host) as port:
        await probed(host, port, told)
    await deferLater(reactor, 0)
    assert set(told.transmissions) == told.answered_numbers == set(range(20))
    for sequence, mono, source, void in told.answers:
        assert (source, void) == ("kernel", False)
        assert told.sends[sequence][1] <= told.transmissions[sequence] + 5_000 < mono + 5_000


@linux
@ensureDeferred
async def test_a_real_port_that_nobody_listens_at_refuses_the_probes_and_does_not_stop_them() -> None:
    with listening(EchoDatagramProtocol(Terms.on(reactor)), "127.0.0.1") as port:
        pass
    await deferLater(reactor, 0)
    told = Told(timeout=50 * MS)
    await probed("127.0.0.1", port, told, count=10, interval=5 * MS)
    assert (len(told.sends), told.unsents, told.answers) == (10, {}, [])
    assert told.refusals == [errno.ECONNREFUSED] * len(told.refusals)
    assert len(told.refusals) >= 9


@ensureDeferred
async def test_after_a_stall_the_answers_that_wait_are_read_before_a_probe_is_lost() -> None:
    peer = open_udp_socket(reactor, "127.0.0.1", 0, 100)
    told = Told(timeout=50 * MS)

    def answer_and_stall() -> None:
        peer.send_batch(peer.receive_batch(1))
        end = time.monotonic_ns() + 3 * LOSS_INTERVAL
        while time.monotonic_ns() < end:
            pass
        assert told.answers == []
        told.looks.clear()

    stall = deferLater(reactor, 0.02, answer_and_stall)
    await probed("127.0.0.1", peer.getsockname()[1], told, count=1, dialect=EchoDialect(RUN, 64))
    await stall
    peer.close()
    assert told.looks_before_answer == 0


@linux
@ensureDeferred
async def test_a_zone_that_does_not_exist_is_an_error() -> None:
    prober = UdpProber(
        reactor, "fe80::1%nosuchzone", 7, EchoDialect(RUN, 64), ProbeSchedule(time.monotonic_ns(), MS), Told()
    )
    readers = set(reactor.getReaders())
    port = UdpPort(reactor, prober, open_udp_socket(reactor, "::", 0, 100), outlives_errors=True)
    with pytest.raises(OSError):  # noqa: PT011  its kind depends on the system
        port.startListening()
    assert set(reactor.getReaders()) == readers
    fired: Deferred[None] = deferLater(reactor, 0)
    await fired
