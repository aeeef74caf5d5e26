"""The PROXY protocol header, versions 1 and 2: a proxy sends it first, to name the client behind it.

The format is HAProxy's "The PROXY protocol", sections 2.1 and 2.2 (2020/03/05). Pass the bytes that arrive to
``receive``, in any pieces.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from netsvc.errors import NetsvcError

#: Bytes of the longest header: of version 1 with its line end, and of version 2 with addresses and extensions.
V1_MAX = 107
V2_MAX = 2_048

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_ADDRESSES = {_TCP4: (socket.AF_INET, 4), _TCP6: (socket.AF_INET6, 16)}
_PORT = re.compile(r"0|[1-9]\d{0,4}")


class ProxyHeaderError(NetsvcError, ValueError):
    """The bytes are not a PROXY header. Nothing more can be read from that connection.

    The message says why. It is one of a few fixed texts and repeats nothing that the peer sent.
    """


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A parsed header.

    :param source: the address and port of the client; None if the header names none, as in a proxy's health check.
    :param rest: the bytes that arrived after the header.
    """

    source: tuple[str, int] | None
    rest: bytes


class ProxyHeaderParser:
    """Parses one header. It keeps at most :data:`V2_MAX` bytes and those of one ``receive``."""

    def __init__(self) -> None:
        self._buffer = b""

    def receive(self, data: bytes) -> ProxyHeader | None:
        """Accept the bytes that one read returned. Return the header once it is complete, and None before.

        :raises ProxyHeaderError: as soon as the bytes cannot be a header.
        """
        self._buffer += data
        if self._buffer.startswith(_V1[: len(self._buffer)]):
            return self._version_1()
        if self._buffer.startswith(_V2[: len(self._buffer)]):
            return self._version_2()
        raise ProxyHeaderError("the connection does not begin with one")

    def _version_1(self) -> ProxyHeader | None:
        end = self._buffer.find(b"\r\n", 0, V1_MAX)
        if end < 0:
            if len(self._buffer) >= V1_MAX:
                raise ProxyHeaderError("the header has no end")
            return None
        try:
            words = self._buffer[:end].decode("ascii").split(" ")
        except UnicodeDecodeError:
            raise ProxyHeaderError("the header is not ASCII") from None
        rest = self._buffer[end + 2 :]
        match words:
            case ["PROXY", "UNKNOWN", *_]:
                return ProxyHeader(None, rest)
            case ["PROXY", "TCP4" | "TCP6" as family, source, destination, source_port, destination_port]:
                address = IPv4Address if family == "TCP4" else IPv6Address
                try:
                    host = str(address(source))
                    address(destination)
                except ValueError:
                    raise ProxyHeaderError("an address in the header is wrong") from None
                if "%" in host:  # a zone, which may contain any text
                    raise ProxyHeaderError("an address in the header is wrong")
                _port(destination_port)
                return ProxyHeader((host, _port(source_port)), rest)
        raise ProxyHeaderError("the header is malformed")

    def _version_2(self) -> ProxyHeader | None:
        if len(self._buffer) < _V2_FIXED:
            return None
        command, family = self._buffer[12], self._buffer[13]
        length = _V2_FIXED + int.from_bytes(self._buffer[14:16], "big")
        if command not in (_LOCAL, _PROXY):
            raise ProxyHeaderError("the header has an unknown version or command")
        if length > V2_MAX:
            raise ProxyHeaderError("the header is too long")
        known = _ADDRESSES.get(family) if command == _PROXY else None
        if known and length < _V2_FIXED + 2 * known[1] + 4:
            raise ProxyHeaderError("the header is too short for its addresses")
        if len(self._buffer) < length:
            return None
        rest = self._buffer[length:]
        if known is None:
            return ProxyHeader(None, rest)
        kind, size = known
        packed = self._buffer[_V2_FIXED:]
        port = int.from_bytes(packed[2 * size : 2 * size + 2], "big")
        return ProxyHeader((socket.inet_ntop(kind, packed[:size]), port), rest)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65_535:
        raise ProxyHeaderError("a port in the header is wrong")
    return int(text)
