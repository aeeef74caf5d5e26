"""Tests of netsvc's reactors that Twisted's own test suite and the scenarios do not cover."""

from __future__ import annotations

import ast
import asyncio
import errno
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any
from unittest.mock import Mock

import pytest
import trustme
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import Clock, deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.reflect import namedAny

from netsvc.net.datagram_protocol import DatagramService
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import KernelUdpSocket, open_udp_socket
from netsvc.reactor import AsyncioReactor, UvloopReactor, private_names
from netsvc.reactor.asyncio_reactor import ReactorSelector
from netsvc.reactor.fast_udp_port import FastUDPPort
from netsvc.reactor.lean_tls import LeanTLS, make_tls_lean
from netsvc.reactor.loop import LoopReactor
from netsvc.reactor.private_names import PRIVATE_NAMES, TLS_NAMES, missing_names
from netsvc.reactor.timers import TimedCall
from netsvc.reactor.uvloop_reactor import HANDOVERS_MAX
from netsvc.wire.datagram import Datagram
from tests.programs import SECONDS
from tests.scenarios.protocols import RecordingDatagramProtocol, RecordingProtocol

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[AsyncioReactor, UvloopReactor])
def reactor(request: pytest.FixtureRequest) -> Iterator[LoopReactor]:
    """A new reactor for each test."""
    reactor: LoopReactor = request.param()
    yield reactor
    for reader in set(reactor._internalReaders):
        reactor._removeInternalReader(reader)
        reader.connectionLost(None)
    reactor.loop.close()
    reactor._poller.close()


on_uvloop = pytest.mark.parametrize("reactor", [UvloopReactor], indirect=True)


def hand_over_at(reactor: LoopReactor, number: int) -> None:
    """Hand connections over at this read, on the reactor that hands them over."""
    if isinstance(reactor, UvloopReactor):
        reactor.hand_over_at = number


@pytest.fixture
def run(reactor: LoopReactor) -> Run:
    """A function that runs the reactor until a coroutine is done."""

    def run(scenario: Coroutine[Any, Any, None]) -> None:
        results: list[Any] = []

        def start() -> None:
            finished: Deferred[None] = ensureDeferred(scenario)
            finished.addTimeout(10, reactor)
            finished.addBoth(results.append)
            finished.addBoth(lambda _: reactor.callLater(0, reactor.stop))

        reactor.callWhenRunning(start)
        reactor.run(installSignalHandlers=False)
        if results[0] is not None:
            results[0].raiseException()

    return run


async def connect_actors(
    reactor: LoopReactor, server: RecordingProtocol | None = None
) -> tuple[Any, RecordingProtocol, RecordingProtocol]:
    """Open a port and connect to it. Returns the port, the server and the client."""
    server, client = server or RecordingProtocol(), RecordingProtocol()
    factory: Factory[Any] = Factory.forProtocol(lambda: server)
    factory.noisy = False
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
    await server.happened("connected")
    return port, server, client


async def close(port: Any, server: RecordingProtocol, client: RecordingProtocol) -> None:
    """Let the client close the connection, then close the port."""
    client.transport.loseConnection()
    await client.lost
    await server.lost
    await port.stopListening()


async def let_server_read(
    reactor: LoopReactor, server: RecordingProtocol, client: RecordingProtocol, times: int
) -> None:
    """Send single bytes to the server until it has read this many times."""
    for _ in range(times):
        before = len(server.received)
        client.transport.write(b"x")
        await server.has_received(before + 1)
        await deferLater(reactor, 0, lambda: None)  # the handover happens in this iteration


@on_uvloop
def test_a_connection_is_handed_over_at_its_sixth_read(reactor: LoopReactor, run: Run) -> None:
    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        await let_server_read(reactor, server, client, 5)
        assert server.transport.loop_reader is None
        assert client.transport.loop_reader is None
        await let_server_read(reactor, server, client, 1)
        assert server.transport.loop_reader is not None
        assert client.transport.loop_reader is None  # it has only written
        assert {server.transport, client.transport} <= set(reactor.getReaders())
        client.transport.loseConnection()
        await client.lost
        await server.lost
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]
        await port.stopListening()
        assert not reactor.native_connections

    run(scenario())


