"""The messages in a WebSocket stream (RFC 6455), bounded in size and in the work for each read.

wsproto checks frames, masks, UTF-8 and close codes. ``twisted.web.websocket`` drives it as well, but joins a message
without a bound and reads all frames of a read at once. Here the caller pulls one frame at a time, and a frame is given
to wsproto when it is complete. A frame that would make its message too long is refused by its header.

No extension is offered: ``permessage-deflate`` (RFC 7692) keeps up to 300 KiB for each connection, and some hundred
bytes can become a message of megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Event, Message, Ping, Pong, TextMessage
from wsproto.frame_protocol import CloseReason, FrameProtocol

#: Bytes of the longest message, by default.
MESSAGE_MAX = 16_384

#: Number of fragments after which those of a message are joined. 5,461 fragments of one character would take 690 KB.
_JOIN_INTERVAL = 512

#: Frames that wait and are counted.
_WAITING_MAX = 256

#: Bytes of the longest payload of a control frame.
_CONTROL_MAX = 125


@dataclass(frozen=True, slots=True)
class Text:
    """A message of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Binary:
    """A message of bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PingReceived:
    """The peer asks for a sign of life.

    :ivar payload: is to be sent back.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The peer gave a sign of life."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """A frame whose message is not complete."""


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer closes. Nothing follows.

    :ivar code: its close code; 1005 if it gave none.
    """

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Violation:
    """The peer broke the protocol. Nothing follows.

    :ivar code: the close code that says so.
    """

    code: int
    reason: str


WebSocketMessage: TypeAlias = Text | Binary | PingReceived | PongReceived | Fragment | CloseReceived | Violation


class WebSocketMessages:
    """Finds the messages in the stream of one peer.

    :param client: whether this side is the client. Only the frames of a client are masked.
    :param message_max: bytes of the longest message. A longer one is a violation with the code 1009.
    """

    def __init__(self, *, client: bool = False, message_max: int = MESSAGE_MAX) -> None:
        self._connection = Connection(ConnectionType.CLIENT if client else ConnectionType.SERVER)
        self._message_max = message_max
        self._buffer = bytearray()
        self._start = 0  # of the first frame that was not read yet
        self._waiting = 0  # complete frames from there on, as far as they were counted
        self._counted = 0  # the end of those
        self._parts: list[str | bytes] = []  # of the message that is not complete
        self._size = 0  # of them, in bytes
        self._is_over = False

    def receive(self, data: bytes) -> None:
        """Accept the bytes that one read returned."""
        del self._buffer[: self._start]
        self._counted -= self._start
        self._start = 0
        if not self._is_over:
            self._buffer += data

    def next_message(self) -> WebSocketMessage | None:
        """Return the next frame, or the message that it completes; None if more bytes must arrive first."""
        if self._is_over:
            return None
        size = _frame_size(self._buffer, self._start)
        if size is None:
            return None
        header, payload = size
        if self._size + payload > self._message_max and payload > _CONTROL_MAX:
            return self._too_big()
        end = self._start + header + payload
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[self._start : end])
        self._start = end
        if self._waiting:
            self._waiting -= 1
        else:
            self._counted = end
        self._connection.receive_data(frame)
        return self._message(next(self._connection.events()))

    def waiting(self) -> int:
        """Return how many complete frames were not returned yet, or 256 if there are more."""
        # A read may have 10,000 frames, and each of them may have to wait for its turn. To count all takes 5 ms.
        while self._waiting < _WAITING_MAX and (size := _frame_size(self._buffer, self._counted)) is not None:
            end = self._counted + sum(size)
            if end > len(self._buffer):
                break
            self._counted = end
            self._waiting += 1
        return self._waiting

    def has_partial(self) -> bool:
        """Whether a message has begun and has not ended."""
        return bool(self._parts) or len(self._buffer) > self._start

    def end(self) -> WebSocketMessage | None:
        """Return None: the end of the stream completes no message."""
        return None

    def _message(self, event: Event) -> WebSocketMessage:
        match event:
            case Message():
                return self._data(event)
            case Ping():
                return PingReceived(bytes(event.payload))
            case Pong():
                return PongReceived()
            case CloseConnection(code=code, reason=reason):
                self._finish()
                # wsproto reports a violation as if the peer had closed. Only then its own state has not changed.
                if self._connection.state is ConnectionState.OPEN:
                    return Violation(int(code), reason or "")
                return CloseReceived(int(code), reason or "")
            case _:
                raise TypeError(f"no message for {event!r}")

    def _data(self, event: Message[Any]) -> WebSocketMessage:
        data: str | bytes = event.data if isinstance(event, TextMessage) else bytes(event.data)
        self._size += len(data.encode()) if isinstance(data, str) else len(data)
        if self._size > self._message_max:
            return self._too_big()
        if data or not self._parts:
            self._parts.append(data)
        if not event.message_finished:
            if len(self._parts) == _JOIN_INTERVAL:
                self._parts = [_joined(self._parts)]
            return Fragment()
        whole, self._parts, self._size = _joined(self._parts), [], 0
        return Text(whole) if isinstance(whole, str) else Binary(whole)

    def _too_big(self) -> Violation:
        self._finish()
        return Violation(int(CloseReason.MESSAGE_TOO_BIG), f"at most {self._message_max:,} bytes")

    def _finish(self) -> None:
        self._is_over = True
        self._buffer.clear()
        self._parts.clear()
        self._start = self._waiting = self._counted = 0


