"""The send queue of one connection: what waits for a peer that does not read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableSequence

from netsvc.limits.stream_limits import TRANSPORT_BUFFER

#: Seconds for which the queue may stay above its limit. It is longer than a reactor iteration, within which a peer that
#: does read can be given any number of lines before anything can be sent to it.
OVER_LIMIT_SECONDS = 0.5


#: An object of a few bytes takes 48 bytes more than its content. Pieces whose mean is at least this are not joined: the
#: members of a room share the line that waits for all of them.
SMALL_PIECE = 64


def join_small_pieces(pieces: MutableSequence[bytes]) -> None:
    """Replace pieces that take more memory than their content by one piece."""
    if sum(map(len, pieces)) < SMALL_PIECE * len(pieces):
        joined = b"".join(pieces)
        pieces.clear()
        pieces.append(joined)


class SendQueue:
    """Bytes for a peer while the transport is full, and for how long there have been too many.

    A connection has one from ``pauseProducing`` until the transport has sent everything. A peer that reads has none: an
    empty one would take 0.7 KiB.

    :param limit: bytes that may be queued, those in the transport included; 0 for no limit.
    :ivar size: queued bytes, those in the transport included.
    """

    __slots__ = ("_limit", "_over_limit_since", "_pieces", "size")

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._over_limit_since: float | None = None

    def __bool__(self) -> bool:
        """Whether there is something that the transport does not hold yet."""
        return bool(self._pieces)

    def append(self, data: bytes) -> None:
        """Queue ``data``."""
        self._pieces.append(data)
        self.size += len(data)

    def join_small_pieces(self) -> None:
        """Join the pieces, if that saves memory."""
        join_small_pieces(self._pieces)

    def overflows(self, now: float) -> bool:
        """Whether the queue has been above its limit for half a second at ``now`` (seconds)."""
        if not 0 < self._limit < self.size:
            return False
        if self._over_limit_since is None:
            self._over_limit_since = now
        return now - self._over_limit_since >= OVER_LIMIT_SECONDS

    def flush(self, write: Callable[[bytes], object], is_full: Callable[[], bool]) -> None:
        """Write what is queued, until the transport is full again."""
        while self._pieces and not is_full():
            write(self._pieces.popleft())
        if is_full():
            self.size = TRANSPORT_BUFFER + sum(map(len, self._pieces))
            if self.size <= self._limit:
                self._over_limit_since = None
