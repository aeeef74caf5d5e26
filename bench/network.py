"""How fast the simulated network is: ``python -m bench.network``.

Times are CPU time of this process, the median of so many runs, the works one after another in each; what the network
simulates takes no time of its own.
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
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from netsvc.testing import Network
from netsvc.timestamp.server import TimestampClient, TimestampProtocol
from tests.simulated_chat import Play

HOUR = 3600
EVERY = 0.1
BLOCK = bytes(65_536)
STREAM = 100_000_000


def virtual_hour() -> str:
    """A timestamp client that asks every 100 ms for an hour, over a link that loses 5 % in each direction."""
    network = Network(seed=1)
    server, client = network.host("server"), network.host("client")
    network.links().set(latency=0.01, loss=0.05)
    server.reactor.listenUDP(5200, TimestampProtocol(server.reactor))
    asking = TimestampClient(client.reactor, server.address, 5200, timeout=1.0, tries=1)
    client.reactor.listenUDP(0, asking)

    def ask() -> None:
        asking.ask(b"%d" % asking.sent).addErrback(lambda _: None)

    asks = LoopingCall(ask)
    asks.clock = client.reactor
    asks.start(EVERY)
    network.advance(HOUR)
    asks.stop()
    network.advance(5)  # for what is still open
    assert asking.sent == HOUR / EVERY + 1
    assert asking.lost == network.links().count("lost")
    return f"{asking.sent:,} asked, {asking.lost:,} lost"


class _Source(Protocol):
    """Writes the stream, as its transport asks for it, and closes."""

    transport: Any

    def connectionMade(self) -> None:
        self._left = STREAM
        self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        self.transport.write(BLOCK[: self._left])
        self._left -= len(BLOCK)
        if self._left <= 0:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def stopProducing(self) -> None:
        """The connection is lost."""


class _Sink(Protocol):
    """Counts what comes."""

    def __init__(self, done: Callable[[int], object]) -> None:
        self._size = 0
        self._done = done

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._done(self._size)


def simulated_stream() -> str:
    """100 MB through a link without limits."""
    network = Network()
    server, client = network.host("server"), network.host("client")
    came: list[int] = []
    server.reactor.listenTCP(80, Factory.forProtocol(lambda: _Sink(came.append)))
    network.run(connectProtocol(TCP4ClientEndpoint(client.reactor, server.address, 80), _Source()))
    network.settle()
    assert came == [STREAM]
    return f"{STREAM / 1e6:.0f} MB"


def real_stream() -> str:
    """The same over a loopback socket with EPollReactor, both ends in this process."""
    reactor: Any = EPollReactor()
    came: list[int] = []

    def done(size: int) -> None:
        came.append(size)
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
    assert came == [STREAM]
    return f"{STREAM / 1e6:.0f} MB"


def chats(count: int) -> Callable[[], str]:
    """Return what plays the chat of the test suite under so many seeds."""

    def play() -> str:
        for seed in range(count):
            Play(seed).run()
        return f"{count:,} seeds"

    return play


def seconds_of(work: Callable[[], str]) -> tuple[float, str]:
    """Return the CPU seconds that it takes, and what it did."""
    gc.collect()
    start = time.process_time()
    did = work()
    return time.process_time() - start, did


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description="How fast the simulated network is.")
    parser.add_argument("--runs", type=int, default=5, help="of each work, whose median is shown (default: 5)")
    parser.add_argument("--seeds", type=int, default=500, help="of the chat in each run (default: 500)")
    options = parser.parse_args(argv)
    works: dict[str, Callable[[], str]] = {
        "a client that asks every 100 ms for an hour, 5 % lost each way": virtual_hour,
        "the chat of `tests/simulated_chat.py`": chats(options.seeds),
        "a stream through a link without limits": simulated_stream,
        "the same on a loopback socket, EPollReactor": real_stream,
    }
    gc.freeze()  # as tests.simulated_chat does
    gc.set_threshold(50_000)
    times: dict[str, list[float]] = {name: [] for name in works}
    did: dict[str, str] = {}
    for _ in range(options.runs):
        for name, work in works.items():
            seconds, did[name] = seconds_of(work)
            times[name].append(seconds)
    out = sys.stdout.write
    out(f"Python {platform.python_version()}, Twisted {version('Twisted')}, {platform.machine()}; ")
    out(f"CPU seconds, median of {options.runs} (least to most)\n\n")
    out("| work | what | CPU seconds | rate |\n|---|---|---:|---:|\n")
    for name, taken in times.items():
        middle = median(taken)
        if "stream" in name or "loopback" in name:
            rate = f"{STREAM / middle / 1e6:,.0f} MB/s"
        elif "chat" in name:
            rate = f"5,000 seeds in {middle / options.seeds * 5000:.1f} s"
        else:
            rate = f"{HOUR / middle:,.0f} times real time"
        out(f"| {name} | {did[name]} | {middle:.3f} ({min(taken):.3f} to {max(taken):.3f}) | {rate} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
