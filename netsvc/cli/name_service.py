"""The name services of this host: its own name and addresses, and look-ups of names, addresses and ports of services.

Every function except :func:`address_kind` asks the system. Those that look up names may block.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from pathlib import Path

from netsvc.linux.interface_addresses import interface_addresses
from netsvc.wire.zones import needs_zone, zoned_host

_RESOLV_CONF = Path("/etc/resolv.conf")

#: The name server that the system's resolver asks if none is configured: resolv.conf(5).
_DEFAULT_NAME_SERVER = "127.0.0.1"


def address_kind(address: str) -> str:
    """Return the kind of an IP address: loopback, unspecified, multicast, link-local, private, public or reserved.

    :raises ValueError: if the text is not an IP address.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    for kind in ("loopback", "unspecified", "multicast", "link_local"):
        if getattr(ip, f"is_{kind}"):
            return kind.replace("_", "-")
    # Shared (100.64.0.0/10, RFC 6598) and reserved addresses are neither private nor global.
    return "private" if ip.is_private else "public" if ip.is_global else "reserved"


def host_name() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def host_addresses() -> list[str]:
    """Return the addresses of the interfaces of this host, IPv4 first. A link-local address has its zone."""
    with suppress(OSError):  # the system does not tell
        return list(
            dict.fromkeys(
                f"{each.address}%{each.interface}" if needs_zone(each.address) else each.address
                for each in interface_addresses()
            )
        )
    return []


def addresses_of(name: str, family: int = 0) -> list[str]:
    """Return the addresses of ``name``; an empty list if it has none. This blocks until the resolver answers.

    :param family: ``AF_INET`` or ``AF_INET6`` for the addresses of this family only; 0 for all.
    """
    try:
        found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    # A link-local address has no meaning without its zone.
    hosts = [zoned_host(str(address[0]), (*address, 0, 0)[3]) for *_, address in found]
    return list(dict.fromkeys(hosts))


def names_of(address: str) -> list[str]:
    """Return the names of an IP address; an empty list if it has none. This blocks until the resolver answers."""
    try:
        name, aliases, _ = socket.gethostbyaddr(address)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys([name, *aliases]))


def name_servers(resolv_conf: Path = _RESOLV_CONF) -> list[str]:
    """Return the addresses of the name servers that this host asks."""
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    found = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]
    return found or [_DEFAULT_NAME_SERVER]


def port_of(service: str, transport: str) -> int | None:
    """Return the port of a service, from the services file of this host; None if it is unknown.

    :param transport: ``tcp`` or ``udp``.
    """
    with suppress(OSError, UnicodeError):
        return socket.getservbyname(service, transport)
    return None
