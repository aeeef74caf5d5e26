"""Datagrams that are received and sent with one system call for all of them."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from netsvc.linux import mmsg
from netsvc.linux.mmsg import MessageReceiver, MessageSender, control_block, parse_control
from netsvc.linux.socket_address import ADDRESS_SIZES, pack_address, unpack_address
from netsvc.net.udp_batches import MAX_LOCAL_ADDRESSES
from netsvc.net.udp_socket import SINGLE_SENDS_MAX, KernelUdpSocket
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


def receiver_for(bound: socket.socket, slots: int, control_size: int = 0) -> MessageReceiver:
    return MessageReceiver(slots, 100, ADDRESS_SIZES[bound.family], control_size)


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
    receiver = receiver_for(server, 8, control_size=200)
    assert receiver.receive(server.fileno(), 8) == ((), ())
    sent = [b"", b"one", b"three", b"x" * 100, b"y" * 101]
    for payload in sent:
        client.sendto(payload, server.getsockname())
    payloads, origins = receiver.receive(server.fileno(), 8)
    assert list(payloads) == [payload[:100] for payload in sent]
    client.sendto(b"one", server.getsockname())
    [payload], [origin] = receiver.receive(server.fileno(), 8)
    assert payload == b"one"
    client.sendto(b"one", server.getsockname())
    _, expected, _, peer = server.recvmsg(100, 200)
    assert [parse_control(each[receiver.control_start :]) for each in (*origins, origin)] == [expected] * 6
    assert [unpack_address(each[: ADDRESS_SIZES[server.family]]) for each in (*origins, origin)] == [peer] * 6


def test_a_receiver_tells_datagrams_with_different_control_messages_apart(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    server, client = pair
    receiver = receiver_for(server, 8, control_size=200)
    payloads: list[bytes] = []
    for ask in (1, 0, 1):
        server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, ask)
        if server.family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, ask)
        client.sendto(b"x", server.getsockname())
        if ask:
            client.sendto(b"y", server.getsockname())
        received = receiver.receive(server.fileno(), 8)
        payloads += received[0]
        # What an earlier datagram left in the memory does not count.
        assert [bool(parse_control(origin[receiver.control_start :])) for origin in received[1]] == [bool(ask)] * (
            1 + ask
        )
    assert payloads == [b"x", b"y", b"x", b"x", b"y"]


def test_a_receiver_takes_no_more_than_it_was_asked_for(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    for number in range(5):
        client.sendto(b"%d" % number, server.getsockname())
    receiver = receiver_for(server, 4)
    received = [list(receiver.receive(server.fileno(), maximum)[0]) for maximum in (2, 1, 64, 64)]
    assert received == [[b"0", b"1"], [b"2"], [b"3", b"4"], []]


def test_a_receiver_raises_the_error_of_the_system() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        MessageReceiver(4, 100, 16, 0).receive(-1, 4)


def test_a_message_that_cannot_be_sent_does_not_stop_the_others(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    receiver = receiver_for(server, 4)
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


@pytest.mark.parametrize("damage", [b"", b"x", bytes(16), b"\x0f" + bytes(15)])
def test_damaged_control_messages_end_the_parse(damage: bytes) -> None:
    assert parse_control(bytes(control_block([IP_TTL_CONTROL])) + damage) == [IP_TTL_CONTROL]


def test_the_offsets_are_those_of_the_system() -> None:
    """As in <sys/socket.h> on systems with 64 bits."""
    if ctypes.sizeof(ctypes.c_void_p) == 8:
        assert (mmsg._SIZE, mmsg._LENGTH * 4, mmsg._CONTROL * 8) == (64, 56, 32)


def test_batches_carry_addresses_as_single_datagrams_do(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    host, port = client.getsockname()[:2]
    batches = batch_socket(server)
    for _ in range(SINGLE_SENDS_MAX):
        client.sendto(b"question", batches.getsockname())
    received = receive_all(batches, SINGLE_SENDS_MAX)
    assert {tuple(datagram.peer) for datagram in received} == {client.getsockname()}
    made = Datagram(b"answer", (host, port))  # by an application, in the short form
    assert batches.send_batch([*received, made]) == []
    expected = [*[b"question"] * SINGLE_SENDS_MAX, b"answer"]
    assert [client.recv(100) for _ in expected] == expected
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
    long = [Datagram(b"%d" % (number % 10) * 5_000, peer) for number in range(SINGLE_SENDS_MAX + 1)]
    assert server.send_batch(long) == []
    assert [client.recv(10_000) for _ in long] == [datagram.payload for datagram in long]
    server.close()


def test_batches_of_other_lengths_and_addresses_follow_each_other(pair: tuple[socket.socket, socket.socket]) -> None:
    one, client = pair
    server = batch_socket(one)
    peer = client.getsockname()
    least = SINGLE_SENDS_MAX + 1
    mixed = [b"a" * number for number in range(least)]
    for payloads in ([b"one"] * least, [b"one"] * 20, [b"three"] * 12, mixed, [b"three"] * least, [b""] * least):
        assert server.send_batch([Datagram(payload, peer) for payload in payloads]) == []
        assert [client.recv(100) for _ in payloads] == payloads
    server.close()


@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ("192.0.2.1", 1234)), (socket.AF_INET6, ("fe80::1", 1234, 5, 6))],
)
def test_addresses_are_unpacked_as_they_were_packed(family: int, address: tuple[Any, ...]) -> None:
    packed = pack_address(family, address)
    assert len(packed) == ADDRESS_SIZES[socket.AddressFamily(family)]
    assert unpack_address(packed) == address


@pytest.mark.parametrize("address", [("localhost", 7), ("::1", 7), ("127.0.0.1", 70_000), ("127.0.0.1",)])
def test_an_address_that_cannot_be_packed_does_not_stop_the_other_datagrams(address: tuple[Any, ...]) -> None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.settimeout(5)
        server = KernelUdpSocket(bound, 1_000)
        good = Datagram(b"good", client.getsockname())
        with suppress(OSError, TypeError, OverflowError):
            server.send_batch([*[good] * SINGLE_SENDS_MAX, Datagram(b"bad", address)])
        assert [client.recv(10) for _ in range(SINGLE_SENDS_MAX)] == [b"good"] * SINGLE_SENDS_MAX
    server.close()


def test_a_forked_process_has_buffers_of_its_own(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    receiver = receiver_for(server, 4)
    for payload in (b"for the child", b"for the parent"):
        client.sendto(payload, server.getsockname())
    child = os.fork()
    if child == 0:
        os._exit(0 if list(receiver.receive(server.fileno(), 1)[0]) == [b"for the child"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(receiver._payloads[:20]) == bytes(20)
