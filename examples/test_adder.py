"""A protocol with a mistake that no test on loopback shows, and the simulated network that shows it.

The tutorial in docs/testing.md goes through this file. It needs netsvc, whose plugin of pytest brings the fixture
``network``:

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

from netsvc.testing import Network, cuts


class NaiveAdder(Protocol):
    """Adds up the numbers that it is sent, one on each line, and answers each with the sum so far."""

    transport: Any

    def connectionMade(self) -> None:
        self.sum = 0

    def dataReceived(self, data: bytes) -> None:
        self.sum += int(data)
        self.transport.write(b"%d\n" % self.sum)


class Adder(LineOnlyReceiver):
    """The same, without the mistake: a line is a message, and a piece of the stream is not."""

    delimiter = b"\n"
    transport: Any

    def connectionMade(self) -> None:
        self.sum = 0

    def lineReceived(self, line: bytes) -> None:
        self.sum += int(line)
        self.sendLine(b"%d" % self.sum)


class Client(LineOnlyReceiver):
    """Sends numbers and waits for as many sums."""

    delimiter = b"\n"
    transport: Any

    def __init__(self) -> None:
        self.sums: list[int] = []
        self.came: Deferred[None] = Deferred()
        self.expected = 0

    async def add(self, *numbers: int) -> list[int]:
        self.expected = len(numbers)
        for number in numbers:
            self.transport.write(b"%d\n" % number)
        await self.came
        return self.sums

    def lineReceived(self, line: bytes) -> None:
        self.sums.append(int(line))
        if len(self.sums) == self.expected:
            self.came.callback(None)


async def sums_of(network: Network, adder: type[Protocol], *numbers: int) -> list[int]:
    """Let a client add numbers on a server of that protocol. Returns the sums."""
    server, client = network.host("server"), network.host("client")
    await serverFromString(server.reactor, "tcp:7000").listen(Factory.forProtocol(adder))
    connected: Client = await connectProtocol(HostnameEndpoint(client.reactor, "server", 7000), Client())
    return await connected.add(*numbers)


def test_on_a_perfect_network_the_naive_adder_looks_right(network: Network) -> None:
    assert network.run(sums_of(network, NaiveAdder, 12)) == [12]


def test_where_a_stream_is_cut_the_naive_adder_is_wrong(network: Network) -> None:
    network.links().set(cuts=cuts.at(1))  # "1", and then "2\n"
    assert network.run(sums_of(network, NaiveAdder, 12)) == [1, 3]  # two sums, and both are wrong


def test_where_two_lines_come_in_one_piece_the_naive_adder_fails(network: Network, logged_failures: list[Any]) -> None:
    with pytest.raises(ValueError, match="no result"):
        network.run(sums_of(network, NaiveAdder, 12, 30))
    assert logged_failures.pop().check(ValueError)  # int(b"12\n30\n")


@pytest.mark.parametrize("policy", [cuts.lumps, cuts.one_byte, cuts.anywhere])
def test_the_adder_is_right_however_the_stream_is_cut(network: Network, policy: cuts.Policy) -> None:
    network.links().set(latency=0.01, jitter=0.01, loss=0.1, cuts=policy)
    assert network.run(sums_of(network, Adder, 12, 30, -2, 1000)) == [12, 42, 40, 1040]
