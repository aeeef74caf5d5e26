"""The timestamp client on a network that loses, duplicates and delays datagrams: it reports what happened."""

from __future__ import annotations

from collections import Counter

import pytest
from twisted.internet.task import LoopingCall

from netsvc.net.terms import Terms
from netsvc.testing import Network
from netsvc.timestamp.client import TimestampClient
from netsvc.timestamp.server import TimestampProtocol

REQUESTS = 400


def run_requests(network: Network, tries: int = 1) -> tuple[TimestampClient, Counter[str]]:
    """Send 400 requests, one each 20 ms. Return the client, and the number of requests by outcome."""
    server, client = network.hosts["server"], network.hosts["client"]
    server.reactor.listenUDP(5200, TimestampProtocol(Terms.on(server.reactor)))
    asking = TimestampClient(client.reactor, server.address, 5200, timeout=1.0, tries=tries)
    client.reactor.listenUDP(0, asking)
    ended: Counter[str] = Counter()

    def ask() -> None:
        asking.ask(b"request %d" % asking.sent).addCallbacks(
            lambda _: ended.update(["answered"]), lambda failure: ended.update([type(failure.value).__name__])
        )

    asks = LoopingCall(ask)
    asks.clock = client.reactor
    asks.start(0.02)
    network.advance(0.02 * (REQUESTS - 1))
    asks.stop()
    network.advance(10.0)
    return asking, ended


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Network:
    network = Network(seed=len(request.node.name))
    network.host("server")
    network.host("client")
    return network


def test_on_a_perfect_network_no_datagram_is_lost_duplicated_or_late(network: Network) -> None:
    client, ended = run_requests(network)
    assert ended == {"answered": REQUESTS}
    assert (client.sent, client.lost, client.late, client.duplicates, client.ignored) == (REQUESTS, 0, 0, 0, 0)


@pytest.mark.parametrize("burst", [1, 5])
def test_it_reports_the_loss_of_both_directions(network: Network, burst: int) -> None:
    network.links().set(latency=0.05, loss=0.1, burst=burst)
    client, ended = run_requests(network)
    lost = network.links().count("lost")
    assert lost > 20
    assert client.lost == lost == ended["TimeoutError"]


def test_it_reports_the_duplicates_of_both_directions(network: Network) -> None:
    network.links().set(latency=0.05, duplication=0.1)
    client, ended = run_requests(network)
    # A request that arrives twice is answered twice, and each answer may be duplicated again.
    assert client.duplicates == network.links().count("duplicated") > 20
    assert ended == {"answered": REQUESTS}
    assert client.lost == client.late == client.ignored == 0


def test_it_reports_late_answers(network: Network) -> None:
    network.links().set(latency=0.4)
    network.link_from("server", "client").set(reordering=0.1)  # a reordered datagram is 0.4 s later
    client, ended = run_requests(network)
    late = network.links().count("reordered")
    assert late > 20
    assert client.late == late == ended["TimeoutError"]
    assert client.lost == client.duplicates == client.ignored == 0


def test_it_tells_loss_duplicates_and_late_answers_apart(network: Network) -> None:
    network.links().set(latency=0.4)
    network.link_from("client", "server").set(loss=0.1)
    network.link_from("server", "client").set(loss=0.1, duplication=0.1, reordering=0.1)
    client, ended = run_requests(network)
    outcomes = Counter(event.outcome for event in network.trace if event.kind == "datagram")
    assert client.lost == outcomes["lost"] > 40
    assert client.late == outcomes["reordered"] > 10
    # If a late answer is duplicated, the copy is in time, and the late one counts as the duplicate.
    assert client.duplicates == outcomes["duplicated"] + outcomes["reordered and duplicated"] > 10
    assert ended["answered"] == REQUESTS - client.lost - client.late


def test_each_try_counts_as_a_datagram(network: Network) -> None:
    network.link_from("client", "server").partition()
    client, ended = run_requests(network, tries=3)
    assert ended == {"TimeoutError": REQUESTS}
    assert client.sent == client.lost == 3 * REQUESTS == network.links().count("lost")