@on_uvloop
def test_connections_that_become_active_at_once_are_handed_over_in_groups(reactor: UvloopReactor, run: Run) -> None:
    reactor.hand_over_at = 1
    factory: Factory[Any] = Factory.forProtocol(RecordingProtocol)
    factory.noisy = False

    async def scenario() -> None:
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        clients = [await connectProtocol(endpoint, RecordingProtocol()) for _ in range(100)]
        for client in clients:
            client.transport.write(b"x")
        numbers = [0]
        while numbers[-1] < 100:
            await deferLater(reactor, 0, lambda: None)
            numbers.append(len(reactor.native_connections))
        assert max(after - before for before, after in pairwise(numbers)) == HANDOVERS_MAX
        for client in clients:
            client.transport.loseConnection()
            await client.lost
        await port.stopListening()

    run(scenario())


@on_uvloop
@pytest.mark.parametrize("no_delay", [True, False])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_the_handover_changes_no_socket_option(reactor: UvloopReactor, run: Run, no_delay: bool, when: str) -> None:
    hand_over_at(reactor, 1)

    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        server.transport.setTcpNoDelay(no_delay if when == "before" else not no_delay)
        if when == "meanwhile":
            client.transport.write(b"x")
            while server.transport.loop_reader is None:
                await Deferred.fromFuture(asyncio.ensure_future(asyncio.sleep(0), loop=reactor.loop))
            server.transport.setTcpNoDelay(no_delay)
        await let_server_read(reactor, server, client, 2)
        assert server.transport.loop_reader is not None
        assert server.transport.getTcpNoDelay() == no_delay
        assert server.transport.getHandle().getpeername() == client.transport.getHandle().getsockname()
        await close(port, server, client)

    run(scenario())


@on_uvloop
def test_bytes_that_are_unsent_at_the_handover_are_sent(reactor: LoopReactor, run: Run) -> None:
    hand_over_at(reactor, 1)
    size = 8_000_000

    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        client.transport.pauseProducing()
        client.transport.write(b"x")
        await server.has_received(1)
        server.transport.write(b"a" * size)  # more than the kernel's buffers can take before the handover
        await deferLater(reactor, 0.01, lambda: None)
        server.transport.write(b"b" * size)
        server.transport.loseConnection()
        client.transport.resumeProducing()
        await client.has_received(2 * size)
        assert client.received == b"a" * size + b"b" * size
        await client.lost
        await server.lost
        await port.stopListening()

    run(scenario())


