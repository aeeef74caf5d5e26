"""The rooms that have members. Each is subscribed to in the store while it has some."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from netsvc.chat.directory import Directory
from netsvc.chat.names import Names
from netsvc.chat.participant import Participant
from netsvc.chat.room import LOBBY, Room
from netsvc.chat.store import Store, StoreError
from netsvc.limits.cause import Cause
from netsvc.limits.host_counter import HostCounter


class OpenRooms:
    """Opens and closes rooms.

    :param store: keeps their logs.
    :param directory: knows the rooms of other nodes.
    :param names: the rules for names. A room has the name by which it was opened.
    :param rooms_max: how many rooms there may be; 0 for no limit.
    :param per_host: how many of them members of one host may have opened; 0 for no limit.
    """

    def __init__(self, store: Store, directory: Directory, names: Names, rooms_max: int, per_host: int) -> None:
        self._store = store
        self._directory = directory
        self._names = names
        self._rooms_max = rooms_max
        self._per_host = per_host
        self._rooms: dict[str, Room[Participant]] = {}
        self._opening: dict[str, list[Deferred[Room[Participant]]]] = {}
        self._opened_by: dict[str, str | None] = {}
        self._of_host = HostCounter()
        self._name_by_key = dict.fromkeys(names.keys(LOBBY), LOBBY)

    def get(self, name: str) -> Room[Participant] | None:
        """Return an open room; None if there is none of this name."""
        return self._rooms.get(name)

    def all(self) -> list[Room[Participant]]:
        """Return all open rooms."""
        return list(self._rooms.values())

    async def name_of(self, name: str) -> str:
        """Return the name of the open room whose name looks like this one; if there is none, the name itself."""
        known = self._name_by_key
        local = next((known[key] for key in self._names.keys(name) if key in known), None)
        return local or await self._directory.room_name(name)

    def refusal(self, name: str, host: str | None) -> str:
        """Return why a room cannot be opened from a host; empty if it can be, or is open.

        Such a refusal has the cause :attr:`~netsvc.limits.cause.Cause.TOO_MANY_ROOMS`.
        """
        if name == LOBBY or name in self._rooms or name in self._opening:
            return ""
        if 0 < self._rooms_max <= len(self._rooms) + len(self._opening):
            return f"{Cause.TOO_MANY_ROOMS.sentence}; /rooms lists them"
        if 0 < self._per_host <= self._of_host.count(host):
            return "too many rooms were opened from your address; /rooms lists the rooms"
        return ""

    async def open(self, name: str, host: str | None) -> Room[Participant]:
        """Return a room, for a member that is about to enter. It stays open until :meth:`release` is called.

        :param name: a result of :meth:`name_of`.
        :raises StoreError: if the store cannot subscribe to it.
        """
        room = self._rooms.get(name)
        if room is not None:
            room.expected += 1
            return room
        if name in self._opening:
            opened: Deferred[Room[Participant]] = Deferred()
            self._opening[name].append(opened)
            return await opened
        waiting = self._opening[name] = []
        self._register(name, host)
        try:
            state = await self._store.subscribe(name)
        except StoreError as e:
            del self._opening[name]
            self._forget(name)
            for each in waiting:
                each.errback(e)
            raise
        del self._opening[name]
        room = self._rooms[name] = Room(name, state.end.epoch, state.end.offset, state.topic)
        room.expected = 1 + len(waiting)
        for each in waiting:
            each.callback(room)
        return room

    def release(self, room: Room[Participant]) -> None:
        """The member for which the room was opened has entered it, or does not."""
        room.expected -= 1
        self.close_if_empty(room)

    def close_if_empty(self, room: Room[Participant]) -> None:
        """Close a room that has no members, and in which none is expected."""
        if not room.members and not room.expected and self._rooms.get(room.name) is room:
            del self._rooms[room.name]
            self._forget(room.name)
            self._store.unsubscribe(room.name)

    def _register(self, name: str, host: str | None) -> None:
        if name != LOBBY:
            self._opened_by[name] = host
            self._of_host.add(host, 1)
            self._name_by_key.update(dict.fromkeys(self._names.keys(name), name))

    def _forget(self, name: str) -> None:
        if name != LOBBY:
            self._of_host.add(self._opened_by.pop(name), -1)
            for key in self._names.keys(name):
                # After a directory has lost its data, two names that look alike may have been open.
                if self._name_by_key.get(key) == name:
                    del self._name_by_key[key]
