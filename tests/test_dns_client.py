"""Questions by DNS to a name server on the simulated network."""

from __future__ import annotations

import socket

import pytest

from netsvc.net.dns_client import DNS_PORT, DNSClient, NameServerError
from netsvc.testing import Host, Network
from netsvc.wire.address import HostPort
from netsvc.wire.service_record import ServiceRecord
from tests.name_servers import MANY, listen

SERVER = "10.0.0.1"


@pytest.fixture
def host(network: Network) -> Host:
    """The host of the client. Another host has a name server."""
    server = network.host("server", SERVER)
    with server.reactor.active:
        listen(server.reactor, "", DNS_PORT)
    return network.host("client")


def client_of(host: Host, *servers: str) -> DNSClient:
    return DNSClient(host.reactor, [HostPort(server, DNS_PORT) for server in servers or (SERVER,)], timeout=3.0)


def test_the_servers_of_a_service_come_in_the_order_in_which_they_are_to_be_asked(network: Network, host: Host) -> None:
    assert network.run(client_of(host).services("_sip._tcp.example.org")) == [
        ServiceRecord("big.example.org", 5061, 10, 95, 300),
        ServiceRecord("small.example.org", 5062, 10, 5, 300),
        ServiceRecord("spare.example.org", 5060, 20, 0, 300),
    ]


def test_a_name_may_end_with_a_dot(network: Network, host: Host) -> None:
    assert len(network.run(client_of(host).services("_sip._tcp.example.org."))) == 3


def test_an_answer_that_is_too_long_for_a_datagram_comes_by_tcp(network: Network, host: Host) -> None:
    records = network.run(client_of(host).services("_many._udp.example.org"))
    assert len({record.port for record in records}) == MANY - 1


@pytest.mark.parametrize("name", ["_nosuch._tcp.example.org", "host.example.org", "_sip._tcp.example.com"])
def test_a_name_without_such_records_has_none(network: Network, host: Host, name: str) -> None:
    assert network.run(client_of(host).services(name)) == []


def test_a_host_has_addresses_of_both_families(network: Network, host: Host) -> None:
    client = client_of(host)
    both = ["2001:db8::7", "192.0.2.7", "192.0.2.8"]
    assert network.run(client.addresses("host.example.org")) == both
    assert network.run(client.addresses("host.example.org", socket.AF_INET)) == both[1:]
    assert network.run(client.addresses("host.example.org", socket.AF_INET6)) == both[:1]
    assert network.run(client.addresses("v4.example.org", socket.AF_INET6)) == []


def test_an_address_has_a_name(network: Network, host: Host) -> None:
    client = client_of(host)
    assert network.run(client.names("192.0.2.7")) == ["host.example.org"]
    assert network.run(client.names("2001:db8::7")) == ["host.example.org"]
    assert network.run(client.names("192.0.2.99")) == []


def test_the_next_name_server_is_asked_if_one_does_not_answer(network: Network, host: Host) -> None:
    network.host("silent", "10.0.0.9")
    assert network.run(client_of(host, "10.0.0.9", SERVER).names("192.0.2.7")) == ["host.example.org"]


def test_a_question_fails_if_no_name_server_answers_in_time(network: Network, host: Host) -> None:
    network.host("silent", "10.0.0.9")
    began = network.now
    with pytest.raises(NameServerError, match=r"^no name server answers; asked: 10\.0\.0\.9, 10\.0\.0\.99$"):
        network.run(client_of(host, "10.0.0.9", "10.0.0.99").services("_sip._tcp.example.org"))
    assert network.now - began == pytest.approx(3.0)
