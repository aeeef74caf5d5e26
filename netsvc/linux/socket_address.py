"""Socket addresses in the layout of Linux (struct sockaddr_in and sockaddr_in6) and as Python's sockets give them."""

from __future__ import annotations

import socket
import struct
from typing import Any

_IPV4 = struct.Struct("=H2s4s8x")
_IPV6 = struct.Struct("=H2s4s16sI")

#: Bytes of an address, by address family.
ADDRESS_SIZES = {socket.AF_INET: _IPV4.size, socket.AF_INET6: _IPV6.size}


def unpack_address(packed: bytes) -> tuple[Any, ...]:
    """Return an address as ``socket.recvfrom`` does: host and port, and for IPv6 flow and scope. No host has a zone."""
    if len(packed) == _IPV4.size:
        _, port, host = _IPV4.unpack(packed)
        return socket.inet_ntop(socket.AF_INET, host), int.from_bytes(port)
    _, port, flow, host, scope = _IPV6.unpack(packed)
    return socket.inet_ntop(socket.AF_INET6, host), int.from_bytes(port), int.from_bytes(flow), scope


def pack_address(family: int, address: tuple[Any, ...]) -> bytes:
    """Return an address in the layout of Linux.

    :param address: a numeric host and a port, and for IPv6 maybe flow and scope.
    :raises OSError: for a host that is not an address of this family, such as one with a zone.
    """
    host, port, *flow_and_scope = address
    port_bytes = int(port).to_bytes(2)
    if family == socket.AF_INET:
        return _IPV4.pack(family, port_bytes, socket.inet_aton(host))
    flow, scope = [*flow_and_scope, 0, 0][:2]
    packed = socket.inet_pton(family, host)
    return _IPV6.pack(family, port_bytes, int(flow).to_bytes(4), packed, scope)
