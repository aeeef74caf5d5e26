"""Framing: the messages in a stream, which has no record boundaries of its own.

Pass the bytes that arrive to ``receive``, then pull messages one at a time with ``next_message``. The caller pulls, so
it can stop between two messages when the peer has used its share or does not read. Use :func:`messages_in` if you never
stop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from netsvc.errors import NetsvcError
from netsvc.wire.text import split_incomplete

#: Bytes of the longest line, with its delimiter.
LINE_MAX = 1024


M_co = TypeVar("M_co", covariant=True)


class FramingError(NetsvcError, ValueError):
    """The peer broke the framing; the message says how. The messages that follow can still be read."""


class MessageSource(Protocol[M_co]):
    """Finds the messages in a stream."""

    def receive(self, data: bytes) -> None:
        """Accept the bytes that one read returned."""

    def next_message(self) -> M_co | None:
        """Return the next complete message; None if more bytes must arrive first.

        :raises FramingError: once for each message that is refused. Call again for the next one.
        """

    def waiting(self) -> int:
        """Return how many complete messages were not returned yet."""

    def has_partial(self) -> bool:
        """Whether a message has begun and has not ended. Call it after ``next_message`` returned None."""

    def end(self) -> M_co | None:
        """Return the message that the end of the stream completes, or None. Call it after the last message."""


class Framing(MessageSource[bytes], Protocol):
    """Messages of bytes in a stream, in both directions."""

    def encode(self, message: bytes) -> bytes:
        """Return the bytes that carry ``message`` on the stream."""


def messages_in(framing: Framing, data: bytes, refused: Callable[[str], object]) -> Iterator[bytes]:
    """Pass ``data`` to ``framing`` and yield each message that it completes.

    :param refused: called with the reason for each message that the framing refuses.
    """
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
    """Each piece that arrives is one message. For bytes that need not be text."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()

    def receive(self, data: bytes) -> None:
        self._pieces.append(data)

    def next_message(self) -> bytes | None:
        return self._pieces.popleft() if self._pieces else None

    def waiting(self) -> int:
        return len(self._pieces)

    def has_partial(self) -> bool:
        return False

    def end(self) -> bytes | None:
        return None

    def encode(self, message: bytes) -> bytes:
        return message


class RawFraming(PieceFraming):
    """Each piece that arrives is one message, as in the classic blocking-socket programs.

    There is one exception: the 1 to 3 bytes of an incomplete UTF-8 character wait for the rest of the character.
    """

    def __init__(self) -> None:
        super().__init__()
        self._incomplete = b""

    def receive(self, data: bytes) -> None:
        piece, self._incomplete = split_incomplete(self._incomplete + data)
        if piece:
            super().receive(piece)

    def end(self) -> bytes | None:
        rest, self._incomplete = self._incomplete, b""
        return rest or None


class WholeLineFraming:
    """A message is a line with its line end, unchanged. The end of the stream may complete one without.

    :param line_max: bytes of the longest line. A longer one is divided.
    """

    def __init__(self, line_max: int) -> None:
        self._line_max = line_max
        self._lines: deque[bytes] = deque()
        self._partial = b""

    def receive(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._lines += [line + b"\n" for line in lines]
        while len(self._partial) >= self._line_max:
            self._lines.append(self._partial[: self._line_max])
            self._partial = self._partial[self._line_max :]

    def next_message(self) -> bytes | None:
        return self._lines.popleft() if self._lines else None

    def waiting(self) -> int:
        return len(self._lines)

    def has_partial(self) -> bool:
        return bool(self._partial)

    def end(self) -> bytes | None:
        rest, self._partial = self._partial, b""
        return rest or None

    def encode(self, message: bytes) -> bytes:
        return message


class LineFraming:
    """A message is a line: LF or CR LF in, LF out.

    :param line_max: bytes of the longest line, with its delimiter. A longer line is refused as soon as it is too long,
        and is not kept. The line after it is read as usual.
    """

    def __init__(self, line_max: int = LINE_MAX) -> None:
        self._line_max = line_max
        self._buffer = bytearray()
        self._start = 0  # of the first line that was not returned yet
        self._searched = 0  # there is no delimiter between _start and here
        self._skipping = False  # the bytes up to the next delimiter belong to a refused line

    def receive(self, data: bytes) -> None:
        # Returned lines are removed here, once for each read. Removing each line by itself would move 64 KiB for each
        # of 65,536 empty lines.
        del self._buffer[: self._start]
        self._searched -= self._start
        self._start = 0
        self._buffer += data

    def next_message(self) -> bytes | None:
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if end < 0:
                self._keep_partial()
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

    def waiting(self) -> int:
        return self._buffer.count(b"\n", self._start)

    def has_partial(self) -> bool:
        return self._skipping or len(self._buffer) > self._start

    def end(self) -> bytes | None:
        rest = bytes(self._buffer[self._start :])
        self._buffer.clear()
        self._start = self._searched = 0
        return None if self._skipping or not rest else rest.removesuffix(b"\r")

    def encode(self, message: bytes) -> bytes:
        return message + b"\n"

    def _keep_partial(self) -> None:
        """Keep the unfinished line, unless it is too long already."""
        self._searched = len(self._buffer)
        if self._skipping or self._searched - self._start >= self._line_max:
            self._buffer.clear()
            self._start = self._searched = 0
            if not self._skipping:
                self._skipping = True
                raise self._too_long()

    def _too_long(self) -> FramingError:
        return FramingError(f"line too long: at most {self._line_max} bytes with its line end")
