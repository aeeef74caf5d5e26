from __future__ import annotations

import errno
import re
import shutil
import socket
import subprocess

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from netsvc import Config, ConfigError, DiscardDatagramProtocol, DiscardFactory, StreamService, netsvc_service
from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.net.listening import Listener
from netsvc.server.start_plan import conflicts_in, describe
from netsvc.testing import Network
from netsvc.wire.datagram import Datagram
from tests.connections import connect, lose, taken, terms
from tests.programs import SECONDS, serving

PEER = ("192.0.2.1", 40_000)


def test_a_stream_is_read_and_nothing_is_answered() -> None:
    service = terms(Clock())
    protocol, transport = connect(DiscardFactory(service))
    protocol.dataReceived(b"x" * 1000)
    protocol.dataReceived(b"y")
    assert taken(transport) == b""
    assert service.counters.received_bytes == 1001
    assert not transport.disconnecting
    lose(protocol)


def test_a_stream_ends_when_the_peer_closes_its_side() -> None:
    protocol, transport = connect(DiscardFactory(terms(Clock())))
    protocol.readConnectionLost()
    assert transport.disconnecting
    assert taken(transport) == b""
    lose(protocol)


def test_a_stream_that_is_idle_for_too_long_is_closed() -> None:
    clock = Clock()
    protocol, transport = connect(DiscardFactory(terms(clock, idle_timeout=10)))
    for _ in range(9):
        protocol.dataReceived(b"x")
        clock.advance(5)
    assert not transport.write_closed
    clock.pump([1] * 12)
    assert transport.write_closed
    lose(protocol)


def test_a_peer_that_leaves_for_another_is_told_nothing() -> None:
    protocol, transport = connect(DiscardFactory(terms(Clock())))
    protocol.displace()
    assert taken(transport) == b""
    lose(protocol)


def test_datagrams_are_counted_and_not_answered() -> None:
    service = terms(Clock())
    server = DiscardDatagramProtocol(service)
    # Neither a privileged port nor a broadcast address is refused: there is no answer that could do harm.
    batch = [Datagram(b"x" * 60_000, PEER), Datagram(b"", ("192.0.2.1", 9)), Datagram(b"y", PEER, b"\1", b"\2")]
    assert server.batch_received(batch * 100) == []
    assert service.counters.received_bytes == 100 * 60_001
    assert not service.counters.refused


def test_datagrams_of_other_networks_are_counted_as_refused() -> None:
    service = terms(Clock())
    server = DiscardDatagramProtocol(service, NetworkRules(["10.0.0.0/8"]))
    server.batch_received([Datagram(b"x", PEER), Datagram(b"y", ("10.0.0.1", 1))])
    assert service.counters.refused == {Cause.NOT_ALLOWED: 1}


def test_errors_of_the_system_are_counted() -> None:
    service = terms(Clock())
    server = DiscardDatagramProtocol(service)
    server.not_received(OSError(errno.ENOMEM, "no memory"))
    server.dropped(3)
    assert service.counters.unreceived == {"ENOMEM": 1}
    assert service.counters.dropped_datagrams == 3


@pytest.mark.parametrize(
    ("where", "opened"),
    [
        ("9", ["TCP 0.0.0.0:9", "UDP 0.0.0.0:9"]),
        ("10.0.0.1:9", ["TCP 10.0.0.1:9", "UDP 10.0.0.1:9"]),
        ("udp:9:interface=10.0.0.1", ["UDP 10.0.0.1:9"]),
        ("tcp:9:interface=10.0.0.1", ["TCP 10.0.0.1:9"]),
    ],
)
def test_an_address_opens_both_transports_and_a_description_its_own(
    network: Network, where: str, opened: list[str]
) -> None:
    host = network.host("host", "10.0.0.1")
    service = netsvc_service(host.reactor, Config(discard=[where]))
    service.startService()
    listeners = [part for child in service for part in (child if isinstance(child, StreamService) else [child])]
    addresses = [address for part in listeners if isinstance(part, Listener) for address in part.addresses()]
    assert [f"{at.type} {at.host}:{at.port}" for at in addresses if isinstance(at, IPv4Address)] == opened
    assert [counters.service for counters in service.counters] == ["discard"]


def test_the_plan_of_a_start_tells_both_transports() -> None:
    config = Config(discard=["9", "udp:10"], tcp=["9"], udp=["10"], chat=["10"])
    plan = list(describe(config))
    assert "discard: port 9 of every address of this host, IPv4 and IPv6, TCP and UDP" in plan
    assert "discard: port 10 of every address of this host, IPv4 and IPv6" in plan
    assert [line.partition(";")[0] for line in conflicts_in(config)] == [
        "--discard 9: already used by --tcp 9",
        "--discard udp:10: already used by --udp 10",
    ]


def test_flags_of_streams_need_a_discard_on_streams() -> None:
    with pytest.raises(ConfigError, match="none is served"):
        Config(discard=["udp:9"], tls_cert="c.pem")
    Config(discard=["9"], tls_cert="c.pem")


def test_sockets_and_netcat_are_read_and_counted() -> None:
    with serving("--discard", "127.0.0.1:0") as (server, [tcp, udp]):
        with socket.create_connection(("127.0.0.1", tcp), SECONDS) as client:
            client.sendall(b"x" * 100_000)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", udp))
            client.send(b"y" * 9_000)
            client.settimeout(0.2)
            with pytest.raises(TimeoutError):
                client.recv(1)
        sent = 109_000
        if shutil.which("nc"):
            command = ["nc", "-N", "127.0.0.1", str(tcp)]
            done = subprocess.run(command, input=b"z" * 500, capture_output=True, timeout=SECONDS, check=False)
            assert (done.returncode, done.stdout) == (0, b"")
            sent += 500
        server.stop()
    assert re.search(f"discard: .* {sent:,} received, 0 sent", server.output)
