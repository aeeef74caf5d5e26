"""A directory in memory, for a chat of one node. It answers at once."""

from __future__ import annotations

from collections.abc import Callable, Collection

from twisted.internet.defer import Deferred, succeed

from netsvc.chat.chat_events import Whispered
from netsvc.chat.directory import Adopted, LocalMembers, OpenRoomList, Recipient, RoomMembers
from netsvc.chat.names import ASCII_NAMES, Names
from netsvc.chat.nicks import Nicks


class MemoryDirectory:
    """Knows the members of one process.

    :param names: the rules for names.
    :param monotonic: returns the time in seconds.
    """

    is_shared = False

    def __init__(self, monotonic: Callable[[], float], names: Names = ASCII_NAMES) -> None:
        self._monotonic = monotonic
        self._nicks = Nicks(names)
        self._rooms: dict[str, dict[str, None]] = {}  # the authors in each, in the order in which they joined
        self._away: dict[str, str] = {}
        self._members: LocalMembers | None = None

    def open(self, members: LocalMembers) -> None:
        self._members = members

    def close(self) -> Deferred[None]:
        self._members = None
        return succeed(None)

    def enter(self, author: str) -> Deferred[str]:
        return succeed(self._nicks.claim_guest_nick(author, self._monotonic()))

    def claim(self, author: str, nick: str) -> Deferred[str]:
        problem = self._nicks.problem(nick, author, self._monotonic())
        if not problem:
            self._nicks.claim(nick, author)
        return succeed(problem)

    def adopt(self, author: str, nick: str, rooms: Collection[str], before: str) -> Deferred[Adopted]:
        now = self._monotonic()
        wanted = self._nicks.nick(author) or self._nicks.reserved_for(author, now) or nick
        present = self._nicks.nick(before)
        self._nicks.release(before)
        chosen = present if self._nicks.problem(wanted, author, now) else wanted
        self._nicks.claim(chosen, author)
        self._away.pop(before, None)
        return succeed(Adopted(chosen, self._away.get(author, "")))

    def leave(self, author: str, keep: float = 0.0) -> None:
        nick = self._nicks.nick(author)
        self._nicks.release(author)
        if keep and nick:
            self._nicks.reserve(nick, author, self._monotonic() + keep)
        self._away.pop(author, None)

    def set_away(self, author: str, text: str) -> None:
        if text:
            self._away[author] = text
        else:
            self._away.pop(author, None)

    def join(self, author: str, room: str, *, is_announced: bool) -> None:
        self._rooms.setdefault(room, {})[author] = None

    def part(self, author: str, room: str) -> None:
        present = self._rooms.get(room, {})
        present.pop(author, None)
        if not present:
            self._rooms.pop(room, None)

    def whisper(self, sender: str, whispered: Whispered) -> Deferred[Recipient | None]:
        recipient = self._nicks.owner(whispered.recipient)
        if recipient is None:
            return succeed(None)
        nick = self._nicks.nick(recipient)
        if recipient != sender and self._members is not None:
            self._members.whispered(recipient, Whispered(whispered.sender, nick, whispered.text))
        return succeed(Recipient(nick, self._away.get(recipient, "")))

    def members(self, room: str, limit: int) -> Deferred[RoomMembers]:
        present = self._rooms.get(room, {})
        nicks = (self._nicks.nick(author) for author, _ in zip(present, range(limit), strict=False))
        return succeed(RoomMembers(len(present), tuple(nicks)))

    def rooms(self, limit: int) -> Deferred[OpenRoomList]:
        rooms = sorted(((name, len(present)) for name, present in self._rooms.items()), key=lambda r: (-r[1], r[0]))
        return succeed(OpenRoomList(len(rooms), tuple(rooms[:limit])))

    def room_name(self, name: str) -> Deferred[str]:
        return succeed(name)  # there is no other node
