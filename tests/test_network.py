"""Tests of the simulated network."""

from __future__ import annotations

import errno
import hashlib
import re
import socket
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trustme
from twisted.application.internet import ClientService
from twisted.internet import error, reactor  # noqa: TID251  a test looks for what is left on it
from twisted.internet.defer import Deferred, DeferredQueue, gatherResults, inlineCallbacks
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    UNIXServerEndpoint,
    clientFromString,
    connectProtocol,
    serverFromString,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorMulticast,
    IReactorPluggableNameResolver,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS, trustRootFromCertificates
from twisted.internet.task import LoopingCall, deferLater
from twisted.protocols.policies import TimeoutMixin
from zope.interface.verify import verifyObject

from netsvc import Config, EchoClient, ask_timestamp, netsvc_service
from netsvc.errors import NetsvcError
from netsvc.testing import HostDownError, LinkError, Network, NetworkError, splits
from netsvc.testing.events import EventQueue, StandstillError
from tests.scenarios.protocols import HalfCloseProtocol, RecordingDatagramProtocol, RecordingProtocol, Writer


@pytest.fixture
def network() -> Network:
    network = Network(seed=7)
    network.host("server")
    network.host("client")
    return network


def listen(network: Network, protocol: RecordingProtocol, port: int = 80, **options: Any) -> RecordingProtocol:
    """Listen on the server with a protocol that handles one connection. Returns the protocol."""
    factory: Factory[Any] = Factory.forProtocol(lambda: protocol)
    factory.noisy = False
    network.hosts["server"].reactor.listenTCP(port, factory, **options)
    return protocol


def connect(network: Network, protocol: RecordingProtocol, port: int = 80, timeout: float = 30) -> Deferred[Any]:
    """Connect a protocol from the client to the server."""
    client, server = network.hosts["client"], network.hosts["server"]
    connected: Deferred[Any] = connectProtocol(
        TCP4ClientEndpoint(client.reactor, server.address, port, timeout), protocol
    )
    return connected


def connect_pair(network: Network, server: RecordingProtocol, client: RecordingProtocol) -> None:
    """Connect two protocols, one on the server and one on the client."""
    listen(network, server)
    connect(network, client)
    network.settle()
    assert server.events == client.events == ["connected"]


# Hosts and their reactors


def test_a_reactor_provides_its_interfaces(network: Network) -> None:
    reactor = network.hosts["server"].reactor
    for interface in (
        IReactorCore,
        IReactorTime,
        IReactorFDSet,
        IReactorFromThreads,
        IReactorTCP,
        IReactorSSL,
        IReactorUDP,
        IReactorMulticast,
        IReactorUNIX,
        IReactorPluggableNameResolver,
    ):
        verifyObject(interface, reactor)
    verifyObject(IListeningPort, reactor.listenTCP(80, Factory()))
    verifyObject(IListeningPort, reactor.listenUDP(80, RecordingDatagramProtocol()))


def test_a_host_has_the_given_addresses_or_default_ones(network: Network) -> None:
    given = network.host("third", "203.0.113.7", "2001:db8::7")
    assert given.addresses == ("203.0.113.7", "2001:db8::7")
    assert network.hosts["server"].addresses == ("10.0.0.1", "fd00::1")


@pytest.mark.parametrize(
    ("name", "addresses", "problem"),
    [
        ("server", (), "the name 'server' is in use already"),
        ("", (), "the name of a host must be a text that is not empty"),
        ("new", ("10.0.0.1",), "the host 'server' has the address 10.0.0.1 already"),
        ("SERVER", (), "the name 'SERVER' is in use already"),
        ("localhost", (), "the name 'localhost' is in use already"),
        ("new", ("example.org",), "not an IPv4 or IPv6 address: 'example.org'"),
        ("new", (5,), "not an IPv4 or IPv6 address: 5"),
        ("new", ("FD00::0:1",), "the host 'server' has the address fd00::1 already"),
        ("new", ("0.0.0.0",), "a host cannot have this address: '0.0.0.0'"),
        ("new", ("224.0.0.1",), "a host cannot have this address"),
    ],
)
def test_an_invalid_host_is_an_error(network: Network, name: str, addresses: tuple[str], problem: str) -> None:
    with pytest.raises(NetworkError, match=problem):
        network.host(name, *addresses)


