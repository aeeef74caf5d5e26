"""The events that the chat tells one member, besides the entries of its rooms. Each front end has its form for them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from netsvc.chat.entries import Entry, Position
from netsvc.limits.cause import Cause


class Verdict(Enum):
    """How much a member that resumes gets of the entries that it missed.

    :cvar RECOVERED: all of it.
    :cvar LOST: not the oldest part, which is no longer kept.
    :cvar UNKNOWN: unknown how much it missed. The log of the room was begun anew.
    """

    RECOVERED = "recovered"
    LOST = "lost"
    UNKNOWN = "unknown"

    __hash__ = object.__hash__


class Review(Enum):
    """Why old entries are shown."""

    REPLAY = "replay"
    HISTORY = "history"
    SEARCH = "search"

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class Welcome:
    """The member is in the chat.

    :ivar nick: its nick.
    """

    nick: str


@dataclass(frozen=True, slots=True)
class SessionToken:
    """The secret by which a later connection is recognised as the same member. Not every front end shows it."""

    token: str


@dataclass(frozen=True, slots=True)
class NickSet:
    """The member has a new nick."""

    nick: str


@dataclass(frozen=True, slots=True)
class RoomEntered:
    """The member is in a room.

    :ivar position: of the last entry before.
    :ivar count: the number of members, itself included.
    :ivar others: some of their nicks, itself excluded.
    """

    room: str
    position: Position
    count: int
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoomLeft:
    """The member is no longer in a room."""

    room: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The member is in a room again, and what it missed follows.

    :ivar lost: with the verdict ``LOST``, how many entries are no longer kept; else 0.
    """

    room: str
    verdict: Verdict
    lost: int


@dataclass(frozen=True, slots=True)
class Entries:
    """Old entries of a room.

    :ivar entries: the oldest first.
    """

    room: str
    review: Review
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Whispered:
    """A private message. Its sender receives it as well.

    :ivar message_id: for its sender, the name that it gave; else empty.
    """

    sender: str
    recipient: str
    text: str
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """A request of the member was not done.

    :ivar text: why, for people.
    :ivar message_id: the member's name for what it asked; empty if it gave none.
    """

    cause: Cause
    text: str
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class NotConfirmed:
    """It is not known yet whether a line of the member is in the log. The line is kept, and the outcome follows.

    :ivar message_id: the member's name for the line; empty if it gave none.
    """

    message_id: str = ""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A line that was not confirmed before is in the log.

    :ivar message_id: the member's name for the line; empty if it gave none.
    """

    message_id: str = ""


@dataclass(frozen=True, slots=True)
class TopicShown:
    """The topic of a room. Without one, the text is empty."""

    room: str
    text: str
    nick: str = ""
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class AwaySet:
    """The member is away, or with an empty text is back."""

    text: str


@dataclass(frozen=True, slots=True)
class RecipientAway:
    """The member to whom the member wrote is away."""

    nick: str
    text: str


@dataclass(frozen=True, slots=True)
class MemberList:
    """The members of a room.

    :ivar count: their number.
    :ivar nicks: those of them that fit on a line.
    """

    room: str
    count: int
    nicks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RoomList:
    """The rooms, with the number of members of each.

    :ivar count: their number.
    :ivar rooms: those of them that fit on a line, the largest first.
    """

    count: int
    rooms: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another connection has resumed the session of the member. This one is closed."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for people."""

    text: str


Event = (
    Welcome
    | SessionToken
    | NickSet
    | RoomEntered
    | RoomLeft
    | Resumed
    | Entries
    | Whispered
    | Refused
    | NotConfirmed
    | Confirmed
    | TopicShown
    | AwaySet
    | RecipientAway
    | MemberList
    | RoomList
    | Replaced
    | Notice
)