def test_an_iteration_reads_a_bounded_number_of_datagrams(reactor: LoopReactor, run: Run) -> None:
    async def scenario() -> None:
        counts: list[int] = []

        class CountingReceiver(RecordingDatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                super().datagramReceived(datagram, addr)
                if len(self.received) == 1:
                    reactor.callLater(0, lambda: counts.append(len(self.received)))

        receiver = CountingReceiver()
        port: Any = reactor.listenUDP(0, receiver, interface="127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(150):
                sender.sendto(b"", ("127.0.0.1", port.getHost().port))
        await receiver.until(lambda: len(receiver.received) == 150)
        assert counts == [64]
        await port.stopListening()

    run(scenario())


def test_an_adopted_udp_port_is_a_fast_udp_port(reactor: LoopReactor, run: Run) -> None:
    def adopt(port: int) -> Any:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.setblocking(False)
            opened.bind(("127.0.0.1", port))
            return reactor.adoptDatagramPort(opened.fileno(), socket.AF_INET, RecordingDatagramProtocol())

    async def scenario() -> None:
        first = adopt(0)
        number = first.getHost().port
        second = adopt(number)
        assert type(first) is type(second) is FastUDPPort
        await first.stopListening()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", number))
        await second.protocol.until(lambda: second.protocol.received == [b"x"])
        await second.stopListening()

    run(scenario())


def test_a_timer_that_schedules_a_later_call_does_not_delay_an_earlier_one(reactor: LoopReactor, run: Run) -> None:
    async def scenario() -> None:
        start = reactor.seconds()
        late: list[Any] = []
        soon = deferLater(reactor, 0.05, reactor.seconds)
        reactor.callLater(0.02, lambda: late.append(reactor.callLater(2, late.clear)))
        assert await soon - start < 1
        late[0].cancel()

    run(scenario())


def test_a_call_scheduled_by_a_timer_runs_before_later_calls(reactor: LoopReactor, run: Run) -> None:
    async def scenario() -> None:
        start = reactor.seconds()
        sooner: Deferred[float] = Deferred()
        late = reactor.callLater(2, lambda: None)
        reactor.callLater(0.01, reactor.callLater, 0.01, lambda: sooner.callback(reactor.seconds()))
        assert await sooner - start < 1
        late.cancel()

    run(scenario())


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_changes_the_time_of_a_call_and_not_its_delay(step: float) -> None:
    ahead, clock = 1_000.0, Clock()
    call = TimedCall(5.0, print, (), {}, print, print, clock.seconds)
    call.wall = lambda: clock.seconds() + ahead
    clock.advance(1)
    assert call.getTime() == 1_005
    ahead += step
    assert (call.getTime(), call.time) == (1_005 + step, 5)
    call.reset(7)
    assert call.getTime() == 1_008 + step


def test_timers_are_measured_by_the_monotonic_clock_and_seen_as_wall_time(reactor: LoopReactor) -> None:
    call = reactor.callLater(5, print)
    assert call.seconds is time.monotonic
    assert call.getTime() - reactor.seconds() == pytest.approx(5, abs=0.1)
    assert reactor.seconds() == pytest.approx(datetime.now().timestamp(), abs=0.1)
    assert reactor.timeout() == pytest.approx(5, abs=0.1)


def test_a_clock_that_replaces_that_of_the_reactor_measures_its_timers(reactor: LoopReactor) -> None:
    clock = Clock()
    reactor.seconds = clock.seconds
    called: list[str] = []
    call = reactor.callLater(5, called.append, "called")
    assert (call.getTime(), reactor.timeout()) == (5, 5)
    reactor.runUntilCurrent()
    assert not called
    clock.advance(5)
    reactor.runUntilCurrent()
    assert called


def test_cancelled_calls_do_not_stay_in_memory(reactor: LoopReactor) -> None:
    for _ in range(1_000):
        reactor.callLater(5_000, print).cancel()
    late = [reactor.callLater(5_000, print) for _ in range(1_000)]
    reactor.iterate()
    for call in late:
        call.cancel()
    reactor.callLater(0, print, end="")
    reactor.iterate(0.01)
    assert len(reactor._pendingTimedCalls) <= 50
    assert not reactor.getDelayedCalls()


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_call_that_fails_does_not_stop_later_calls(reactor: LoopReactor, run: Run) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        reactor.callLater(0, fail)
        reactor.callFromThread(fail)
        await deferLater(reactor, 0.01, lambda: None)

    run(scenario())


@pytest.mark.parametrize("name", ["asyncio-native", "uvloop"])
def test_twist_accepts_the_names_of_the_reactors(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twisted", f"--reactor={name}", "netsvc", "--help"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--tcp" in done.stdout


def test_without_uvloop_the_error_is_one_line_with_the_remedy() -> None:
    program = """
import sys
sys.modules["uvloop"] = None
import netsvc.reactor.uvloop
netsvc.reactor.uvloop.install()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=False)
    line = "uvloop is not installed; run pip install '.[fast]' in netsvc's source folder\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.parametrize(("module", "reactor_class"), [("asyncio", "AsyncioReactor"), ("uvloop", "UvloopReactor")])
def test_a_module_installs_its_reactor_by_twisteds_convention(module: str, reactor_class: str) -> None:
    program = (
        f"import netsvc.reactor.{module} as module, sys; module.install(); "
        "from twisted.internet import reactor; print(type(reactor).__name__); "
        "assert sys.modules[type(reactor).__module__] is module"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=SECONDS, check=True)
    assert done.stdout.decode().strip() == reactor_class


@pytest.mark.parametrize("script", ["twisted.scripts.trial", "twisted.scripts.twistd"])
def test_the_reactors_are_listed_as_usable(script: str) -> None:
    command = [
        sys.executable,
        "-c",
        f"import sys; from {script} import run; sys.argv = ['x', '--help-reactors']; run()",
    ]
    listed = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False).stdout.decode()
    assert {"asyncio-native", "uvloop"} <= set(re.findall(r"^ +(\S+)\t", listed, re.MULTILINE))


@pytest.mark.parametrize("script", ["twist", "trial"])
@pytest.mark.parametrize("name", ["asyncio-native", "uvloop"])
def test_without_epoll_the_error_is_one_line_with_the_remedy(script: str, name: str) -> None:
    program = f"""
import select, sys
for name in [name for name in vars(select) if name.lower().startswith("epoll")]:
    delattr(select, name)
sys.argv = ["{script}", "--reactor={name}", "netsvc"]
if "{script}" == "twist":
    from twisted.application.twist._twist import Twist
    Twist.main()
from twisted.scripts.trial import run
run()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (1, "netsvc's reactors need Linux (epoll); use --reactor=default\n")


def test_private_names_that_twisted_lacks_are_named() -> None:
    assert not list(missing_names(PRIVATE_NAMES + TLS_NAMES))
    table = (("twisted.internet.base.ReactorBase", "_started _renamed"), ("twisted.internet.tcp.Removed", "_name"))
    assert list(missing_names(table)) == [
        "twisted.internet.base.ReactorBase._renamed",
        "twisted.internet.tcp.Removed._name",
    ]


def names_of_attributes(method: Any) -> tuple[str, ...]:
    return getattr(method, "__code__", (lambda: None).__code__).co_names


def test_the_reactors_use_no_private_name_that_is_not_stated() -> None:
    """A name that the reactors use or define, and that a class of Twisted has, is one of Twisted's."""
    used: set[str] = set()
    for path in Path(private_names.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute | ast.FunctionDef):
                used.add(node.attr if isinstance(node, ast.Attribute) else node.name)
    twisted: set[str] = set()
    for owner, _ in PRIVATE_NAMES + TLS_NAMES:
        for base in namedAny(owner).__mro__:
            twisted |= {*vars(base), *(name for method in vars(base).values() for name in names_of_attributes(method))}
    names = {name for name in used & twisted if name.startswith("_") and not name.startswith("__")}
    assert names == {name for _, names in PRIVATE_NAMES + TLS_NAMES for name in names.split()}


def test_importing_the_package_installs_no_reactor() -> None:
    program = "import netsvc.reactor, sys; assert 'twisted.internet.reactor' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], timeout=SECONDS, check=True)


@pytest.mark.logs_failure("ZeroDivisionError")
def test_an_exception_in_connection_lost_does_not_stop_the_writes_of_other_connections(
    reactor: LoopReactor, run: Run
) -> None:
    hand_over_at(reactor, 0)

    class FailingActor(RecordingProtocol):
        def connectionLost(self, reason: Any = None) -> None:
            super().connectionLost(reason)
            raise ZeroDivisionError

    async def scenario() -> None:
        servers: list[RecordingProtocol] = [FailingActor(), RecordingProtocol(), RecordingProtocol()]
        unused = iter(servers)
        factory: Factory[Any] = Factory.forProtocol(lambda: next(unused))
        factory.noisy = False
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        clients = [RecordingProtocol() for _ in servers]
        for client in clients:
            await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
        for server in servers:
            await server.happened("connected")
        await deferLater(reactor, 0.01, lambda: None)
        servers[0].transport.loseConnection()
        for server in servers[1:]:
            server.transport.write(b"hello")
        for client in clients[1:]:
            await client.has_received(5)
        for server in servers[1:]:
            server.transport.loseConnection()
        for actor in (*servers, *clients):
            await actor.lost
        await port.stopListening()

    run(scenario())


@on_uvloop
def test_a_stored_write_method_does_not_bypass_tls(reactor: LoopReactor, run: Run) -> None:
    hand_over_at(reactor, 1)
    authority = trustme.CA()
    certificate = authority.issue_cert("server").private_key_and_cert_chain_pem.bytes()
    context = PrivateCertificate.loadPEM(certificate).options()

    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        await let_server_read(reactor, server, client, 2)
        stored_write = server.transport.write
        assert server.transport.loop_reader is not None
        server.transport.startTLS(context)
        stored_write(b"secret")
        await deferLater(reactor, 0.05, lambda: None)
        assert b"secret" not in client.received
        client.transport.abortConnection()
        await client.lost
        await server.lost
        await port.stopListening()

    run(scenario())


def test_tls_whose_write_method_the_application_has_replaced_stays_that_of_twisted() -> None:
    context = PrivateCertificate.loadPEM(trustme.CA().issue_cert("server").private_key_and_cert_chain_pem.bytes())
    factory = TLSMemoryBIOFactory(context.options(), False, Factory.forProtocol(Protocol), Clock())
    tls: Any = factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1))
    tls.write = written = Mock()
    assert not make_tls_lean(tls)
    assert tls.write is written


def test_a_factory_of_tls_that_serves_an_adopted_connection_creates_lean_tls(reactor: LoopReactor, run: Run) -> None:
    context = PrivateCertificate.loadPEM(trustme.CA().issue_cert("server").private_key_and_cert_chain_pem.bytes())
    listening = socket.create_server(("127.0.0.1", 0))
    peer = socket.create_connection(listening.getsockname())
    mine, _ = listening.accept()
    listening.close()
    server = RecordingProtocol()
    factory = TLSMemoryBIOFactory(context.options(), False, Factory.forProtocol(lambda: server), reactor)

    async def scenario() -> None:
        reactor.adoptStreamConnection(mine.fileno(), socket.AF_INET, factory)
        mine.close()
        await server.happened("connected")
        assert type(server.transport) is LeanTLS
        peer.close()
        await server.lost

    run(scenario())


@on_uvloop
def test_a_socket_that_was_taken_back_does_not_block_whatever_the_default_timeout_is(
    reactor: LoopReactor, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over_at(reactor, 1)

    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        await let_server_read(reactor, server, client, 2)
        assert server.transport.loop_reader is not None
        socket.setdefaulttimeout(5)
        try:
            server.transport.take_back()
        finally:
            socket.setdefaulttimeout(None)
        assert server.transport.socket.gettimeout() == 0
        client.transport.abortConnection()
        await client.lost
        await server.lost
        await port.stopListening()

    run(scenario())


def test_a_port_reads_what_has_come_with_a_connection_when_it_accepts_it(reactor: LoopReactor, run: Run) -> None:
    """It does not wait for another event."""
    server = RecordingProtocol()
    port: Any = reactor.listenTCP(0, Factory.forProtocol(lambda: server), interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)) as peer:
        peer.send(b"hello")
        port.doRead()
        assert server.received == b"hello"

    async def scenario() -> None:
        await server.lost
        await port.stopListening()

    run(scenario())


def test_a_port_does_not_read_from_a_connection_that_its_protocol_has_paused_or_closed(
    reactor: LoopReactor, run: Run
) -> None:
    class Busy(RecordingProtocol):
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.pauseProducing()

    class Unwilling(RecordingProtocol):
        def connectionMade(self) -> None:
            super().connectionMade()
            self.transport.abortConnection()

    servers = [Busy(), Unwilling()]
    waiting = list(servers)
    port: Any = reactor.listenTCP(0, Factory.forProtocol(lambda: waiting.pop(0)), interface="127.0.0.1")
    peers = [socket.create_connection(("127.0.0.1", port.getHost().port)) for _ in servers]
    for peer in peers:
        peer.send(b"hello")
    port.doRead()
    assert [bytes(server.received) for server in servers] == [b"", b""]

    async def scenario() -> None:
        servers[0].transport.resumeProducing()
        await servers[0].has_received(5)
        for server, peer in zip(servers, peers, strict=True):
            peer.close()
            await server.lost
        await port.stopListening()

    run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(5, "I/O error"), marks=pytest.mark.logs_failure("OSError")),
        pytest.param(BlockingIOError(11, "try again"), marks=pytest.mark.logs_failure("BlockingIOError")),
    ],
)
def test_an_error_of_a_factory_is_logged_even_if_it_looks_like_one_of_the_system(
    reactor: LoopReactor, run: Run, error: OSError
) -> None:
    built: list[Any] = []

    class FailingFactory(Factory[Any]):
        noisy = False

        def buildProtocol(self, addr: Any) -> Any:
            built.append(addr)
            raise error

    port: Any = reactor.listenTCP(0, FailingFactory(), interface="127.0.0.1")
    with socket.create_connection(("127.0.0.1", port.getHost().port)):
        port.doRead()
    assert len(built) == 1

    async def scenario() -> None:
        await port.stopListening()

    run(scenario())


