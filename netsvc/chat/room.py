"""The members and rooms of a chat. It decides what is delivered to whom, and delivers nothing itself.

A member is any hashable object: a protocol in the server, a string in a test.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from netsvc.chat.messages import (
    HELP,
    Event,
    Help,
    Join,
    Leave,
    ListRooms,
    Notice,
    Quit,
    Rename,
    Request,
    Said,
    Say,
    Whisper,
    Whispered,
    Who,
)
from netsvc.chat.names import ASCII_NAMES, Names
from netsvc.limits.cause import Cause

M = TypeVar("M", bound=Hashable)

LOBBY = "#lobby"

#: Maximum number of rooms.
ROOMS_MAX = 1_024

#: Characters of the longest list of names or rooms. The entries that do not fit are counted.
_LIST_MAX = 800


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """One event for some members.

    :ivar cause: for an event that refuses a request, the cause.
    """

    members: tuple[M, ...]
    event: Event
    cause: Cause | None = None


class Room(Generic[M]):
    """A chat with a lobby and the rooms that its members open.

    Every member is in exactly one room. No two members have the same nick, or nicks that look alike. A room other than
    the lobby exists as long as it has members.

    :param names: the rules for names; by default ASCII, compared without case.
    """

    def __init__(self, names: Names = ASCII_NAMES) -> None:
        self.names = names
        self._nicks: dict[M, str] = {}
        self._by_nick: dict[str, M] = {}
        self._room_of: dict[M, str] = {}
        self._rooms: dict[str, dict[M, None]] = {}  # a dict keeps the order in which they joined
        self._room_by_key = dict.fromkeys(names.keys(LOBBY), LOBBY)  # the lobby always exists
        self._guests = 0

    def __contains__(self, member: M) -> bool:
        return member in self._nicks

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._nicks)

    def nick(self, member: M) -> str:
        """Return the nick of a member."""
        return self._nicks[member]

    def enter(self, member: M) -> list[Delivery[M]]:
        """Add a member to the lobby, with a free nick such as ``guest-7``."""
        nick = self._free_nick()
        self._set_nick(member, nick)
        welcome = Notice(f"welcome, you are {nick}; /nick NAME changes that, /help lists the commands")
        return [Delivery((member,), welcome), *self._move(member, LOBBY)]

    def receive(self, member: M, request: Request) -> list[Delivery[M]]:
        """Process a member's request and return what to deliver."""
        match request:
            case Say(text):
                return self._say(member, text)
            case Whisper(nick, text):
                return self._whisper(member, nick, text)
            case Rename(nick):
                return self._rename(member, nick)
            case Join(room):
                return self._join(member, room)
            case Leave():
                return self._join(member, LOBBY)
            case ListRooms():
                return self._list_rooms(member)
            case Who():
                return self._who(member)
            case Help():
                return [Delivery((member,), Notice(HELP))]
            case Quit():
                return [Delivery((member,), Notice("bye")), *self.leave(member)]

    def leave(self, member: M, reason: str = "left") -> list[Delivery[M]]:
        """Remove a member and tell the room. A member who is not present is ignored."""
        if member not in self._nicks:
            return []
        nick = self._nicks[member]
        self._set_nick(member, None)
        return self._tell(self._take_out(member), f"{nick} {reason}")

    def _say(self, member: M, text: str) -> list[Delivery[M]]:
        others = self._others(member)
        if not others or not text.strip():
            return []
        return [Delivery(others, Said(self._nicks[member], text))]

    def _whisper(self, member: M, nick: str, text: str) -> list[Delivery[M]]:
        recipient = self._member_with(nick)
        if recipient is None:
            return [Delivery((member,), Notice(f"there is no member {nick}"))]
        parties = (member,) if recipient == member else (member, recipient)
        return [Delivery(parties, Whispered(self._nicks[member], self._nicks[recipient], text))]

    def _rename(self, member: M, nick: str) -> list[Delivery[M]]:
        old = self._nicks[member]
        if old == nick:
            return [Delivery((member,), Notice(f"you are already {nick}"))]
        holder = self._member_with(nick)
        if holder not in (None, member):
            taken = self._nicks[holder]
            problem = "is taken" if taken.lower() == nick.lower() else f"looks like {taken}"
            return [Delivery((member,), Notice(f"{nick} {problem}; take another nick"), Cause.NICK_TAKEN)]
        self._set_nick(member, nick)
        return [
            Delivery((member,), Notice(f"you are now {nick}")),
            *self._tell(self._others(member), f"{old} is now {nick}"),
        ]

    def _member_with(self, nick: str) -> M | None:
        """Return the member with this nick, or with one that looks like it."""
        return next((self._by_nick[key] for key in self.names.keys(nick) if key in self._by_nick), None)

    def _set_nick(self, member: M, nick: str | None) -> None:
        """Give a member a free nick in place of the present one; None to remove it."""
        if member in self._nicks:
            for key in self.names.keys(self._nicks.pop(member)):
                del self._by_nick[key]
        if nick is not None:
            self._nicks[member] = nick
            self._by_nick.update(dict.fromkeys(self.names.keys(nick), member))

    def _join(self, member: M, room: str) -> list[Delivery[M]]:
        room = next((self._room_by_key[key] for key in self.names.keys(room) if key in self._room_by_key), room)
        if self._room_of[member] == room:
            return [Delivery((member,), Notice(f"you are already in {room}"))]
        if room not in self._rooms and room != LOBBY and len(self._rooms) >= ROOMS_MAX:
            return [Delivery((member,), Notice("too many rooms; /rooms lists them"), Cause.TOO_MANY_ROOMS)]
        left = self._tell(self._take_out(member), f"{self._nicks[member]} moved to {room}")
        return [*left, *self._move(member, room)]

    def _move(self, member: M, room: str) -> list[Delivery[M]]:
        """Add a member who is in no room to ``room``."""
        others = tuple(self._rooms.setdefault(room, {}))
        self._rooms[room][member] = None
        self._room_by_key.update(dict.fromkeys(self.names.keys(room), room))
        self._room_of[member] = room
        if others:
            present = f"you are in {room} with {_listed(self._nicks[other] for other in others)}"
        else:
            present = f"you are the only one in {room}"
        return [
            Delivery((member,), Notice(present)),
            *self._tell(others, f"{self._nicks[member]} joined {room}"),
        ]

    def _take_out(self, member: M) -> tuple[M, ...]:
        """Remove a member from their room and return the members that remain in it."""
        room = self._room_of.pop(member)
        present = self._rooms[room]
        del present[member]
        if not present:
            del self._rooms[room]
            if room != LOBBY:
                for key in self.names.keys(room):
                    del self._room_by_key[key]
        return tuple(present)

    def _list_rooms(self, member: M) -> list[Delivery[M]]:
        rooms = sorted(self._rooms.items(), key=lambda item: (-len(item[1]), item[0]))
        return [Delivery((member,), Notice("rooms: " + _listed(f"{name} ({len(who)})" for name, who in rooms)))]

    def _who(self, member: M) -> list[Delivery[M]]:
        room = self._room_of[member]
        present = self._rooms[room]
        names = _listed(self._nicks[other] for other in present)
        return [Delivery((member,), Notice(f"{len(present)} in {room}: {names}"))]

    def _others(self, member: M) -> tuple[M, ...]:
        return tuple([other for other in self._rooms[self._room_of[member]] if other != member])

    def _tell(self, members: tuple[M, ...], text: str) -> list[Delivery[M]]:
        return [Delivery(members, Notice(text))] if members else []

    def _free_nick(self) -> str:
        while True:
            self._guests += 1
            nick = f"guest-{self._guests}"
            if self._member_with(nick) is None:
                return nick


def _listed(names: Iterable[str]) -> str:
    """Join as many names as fit on a line, and count the rest."""
    shown: list[str] = []
    room = _LIST_MAX
    rest = 0
    for name in names:
        room -= len(name) + 2
        if room >= 0:
            shown.append(name)
        else:
            rest += 1
    return ", ".join(shown) + (f" and {rest:,} more" if rest else "")
