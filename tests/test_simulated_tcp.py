"""Tests of TCP on the simulated network: losses, congestion, the handshake and keepalive."""

from __future__ import annotations

import socket
from math import sqrt
from typing import Any

import pytest
from twisted.internet.defer import gatherResults

from netsvc.testing import LinkError, Network
from netsvc.testing.tcp_recovery import CongestionWindow, RetransmissionTimeout
from tests.scenarios.protocols import RecordingProtocol
from tests.test_network import connect, connect_pair, listen

SEGMENT = 1_460


@pytest.fixture
def network(network_seed: int) -> Network:
    network = Network(network_seed)
    network.host("server", buffer=2_000_000)
    network.host("client", buffer=2_000_000)
    return network


def transmissions(network: Network, kind: str = "data", source: str = "client") -> list[float]:
    """Return the times at which a host sent segments of this kind."""
    return [event.time for event in network.trace if event.kind == kind and event.source == source]


def lose_from(network: Network, begin: float, end: float) -> None:
    """Lose everything that the client sends from one time to another."""
    link = network.link_from("client", "server")
    network.call_later(begin - network.now, lambda: link.set(loss=1))
    network.call_later(end - network.now, lambda: link.set(loss=0))


# Losses


def test_the_retransmission_timeout_follows_rfc_6298_with_the_bound_of_linux() -> None:
    timeout = RetransmissionTimeout()
    assert timeout.seconds == 1
    timeout.measure(0.1)
    assert timeout.seconds == pytest.approx(0.1 + max(0.2, 4 * 0.05))
    timeout.measure(0.9)  # variation 0.05 * 3/4 + 0.8 / 4, smoothed 0.1 * 7/8 + 0.9 / 8
    assert timeout.seconds == pytest.approx(0.2 + 4 * 0.2375)
    for _ in range(100):
        timeout.measure(0.1)
    assert timeout.seconds == pytest.approx(0.3, abs=0.01)
    timeout.back_off()
    assert timeout.seconds == pytest.approx(0.6, abs=0.02)
    for _ in range(20):
        timeout.back_off()
    assert timeout.seconds == 120


def test_a_lost_segment_is_retransmitted_after_three_later_ones_have_arrived(network: Network) -> None:
    network.links().set(bandwidth=1e8, latency=0.05)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    begin = network.now
    network.link_from("client", "server").set(loss=1)
    client.transport.write(b"x" * SEGMENT)
    network.advance(0)
    network.link_from("client", "server").set(loss=0)
    client.transport.write(b"y" * 4 * SEGMENT)
    network.run(server.has_received(5 * SEGMENT))
    assert network.now - begin == pytest.approx(0.15, abs=0.01)  # one and a half round trips
    assert len(transmissions(network)) == 6


def test_a_lost_last_segment_waits_for_the_timeout_that_was_measured(network: Network) -> None:
    network.links().set(bandwidth=1e8, latency=0.5)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    lose_from(network, network.now, network.now + 0.01)
    network.advance(0)
    client.transport.write(b"x")
    network.run(server.has_received(1))
    first, second = transmissions(network)
    # The handshake took 1 s: 1 s, and four times half a second.
    assert second - first == pytest.approx(3, abs=0.01)


def test_two_duplicates_let_new_segments_pass_so_that_a_loss_is_found_without_a_timeout(network: Network) -> None:
    """Limited transmit (RFC 3042)."""
    network.links().set(latency=0.05, tcp="reno")
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    begin = network.now
    network.link_from("client", "server").set(loss=1)
    client.transport.write(bytes(8 * SEGMENT))
    network.advance(0)
    network.link_from("client", "server").set(loss=0)
    client.transport.write(bytes(4 * SEGMENT))  # two of them are in the first window
    network.run(server.has_received(12 * SEGMENT))
    assert [round(time - begin, 1) for time in transmissions(network)[:13]] == [0] * 10 + [0.1] * 2 + [0.2]


def test_the_time_of_a_segment_that_was_sent_again_is_not_measured(network: Network) -> None:
    """Karn's rule: an acknowledgement may be that of the first transmission."""
    network.links().set(bandwidth=1e8, latency=0.05)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().set(latency=0.8)
    client.transport.write(b"x")
    network.advance(20)
    assert len(transmissions(network)) == 3  # again after 0.3 and 0.9 s; the timeout is 1.2 s now
    network.links().set(latency=0.55)  # with the 0.7 s from the last transmission, the timeout would be 0.925 s
    client.transport.write(b"y")
    network.advance(20)
    assert len(transmissions(network)) == 4


