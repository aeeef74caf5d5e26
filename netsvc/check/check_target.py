"""The target of a check, as it is typed: ``tcp/443``, ``tls/https``, ``udp/520``, ``443``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from netsvc.errors import NetsvcError

#: ``tls`` is TCP with a TLS handshake.
CheckProtocol = Literal["tcp", "tls", "udp"]

PROTOCOLS: tuple[CheckProtocol, ...] = get_args(CheckProtocol)

_PORT_MAX = 65_535


class CheckTargetError(NetsvcError, ValueError):
    """The text is not a target; the message says why, and what to write."""


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """A protocol and a port from 1 to 65,535.

    :param text: the target as it was typed.
    """

    text: str
    protocol: CheckProtocol
    port: int


def parse_check_target(text: str, port_of: Callable[[str, str], int | None]) -> CheckTarget:
    """Parse ``PROTOCOL/PORT`` or ``PORT``, which means ``tcp/PORT``. The port may be the name of a service.

    :param port_of: returns the port of a service and a transport, ``tcp`` or ``udp``; None if it is unknown.
    :raises CheckTargetError: and nothing else, whatever the text.
    """
    name, slash, port = text.rpartition("/")
    protocol = next((known for known in PROTOCOLS if known == name.lower()), None) if slash else "tcp"
    if protocol is None:
        if port.lower() in PROTOCOLS:
            raise CheckTargetError(f"{text}: the protocol comes first; write {port.lower()}/{name}")
        raise CheckTargetError(f"{text}: {name!r} is neither tcp, tls nor udp; write tcp/{port or 443}")
    if not re.fullmatch(r"[0-9]+", port):
        return CheckTarget(text, protocol, _service_port(text, protocol, port, port_of))
    number = int(port) if len(port) < 10 else _PORT_MAX + 1
    if not 0 < number <= _PORT_MAX:
        raise CheckTargetError(f"{text}: there is no port {port}; choose 1 to 65535")
    return CheckTarget(text, protocol, number)


def _service_port(text: str, protocol: CheckProtocol, name: str, port_of: Callable[[str, str], int | None]) -> int:
    if not name:
        raise CheckTargetError(f"{text}: the port is missing; write {protocol}/443")
    found = port_of(name, "udp" if protocol == "udp" else "tcp")
    if found is None:
        raise CheckTargetError(
            f"{text}: this host knows no service {name!r}; write a port number, as in {protocol}/443"
        )
    return found
