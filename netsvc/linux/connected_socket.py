"""The times and limits that Linux knows of a connected socket and its path."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Any

#: Options of ip(7) and ipv6(7) that the module ``socket`` does not have: the level and the number, by address family.
_MTU = {socket.AF_INET: (socket.IPPROTO_IP, 14), socket.AF_INET6: (socket.IPPROTO_IPV6, 24)}
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}

#: Bytes of the IP header without options.
IP_HEADER = {socket.AF_INET: 20, socket.AF_INET6: 40}

TCP_HEADER = 20
UDP_HEADER = 8


#: Members of struct tcp_info, from <linux/tcp.h>: microseconds of the round trip, and segments sent again.
_ROUND_TRIP = struct.Struct("@I"), 68
_SENT_AGAIN = struct.Struct("@I"), 100
_TCP_INFO_SIZE = 104

#: The member tcpi_options, its bit for timestamps, and the bytes that these take in each segment (RFC 7323).
_OPTIONS_AT, _HAS_TIMESTAMPS, _TIMESTAMP = 5, 1, 12


def handshake_seconds(connected: Any) -> float | None:
    """Return how long the handshake of a TCP connection took, as the kernel has measured it. Call it before any data.

    It is None if a packet of the handshake was sent again, and if the system does not tell.
    """
    with suppress(OSError, TypeError, struct.error):
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        round_trip, sent_again = (member.unpack_from(info, offset)[0] for member, offset in (_ROUND_TRIP, _SENT_AGAIN))
        return round_trip / 1_000_000 if round_trip and not sent_again else None
    return None


def known_path_mtu(connected: Any) -> int | None:
    """Return the longest packet that the system sends on a connected socket; None if it does not tell.

    It begins with that of the interface, and becomes smaller when a router says that a packet was too long. So it is an
    upper limit of what the path carries.
    """
    with suppress(OSError, KeyError):
        return connected.getsockopt(*_MTU[connected.family]) or None
    return None


def longest_packet(connected: Any, payload: int) -> int | None:
    """Return the bytes of the longest packet with which a TCP connection sends a payload; None if it is not known."""
    with suppress(OSError, KeyError, TypeError, IndexError):
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        options = _TIMESTAMP if info[_OPTIONS_AT] & _HAS_TIMESTAMPS else 0
        segment: int = min(payload, connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
        return segment + IP_HEADER[connected.family] + TCP_HEADER + options
    return None


def report_all_errors(unconnected: Any) -> None:
    """Let a UDP socket report every ICMP error, not only that a port is closed."""
    with suppress(OSError, KeyError):
        unconnected.setsockopt(*_RECVERR[unconnected.family], 1)
