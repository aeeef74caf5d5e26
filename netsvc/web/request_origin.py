"""From where a request comes: the page that made it, and the client behind a reverse proxy."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address

from netsvc.limits.networks import NetworkRules

_DEFAULT_PORTS = {"http": 80, "https": 443}

# Not urlsplit(): it accepts user names, drops tabs, and takes what follows the host for something else.
_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?/?")


def parse_origin(text: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port of an origin such as ``https://chat.example.org``; None if it is none."""
    match = _ORIGIN.fullmatch(text.lower())
    if match is None:
        return None
    scheme, name, number = match.groups()
    port = _DEFAULT_PORTS[scheme] if number is None else int(number)
    return (scheme, name.strip("[]"), port) if 0 < port < 65_536 else None


def is_allowed_origin(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Whether a page may open a WebSocket here (RFC 6455, section 10.2).

    :param origin: the ``Origin`` header; empty if there is none, as from a program, which is allowed.
    :param host: the ``Host`` header.
    :param allowed: the origins of the pages that may. If it is empty, the page must have the same host and port as
        the server.
    """
    if not origin:
        return True
    parsed = parse_origin(origin)
    if parsed is None:
        return False
    if allowed:
        return parsed in map(parse_origin, allowed)
    scheme, name, port = parsed
    return (scheme, name, port) == parse_origin(f"{scheme}://{host}")


def forwarded_host(header: str, proxies: NetworkRules, proxy: str) -> str:
    """Return the address of the client, as reverse proxies name it in ``X-Forwarded-For``.

    Each proxy appends the address of its peer. The client can put anything before that. So the last address that is no
    proxy counts. If all are proxies, the client is in their network, and the first one counts. Without an address, the
    proxy itself asks.

    :param proxy: the address of the peer.
    """
    client = proxy
    for part in reversed(header.split(",")):
        host = _address(part.strip())
        if host is None:
            break
        client = host
        if not proxies.allows(host):
            break
    return client


def _address(text: str) -> str | None:
    """Return an IP address without its port; None if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:  # it may be any text, and means nothing here
            return None
        address = address.ipv4_mapped or address
    return str(address)
