"""One room: its members with their roles, its modes, and its topic."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Generic, Protocol, TypeVar

from netsvc.chat.entries import Entry, EntryKind

LOBBY = "#lobby"


class Role(Enum):
    """The rights of a member in a room. The values are in order."""

    MEMBER = auto()
    OPERATOR = auto()
    OWNER = auto()

    __hash__ = object.__hash__


class Mode(Enum):
    """A rule of a room.

    :cvar MODERATED: only operators and the owner may speak.
    :cvar INVITE_ONLY: only those who are invited may join.
    """

    MODERATED = auto()
    INVITE_ONLY = auto()

    __hash__ = object.__hash__


class Identified(Protocol):
    """A member of the chat, as far as a room knows it.

    :ivar author: identifies it across connections and nicks.
    """

    author: str

    @property
    def send(self) -> Callable[[bytes], None]:
        """Sends it an entry in its form."""


P = TypeVar("P", bound=Identified)


class Membership(Generic[P]):
    """That a participant is in a room.

    :ivar participant: who.
    :ivar room: where.
    :ivar role: what it may do there.
    :ivar is_live: whether each new entry is delivered to it. It is not until it has what it missed.
    :ivar is_announced: whether the room was told that it joined.
    :ivar send: sends it an entry in its form. It is here because each delivery calls it.
    :ivar sent: while it is not live, the offset of the last entry that it has.
    """

    __slots__ = ("is_announced", "is_live", "participant", "role", "room", "send", "sent")

    def __init__(self, participant: P, room: Room[P], role: Role) -> None:
        self.participant = participant
        self.room = room
        self.role = role
        self.send = participant.send
        self.is_live = False
        self.is_announced = False
        self.sent = 0


class Room(Generic[P]):
    """One room.

    :param name: its name, as it is shown.
    :param epoch: of its log.
    :param last: the offset of the last entry that was delivered.
    :param topic: the entry that set the topic; None without one.
    :ivar expected: how many are about to enter, or have left and the log does not say so yet. The room stays open for
        them.
    :ivar members: all of them, by their authors, in the order in which they joined.
    :ivar live: the live members, by the form in which they are sent entries.
    :ivar modes: the rules.
    :ivar invited: the authors who may join an invite-only room.
    """

    def __init__(self, name: str, epoch: str, last: int, topic: Entry | None = None) -> None:
        self.name = name
        self.epoch = epoch
        self.last = last
        self.topic = topic
        self.expected = 0
        self.members: dict[str, Membership[P]] = {}
        self.live: dict[Any, dict[Membership[P], None]] = {}
        self.modes: set[Mode] = set()
        self.invited: set[str] = set()

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self.members)

    def may_join(self, author: str) -> bool:
        """Whether an author may join."""
        return Mode.INVITE_ONLY not in self.modes or author in self.invited

    def may_speak(self, membership: Membership[P]) -> bool:
        """Whether a member may say something and set the topic."""
        return Mode.MODERATED not in self.modes or membership.role is not Role.MEMBER

    def add(self, participant: P, role: Role = Role.MEMBER) -> Membership[P]:
        """Add a member, which is not live yet. Return the membership."""
        membership = self.members[participant.author] = Membership(participant, self, role)
        return membership

    def remove(self, membership: Membership[P]) -> None:
        """Remove a member."""
        self.end_live(membership)
        del self.members[membership.participant.author]

    def begin_live(self, membership: Membership[P], form: object) -> None:
        """Deliver each new entry to a member, in this form."""
        membership.is_live = True
        self.live.setdefault(form, {})[membership] = None

    def end_live(self, membership: Membership[P]) -> None:
        """Deliver nothing more to a member."""
        membership.is_live = False
        for form, audience in list(self.live.items()):
            audience.pop(membership, None)
            if not audience:
                del self.live[form]

    def delivered(self, entry: Entry) -> None:
        """Take note of the next entry of the log."""
        self.last = entry.offset
        if entry.kind is EntryKind.TOPIC:
            self.topic = entry if entry.text else None
