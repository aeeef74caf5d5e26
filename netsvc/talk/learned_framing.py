"""A framing that is learned from the peer: lines, or messages without a line end."""

from __future__ import annotations

from netsvc.wire.framing import LineFraming, RawFraming


class LearnedFraming:
    """Lines, until the peer sends a message without a line end; then raw messages, until it sends a line end.

    A peer that has ended one line ends all of them, so after the first line end the framing stays with lines.

    :param line_max: bytes of the longest line, with its delimiter.
    """

    def __init__(self, line_max: int) -> None:
        self._line_max = line_max
        self._framing: LineFraming | RawFraming = LineFraming(line_max)
        self._line_end_seen = False

    @property
    def undecided(self) -> bool:
        """Whether bytes without a line end may be a raw message. If nothing follows, call :meth:`switch_to_raw`."""
        return not self._line_end_seen and isinstance(self._framing, LineFraming)

    def switch_to_raw(self) -> None:
        """Take the unfinished line for a raw message. ``next_message`` then returns it."""
        unfinished = self._framing.end()
        if unfinished is not None:
            self._framing = RawFraming()
            self._framing.receive(unfinished)

    def receive(self, data: bytes) -> None:
        self._line_end_seen = self._line_end_seen or b"\n" in data
        self._framing.receive(data)

    def next_message(self) -> bytes | None:
        message = self._framing.next_message()
        if message is None and self._line_end_seen and isinstance(self._framing, RawFraming):
            incomplete_character = self._framing.end() or b""
            self._framing = LineFraming(self._line_max)
            self._framing.receive(incomplete_character)
        return message

    def waiting(self) -> int:
        return self._framing.waiting()

    def has_partial(self) -> bool:
        return self._framing.has_partial()

    def end(self) -> bytes | None:
        return self._framing.end()

    def encode(self, message: bytes) -> bytes:
        return self._framing.encode(message)
