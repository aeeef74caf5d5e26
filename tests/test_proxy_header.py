from __future__ import annotations

import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.wire.proxy_header import V1_MAX, V2_MAX, ProxyHeader, ProxyHeaderError, ProxyHeaderParser

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def v2(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def addresses(kind: int, source: str, port: int) -> bytes:
    return (
        socket.inet_pton(kind, source)
        + socket.inet_pton(kind, "::1" if kind == socket.AF_INET6 else "192.0.2.9")
        + port.to_bytes(2, "big")
        + (1314).to_bytes(2, "big")
    )


HEADERS = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.9 40000 1314\r\n", ("192.0.2.1", 40_000)),
    (b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n", ("2001:db8::1", 1)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (v2(0x21, 0x11, addresses(socket.AF_INET, "192.0.2.1", 40_000)), ("192.0.2.1", 40_000)),
    (v2(0x21, 0x21, addresses(socket.AF_INET6, "2001:db8::1", 1)), ("2001:db8::1", 1)),
    (v2(0x21, 0x11, addresses(socket.AF_INET, "192.0.2.1", 7) + b"\x04\x00\x01x"), ("192.0.2.1", 7)),  # and a TLV
    (v2(0x20, 0x00, b""), None),  # the proxy's own health check
    (v2(0x20, 0x11, addresses(socket.AF_INET, "192.0.2.1", 7)), None),
    (v2(0x21, 0x31, bytes(216)), None),  # a UNIX socket
]


@given(st.sampled_from(HEADERS), st.lists(st.integers(0, 250)).map(sorted), st.binary(max_size=20))
def test_a_header_is_parsed_correctly_at_every_split(
    header_and_source: tuple[bytes, tuple[str, int] | None], places: list[int], rest: bytes
) -> None:
    header, source = header_and_source
    stream = header + rest
    parser = ProxyHeaderParser()
    parsed: ProxyHeader | None = None
    payload = b""
    for start, end in pairwise([0, *places, len(stream)]):
        piece = stream[start:end]
        if parsed is None:
            parsed = parser.receive(piece)
            assert (parsed is None) == (end < len(header))
            payload += parsed.rest if parsed else b""
        else:
            payload += piece
    assert parsed is not None
    assert (parsed.source, payload) == (source, rest)


def parse_byte_by_byte(stream: bytes) -> None:
    parser = ProxyHeaderParser()
    for byte in stream:
        assert parser.receive(bytes([byte])) is None


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.0\r\n",
        b"PROXX",
        b"\r\n\r\n\x00\r\nQUIX",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 40000\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 40000 1314 1\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.9 40000 1314\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.9 40000 1314\r\n",
        b"PROXY TCP6 192.0.2.1 ::1 40000 1314\r\n",
        b"PROXY TCP6 fe80::1%\n-forged-line ::1 40000 1314\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 65536 1314\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 040 1314\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.9 -1 1314\r\n",
        b"PROXY  TCP4 192.0.2.1 192.0.2.9 1 1314\r\n",
        b"PROXY SCTP 192.0.2.1 192.0.2.9 1 1314\r\n",
        b"PROXY TCP4 192.0.2.\xff 192.0.2.9 1 1314\r\n",
        b"PROXY " + b"x" * V1_MAX,
        v2(0x11, 0x11, b""),
        v2(0x22, 0x11, b""),
        v2(0x21, 0x11, b"x" * 11),
        v2(0x21, 0x21, b"x" * 35),
        v2(0x21, 0x11, b"x" * V2_MAX),
    ],
)
def test_an_invalid_header_is_refused(stream: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        ProxyHeaderParser().receive(stream)
    with pytest.raises(ProxyHeaderError):
        parse_byte_by_byte(stream)


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"PROXY ", b"TCP4 ", b"\r\n", SIGNATURE, b"\x21\x11"])))
def test_any_input_is_parsed_or_refused_within_the_maximum_header_size(pieces: list[bytes]) -> None:
    parser = ProxyHeaderParser()
    received = 0
    for piece in pieces:
        received += len(piece)
        try:
            if parser.receive(piece) is not None:
                return
        except ProxyHeaderError:
            return
        assert received <= V2_MAX
