"""Zones of IPv6 addresses: the link on which an address such as ``fe80::1%eth0`` has its meaning (RFC 4007).

Twisted and Python's sockets drop the zone in several places. Python's functions ignore a zone in the host if they are
given no scope beside it.
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from typing import Any


def needs_zone(host: str) -> bool:
    """Whether ``host`` is an IPv6 address that has a meaning on one link only."""
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:  # a name, or an IPv4 address
        return False
    # Multicast in the scopes of the interface and the link: RFC 4291, section 2.7.
    return address.is_link_local or (address.is_multicast and address.packed[1] & 0x0F in (1, 2))


def zoned_host(host: str, scope: int | str | None) -> str:
    """Return ``host`` with its zone if it needs one: ``fe80::1%eth0``.

    :param scope: the scope of a socket address: the number of an interface, or 0 for none.
    """
    if not scope or "%" in host or not needs_zone(host):
        return host
    try:
        return f"{host}%{socket.if_indextoname(int(scope))}"
    except (OSError, ValueError, OverflowError):  # there is no such interface any more; its number is a zone as well
        return f"{host}%{scope}"


def without_zone(address: str) -> str:
    """Return an address, with or without a port, without its zone, which means nothing to other hosts."""
    return re.sub(r"%[^]]*", "", address) if "%" in address else address


def socket_address(host: str, port: int) -> tuple[Any, ...]:
    """Return an IP address and a port as Python's sockets take them: for IPv6 with the number of the zone.

    :raises OSError: if this host has no interface of that name.
    """
    if ":" not in host:
        return host, port
    address, _, zone = host.partition("%")
    return address, port, 0, _scope(zone) if zone else 0


def _scope(zone: str) -> int:
    if zone.isascii() and zone.isdecimal() and len(zone) < 10:
        return int(zone)
    try:
        return socket.if_nametoindex(zone)
    except (OSError, UnicodeError, ValueError):
        raise OSError(errno.ENODEV, f"this host has no interface {zone}") from None
