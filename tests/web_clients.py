"""Clients of a web service for tests: requests, answers and frames as bytes, without the libraries of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: The opcodes of frames (RFC 6455, section 5.2).
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

_MASK = b"\x12\x34\x56\x78"

#: The key of RFC 6455, section 1.3, and what a server answers to it.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. The names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Frame:
    """A frame of a server."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """The code of a frame that closes; 1005 if it has none."""
        return int.from_bytes(self.payload[:2]) if self.payload else 1005


def request(target: str = "/", method: str = "GET", *, version: str = "1.1", **headers: str) -> bytes:
    """Return a request. Names of headers have ``_`` for ``-``; an empty value leaves the header out."""
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in {"host": "localhost", **headers}.items() if value]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def upgrade(target: str = "/ws", method: str = "GET", *, version: str = "1.1", **headers: str) -> bytes:
    """Return a request for a WebSocket, as a browser sends it, with some headers changed."""
    usual = {
        "connection": "keep-alive, Upgrade",
        "upgrade": "websocket",
        "sec_websocket_version": "13",
        "sec_websocket_key": KEY,
        "sec_websocket_extensions": "permessage-deflate",
        "sec_websocket_protocol": "chat.v1.netsvc",
    }
    return request(target, method, version=version, **{**usual, **headers})


def answers(data: bytes, *methods: str) -> list[Answer]:
    """Return the answers in a stream, which holds nothing else.

    :param methods: of the requests, by default all GET.
    """
    found = []
    expected = iter(methods)
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        names = [line.partition(": ")[0].lower() for line in lines]
        assert len(set(names)) == len(names), f"a header is there twice: {names}"
        headers = {line.partition(": ")[0].lower(): line.partition(": ")[2] for line in lines}
        has_body = next(expected, "GET") != "HEAD" and int(status) not in (101, 304)
        size = int(headers["content-length"]) if has_body else 0
        assert len(data) >= size
        body, data = data[:size], data[size:]
        found.append(Answer(int(status), headers, body))
    return found


def answer(data: bytes, method: str = "GET") -> Answer:
    """Return the only answer in a stream."""
    [found] = answers(data, method)
    return found


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, is_masked: bool = True, reserved: int = 0, length: int = -1
) -> bytes:
    """Return a frame.

    :param is_masked: as all frames of a client are, and none of a server.
    :param reserved: the reserved bits.
    :param length: what the header says, by default the truth.
    """
    size = len(payload) if length < 0 else length
    mask_bit = 0x80 * is_masked
    header = bytes([0x80 * fin | reserved << 4 | opcode])
    if size < 126:
        header += bytes([mask_bit | size])
    elif size < 65_536:
        header += bytes([mask_bit | 126]) + size.to_bytes(2)
    else:
        header += bytes([mask_bit | 127]) + size.to_bytes(8)
    if not is_masked:
        return header + payload
    return header + _MASK + bytes(byte ^ _MASK[place % 4] for place, byte in enumerate(payload))


def close(code: int, reason: str = "") -> bytes:
    """Return the frame with which a client closes."""
    return frame(CLOSE, code.to_bytes(2) + reason.encode())


def frames(data: bytes) -> list[Frame]:
    """Return the frames of a server in a stream, which holds nothing else. Each is a whole message."""
    found = []
    while data:
        assert data[0] & 0xF0 == 0x80, "not a whole message, or with reserved bits"
        opcode, size = data[0] & 0x0F, data[1]
        assert size < 128, "a server masks nothing"
        extended = {126: 2, 127: 8}.get(size, 0)
        start = 2 + extended
        if extended:
            size = int.from_bytes(data[2:start])
        assert len(data) >= start + size
        found.append(Frame(opcode, data[start : start + size]))
        data = data[start + size :]
    return found
