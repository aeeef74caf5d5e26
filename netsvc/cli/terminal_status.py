"""The status line of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from netsvc.cli.terminal_text import CharacterWidth, Fragment


@dataclass(frozen=True, slots=True)
class ChatStatus:
    """The state of a chat at a terminal.

    :ivar is_connected: whether it is in the chat.
    :ivar retry_in: seconds until the next attempt to connect; None while one is made.
    :ivar waiting: lines that the server has not confirmed yet.
    :ivar for_reader: private messages and mentions since a key was last pressed.
    :ivar below: lines below the visible ones.
    :ivar hint: what the reader may do now.
    """

    server: str
    room: str
    nick: str
    is_connected: bool
    retry_in: float | None = None
    waiting: int = 0
    for_reader: int = 0
    below: int = 0
    hint: str = ""


def chat_status_parts(status: ChatStatus) -> list[tuple[int, Fragment]]:
    """Return the parts of the status line, each with its rank: those of the highest rank are left out first."""
    parts = [
        (0, ("status", status.room)),
        (2, ("status", status.nick or "no nick yet")),
        (4, ("status", status.server)),
    ]
    if not status.is_connected:
        pause = "" if status.retry_in is None else f", again in {ceil(status.retry_in)} s"
        parts.append((1, ("status-problem", f"not connected{pause}")))
    else:
        parts.append((5, ("status", "connected")))
    if status.waiting:
        parts.append((1, ("status-problem", f"{status.waiting:,} to send")))
    if status.for_reader:
        parts.append((1, ("status-problem", f"{status.for_reader:,} for you")))
    if status.below:
        parts.append((1, ("status-problem", f"{status.below:,} below, PageDown")))
    if status.hint:
        parts.append((0, ("status-problem", status.hint)))
    return parts


def status_row(parts: Sequence[tuple[int, Fragment]], columns: int, width: CharacterWidth) -> list[Fragment]:
    """Return the status line of a terminal, as wide as it. Parts for which there is no space are left out."""
    kept = list(parts)
    while len(kept) > 1 and _columns(kept, width) > columns:
        worst = max(rank for rank, _ in kept)
        last = max(index for index, (rank, _) in enumerate(kept) if rank == worst)
        del kept[last]
    row: list[Fragment] = []
    for _, (style, text) in kept:
        row += [("status", " "), (style, text), ("status", " ")]
    rest = columns
    fitting: list[Fragment] = []
    for style, text in row:
        shown = ""
        for character in text:
            if width(character) > rest:
                break
            rest -= width(character)
            shown += character
        fitting.append((style, shown))
    return [*fitting, ("status", " " * rest)]


def _columns(parts: Sequence[tuple[int, Fragment]], width: CharacterWidth) -> int:
    return sum(2 + sum(map(width, text)) for _, (_, text) in parts)
