"""The header that a proxy puts before what it passes on: who really connected. PROXY protocol, versions 1 and 2.

After HAProxy's "The PROXY protocol", sections 2.1 and 2.2 (2020/03/05). Feed what arrives with ``receive``, however
the network cuts it.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

#: The longest header of version 1, with its line end, and of version 2 that is taken: addresses and some extensions.
V1_MAX = 107
V2_MAX = 2_048

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESSES = {_TCP4: (socket.AF_INET, 4), _TCP6: (socket.AF_INET6, 16)}
_PORT = re.compile(r"0|[1-9]\d{0,4}")


class ProxyError(ValueError):
    """What came is no header. Nothing more can be read from that connection.

    The text says why, and is one of a few: nothing in it comes from the peer.
    """


@dataclass(frozen=True, slots=True)
class Proxied:
    """What a header said.

    :param source: who connected to the proxy, (address, port); None where it does not say, as in its health checks.
    :param rest: the bytes that came behind the header.
    """

    source: tuple[str, int] | None
    rest: bytes


class ProxyReader:
    """Reads one header. It holds at most :data:`V2_MAX` bytes and what one ``receive`` brought."""

    def __init__(self) -> None:
        self._buffer = b""

    def receive(self, data: bytes) -> Proxied | None:
        """Take what one read returned. Returns what the header said once it is whole, and None before.

        :raises ProxyError: as soon as it is sure that this is no header.
        """
        self._buffer += data
        if self._buffer.startswith(_V1[: len(self._buffer)]):
            return self._version_1()
        if self._buffer.startswith(_V2[: len(self._buffer)]):
            return self._version_2()
        raise ProxyError("no PROXY header")

    def _version_1(self) -> Proxied | None:
        end = self._buffer.find(b"\r\n", 0, V1_MAX)
        if end < 0:
            if len(self._buffer) >= V1_MAX:
                raise ProxyError("a PROXY header without an end")
            return None
        try:
            words = self._buffer[:end].decode("ascii").split(" ")
        except UnicodeDecodeError:
            raise ProxyError("a PROXY header that is not ASCII") from None
        rest = self._buffer[end + 2 :]
        match words:
            case ["PROXY", "UNKNOWN", *_]:
                return Proxied(None, rest)
            case ["PROXY", "TCP4" | "TCP6" as family, source, destination, source_port, destination_port]:
                address = IPv4Address if family == "TCP4" else IPv6Address
                try:
                    host = str(address(source))
                    address(destination)
                except ValueError:
                    raise ProxyError("a PROXY header with a wrong address") from None
                if "%" in host:  # a zone, in which anything may stand
                    raise ProxyError("a PROXY header with a wrong address")
                _port(destination_port)
                return Proxied((host, _port(source_port)), rest)
        raise ProxyError("a PROXY header that is not as it should be")

    def _version_2(self) -> Proxied | None:
        if len(self._buffer) < _V2_FIXED:
            return None
        command, family = self._buffer[12], self._buffer[13]
        length = _V2_FIXED + int.from_bytes(self._buffer[14:16], "big")
        if command not in (_LOCAL, _PROXY):
            raise ProxyError("a PROXY header of an unknown version or command")
        if length > V2_MAX:
            raise ProxyError("a PROXY header that is too long")
        known = _ADDRESSES.get(family) if command == _PROXY else None
        if known and length < _V2_FIXED + 2 * known[1] + 4:
            raise ProxyError("a PROXY header too short for its addresses")
        if len(self._buffer) < length:
            return None
        rest = self._buffer[length:]
        if known is None:
            return Proxied(None, rest)
        kind, size = known
        packed = self._buffer[_V2_FIXED:]
        port = int.from_bytes(packed[2 * size : 2 * size + 2], "big")
        return Proxied((socket.inet_ntop(kind, packed[:size]), port), rest)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65_535:
        raise ProxyError("a PROXY header with a wrong port")
    return int(text)
