"""The timestamp client on a network that loses, doubles and delays: it reports what the network did."""

from __future__ import annotations

from collections import Counter

import pytest
from twisted.internet.task import LoopingCall

from netsvc.testing import Network
from netsvc.timestamp.server import TimestampClient, TimestampProtocol

QUESTIONS = 400


def asked_on(network: Network, tries: int = 1) -> tuple[TimestampClient, Counter[str]]:
    """Ask 400 questions, one each 20 ms. Returns the client, and how many were answered or failed, and how."""
    server, client = network.hosts["server"], network.hosts["client"]
    server.reactor.listenUDP(5200, TimestampProtocol(server.reactor))
    asking = TimestampClient(client.reactor, server.address, 5200, timeout=1.0, tries=tries)
    client.reactor.listenUDP(0, asking)
    ended: Counter[str] = Counter()

    def ask() -> None:
        asking.ask(b"question %d" % asking.sent).addCallbacks(
            lambda _: ended.update(["answered"]), lambda failure: ended.update([type(failure.value).__name__])
        )

    asks = LoopingCall(ask)
    asks.clock = client.reactor
    asks.start(0.02)
    network.advance(0.02 * (QUESTIONS - 1))
    asks.stop()
    network.advance(10.0)
    return asking, ended


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Network:
    network = Network(seed=len(request.node.name))
    network.host("server")
    network.host("client")
    return network


def test_on_a_perfect_network_nothing_is_lost_doubled_or_late(network: Network) -> None:
    client, ended = asked_on(network)
    assert ended == {"answered": QUESTIONS}
    assert (client.sent, client.lost, client.late, client.doubled, client.ignored) == (QUESTIONS, 0, 0, 0, 0)


@pytest.mark.parametrize("burst", [1, 5])
def test_it_reports_what_was_lost_on_both_ways(network: Network, burst: int) -> None:
    network.links().set(latency=0.05, loss=0.1, burst=burst)
    client, ended = asked_on(network)
    lost = network.links().count("lost")
    assert lost > 20
    assert client.lost == lost == ended["TimeoutError"]


def test_it_reports_what_was_doubled_on_either_way(network: Network) -> None:
    network.links().set(latency=0.05, duplication=0.1)
    client, ended = asked_on(network)
    # A question that came twice is answered twice, and either answer may be doubled again.
    assert client.doubled == network.links().count("doubled") > 20
    assert ended == {"answered": QUESTIONS}
    assert client.lost == client.late == client.ignored == 0


def test_it_reports_what_came_late(network: Network) -> None:
    network.links().set(latency=0.4)
    network.link_from("server", "client").set(reordering=0.1)  # which is held back for 0.4 s more
    client, ended = asked_on(network)
    late = network.links().count("late")
    assert late > 20
    assert client.late == late == ended["TimeoutError"]
    assert client.lost == client.doubled == client.ignored == 0


def test_it_tells_them_apart_when_all_of_it_happens(network: Network) -> None:
    network.links().set(latency=0.4)
    network.link_from("client", "server").set(loss=0.1)
    network.link_from("server", "client").set(loss=0.1, duplication=0.1, reordering=0.1)
    client, ended = asked_on(network)
    fates = Counter(event.fate for event in network.trace if event.what == "datagram")
    assert client.lost == fates["lost"] > 40
    assert client.late == fates["late"] > 10
    # Of a late answer that was doubled, the copy is in time, and the late one is the doubled one.
    assert client.doubled == fates["doubled"] + fates["late and doubled"] > 10
    assert ended["answered"] == QUESTIONS - client.lost - client.late


def test_what_is_asked_again_counts_once_for_each_datagram(network: Network) -> None:
    network.link_from("client", "server").partition()
    client, ended = asked_on(network, tries=3)
    assert ended == {"TimeoutError": QUESTIONS}
    assert client.sent == client.lost == 3 * QUESTIONS == network.links().count("lost")
