"""Bounds on what the kernel keeps for a TCP connection, and whether the peer acknowledges what is sent."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from netsvc.limits.stream_limits import StreamLimits

#: Bytes that the kernel takes for a connection before it has sent them (TCP_NOTSENT_LOWAT, tcp(7)). The rest waits in
#: this process, where it is counted. A fast reader keeps its window, because sent bytes do not count.
UNSENT_MAX = 65_536

#: Bytes, sent or not, that the kernel keeps until the peer acknowledges them (SO_SNDBUF; Linux doubles the number for
#: its own data structures). This is for peers that stop acknowledging.
SEND_BUFFER = 262_144

#: Seconds that the kernel waits longer than netsvc for a peer that acknowledges nothing (TCP_USER_TIMEOUT, RFC 5482).
#: While a connection is open, netsvc ends it first, and counts it. The kernel ends what is left of a closed one.
KERNEL_TIMEOUT_MARGIN = 15.0

#: The largest number that a socket option takes.
INT_MAX = 2**31 - 1

# Members of struct tcp_info, from <linux/tcp.h>: segments under way, acknowledged bytes, bytes not sent yet.
_TCP_INFO_SIZE = 148
_UNACKNOWLEDGED = struct.Struct("@I"), 24
_ACKNOWLEDGED = struct.Struct("@Q"), 120
_NOT_SENT = struct.Struct("@I"), 144


def bound_kernel_buffers(listening: socket.socket, limits: StreamLimits) -> None:
    """Bound the buffers of the connections that a listening socket will accept. They inherit its options.

    An option that the system does not have is left out. A UNIX socket has only the send buffer, which is bounded by
    default.

    :param limits: of each connection. Its ``receive_buffer`` is SO_RCVBUF, which Linux doubles.
    """
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    options: list[tuple[int, int | None, float]] = [
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER),
        (socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", None), UNSENT_MAX),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, limits.receive_buffer),
    ]
    if limits.acknowledge_timeout:
        milliseconds = (limits.acknowledge_timeout + KERNEL_TIMEOUT_MARGIN) * 1000
        options.append((socket.IPPROTO_TCP, getattr(socket, "TCP_USER_TIMEOUT", None), milliseconds))
    set_options(listening, [(level, option, round(min(value, INT_MAX))) for level, option, value in options if value])


def set_options(sock: Any, options: Iterable[tuple[int, int | None, int]]) -> None:
    """Set options of a socket: level, option and value of each.

    An option that is None, or that the system refuses, is left out. Some systems refuse them for a socket that was
    reset meanwhile.
    """
    for level, option, value in options:
        if option is not None:
            with suppress(OSError):
                sock.setsockopt(level, option, value)


def acknowledged_bytes(transport: Any) -> int | None:
    """Return how many bytes the peer has acknowledged if it has not acknowledged all of them; None if it has.

    A peer that does not read acknowledges nothing more as soon as its receive buffer is full. The answer is None, too,
    for a transport that is not a TCP connection of Linux.

    :param transport: of the protocol. It may be wrapped, in TLS for example.
    """
    handle = getattr(innermost_transport(transport), "socket", None)
    if sys.platform != "linux" or not isinstance(handle, socket.socket) or handle.family == socket.AF_UNIX:
        return None
    try:
        info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE).ljust(_TCP_INFO_SIZE, b"\0")
    except OSError:
        return None
    waiting, acknowledged, not_sent = (
        member.unpack_from(info, offset)[0] for member, offset in (_UNACKNOWLEDGED, _ACKNOWLEDGED, _NOT_SENT)
    )
    return int(acknowledged) if waiting or not_sent else None


def innermost_transport(transport: Any) -> Any:
    """Return the transport with the socket: inside TLS, a PROXY header or another wrapper."""
    while (inner := getattr(transport, "transport", None)) is not None:
        transport = inner
    return transport
