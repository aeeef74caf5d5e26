"""Which members are in which rooms: they enter, join, part, leave and resume."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from twisted.internet.interfaces import IDelayedCall

from netsvc.chat.chat_events import (
    Entries,
    Event,
    NickSet,
    Resumed,
    Review,
    RoomEntered,
    SessionToken,
    TopicShown,
    Verdict,
    Welcome,
)
from netsvc.chat.chat_state import ChatState
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.participant import Member, Participant, author_of
from netsvc.chat.presence import PresenceSummary
from netsvc.chat.room import LOBBY, Membership, Role, Room
from netsvc.chat.speech import Speech
from netsvc.chat.store import Retried, StoreError
from netsvc.limits.cause import Cause
from netsvc.net.reactors import cancel

T = TypeVar("T")

#: Members of a room above which those who join and leave are summed up, and seconds between two sums.
PRESENCE_SHOWN_MAX = 50
SUMMARY_INTERVAL = 5.0

#: Seconds for which a nick is kept for a member whose connection was lost.
NICK_KEPT = 120.0

#: Missed entries that are read from the store at once.
_READ_AT_ONCE = 100

#: Bytes of the longest list of names. Those that do not fit are counted.
_LIST_MAX = 800


class Attendance:
    """Which members are in which rooms.

    :param state: the state of the chat.
    :param speech: tells the rooms.
    :param replay: how many old entries a member sees when it joins a room.
    :ivar participants: all members.
    """

    def __init__(self, state: ChatState, speech: Speech, replay: int) -> None:
        self._state = state
        self._speech = speech
        self._replay = replay
        self.participants: dict[Member, Participant] = {}
        self._by_author: dict[str, Participant] = {}
        self._presence = PresenceSummary()
        self._next_summary: IDelayedCall | None = None

    def close(self) -> None:
        """Forget what was not told yet."""
        cancel(self._next_summary)
        self._next_summary = None
        self._presence.clear()

    def enter(self, member: Member) -> None:
        """Add a member to the lobby, with a free nick. The lobby is told later: see :meth:`announce`."""
        participant = Participant(member)
        self.participants[member] = self._by_author[participant.author] = participant
        participant.nick = self._state.nicks.claim_guest_nick(participant, self._state.terms.monotonic())
        member.tell(Welcome(participant.nick))
        self._state.replies.serve(participant, self._join(participant, LOBBY, is_arrival=True))

    def announce(self, participant: Participant) -> None:
        """Tell the rooms in which a member has arrived, unless they were told."""
        for membership in list(participant.memberships.values()):
            if not membership.is_announced:
                self._announce_joined(membership)

    def leave(self, participant: Participant, reason: str, *, quietly: bool, keep_nick: bool) -> None:
        """Remove a member and tell its rooms.

        :param reason: follows the nick: ``left``.
        :param quietly: tell nobody.
        :param keep_nick: keep the nick for some time, so that the member can resume with it.
        """
        participant.is_present = False
        del self.participants[participant.member]
        del self._by_author[participant.author]
        self._state.nicks.release(participant)
        if keep_nick:
            self._state.nicks.reserve(participant.nick, participant.author, self._state.terms.monotonic() + NICK_KEPT)
        for membership in list(participant.memberships.values()):
            self.part(membership, reason, quietly=quietly)
        participant.output_drained()

    def join(self, participant: Participant, room: str, *, leaving: str | None, message_id: str) -> None:
        """Add a member to a room, which is opened if it does not exist.

        :param leaving: a room that the member leaves for this one.
        """
        joining = self._join(participant, room, leaving=leaving, message_id=message_id)
        self._state.replies.serve(participant, joining, message_id)

    def part(self, membership: Membership[Participant], reason: str, *, quietly: bool = False) -> None:
        """Remove a member from a room and tell the room, if it was told that the member had joined."""
        room, participant = membership.room, membership.participant
        is_crowd = len(room) > PRESENCE_SHOWN_MAX
        room.remove(membership)
        del participant.memberships[room.name]
        if membership.is_announced and not quietly:
            if is_crowd:
                self._presence.left(room.name)
                self._schedule_summary()
            else:
                # The room stays open until the entry is delivered to those who listen.
                closing = partial(self._close_if_empty, room)
                self._speech.append(
                    room, EntryKind.LEFT, participant.nick, reason, participant.author, appended=closing
                )
                return
        self._state.rooms.close_if_empty(room)

    def rename(self, participant: Participant, nick: str, message_id: str) -> None:
        """Give a member another nick, which is valid, and tell its rooms."""
        rename = partial(self._rename, participant, nick, message_id)
        told = (each.room for each in participant.memberships.values() if each.is_announced)
        largest = max(told, key=len, default=None)
        if largest is None or self._state.turns.take(largest):
            rename()
        else:
            self._state.turns.wait(participant, largest, rename)

    def begin_session(self, participant: Participant) -> None:
        """Tell a member its token, its nick and its rooms, with their positions. Its form has changed."""
        member = participant.member
        member.tell(SessionToken(participant.token))
        member.tell(NickSet(participant.nick))
        for before in list(participant.memberships.values()):
            # A new membership, so that nothing more is delivered to it in the previous form.
            room = before.room
            room.remove(before)
            membership = participant.memberships[room.name] = room.add(participant, before.role)
            membership.is_announced = before.is_announced
            membership.sent = self._state.turns.delivered(room)
            member.tell(self._entered(membership))
            self._state.replies.serve(participant, self._catch_up(membership))

    def resume(
        self, participant: Participant, token: str, nick: str, positions: Mapping[str, Position], message_id: str
    ) -> None:
        """Make a member the one that has this token, and show it what it missed. See ``ChatHub.resume``."""
        self._state.replies.serve(participant, self._resume(participant, token, nick, positions), message_id)

    def nicks_in(self, room: Room[Participant], but: Membership[Participant] | None = None) -> tuple[str, ...]:
        """Return as many nicks of the members of a room as fit on a line."""
        nicks = (each.participant.nick for each in room.members.values() if each is not but)
        return that_fit(nicks, lambda nick: len(nick.encode()) + 2)

    def _rename(self, participant: Participant, nick: str, message_id: str) -> None:
        old = participant.nick
        if old == nick:
            self._state.replies.refuse(participant, Cause.NICK_TAKEN, f"you are already {nick}", message_id)
            return
        problem = self._state.nicks.problem(nick, participant, participant.author, self._state.terms.monotonic())
        if problem:
            refusal = f"{nick} {problem}; take another nick"
            self._state.replies.refuse(participant, Cause.NICK_TAKEN, refusal, message_id)
            return
        self._state.nicks.claim(nick, participant, participant.author)
        participant.nick = nick
        participant.member.tell(NickSet(nick))
        for membership in participant.memberships.values():
            if membership.is_announced:
                self._speech.append(membership.room, EntryKind.RENAMED, old, nick, participant.author)

    async def _join(
        self,
        participant: Participant,
        name: str,
        *,
        leaving: str | None = None,
        is_arrival: bool = False,
        message_id: str = "",
    ) -> None:
        name = self._state.rooms.name_of(name)
        if name in participant.memberships:
            self._state.replies.refuse(participant, Cause.ALREADY_IN_ROOM, f"you are already in {name}", message_id)
            return
        refusal = self._state.rooms.refusal(name, participant.member.host)
        if refusal:
            self._state.replies.refuse(participant, Cause.TOO_MANY_ROOMS, refusal, message_id)
            return
        room = await self._state.rooms.open(name, participant.member.host)
        if participant.is_present and not room.may_join(participant.author):
            refusal = f"{name} is open to invited members only"
            self._state.replies.refuse(participant, Cause.INVITE_ONLY, refusal, message_id)
        elif participant.is_present and name not in participant.memberships:
            left = participant.memberships.get(leaving) if leaving is not None else None
            if left is not None:
                self.part(left, f"moved to {name}")
            await self._enter_room(participant, room, is_arrival=is_arrival)
        self._state.rooms.close_if_empty(room)

    async def _enter_room(self, participant: Participant, room: Room[Participant], *, is_arrival: bool = False) -> None:
        membership = self._add(participant, room)
        participant.member.tell(self._entered(membership))
        if room.topic is not None:
            participant.member.tell(topic_shown(room))
        await self._show_before(membership)
        await self._catch_up(membership)
        if not is_arrival and _is_in_room(membership):
            self._announce_joined(membership)

    async def _show_before(self, membership: Membership[Participant]) -> None:
        """Show a member what was said in a room before it joined."""
        room = membership.room
        if self._replay and membership.sent:
            entries = await self._state.store.newest(room.name, membership.sent, self._replay)
            if entries and _is_in_room(membership):
                membership.participant.member.tell(Entries(room.name, Review.REPLAY, tuple(entries)))

    async def _resume(self, participant: Participant, token: str, nick: str, positions: Mapping[str, Position]) -> None:
        author, host = author_of(token), participant.member.host
        rooms: list[tuple[Room[Participant], Position]] = []
        try:
            for name, position in positions.items():
                refusal = self._state.rooms.refusal(name, host)
                if refusal:
                    self._state.replies.refuse(participant, Cause.TOO_MANY_ROOMS, refusal)
                    continue
                # All are opened before an earlier connection leaves them. Otherwise a log might end with it.
                room = await self._state.rooms.open(name, host)
                room.expected += 1
                rooms.append((room, position))
            if participant.is_present:
                stayed = self._take_identity(participant, token, author, nick, positions)
                for room, position in rooms:
                    await self._resume_room(participant, room, position, is_announced=room.name in stayed)
        finally:
            for room, _ in rooms:
                room.expected -= 1
                self._state.rooms.close_if_empty(room)

    def _take_identity(
        self, participant: Participant, token: str, author: str, nick: str, positions: Mapping[str, Position]
    ) -> set[str]:
        """Make a member the one that has this token. Return the rooms in which its earlier connection still was."""
        for membership in list(participant.memberships.values()):
            self.part(membership, "left")
        stayed: set[str] = set()
        previous = self._by_author.get(author)
        if previous is not None and previous is not participant:
            participant.away = previous.away
            nick = previous.nick
            stayed = self._replace(previous, positions)
        del self._by_author[participant.author]
        participant.token, participant.author = token, author
        self._by_author[author] = participant
        nicks, now = self._state.nicks, self._state.terms.monotonic()
        nick = nicks.reserved_for(author, now) or nick
        if participant.nick != nick and not nicks.problem(nick, participant, author, now):
            nicks.claim(nick, participant, author)
            participant.nick = nick
        participant.member.tell(SessionToken(token))
        participant.member.tell(NickSet(participant.nick))
        return stayed

    async def _resume_room(
        self, participant: Participant, room: Room[Participant], position: Position, *, is_announced: bool
    ) -> None:
        if not room.may_join(participant.author):
            refusal = f"{room.name} is open to invited members only"
            self._state.replies.refuse(participant, Cause.INVITE_ONLY, refusal)
            return
        if not participant.is_present or room.name in participant.memberships:
            return
        membership = self._add(participant, room)
        participant.member.tell(self._entered(membership))
        if position.epoch != room.epoch or not 0 <= position.offset <= room.last:
            participant.member.tell(Resumed(room.name, Verdict.UNKNOWN, 0))
            await self._show_before(membership)
        else:
            kept = await self._state.store.read(room.name, position.offset, 1)
            first = kept[0].offset if kept else membership.sent + 1
            lost = first - position.offset - 1
            membership.sent = first - 1
            verdict = Verdict.LOST if lost else Verdict.RECOVERED
            if _is_in_room(membership):
                participant.member.tell(Resumed(room.name, verdict, lost))
        await self._catch_up(membership)
        if _is_in_room(membership):
            if is_announced:
                membership.is_announced = True
            else:
                self._announce_joined(membership)

    async def _catch_up(self, membership: Membership[Participant]) -> None:
        """Send a member what it missed, as fast as it reads, until nothing is left. Then it is live."""
        room, participant = membership.room, membership.participant
        while _is_in_room(membership) and membership.sent < room.last:
            if participant.member.output_blocked:
                await participant.drained()
                continue
            entries = await self._state.store.read(room.name, membership.sent, _READ_AT_ONCE)
            if not _is_in_room(membership):
                return
            form = participant.member.entry_format
            for entry in entries:
                if entry.offset > room.last:
                    break
                data = form.own_entry(entry) if entry.author == participant.author else form.entry(entry)
                membership.sent = entry.offset
                if data:
                    participant.member.send(data)
            if not entries:
                membership.sent = room.last  # what is no longer kept
        if _is_in_room(membership):
            room.begin_live(membership, participant.member.entry_format)

    def _add(self, participant: Participant, room: Room[Participant]) -> Membership[Participant]:
        role = Role.MEMBER if room.members or room.name == LOBBY else Role.OWNER
        membership = participant.memberships[room.name] = room.add(participant, role)
        membership.sent = room.last
        return membership

    def _announce_joined(self, membership: Membership[Participant]) -> None:
        membership.is_announced = True
        participant, room = membership.participant, membership.room
        if len(room) > PRESENCE_SHOWN_MAX:
            self._presence.joined(room.name)
            self._schedule_summary()
        else:
            self._speech.append(room, EntryKind.JOINED, participant.nick, "", participant.author)

    def _close_if_empty(self, room: Room[Participant], result: Entry | Retried | StoreError) -> None:
        self._speech.was_appended(result)
        self._state.rooms.close_if_empty(room)

    def _replace(self, previous: Participant, positions: Mapping[str, Position]) -> set[str]:
        """Remove a member whose place another connection takes. Return the rooms that need not be told."""
        stayed = set()
        for name, membership in list(previous.memberships.items()):
            stays = name in positions and membership.is_announced
            if stays:
                stayed.add(name)
            self.part(membership, "left", quietly=stays)
        self.leave(previous, "left", quietly=True, keep_nick=False)
        previous.member.replaced()
        return stayed

    def _schedule_summary(self) -> None:
        if self._next_summary is None:
            self._next_summary = self._state.terms.clock.callLater(SUMMARY_INTERVAL, self._summarise)

    def _summarise(self) -> None:
        self._next_summary = None
        for name, text in self._presence.take().items():
            room = self._state.rooms.get(name)
            if room is not None:
                self._speech.append(room, EntryKind.NOTICE, "", text)

    def _entered(self, membership: Membership[Participant]) -> Event:
        room = membership.room
        others = self.nicks_in(room, but=membership)
        return RoomEntered(room.name, Position(room.epoch, membership.sent), len(room), others)


def _is_in_room(membership: Membership[Participant]) -> bool:
    return membership.participant.memberships.get(membership.room.name) is membership


def topic_shown(room: Room[Participant]) -> TopicShown:
    """Return the topic of a room as an event."""
    topic = room.topic
    if topic is None:
        return TopicShown(room.name, "")
    return TopicShown(room.name, topic.text, topic.nick, topic.time)


def that_fit(items: Iterable[T], length: Callable[[T], int]) -> tuple[T, ...]:
    """Return as many of the items as fit on a line. The rest is not looked at."""
    shown: list[T] = []
    left = _LIST_MAX
    for item in items:
        left -= length(item)
        if left < 0:
            break
        shown.append(item)
    return tuple(shown)