def test_what_was_sent_before_a_timeout_is_sent_again_only_where_it_is_missing(network: Network) -> None:
    network.links().set(bandwidth=1e8, latency=0.05)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.link_from("client", "server").partition()
    client.transport.write(b"x" * 40 * SEGMENT)
    network.advance(0.01)
    network.link_from("client", "server").heal()
    network.run(server.has_received(40 * SEGMENT))
    assert network.now < 1.1
    network.advance(5)
    assert bytes(server.received) == b"x" * 40 * SEGMENT


def test_what_waits_in_the_queue_of_its_host_is_not_sent_again(network: Network) -> None:
    network.links().set(bandwidth=2_400)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.write(bytes(100 * SEGMENT))  # 500 s
    network.run(server.has_received(100 * SEGMENT))
    assert len(transmissions(network)) == 101  # Twisted writes two chunks, each of which ends in a short segment


def test_a_slow_link_does_not_collapse_when_acknowledgements_wait_behind_data(network: Network) -> None:
    network.links().set(bandwidth=2_400)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    for protocol in (server, client):
        protocol.transport.write(bytes(100 * SEGMENT))
    network.run(gatherResults([protocol.has_received(100 * SEGMENT) for protocol in (server, client)]))
    assert network.now < 2 * 500
    # Timeouts come after 1, 3, 7, ... 255 s. Each sends only one segment again, until it is acknowledged.
    assert len([time for time in transmissions(network) if time < 500]) < 110


@pytest.mark.parametrize("loss", [0.05, 0.3])
@pytest.mark.parametrize("tcp", ["simple", "reno"])
def test_a_stream_arrives_once_and_in_order_whatever_is_lost(network: Network, tcp: Any, loss: float) -> None:
    network.links().set(bandwidth=1e7, latency=0.02, tcp=tcp)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().set(loss=loss)
    sent = b"".join(b"%06d" % number for number in range(20_000))
    client.transport.write(sent)
    client.transport.loseConnection()
    network.run(server.has_received(len(sent)), timeout=100_000)
    assert bytes(server.received) == sent
    network.advance(100_000)
    assert client.events[-1] == "lost: ConnectionDone"


def test_a_connection_ends_when_nothing_is_acknowledged(network: Network) -> None:
    network.links().set(bandwidth=1e7)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.links().partition()
    client.transport.write(b"x")
    network.advance(900)
    assert client.events == ["connected"]
    network.advance(100)
    assert client.events == ["connected", "lost: ConnectionLost"]


def test_acknowledgements_use_the_reverse_link(network: Network) -> None:
    network.links().set(bandwidth=1e8, latency=0.001)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    # An acknowledgement has 40 bytes: ten of them each second, for ten segments in the first window.
    network.link_from("server", "client").set(bandwidth=3_200)
    network.links().set(tcp="reno")
    begin = network.now
    client.transport.write(b"x" * 30 * SEGMENT)
    network.run(server.has_received(30 * SEGMENT))
    assert 0.9 < network.now - begin < 2.5


# The receive window


def fill_window(network: Network) -> tuple[RecordingProtocol, RecordingProtocol]:
    """Let the client write more than the paused server takes. Returns the server and the client."""
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    server.transport.pauseProducing()
    client.transport.write(bytes(3_000_000))  # the buffer has 2 MB
    network.advance(10)
    return server, client


@pytest.mark.parametrize("bandwidth", [float("inf"), 1e8])
def test_a_lost_window_update_is_recovered_by_a_probe(network: Network, bandwidth: float) -> None:
    network.links().set(bandwidth=bandwidth)
    server, _ = fill_window(network)
    network.link_from("server", "client").set(loss=1)
    server.transport.resumeProducing()
    network.advance(1)
    network.link_from("server", "client").set(loss=0)
    assert len(server.received) < 3_000_000
    network.advance(20)  # the probes come after 0.2, 0.6, 1.4, ... 12.6, 25.4 s
    assert len(server.received) == 3_000_000


def test_a_partition_loses_a_window_update_in_flight(network: Network) -> None:
    network.links().set(latency=0.1)
    server, _ = fill_window(network)
    server.transport.resumeProducing()
    network.advance(0.05)
    network.link_from("server", "client").partition()
    network.advance(0.1)
    network.link_from("server", "client").heal()
    network.advance(1)
    assert len(server.received) < 3_000_000
    network.advance(20)
    assert len(server.received) == 3_000_000


