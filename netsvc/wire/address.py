"""Addresses in their usual notation: ``1314``, ``127.0.0.1:1314``, ``[::1]:1314``, ``example.org:1314``."""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any

from netsvc.errors import NetsvcError
from netsvc.wire.zones import zoned_host

_PORT_MAX = 65_535
_BRACKETED = re.compile(r"\[([^\[\]]*)\]:(.*)", re.DOTALL)


class AddressError(NetsvcError, ValueError):
    """The text is not an address; the message says why and shows the form of one."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A port from 0 to 65,535, and a host or None. The host is a name, or an IP address without brackets."""

    host: str | None
    port: int

    def __str__(self) -> str:
        return format_address(self.host or "", self.port)


def parse_address(text: str) -> HostPort:
    """Parse ``PORT``, ``HOST:PORT`` or ``[IPV6]:PORT``.

    :raises AddressError: and nothing else, whatever the text.
    """
    if match := _BRACKETED.fullmatch(text):
        host, port = match.groups()
        if not is_ip(host) or ":" not in host:
            raise AddressError(f"{host!r} is not an IPv6 address; write [::1]:1314")
        return HostPort(host, _parse_port(port))
    host, colon, port = text.rpartition(":")
    if not colon:
        return HostPort(None, _parse_port(text))
    if ":" in host:
        raise AddressError("an IPv6 address needs brackets, as in [::1]:1314")
    if not host:
        raise AddressError("the host is missing; write HOST:PORT, or PORT alone")
    if not _is_name(host):
        raise AddressError(f"{host[:64]!r} is not a host name")
    return HostPort(host, _parse_port(port))


def is_ip(host: str) -> bool:
    """Whether ``host`` is an IPv4 address, or an IPv6 address with or without a zone such as ``%eth0``."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def family_of(address: str) -> int:
    """Return the family of an IP address: ``AF_INET`` or ``AF_INET6``."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def format_host(host: str) -> str:
    """Return ``host``; an IPv4 address inside IPv6 (``::ffff:192.0.2.1``) becomes the IPv4 address."""
    return host.removeprefix("::ffff:") if "." in host else host


def format_address(host: str, port: int) -> str:
    """Return ``host:port`` as it would be typed; an IPv4 address inside IPv6 becomes the IPv4 address."""
    host = format_host(host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if host else str(port)


def _is_name(host: str) -> bool:
    """Whether ``host`` can be looked up: labels of 1 to 63 bytes, 253 in all, IDNA for those that are not ASCII."""
    try:
        encoded = host.encode("idna")
    except UnicodeError:
        return False
    return len(encoded) <= 253 and not any(byte <= 32 or byte == 127 for byte in encoded)


def _parse_port(text: str) -> int:
    # Not int(): it accepts spaces, signs, underscores and the digits of every script.
    if not re.fullmatch(r"[0-9]+", text):
        raise AddressError(f"{text!r} is not a port number (0 to 65535)")
    port = int(text) if len(text) < 10 else _PORT_MAX + 1
    if port > _PORT_MAX:
        raise AddressError(f"there is no port {text} (the range is 0 to 65535)")
    return port


def format_peer(address: object) -> str:
    """Return the address of a peer as it would be typed; ``a UNIX socket`` if it has none.

    :param address: the result of a transport's ``getPeer``.
    """
    host, port = getattr(address, "host", None), getattr(address, "port", 0)
    if host is None:
        return "a UNIX socket"
    return format_address(zoned_host(host, getattr(address, "scopeID", 0)), port)


def format_socket_address(address: tuple[Any, ...]) -> str:
    """Return an address of Python's sockets, such as the peer of a datagram, as it would be typed."""
    host, port, *flow_and_scope = address
    return format_address(zoned_host(host, flow_and_scope[1] if len(flow_and_scope) > 1 else 0), port)
