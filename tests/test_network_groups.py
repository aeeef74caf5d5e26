"""Links that are changed together: partitions between groups, held traffic, flapping, regions, shared bottlenecks."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol

from netsvc.testing import LinkError, Network, NetworkError, NoResultError


class Receiving(DatagramProtocol):
    """Notes what it receives, and when.

    :ivar received: datagram and virtual time.
    """

    def __init__(self, network: Network) -> None:
        self.received: list[tuple[bytes, float]] = []
        self._network = network

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append((datagram, self._network.now))


class Sink(Protocol):
    data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


@pytest.fixture
def network(network: Network) -> Network:
    for name in "abcd":
        network.host(name)
    return network


def receiving(network: Network, name: str) -> Receiving:
    receiver = Receiving(network)
    network.hosts[name].reactor.listenUDP(9, receiver)
    return receiver


def send(network: Network, source: str, destination: str, datagram: bytes) -> None:
    port: Any = network.hosts[source].reactor.listenUDP(0, DatagramProtocol())
    port.write(datagram, (network.hosts[destination].address, 9))


def reaches(network: Network, source: str, destination: str) -> bool:
    before = network.link_from(source, destination).count("delivered")
    send(network, source, destination, b"x")
    network.settle()
    return network.link_from(source, destination).count("delivered") > before


def test_a_partition_separates_groups_and_leaves_their_members_together(network: Network) -> None:
    split = network.partition({"a", "b"}, {"c"})
    assert [reaches(network, *pair) for pair in ("ab", "ac", "ca", "bc", "cd", "ad")] == [
        True,
        *[False] * 3,
        True,
        True,
    ]
    split.heal()
    assert reaches(network, "a", "c")
    assert [event.source for event in network.trace if event.kind.startswith("up")] == [
        "a <-> c and 1 more",
        "a <-> c and 1 more",
    ]


def test_three_groups_are_all_separated(network: Network) -> None:
    network.partition({"a"}, ["b"], ("c",))
    assert not any(reaches(network, *pair) for pair in ("ab", "bc", "ca"))


def test_held_datagrams_arrive_at_the_release_in_their_order(network: Network) -> None:
    receiver = receiving(network, "b")
    link = network.link("a", "b")
    link.set(latency=0.5)
    send(network, "a", "b", b"before")
    link.hold()
    for number in range(3):
        send(network, "a", "b", b"%d" % number)
    network.advance(10)
    assert receiver.received == [(b"before", 0.5)]
    send(network, "a", "b", b"last")
    network.advance(0.25)
    link.release()
    network.advance(1)
    assert receiver.received[1:] == [(b"0", 10.25), (b"1", 10.25), (b"2", 10.25), (b"last", 10.5)]


@pytest.mark.parametrize("conditions", [{}, {"bandwidth": 1e6}, {"tcp": "reno"}, {"jitter": 0.2}])
def test_a_held_stream_goes_on_at_the_release_and_loses_nothing(network: Network, conditions: dict[str, Any]) -> None:
    sinks: list[Sink] = []

    class Listening(Factory):
        def buildProtocol(self, addr: Any) -> Sink:
            sinks.append(Sink())
            return sinks[-1]

    network.link("a", "b").set(latency=0.05, **conditions)
    serverFromString(network.hosts["b"].reactor, "tcp:7").listen(Listening())
    endpoint = clientFromString(network.hosts["a"].reactor, "tcp:b:7")
    transport: Any = network.run(connectProtocol(endpoint, Protocol())).transport
    network.advance(1)
    network.link("a", "b").hold()
    transport.write(b"a" * 5_000)
    network.advance(3)
    assert sinks[0].data == b""
    network.link("a", "b").release()
    transport.write(b"b" * 5_000)
    network.advance(10)
    assert sinks[0].data == b"a" * 5_000 + b"b" * 5_000


def test_a_link_that_is_held_holds_back_the_acknowledgements_of_a_stream(network: Network) -> None:
    sinks: list[Sink] = []

    class Listening(Factory):
        def buildProtocol(self, addr: Any) -> Sink:
            sinks.append(Sink())
            return sinks[-1]

    serverFromString(network.hosts["b"].reactor, "tcp:7").listen(Listening())
    endpoint = clientFromString(network.hosts["a"].reactor, "tcp:b:7")
    transport: Any = network.run(connectProtocol(endpoint, Protocol())).transport
    network.settle()
    network.link_from("b", "a").hold()
    transport.write(bytes(5_000_000))
    network.advance(10)
    assert len(sinks[0].data) < 500_000  # a buffer at each end
    network.link_from("b", "a").release()
    network.advance(10)
    assert len(sinks[0].data) == 5_000_000


def test_the_error_of_a_run_names_the_links_that_are_held(network: Network) -> None:
    network.link_from("a", "b").hold()
    with pytest.raises(NoResultError, match="held: a -> b"):
        network.run(Deferred())


def test_regions_are_kept_when_others_are_added(network: Network) -> None:
    network.regions({"eu": ["a"], "us": ["b"]}, {("eu", "us"): 0.1})
    network.regions({"eu": ["c"], "us": ["d"]}, {("eu", "us"): 0.2})
    latencies = [network._fabric.link(*pair).conditions.latency for pair in ("ab", "cd", "ad")]
    assert latencies == [0.1, 0.2, 0.0]


def test_a_connection_that_is_held_is_established_after_the_release(network: Network) -> None:
    serverFromString(network.hosts["b"].reactor, "tcp:7").listen(Factory.forProtocol(Sink))
    network.links().hold()
    connected: list[float] = []
    endpoint = clientFromString(network.hosts["a"].reactor, "tcp:b:7")
    connectProtocol(endpoint, Protocol()).addCallback(lambda _: connected.append(network.now))
    network.advance(2)
    assert connected == []
    network.links().release()
    network.advance(0.1)
    assert connected == [2]


def test_a_flapping_link_is_up_and_down_by_turns(network: Network) -> None:
    network.link("a", "b").flap(down=1, up=2, times=2)
    states = []
    for _ in range(7):
        network.advance(0.5)
        states.append(reaches(network, "a", "b"))
        network.advance(0.5)
    assert states == [False, True, True, False, True, True, True]


def test_regions_set_the_latencies_of_the_links_between_their_hosts(network: Network) -> None:
    receiver = receiving(network, "c")
    send(network, "b", "c", b"creates the link")
    network.settle()
    network.regions({"eu": ["a", "b"], "us": ["c"]}, {("us", "eu"): 0.25, ("eu", "eu"): 0.001})
    for source in ("a", "b", "d"):
        send(network, source, "c", source.encode())
    network.advance(1)
    assert receiver.received[1:] == [(b"d", 0.0), (b"a", 0.25), (b"b", 0.25)]
    assert network._fabric.link("a", "b").conditions.latency == 0.001
    network.links().set(latency=0.5)
    assert network._fabric.link("a", "d").conditions.latency == 0.5


def test_hosts_share_a_bottleneck(network: Network) -> None:
    receiver = receiving(network, "c")
    network.bottleneck({"a", "b"}, {"c"}, bandwidth=8_000)
    for source in ("a", "b", "d"):
        send(network, source, "c", source.encode() * 972)  # with headers 1,000 bytes: a second on the line
    network.advance(5)
    assert [(datagram[:1], time) for datagram, time in receiver.received] == [(b"d", 0.0), (b"a", 1.0), (b"b", 2.0)]


def test_a_full_queue_of_a_bottleneck_loses_packets(network: Network) -> None:
    receiver = receiving(network, "c")
    links = network.bottleneck({"a"}, {"c"}, bandwidth=8_000, queue=2_500)
    for _ in range(5):
        send(network, "a", "c", bytes(972))
    network.advance(10)
    assert (len(receiver.received), links.count("lost")) == (2, 3)


def test_streams_share_a_bottleneck_as_tcp_does(network: Network) -> None:
    network.links().set(latency=0.02, tcp="reno")
    network.bottleneck({"a", "b"}, {"c"}, bandwidth=2e6, queue=20_000)
    sinks: list[Sink] = []

    class Listening(Factory):
        def buildProtocol(self, addr: Any) -> Sink:
            sinks.append(Sink())
            return sinks[-1]

    serverFromString(network.hosts["c"].reactor, "tcp:7").listen(Listening())
    for name in "ab":
        transport: Any = network.run(
            connectProtocol(clientFromString(network.hosts[name].reactor, "tcp:c:7"), Protocol())
        ).transport
        transport.write(bytes(10_000_000))
    network.advance(20)
    received = sum(len(sink.data) for sink in sinks)
    assert 0.8 * 20 * 2e6 / 8 < received < 20 * 2e6 / 8
    assert min(len(sink.data) for sink in sinks) > received / 5


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("partition", [{"a"}], "two or more groups"),
        ("partition", [{"a"}, set()], "none may be empty"),
        ("partition", [{"a"}, {"a", "b"}], "the host 'a' is in two groups"),
        ("partition", [{"a"}, {"z"}], "no host is called 'z'"),
        ("partition", [{"a"}, "bc"], "a group of hosts is needed, not 'bc'"),
        ("regions", [{"eu": ["a"], "us": ["b"]}, {}], "the latency between 'eu' and 'us' is missing"),
        ("regions", [{"eu": ["a"], "us": ["a"]}, {}], "the host 'a' is in two regions"),
        ("regions", [{"eu": ["a"]}, {("eu", "mars"): 1}], "no region is called 'mars'; the regions are eu"),
        ("regions", [{"eu": ["a"], "us": ["b"]}, {("eu", "us"): -1}], "latency must be a number of seconds"),
    ],
)
def test_impossible_groups_are_refused(network: Network, call: str, arguments: list[Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        getattr(network, call)(*arguments)


def test_impossible_numbers_are_refused(network: Network) -> None:
    with pytest.raises(NetworkError, match="bandwidth must be"):
        network.bottleneck({"a"}, {"b"}, bandwidth=0)
    with pytest.raises(NetworkError, match="queue must be"):
        network.bottleneck({"a"}, {"b"}, bandwidth=1, queue=0)
    with pytest.raises(NetworkError, match="times must be"):
        network.link("a", "b").flap(1, 1, 0)
    with pytest.raises(LinkError, match="held must be True or False"):
        network.links().set(held=1)  # type: ignore[arg-type]
