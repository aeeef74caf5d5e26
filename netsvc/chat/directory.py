"""The interface of a directory, which knows who is in the chat and where, on all nodes.

A node is a process that serves the chat. The rooms, members and nicks are those of all nodes that share a directory.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from netsvc.chat.chat_events import Whispered


@dataclass(frozen=True, slots=True)
class Adopted:
    """The nick and the rooms of a member that resumes.

    :ivar nick: its nick.
    :ivar away: what it told those who wrote to it while it was away; empty if it was not.
    :ivar rooms: the rooms in which its connection to another node was, as far as they were told that it had joined.
    """

    nick: str
    away: str = ""
    rooms: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Recipient:
    """A member to whom another one has written.

    :ivar away: what it tells those who write to it while it is away; empty if it is not.
    """

    nick: str
    away: str


@dataclass(frozen=True, slots=True)
class RoomMembers:
    """The members of a room.

    :ivar count: their number.
    :ivar nicks: some of their nicks.
    """

    count: int
    nicks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenRoomList:
    """The rooms that have members.

    :ivar count: their number.
    :ivar rooms: the largest, each with its number of members, the largest first.
    """

    count: int
    rooms: tuple[tuple[str, int], ...]


class LocalMembers(Protocol):
    """The members of this node. The directory tells them what other nodes have done."""

    def whispered(self, author: str, whispered: Whispered) -> None:
        """Another member has written to one of them."""

    def taken_over(self, author: str) -> None:
        """A connection to another node has taken the place of one of them. All rooms were told."""

    def renamed(self, author: str, nick: str) -> None:
        """One of them has lost its nick, and has got another one."""

    def returned(self, author: str, nick: str) -> None:
        """The rooms of one of them were told that it left, because this node seemed to have failed.

        :param nick: which it has now. Another member may have got the one that it had.
        """


class Directory(Protocol):
    """Knows who is in the chat and where. The hub is its only user.

    Authors identify members. A method that returns a Deferred fails with :class:`~netsvc.chat.store.StoreError` if the
    directory cannot answer. A directory that is fast may answer at once. The others cannot fail: the directory keeps in
    mind what it was told, and passes it on as soon as it can.

    :cvar is_shared: whether other nodes may have members.
    """

    is_shared: bool

    def open(self, members: LocalMembers) -> None:
        """Begin. It may be opened again after it was closed.

        :param members: told what other nodes have done.
        """

    def close(self) -> Deferred[None]:
        """Forget the members of this node, which must have left. Fires when nothing is left to do."""

    def enter(self, author: str) -> Deferred[str]:
        """Add a member of this node. Return its nick, which is free, such as ``guest-7``."""

    def claim(self, author: str, nick: str) -> Deferred[str]:
        """Give a member another nick, if no other one has it or one that looks like it.

        :return: why not, such as ``looks like ann``; empty if it has the nick.
        """

    def adopt(self, author: str, nick: str, rooms: Collection[str], before: str) -> Deferred[Adopted]:
        """Make a member of this node another one, whose session it resumes.

        It gets the nick of its earlier connection, or the one that was kept for it, or ``nick``, or if another member
        has that, the nick that it has.

        :param author: who it is from now on. Its connection to another node, if there is one, ends.
        :param nick: the nick that it would like to have.
        :param rooms: in which it is from now on. Its other rooms are told that it left.
        :param before: who it was until now.
        """

    def leave(self, author: str, keep: float = 0.0) -> None:
        """Remove a member.

        :param keep: for how many seconds its nick is kept for it.
        """

    def set_away(self, author: str, text: str) -> None:
        """Note what a member tells those who write to it; with an empty text, that it is back."""

    def join(self, author: str, room: str, *, is_announced: bool) -> None:
        """Note that a member is in a room.

        :param is_announced: whether the room was told so, and has to be told when the member is no longer there.
        """

    def part(self, author: str, room: str) -> None:
        """Note that a member is no longer in a room."""

    def whisper(self, sender: str, whispered: Whispered) -> Deferred[Recipient | None]:
        """Pass a private message on to its recipient.

        :param sender: the author. One that writes to itself is not told.
        :return: fires with whom it was passed to; with None if no member has such a nick.
        """

    def members(self, room: str, limit: int) -> Deferred[RoomMembers]:
        """Return the number of members of a room, and the nicks of at most ``limit`` of them."""

    def rooms(self, limit: int) -> Deferred[OpenRoomList]:
        """Return the number of rooms with members, and the ``limit`` largest."""

    def room_name(self, name: str) -> Deferred[str]:
        """Return the name of the room of any node whose name looks like this one; if there is none, the name itself.

        The hub knows the rooms of its own node, and does not ask for them.
        """
