"""The kernel's times of sending."""

from __future__ import annotations

import select
import socket
import sys
import time

import pytest
from twisted.internet import reactor  # noqa: TID251  real sockets

from netsvc.net.udp_socket import open_udp_socket
from netsvc.testing import Network

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells them")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_datagram_that_was_sent_has_its_number_and_its_time(host: str) -> None:
    server = open_udp_socket(reactor, host, 0, 100)
    client = open_udp_socket(reactor, host, 0, 100, metadata=True, transmit_times=True)
    client.connect(server.getsockname())
    for number in range(3):
        before = time.clock_gettime_ns(time.CLOCK_REALTIME)
        client.send(b"x")
        [(sent, at)] = client.transmit_times(9)
        assert sent == number
        assert before < at < time.clock_gettime_ns(time.CLOCK_REALTIME)
    assert client.transmit_times(9) == []
    server.close()
    client.send(b"refused")
    with pytest.raises(ConnectionRefusedError):
        client.send(b"not sent: it tells the refusal")
    client.send(b"x")
    assert [number for number, _ in client.transmit_times(9)] == [3, 4]
    client.close()


@pytest.mark.parametrize("maximum", [1, 10])
def test_a_time_that_nobody_has_read_yet_does_not_keep_the_socket_readable(maximum: int) -> None:
    server = open_udp_socket(reactor, "127.0.0.1", 0, 100, metadata=True)
    client = open_udp_socket(reactor, "127.0.0.1", 0, 100, metadata=True, transmit_times=True)
    client.connect(server.getsockname())
    client.send(b"question")
    [question] = server.receive_batch(1)
    server.send_batch([question._replace(payload=b"answer")])
    watched = select.poll()
    watched.register(client.fileno(), select.POLLIN)
    assert watched.poll(0)
    [answer] = client.receive_batch(maximum)
    assert (answer.payload, answer.ttl) == (b"answer", 64)
    assert answer.kernel_time is not None
    assert client.receive_batch(maximum) == []
    assert not watched.poll(0)
    assert [number for number, _ in client.transmit_times(9)] == [0]
    server.close()
    client.close()


def test_a_socket_that_was_not_opened_for_it_and_a_simulated_one_tell_no_times(network: Network) -> None:
    for on in (reactor, network.host("host", "127.0.0.1").reactor):
        udp = open_udp_socket(on, "127.0.0.1", 0, 100, transmit_times=on is not reactor)
        udp.connect(("127.0.0.1", 9))
        udp.send(b"x")
        assert udp.transmit_times(9) == []
        udp.close()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_an_ipv6_socket_tells_the_times_of_ipv4_too(family: int) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    server = open_udp_socket(reactor, host, 0, 100)
    client = open_udp_socket(reactor, "::", 0, 100, metadata=True, transmit_times=True)
    peer = ("::ffff:127.0.0.1" if family == socket.AF_INET else "::1", server.getsockname()[1])
    client.connect(peer)
    client.send(b"x")
    assert len(client.transmit_times(1)) == 1
    server.close()
    client.close()
