"""Which members are in which rooms: they enter, join, part, leave and resume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater

from netsvc.chat.catch_up import CatchUp, is_in_room
from netsvc.chat.chat_events import (
    MemberList,
    NickSet,
    Resumed,
    RoomEntered,
    RoomLeft,
    SessionToken,
    TopicShown,
    Verdict,
    Welcome,
    Whispered,
)
from netsvc.chat.chat_state import ChatState
from netsvc.chat.directory import RoomMembers
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.participant import Member, Participant, Resumption, author_of
from netsvc.chat.presence import PresenceSummary
from netsvc.chat.room import LOBBY, Membership, Role, Room
from netsvc.chat.speech import Speech
from netsvc.chat.store import NewLog, Outcome, StoreError, Unconfirmed
from netsvc.limits.cause import Cause
from netsvc.limits.host_counter import HostCounter
from netsvc.net.reactors import cancel

T = TypeVar("T")

#: Members of a room above which those who join and leave are summed up, and seconds between two sums.
PRESENCE_SHOWN_MAX = 50
SUMMARY_INTERVAL = 5.0

#: Seconds for which a nick is kept for a member whose connection was lost.
NICK_KEPT = 120.0

#: Seconds until a member that could not enter tries again.
ENTER_AGAIN_AFTER = 1.0

#: Bytes of the longest list of names. Those that do not fit are counted.
_LIST_MAX = 800

#: How many nicks, of one letter each, fit on it.
NICKS_LISTED_MAX = _LIST_MAX // 3


class Attendance:
    """Which members are in which rooms.

    :param state: the state of the chat.
    :param speech: tells the rooms.
    :param catch_up: sends a member what it has not received.
    :ivar participants: all members.
    """

    def __init__(self, state: ChatState, speech: Speech, catch_up: CatchUp) -> None:
        self._state = state
        self._speech = speech
        self._catch_up = catch_up
        self.participants: dict[Member, Participant] = {}
        self._by_author: dict[str, Participant] = {}
        self._adopted: Counter[str] = Counter()  # authors whose sessions members are about to resume
        self._of_hosts = HostCounter()
        self._presence = PresenceSummary()
        self._next_summary: IDelayedCall | None = None

    def close(self) -> None:
        """Forget what was not told yet."""
        cancel(self._next_summary)
        self._next_summary = None
        self._presence.clear()

    def enter(self, member: Member, resumption: Resumption | None) -> None:
        """Add a member, with a free nick. The lobby is told later: see :meth:`announce`.

        :param resumption: the earlier session of a member that resumes.
        """
        participant = Participant(member)
        self.participants[member] = self._by_author[participant.author] = participant
        self._of_hosts.add(member.host, 1)
        message_id = resumption.message_id if resumption is not None else ""
        self._state.replies.serve(participant, self._enter(participant, resumption), message_id)

    def members_of_host(self, host: str | None) -> int:
        """Return how many members have connections from the same host."""
        return self._of_hosts.count(host)

    def announce(self, participant: Participant) -> None:
        """Tell the rooms in which a member has arrived, unless they were told."""
        for membership in list(participant.memberships.values()):
            self._announce_joined(membership)

    def leave(self, participant: Participant, reason: str, *, quietly: bool, keep_nick: bool) -> None:
        """Remove a member and tell its rooms.

        :param reason: follows the nick: ``left``.
        :param quietly: tell nobody.
        :param keep_nick: keep the nick for some time, so that the member can resume with it.
        """
        for membership in list(participant.memberships.values()):
            self.part(membership, reason, quietly=quietly)
        self._remove(participant)
        if not self._adopted[participant.author]:
            self._state.directory.leave(participant.author, NICK_KEPT if keep_nick else 0.0)

    def join(self, participant: Participant, room: str, *, leaving: Collection[str], message_id: str) -> None:
        """Add a member to a room, which is opened if it does not exist.

        :param leaving: the rooms that the member leaves for this one.
        """
        joining = self._join(participant, room, leaving=leaving, message_id=message_id)
        self._state.replies.serve(participant, joining, message_id)

    def part(self, membership: Membership[Participant], reason: str, *, quietly: bool = False) -> None:
        """Remove a member from a room and tell the room, if it was told that the member had joined."""
        room, participant = membership.room, membership.participant
        is_crowd = len(room) > PRESENCE_SHOWN_MAX
        self._state.fan_out.flush(membership)
        room.remove(membership)
        del participant.memberships[room.name]
        self._state.directory.part(participant.author, room.name)
        if membership.is_announced and not quietly:
            if is_crowd:
                self._presence.left(room.name)
                self._schedule_summary()
            else:
                # The room stays open until the entry is delivered to those who listen.
                room.expected += 1
                closing = partial(self._release, room)
                self._speech.append(
                    room, EntryKind.LEFT, participant.nick, reason, participant.author, appended=closing
                )
                return
        self._state.rooms.close_if_empty(room)

    def rename(self, participant: Participant, nick: str, message_id: str) -> None:
        """Give a member another nick, which is valid, and tell its rooms."""
        rename = partial(self._begin_rename, participant, nick, message_id)
        told = (each.room for each in participant.memberships.values() if each.is_announced)
        largest = max(told, key=len, default=None)
        if largest is None or self._state.budget.take(len(largest)):
            rename()
        else:
            self._state.budget.wait(participant, largest.name, len(largest), rename)

    def begin_session(self, participant: Participant) -> None:
        """Tell a member its token, its nick and its rooms, with their positions. Its form has changed."""
        self._state.replies.serve(participant, self._begin_session(participant))

    def resume(self, participant: Participant, resumption: Resumption) -> None:
        """Make a member the one that has this token, and show it what it missed."""
        self._state.replies.serve(participant, self._resume(participant, resumption), resumption.message_id)

    async def list_members(self, participant: Participant, room: str) -> None:
        """Tell a member who is in a room."""
        present = await self._state.directory.members(room, NICKS_LISTED_MAX)
        if participant.is_present:
            participant.member.tell(MemberList(room, present.count, fitting_nicks(present.nicks)))

    def log_begun_anew(self, new: NewLog) -> None:
        """Tell the members of a room that its log was begun anew, and go on with it. The store calls this."""
        room = self._state.rooms.get(new.room)
        if room is None:
            return
        for membership in room.members.values():
            self._state.fan_out.flush(membership)
        room.epoch, room.last = new.state.end
        room.topic = new.state.topic
        present = Deferred.fromCoroutine(self._present(room))  # one request for all
        for before in list(room.members.values()):
            # A new membership, so that nothing of the log before is delivered to it.
            room.remove(before)
            membership = self._new_membership(before.participant, room, room.last, before.role)
            membership.is_announced = before.is_announced
            self._state.replies.serve(before.participant, self._go_on(membership, _shared(present), new.unseen))

    # Called by the directory

    def whispered(self, author: str, whispered: Whispered) -> None:
        """Deliver a private message."""
        recipient = self._by_author.get(author)
        if recipient is not None:
            recipient.member.tell(whispered)

    def taken_over(self, author: str) -> None:
        """Remove a member whose place a connection to another node has taken."""
        participant = self._by_author.get(author)
        if participant is not None:
            self._replace(participant, set(participant.memberships))

    def renamed(self, author: str, nick: str) -> None:
        """Give a member that has lost its nick another one."""
        participant = self._by_author.get(author)
        if participant is not None:
            self._set_nick(participant, nick)

    def returned(self, author: str, nick: str) -> None:
        """Tell the rooms of a member that it is there. They were told that it left, because this node was cut off."""
        participant = self._by_author.get(author)
        if participant is not None:
            if participant.nick != nick:
                participant.nick = nick
                participant.member.tell(NickSet(nick))
            for membership in participant.memberships.values():
                if membership.is_announced:
                    self._tell_joined(membership)

    # Internal

    def _remove(self, participant: Participant) -> None:
        """Remove a member that is in no room any more."""
        participant.is_present = False
        self._of_hosts.add(participant.member.host, -1)
        del self.participants[participant.member]
        del self._by_author[participant.author]
        participant.output_drained()

    async def _enter(self, participant: Participant, resumption: Resumption | None) -> None:
        nick, was_told = await self._entered(participant)
        if not participant.is_present:
            self._state.directory.leave(participant.author)
            return
        participant.nick = nick
        if resumption is not None:
            # A client that was told to wait has connected again. It must not lose the session to this connection.
            if not was_told:
                await self._resume(participant, resumption)
            return
        participant.member.tell(Welcome(nick))
        participant.member.tell(SessionToken(participant.token))
        await self._join(participant, LOBBY, is_arrival=True)

    async def _entered(self, participant: Participant) -> tuple[str, bool]:
        """Return the nick of a new member, and whether it was told to wait until the directory can answer."""
        was_told = False
        while participant.is_present:
            try:
                return await self._state.directory.enter(participant.author), was_told
            except StoreError as e:
                if participant.is_present and not was_told:
                    was_told = True
                    refusal = f"please wait: {e}"
                    self._state.replies.refuse(participant, Cause.STORE_FAILED, refusal, detail=str(e))
            clock: Any = self._state.terms.clock  # Twisted asks for an interface of zope
            await deferLater(clock, ENTER_AGAIN_AFTER)
        return "", was_told

    def _begin_rename(self, participant: Participant, nick: str, message_id: str) -> None:
        if participant.is_present:  # it may have left while this waited
            self._state.replies.serve(participant, self._rename(participant, nick, message_id), message_id)

    async def _rename(self, participant: Participant, nick: str, message_id: str) -> None:
        old = participant.nick
        if old == nick:
            self._state.replies.refuse(participant, Cause.NICK_TAKEN, f"you are already {nick}", message_id)
            return
        problem = await self._state.directory.claim(participant.author, nick)
        if not participant.is_present:
            return
        if problem:
            refusal = f"{nick} {problem}; take another nick"
            self._state.replies.refuse(participant, Cause.NICK_TAKEN, refusal, message_id)
            return
        if participant.nick != nick:  # the directory may have told it before it answered
            self._set_nick(participant, nick)

    def _set_nick(self, participant: Participant, nick: str) -> None:
        """Note the new nick of a member, and tell it and its rooms."""
        old, participant.nick = participant.nick, nick
        participant.member.tell(NickSet(nick))
        for membership in participant.memberships.values():
            if membership.is_announced:
                self._speech.append(membership.room, EntryKind.RENAMED, old, nick, participant.author)

    async def _join(
        self,
        participant: Participant,
        name: str,
        *,
        leaving: Collection[str] = (),
        is_arrival: bool = False,
        message_id: str = "",
    ) -> None:
        name = await self._state.rooms.name_of(name)
        if name in participant.memberships:
            self._state.replies.refuse(participant, Cause.ALREADY_IN_ROOM, f"you are already in {name}", message_id)
            return
        refusal = self._state.rooms.refusal(name, participant.member.host)
        if refusal:
            self._state.replies.refuse(participant, Cause.TOO_MANY_ROOMS, refusal, message_id)
            return
        room = await self._state.rooms.open(name, participant.member.host)
        try:
            await self._enter_room(participant, room, leaving, message_id, is_arrival=is_arrival)
        finally:
            self._state.rooms.release(room)

    def _may_enter(self, participant: Participant, room: Room[Participant], message_id: str = "") -> bool:
        if not participant.is_present or room.name in participant.memberships:
            return False
        if not room.may_join(participant.author):
            refusal = f"{room.name} is open to invited members only"
            self._state.replies.refuse(participant, Cause.INVITE_ONLY, refusal, message_id)
            return False
        return True

    async def _enter_room(
        self,
        participant: Participant,
        room: Room[Participant],
        leaving: Collection[str],
        message_id: str,
        *,
        is_arrival: bool,
    ) -> None:
        epoch, until = room.epoch, room.last
        before = await self._catch_up.before(room)
        others = await self._others(participant, room)
        if room.epoch != epoch:  # the log was begun anew meanwhile
            until = room.last
        if not self._may_enter(participant, room, message_id):
            return
        for left in [each for name, each in participant.memberships.items() if name in leaving]:
            self.part(left, f"moved to {room.name}")
        membership = self._add(participant, room, until, others)
        if room.topic is not None:
            participant.member.tell(topic_shown(room))
        self._catch_up.show_before(membership, before)
        await self._bring_up_to_date(membership)
        if not is_arrival and is_in_room(membership):
            self._announce_joined(membership)

    async def _bring_up_to_date(self, membership: Membership[Participant]) -> None:
        """Send a member what it missed."""
        with self._removed_if_the_store_fails(membership):
            await self._catch_up.send_missed(membership)

    @contextmanager
    def _removed_if_the_store_fails(self, membership: Membership[Participant]) -> Iterator[None]:
        """Remove a member from its room, and tell it so, if the store fails: it would receive nothing there."""
        try:
            yield
        except StoreError:
            if is_in_room(membership):
                self.part(membership, "left")
                membership.participant.member.tell(RoomLeft(membership.room.name))
            raise

    async def _resume(self, participant: Participant, resumption: Resumption) -> None:
        token, nick, positions = resumption.token, resumption.nick, resumption.positions
        author, host = author_of(token), participant.member.host
        rooms: list[tuple[Room[Participant], Position]] = []
        refused: dict[str, str] = {}
        try:
            for wanted, position in positions.items():
                name = await self._state.rooms.name_of(wanted)
                refusal = self._state.rooms.refusal(name, host)
                if refusal:
                    refused[name] = refusal
                else:
                    # All are opened before an earlier connection leaves them. Otherwise a log might end with it.
                    rooms.append((await self._state.rooms.open(name, host), position))
            if not rooms:  # before the token: the session cannot be continued
                self._refuse_rooms(participant, refused)
            if participant.is_present:
                names = {room.name for room, _ in rooms}
                stayed = await self._take_identity(participant, token, author, nick, names)
                for room, position in rooms:
                    others = await self._others(participant, room)
                    if self._may_enter(participant, room):
                        is_announced = room.name in stayed
                        await self._resume_room(participant, room, position, others, is_announced=is_announced)
                    elif len(positions) > 1:
                        participant.member.tell(RoomLeft(room.name))
                if rooms:
                    self._refuse_rooms(participant, refused)
        finally:
            for room, _ in rooms:
                self._state.rooms.release(room)

    def _refuse_rooms(self, participant: Participant, refused: Mapping[str, str]) -> None:
        """Tell a member that resumes in which rooms it is not, and why."""
        for name, refusal in refused.items():
            if participant.is_present:
                self._state.replies.refuse(participant, Cause.TOO_MANY_ROOMS, refusal)
                if participant.memberships:
                    participant.member.tell(RoomLeft(name))

    async def _take_identity(
        self, participant: Participant, token: str, author: str, nick: str, rooms: Set[str]
    ) -> set[str]:
        """Make a member the one that has this token.

        :param rooms: in which it is about to be. They are not told that its earlier connection leaves.
        :return: those of them in which its earlier connection was.
        """
        self._adopted[author] += 1
        try:
            adopted = await self._state.directory.adopt(author, nick, rooms, participant.author)
        finally:
            self._adopted -= Counter([author])
        previous = self._by_author.get(author)
        if not participant.is_present:
            if previous is None and not self._adopted[author]:
                self._state.directory.leave(author)
            return set()
        for membership in list(participant.memberships.values()):
            self.part(membership, "left")
        stayed = set(adopted.rooms)
        if previous is not None and previous is not participant:
            stayed |= self._replace(previous, rooms)
        del self._by_author[participant.author]
        participant.token, participant.author = token, author
        self._by_author[author] = participant
        participant.nick = adopted.nick
        participant.member.tell(SessionToken(token))
        participant.member.tell(NickSet(participant.nick))
        return stayed

    async def _resume_room(
        self,
        participant: Participant,
        room: Room[Participant],
        position: Position,
        others: RoomMembers,
        *,
        is_announced: bool,
    ) -> None:
        is_known = position.epoch == room.epoch and 0 <= position.offset <= room.last
        # In the room at once: an earlier connection of the member has left it, and the room was not told.
        sent = position.offset if is_known else room.last
        membership = self._add(participant, room, sent, others, is_announced=is_announced)
        with self._removed_if_the_store_fails(membership):
            if is_known:
                lost = await self._catch_up.lost_after(room, sent)
                if not is_in_room(membership):
                    return
                membership.sent += lost
                participant.member.tell(Resumed(room.name, Verdict.LOST if lost else Verdict.RECOVERED, lost))
            else:
                participant.member.tell(Resumed(room.name, Verdict.UNKNOWN, 0))
                if room.topic is not None:
                    participant.member.tell(topic_shown(room))
                before = await self._catch_up.before(room)
                if not is_in_room(membership):
                    return
                self._catch_up.show_before(membership, before)
            await self._catch_up.send_missed(membership)
        if is_in_room(membership):
            self._announce_joined(membership)

    def _add(
        self,
        participant: Participant,
        room: Room[Participant],
        sent: int,
        others: RoomMembers,
        *,
        role: Role | None = None,
        is_announced: bool = False,
    ) -> Membership[Participant]:
        """Add a member to a room, and tell it so.

        :param sent: the offset of the last entry that it has.
        :param others: the other members.
        :param role: by default, the member that opens a room other than the lobby owns it.
        """
        if role is None:
            role = Role.MEMBER if others.count or room.name == LOBBY else Role.OWNER
        membership = self._new_membership(participant, room, sent, role)
        membership.is_announced = is_announced
        self._state.directory.join(participant.author, room.name, is_announced=is_announced)
        self._tell_entered(membership, others)
        return membership

    def _new_membership(
        self, participant: Participant, room: Room[Participant], sent: int, role: Role
    ) -> Membership[Participant]:
        membership = participant.memberships[room.name] = room.add(participant, role)
        membership.sent = sent
        return membership

    def _tell_entered(self, membership: Membership[Participant], others: RoomMembers) -> None:
        room, position = membership.room, Position(membership.room.epoch, membership.sent)
        entered = RoomEntered(room.name, position, others.count + 1, fitting_nicks(others.nicks))
        membership.participant.member.tell(entered)

    async def _go_on(
        self, membership: Membership[Participant], present: Deferred[RoomMembers], unseen: Sequence[Entry]
    ) -> None:
        """Tell a member that the log of its room was begun anew, and where it goes on."""
        participant, room = membership.participant, membership.room
        members = await present
        if is_in_room(membership):
            self._tell_entered(membership, _without(participant, room, members))
            participant.member.tell(Resumed(room.name, Verdict.UNKNOWN, 0))
            self._catch_up.show_before(membership, unseen)
            for entry in unseen:
                if entry.message_id and entry.author == participant.author:  # a program waits for it
                    self._speech.acknowledge(participant, entry)
            await self._bring_up_to_date(membership)

    async def _others(self, participant: Participant, room: Room[Participant]) -> RoomMembers:
        """Return the other members of a room."""
        present = await self._state.directory.members(room.name, NICKS_LISTED_MAX)
        return _without(participant, room, present)

    async def _present(self, room: Room[Participant]) -> RoomMembers:
        """Return the members of a room; those of this node if the directory cannot answer."""
        try:
            return await self._state.directory.members(room.name, NICKS_LISTED_MAX)
        except StoreError:
            nicks = tuple(each.participant.nick for each in room.members.values())
            return RoomMembers(len(nicks), nicks[:NICKS_LISTED_MAX])

    async def _begin_session(self, participant: Participant) -> None:
        others = {name: await self._others(participant, each.room) for name, each in [*participant.memberships.items()]}
        if not participant.is_present:
            return
        participant.member.tell(SessionToken(participant.token))
        participant.member.tell(NickSet(participant.nick))
        for name, before in list(participant.memberships.items()):
            # A new membership, so that nothing more is delivered to it in the previous form.
            room = before.room
            room.remove(before)
            sent = self._state.fan_out.delivered(room)
            told = before.is_announced
            membership = self._add(participant, room, sent, others[name], role=before.role, is_announced=told)
            self._state.replies.serve(participant, self._bring_up_to_date(membership))

    def _announce_joined(self, membership: Membership[Participant]) -> None:
        if membership.is_announced:
            return
        membership.is_announced = True
        participant, room = membership.participant, membership.room
        self._state.directory.join(participant.author, room.name, is_announced=True)
        self._tell_joined(membership)

    def _tell_joined(self, membership: Membership[Participant]) -> None:
        participant, room = membership.participant, membership.room
        if len(room) > PRESENCE_SHOWN_MAX:
            self._presence.joined(room.name)
            self._schedule_summary()
        else:
            self._speech.append(room, EntryKind.JOINED, participant.nick, "", participant.author)

    def _release(self, room: Room[Participant], result: Outcome) -> None:
        if isinstance(result, Unconfirmed):
            return
        self._speech.was_appended(result)
        self._state.rooms.release(room)

    def _replace(self, previous: Participant, rooms: Set[str]) -> set[str]:
        """Remove a member whose place another connection takes. Return those of ``rooms`` in which it was."""
        stayed = set()
        for name, membership in list(previous.memberships.items()):
            stays = name in rooms and membership.is_announced
            if stays:
                stayed.add(name)
            self.part(membership, "left", quietly=stays)
        self._remove(previous)
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


def _without(participant: Participant, room: Room[Participant], present: RoomMembers) -> RoomMembers:
    """Return the members of a room without one of them, which may not have entered yet."""
    count = present.count - (room.name in participant.memberships)
    return RoomMembers(count, tuple(nick for nick in present.nicks if nick != participant.nick))


def _shared(deferred: Deferred[T]) -> Deferred[T]:
    """Return another Deferred with the result of one that does not fail."""
    shared: Deferred[T] = Deferred()

    def fire(result: T) -> T:
        shared.callback(result)
        return result

    deferred.addCallback(fire)
    return shared


def topic_shown(room: Room[Participant]) -> TopicShown:
    """Return the topic of a room as an event."""
    topic = room.topic
    if topic is None:
        return TopicShown(room.name, "")
    return TopicShown(room.name, topic.text, topic.nick, topic.time)


def fitting_nicks(nicks: Iterable[str]) -> tuple[str, ...]:
    """Return as many nicks as fit on a line."""
    return fitting(nicks, lambda nick: len(nick.encode()) + 2)


def fitting(items: Iterable[T], length: Callable[[T], int]) -> tuple[T, ...]:
    """Return as many of the items as fit on a line. The rest is not read."""
    shown: list[T] = []
    left = _LIST_MAX
    for item in items:
        left -= length(item)
        if left < 0:
            break
        shown.append(item)
    return tuple(shown)
