"""TCP keepalive: the kernel asks a silent peer for a sign of life, so that a dead one is noticed within two minutes."""

from __future__ import annotations

import socket
from typing import Any

from netsvc.net.kernel_buffers import innermost_transport, set_options

#: Seconds of silence before the first question, seconds between two, and unanswered ones after which the connection is
#: lost (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT: tcp(7)). A system without one of these options has a longer default.
IDLE, INTERVAL, QUESTIONS = 60, 10, 5

_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPIDLE", None), IDLE),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPINTVL", None), INTERVAL),
    (socket.IPPROTO_TCP, getattr(socket, "TCP_KEEPCNT", None), QUESTIONS),
]


def keep_alive(sock: Any) -> None:
    """Switch keepalive on for a TCP socket. The connections that a listening socket accepts inherit it.

    :param sock: a ``socket.socket``, or one of the simulated network. One that is not of TCP is left alone.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return
    set_options(sock, _OPTIONS)


def keep_transport_alive(transport: Any) -> None:
    """Switch keepalive on for a connection, if it is one of TCP, with or without TLS."""
    sock = getattr(innermost_transport(transport), "socket", None)
    if sock is not None:
        keep_alive(sock)
