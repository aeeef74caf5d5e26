"""netsvc's reactors, where Twisted's own suite and the scenarios do not look."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import trustme
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.task import deferLater

from netsvc.net.shared_ports import SharedPorts
from netsvc.reactor import AsyncioReactor, UvloopReactor
from netsvc.reactor.lean_udp_port import DatagramPort
from netsvc.reactor.loop import LoopReactor
from tests.programs import SECONDS
from tests.scenarios.actors import Actor, Datagrams

Play = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[AsyncioReactor, UvloopReactor])
def reactor(request: pytest.FixtureRequest) -> Iterator[LoopReactor]:
    """A reactor of a test's own."""
    reactor: LoopReactor = request.param()
    yield reactor
    for reader in set(reactor._internalReaders):
        reactor._removeInternalReader(reader)
        reader.connectionLost(None)
    reactor.loop.remove_reader(reactor._poller.fileno())
    reactor._poller.close()
    reactor.loop.close()


@pytest.fixture
def play(reactor: LoopReactor) -> Play:
    """Run the reactor until a coroutine is done."""

    def play(scenario: Coroutine[Any, Any, None]) -> None:
        results: list[Any] = []

        def start() -> None:
            ended: Deferred[None] = ensureDeferred(scenario)
            ended.addTimeout(10, reactor)
            ended.addBoth(results.append)
            ended.addBoth(lambda _: reactor.callLater(0, reactor.stop))

        reactor.callWhenRunning(start)
        reactor.run(installSignalHandlers=False)
        if results[0] is not None:
            results[0].raiseException()

    return play


async def connected(reactor: LoopReactor) -> tuple[Any, Actor, Actor]:
    """Return a port, and the two ends of a connection to it."""
    server, client = Actor(), Actor()
    factory: Factory[Any] = Factory.forProtocol(lambda: server)
    factory.noisy = False
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
    await server.happened("made")
    return port, server, client


async def exchanged(reactor: LoopReactor, server: Actor, client: Actor, times: int) -> None:
    """Let the server read so many times."""
    for _ in range(times):
        before = len(server.received)
        client.transport.write(b"x")
        await server.got(before + 1)
        await deferLater(reactor, 0, lambda: None)  # in which it is handed over, if it is


def test_a_connection_becomes_the_loops_at_its_twelfth_read_or_write(reactor: LoopReactor, play: Play) -> None:
    async def scenario() -> None:
        port, server, client = await connected(reactor)
        await exchanged(reactor, server, client, 11)
        assert server.transport.native is None
        assert client.transport.native is None
        await exchanged(reactor, server, client, 1)
        assert server.transport.native is not None  # which has only read
        assert client.transport.native is not None  # which has only written
        assert {server.transport, client.transport} <= set(reactor.getReaders())
        client.transport.loseConnection()
        await client.lost
        await server.lost
        assert server.events == client.events == ["made", "lost: ConnectionDone"]
        await port.stopListening()
        assert not reactor.native

    play(scenario())


@pytest.mark.parametrize("no_delay", [True, False])
def test_being_handed_over_changes_no_option(reactor: LoopReactor, play: Play, no_delay: bool) -> None:
    reactor.hand_over_at = 1

    async def scenario() -> None:
        port, server, client = await connected(reactor)
        server.transport.setTcpNoDelay(no_delay)
        await exchanged(reactor, server, client, 2)
        assert server.transport.native is not None
        assert server.transport.getTcpNoDelay() == no_delay
        assert server.transport.getHandle().getpeername() == client.transport.getHandle().getsockname()
        client.transport.loseConnection()
        await client.lost
        await server.lost
        await port.stopListening()

    play(scenario())


def test_what_waits_to_be_written_when_it_is_handed_over_is_written(reactor: LoopReactor, play: Play) -> None:
    reactor.hand_over_at = 1
    size = 8_000_000

    async def scenario() -> None:
        port, server, client = await connected(reactor)
        client.transport.pauseProducing()
        client.transport.write(b"x")
        await server.got(1)
        server.transport.write(b"a" * size)  # more than the system takes, before it is handed over
        await deferLater(reactor, 0.01, lambda: None)
        server.transport.write(b"b" * size)
        server.transport.loseConnection()
        client.transport.resumeProducing()
        await client.got(2 * size)
        assert client.received == b"a" * size + b"b" * size
        await client.lost
        await server.lost
        await port.stopListening()

    play(scenario())


