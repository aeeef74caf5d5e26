"""The hub of a chat: members say things, the store appends them to the logs of rooms, the hub delivers them.

A front end makes a :class:`~netsvc.chat.participant.Member` of each connection and calls the methods below for what the
member asks. The answers are events. Requests of one member are served one after another: while one is not done, the
hub pauses the member's input.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial

from twisted.internet.defer import Deferred, succeed

from netsvc.chat.attendance import Attendance, fitting, topic_shown
from netsvc.chat.catch_up import CatchUp
from netsvc.chat.chat_events import AwaySet, RecipientAway, RoomLeft, RoomList, Whispered
from netsvc.chat.chat_limits import DELIVERIES_RATE, REPLAY, REPLAY_MAX, ROOMS_MAX, ROOMS_PER_HOST
from netsvc.chat.chat_state import ChatState
from netsvc.chat.delivery_budget import DeliveryBudget
from netsvc.chat.directory import Directory
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.fan_out import FanOut
from netsvc.chat.memory_directory import MemoryDirectory
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.names import ASCII_NAMES, Names
from netsvc.chat.open_rooms import OpenRooms
from netsvc.chat.participant import Member, Participant, Resumption
from netsvc.chat.replies import Replies
from netsvc.chat.room import Membership, Room
from netsvc.chat.speech import Speech
from netsvc.chat.store import Outcome, Retried, Store, StoreError, Unconfirmed
from netsvc.limits.cause import Cause
from netsvc.limits.numbers import check_number
from netsvc.net.terms import Terms
from netsvc.wire.text import clean

#: Seconds for which the list of rooms is told again as it was, and how many rooms fit on it.
ROOM_LIST_AGE = 1.0
ROOMS_LISTED_MAX = 100


class ChatHub:
    """The members and rooms of a chat. Front ends may share one.

    :param terms: the clocks and the counters.
    :param store: keeps the logs of the rooms; by default a new :class:`~netsvc.chat.memory_store.MemoryStore`.
    :param names: the rules for names; by default ASCII.
    :param directory: knows the members; by default a new :class:`~netsvc.chat.memory_directory.MemoryDirectory`. One
        of several nodes is to have a store and a directory that all of them share.
    :param total: deliveries per second of the whole chat; 0 for no limit. Above it, speakers are slowed down. Rooms,
        and the members in each, get equal shares.
    :param rooms_max: how many rooms there may be; 0 for no limit.
    :param rooms_per_host: how many of them members of one host may have opened; 0 for no limit.
    :param replay: how many old entries a member sees when it joins a room, at most 1,000.
    :raises ConfigError: for a number that is negative or not finite.
    """

    def __init__(
        self,
        terms: Terms,
        store: Store | None = None,
        names: Names = ASCII_NAMES,
        directory: Directory | None = None,
        *,
        total: float = DELIVERIES_RATE,
        rooms_max: int = ROOMS_MAX,
        rooms_per_host: int = ROOMS_PER_HOST,
        replay: int = REPLAY,
    ) -> None:
        check_number("chat_total", total, whole=False)
        for name, number in (("rooms", rooms_max), ("rooms_per_host", rooms_per_host), ("replay", replay)):
            check_number(f"chat_{name}", number, whole=True)
        self.names = names
        self._store: Store = MemoryStore(terms.wall, terms.clock) if store is None else store
        fan_out = FanOut(terms.clock)
        budget = DeliveryBudget(terms, fan_out, total)
        self._directory: Directory = MemoryDirectory(terms.monotonic, names) if directory is None else directory
        rooms = OpenRooms(self._store, self._directory, names, rooms_max, rooms_per_host)
        replies = Replies(terms.counters)
        self._state = ChatState(terms, self._store, self._directory, rooms, budget, fan_out, replies)
        self._speech = Speech(self._state)
        catch_up = CatchUp(self._state, min(replay, REPLAY_MAX))
        self._attendance = Attendance(self._state, self._speech, catch_up)
        self._users: set[object] = set()
        self._room_list: RoomList | None = None
        self._listed_at = 0.0

    # For applications

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._attendance.participants)

    @property
    def is_shared(self) -> bool:
        """Whether other nodes may have members."""
        return self._directory.is_shared

    def __contains__(self, member: Member) -> bool:
        return member in self._attendance.participants

    def open(self, user: object) -> None:
        """Open the store, unless it is open.

        :param user: what uses the chat: a front end. The store is closed when the last user has closed the hub.
        :raises StoreError: if it cannot be used.
        """
        if not self._users:
            self._store.open(self._speech.deliver, self._attendance.log_begun_anew)
            self._directory.open(self._attendance)
        self._users.add(user)

    def begin_drain(self) -> None:
        """The server stops: deliver what members have said, without a limit."""
        self._state.budget.lift_limit()

    def close(self, user: object) -> Deferred[None]:
        """Close the store, if this is the last user. Its members must have left. Fires when everything is written."""
        if user not in self._users:
            return succeed(None)
        self._users.discard(user)
        self._state.budget.restore_limit()
        if self._users:
            return succeed(None)
        self._attendance.close()
        self._state.fan_out.close()
        self._state.budget.close()
        return self._directory.close().addCallback(lambda _: self._store.close())

    def rooms(self) -> dict[str, int]:
        """Return the rooms that have members of this node, with their numbers of members of this node."""
        return {room.name: len(room) for room in self._state.rooms.all() if room.members}

    def room(self, name: str) -> Room[Participant] | None:
        """Return the state of a room that has members of this node; None if there is none of this name."""
        return self._state.rooms.get(name)

    def members_of_host(self, host: str | None) -> int:
        """Return how many members have connections from the same host: an IPv4 address or an IPv6 /64."""
        return self._attendance.members_of_host(host)

    def members(self, room: str) -> list[str]:
        """Return the nicks of the members of a room, as far as they are of this node."""
        open_room = self._state.rooms.get(room)
        present = [] if open_room is None else open_room.members.values()
        return [each.participant.nick for each in present]

    def nick(self, member: Member) -> str:
        """Return the nick of a member."""
        return self._attendance.participants[member].nick

    def rooms_of(self, member: Member) -> list[str]:
        """Return the names of the rooms in which a member is."""
        return list(self._attendance.participants[member].memberships)

    def listen(self, listener: Callable[[Entry], object]) -> Callable[[], None]:
        """Call ``listener`` with each entry of each room that has members. Return a function that ends that."""
        self._speech.listeners.append(listener)
        return partial(self._speech.listeners.remove, listener)

    def announce(self, room: str, text: str) -> Deferred[Entry]:
        """Say something as the server in a room that has members. Unsafe characters are removed from the text.

        :return: fires with the entry.
        :raises KeyError: if the room has no members.
        """
        appended: Deferred[Entry] = Deferred()
        open_room = self._state.rooms.get(room)
        if open_room is None:
            raise KeyError(f"no member is in {room}")
        self._speech.append(open_room, EntryKind.NOTICE, "", clean(text), appended=partial(_fire, appended))
        return appended

    # For front ends

    def enter(self, member: Member, resumption: Resumption | None = None) -> None:
        """Add a member, with a free nick such as ``guest-7``, to the lobby.

        The lobby is told when :meth:`announce_arrival` is called, so that a member may first take its nick, or resume.
        The hub must be open.

        :param resumption: the earlier session of a member that resumes. It does not enter the lobby first, and it is
            told nothing before it has the session.
        """
        self._attendance.enter(member, resumption)

    def announce_arrival(self, member: Member) -> None:
        """Tell the rooms in which the member has arrived, unless they were told."""
        participant = self._attendance.participants.get(member)
        if participant is not None:
            self._attendance.announce(participant)

    def leave(self, member: Member, reason: str = "left", *, quietly: bool = False, keep_nick: bool = False) -> None:
        """Remove a member and tell its rooms. A member who is not present is ignored.

        :param reason: follows the nick: ``left``.
        :param quietly: tell nobody.
        :param keep_nick: keep the nick for some time, so that the member can resume with it.
        """
        participant = self._attendance.participants.get(member)
        if participant is not None:
            self._attendance.leave(participant, reason, quietly=quietly, keep_nick=keep_nick)

    def join(self, member: Member, room: str, *, leaving: Collection[str] = (), message_id: str = "") -> None:
        """Add a member to a room, which is opened if it does not exist.

        :param room: a valid name.
        :param leaving: the rooms that the member leaves for this one.
        """
        participant = self._attendance.participants[member]
        self._attendance.join(participant, room, leaving=leaving, message_id=message_id)

    def part(self, member: Member, room: str, *, message_id: str = "") -> None:
        """Remove a member from a room."""
        participant = self._attendance.participants[member]
        membership = self._membership(participant, room, message_id)
        if membership is not None:
            self._attendance.part(membership, "left")
            member.tell(RoomLeft(room))

    def say(self, member: Member, room: str, text: str, kind: EntryKind = EntryKind.SAID, message_id: str = "") -> None:
        """Say something in a room. The text must be visible.

        :param kind: ``SAID`` or ``ACTION``.
        """
        participant = self._attendance.participants[member]
        membership = self._membership(participant, room, message_id)
        if membership is not None:
            self._speech.say(membership, text, kind, message_id)

    def whisper(self, member: Member, nick: str, text: str, message_id: str = "") -> None:
        """Say something to one member, who may be in any room. It is delivered, not logged."""
        sender = self._attendance.participants[member]
        self._state.replies.serve(sender, self._whisper(sender, nick, text, message_id), message_id)

    def rename(self, member: Member, nick: str, message_id: str = "") -> None:
        """Give a member another nick, which is valid, and tell its rooms."""
        self._attendance.rename(self._attendance.participants[member], nick, message_id)

    def set_topic(self, member: Member, room: str, text: str, message_id: str = "") -> None:
        """Set the topic of a room; an empty text removes it."""
        self.say(member, room, text, EntryKind.TOPIC, message_id)

    def show_topic(self, member: Member, room: str) -> None:
        """Tell a member the topic of a room."""
        membership = self._membership(self._attendance.participants[member], room)
        if membership is not None:
            member.tell(topic_shown(membership.room))

    def set_away(self, member: Member, text: str) -> None:
        """Note that a member is away, and what to tell those who write to it; with an empty text, that it is back."""
        self._directory.set_away(self._attendance.participants[member].author, text)
        member.tell(AwaySet(text))

    def show_history(self, member: Member, room: str, count: int = REPLAY, before: int | None = None) -> None:
        """Show a member the last entries of a room, at most 200.

        :param before: show those with offsets below this one.
        """
        membership = self._membership(self._attendance.participants[member], room)
        if membership is not None:
            self._speech.show_history(membership, count, before)

    def search(self, member: Member, room: str, words: str) -> None:
        """Show a member the last 20 entries of a room that have all of the words."""
        membership = self._membership(self._attendance.participants[member], room)
        if membership is not None:
            self._speech.search(membership, words)

    def erase(self, member: Member, room: str, offset: int | None = None, message_id: str = "") -> None:
        """Erase an entry of a room. Its author may do that within ten minutes.

        :param offset: the place of the entry; None for the last one of this member.
        """
        membership = self._membership(self._attendance.participants[member], room, message_id)
        if membership is not None:
            self._speech.erase(membership, offset, message_id)

    def list_rooms(self, member: Member) -> None:
        """Tell a member the rooms. The list is made at most once a second, because that takes long with many rooms."""
        participant = self._attendance.participants[member]
        self._state.replies.serve(participant, self._list_rooms(participant))

    def list_members(self, member: Member, room: str) -> None:
        """Tell a member who is in a room."""
        participant = self._attendance.participants[member]
        if self._membership(participant, room) is not None:
            self._state.replies.serve(participant, self._attendance.list_members(participant, room))

    def begin_session(self, member: Member) -> None:
        """Tell a member its token, its nick and its rooms, with their positions. Its form has changed."""
        self._attendance.begin_session(self._attendance.participants[member])

    def change_format(self, member: Member) -> None:
        """Note that the form of the entries for a member has changed, without a new session."""
        for membership in self._attendance.participants[member].memberships.values():
            if membership.is_live:
                membership.room.end_live(membership)
                membership.room.begin_live(membership, member.entry_format)

    def resume(
        self, member: Member, token: str, nick: str, positions: Mapping[str, Position], message_id: str = ""
    ) -> None:
        """Make a member the one that has this token, and show it what it missed.

        The parameters are those of :class:`~netsvc.chat.participant.Resumption`.
        """
        participant = self._attendance.participants[member]
        self._attendance.resume(participant, Resumption(token, nick, positions, message_id))

    def output_drained(self, member: Member) -> None:
        """The member has read what was queued for it."""
        participant = self._attendance.participants.get(member)
        if participant is not None:
            participant.output_drained()

    async def _whisper(self, sender: Participant, nick: str, text: str, message_id: str) -> None:
        recipient = await self._directory.whisper(sender.author, Whispered(sender.nick, nick, text))
        if not sender.is_present:
            return
        if recipient is None:
            self._state.replies.refuse(sender, Cause.NO_SUCH_NICK, f"there is no member {nick}", message_id)
            return
        sender.member.tell(Whispered(sender.nick, recipient.nick, text, message_id))
        if recipient.away and recipient.nick != sender.nick:
            sender.member.tell(RecipientAway(recipient.nick, recipient.away))

    async def _list_rooms(self, participant: Participant) -> None:
        now = self._state.terms.monotonic()
        if self._room_list is None or now - self._listed_at >= ROOM_LIST_AGE:
            rooms = await self._directory.rooms(ROOMS_LISTED_MAX)
            shown = fitting(rooms.rooms, lambda room: len(room[0].encode()) + len(str(room[1])) + 5)
            self._room_list, self._listed_at = RoomList(rooms.count, shown), now
        if participant.is_present:
            participant.member.tell(self._room_list)

    def _membership(self, participant: Participant, room: str, message_id: str = "") -> Membership[Participant] | None:
        membership = participant.memberships.get(room)
        if membership is None:
            refusal = f"you are not in {room}" if room else "you are in no room; /join ROOM joins one"
            self._state.replies.refuse(participant, Cause.NOT_IN_ROOM, refusal, message_id)
        return membership


def _fire(deferred: Deferred[Entry], result: Outcome) -> None:
    if isinstance(result, StoreError):
        deferred.errback(result)
    elif not isinstance(result, Unconfirmed):
        deferred.callback(result.entry if isinstance(result, Retried) else result)
