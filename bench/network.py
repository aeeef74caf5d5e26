"""Measure the speed of the simulated network: ``python -m bench.network``.

Each run does all tasks, one after the other. The result of a task is its median CPU time in this process. Virtual time
takes no real time.
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from statistics import median
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from netsvc.net.listening import datagram_listener
from netsvc.net.terms import Terms
from netsvc.testing import Network
from netsvc.timestamp.client import TimestampClient
from netsvc.timestamp.server import TimestampProtocol
from tests.simulated_chat import Simulation

HOUR = 3600
INTERVAL = 0.1
BLOCK = bytes(65_536)
STREAM = 100_000_000
EXCHANGED = 100_000


def virtual_hour() -> str:
    """Run a timestamp client for an hour: a request every 100 ms, over a link that loses 5 % in each direction."""
    network = Network(seed=1)
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01, loss=0.05)
    terms = Terms.on(server.reactor)
    datagram_listener(server.reactor, "udp", "5200", lambda: TimestampProtocol(terms)).startService()
    timestamps = TimestampClient(client.reactor, server.address, 5200, timeout=1.0, tries=1)
    client.reactor.listenUDP(0, timestamps)

    def send_request() -> None:
        timestamps.ask(b"%d" % timestamps.sent).addErrback(lambda _: None)

    requests = LoopingCall(send_request)
    requests.clock = client.reactor
    requests.start(INTERVAL)
    network.advance(HOUR)
    requests.stop()
    network.advance(5)  # so that all pending requests end
    assert timestamps.sent == HOUR / INTERVAL + 1
    assert timestamps.lost == network.links().count("lost")
    return f"{timestamps.sent:,} requests, {timestamps.lost:,} lost"


class _Source(Protocol):
    """A pull producer that writes the stream and closes the connection."""

    transport: Any

    def connectionMade(self) -> None:
        self._bytes_left = STREAM
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(BLOCK[: self._bytes_left])
        self._bytes_left -= len(BLOCK)
        if self._bytes_left <= 0:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self) -> None:
        """Do nothing: the connection is lost."""


class _Sink(Protocol):
    """Counts the received bytes, and reports their number when the connection is lost."""

    def __init__(self, done: Callable[[int], object]) -> None:
        self._size = 0
        self._done = done

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._done(self._size)


def simulated_stream() -> str:
    """Send 100 MB through a link without limits."""
    network = Network()
    server, client = network.host("server"), network.host("client")
    sizes: list[int] = []
    server.reactor.listenTCP(80, Factory.forProtocol(lambda: _Sink(sizes.append)))
    network.run(connectProtocol(TCP4ClientEndpoint(client.reactor, server.address, 80), _Source()))
    network.settle()
    assert sizes == [STREAM]
    return f"{STREAM / 1e6:.0f} MB"


def real_stream() -> str:
    """Send 100 MB through a loopback socket with EPollReactor. Both ends are in this process."""
    reactor: Any = EPollReactor()
    sizes: list[int] = []

    def done(size: int) -> None:
        sizes.append(size)
        reactor.stop()

    def start() -> None:
        listening = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
            Factory.forProtocol(lambda: _Sink(done))
        )
        listening.addCallback(
            lambda port: connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), _Source())
        )

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=False)
    assert sizes == [STREAM]
    return f"{STREAM / 1e6:.0f} MB"


def chats(count: int) -> Callable[[], str]:
    """Return a task that runs the simulated chat of the test suite with this many seeds."""

    def run() -> str:
        for seed in range(count):
            Simulation(seed).run()
        return f"{count:,} seeds"

    return run


class _Countdown(DatagramProtocol):
    """Answers a datagram, which is a number of one byte, with the next lower number."""

    transport: Any

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        if datagram[0]:
            self.transport.write(bytes([datagram[0] - 1]), addr)


def pairs_of_hosts(count: int) -> Callable[[], str]:
    """Return a task in which ``count`` hosts exchange ``EXCHANGED`` datagrams in pairs. Each datagram is two events."""

    def run() -> str:
        network = Network()
        network.links().set(latency=0.01)
        hosts = [network.host(f"host{number}") for number in range(count)]
        ports = [_Countdown() for _ in hosts]
        for host, port in zip(hosts, ports, strict=True):
            host.reactor.listenUDP(7, port)
        network.advance(0)
        rounds = EXCHANGED * 2 // count // 200
        for _ in range(rounds):
            for first in range(0, count, 2):
                ports[first].transport.write(b"\xc7", (hosts[first + 1].address, 7))
            network.advance(10)
        assert network.links().count("delivered") == EXCHANGED
        return f"{EXCHANGED:,} datagrams"

    return run


def cpu_seconds(task: Callable[[], str]) -> tuple[float, str]:
    """Run a task. Returns its CPU seconds and a description of its result."""
    gc.collect()
    start = time.process_time()
    result = task()
    return time.process_time() - start, result


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description="Measure the speed of the simulated network.")
    parser.add_argument("--runs", type=int, default=5, help="number of runs (default: 5)")
    parser.add_argument("--seeds", type=int, default=500, help="number of seeds of the chat in each run (default: 500)")
    options = parser.parse_args(argv)
    tasks: dict[str, Callable[[], str]] = {
        "a client with a request every 100 ms for an hour, 5 % loss in each direction": virtual_hour,
        "the chat of `tests/simulated_chat.py`": chats(options.seeds),
        **{f"{count:,} hosts that exchange datagrams in pairs": pairs_of_hosts(count) for count in (10, 100, 1_000)},
        "a stream through a link without limits": simulated_stream,
        "a stream through a loopback socket, EPollReactor": real_stream,
    }
    gc.freeze()  # tests.simulated_chat gives the reason
    gc.set_threshold(50_000)
    times: dict[str, list[float]] = {name: [] for name in tasks}
    results: dict[str, str] = {}
    for _ in range(options.runs):
        for name, task in tasks.items():
            seconds, results[name] = cpu_seconds(task)
            times[name].append(seconds)
    out = sys.stdout.write
    out(f"Python {platform.python_version()}, Twisted {version('Twisted')}, {platform.machine()}; ")
    out(f"CPU seconds, median of {options.runs} (minimum to maximum)\n\n")
    out("| task | result | CPU seconds | rate |\n|---|---|---:|---:|\n")
    for name, seconds_of_runs in times.items():
        median_seconds = median(seconds_of_runs)
        if "stream" in name or "loopback" in name:
            rate = f"{STREAM / median_seconds / 1e6:,.0f} MB/s"
        elif "hosts" in name:
            rate = f"{median_seconds / EXCHANGED / 2 * 1e6:.1f} us an event"
        elif "chat" in name:
            rate = f"5,000 seeds in {median_seconds / options.seeds * 5000:.1f} s"
        else:
            rate = f"{HOUR / median_seconds:,.0f} times real time"
        spread = f"{min(seconds_of_runs):.3f} to {max(seconds_of_runs):.3f}"
        out(f"| {name} | {results[name]} | {median_seconds:.3f} ({spread}) | {rate} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
