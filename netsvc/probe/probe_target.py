"""The target of a probe, as it is typed: ``192.0.2.1``, ``stamp/host:862``, ``tcp/host:443``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from netsvc.errors import NetsvcError
from netsvc.wire.address import AddressError, format_address, is_ip, parse_address

#: The protocols: STAMP (RFC 8762), netsvc's timestamps, an echo of datagrams (RFC 862), a connection, a TLS handshake.
ProbeProtocol = Literal["stamp", "udp", "udp-echo", "tcp", "tls"]

PROBE_PROTOCOLS: tuple[ProbeProtocol, ...] = get_args(ProbeProtocol)

#: The ports that a target has if none is typed.
DEFAULT_PORTS: dict[ProbeProtocol, int] = {"stamp": 862, "udp": 520, "udp-echo": 7}


class ProbeTargetError(NetsvcError, ValueError):
    """The text is not a target; the message says why, and what to write."""


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """A protocol, a host and a port.

    :param protocol: what the target is asked.
    :param host: a name, or an IP address without brackets.
    :param port: 1 to 65,535.
    """

    protocol: ProbeProtocol
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.protocol}/{format_address(self.host, self.port)}"


def parse_probe_target(text: str, default: ProbeProtocol = "stamp") -> ProbeTarget:
    """Parse ``[PROTOCOL/]HOST[:PORT]``.

    An IPv6 address has brackets if a port follows. It may have none otherwise.

    :param default: the protocol if the text has none.
    :raises ProbeTargetError: and nothing else, whatever the text.
    """
    if "://" in text:
        raise ProbeTargetError(f"{text}: a URL is no target; write tls/HOST:443 or tcp/HOST:80")
    name, slash, where = text.partition("/")
    protocol = default
    if slash:
        known = next((protocol for protocol in PROBE_PROTOCOLS if protocol == name.lower()), None)
        if known is None:
            listed = f"{', '.join(PROBE_PROTOCOLS[:-1])} nor {PROBE_PROTOCOLS[-1]}"
            raise ProbeTargetError(f"{text}: {name!r} is neither {listed}; write stamp/{where or 'HOST'}")
        protocol = known
    else:
        where = text
    host, port = _host_and_port(where, text)
    if port is None:
        port = DEFAULT_PORTS.get(protocol)
    if port is None:
        raise ProbeTargetError(f"{text}: the port is missing; write {protocol}/{format_address(host, 443)}")
    if not port:
        raise ProbeTargetError(f"{text}: there is no port 0; choose 1 to 65535")
    return ProbeTarget(protocol, host, port)


def _host_and_port(where: str, text: str) -> tuple[str, int | None]:
    bare = where[1:-1] if where.startswith("[") and where.endswith("]") else where
    if is_ip(bare):
        return bare, None
    if where.isdecimal():
        raise ProbeTargetError(f"{text}: the host is missing; write HOST:{where}")
    try:
        # A name without a port gets one, which is checked with the name and then forgotten.
        parsed = parse_address(where if ":" in where else f"{where}:1")
    except AddressError as e:
        raise ProbeTargetError(f"{text}: {e}" if where else f"{text}: the host is missing; write HOST:PORT") from None
    return parsed.host or "", parsed.port if ":" in where else None
