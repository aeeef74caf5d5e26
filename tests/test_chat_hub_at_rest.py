"""Random requests to a chat whose store is late: when everything is answered, its state is right."""

from __future__ import annotations

from random import Random

import pytest

from netsvc.chat.chat_events import RoomEntered, SessionToken
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.hub import ChatHub
from netsvc.chat.program_lines import PROGRAM_LINES
from tests.chat_members import RecordingMember, SlowStore, new_hub

SEEDS = 400
SEEDS_PER_TEST = 40
STEPS = 60
ROOMS = ("#a", "#b", "#lobby")


class Requests:
    """Makes random requests to a chat, and checks it.

    :param seed: determines the requests.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._store = SlowStore()
        self._hub: ChatHub = new_hub(store=self._store, rooms_per_host=0)
        self._hub.listen(self._note)
        self._present: dict[str, set[str]] = {}
        self._members: list[RecordingMember] = []
        self._tokens: list[str] = ["0" * 32]

    def run(self) -> None:
        """Make the requests, let the store answer, and check the chat."""
        self._store.is_slow = True
        for step in range(STEPS):
            self._store.answer(self._random.randrange(4))
            self._request(step)
        self._store.answer()
        for member in self._members:
            if member in self._hub:
                self._hub.announce_arrival(member)
        self._store.answer()
        self._check()

    def _note(self, entry: Entry) -> None:
        """Take note of who is in a room by its entries."""
        present = self._present.setdefault(entry.room, set())
        if entry.kind is EntryKind.JOINED:
            assert entry.nick not in present, f"{entry.nick} joined twice"
            present.add(entry.nick)
        elif entry.kind is EntryKind.LEFT:
            assert entry.nick in present, f"{entry.nick} left and had not joined"
            present.remove(entry.nick)
        elif entry.kind is EntryKind.RENAMED:
            present.remove(entry.nick)
            present.add(entry.text)

    def _request(self, step: int) -> None:
        ready = [member for member in self._members if member in self._hub and not member.paused]
        action = self._random.randrange(11)
        if action < 2 or not ready:
            member = RecordingMember(entry_format=PROGRAM_LINES)
            self._members.append(member)
            self._hub.enter(member)
            return
        member = self._random.choice(ready)
        self._tokens += [told.token for told in member.told(SessionToken)]
        room = next(iter(self._hub.rooms_of(member)), "")
        match action:
            case 2 | 3:
                self._hub.say(member, room, f"{step}", message_id=f"m{step}")
            case 4:
                self._hub.join(member, self._random.choice(ROOMS), leaving=[room])
            case 5:
                self._hub.leave(member, keep_nick=self._random.random() < 0.5)
            case 6:
                self._hub.rename(member, self._random.choice(("ann", "bob", "cy")))
            case 7:
                self._hub.begin_session(member)
            case 8:
                positions = {self._random.choice(ROOMS): self._position(member)}
                self._hub.resume(member, self._random.choice(self._tokens), "dee", positions)
            case 9:
                self._hub.erase(member, room)
            case 10:
                self._hub.announce_arrival(member)

    def _position(self, member: RecordingMember) -> Position:
        known = member.told(RoomEntered)
        return known[-1].position if known else Position("0a", 3)

    def _check(self) -> None:
        members = [member for member in self._members if member in self._hub]
        assert not [member for member in members if member.paused], "a member is paused although nothing is to be done"
        nicks = [self._hub.nick(member).lower() for member in members]
        assert len(nicks) == len(set(nicks)) == len(self._hub)
        counts = {name: sum(name in self._hub.rooms_of(member) for member in members) for name in ROOMS}
        assert self._hub.rooms() == {name: count for name, count in counts.items() if count}
        for name in ROOMS:
            room = self._hub.room(name)
            present = [] if room is None else list(room.members.values())
            assert all(membership.is_live for membership in present), f"a member of {name} gets no entries"
            assert room is None or present, f"{name} is open although it has no members"
            assert self._present.get(name, set()) == set(self._hub.members(name)), f"the log of {name} is wrong"
        for member in members:
            self._hub.leave(member)
        self._store.answer()
        assert self._hub.rooms() == {}


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_after_any_requests_all_members_are_served_and_the_logs_say_who_is_where(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        try:
            Requests(seed).run()
        except BaseException:
            print(f"seed {seed}")  # noqa: T201
            raise