def test_a_turn_takes_a_bounded_number_of_datagrams(reactor: LoopReactor, play: Play) -> None:
    async def scenario() -> None:
        counts: list[int] = []

        class Counting(Datagrams):
            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                super().datagramReceived(datagram, addr)
                if len(self.received) == 1:
                    reactor.callLater(0, lambda: counts.append(len(self.received)))

        receiver = Counting()
        port: Any = reactor.listenUDP(0, receiver, interface="127.0.0.1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(150):
                sender.sendto(b"", ("127.0.0.1", port.getHost().port))
        await receiver.until(lambda: len(receiver.received) == 150)
        assert counts == [64]
        await port.stopListening()

    play(scenario())


def test_a_shared_datagram_port_takes_as_many_in_a_turn(reactor: LoopReactor, play: Play) -> None:
    async def scenario() -> None:
        shared = SharedPorts(reactor)
        one: Any = shared.listenUDP(0, Datagrams(), "127.0.0.1")
        number = one.getHost().port
        other: Any = shared.listenUDP(number, Datagrams(), "127.0.0.1")
        assert type(one) is type(other) is DatagramPort
        await one.stopListening()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", number))
        await other.protocol.until(lambda: other.protocol.received == [b"x"])
        await other.stopListening()

    play(scenario())


def test_a_call_that_waits_is_not_forgotten_for_a_later_one_made_in_a_turn(reactor: LoopReactor, play: Play) -> None:
    async def scenario() -> None:
        began = reactor.seconds()
        late: list[Any] = []
        soon = deferLater(reactor, 0.05, reactor.seconds)
        reactor.callLater(0.02, lambda: late.append(reactor.callLater(2, late.clear)))
        assert await soon - began < 1
        late[0].cancel()

    play(scenario())


def test_a_call_made_in_a_turn_comes_before_those_that_wait(reactor: LoopReactor, play: Play) -> None:
    async def scenario() -> None:
        began = reactor.seconds()
        sooner: Deferred[float] = Deferred()
        late = reactor.callLater(2, lambda: None)
        reactor.callLater(0.01, reactor.callLater, 0.01, lambda: sooner.callback(reactor.seconds()))
        assert await sooner - began < 1
        late.cancel()

    play(scenario())


@pytest.mark.parametrize("name", ["asyncio-native", "uvloop"])
def test_twist_knows_the_reactors(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twisted", f"--reactor={name}", "netsvc", "--help"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--tcp" in done.stdout


def test_without_uvloop_one_line_says_what_is_missing() -> None:
    program = """
import sys
sys.modules["uvloop"] = None
from netsvc.reactor import UvloopReactor
UvloopReactor.install()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (1, "uvloop is not installed; pip install 'netsvc[fast]' brings it\n")


def test_importing_the_package_installs_no_reactor() -> None:
    program = "import netsvc.reactor, sys; assert 'twisted.internet.reactor' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], timeout=SECONDS, check=True)


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_protocol_that_fails_when_it_is_lost_keeps_no_other_from_being_written(
    reactor: LoopReactor, play: Play
) -> None:
    reactor.hand_over_at = 0

    class Faulty(Actor):
        def connectionLost(self, reason: Any = None) -> None:
            super().connectionLost(reason)
            raise ZeroDivisionError

    async def scenario() -> None:
        servers: list[Actor] = [Faulty(), Actor(), Actor()]
        waiting = iter(servers)
        factory: Factory[Any] = Factory.forProtocol(lambda: next(waiting))
        factory.noisy = False
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        clients = [Actor() for _ in servers]
        for client in clients:
            await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), client)
        for server in servers:
            await server.happened("made")
        await deferLater(reactor, 0.01, lambda: None)
        servers[0].transport.loseConnection()
        for server in servers[1:]:
            server.transport.write(b"hello")
        for client in clients[1:]:
            await client.got(5)
        for server in servers[1:]:
            server.transport.loseConnection()
        for actor in (*servers, *clients):
            await actor.lost
        await port.stopListening()

    play(scenario())


def test_a_write_method_that_was_kept_does_not_write_past_tls(reactor: LoopReactor, play: Play) -> None:
    reactor.hand_over_at = 1
    authority = trustme.CA()
    certificate = authority.issue_cert("server").private_key_and_cert_chain_pem.bytes()
    context = PrivateCertificate.loadPEM(certificate).options()

    async def scenario() -> None:
        port, server, client = await connected(reactor)
        await exchanged(reactor, server, client, 2)
        kept = server.transport.write
        assert server.transport.native is not None
        server.transport.startTLS(context)
        kept(b"secret")
        await deferLater(reactor, 0.05, lambda: None)
        assert b"secret" not in client.received
        client.transport.abortConnection()
        await client.lost
        await server.lost
        await port.stopListening()

    play(scenario())


def test_writing_to_a_peer_that_does_not_read_takes_no_longer_the_more_there_is(
    reactor: LoopReactor, play: Play
) -> None:
    reactor.hand_over_at = 0

    class Deaf:
        """A producer that does not listen."""

        def pauseProducing(self) -> None: ...
        def resumeProducing(self) -> None: ...
        def stopProducing(self) -> None: ...

    async def scenario() -> None:
        port, server, client = await connected(reactor)
        client.transport.pauseProducing()
        await deferLater(reactor, 0.01, lambda: None)
        server.transport.registerProducer(Deaf(), True)
        server.transport.write(b"x" * 8_000_000)
        await deferLater(reactor, 0.01, lambda: None)
        for _ in range(20_000):  # takes 15 s if each counts all that waits
            server.transport.write(b"one more line\n")
        assert server.transport.native.blocked
        server.transport.abortConnection()
        client.transport.abortConnection()
        await server.lost
        await client.lost
        await port.stopListening()

    play(scenario())
