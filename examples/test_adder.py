"""A protocol with a mistake that tests on the loopback interface do not find, and tests that find it.

The tutorial docs/tutorials/test.md explains this file. The fixture ``network`` is that of netsvc's pytest plugin:

    pytest test_adder.py
    pytest test_adder.py --netsvc-seeds 50
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineOnlyReceiver

from netsvc.testing import Network, splits


class NaiveAdder(Protocol):
    """Adds the numbers that it receives, one on each line. It answers each line with the sum so far."""

    transport: Any

    def connectionMade(self) -> None:
        self.sum = 0

    def dataReceived(self, data: bytes) -> None:
        self.sum += int(data)
        self.transport.write(b"%d\n" % self.sum)


class Adder(LineOnlyReceiver):
    """The correct protocol: it splits the stream into lines, and each line is a message."""

    delimiter = b"\n"
    transport: Any

    def connectionMade(self) -> None:
        self.sum = 0

    def lineReceived(self, line: bytes) -> None:
        self.sum += int(line)
        self.sendLine(b"%d" % self.sum)


class Client(LineOnlyReceiver):
    """Sends numbers and waits for the same number of sums."""

    delimiter = b"\n"
    transport: Any

    def __init__(self) -> None:
        self.sums: list[int] = []
        self.done: Deferred[None] = Deferred()
        self.expected = 0

    async def add(self, *numbers: int) -> list[int]:
        self.expected = len(numbers)
        for number in numbers:
            self.transport.write(b"%d\n" % number)
        await self.done
        return self.sums

    def lineReceived(self, line: bytes) -> None:
        self.sums.append(int(line))
        if len(self.sums) == self.expected:
            self.done.callback(None)


async def sums_of(network: Network, adder: type[Protocol], *numbers: int) -> list[int]:
    """Start a server with this protocol, and let a client add the numbers. Returns the sums."""
    server, client = network.host("server"), network.host("client")
    await serverFromString(server.reactor, "tcp:7000").listen(Factory.forProtocol(adder))
    connected: Client = await connectProtocol(HostnameEndpoint(client.reactor, "server", 7000), Client())
    return await connected.add(*numbers)


def test_the_naive_adder_is_right_on_a_perfect_network(network: Network) -> None:
    assert network.run(sums_of(network, NaiveAdder, 12)) == [12]


def test_the_naive_adder_is_wrong_if_a_line_is_split(network: Network) -> None:
    network.links().set(splits=splits.at(1))  # two reads: "1" and "2\n"
    assert network.run(sums_of(network, NaiveAdder, 12)) == [1, 3]  # two sums, both wrong


def test_the_naive_adder_fails_if_one_read_returns_two_lines(network: Network, logged_failures: list[Any]) -> None:
    with pytest.raises(ValueError, match="no result"):
        network.run(sums_of(network, NaiveAdder, 12, 30))
    assert logged_failures.pop().check(ValueError)  # int(b"12\n30\n")


@pytest.mark.parametrize("policy", [splits.nowhere, splits.every_byte, splits.at_random])
def test_the_adder_is_right_wherever_the_stream_is_split(network: Network, policy: splits.SplitPolicy) -> None:
    network.links().set(latency=0.01, jitter=0.01, loss=0.1, splits=policy)
    assert network.run(sums_of(network, Adder, 12, 30, -2, 1000)) == [12, 42, 40, 1040]
