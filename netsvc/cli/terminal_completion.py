"""The names that a chat at a terminal completes."""

from __future__ import annotations

from collections.abc import Iterable

from netsvc.chat.chat_events import Entries, Event, MemberList, RoomEntered, RoomList, Whispered
from netsvc.chat.entries import Entry, EntryKind

#: Names that are kept. A server could otherwise fill the memory.
NAMES_MAX = 1_000


class KnownNames:
    """The nicks of the members of the room, and the rooms, as far as they are known. The latest speaker is first."""

    def __init__(self) -> None:
        self._nicks: dict[str, None] = {}  # the latest speaker last
        self._rooms: dict[str, None] = {}

    @property
    def nicks(self) -> list[str]:
        """The nicks, the latest speaker first."""
        return list(reversed(self._nicks))

    @property
    def rooms(self) -> list[str]:
        """The rooms, the latest one first."""
        return list(reversed(self._rooms))

    def learn_entry(self, entry: Entry) -> None:
        """Learn from an entry of the room who is there."""
        if entry.kind is EntryKind.NOTICE or not entry.nick:
            return
        self._nicks.pop(entry.nick, None)
        if entry.kind is EntryKind.RENAMED:
            _add(self._nicks, entry.text)
        elif entry.kind is not EntryKind.LEFT:
            _add(self._nicks, entry.nick)

    def learn(self, event: Event) -> None:
        """Learn from an event."""
        match event:
            case RoomEntered(room, _, _, others):
                _add(self._rooms, room)
                self._nicks = {}
                for nick in others:
                    _add(self._nicks, nick)
            case MemberList(_, _, nicks):
                for nick in nicks:
                    if nick not in self._nicks:
                        self._nicks = {nick: None, **self._nicks}
            case RoomList(_, rooms):
                for room, _ in rooms:
                    _add(self._rooms, room)
            case Whispered(sender, _, _):
                _add(self._nicks, sender)
            case Entries(_, _, entries):
                for entry in entries:
                    if entry.nick not in self._nicks:
                        self._nicks = {entry.nick: None, **self._nicks}


def _add(names: dict[str, None], name: str) -> None:
    names.pop(name, None)
    names[name] = None
    if len(names) > NAMES_MAX:
        del names[next(iter(names))]


def completions(before: str, commands: Iterable[str], nicks: Iterable[str], rooms: Iterable[str]) -> list[str]:
    """Return what the last word before the cursor may become: a command, a room after ``/join``, else a nick.

    A nick at the beginning of a line is followed by a colon. All but the nick in a text are followed by a space.
    """
    head, space, word = before.rpartition(" ")
    if not space and word.startswith("/"):
        return [f"{each} " for each in _beginning_with(word, (f"/{command}" for command in commands))]
    if head == "/join":
        with_marks = rooms if word.startswith("#") else (room.removeprefix("#") for room in rooms)
        return _beginning_with(word, with_marks)
    found = _beginning_with(word, nicks)
    if not space:
        return [f"{nick}: " for nick in found] if word else []
    return [f"{nick} " for nick in found] if head == "/msg" else found if word else []


def _beginning_with(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.casefold().startswith(word.casefold())]
