"""The requests that a line can make. A member of this front end is in one room at a time."""

from __future__ import annotations

from dataclasses import dataclass

from netsvc.chat.entries import Position


@dataclass(frozen=True, slots=True)
class Say:
    """Say something to the members of the current room. A text with nothing visible is ignored."""

    text: str


@dataclass(frozen=True, slots=True)
class Act:
    """Say something in the third person: ``/me waves``."""

    text: str


@dataclass(frozen=True, slots=True)
class Whisper:
    """Say something to one member, who may be in any room."""

    nick: str
    text: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Change the nick."""

    nick: str


@dataclass(frozen=True, slots=True)
class Join:
    """Move to a room. It is created if it does not exist."""

    room: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Move back to the lobby."""


@dataclass(frozen=True, slots=True)
class ListRooms:
    """Ask for the list of rooms."""


@dataclass(frozen=True, slots=True)
class Who:
    """Ask for the members of the current room."""


@dataclass(frozen=True, slots=True)
class ShowTopic:
    """Ask for the topic of the current room."""


@dataclass(frozen=True, slots=True)
class SetTopic:
    """Set the topic of the current room; an empty text removes it."""

    text: str


@dataclass(frozen=True, slots=True)
class Away:
    """Say that one is away, and why; with an empty text, that one is back."""

    text: str


@dataclass(frozen=True, slots=True)
class History:
    """Ask for the last entries of the current room."""

    count: int


@dataclass(frozen=True, slots=True)
class Search:
    """Ask for the last entries of the current room that have all of the words."""

    words: str


@dataclass(frozen=True, slots=True)
class Erase:
    """Erase an entry of the current room; None for the last one of one's own."""

    offset: int | None


@dataclass(frozen=True, slots=True)
class Positions:
    """Switch to lines for programs, with positions, or back to lines for people."""

    on: bool


@dataclass(frozen=True, slots=True)
class Resume:
    """Take the place of an earlier connection.

    :ivar token: told in a :class:`~netsvc.chat.chat_events.SessionToken`.
    :ivar position: of the last entry that was received in the room.
    """

    token: str
    nick: str
    room: str
    position: Position


@dataclass(frozen=True, slots=True)
class Help:
    """Ask for the list of commands."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave the chat."""


Request = (
    Say
    | Act
    | Whisper
    | Rename
    | Join
    | Leave
    | ListRooms
    | Who
    | ShowTopic
    | SetTopic
    | Away
    | History
    | Search
    | Erase
    | Positions
    | Resume
    | Help
    | Quit
)
