"""Each pair of UDP services: one forged datagram starts no exchange between them that lasts, or only a bounded one.

A new UDP service is one more entry of ``SERVICES``, and of ``GROWING`` or ``ENDLESS`` for each service whose replies it
cannot tell from questions.
"""

from __future__ import annotations

import socket
from itertools import product
from typing import Any

import pytest

from netsvc import Config, netsvc_service
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.limits.token_bucket import BURST, RATE
from netsvc.testing import Host, Network
from netsvc.testing.datagram_socket import DatagramSocket

#: The UDP services by their fields of Config, with their standard ports; 0 for one that has none.
SERVICES = {"udp": 0, "udp_echo": 7, "discard": 9, "stamp": 862}

#: The pairs whose exchange only ``--udp-rate`` bounds, if both are at ports above 1023.
ENDLESS = {("udp_echo", "udp_echo")}

#: The pairs whose exchange ends because each answer of the timestamps is 27 bytes longer than its question: STAMP takes
#: it for a question with padding, until it is longer than ``--udp-max-size``. Both are at ports above 1023.
GROWING = {("udp", "stamp"), ("stamp", "udp")}

#: How many datagrams that takes, in two directions.
GROWING_MAX = 2 * MAX_SIZE // 27 + 1

#: The forged datagrams: any bytes, and a test packet of STAMP.
PAYLOADS = {"bytes": b"boo", "stamp": bytes(44)}

#: A port of a service that is not at a standard port.
FREE_PORTS = (5_200, 6_200)

PAIRS = list(product(SERVICES, SERVICES))

#: The pairs, with the ports of both, whose exchange a rule ends.
ENDED = [
    (services, ports)
    for services in PAIRS
    for ports in (
        FREE_PORTS,
        (FREE_PORTS[0], FREE_PORTS[0]),
        (SERVICES[services[0]] or FREE_PORTS[0], SERVICES[services[1]] or FREE_PORTS[1]),
    )
    if services not in ENDLESS or ports != FREE_PORTS
]


def serve(host: Host, service: str, port: int) -> None:
    config: dict[str, Any] = {service: [f"udp:{port}" if service == "discard" else str(port)]}
    netsvc_service(host.reactor, Config(**config)).startService()


def forge(
    network: Network, services: tuple[str, str], ports: tuple[int, int], payload: bytes = b"boo", count: int = 1
) -> None:
    """Let two hosts serve, and let the first one receive datagrams that seem to come from the other's service."""
    hosts = network.host("first", "10.0.0.1"), network.host("second", "10.0.0.2")
    for host, service, port in zip(hosts, services, ports, strict=True):
        serve(host, service, port)
    [receiver] = hosts[0].reactor.stack.sockets_for(socket.SOCK_DGRAM, "10.0.0.1", ports[0])
    assert isinstance(receiver, DatagramSocket)
    for _ in range(count):
        receiver.receive(payload, ("10.0.0.2", ports[1]), "10.0.0.1")


def exchanged(network: Network, seconds: float) -> int:
    """Let time pass. Return how many datagrams were sent meanwhile."""
    before = len([event for event in network.trace if event.kind == "datagram"])
    network.advance(seconds)
    return len([event for event in network.trace if event.kind == "datagram"]) - before


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize(("services", "ports"), ENDED)
def test_one_forged_datagram_starts_no_endless_exchange(
    network: Network, services: tuple[str, str], ports: tuple[int, int], payload: bytes
) -> None:
    network.links().set(latency=0.02)
    forge(network, services, ports, payload)
    grows = services in GROWING and ports == FREE_PORTS
    assert exchanged(network, 10.0) <= (GROWING_MAX if grows else 3)
    assert exchanged(network, 10.0) == 0


@pytest.mark.parametrize("services", sorted(ENDLESS), ids="-".join)
def test_on_a_short_way_the_rate_limit_ends_the_exchange(network: Network, services: tuple[str, str]) -> None:
    network.links().set(latency=0.0005)
    forge(network, services, FREE_PORTS)
    # Each answers one datagram in a millisecond, more than the limit allows. One that is refused is the last one.
    assert 2 * BURST <= exchanged(network, 5.0) <= 4 * BURST
    assert exchanged(network, 5.0) == 0


@pytest.mark.parametrize("services", sorted(ENDLESS), ids="-".join)
def test_on_a_long_way_the_rate_limit_bounds_the_exchange(network: Network, services: tuple[str, str]) -> None:
    network.links().set(latency=0.05)
    forge(network, services, FREE_PORTS, count=1_000)
    exchanged(network, 10.0)
    last = exchanged(network, 10.0)
    assert 0 < last <= 2 * 10 * RATE * 1.05  # the two buckets fill up at their own times