def test_a_window_update_waits_for_the_bandwidth_of_the_reverse_link(network: Network) -> None:
    network.link_from("server", "client").set(bandwidth=80)  # 10 bytes per second
    server, _ = fill_window(network)
    network.advance(10_000)
    network.settle()
    server.transport.resumeProducing()
    network.advance(3.9)  # it has 40 bytes
    assert len(server.received) < 3_000_000
    network.advance(0.2)
    assert len(server.received) > 2_000_000


def test_a_connection_whose_window_probes_have_no_answer_is_lost(network: Network) -> None:
    server, client = fill_window(network)
    network.link_from("server", "client").set(loss=1)
    network.advance(2_000)
    assert client.events == ["connected", "lost: ConnectionLost"]
    assert server.events == ["connected"]


def test_a_window_that_is_full_again_is_probed_soon_although_the_last_probes_were_rare(network: Network) -> None:
    server, client = fill_window(network)
    network.advance(1_000)  # now, a probe comes every two minutes
    server.transport.resumeProducing()
    network.advance(0)
    assert len(server.received) == 3_000_000
    server.transport.pauseProducing()
    client.transport.write(bytes(3_000_000))
    network.advance(0)
    network.link_from("server", "client").set(loss=1)
    server.transport.resumeProducing()
    network.advance(0.1)
    network.link_from("server", "client").set(loss=0)
    network.advance(1)
    assert len(server.received) == 6_000_000


# Congestion


def test_the_window_doubles_in_slow_start_and_grows_by_one_segment_afterwards() -> None:
    window = CongestionWindow()
    window.acknowledged(10, in_flight=10)
    assert window.size == 20
    window.begin_recovery(20)
    window.end_recovery(20)
    assert window.size == 10
    for _ in range(10):
        window.acknowledged(1, in_flight=11)
    assert window.size == pytest.approx(11, abs=0.1)
    window.time_out(11)
    assert window.size == 1


def test_a_loss_halves_the_window_although_segments_behind_it_have_arrived() -> None:
    window = CongestionWindow()
    window.begin_recovery(50)
    window.end_recovery(50)
    assert window.size == 5


def test_a_recovery_that_ends_with_nothing_in_flight_begins_no_burst() -> None:
    """RFC 6582, section 3.2, step 3, the first of the two choices."""
    window = CongestionWindow()
    window.begin_recovery(10)
    window.end_recovery(0)
    assert window.size == 2
    for size in (3, 4, 5, 5.2):  # slow start up to half of the first window
        window.acknowledged(1, in_flight=10)
        assert window.size == pytest.approx(size)


def test_a_segment_that_times_out_again_leaves_the_threshold_of_slow_start() -> None:
    """RFC 5681, section 3.1: the threshold is half of what was in flight at the first timeout."""
    window = CongestionWindow()
    window.time_out(10)
    window.time_out(1)
    for size in (2, 3, 4, 5, 5.2):
        window.acknowledged(1, in_flight=10)
        assert window.size == pytest.approx(size)


def test_a_window_that_is_not_used_does_not_grow() -> None:
    window = CongestionWindow()
    window.acknowledged(1, in_flight=3)
    assert window.size == 10


def test_a_stream_with_reno_begins_slowly(network: Network) -> None:
    network.links().set(latency=0.05, tcp="reno")
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    begin = network.now
    client.transport.write(b"x" * 70 * SEGMENT)
    network.run(server.has_received(70 * SEGMENT))
    assert [sum(time - begin < end for time in transmissions(network)) for end in (0.05, 0.15, 0.25)] == [10, 30, 70]


@pytest.mark.parametrize("seed", [1, 5, 6])  # without the bounds of the window after a loss, 6 to 8 times
def test_the_throughput_of_reno_follows_the_loss_as_mathis_says(seed: int) -> None:
    """Mathis and others, "The macroscopic behavior of the TCP congestion avoidance algorithm" (1997)."""
    network = Network(seed)
    network.host("server", buffer=2_000_000)
    network.host("client", buffer=2_000_000)
    loss, round_trip, start, size = 0.01, 0.1, 2_000_000, 10_000_000
    network.links().set(bandwidth=1e9, latency=round_trip / 2, tcp="reno")
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.link_from("client", "server").set(loss=loss)
    client.transport.write(bytes(size))
    network.run(server.has_received(start))  # the first slow start, of which the theory says nothing
    begin = network.now
    network.run(server.has_received(size))
    expected = SEGMENT / round_trip * sqrt(3 / 2) / sqrt(loss)
    assert expected / 1.5 < (size - start) / (network.now - begin) < expected * 1.5


