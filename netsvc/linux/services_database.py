"""The services that this host knows, with their aliases, which Python's ``socket`` leaves out: getservbyname(3)."""

from __future__ import annotations

import ctypes
import socket
from dataclasses import dataclass
from typing import Any

#: The protocols whose services are looked up, in this order.
PROTOCOLS = ("tcp", "udp", "sctp", "dccp")


class _Entry(ctypes.Structure):
    """``struct servent`` of <netdb.h>."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("aliases", ctypes.POINTER(ctypes.c_char_p)),
        ("port", ctypes.c_int),
        ("protocol", ctypes.c_char_p),
    )


def _function(name: str, *arguments: Any) -> Any:
    function = getattr(ctypes.CDLL(None), name)
    function.argtypes = arguments
    function.restype = ctypes.POINTER(_Entry)
    return function


_by_name = _function("getservbyname", ctypes.c_char_p, ctypes.c_char_p)
_by_port = _function("getservbyport", ctypes.c_int, ctypes.c_char_p)


@dataclass(frozen=True, slots=True)
class NamedService:
    """A service with its port.

    :ivar name: its official name.
    :ivar aliases: its other names.
    :ivar protocol: one of ``PROTOCOLS``.
    """

    name: str
    aliases: tuple[str, ...]
    port: int
    protocol: str


def services_named(name: str, protocol: str = "") -> list[NamedService]:
    """Return the services with this name or alias.

    :param protocol: one protocol; empty for all.
    """
    try:
        encoded = name.encode()
    except UnicodeError:
        return []
    return [] if b"\0" in encoded else _found(_by_name, encoded, protocol)


def services_at(port: int, protocol: str = "") -> list[NamedService]:
    """Return the services at this port, 0 to 65,535.

    :param protocol: one protocol; empty for all.
    """
    return _found(_by_port, socket.htons(port), protocol)


def _found(look_up: Any, key: object, protocol: str) -> list[NamedService]:
    found = []
    for each in (protocol,) if protocol else PROTOCOLS:
        entry = look_up(key, each.encode("ascii"))
        if entry:
            found.append(_service(entry.contents))
    return found


def _service(entry: Any) -> NamedService:
    aliases: list[str] = []
    while entry.aliases and entry.aliases[len(aliases)]:
        aliases.append(_text(entry.aliases[len(aliases)]))
    return NamedService(_text(entry.name), tuple(aliases), socket.ntohs(entry.port & 0xFFFF), _text(entry.protocol))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
