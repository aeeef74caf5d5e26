"""Datagrams that are received and sent with one system call for all of them."""

from __future__ import annotations

import ctypes
import socket
from collections.abc import Iterator

import pytest

from netsvc.linux import mmsg
from netsvc.linux.mmsg import MessageReceiver, MessageSender, control_block, parse_control
from netsvc.net.udp_batches import MAX_LOCAL_ADDRESSES, MAX_PEERS
from netsvc.net.udp_socket import KernelUdpSocket
from netsvc.wire.datagram import Datagram

pytestmark = pytest.mark.skipif(not mmsg.AVAILABLE, reason="the system has no recvmmsg")

IP_PKTINFO = 8
IP_TTL_CONTROL = (socket.IPPROTO_IP, socket.IP_TTL, b"\x07\0\0\0")


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two bound sockets of one family that do not block."""
    host = "127.0.0.1" if request.param == socket.AF_INET else "::1"
    with socket.socket(request.param, socket.SOCK_DGRAM) as one, socket.socket(request.param, socket.SOCK_DGRAM) as two:
        for each in (one, two):
            each.bind((host, 0))
            each.setblocking(False)
        yield one, two


def batch_socket(bound: socket.socket, size: int = 1_000) -> KernelUdpSocket:
    return KernelUdpSocket(socket.socket(fileno=bound.detach()), size, batches=True)


def receive_all(server: KernelUdpSocket, number: int) -> list[Datagram]:
    received: list[Datagram] = []
    while len(received) < number:
        received += server.receive_batch(64)
    return received


def test_a_receiver_returns_what_recvmsg_returns(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    if server.family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    receiver = MessageReceiver(8, 100, 200)
    assert receiver.receive(server.fileno(), 8) == ((), (), ())
    sent = [b"", b"one", b"three", b"x" * 100, b"y" * 101]
    for payload in sent:
        client.sendto(payload, server.getsockname())
    payloads, names, controls = receiver.receive(server.fileno(), 8)
    assert list(payloads) == [payload[:100] for payload in sent]
    for payload in sent[:2]:
        client.sendto(payload, server.getsockname())
    expected = [server.recvmsg(100, 200)[1] for _ in sent[:2]]
    assert [parse_control(control) for control in controls[:2]] == expected
    assert len(set(names)) == 1


def test_a_receiver_takes_no_more_than_it_was_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    for number in range(5):
        client.sendto(b"%d" % number, server.getsockname())
    receiver = MessageReceiver(4, 100, 0)
    received = [list(receiver.receive(server.fileno(), maximum)[0]) for maximum in (2, 1, 64, 64)]
    assert received == [[b"0", b"1"], [b"2"], [b"3", b"4"], []]


def test_a_receiver_raises_the_error_of_the_system() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        MessageReceiver(4, 100, 0).receive(-1, 4)


def test_a_message_that_cannot_be_sent_does_not_stop_the_others(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    receiver = MessageReceiver(4, 100, 0)
    server.sendto(b"x", client.getsockname())
    [name] = receiver.receive(client.fileno(), 4)[1]
    nowhere = name[:2] + bytes(len(name) - 2)  # port 0
    sender = MessageSender(8, 100, len(name), 0)
    names = [nowhere, name, nowhere, nowhere, name, nowhere]
    payloads = [b"%d" % number for number in range(6)]
    assert sender.send(client.fileno(), payloads, names, [0] * 6) == [0, 2, 3, 5]
    assert list(receiver.receive(server.fileno(), 4)[0]) == [b"1", b"4"]
    assert sender.send(client.fileno(), [b"x" * 801], [name], [0]) == [0]


@pytest.mark.parametrize("messages", [[], [IP_TTL_CONTROL], [IP_TTL_CONTROL, (1, 2, b"123456789")]])
def test_control_messages_are_laid_out_as_they_are_parsed(messages: list[tuple[int, int, bytes]]) -> None:
    assert parse_control(bytes(control_block(messages))) == messages


@pytest.mark.parametrize("data", [b"", b"x", bytes(16), b"\x0f" + bytes(15), b"\xff" * 40])
def test_damaged_control_messages_end_the_parse(data: bytes) -> None:
    assert all(level == kind == -1 for level, kind, _ in parse_control(data))


def test_the_offsets_are_those_of_the_system() -> None:
    """As in <sys/socket.h> on systems with 64 bits."""
    if ctypes.sizeof(ctypes.c_void_p) == 8:
        assert (mmsg._SIZE, mmsg._LENGTH * 4, mmsg._CONTROL * 8) == (64, 56, 32)


def test_batches_carry_addresses_as_single_datagrams_do(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    host, port = client.getsockname()[:2]
    batches = batch_socket(server)
    for _ in range(5):
        client.sendto(b"question", batches.getsockname())
    received = receive_all(batches, 5)
    assert {tuple(datagram.peer) for datagram in received} == {client.getsockname()}
    made = Datagram(b"answer", (host, port))  # by an application, in the short form
    assert batches.send_batch([*received, made]) == []
    assert [client.recv(100) for _ in range(6)] == [b"question"] * 5 + [b"answer"]
    batches.close()


def test_a_batch_is_sent_from_the_addresses_that_were_asked() -> None:
    bound = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    bound.bind(("::", 0))
    server = KernelUdpSocket(bound, 1_000)
    asked = [f"127.0.{number}.1" for number in range(MAX_LOCAL_ADDRESSES + 6)]
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in asked]
    for client, host in zip(clients, asked, strict=True):
        client.settimeout(5)
        client.connect((host, server.getsockname()[1]))  # receives from this address only
        client.send(b"x")
    received = receive_all(server, len(asked))
    assert server.send_batch(received) == []
    assert [client.recv(10) for client in clients] == [b"x"] * len(asked)
    for client in clients:
        client.close()
    server.close()


def test_a_batch_that_is_longer_than_its_buffer_is_sent_all_the_same(pair: tuple[socket.socket, socket.socket]) -> None:
    one, client = pair
    server = batch_socket(one, 10)
    peer = client.getsockname()
    long = [Datagram(b"%d" % number * 5_000, peer) for number in range(5)]
    assert server.send_batch(long) == []
    assert [client.recv(10_000) for _ in long] == [datagram.payload for datagram in long]
    server.close()


def test_the_number_of_peers_that_are_kept_is_bounded(pair: tuple[socket.socket, socket.socket]) -> None:
    one, client = pair
    server = batch_socket(one)
    batches = server._batches
    assert batches is not None
    batches._peers.update(dict.fromkeys((bytes([number % 256, number // 256]) for number in range(MAX_PEERS)), ()))  # type: ignore[arg-type]
    client.sendto(b"x", server.getsockname())
    receive_all(server, 1)
    assert len(batches._peers) == 1
    server.close()


def test_a_zone_is_part_of_the_address_of_a_peer(pair: tuple[socket.socket, socket.socket]) -> None:
    loopback = socket.if_nametoindex("lo")
    one, _ = pair
    if one.family == socket.AF_INET:
        pytest.skip("IPv4 has no zones")
    server = batch_socket(one)
    batches = server._batches
    assert batches is not None
    name = socket.AF_INET6.to_bytes(2, "little") + b"\x04\xd2" + bytes(4) + b"\xfe\x80" + bytes(13) + b"\1"
    peer = batches._peer(name + loopback.to_bytes(4, "little"))
    assert peer == ("fe80::1%lo", 1234, 0, loopback)
    server.close()
