from __future__ import annotations

import shutil
import socket
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from netsvc import Config, DatagramGuard, EchoDatagramProtocol, SourceBuckets, netsvc_service
from netsvc.limits.cause import Cause
from netsvc.testing import Network
from netsvc.wire.datagram import Datagram
from tests.connections import terms
from tests.programs import SECONDS, serving

PEER = ("192.0.2.1", 40_000)


@given(st.lists(st.binary(max_size=200), max_size=70))
def test_datagrams_go_back_with_their_bytes_to_their_source(payloads: list[bytes]) -> None:
    service = terms(Clock())
    batch = [Datagram(payload, (f"192.0.2.{at}", 40_000), b"\x7f\0\0\x4d") for at, payload in enumerate(payloads)]
    replies = EchoDatagramProtocol(service).batch_received(batch)
    assert [(reply.payload, reply.peer, reply.local) for reply in replies] == [each[:3] for each in batch]
    counters, size = service.counters, sum(map(len, payloads))
    assert (counters.received_bytes, counters.sent_bytes, counters.replies) == (size, size, len(payloads))


@pytest.mark.parametrize(
    ("datagram", "cause"),
    [
        (Datagram(b"x" * 1401, PEER), Cause.DATAGRAM_TOO_LONG),
        (Datagram(b"x", ("192.0.2.1", 1023)), Cause.PRIVILEGED_PORT),
        (Datagram(b"x", ("192.0.2.1", 5007)), Cause.OWN_PORT),
        (Datagram(b"x", PEER, b"\x0a\0\0\1", b"\x0a\xff\xff\xff"), Cause.SENT_TO_GROUP),
    ],
)
def test_a_datagram_that_the_guard_refuses_is_counted_and_not_answered(
    network: Network, datagram: Datagram, cause: Cause
) -> None:
    host = network.host("host", "10.0.0.1")
    service = terms(host.reactor)
    server = EchoDatagramProtocol(service)
    host.reactor.listenUDP(5007, server)
    assert server.batch_received([datagram]) == []
    assert service.counters.refused == {cause: 1}
    assert service.counters.replies == 0


def test_a_flood_is_answered_up_to_the_limit() -> None:
    guard = DatagramGuard(SourceBuckets(rate=100, burst=200, total=0, chance=lambda: 1.0))
    assert len(list(EchoDatagramProtocol(terms(Clock()), guard).batch_received([Datagram(b"x", PEER)] * 1000))) == 200


def test_its_limits_and_networks_are_those_of_its_flags(network: Network) -> None:
    server, client = network.host("server", "10.0.0.1"), network.host("client", "10.0.0.2")
    config = Config(udp_echo=["7"], udp_rate=1, udp_burst=3, udp_max_size=10, allow=["udp-echo=10.0.0.2"])
    service = netsvc_service(server.reactor, config)
    service.startService()
    replies: list[bytes] = []

    class Client(EchoDatagramProtocol):
        def datagramReceived(self, datagram: bytes, addr: object) -> None:
            replies.append(datagram)

    for host in (client, network.host("other", "10.0.0.3")):
        asking = Client(terms(host.reactor))
        host.reactor.listenUDP(0, asking)
        for size in (10, 11, 1, 2, 3, 4, 5):
            asking.transport.write(b"x" * size, ("10.0.0.1", 7))
    network.advance(1.0)
    assert [len(reply) for reply in replies][:3] == [10, 1, 2]
    [counters] = service.counters
    assert counters.service == "udp_echo"
    assert counters.refused[Cause.NOT_ALLOWED] == 6
    assert counters.refused[Cause.DATAGRAM_TOO_LONG] == 2
    assert counters.replies == len(replies) == 6 - counters.refused[Cause.DATAGRAM_RATE]


def test_sockets_and_programs_get_their_bytes_back() -> None:
    with serving("--udp-echo", "127.0.0.1:0") as (_, [port]):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(SECONDS)
            client.connect(("127.0.0.1", port))
            for payload in (b"hello", b"", bytes(range(256)) * 5):
                client.send(payload)
                assert client.recv(2000) == payload
        for command in (["socat", "-t1", "-", f"UDP4:127.0.0.1:{port}"], ["nc", "-u", "-w1", "127.0.0.1", str(port)]):
            if shutil.which(command[0]):
                done = subprocess.run(command, input=b"hello\n", capture_output=True, timeout=SECONDS, check=False)
                assert done.stdout == b"hello\n"