def test_datagrams_stay_in_order_and_end_with_the_port_if_a_protocol_lets_the_reactor_iterate(
    reactor: LoopReactor, run: Run
) -> None:
    class Iterating(RecordingDatagramProtocol):
        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            super().datagramReceived(datagram, addr)
            if datagram == b"2":
                client.sendto(b"late", where)
                reactor.iterate(0.01)
            elif datagram == b"4":
                port.stopListening()
                reactor.iterate(0.01)

    protocol = Iterating()
    port: Any = reactor.listenUDP(0, protocol, interface="127.0.0.1")
    where = ("127.0.0.1", port.getHost().port)

    async def scenario() -> None:
        for number in range(3):  # the port expects many after these
            client.sendto(b"first %d" % number, where)
        await protocol.until(lambda: len(protocol.received) == 3)
        for number in range(8):
            client.sendto(b"%d" % number, where)
        await protocol.until(lambda: "stopped" in protocol.events)
        assert protocol.received[3:] == [b"0", b"1", b"2", b"3", b"4"]

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        run(scenario())


def test_what_is_written_to_a_child_process_leaves_in_the_same_iteration(reactor: LoopReactor, run: Run) -> None:
    class Cat(ProcessProtocol):
        def __init__(self) -> None:
            self.received: Deferred[bytes] = Deferred()
            self.ended: Deferred[None] = Deferred()

        def outReceived(self, data: bytes) -> None:
            self.received.callback(data)

        def processEnded(self, reason: Any) -> None:
            self.ended.callback(None)

    async def scenario() -> None:
        cat = Cat()
        process = reactor.spawnProcess(cat, "/bin/cat", ["cat"])
        process.write(b"x")
        reactor.flush_all()
        assert not reactor.getWriters()
        assert await cat.received == b"x"
        process.closeStdin()
        await cat.ended

    run(scenario())


