"""The lines that are said in rooms: they are appended to the logs, delivered, shown again, and erased."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from netsvc.chat.chat_events import Confirmed, Entries, NotConfirmed, Review
from netsvc.chat.chat_state import ChatState
from netsvc.chat.entries import ERASABLE, Draft, Entry, EntryKind
from netsvc.chat.participant import Participant
from netsvc.chat.room import Membership, Room
from netsvc.chat.store import Appended, Outcome, Retried, StoreError, Unconfirmed
from netsvc.limits.cause import Cause

#: Entries that a member sees at most when it asks.
HISTORY_SHOWN_MAX = 200
FOUND_MAX = 20

#: Seconds in which an author may erase an entry.
ERASE_TIME = 600.0


class Speech:
    """Appends, delivers, shows again and erases lines.

    :param state: the state of the chat.
    :ivar listeners: called with each entry of a room with members.
    """

    log = Logger()

    def __init__(self, state: ChatState) -> None:
        self._state = state
        self.listeners: list[Callable[[Entry], object]] = []

    def say(self, membership: Membership[Participant], text: str, kind: EntryKind, message_id: str) -> None:
        """Append what a member says, as soon as it may speak.

        :param kind: ``SAID``, ``ACTION`` or ``TOPIC``.
        """
        participant, room = membership.participant, membership.room
        if room.modes and not room.may_speak(membership):
            refusal = f"only operators may speak in {room.name}"
            self._state.replies.refuse(participant, Cause.MODERATED, refusal, message_id)
        elif self._state.budget.take(len(room.members)):
            self._say(membership, text, kind, message_id)
        else:
            say = partial(self._say, membership, text, kind, message_id)
            self._state.budget.wait(participant, room.name, len(room), say)

    def append(
        self,
        room: Room[Participant],
        kind: EntryKind,
        nick: str,
        text: str,
        author: str = "",
        *,
        message_id: str = "",
        appended: Appended | None = None,
    ) -> None:
        """Append what no member said, such as that one has joined."""
        self._state.budget.spend(len(room))
        draft = Draft(room.name, kind, nick, text, self._state.terms.wall(), author, message_id)
        self._state.store.append(draft, appended or self.was_appended)

    def was_appended(self, result: Outcome) -> None:
        """Take the store's answer to what no member waits for."""
        if isinstance(result, StoreError):
            self._state.terms.counters.refuse(Cause.STORE_FAILED, "the server", str(result))

    def acknowledge(self, participant: Participant, entry: Entry) -> None:
        """Send a member its own entry, if its form shows that."""
        own = participant.member.entry_format.own_entry(entry)
        if own:
            participant.member.send(own)

    def deliver(self, entry: Entry) -> None:
        """Deliver an entry that the store has appended."""
        room = self._state.rooms.get(entry.room)
        if room is None or entry.epoch != room.epoch:
            return  # the room was closed meanwhile
        room.delivered(entry)
        self._state.fan_out.deliver(room, entry)
        for listener in list(self.listeners):
            try:
                listener(entry)
            except Exception:
                self.log.failure("a listener of the chat failed")

    def show_history(self, membership: Membership[Participant], count: int, before: int | None) -> None:
        """Show a member the last entries of a room, at most 200.

        :param before: show those with offsets below this one; None for the last ones.
        """
        room = membership.room
        until = room.last if before is None else min(before - 1, room.last)
        entries = partial(self._state.store.newest, room.name, until, min(count, HISTORY_SHOWN_MAX))
        self._show(membership, Review.HISTORY, entries)

    def search(self, membership: Membership[Participant], words: str) -> None:
        """Show a member the last 20 entries of a room that have all of the words."""
        room = membership.room
        entries = partial(self._state.store.search, room.name, words, room.last, FOUND_MAX)
        self._show(membership, Review.SEARCH, entries)

    def erase(self, membership: Membership[Participant], offset: int | None, message_id: str) -> None:
        """Erase an entry of a member.

        :param offset: its place; None for the last one.
        """
        erasing = self._erase(membership.participant, membership.room, offset, message_id)
        self._state.replies.serve(membership.participant, erasing, message_id)

    def _show(
        self, membership: Membership[Participant], review: Review, read: Callable[[], Deferred[Sequence[Entry]]]
    ) -> None:
        participant, room = membership.participant, membership.room.name

        async def show() -> None:
            entries = await read()
            if participant.is_present:
                participant.member.tell(Entries(room, review, tuple(entries)))

        self._state.replies.serve(participant, show())

    def _say(self, membership: Membership[Participant], text: str, kind: EntryKind, message_id: str) -> None:
        participant, room = membership.participant, membership.room
        if participant.memberships.get(room.name) is not membership:  # it has left while the line waited
            self._state.terms.counters.drop_lines(1, participant.member.peer)
            return
        draft = Draft(room.name, kind, participant.nick, text, self._state.terms.wall(), participant.author, message_id)
        participant.is_appending = True
        self._state.store.append(draft, partial(self._was_said, participant, message_id))
        if participant.is_appending:
            participant.waits_for_store = True
            participant.begin_wait()

    def _was_said(self, participant: Participant, message_id: str, result: Outcome) -> None:
        """Take the store's answer to what a member said. A new entry was delivered before."""
        if isinstance(result, Unconfirmed):
            participant.is_unconfirmed = True
            participant.member.tell(NotConfirmed(message_id))
            return
        participant.is_appending = False
        if isinstance(result, StoreError):
            reason = str(result)
            text = f"not sent: {reason}"
            self._state.replies.refuse(participant, Cause.STORE_FAILED, text, message_id, detail=reason)
        elif isinstance(result, Retried):
            self.acknowledge(participant, result.entry)
        if participant.is_unconfirmed:
            participant.is_unconfirmed = False
            if not isinstance(result, StoreError):
                participant.member.tell(Confirmed(message_id))
        if participant.waits_for_store:
            participant.waits_for_store = False
            participant.end_wait()

    async def _erase(
        self, participant: Participant, room: Room[Participant], offset: int | None, message_id: str
    ) -> None:
        if offset is None:
            shown = await self._state.store.newest(room.name, room.last, HISTORY_SHOWN_MAX)
            own = (each for each in reversed(shown) if each.author == participant.author and each.kind in ERASABLE)
            entry = next(own, None)
        else:
            entry = await self._state.store.entry_at(room.name, offset)
        if not participant.is_present:
            return
        if entry is None or entry.author != participant.author or entry.kind not in ERASABLE or entry.erased:
            self._state.replies.refuse(participant, Cause.NOT_ERASABLE, "there is no such line of yours", message_id)
        elif self._state.terms.wall() - entry.time > ERASE_TIME:
            refusal = f"a line can be erased for {ERASE_TIME / 60:.0f} minutes only"
            self._state.replies.refuse(participant, Cause.NOT_ERASABLE, refusal, message_id)
        else:
            await self._state.store.erase(room.name, entry.offset)
            if self._state.rooms.get(room.name) is room:
                erased = str(entry.offset)
                self.append(room, EntryKind.ERASED, participant.nick, erased, entry.author, message_id=message_id)
