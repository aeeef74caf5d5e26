"""Sends members what they have not received: what was said before they joined, or what they missed."""

from __future__ import annotations

from collections.abc import Sequence

from netsvc.chat.chat_events import Entries, Resumed, Review, Verdict
from netsvc.chat.chat_state import ChatState
from netsvc.chat.entries import Entry
from netsvc.chat.participant import Participant
from netsvc.chat.room import Membership, Room

#: Missed entries that are read from the store at once.
_READ_AT_ONCE = 100


class CatchUp:
    """Sends members what they have not received. Then they are live.

    :param state: the state of the chat.
    :param replay: how many old entries a member sees when it joins a room.
    """

    def __init__(self, state: ChatState, replay: int) -> None:
        self._state = state
        self._replay = replay

    async def before(self, room: Room[Participant]) -> Sequence[Entry]:
        """Return what a member sees that joins now."""
        if not self._replay or not room.last:
            return ()
        return await self._state.store.newest(room.name, room.last, self._replay)

    def show_before(self, membership: Membership[Participant], entries: Sequence[Entry]) -> None:
        """Show a member what was said before it joined."""
        if entries:
            membership.participant.member.tell(Entries(membership.room.name, Review.REPLAY, tuple(entries)))

    async def lost_after(self, room: Room[Participant], offset: int) -> int:
        """Return how many entries after an offset are no longer kept."""
        kept = await self._state.store.read(room.name, offset, 1)
        first = kept[0].offset if kept else room.last + 1
        return max(0, first - offset - 1)

    async def send_missed(self, membership: Membership[Participant]) -> None:
        """Send a member what comes after ``membership.sent``, as fast as it reads. Then it is live.

        If something is no longer kept, the member is told how much.
        """
        room, participant = membership.room, membership.participant
        while is_in_room(membership) and membership.sent < room.last:
            if participant.member.output_blocked:
                await participant.drained()
                continue
            await self._state.budget.granted(participant, _group(participant), self._cost(membership))
            entries = await self._state.store.read(room.name, membership.sent, _READ_AT_ONCE)
            if is_in_room(membership):
                self._send(membership, [entry for entry in entries if entry.offset <= room.last])
        if is_in_room(membership):
            room.begin_live(membership, participant.member.entry_format)

    def _cost(self, membership: Membership[Participant]) -> int:
        return min(_READ_AT_ONCE, membership.room.last - membership.sent)

    def _send(self, membership: Membership[Participant], entries: Sequence[Entry]) -> None:
        participant, room = membership.participant, membership.room
        first = entries[0].offset if entries else room.last + 1
        if first > membership.sent + 1:
            participant.member.tell(Resumed(room.name, Verdict.LOST, first - membership.sent - 1))
            membership.sent = first - 1
        form = participant.member.entry_format
        for entry in entries:
            data = form.own_entry(entry) if entry.author == participant.author else form.entry(entry)
            membership.sent = entry.offset
            if data:
                participant.member.send(data)


def is_in_room(membership: Membership[Participant]) -> bool:
    """Whether a membership has not ended."""
    return membership.participant.memberships.get(membership.room.name) is membership


def _group(participant: Participant) -> str:
    """Return the group of the budget in which a member catches up. No room has such a name."""
    return f"host {participant.member.host}"