@on_uvloop
def test_the_cost_of_a_write_does_not_grow_with_the_number_of_unsent_bytes(reactor: LoopReactor, run: Run) -> None:
    hand_over_at(reactor, 0)

    class UnresponsiveProducer:
        """A producer that ignores pauses."""

        def pauseProducing(self) -> None: ...
        def resumeProducing(self) -> None: ...
        def stopProducing(self) -> None: ...

    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        client.transport.pauseProducing()
        await deferLater(reactor, 0.01, lambda: None)
        server.transport.registerProducer(UnresponsiveProducer(), True)
        server.transport.write(b"x" * 8_000_000)
        await deferLater(reactor, 0.01, lambda: None)
        for _ in range(20_000):  # this takes 15 s if each write counts all unsent bytes
            server.transport.write(b"one more line\n")
        assert server.transport.loop_reader is not None
        server.transport.abortConnection()
        client.transport.abortConnection()
        await server.lost
        await client.lost
        await port.stopListening()

    run(scenario())


@pytest.mark.parametrize("between", ["nothing", "pause", "iterate"])
def test_bulk_data_comes_in_order_and_in_pieces_of_the_buffer_size(
    reactor: LoopReactor, run: Run, between: str
) -> None:
    hand_over_at(reactor, 0)
    stream = bytes(range(256)) * 8_000

    class Receiver(RecordingProtocol):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.sizes.append(len(data))
            if between == "pause":
                self.transport.pauseProducing()
                reactor.callLater(0, self.transport.resumeProducing)
            elif between == "iterate" and len(self.sizes) < 5:
                reactor.iterate(0)

    async def scenario() -> None:
        server = Receiver()
        port, _, client = await connect_actors(reactor, server)
        client.transport.write(stream)
        await server.has_received(len(stream))
        assert server.received == stream
        assert max(server.sizes) <= server.transport.bufferSize
        await close(port, server, client)

    run(scenario())


