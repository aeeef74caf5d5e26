"""The addresses of this host's interfaces, from the kernel by netlink: rtnetlink(7), RFC 3549."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

# From <linux/netlink.h>, <linux/rtnetlink.h> and <linux/if_addr.h>.
_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE, _NEW_ADDRESS, _GET_ADDRESS = 2, 3, 20, 22
_ADDRESS, _LOCAL = 1, 2
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_MESSAGE = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, interface
_NUMBER = struct.Struct("=i")
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type

_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}

_DATAGRAM_MAX = 65_536
_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of an interface.

    :ivar interface: the name of the interface.
    :ivar address: the address, without a zone.
    :ivar prefix_length: the bits of the address that all hosts on the link share.
    :ivar scope: where the address is valid: ``host``, ``link``, ``site`` or ``global``.
    :ivar peer: the address of the other end of a point-to-point link; None on other links.
    """

    interface: str
    address: str
    prefix_length: int
    scope: str
    peer: str | None


def interface_addresses() -> list[InterfaceAddress]:
    """Return the addresses of all interfaces in the order of the kernel, IPv4 first.

    :raises OSError: if the kernel does not tell.
    """
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_TIMEOUT)
        for family in (socket.AF_INET, socket.AF_INET6):
            body = _MESSAGE.pack(family, 0, 0, 0, 0)
            kernel.send(_HEADER.pack(_HEADER.size + len(body), _GET_ADDRESS, _REQUEST_DUMP, 0, 0) + body)
            for message in _messages(kernel):
                found += _parse(message)
    return found


def _messages(kernel: socket.socket) -> Iterator[bytes]:
    """Give the messages with addresses, without their headers, until the kernel has sent all."""
    while True:
        data = kernel.recv(_DATAGRAM_MAX)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            body, data = data[_HEADER.size : length], data[_aligned(length) :]
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError(-_NUMBER.unpack_from(body)[0], "the kernel does not list the addresses")
            if kind == _NEW_ADDRESS:
                yield body


def _parse(message: bytes) -> list[InterfaceAddress]:
    """Return the address in a message; an empty list if there is none, or if its interface is gone by now."""
    family, prefix_length, _flags, scope, index = _MESSAGE.unpack_from(message)
    attributes = dict(_attributes(message[_MESSAGE.size :]))
    address = attributes.get(_ADDRESS)
    local = attributes.get(_LOCAL, address)
    if address is None or local is None:
        return []
    try:
        interface = socket.if_indextoname(index)
    except OSError:
        return []
    # On a point-to-point link, the address is that of the other end.
    peer = None if local == address else socket.inet_ntop(family, address)
    host = socket.inet_ntop(family, local)
    return [InterfaceAddress(interface, host, prefix_length, _SCOPES.get(scope, str(scope)), peer)]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[max(_aligned(length), _ATTRIBUTE.size) :]


def _aligned(length: int) -> int:
    return (length + 3) // 4 * 4
