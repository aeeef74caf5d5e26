"""Simulated hosts that pause, whose callbacks take time, whose clocks are wrong, and whose services start again."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import LoopingCall

from netsvc import Config, netsvc_service
from netsvc.net.reactors import monotonic_of
from netsvc.testing import Host, HostDownError, Network, NetworkError
from netsvc.testing.host_clock import HostClock


class Noting(Protocol):
    """Notes what happens and when.

    :ivar notes: time and event.
    """

    def __init__(self, host: Host, notes: list[tuple[float, str]]) -> None:
        self._host = host
        self._notes = notes

    def dataReceived(self, data: bytes) -> None:
        self._notes.append((self._host._network.now, data.decode()))


def listening(network: Network) -> tuple[Host, Host, list[tuple[float, str]]]:
    """Return a server that notes what it receives, and a client."""
    server, client = network.host("server"), network.host("client")
    notes: list[tuple[float, str]] = []
    factory = Factory.forProtocol(lambda: Noting(server, notes))
    serverFromString(server.reactor, "tcp:7").listen(factory)
    return server, client, notes


def connect(network: Network, client: Host) -> Any:
    return network.run(connectProtocol(clientFromString(client.reactor, "tcp:server:7"), Protocol())).transport


def clocks(host: Host) -> tuple[float, float, float]:
    """Return what the clocks of a host tell: that of its reactor, the wall clock, and the monotonic one."""
    with host:
        return host.reactor.seconds(), time.time(), time.monotonic()  # noqa: TID251  as the code of a host does


def test_a_paused_host_runs_nothing_and_its_kernel_goes_on(network: Network) -> None:
    server, client, notes = listening(network)
    transport = connect(network, client)
    server.pause(2)
    server.reactor.callLater(1, lambda: notes.append((network.now, "timer")))
    transport.write(b"data")
    later = network.run(connectProtocol(clientFromString(client.reactor, "tcp:server:7"), Protocol()))
    assert (notes, network.now) == ([], 0.0)  # the kernel has established the connection
    network.advance(1.5)
    assert notes == []
    network.advance(1)
    # As after SIGSTOP: the delayed calls first, although the data came before.
    assert notes == [(2, "timer"), (2, "data")]
    later.transport.write(b"more")
    network.settle()
    assert notes[2:] == [(2.5, "more")]


def test_pauses_follow_each_other_and_end_with_a_restart(network: Network) -> None:
    server = network.host("server")
    fired: list[float] = []
    server.pause(1)
    server.pause(2)
    server.reactor.callLater(0, lambda: fired.append(network.now))
    network.advance(5)
    assert fired == [3]
    server.pause(100)
    server.crash()
    with pytest.raises(HostDownError):
        server.pause(1)
    server.restart()
    server.reactor.callLater(0, lambda: fired.append(network.now))
    network.advance(1)
    assert fired == [3, 5]


def test_the_buffer_of_a_paused_host_overflows(network: Network) -> None:
    class Counting(DatagramProtocol):
        count = 0

        def datagramReceived(self, datagram: bytes, addr: Any) -> None:
            self.count += 1

    server, client = network.host("server", buffer=10_000), network.host("client")
    counting = Counting()
    server.reactor.listenUDP(9, counting)
    sending: Any = client.reactor.listenUDP(0, DatagramProtocol())
    network.settle()
    server.pause(1)
    for _ in range(100):
        sending.write(bytes(500), (server.address, 9))
    network.advance(2)
    assert 0 < counting.count < 100
    assert sum(event.outcome == "buffer full" for event in network.trace) == 100 - counting.count


def test_a_connection_through_a_pause_loses_nothing(network: Network) -> None:
    server, client, notes = listening(network)
    transport = connect(network, client)
    for _ in range(20):
        transport.write(b"x" * 10_000)
    server.pause(3)
    network.advance(10)
    assert sum(len(text) for _, text in notes) == 200_000


def test_each_callback_takes_its_time(network: Network) -> None:
    server, client, notes = listening(network)
    first, second = connect(network, client), connect(network, client)
    network.settle()
    server.cost(0.25)
    first.write(b"1")
    second.write(b"2")
    for _ in range(2):
        server.reactor.callLater(0, lambda: notes.append((network.now, "timer")))
    network.advance(2)
    assert notes == [(0.0, "timer"), (0.25, "timer"), (0.5, "1"), (0.75, "2")]
    server.cost(0)
    first.write(b"3")
    network.advance(0.1)
    assert notes[4:] == [(2.0, "3")]


def test_a_host_with_too_much_to_do_falls_behind(network: Network) -> None:
    server = network.host("server")
    server.cost(0.02)
    calls: list[float] = []
    loop = LoopingCall(lambda: calls.append(network.now))
    loop.clock = server.reactor
    loop.start(0.01)
    network.advance(1)
    loop.stop()
    assert len(calls) == pytest.approx(50, abs=2)


def test_a_clock_that_is_set_moves_the_delayed_calls_as_on_a_real_reactor(network: Network) -> None:
    host, other = network.host("host"), network.host("other")
    fired: list[float] = []
    host.reactor.callLater(10, lambda: fired.append(network.now))
    network.advance(1)
    host.clock(skew=-5)
    assert clocks(host) == (-4, -4, 1)
    assert clocks(other) == (1, 1, 1)
    network.advance(13.5)
    assert fired == []
    network.advance(0.5)
    assert fired == [15]
    host.reactor.callLater(3600, lambda: fired.append(network.now))
    host.clock(skew=3600)
    network.advance(0)
    assert fired == [15, 15]


def test_a_clock_drifts(network: Network) -> None:
    host = network.host("host")
    network.advance(100)
    host.clock(drift=0.5)
    fired: list[float] = []
    host.reactor.callLater(3, lambda: fired.append(network.now))
    network.advance(10)
    assert fired == [102]
    assert clocks(host) == (115, 115, 115)
    host.clock(skew=0)
    assert clocks(host) == (110, 110, 115)


def test_the_idle_timeout_of_netsvc_survives_a_clock_that_is_set(network: Network) -> None:
    server, client = network.host("server"), network.host("client")
    netsvc_service(server.reactor, Config(tcp=["7"], idle_timeout=60)).startService()
    ended: list[float] = []

    class Idle(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            ended.append(network.now)

    network.run(connectProtocol(clientFromString(client.reactor, "tcp:server:7"), Idle()))
    network.advance(10)
    server.clock(skew=3600)
    network.advance(30)
    assert monotonic_of(server.reactor)() == 40
    assert ended == []
    network.advance(60)
    assert len(ended) == 1


@given(
    st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(-1e4, 1e4), st.none() | st.floats(-0.5, 1)), max_size=6)
)
def test_the_monotonic_clock_never_jumps_and_the_wall_clock_is_as_far_ahead_as_it_was_set(
    changes: list[tuple[float, float | None, float | None]],
) -> None:
    clock, now = HostClock(), 0.0
    for elapsed, skew, drift in changes:
        before = clock.monotonic(now)
        now += elapsed
        monotonic, wall = clock.monotonic(now), clock.wall(now)
        assert monotonic >= before
        clock.change(now, skew=skew, drift=drift)
        assert clock.monotonic(now) == pytest.approx(monotonic)
        assert clock.wall(now) == pytest.approx(wall if skew is None else now + skew)
        wall = clock.wall(now + 7)
        assert clock.next_tick(wall) == pytest.approx(now + 7)
        assert clock.wall(clock.next_tick(wall)) >= wall


@given(st.floats(-0.9, 1), st.floats(-1e9, 2e9))
@settings(max_examples=25)
def test_a_looping_call_ticks_evenly_by_any_clock(drift: float, skew: float) -> None:
    network = Network(seed=1)
    host = network.host("host")
    host.clock(skew=skew, drift=drift)
    calls: list[float] = []
    loop = LoopingCall(lambda: calls.append(host.reactor.seconds()))
    loop.clock = host.reactor
    loop.start(0.1)
    network.advance(20)
    loop.stop()
    expected = 20 * (1 + drift) / 0.1
    # At the time of day a float has no more than seven decimals. LoopingCall then sometimes ticks a second time.
    assert expected - 2 <= len(calls) <= (expected if abs(skew) < 1e6 else 2 * expected) + 2


@pytest.mark.parametrize("skew", [25, 3600])
def test_calls_that_a_clock_makes_due_run_in_the_order_of_their_times(network: Network, skew: float) -> None:
    host = network.host("host")
    order: list[int] = []
    for delay in (30, 20, 10):
        host.reactor.callLater(delay, order.append, delay)
    host.clock(skew=skew)
    network.advance(30)
    assert order == [10, 20, 30]


def test_timers_that_are_always_due_do_not_starve_the_sockets(network: Network) -> None:
    server, client, notes = listening(network)
    transport = connect(network, client)
    network.settle()
    server.cost(0.02)
    loop = LoopingCall(lambda: None)
    loop.clock = server.reactor
    loop.start(0.01)
    for _ in range(5):
        transport.write(b"x")
        network.advance(1)
    loop.stop()
    assert len(notes) == 5
    assert all(time - number < 0.1 for number, (time, _) in enumerate(notes))


def test_a_call_that_waits_for_its_turn_can_be_cancelled_and_put_off(network: Network) -> None:
    host = network.host("host")
    fired: list[tuple[str, float]] = []
    calls = {name: host.reactor.callLater(1, lambda name=name: fired.append((name, network.now))) for name in "abc"}
    host.pause(5)
    network.advance(3)
    calls["a"].cancel()
    calls["b"].reset(10)
    network.advance(20)
    assert fired == [("c", 5), ("b", 13)]


def test_a_call_that_was_put_off_can_be_cancelled_by_a_thread_call(network: Network) -> None:
    host = network.host("host")
    run: list[str] = []
    call = host.reactor.callLater(1, run.append, "call")
    host.pause(5)
    network.advance(2)
    call.reset(10)
    host.reactor.callFromThread(call.cancel)
    network.advance(30)
    assert run == []


def test_a_crashed_host_runs_no_calls_from_threads_and_no_shutdown(network: Network) -> None:
    run: list[str] = []
    for name, seconds in (("paused", 5.0), ("not paused", 0.0)):
        host = network.host(name)
        network.advance(1)
        if seconds:
            host.pause(seconds)
        host.reactor.callFromThread(run.append, name)
        host.reactor.addSystemEventTrigger("before", "shutdown", run.append, "shutdown")
        host.reactor.stop()
        host.crash()
    network.advance(10)
    assert run == []


def test_a_pause_in_a_callback_stops_the_other_sockets(network: Network) -> None:
    server, client, notes = listening(network)
    received = Noting.dataReceived

    class Pausing(Noting):
        def dataReceived(self, data: bytes) -> None:
            received(self, data)
            server.pause(2)

    factory = Factory.forProtocol(lambda: Pausing(server, notes))
    serverFromString(server.reactor, "tcp:8").listen(factory)
    transports = [
        network.run(connectProtocol(clientFromString(client.reactor, "tcp:server:8"), Protocol())).transport
        for _ in range(3)
    ]
    for transport in transports:
        transport.write(b"x")
    began = network.now
    network.advance(10)
    assert [time - began for time, _ in notes] == [0.0, 2.0, 4.0]


def test_many_due_calls_take_as_many_events(network: Network) -> None:
    host = network.host("host")
    host.cost(0.001)
    counted: list[None] = []
    for _ in range(2_000):
        host.reactor.callLater(0, counted.append, None)
    numbers: list[int] = []
    network.observe(numbers.append, endless_loop=10_000)
    network.advance(5)
    assert (len(counted), numbers[-1] < 6_100) == (2_000, True)


def test_a_paused_host_starts_later(network: Network) -> None:
    host = network.host("host")
    host.pause(5)
    started: list[float] = []
    host.reactor.callWhenRunning(lambda: started.append(network.now))
    network.advance(10)
    assert started == [5]


def test_services_start_at_each_restart(network: Network) -> None:
    server = network.host("server")
    started: list[Any] = []
    server.on_start(started.append)
    server.crash()
    reactor = server.restart()
    assert started == [started[0], reactor]
    assert started[0] is not reactor


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("pause", {"seconds": -1}),
        ("cost", {"seconds": float("inf")}),
        ("clock", {"skew": float("nan")}),
        ("clock", {"skew": "1"}),
        ("clock", {"drift": -1}),
        ("clock", {"drift": 2}),
    ],
)
def test_impossible_numbers_are_refused(network: Network, method: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(NetworkError):
        getattr(network.host("host"), method)(**arguments)
