"""The name services of this host: its own name and addresses, and look-ups of names, addresses, services and ports.

Every function except :func:`address_kind` asks the system. Those that look up names may block.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_SIOCGIFADDR = 0x8915  # netdevice(7)


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
    """Return the addresses of the interfaces of this host, IPv4 first."""
    return list(dict.fromkeys([*_interface_ipv4(), *_interface_ipv6()]))


def addresses_of(name: str) -> list[str]:
    """Return the addresses of ``name``; an empty list if it has none. This blocks until the resolver answers."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def names_of(address: str) -> list[str]:
    """Return the names of an IP address; an empty list if it has none. This blocks until the resolver answers."""
    try:
        name, aliases, _ = socket.gethostbyaddr(address)
    except (OSError, UnicodeError):
        return []
    return [name, *aliases]


def ports_of(service: str) -> list[str]:
    """Return the ports of a service, such as ``443/tcp``, from the services file of this host."""
    ports = []
    for protocol in ("tcp", "udp"):
        with suppress(OSError, UnicodeError):
            ports.append(f"{socket.getservbyname(service, protocol)}/{protocol}")
    return ports


def port_of(service: str, transport: str) -> int | None:
    """Return the port of a service, from the services file of this host; None if it is unknown.

    :param transport: ``tcp`` or ``udp``.
    """
    with suppress(OSError, UnicodeError):
        return socket.getservbyname(service, transport)
    return None


def services_of(port: int) -> list[str]:
    """Return the services of a port, such as ``https/tcp``, from the services file of this host."""
    services = []
    for protocol in ("tcp", "udp"):
        with suppress(OSError):
            services.append(f"{socket.getservbyport(port, protocol)}/{protocol}")
    return services


def _interface_ipv4() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with suppress(OSError):  # an interface without an IPv4 address
                yield socket.inet_ntoa(fcntl.ioctl(probe, _SIOCGIFADDR, request)[20:24])


def _interface_ipv6() -> Iterator[str]:
    with suppress(OSError):  # a host without IPv6, or not Linux
        for line in Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines():
            digits, *_, interface = line.split()
            address = ipaddress.IPv6Address(bytes.fromhex(digits))
            yield f"{address}%{interface}" if address.is_link_local else str(address)