def _joined(parts: list[str | bytes]) -> str | bytes:
    """Return the content of the fragments of a message. All of them are text, or none."""
    if isinstance(parts[0], str):
        return "".join(part for part in parts if isinstance(part, str))
    return b"".join(part for part in parts if isinstance(part, bytes))


def _frame_size(buffer: bytearray, start: int) -> tuple[int, int] | None:
    """Return the bytes of the header and of the payload of a frame (RFC 6455, section 5.2); None if unknown yet."""
    if len(buffer) < start + 2:
        return None
    short = buffer[start + 1] & 0x7F
    extended = {126: 2, 127: 8}.get(short, 0)
    header = 2 + extended + (4 if buffer[start + 1] & 0x80 else 0)
    if len(buffer) < start + 2 + extended:
        return None
    return header, int.from_bytes(buffer[start + 2 : start + 2 + extended]) if extended else short


# Whole messages depend on no state, so all connections share these. Only a client masks its frames.
_FRAMES = FrameProtocol(client=False, extensions=[])
_CLIENT_FRAMES = FrameProtocol(client=True, extensions=[])


def text_frame(text: str | bytes) -> bytes:
    """Return the frame with which a server sends a message of text.

    :param text: bytes are UTF-8.
    """
    return bytes(_FRAMES.send_data(text if isinstance(text, str) else text.decode()))


def ping_frame() -> bytes:
    """Return the frame with which a server asks for a sign of life."""
    return bytes(_FRAMES.ping())


def pong_frame(payload: bytes) -> bytes:
    """Return the frame with which a server answers a ping."""
    return bytes(_FRAMES.pong(payload))


def close_frame(code: int, reason: str = "") -> bytes:
    """Return the frame with which a server closes.

    :param code: 1005 to give none.
    """
    return _close(_FRAMES, code, reason)


def client_text_frame(text: bytes) -> bytes:
    """Return the frame with which a client sends a message of text, which is UTF-8."""
    return bytes(_CLIENT_FRAMES.send_data(text.decode()))


def client_pong_frame(payload: bytes) -> bytes:
    """Return the frame with which a client answers a ping."""
    return bytes(_CLIENT_FRAMES.pong(payload))


def client_close_frame(code: int) -> bytes:
    """Return the frame with which a client closes.

    :param code: 1005 to give none.
    """
    return _close(_CLIENT_FRAMES, code, "")


def _close(frames: FrameProtocol, code: int, reason: str) -> bytes:
    return bytes(frames.close() if code == CloseReason.NO_STATUS_RCVD else frames.close(code, reason))