@on_uvloop
def test_a_connection_that_was_taken_back_receives_nothing_while_it_is_paused(reactor: LoopReactor, run: Run) -> None:
    hand_over_at(reactor, 0)
    stream = bytes(range(256)) * 8_000

    class Receiver(RecordingProtocol):
        def __init__(self) -> None:
            super().__init__()
            self.paused = False
            self.sizes: list[int] = []

        def dataReceived(self, data: bytes) -> None:
            assert not self.paused
            super().dataReceived(data)
            self.sizes.append(len(data))
            if len(self.sizes) == 1:
                self.transport.pauseProducing()
                reactor.iterate(0)
                assert self.transport.loop_reader is None
                assert self.transport.undelivered
                self.transport.resumeProducing()
                self.pause_for_a_while()

        def pause_for_a_while(self) -> None:
            """Pause while the socket is readable."""
            self.paused = True
            self.transport.pauseProducing()
            reactor.callLater(0.01, self.resume)

        def resume(self) -> None:
            self.paused = False
            self.transport.resumeProducing()

    async def scenario() -> None:
        server = Receiver()
        port, _, client = await connect_actors(reactor, server)
        await deferLater(reactor, 0, lambda: None)
        client.transport.write(stream)
        await server.has_received(len(stream))
        assert server.received == stream
        assert max(server.sizes) <= server.transport.bufferSize
        await close(port, server, client)

    run(scenario())