def test_each_duplicate_lets_a_segment_pass_during_a_recovery(network: Network) -> None:
    network.links().set(latency=0.05, tcp="reno")
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    begin = network.now
    network.link_from("client", "server").set(loss=1)
    client.transport.write(bytes(SEGMENT))
    network.advance(0)
    network.link_from("client", "server").set(loss=0)
    client.transport.write(bytes(30 * SEGMENT))
    network.run(server.has_received(31 * SEGMENT))
    # Nine duplicates: two segments by limited transmit, the lost one, and two when the window, five segments and one
    # for each duplicate, is larger than the twelve in flight.
    assert sum(time - begin < 0.15 for time in transmissions(network)) == 10 + 2 + 1 + 2


def test_an_unknown_kind_of_tcp_is_an_error(network: Network) -> None:
    with pytest.raises(LinkError, match='tcp must be "simple" or "reno"'):
        network.links().set(tcp="cubic")  # type: ignore[arg-type]


# Other differences to Linux, which docs/reference/testing.md lists


def test_each_small_write_is_a_segment(network: Network) -> None:
    network.links().set(latency=0.05)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    for _ in range(3):  # Linux would send the second and the third together, when the first is acknowledged
        client.transport.write(b"x")
        network.advance(0.01)
    assert len(transmissions(network)) == 3


def test_each_of_several_losses_in_a_window_takes_a_round_trip(network: Network) -> None:
    network.links().set(latency=0.05, tcp="reno")
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    begin = network.now
    for loss in (1, 0, 1, 0, 1, 0, 0, 0, 0, 0):
        network.link_from("client", "server").set(loss=loss)
        client.transport.write(bytes(SEGMENT))
        network.advance(0)
    network.run(server.has_received(10 * SEGMENT))
    assert [round(time - begin, 1) for time in transmissions(network)[10:]] == [0.1, 0.2, 0.3]


# The handshake


def connect_without_last_packet(network: Network, lost_until: float) -> tuple[RecordingProtocol, RecordingProtocol]:
    """Connect, and lose what the client sends after its SYN until this time. Returns the server and the client."""
    network.links().set(latency=0.1)
    server, client = RecordingProtocol(), RecordingProtocol()
    listen(network, server)
    connect(network, client)
    lose_from(network, 0.15, lost_until)
    return server, client


@pytest.mark.parametrize("bandwidth", [float("inf"), 1e8])
def test_an_idle_client_survives_the_loss_of_the_last_packet_of_the_handshake(
    network: Network, bandwidth: float
) -> None:
    network.links().set(bandwidth=bandwidth)
    server, client = connect_without_last_packet(network, lost_until=2)
    network.advance(1)
    assert client.events == ["connected"]
    assert server.events == []
    network.advance(3)
    assert server.events == ["connected"]  # the server has sent its SYN-ACK again
    assert len(transmissions(network, "SYN-ACK", "server")) > 1
    network.advance(10_000)
    assert client.events == server.events == ["connected"]


def test_data_complete_a_handshake_of_which_the_last_packet_was_lost(network: Network) -> None:
    server, client = connect_without_last_packet(network, lost_until=0.25)
    network.advance(0.3)
    client.transport.write(b"hello")
    network.advance(0.11)
    assert server.received == b"hello"
    assert len(transmissions(network, "SYN-ACK", "server")) == 1


def test_a_segment_behind_a_lost_one_completes_a_handshake(network: Network) -> None:
    network.links().set(bandwidth=1e8)
    server, client = connect_without_last_packet(network, lost_until=0.25)
    network.advance(0.22)
    client.transport.write(b"lost")
    network.advance(0.04)
    client.transport.write(b"early")
    network.advance(0.11)
    assert server.events == ["connected"]
    assert server.received == b""
    network.advance(2)
    assert server.received == b"lostearly"
    assert len(transmissions(network, "SYN-ACK", "server")) == 1


def test_a_syn_ack_that_is_lost_in_flight_is_sent_again(network: Network) -> None:
    server, _ = connect_without_last_packet(network, lost_until=0.25)
    network.advance(1.25)
    assert len(transmissions(network, "SYN-ACK", "server")) == 2
    network.links().partition()
    network.advance(0.1)
    network.links().heal()
    network.advance(3)
    assert server.events == ["connected"]


def test_a_server_forgets_a_handshake_without_an_answer_and_resets_what_comes_later(network: Network) -> None:
    server, client = connect_without_last_packet(network, lost_until=100)
    network.advance(200)
    assert client.events == ["connected"]
    assert len(transmissions(network, "SYN-ACK", "server")) == 6
    client.transport.write(b"hello")
    network.advance(1)
    assert client.events == ["connected", "lost: ConnectionLost"]
    assert server.events == []