def test_a_crash_drops_sockets_and_timers_and_notifies_no_peer(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    reactor = network.hosts["server"].reactor
    called: list[str] = []
    reactor.callLater(1, called.append, "never")
    network.hosts["server"].crash()
    network.advance(10)
    assert server.events == client.events == ["connected"]
    assert called == []


def test_a_restarted_host_resets_old_connections(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.hosts["server"].crash()
    client.transport.write(b"anybody there?")
    network.advance(1)
    assert client.events == ["connected"]
    network.hosts["server"].restart()
    network.advance(1)
    assert client.events == ["connected", "lost: ConnectionLost"]


def test_a_restarted_host_accepts_new_connections(network: Network) -> None:
    connect_pair(network, RecordingProtocol(), RecordingProtocol())
    network.hosts["server"].crash()
    network.hosts["server"].restart()
    again, client = RecordingProtocol(), RecordingProtocol()
    listen(network, again)
    connect(network, client)
    network.settle()
    assert again.events == ["connected"]


def test_using_the_reactor_of_a_crashed_host_is_an_error(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    host = network.hosts["server"]
    reactor = host.reactor
    host.crash()
    for call in (
        lambda: reactor.callLater(1, print),
        lambda: reactor.listenTCP(81, Factory()),
        lambda: reactor.listenUDP(81, RecordingDatagramProtocol()),
        lambda: reactor.connectTCP("10.0.0.2", 80, None),  # type: ignore[arg-type]  # the factory is never used
        lambda: reactor.callFromThread(print),
        lambda: server.transport.write(b"x"),
        lambda: host.reactor,
        host.crash,
    ):
        with pytest.raises(HostDownError, match="the host 'server' has crashed"):
            call()
    host.restart()
    with pytest.raises(HostDownError, match="use the host's new reactor"):
        reactor.callLater(1, print)
    with pytest.raises(NetworkError, match="the host 'server' runs"):
        host.restart()


@pytest.mark.parametrize("crash_at", [0.5, 1.5, 2.5])
def test_a_crash_during_a_handshake_leaves_no_connection_behind(network: Network, crash_at: float) -> None:
    network.links().set(latency=1)
    client = RecordingProtocol()
    listen(network, RecordingProtocol())
    attempt = connect(network, client, timeout=60)
    attempt.addErrback(lambda failure: failure.trap(error.ConnectionRefusedError))
    network.advance(crash_at)
    network.hosts["server"].crash()
    network.hosts["server"].restart()
    network.advance(10)
    assert client.events in ([], ["connected", "lost: ConnectionLost"])


def test_a_crashed_host_sends_no_packets(network: Network) -> None:
    class CrashingProtocol(RecordingProtocol):
        def dataReceived(self, data: bytes) -> None:
            network.hosts["server"].crash()

    server, client = CrashingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    datagrams = RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, datagrams)
    server.transport.write(b"half")  # still unsent when the host crashes in the same iteration
    client.transport.write(b"x")
    network.advance(0)
    before = len(network.trace)
    network.advance(10)
    with pytest.raises(HostDownError, match="the host 'server' has crashed"):
        datagrams.transport.write(b"after the crash", ("10.0.0.2", 7))
    sent = [event for event in list(network.trace)[before:] if event.source == "server"]
    crashed = [event.kind for event in sent].index("crashed") if sent else -1
    assert [event.kind for event in sent[crashed + 1 :]] == []
    assert client.events == ["connected"]


def test_a_reactor_starts_when_virtual_time_is_first_run(network: Network) -> None:
    happened: list[str] = []
    reactor = network.hosts["server"].reactor
    reactor.callWhenRunning(happened.append, "running")
    assert not reactor.running
    network.advance(0)
    assert reactor.running
    assert happened == ["running"]
    reactor.callWhenRunning(happened.append, "at once")
    assert happened == ["running", "at once"]


def test_a_crash_ends_the_run_of_the_reactor(network: Network) -> None:
    host = network.hosts["server"]
    looping = LoopingCall(lambda: None)
    looping.clock = network.hosts["client"].reactor
    looping.start(1)
    network.call_later(3, host.crash)
    with pytest.raises(HostDownError):
        host.reactor.run()


def test_calls_from_threads_are_run_before_timers(network: Network) -> None:
    called: list[str] = []
    reactor = network.hosts["server"].reactor
    reactor.callLater(0, called.append, "timer")
    reactor.callFromThread(called.append, "thread")
    network.settle()
    assert called == ["thread", "timer"]


def test_running_the_network_from_inside_a_callback_is_an_error(network: Network) -> None:
    errors: list[str] = []

    def callback() -> None:
        for call in (lambda: network.advance(1), network.settle, lambda: network.run(Deferred())):
            try:
                call()
            except RuntimeError as e:
                errors.append(str(e))

    network.hosts["server"].reactor.callLater(1, callback)
    network.advance(2)
    assert len(errors) == 3
    assert "from inside a callback" in errors[0]


def test_a_reactor_can_be_run_until_it_is_stopped(network: Network) -> None:
    reactor = network.hosts["server"].reactor
    happened: list[str] = []
    reactor.addSystemEventTrigger("before", "shutdown", happened.append, "shutdown")
    reactor.callWhenRunning(happened.append, "running")
    reactor.callLater(5, reactor.stop)
    reactor.run()
    assert happened == ["running", "shutdown"]
    assert 5 <= network.now < 5.001


def test_running_a_reactor_without_events_is_an_error(network: Network) -> None:
    with pytest.raises(RuntimeError, match="the reactor of server was not stopped"):
        network.hosts["server"].reactor.run()


# Time


def test_calls_are_run_by_time_and_then_in_their_order(network: Network) -> None:
    reactor = network.hosts["server"].reactor
    called: list[str] = []
    for name, delay in (("c", 2.0), ("a", 1.0), ("b", 1.0), ("d", 2.0)):
        reactor.callLater(delay, called.append, name)
    network.advance(0.999)
    assert called == []
    network.advance(0.001)
    assert called == ["a", "b"]
    network.advance(10)
    assert called == ["a", "b", "c", "d"]


def test_calls_can_be_delayed_reset_and_cancelled(network: Network) -> None:
    reactor = network.hosts["server"].reactor
    called: list[tuple[str, float]] = []

    def call(name: str) -> None:
        called.append((name, round(network.now, 6)))

    later, sooner, twice, never = (reactor.callLater(5, call, name) for name in ("later", "sooner", "twice", "never"))
    later.delay(2)
    sooner.reset(1)
    twice.reset(8)
    twice.reset(2)
    never.cancel()
    assert never not in reactor.getDelayedCalls()
    network.advance(20)
    assert called == [("sooner", 1.0), ("twice", 2.0), ("later", 7.0)]
    assert reactor.getDelayedCalls() == []


def test_a_looping_call_every_tenth_of_a_second_runs_ten_times_per_second(network: Network) -> None:
    calls: list[float] = []
    looping = LoopingCall(lambda: calls.append(network.now))
    looping.clock = network.hosts["client"].reactor
    looping.start(0.1)
    network.advance(3600)
    assert len(calls) == 36_001


def test_advancing_ten_times_by_a_tenth_of_a_second_is_one_second(network: Network) -> None:
    called: list[int] = []
    network.hosts["client"].reactor.callLater(1, called.append, 1)
    for _ in range(9):
        network.advance(0.1)
    assert called == []
    network.advance(0.1)
    assert called == [1]


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf")])
def test_an_impossible_delay_is_an_error(network: Network, delay: float) -> None:
    with pytest.raises(ValueError, match="the delay must be a number of seconds, 0 or more"):
        network.hosts["client"].reactor.callLater(delay, print)
    with pytest.raises(NetworkError, match="time must be a number of seconds, 0 or more"):
        network.advance(delay)
    with pytest.raises(NetworkError, match="time must be a number of seconds, 0 or more"):
        network.call_later(delay, print)


def test_run_returns_the_result_or_raises_the_exception(network: Network) -> None:
    reactor = network.hosts["client"].reactor

    async def later() -> str:
        await deferLater(reactor, 3, lambda: None)
        return "result"

    assert network.run(later()) == "result"
    with pytest.raises(ZeroDivisionError):
        network.run(deferLater(reactor, 1, lambda: 1 / 0))


def test_run_raises_an_error_if_there_is_no_result(network: Network) -> None:
    with pytest.raises(NetworkError, match="no event is scheduled any more"):
        network.run(Deferred())
    looping = LoopingCall(lambda: None)
    looping.clock = network.hosts["client"].reactor
    looping.start(1)
    with pytest.raises(NetworkError, match="no result after 60 s"):
        network.run(Deferred(), timeout=60)


class Asker:
    async def ask(self) -> None:
        await Deferred()


def error_of_run(network: Network, awaitable: Any, timeout: float = 3600) -> list[str]:
    """Return the lines of the error that a run without a result raises."""
    with pytest.raises(NetworkError) as error:
        network.run(awaitable, timeout)
    return str(error.value).splitlines()


def test_the_error_of_run_says_at_which_line_each_coroutine_waits(network: Network) -> None:
    @inlineCallbacks
    def generator() -> Any:
        yield Asker().ask()

    async def coroutine() -> None:
        await chained

    chained: Deferred[Any] = Deferred()
    chained.callback(None)
    chained.addCallback(lambda _: generator())
    [first, waits] = error_of_run(network, coroutine())
    assert first == "no event is scheduled any more at 0 s, and there is no result"
    assert re.fullmatch(
        r"- it waits for: \S*\.coroutine \(test_network.py:\d+\) > \S*\.generator \(test_network.py:\d+\)"
        r" > Asker\.ask \(test_network.py:\d+\) > a Deferred",
        waits,
    )
    lines = [int(line) for line in re.findall(r"\.py:(\d+)", waits)]
    source = Path(__file__).read_text().splitlines()
    assert [source[line - 1].strip() for line in lines] == ["await chained", "yield Asker().ask()", "await Deferred()"]


def test_the_error_of_run_names_what_a_deferred_is_of_and_which_of_several_have_no_result(network: Network) -> None:
    [_, waits] = error_of_run(network, DeferredQueue().get())
    assert waits == "- it waits for: a Deferred of DeferredQueue._cancelGet"
    done: Deferred[Any] = Deferred()
    done.callback(None)
    [_, waits] = error_of_run(network, gatherResults([done, Deferred.fromCoroutine(Asker().ask())]))
    assert re.fullmatch(r"- it waits for: 1 of 2 Deferreds: Asker\.ask \(test_network.py:\d+\); a Deferred", waits)


@pytest.mark.logs_failure("ZeroDivisionError")
def test_an_exception_when_a_connection_is_lost_is_logged_and_the_host_goes_on(network: Network) -> None:
    class Faulty(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            raise ZeroDivisionError

    server, client = network.hosts["server"], network.hosts["client"]
    serverFromString(server.reactor, "tcp:7").listen(Factory.forProtocol(Protocol))
    faulty = network.run(connectProtocol(clientFromString(client.reactor, "tcp:server:7"), Faulty()))
    faulty.transport.loseConnection()
    ticks: list[float] = []
    client.reactor.callLater(1, lambda: ticks.append(network.now))
    network.advance(2)
    assert ticks == [1]


@pytest.mark.logs_failure("ZeroDivisionError")
@pytest.mark.logs_failure("KeyError")
def test_the_error_of_run_has_failures_crashes_and_partitions(network: Network) -> None:
    server = network.hosts["server"]
    server.reactor.callLater(1, lambda: 1 // 0)
    network.call_later(2, server.crash)
    network.link("server", "client").partition()
    forgotten: Deferred[None] = Deferred()
    forgotten.errback(KeyError("key"))
    lines = error_of_run(network, Deferred())
    assert re.fullmatch(r"- failures were logged: ZeroDivisionError: .* \(test_network.py:\d+\)", lines[2])
    assert lines[3:] == [
        "- failures have no errback: KeyError: 'key'",
        "- hosts are down: server",
        "- in a partition: server <-> client",
    ]
    server.restart()
    network.links().heal()
    del forgotten
    assert len(error_of_run(network, Deferred())) == 2


def test_the_error_of_run_has_the_links_that_are_still_in_a_partition(network: Network) -> None:
    network.host("third")

    def partitions() -> list[str]:
        lines = [line for line in error_of_run(network, Deferred()) if "partition" in line]
        return lines[0].removeprefix("- in a partition: ").split(", ") if lines else []

    network.links().partition()
    assert partitions() == ["all links"]
    network.link("server", "client").heal()
    assert partitions() == ["server <-> third", "client <-> third"]
    network.link_from("third", "server").heal()
    assert partitions() == ["server -> third", "client <-> third"]
    network.links().heal()
    assert partitions() == []
    network.link_from("client", "server").partition()
    assert partitions() == ["client -> server"]


def test_the_error_of_a_timeout_has_the_next_calls_of_the_hosts(network: Network) -> None:
    for seconds in (100, 400, 300, 500, 200):
        network.hosts["client"].reactor.callLater(seconds, print)
    [first, _, calls] = error_of_run(network, Deferred(), timeout=10)
    assert first == "there is no result after 10 s"
    assert calls == (
        "- scheduled on hosts: print at 100 s on client, print at 200 s on client, print at 300 s on client, and 2 more"
    )


def test_the_error_of_run_has_what_waits_in_real_time(network: Network) -> None:
    call = reactor.callLater(3600, print)
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait, name="of the program")
    thread.start()
    try:
        lines = error_of_run(network, Deferred())
    finally:
        go_on.set()
        thread.join()
        call.cancel()
    assert re.fullmatch(
        r"- on the real reactor, .*\(the option netsvc_global_reactor = true, .*\): print at .*", lines[2]
    )
    assert lines[3] == "- threads run in real time: of the program"
    assert len(error_of_run(network, Deferred())) == 2


def test_settle_waits_for_packets_in_flight_and_not_for_timers(network: Network) -> None:
    network.links().set(latency=2)
    called: list[str] = []
    network.hosts["client"].reactor.callLater(60, called.append, "timer")
    server, client = RecordingProtocol(), RecordingProtocol()
    listen(network, server)
    connect(network, client)
    network.settle()
    assert server.events == ["connected"]
    assert network.now == pytest.approx(6)
    assert called == []


def test_endless_events_at_the_same_time_are_an_error() -> None:
    events = EventQueue()

    def again() -> None:
        events.call_at(events.now, again)

    again()
    with pytest.raises(StandstillError):
        events.run_until(1)


@pytest.mark.logs_failure("ZeroDivisionError")
def test_an_exception_in_a_delayed_call_is_logged_and_later_calls_run(network: Network) -> None:
    reactor = network.hosts["server"].reactor
    called: list[str] = []
    reactor.callLater(1, lambda: 1 / 0)
    reactor.callLater(1, called.append, "next")
    network.advance(1)
    assert called == ["next"]


# Errors


@pytest.mark.parametrize(
    ("exception", "base"),
    [
        (NetworkError, ValueError),
        (LinkError, ValueError),
        (HostDownError, RuntimeError),
        (StandstillError, RuntimeError),
    ],
)
def test_every_exception_is_a_netsvc_error(exception: type[Exception], base: type[Exception]) -> None:
    assert issubclass(exception, NetsvcError)
    assert issubclass(exception, base)


# Links


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        ({"latency": -0.1}, "latency must be a number of seconds, 0 or more: -0.1"),
        ({"latency": float("inf")}, "latency must be a number of seconds"),
        ({"jitter": -1}, "jitter must be a number of seconds"),
        ({"loss": 1.1}, "loss must be a share between 0 and 1: 1.1"),
        ({"loss": float("nan")}, "loss must be a share"),
        ({"duplication": "0.5"}, "duplication must be a share"),
        ({"reordering": -0.5}, "reordering must be a share"),
        ({"bandwidth": 0}, "bandwidth must be a number of bits per second"),
        ({"burst": 0.5}, "burst must be a mean number"),
        ({"loss": 0.9, "burst": 2}, "is too high for bursts"),
        ({"mtu": 10}, "mtu must be a number of bytes, 68 or more"),
        ({"splits": 3}, "splits must be a policy"),
        ({"up": "no"}, "up must be True or False: 'no'"),
        ({"latence": 1}, "a link has no condition 'latence'"),
    ],
)
def test_impossible_conditions_are_errors(network: Network, conditions: dict[str, Any], problem: str) -> None:
    for links in (network.links(), network.link("server", "client"), network.link_from("server", "client")):
        with pytest.raises(LinkError, match=problem):
            links.set(**conditions)


def test_the_error_for_an_unknown_host_lists_the_known_hosts(network: Network) -> None:
    for call in (network.link, network.link_from):
        with pytest.raises(NetworkError, match="no host is called 'servr'; the hosts are server, client"):
            call("client", "servr")
        with pytest.raises(NetworkError, match="the link from a host to itself is always perfect"):
            call("client", "client")
    with pytest.raises(NetworkError, match="no host is called 'nobody'"):
        network.name("www.example", "nobody")


def arrivals(network: Network, count: int, size: int = 10) -> list[tuple[float, bytes]]:
    """Send numbered datagrams from the client to the server, one every 10 ms. Returns the delays and numbers."""
    received: list[tuple[float, bytes]] = []

    class Receiver(RecordingDatagramProtocol):
        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            received.append((network.now, datagram[:5]))

    server, client = network.hosts["server"], network.hosts["client"]
    server.reactor.listenUDP(7, Receiver(), maxPacketSize=65_536)
    sender = RecordingDatagramProtocol()
    client.reactor.listenUDP(0, sender)
    start = network.now
    for number in range(count):
        sender.transport.write(b"%05d" % number + bytes(size - 5), (server.address, 7))
        network.advance(0.01)
    network.advance(5)
    return [(when - start - int(data) * 0.01, data) for when, data in received]


def test_latency_and_jitter_delay_a_datagram(network: Network) -> None:
    network.link_from("client", "server").set(latency=0.1, jitter=0.05)
    delays = [delay for delay, _ in arrivals(network, 200)]
    assert len(delays) == 200
    assert 0.0999 < min(delays) < 0.11
    assert 0.14 < max(delays) < 0.1501


def test_a_crash_loses_what_is_in_the_queue_of_a_link_but_not_what_has_left_it(network: Network) -> None:
    network.link_from("client", "server").set(bandwidth=8_000, latency=2)  # 1,000 bytes per second
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    host = network.hosts["client"]
    host.reactor.listenUDP(0, client)
    for number in range(10):
        client.transport.write(b"%d" % number + b"x" * 971, ("10.0.0.1", 7))  # one second each, with its headers
    network.advance(1.5)
    host.crash()
    restarted = RecordingDatagramProtocol()
    host.restart().listenUDP(0, restarted)
    restarted.transport.write(b"after the restart", ("10.0.0.1", 7))
    network.settle()
    assert [data[:1] for data in server.received] == [b"0", b"a"]
    assert network.links().count("lost") == 9


def test_a_host_connects_at_once_after_a_crash_with_a_full_queue(network: Network) -> None:
    network.links().set(bandwidth=10_000)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.write(bytes(100_000))  # 80 s
    network.advance(10)
    network.hosts["client"].crash()
    network.hosts["client"].restart()
    received = len(server.received)
    begin = network.now
    network.run(connect(network, RecordingProtocol()))
    assert network.now - begin < 1
    network.advance(200)
    assert len(server.received) == received


def fill_queue_of_server(network: Network) -> None:
    """Send a datagram from the server to the client that takes a minute."""
    network.link_from("server", "client").set(bandwidth=8_000)
    sender = RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, sender)
    sender.transport.write(bytes(60_000), ("10.0.0.2", 7))


