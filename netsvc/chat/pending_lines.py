"""The lines that a client has said, and that the server has not acknowledged yet."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred

from netsvc.chat.entries import Position
from netsvc.chat.requests import Act, Say


@dataclass(slots=True)
class PendingLine:
    """A line that is not acknowledged.

    :ivar request: the line.
    :ivar message_id: names it, also when it is sent again.
    :ivar room: where it is said, and nowhere else.
    :ivar said: fires with the position of its entry.
    :ivar was_sent: whether it may be in the log of the room.
    """

    request: Say | Act
    message_id: str
    room: str
    said: Deferred[Position] = field(default_factory=Deferred)
    was_sent: bool = False


class PendingLines:
    """The lines that are not acknowledged, in the order in which they were said."""

    def __init__(self) -> None:
        self._lines: dict[str, PendingLine] = {}
        self._id_prefix = secrets.token_hex(4)
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._lines)

    def new_id(self) -> str:
        """Return an ID that no other request of this client has."""
        self._last_id += 1
        return f"{self._id_prefix}-{self._last_id}"

    def add(self, line: PendingLine) -> None:
        """Add a line, which is the last one."""
        self._lines[line.message_id] = line

    def of(self, room: str) -> list[PendingLine]:
        """Return the lines for a room."""
        return [line for line in self._lines.values() if line.room == room]

    def move(self, room: str, name: str) -> None:
        """Take note that the server calls a room by another name."""
        for line in self.of(room):
            line.room = name

    def take(self, message_id: str) -> PendingLine | None:
        """Remove a line and return it; None if there is none with this ID."""
        return self._lines.pop(message_id, None)

    def take_all(self, condition: Callable[[PendingLine], bool] = lambda _: True) -> list[PendingLine]:
        """Remove the lines that fulfil a condition, and return them."""
        taken = [line for line in self._lines.values() if condition(line)]
        for line in taken:
            del self._lines[line.message_id]
        return taken
