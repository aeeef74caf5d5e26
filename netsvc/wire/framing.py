"""Bytes to messages and back for streams, which have no record boundaries of their own.

Feed what arrives with ``receive``, then take messages one at a time with ``next_message``: taking is the
caller's, so that it can stop between two messages when the peer has had its share or reads nothing. Who never stops
takes ``read``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from netsvc.wire.text import split_incomplete

#: The longest line, in bytes, with its delimiter.
LINE_MAX = 1024


class FramingError(ValueError):
    """The peer broke the framing; the text says how, in one line. What follows can still be read."""


class Framing(Protocol):
    """Where one message ends and the next begins."""

    def receive(self, data: bytes) -> None:
        """Take what one read returned."""

    def next_message(self) -> bytes | None:
        """Return the next whole message, or None when more must arrive first.

        :raises FramingError: once for each message that is refused; call again for the one after it.
        """

    def begun(self) -> bool:
        """Whether a message has begun whose end has not arrived. To be called when no whole one is left."""

    def end(self) -> bytes | None:
        """Return what the end of the stream completes, if anything. To be called after the last message."""

    def encode(self, message: bytes) -> bytes:
        """Return ``message`` as it goes onto the stream."""


def read(framing: Framing, data: bytes, refused: Callable[[str], object]) -> Iterator[bytes]:
    """Let ``framing`` receive ``data`` and give each message that it completes; ``refused`` is told of the others."""
    framing.receive(data)
    while True:
        try:
            message = framing.next_message()
        except FramingError as e:
            refused(str(e))
            continue
        if message is None:
            return
        yield message


class PieceFraming:
    """Each piece that arrives is one message, whatever it holds: for bytes that are not text."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()

    def receive(self, data: bytes) -> None:
        self._pieces.append(data)

    def next_message(self) -> bytes | None:
        return self._pieces.popleft() if self._pieces else None

    def begun(self) -> bool:
        return False

    def end(self) -> bytes | None:
        return None

    def encode(self, message: bytes) -> bytes:
        return message


class RawFraming(PieceFraming):
    """Each piece that arrives is one message, as the classic blocking-socket programs have it.

    The one repair: a UTF-8 character that was cut waits, at most 3 bytes of it, for its other half.
    """

    def __init__(self) -> None:
        super().__init__()
        self._cut = b""

    def receive(self, data: bytes) -> None:
        piece, self._cut = split_incomplete(self._cut + data)
        if piece:
            super().receive(piece)

    def end(self) -> bytes | None:
        rest, self._cut = self._cut, b""
        return rest or None


class LineFraming:
    """A message is a line: LF or CR LF in, LF out.

    :param line_max: the longest line in bytes, with its delimiter. A longer one is refused as soon as it is
        too long, is never held whole, and what follows its end is read as usual.
    """

    def __init__(self, line_max: int = LINE_MAX) -> None:
        self._line_max = line_max
        self._buffer = bytearray()
        self._start = 0  # of the first line that was not taken yet
        self._searched = 0  # no delimiter between start and here
        self._skipping = False  # inside a line that was refused

    def receive(self, data: bytes) -> None:
        # Taken lines leave the buffer here, once a read and not once a line: 65,536 empty lines would
        # otherwise move 64 KiB each.
        del self._buffer[: self._start]
        self._searched -= self._start
        self._start = 0
        self._buffer += data

    def next_message(self) -> bytes | None:
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end < 0:
                self._wait()
                return None
            line = bytes(self._buffer[self._start : end])
            length = end + 1 - self._start
            self._start = self._searched = end + 1
            if self._skipping:
                self._skipping = False
            elif length > self._line_max:
                raise self._too_long()
            else:
                return line.removesuffix(b"\r")

    def begun(self) -> bool:
        return self._skipping or len(self._buffer) > self._start

    def end(self) -> bytes | None:
        rest = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = self._searched = 0
        return None if self._skipping or not rest else rest.removesuffix(b"\r")

    def encode(self, message: bytes) -> bytes:
        return message + b"\n"

    def _wait(self) -> None:
        """Keep the unfinished line for later, unless no delimiter could make it short enough."""
        self._searched = len(self._buffer)
        if self._skipping or self._searched - self._start >= self._line_max:
            self._buffer.clear()
            self._start = self._searched = 0
            if not self._skipping:
                self._skipping = True
                raise self._too_long()

    def _too_long(self) -> FramingError:
        return FramingError(f"line too long: at most {self._line_max} bytes with its line end")