def test_a_client_tries_again_if_the_answer_to_its_attempt_was_in_the_queue_of_a_crashed_host(
    network: Network,
) -> None:
    fill_queue_of_server(network)
    listen(network, RecordingProtocol())
    client = RecordingProtocol()
    connect(network, client, timeout=100)
    network.advance(1)
    network.hosts["server"].crash()
    network.hosts["server"].restart()
    listen(network, RecordingProtocol())
    network.advance(100)
    assert client.events == ["connected"]


def test_a_restarted_host_resets_old_connections_although_its_queue_was_lost(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    fill_queue_of_server(network)
    network.hosts["server"].crash()
    network.hosts["server"].restart()
    client.transport.write(b"hello")
    network.advance(1)
    assert client.events == ["connected", "lost: ConnectionLost"]


@pytest.mark.parametrize(
    ("bandwidths", "wait"), [([8_000, float("inf"), 8_000], 0), ([8_000, 80_000], 6), ([80_000, 8_000], 60)]
)
def test_a_new_packet_waits_for_the_queue_at_the_bandwidth_of_now(
    network: Network, bandwidths: list[float], wait: float
) -> None:
    link = network.link_from("client", "server")
    client, server = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    network.hosts["client"].reactor.listenUDP(0, client)
    link.set(bandwidth=bandwidths[0])
    client.transport.write(bytes(60_000 - 28), ("10.0.0.1", 7))
    for bandwidth in bandwidths[1:]:
        link.set(bandwidth=bandwidth)
    client.transport.write(b"", ("10.0.0.1", 7))
    while b"" not in server.received:
        network.advance(0.1)
    assert network.now == pytest.approx(wait, abs=0.2)


def test_bandwidth_limits_delay_packets(network: Network) -> None:
    network.link_from("client", "server").set(bandwidth=80_000)  # 10,000 bytes per second
    delays = [delay for delay, _ in arrivals(network, 3, size=972)]  # 1,000 bytes with the headers
    assert delays == pytest.approx([0.1, 0.19, 0.28])


@pytest.mark.parametrize("burst", [1, 8])
def test_the_share_and_the_bursts_of_lost_datagrams_are_as_configured(network: Network, burst: float) -> None:
    network.link_from("client", "server").set(loss=0.2, burst=burst)
    received = {data for _, data in arrivals(network, 4000)}
    lost = [b"%05d" % number not in received for number in range(4000)]
    assert sum(lost) / 4000 == pytest.approx(0.2, abs=0.05)
    bursts = sum(now and not before for before, now in zip([False, *lost], lost, strict=False))
    # With an independent loss of 0.2, the mean length of a burst is 1 / 0.8.
    assert sum(lost) / bursts == pytest.approx(burst if burst > 1 else 1.25, rel=0.25)
    assert network.link_from("client", "server").count("lost") == sum(lost)


def test_the_shares_of_duplicated_and_reordered_datagrams_are_as_configured(network: Network) -> None:
    network.link_from("client", "server").set(latency=0.02, duplication=0.1, reordering=0.1)
    received = [data for _, data in arrivals(network, 1000)]
    assert len(received) == 1000 + network.links().count("duplicated")
    assert received != sorted(received)
    assert 50 < network.links().count("reordered") < 150


def test_a_partition_can_affect_one_direction_only(network: Network) -> None:
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    network.hosts["client"].reactor.listenUDP(7, client)
    network.link_from("client", "server").partition()
    client.transport.write(b"lost", ("10.0.0.1", 7))
    server.transport.write(b"arrives", ("10.0.0.2", 7))
    network.settle()
    assert (server.received, client.received) == ([], [b"arrives"])
    network.link_from("client", "server").heal()
    client.transport.write(b"arrives too", ("10.0.0.1", 7))
    network.settle()
    assert server.received == [b"arrives too"]


def test_a_partition_loses_the_packets_in_flight(network: Network) -> None:
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    network.hosts["client"].reactor.listenUDP(7, client)
    network.links().set(latency=1)
    client.transport.write(b"lost", ("10.0.0.1", 7))
    network.advance(0.5)
    network.links().partition()
    network.advance(1)
    network.links().heal()
    network.settle()
    assert server.received == []
    assert network.links().count("lost") == 1


def test_a_datagram_longer_than_the_mtu_is_sent_in_fragments(network: Network) -> None:
    network.link_from("client", "server").set(mtu=1500, bandwidth=8_000)  # 1,000 bytes per second
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    network.hosts["client"].reactor.listenUDP(0, client)
    client.transport.write(b"x" * 2_000, ("10.0.0.1", 7))
    network.settle()
    assert len(server.received) == 1
    assert network.now == pytest.approx(2.048, abs=0.001)  # two IPv4 headers, one UDP header


def test_a_datagram_is_lost_if_one_of_its_fragments_is(network: Network) -> None:
    network.link_from("client", "server").set(mtu=1500, loss=0.1)
    client = RecordingDatagramProtocol()
    network.hosts["client"].reactor.listenUDP(0, client)
    for _ in range(1_000):
        client.transport.write(b"x" * 7_000, ("10.0.0.1", 7))  # five fragments
    assert network.links().count("lost") == pytest.approx(1_000 * (1 - 0.9**5), rel=0.1)


def test_a_datagram_longer_than_the_mtu_is_an_error_if_fragments_are_forbidden(network: Network) -> None:
    network.link_from("client", "server").set(mtu=1500)
    client = RecordingDatagramProtocol()
    port: Any = network.hosts["client"].reactor.listenUDP(0, client)
    port.socket.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
    client.transport.write(b"x" * 1472, ("10.0.0.1", 7))
    with pytest.raises(error.MessageLengthError):
        client.transport.write(b"x" * 1473, ("10.0.0.1", 7))


def test_conditions_of_all_links_apply_to_hosts_that_are_added_later(network: Network) -> None:
    network.links().set(latency=3)
    late = network.host("late")
    server, sender = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    late.reactor.listenUDP(0, sender)
    sender.transport.write(b"x", ("10.0.0.1", 7))
    network.advance(2.9)
    assert server.received == []
    network.advance(0.1)
    assert server.received == [b"x"]


def test_conditions_do_not_apply_to_packets_from_a_host_to_itself(network: Network) -> None:
    network.links().set(loss=1, latency=5)
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    reactor = network.hosts["server"].reactor
    reactor.listenUDP(7, server)
    reactor.listenUDP(0, client)
    client.transport.write(b"loopback", ("127.0.0.1", 7))
    client.transport.write(b"own address", ("10.0.0.1", 7))
    network.settle()
    assert server.received == [b"loopback", b"own address"]
    assert [host for host, _ in server.sources] == ["127.0.0.1", "10.0.0.1"]


# Streams


def test_a_connection_attempt_across_a_partition_reaches_its_timeout(network: Network) -> None:
    network.link("server", "client").partition()
    attempt = connect(network, RecordingProtocol(), timeout=30)
    with pytest.raises(error.TimeoutError):
        network.run(attempt)
    assert network.now == pytest.approx(30)


def test_a_connection_attempt_across_a_partition_fails_after_127_s_without_a_timeout(network: Network) -> None:
    network.link("server", "client").partition()
    with pytest.raises(error.TCPTimedOutError):
        network.run(connect(network, RecordingProtocol(), timeout=1000))
    assert network.now == pytest.approx(127)


def test_a_lost_syn_is_retransmitted_after_one_second(network: Network) -> None:
    listen(network, RecordingProtocol())
    network.links().partition()
    attempt = connect(network, RecordingProtocol())
    network.advance(0.5)
    network.links().heal()
    network.run(attempt)
    assert network.now == pytest.approx(1)


def test_an_address_without_a_host_is_unreachable(network: Network) -> None:
    endpoint = TCP4ClientEndpoint(network.hosts["client"].reactor, "10.9.9.9", 80)
    with pytest.raises(error.ConnectError, match="No route to host"):
        network.run(connectProtocol(endpoint, Protocol()))
    assert network.now == 3  # the last router has searched the host for so long


def test_a_connected_datagram_port_is_told_that_no_host_has_the_address(network: Network) -> None:
    client = RecordingDatagramProtocol()
    port: Any = network.hosts["client"].reactor.listenUDP(0, client)
    client.transport.connect("10.9.9.9", 7)
    client.transport.write(b"hello")
    network.advance(2.9)
    assert port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    port.stopReading()  # otherwise, the port takes the error
    network.advance(0.1)
    assert port.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EHOSTUNREACH


def test_a_connection_survives_a_partition_without_loss(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().partition()
    client.transport.write(b"delayed")
    network.advance(60)
    assert server.received == b""
    network.links().heal()
    network.advance(60)
    assert server.received == b"delayed"
    assert client.events == ["connected"]


def test_a_connection_times_out_in_a_long_partition(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().partition()
    client.transport.write(b"delayed")
    network.advance(924)
    assert client.events == ["connected"]
    network.advance(2)
    assert client.events == ["connected", "lost: ConnectionLost"]
    assert server.events == ["connected"]  # it sends nothing, so it never notices the loss


def test_an_idle_connection_survives_a_long_partition(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().partition()
    network.advance(86_400)
    network.links().heal()
    client.transport.write(b"good morning")
    network.settle()
    assert server.received == b"good morning"


def test_lost_segments_are_delivered_in_order(network: Network) -> None:
    """A partition loses the first of three segments. The later ones do not overtake it."""
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().set(latency=0.1)
    client.transport.write(b"1")
    network.advance(0.05)
    network.links().partition()  # this loses the first segment
    network.advance(0.06)
    network.links().heal()
    client.transport.write(b"2")
    network.advance(0.01)
    network.links().set(loss=1)
    client.transport.write(b"3")
    network.advance(0.01)
    network.links().set(loss=0)
    network.advance(10)
    assert server.received == b"123"


def test_a_partition_of_the_reverse_direction_delivers_without_acknowledgement(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.link_from("server", "client").partition()
    client.transport.write(b"hello")
    network.advance(1)
    assert server.received == b"hello"
    network.advance(1000)
    assert server.received == b"hello"
    assert client.events == ["connected", "lost: ConnectionLost"]


def test_bandwidth_limits_the_rate_of_a_stream(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.link_from("client", "server").set(bandwidth=8_000_000, latency=0.01, mtu=1500)
    client.transport.write(b"x" * 1_000_000)
    network.run(server.has_received(1_000_000))
    # One million bytes per second, and 40 bytes of headers for each 1,460 bytes.
    assert network.now == pytest.approx(1.037, abs=0.01)


def test_a_slow_link_delivers_one_segment_after_the_other(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().set(bandwidth=120_000)
    client.transport.write(b"x" * 30_000)
    network.advance(0.11)
    assert len(server.received) == 1460


def test_the_window_limits_the_rate_of_a_stream_with_high_latency(network: Network) -> None:
    network = Network()
    network.host("server", buffer=10_000)
    network.host("client", buffer=10_000)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().set(latency=0.5)
    client.transport.write(b"x" * 100_000)
    network.run(server.has_received(100_000))
    assert network.now == pytest.approx(10 - 0.5, abs=0.6)  # 10,000 bytes per round trip of 1 s


def test_a_paused_reader_limits_the_bytes_that_are_written(network: Network) -> None:
    server, client = RecordingProtocol(), Writer(10_000_000)
    connect_pair(network, server, client)
    server.transport.pauseProducing()
    client.write_all()
    network.advance(60)
    # The buffers of two sockets, and the buffer of Twisted's transport.
    assert client.written < 2 * 131_072 + 65_536 + 3 * len(client.block)
    assert client.events == ["connected", "paused", "resumed"]
    server.transport.resumeProducing()
    network.settle()
    assert len(server.received) == 10_000_000 // len(client.block) * len(client.block) + len(client.block)


@pytest.mark.parametrize(
    ("policy", "pieces"),
    [
        (splits.nowhere, [b"one two three"]),
        (splits.every_byte, [b"%c" % byte for byte in b"one two three"]),
        (splits.every(5), [b"one t", b"wo th", b"ree"]),
        (splits.at(1, 4), [b"o", b"ne ", b"two three"]),
    ],
)
def test_a_stream_is_split_at_the_offsets_of_the_policy(
    network: Network, policy: splits.SplitPolicy, pieces: list[bytes]
) -> None:
    received: list[bytes] = []

    class PieceRecorder(RecordingProtocol):
        def dataReceived(self, data: bytes) -> None:
            received.append(data)

    network.links().set(splits=policy)
    client = RecordingProtocol()
    connect_pair(network, PieceRecorder(), client)
    for word in (b"one ", b"two ", b"three"):
        client.transport.write(word)
    network.settle()
    assert received == pieces


def test_random_splits_depend_on_the_seed() -> None:
    def pieces(seed: int) -> list[int]:
        lengths: list[int] = []

        class PieceRecorder(RecordingProtocol):
            def dataReceived(self, data: bytes) -> None:
                lengths.append(len(data))

        network = Network(seed)
        network.host("server")
        network.host("client")
        network.links().set(splits=splits.at_random)
        client = RecordingProtocol()
        connect_pair(network, PieceRecorder(), client)
        client.transport.write(b"x" * 5_000)
        network.settle()
        assert sum(lengths) == 5_000
        return lengths

    assert pieces(1) == pieces(1) != pieces(2)
    assert len(pieces(1)) > 10


@pytest.mark.logs_failure("LinkError")
def test_a_policy_with_an_empty_piece_closes_the_connection_with_an_error(network: Network) -> None:
    network.links().set(splits=lambda _: iter([3, 0, 2]))
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.write(b"x" * 10)
    network.settle()
    assert server.events == ["connected", "lost: LinkError"]


@pytest.mark.parametrize(
    "policy",
    [
        lambda: splits.every(0),
        lambda: splits.every(2.5),  # type: ignore[arg-type]
        lambda: splits.at(0, 3),
        lambda: splits.at(5, 2),
    ],
)
def test_an_invalid_split_policy_is_an_error(policy: Any) -> None:
    with pytest.raises(ValueError, match=r"at least 1 byte|offsets must be above 0"):
        policy()


def fill_backlog(network: Network, count: int) -> tuple[list[Deferred[Any]], Any]:
    """Connect clients to a port with a backlog of 2 that accepts no connection. Returns the attempts and the port."""
    port: Any = network.hosts["server"].reactor.listenTCP(80, Factory.forProtocol(RecordingProtocol), backlog=2)
    port.pauseProducing()
    attempts = [connect(network, RecordingProtocol()) for _ in range(count)]
    network.advance(0.1)
    return attempts, port


def test_a_port_with_a_full_backlog_does_not_answer_and_the_client_tries_again(network: Network) -> None:
    attempts, port = fill_backlog(network, 5)
    # As on Linux, one connection more than the backlog is established.
    assert [attempt.called for attempt in attempts] == [True] * 3 + [False] * 2
    port.resumeProducing()
    network.run(gatherResults(attempts))
    assert network.now == pytest.approx(1)


def test_a_port_with_a_full_backlog_refuses_connections_if_configured() -> None:
    network = Network()
    network.host("server", refuses_when_full=True)
    network.host("client")
    attempts, _ = fill_backlog(network, 4)
    with pytest.raises(error.ConnectionRefusedError):
        network.run(attempts[3])


def test_closing_a_port_resets_the_connections_that_it_has_not_accepted(network: Network) -> None:
    port: Any = network.hosts["server"].reactor.listenTCP(80, Factory.forProtocol(RecordingProtocol))
    port.pauseProducing()
    client = RecordingProtocol()
    connect(network, client)
    network.settle()
    port.stopListening()
    network.settle()
    assert client.events == ["connected", "lost: ConnectionLost"]


def test_an_ipv6_port_accepts_ipv4_clients_with_mapped_addresses(network: Network) -> None:
    peers: list[str] = []

    class PeerRecorder(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            peers.append(self.transport.getPeer().host)  # type: ignore[attr-defined]

    network.hosts["server"].reactor.listenTCP(80, Factory.forProtocol(PeerRecorder), interface="::")
    client = network.hosts["client"].reactor
    for address in ("10.0.0.1", r"fd00\:\:1"):
        network.run(connectProtocol(clientFromString(client, f"tcp:{address}:80"), RecordingProtocol()))
    network.settle()
    assert peers == ["::ffff:10.0.0.2", "fd00::2"]


def test_listening_on_a_port_in_use_is_an_error(network: Network) -> None:
    reactor = network.hosts["server"].reactor
    reactor.listenTCP(80, Factory(), interface="10.0.0.1")
    for interface in ("10.0.0.1", "", "::"):
        with pytest.raises(error.CannotListenError, match="Address already in use"):
            reactor.listenTCP(80, Factory(), interface=interface)
    reactor.listenTCP(80, Factory(), interface="127.0.0.1")
    reactor.listenUDP(80, RecordingDatagramProtocol())
    network.hosts["client"].reactor.listenTCP(80, Factory())
    with pytest.raises(error.CannotListenError, match="Cannot assign requested address"):
        reactor.listenTCP(81, Factory(), interface="10.0.0.99")


def test_unix_sockets_are_local_to_their_host(network: Network) -> None:
    server, client = RecordingProtocol(), HalfCloseProtocol()
    reactor = network.hosts["server"].reactor
    network.run(UNIXServerEndpoint(reactor, "/run/x.sock").listen(Factory.forProtocol(lambda: server)))
    network.run(connectProtocol(UNIXClientEndpoint(reactor, "/run/x.sock"), client))
    client.transport.write(b"hello")
    network.settle()
    assert server.received == b"hello"
    server.transport.loseConnection()
    network.settle()
    assert server.events == ["connected", "lost: ConnectionDone"]
    with pytest.raises(error.ConnectError):
        network.run(
            connectProtocol(UNIXClientEndpoint(network.hosts["client"].reactor, "/run/x.sock"), RecordingProtocol())
        )
    with pytest.raises(error.CannotListenError):
        network.run(UNIXServerEndpoint(reactor, "/run/x.sock").listen(Factory()))


# Datagrams


def test_an_allowed_broadcast_reaches_every_host(network: Network) -> None:
    network.host("third")
    receivers = []
    for host in network.hosts.values():
        receivers.append(RecordingDatagramProtocol())
        host.reactor.listenUDP(7, receivers[-1])
    sender = RecordingDatagramProtocol()
    network.hosts["client"].reactor.listenUDP(0, sender)
    with pytest.raises(OSError, match="Permission denied"):
        sender.transport.write(b"all", ("<broadcast>", 7))
    sender.transport.setBroadcastAllowed(True)
    sender.transport.write(b"all", ("<broadcast>", 7))
    network.settle()
    assert [receiver.received for receiver in receivers] == [[b"all"]] * 3


def test_a_multicast_datagram_reaches_the_members_of_its_group(network: Network) -> None:
    members = {name: RecordingDatagramProtocol() for name in ("server", "client")}
    outsider = network.host("outsider")
    other = RecordingDatagramProtocol()
    outsider.reactor.listenUDP(7, other)
    for name, member in members.items():
        network.hosts[name].reactor.listenMulticast(7, member)
        network.run(member.transport.joinGroup("224.0.0.251"))
    members["client"].transport.write(b"to the group", ("224.0.0.251", 7))
    network.settle()
    assert [member.received for member in members.values()] == [[b"to the group"]] * 2
    network.run(members["server"].transport.leaveGroup("224.0.0.251"))
    members["client"].transport.setLoopbackMode(False)
    members["client"].transport.write(b"alone", ("224.0.0.251", 7))
    network.settle()
    assert [member.received for member in members.values()] == [[b"to the group"]] * 2
    assert other.received == []


def test_a_datagram_to_several_hosts_is_sent_from_the_given_address(network: Network) -> None:
    sender, receiver = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    port: Any = network.host("many", "192.0.2.1", "192.0.2.2").reactor.listenUDP(0, sender)
    sender.transport.setBroadcastAllowed(True)
    network.hosts["server"].reactor.listenMulticast(7, receiver)
    network.run(receiver.transport.joinGroup("224.0.0.251"))
    for destination in ("224.0.0.251", "255.255.255.255"):
        port.socket.send_with("192.0.2.2", None, b"hello", (destination, 7))
    network.settle()
    assert [host for host, _ in receiver.sources] == ["192.0.2.2", "192.0.2.2"]


def test_connecting_a_port_sets_the_source_address_of_all_its_datagrams(network: Network) -> None:
    sender, receiver = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    client = network.hosts["client"].reactor
    port: Any = client.listenUDP(0, sender)
    client.listenUDP(7, receiver)
    port.socket.sendto(b"before", ("127.0.0.1", 7))
    port.socket.connect(("10.0.0.1", 7))
    port.socket.sendto(b"after", ("127.0.0.1", 7))
    network.settle()
    assert [host for host, _ in receiver.sources] == ["127.0.0.1", "10.0.0.2"]


def test_a_full_receive_buffer_drops_datagrams(network: Network) -> None:
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    network.hosts["client"].reactor.listenUDP(0, client)
    server.transport.pauseProducing()
    for _ in range(1000):
        client.transport.write(b"x" * 1000, ("10.0.0.1", 7))
    network.settle()
    server.transport.resumeProducing()
    network.settle()
    assert 100 < len(server.received) < 200
    assert any(event.outcome == "buffer full" for event in network.trace)


# Names


def test_names_resolve_to_hosts_and_addresses_in_their_order(network: Network) -> None:
    network.name("www.example", "server", "192.0.2.1")
    network.name("empty.example")
    assert network.lookup("www.example")[0] == ["10.0.0.1", "fd00::1", "192.0.2.1"]
    assert network.lookup("WWW.Example.")[0] == network.lookup("www.example")[0]
    assert list(network.lookup("empty.example")[0]) == []
    listen(network, RecordingProtocol())
    client = network.hosts["client"].reactor
    network.run(connectProtocol(HostnameEndpoint(client, "www.example", 80), RecordingProtocol()))
    with pytest.raises(error.DNSLookupError):
        network.run(connectProtocol(HostnameEndpoint(client, "empty.example", 80), RecordingProtocol()))


def test_a_lookup_can_have_a_delay_and_can_be_cancelled(network: Network) -> None:
    network.name("slow.example", "server", delay=3)
    listen(network, RecordingProtocol())
    client = network.hosts["client"].reactor
    attempt = connectProtocol(HostnameEndpoint(client, "slow.example", 80), RecordingProtocol())
    network.run(attempt)
    assert network.now == pytest.approx(3)
    second = connectProtocol(HostnameEndpoint(client, "slow.example", 80), RecordingProtocol())
    second.cancel()
    with pytest.raises((error.DNSLookupError, error.ConnectingCancelledError)):
        network.run(second)
    with pytest.raises(NetworkError, match="delay must be a number of seconds"):
        network.name("x", delay=-1)


def test_a_client_connects_to_the_second_address_if_the_first_does_not_answer(network: Network) -> None:
    """HostnameEndpoint implements Happy Eyeballs (RFC 8305): it tries the second address in parallel."""
    network.host("unreachable", "192.0.2.9")
    network.link("client", "unreachable").partition()
    network.name("both.example", "unreachable", "server")
    listen(network, RecordingProtocol())
    network.run(
        connectProtocol(HostnameEndpoint(network.hosts["client"].reactor, "both.example", 80), RecordingProtocol())
    )
    assert network.now < 1


def test_the_name_of_a_host_cannot_be_changed(network: Network) -> None:
    for name in ("server", "Server", "localhost", 5):
        with pytest.raises(NetworkError, match="cannot be changed"):
            network.name(name, "client")  # type: ignore[arg-type]
    network.name("www.example", "server")
    network.name("www.example", "client")  # this replaces the addresses
    assert network.lookup("www.example")[0] == ["10.0.0.2", "fd00::2"]


def test_the_wildcard_address_as_destination_is_the_host_itself(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    reactor = network.hosts["server"].reactor
    port: Any = reactor.listenTCP(0, Factory.forProtocol(lambda: server))
    where = port.getHost()
    assert where.host == "0.0.0.0"
    network.run(connectProtocol(TCP4ClientEndpoint(reactor, where.host, where.port), client))
    assert client.transport.getPeer().host == "0.0.0.0"
    assert client.transport.getHost().host == "127.0.0.1"


# Memory


def test_cancelled_calls_do_not_advance_time_and_are_removed(network: Network) -> None:
    reactor = network.hosts["server"].reactor
    for _ in range(10_000):
        reactor.callLater(1e6, print).cancel()
    with pytest.raises(NetworkError, match="no event is scheduled any more at 0 s"):
        network.run(Deferred())
    events = EventQueue()
    for _ in range(10_000):
        events.cancel(events.call_at(1e6, print))
    assert len(vars(events)["_heap"]) < 2_000


def test_failed_handshakes_do_not_fill_the_backlog(network: Network) -> None:
    network.links().set(latency=1)
    client = network.hosts["client"]
    listen(network, RecordingProtocol(), backlog=2)
    for _ in range(10):
        connect(network, RecordingProtocol()).addErrback(lambda _: None)
        network.advance(1.5)
        client.crash()
        client.restart()
        network.advance(10)
    last = RecordingProtocol()
    network.run(connect(network, last))
    assert last.events == ["connected"]


# The trace


SCRIPT = """
from twisted.internet.endpoints import serverFromString, clientFromString, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from netsvc.testing import Network, splits
from netsvc import Terms, TimestampProtocol, EchoFactory, EchoClient, ask_timestamp

network = Network(seed=11)
server, client = network.host("server"), network.host("client")
network.links().set(latency=0.01, jitter=0.02, loss=0.1, duplication=0.1, reordering=0.1, splits=splits.at_random)
server.reactor.listenTCP(7, EchoFactory(Terms.on(server.reactor)))
server.reactor.listenUDP(13, TimestampProtocol(Terms.on(server.reactor)))


async def main():
    echo = await connectProtocol(clientFromString(client.reactor, "tcp:server:7"), EchoClient(client.reactor))
    for size in (1, 100, 10_000):
        await echo.ask(b"x" * size)
    for _ in range(20):
        await ask_timestamp(client.reactor, server.address, 13, b"q", tries=9)

network.run(main())
network.settle()
print(network.trace)
print(network.trace.chart())
"""


def trace_of_script(hash_seed: str) -> bytes:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        check=True,
        env={"PYTHONHASHSEED": hash_seed, "TZ": "UTC"},
        timeout=60,
    )
    return result.stdout


def test_the_same_seed_gives_the_same_trace_with_another_hash_seed() -> None:
    first = trace_of_script("0")
    assert first.count(b"(lost)") > 2
    assert first == trace_of_script("1")


@pytest.mark.skipif(version("Twisted") != "26.10.0", reason="the order of events may depend on the version of Twisted")
def test_the_same_seed_gives_the_same_trace_on_another_python() -> None:
    # Python 3.11, 3.12 and 3.13 give this value. A change of the simulation may change it.
    assert hashlib.sha256(trace_of_script("0")).hexdigest()[:16] == "d8df5cb82de7282a"


def test_each_line_of_the_trace_has_time_source_destination_and_event(network: Network) -> None:
    network.link_from("client", "server").set(latency=0.25)
    client = RecordingDatagramProtocol()
    network.hosts["client"].reactor.listenUDP(0, client)
    client.transport.write(b"anybody there?", ("10.0.0.1", 9))
    network.settle()
    network.hosts["server"].crash()
    network.note("test", "a remark")
    assert str(network.trace).splitlines() == [
        "    0.000000  client -> server  latency=0.25",
        "    0.000000  client -> server  50152>9 datagram 14 b'anybody there?'",
        "    0.250000  server -> client  9>50152 ICMP port unreachable",
        "    0.250000  server  crashed",
        "    0.250000  test  a remark",
    ]


def test_the_trace_can_be_drawn_as_a_sequence_chart(network: Network) -> None:
    server, client = RecordingDatagramProtocol(), RecordingDatagramProtocol()
    network.hosts["server"].reactor.listenUDP(7, server)
    network.hosts["client"].reactor.listenUDP(7, client)
    client.transport.write(b"hi", ("10.0.0.1", 7))
    network.settle()
    network.links().partition()
    server.transport.write(b"lost", ("10.0.0.2", 7))
    assert network.trace.chart().splitlines() == [
        "                           client                              server",
        "  0.000000                    |------- 7>7 datagram 2 b'hi' ----->|",
        "  0.000000                    |                                   |  all links: up=False",
        "  0.000000                    |x----- 7>7 datagram 4 b'lost' -----|",
    ]


def test_a_long_trace_keeps_its_last_events(network: Network) -> None:
    for number in range(100_003):
        network.note("test", str(number))
    assert len(network.trace) == 100_000
    assert network.trace.dropped == 3
    assert str(network.trace).startswith("(3 earlier events)\n")
    assert len(network.trace.chart(last=5).splitlines()) == 1 + 1 + 5
    assert network.trace.chart(last=5).startswith("(")


def test_a_chart_can_be_limited_to_some_hosts(network: Network) -> None:
    network.host("third")
    ports = {}
    for name, host in network.hosts.items():
        ports[name] = RecordingDatagramProtocol()
        host.reactor.listenUDP(7, ports[name])
    ports["client"].transport.write(b"1", (network.hosts["server"].address, 7))
    ports["third"].transport.write(b"2", (network.hosts["server"].address, 7))
    network.settle()
    chart = network.trace.chart(hosts=["client", "server"])
    assert "third" not in chart
    assert "datagram 1 b'1'" in chart
    assert "b'2'" in network.trace.chart()


def test_a_chart_of_many_hosts_is_bounded_and_says_so() -> None:
    network = Network()
    names = [f"host{number}" for number in range(100)]
    for name in names:
        network.host(name)
    for _ in range(200):
        for name in names:
            port = RecordingDatagramProtocol()
            network.hosts[name].reactor.listenUDP(0, port)
            port.transport.write(b"hello", (network.hosts["host0"].address, 7))
    network.advance(1)
    chart = network.trace.chart()
    assert len(chart) < 300_000
    assert "(88 more hosts" in chart
    assert " earlier events)" in chart
    assert len(network.trace.chart(last=0)) < 3_000_000


class IdleTimeoutProtocol(RecordingProtocol, TimeoutMixin):
    """Closes the connection after 10 s without received bytes."""

    def __init__(self, clock: IReactorTime) -> None:
        super().__init__()
        self._clock = clock

    def callLater(self, delay: float, call: Any, *args: Any) -> Any:
        return self._clock.callLater(delay, call, *args)

    def connectionMade(self) -> None:
        super().connectionMade()
        self.setTimeout(10)

    def dataReceived(self, data: bytes) -> None:
        self.resetTimeout()
        super().dataReceived(data)


def test_a_timeout_mixin_works_in_virtual_time(network: Network) -> None:
    server, client = IdleTimeoutProtocol(network.hosts["server"].reactor), RecordingProtocol()
    connect_pair(network, server, client)
    network.advance(9)
    client.transport.write(b"still here")
    network.advance(9.9)
    assert server.events == ["connected"]
    network.advance(0.2)
    assert server.events == client.events == ["connected", "lost: ConnectionDone"]


def test_a_client_service_reconnects_after_a_crash(network: Network) -> None:
    server, client = network.hosts["server"], network.hosts["client"]

    def listen_on_server() -> None:
        server.reactor.listenTCP(80, Factory.forProtocol(RecordingProtocol))

    listen_on_server()
    connections: list[Any] = []
    factory: Factory[Any] = Factory.forProtocol(RecordingProtocol)
    service = ClientService(
        TCP4ClientEndpoint(client.reactor, server.address, 80),
        factory,
        prepareConnection=connections.append,
        retryPolicy=lambda _: 1.0,
        clock=client.reactor,
    )
    service.startService()
    network.advance(1)
    assert len(connections) == 1
    server.crash()
    connections[0].transport.write(b"anybody there?")
    server.restart()
    network.advance(10)
    assert connections[0].events == ["connected", "lost: ConnectionLost"]
    assert len(connections) == 1  # the server does not listen yet
    listen_on_server()
    network.advance(2)
    assert len(connections) == 2
    network.run(service.stopService())


def test_the_services_of_netsvc_run_on_a_simulated_network(network: Network) -> None:
    server, client = network.hosts["server"], network.hosts["client"]
    service = netsvc_service(server.reactor, Config(tcp=["7"], udp=["520"], chat=["1400", "unix:/run/chat.sock"]))
    service.startService()
    echo = network.run(connectProtocol(HostnameEndpoint(client.reactor, "server", 7), EchoClient(client.reactor)))
    assert network.run(echo.ask(b"hello")).data == b"hello"
    assert network.run(ask_timestamp(client.reactor, "server", 520, b"when?")).payload == b"when?"
    local = RecordingProtocol()
    network.run(connectProtocol(UNIXClientEndpoint(server.reactor, "/run/chat.sock"), local))
    network.settle()
    assert local.received.startswith(b"* welcome")
    network.run(service.stopService())
    network.settle()
    assert local.events == ["connected", "lost: ConnectionDone"]
    service.startService()  # a stopped service can be started again
    assert network.run(ask_timestamp(client.reactor, "server", 520, b"again?")).payload == b"again?"
    network.run(service.stopService())


def test_endpoint_strings_work_on_a_simulated_network(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    network.run(serverFromString(network.hosts["server"].reactor, "tcp:80").listen(Factory.forProtocol(lambda: server)))
    network.run(connectProtocol(clientFromString(network.hosts["client"].reactor, "tcp:host=server:port=80"), client))
    network.settle()
    assert server.events == ["connected"]


# TLS


class StartTLSProtocol(RecordingProtocol):
    """Starts TLS when it receives ``start``."""

    def __init__(self, context: Any) -> None:
        super().__init__()
        self._context = context

    def dataReceived(self, data: bytes) -> None:
        if data == b"start":
            self.transport.startTLS(self._context)
        else:
            super().dataReceived(data)


def test_start_tls_works_on_a_connection(network: Network) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("server").private_key_and_cert_chain_pem.bytes()
    server_context = PrivateCertificate.loadPEM(certificate).options()
    trusted = trustRootFromCertificates([Certificate.loadPEM(authority.cert_pem.bytes())])
    client_context = optionsForClientTLS("server", trusted)
    network.links().set(latency=0.01, splits=splits.at_random)
    server, client = StartTLSProtocol(server_context), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.write(b"start")
    network.settle()
    client.transport.startTLS(client_context)
    for word in (b"one ", b"two ", b"three"):
        client.transport.write(word)
    network.settle()
    assert server.received == b"one two three"
    client.transport.loseConnection()
    network.settle()
    assert server.events == client.events == ["connected", "lost: ConnectionDone"]


def test_tls_endpoint_strings_work_on_a_simulated_network(network: Network, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("server").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server, client = RecordingProtocol(), RecordingProtocol()
    network.links().set(latency=0.01, splits=splits.at_random)
    server_endpoint = serverFromString(network.hosts["server"].reactor, f"ssl:443:privateKey={tmp_path}/server.pem")
    network.run(server_endpoint.listen(Factory.forProtocol(lambda: server)))
    client_endpoint = clientFromString(network.hosts["client"].reactor, f"ssl:server:443:caCertsDir={tmp_path}")
    network.run(connectProtocol(client_endpoint, client))
    client.transport.write(b"secret")
    network.settle()
    assert server.received == b"secret"