def test_a_paused_connection_is_no_reader(reactor: LoopReactor, run: Run) -> None:
    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        server.transport.pauseProducing()
        assert server.transport not in reactor.getReaders()
        client.transport.write(b"x")
        await deferLater(reactor, 0.01, lambda: None)
        assert not server.received
        assert server.transport not in reactor.removeAll()
        server.transport.resumeProducing()
        await server.has_received(1)
        reactor.addReader(client.transport)
        reactor.addReader(port)
        server.transport.loseConnection()
        await client.lost
        await server.lost
        await port.stopListening()

    run(scenario())


def test_a_push_producer_is_paused_when_the_buffer_is_full_and_resumed_when_it_is_empty(
    reactor: LoopReactor, run: Run
) -> None:
    calls: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            calls.append("pause")

        def resumeProducing(self) -> None:
            calls.append("resume")

        def stopProducing(self) -> None: ...

    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        server.transport.registerProducer(Producer(), True)
        size = server.transport.bufferSize
        for data in (b"x", b"x" * (size - 1)):
            server.transport.write(data)
        assert not calls
        server.transport.write(b"x")
        assert calls == ["pause"]
        await client.has_received(size + 1)
        assert calls == ["pause", "resume"]
        server.transport.write(b"x")
        await client.has_received(size + 2)
        assert calls == ["pause", "resume"]
        server.transport.unregisterProducer()
        await close(port, server, client)

    run(scenario())


def test_a_connection_that_pauses_with_bytes_to_read_causes_no_event(reactor: LoopReactor, run: Run) -> None:
    """txredisapi pauses and resumes for each element of a list."""

    async def scenario() -> None:
        port, server, client = await connect_actors(reactor)
        server.transport.pauseProducing()
        assert server.transport.fileno() in reactor._reads
        client.transport.write(b"x")
        while not server.transport.has_unread:
            await deferLater(reactor, 0, lambda: None)
        server.transport.resumeProducing()
        server.transport.pauseProducing()
        assert server.transport.fileno() not in reactor._reads
        assert not server.received
        server.transport.resumeProducing()
        await server.has_received(1)
        server.transport.pauseProducing()
        assert server.transport.fileno() in reactor._reads
        server.transport.resumeProducing()
        await close(port, server, client)

    run(scenario())


def test_a_selector_of_the_asyncio_reactor_keeps_what_is_registered() -> None:
    reactor = AsyncioReactor()
    try:
        selector = ReactorSelector(reactor)
        with socket.socket() as one, socket.socket() as other:
            key = selector.register(one, EVENT_READ, "data")
            assert selector.get_map()[one] == selector.get_key(one.fileno()) == key
            assert (list(selector.get_map()), len(selector.get_map())) == ([one.fileno()], 1)
            with pytest.raises(KeyError):
                selector.register(one, EVENT_READ)
            with pytest.raises(KeyError):
                selector.unregister(other)
            with pytest.raises(ValueError, match="Invalid"):
                selector.register(-1, EVENT_READ)
            assert selector.modify(one, EVENT_READ | EVENT_WRITE, "more").data == "more"
            one.close()
            assert selector.unregister(one).events == EVENT_READ | EVENT_WRITE
        selector.close()
    finally:
        reactor.loop.close()
        reactor._poller.close()