# Keepalive


@pytest.mark.parametrize("bandwidth", [float("inf"), 1e8])
def test_keepalive_finds_that_the_peer_is_gone(network: Network, bandwidth: float) -> None:
    network.links().set(bandwidth=bandwidth)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.setTcpKeepAlive(1)
    network.hosts["server"].crash()
    network.advance(7_200 + 9 * 75 - 1)
    assert client.events == ["connected"]
    network.advance(2)
    assert client.events == ["connected", "lost: ConnectionLost"]


def test_keepalive_leaves_a_connection_whose_peer_answers(network: Network) -> None:
    network.links().set(latency=0.1)
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    network.advance(1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
        client.transport.socket.setsockopt(socket.IPPROTO_TCP, option, value)
    client.transport.setTcpKeepAlive(1)
    network.advance(1_000)
    assert client.events == server.events == ["connected"]
    network.links().partition()
    network.advance(30)
    assert client.events == ["connected", "lost: ConnectionLost"]
    assert server.events == ["connected"]  # it has no keepalive


def connect_with_keepalive(network: Network) -> tuple[RecordingProtocol, RecordingProtocol]:
    """Connect. The client asks after 10 s of silence, three times, once a second. Returns the server and the client."""
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.setTcpKeepAlive(1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 3)):
        client.transport.socket.setsockopt(socket.IPPROTO_TCP, option, value)
    return server, client


def assert_lost_at(network: Network, client: RecordingProtocol, time: float) -> None:
    network.advance(time - 0.1 - network.now)
    assert client.events == ["connected"]
    network.advance(0.2)
    assert client.events == ["connected", "lost: ConnectionLost"]


def test_an_answer_to_keepalive_begins_the_idle_time_anew(network: Network) -> None:
    _, client = connect_with_keepalive(network)
    network.advance(15)
    network.links().partition()
    assert_lost_at(network, client, 20 + 3)


@pytest.mark.parametrize("writer", ["server", "client"])
def test_data_and_their_acknowledgement_begin_the_idle_time_anew(network: Network, writer: str) -> None:
    ends = dict(zip(("server", "client"), connect_with_keepalive(network), strict=True))
    network.advance(9)
    ends[writer].transport.write(b"hello")
    network.advance(0.5)
    network.links().partition()
    assert_lost_at(network, ends["client"], 19 + 3)


def test_data_make_earlier_probes_without_an_answer_void(network: Network) -> None:
    server, client = connect_with_keepalive(network)
    network.advance(9)
    network.links().partition()
    network.advance(3.5)  # three probes are lost
    network.links().heal()
    server.transport.write(b"hello")
    network.advance(1)
    network.links().partition()
    assert_lost_at(network, client, 12.5 + 10 + 3)


def test_keepalive_leaves_data_in_flight_to_their_retransmission(network: Network) -> None:
    _, client = connect_with_keepalive(network)
    network.links().partition()
    client.transport.write(b"hello")
    network.advance(100)
    assert client.events == ["connected"]


def test_keepalive_finds_a_dead_peer_after_data_were_acknowledged(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.setTcpKeepAlive(1)
    client.transport.write(b"hello")
    network.advance(1)
    network.hosts["server"].crash()
    network.advance(7_200 + 10 * 75)
    assert client.events == ["connected", "lost: ConnectionLost"]


def test_keepalive_leaves_a_connection_whose_interval_is_longer_than_its_idle_time(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    client.transport.setTcpKeepAlive(1)
    network.advance(3_000)
    assert client.events == ["connected"]


def test_a_reader_that_paused_for_long_is_not_lost_by_a_short_partition(network: Network) -> None:
    network = Network()
    network.host("server")
    network.host("client")
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    server.transport.pauseProducing()
    client.transport.write(bytes(1_000_000))
    network.advance(2_000)
    network.links().partition()
    network.advance(300)
    network.links().heal()
    assert client.events == ["connected"]
    server.transport.resumeProducing()
    network.run(server.has_received(1_000_000))


def test_keepalive_is_reset_by_a_peer_that_was_restarted(network: Network) -> None:
    server, client = RecordingProtocol(), RecordingProtocol()
    connect_pair(network, server, client)
    client.transport.setTcpKeepAlive(1)
    network.hosts["server"].crash()
    network.hosts["server"].restart()
    network.advance(7_201)
    assert client.events == ["connected", "lost: ConnectionLost"]
