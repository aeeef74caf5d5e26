from __future__ import annotations

import socket

import pytest

from netsvc.net.tcp_keepalive import IDLE, INTERVAL, QUESTIONS, keep_alive, keep_transport_alive


def options(sock: socket.socket) -> tuple[int, ...]:
    return (
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(
            sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        ),
    )


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_that_a_port_accepts_notices_a_dead_peer_within_two_minutes(family: socket.AddressFamily) -> None:
    with socket.socket(family) as port:
        port.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        keep_alive(port)
        port.listen()
        with socket.create_connection(port.getsockname()[:2]), port.accept()[0] as accepted:
            assert options(accepted) == (1, IDLE, INTERVAL, QUESTIONS)
    assert IDLE + INTERVAL * QUESTIONS < 120


def test_a_transport_inside_a_wrapper_is_kept_alive() -> None:
    class Transport:
        def __init__(self, sock: socket.socket) -> None:
            self.socket = sock

    class Wrapper:
        def __init__(self, transport: Transport) -> None:
            self.transport = transport

    with socket.socket() as sock:
        keep_transport_alive(Wrapper(Transport(sock)))
        assert options(sock) == (1, IDLE, INTERVAL, QUESTIONS)


def test_what_is_not_of_tcp_is_left_alone() -> None:
    keep_transport_alive(object())
    with socket.socket(socket.AF_UNIX) as unix, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for sock in (unix, datagrams):
            keep_alive(sock)
            assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