class Echo(DatagramService):
    """Echoes datagrams, and keeps them and the errors of its socket."""

    def __init__(self, reactor: LoopReactor) -> None:
        super().__init__(reactor)
        self.payloads: list[bytes] = []
        self.errors: list[str] = []

    def batch_received(self, batch: Sequence[Datagram]) -> list[Datagram]:
        self.payloads += [datagram.payload for datagram in batch]
        return [Datagram(datagram.payload, datagram.peer, datagram.local) for datagram in batch]

    def not_received(self, failure: OSError) -> None:
        self.errors.append(errno.errorcode[failure.errno or 0])


def open_echo(reactor: LoopReactor, bound: socket.socket | None = None) -> tuple[UdpPort, Echo]:
    udp_socket = open_udp_socket(reactor, "127.0.0.1", 0, 100) if bound is None else KernelUdpSocket(bound, 100)
    service = Echo(reactor)
    port = UdpPort(reactor, service, udp_socket)
    port.startListening()
    return port, service


async def iterations(reactor: LoopReactor, number: int = 5) -> None:
    for _ in range(number):
        await deferLater(reactor, 0, lambda: None)


async def until(reactor: LoopReactor, condition: Callable[[], bool]) -> None:
    while not condition():
        await iterations(reactor, 1)


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        yield client


def test_a_udp_port_that_pauses_receives_nothing_and_is_no_reader(
    reactor: LoopReactor, run: Run, client: socket.socket
) -> None:
    async def scenario() -> None:
        port, service = open_echo(reactor)
        client.connect(port.socket.getsockname())
        for number in range(2):
            assert port in reactor.getReaders()
            service.pauseProducing()
            client.send(b"%d" % number)
            await iterations(reactor)
            assert len(service.payloads) == number
            assert port not in reactor.getReaders()
            service.resumeProducing()
            service.resumeProducing()
            await until(reactor, lambda: len(service.payloads) > number)  # noqa: B023  awaited in this iteration
        await port.stopListening()
        assert port not in reactor.getReaders()

    run(scenario())


def test_a_udp_port_receives_while_a_callback_lets_the_reactor_iterate(
    reactor: LoopReactor, run: Run, client: socket.socket
) -> None:
    async def scenario() -> None:
        port, service = open_echo(reactor)
        client.connect(port.socket.getsockname())
        client.send(b"within")
        while not service.payloads:
            reactor.iterate(0.01)
        client.send(b"afterwards")
        await until(reactor, lambda: len(service.payloads) == 2)
        await port.stopListening()

    run(scenario())


def test_a_udp_port_lives_on_after_an_error_of_its_socket(
    reactor: LoopReactor, run: Run, client: socket.socket
) -> None:
    async def scenario() -> None:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        bound.connect(client.getsockname())  # an error of the peer becomes one of the socket
        peer = client.getsockname()
        port, service = open_echo(reactor, bound)
        client.close()
        for _ in range(2):  # and once more after the first error
            errors = len(service.errors)
            port.write(b"nobody listens", peer)
            await until(reactor, lambda: len(service.errors) > errors)  # noqa: B023  awaited in this iteration
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as later:
                later.bind(peer)
                later.sendto(b"hello", port.socket.getsockname())
                received = len(service.payloads)
                await until(reactor, lambda: len(service.payloads) > received)  # noqa: B023  the same
        assert service.errors == ["ECONNREFUSED"] * 2
        await port.stopListening()

    run(scenario())


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_reader_that_fails_is_closed_whoever_watches_it(reactor: LoopReactor, run: Run) -> None:
    class Failing(FileDescriptor):
        reads_its_errors = True
        reason: Any = None

        def fileno(self) -> int:
            return server.fileno()

        def doRead(self) -> None:
            raise ZeroDivisionError

        def connectionLost(self, reason: Any) -> None:
            self.reason = reason

    async def scenario() -> None:
        failing = Failing(reactor)
        reactor.addReader(failing)
        peer.send(b"x")
        await until(reactor, lambda: failing.reason is not None)
        assert failing.reason.check(ZeroDivisionError)
        assert failing not in reactor.getReaders()

    server, peer = socket.socketpair()
    with server, peer:
        run(scenario())
