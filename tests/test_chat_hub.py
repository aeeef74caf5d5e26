from __future__ import annotations

from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from netsvc.chat.attendance import NICK_KEPT, SUMMARY_INTERVAL
from netsvc.chat.chat_events import (
    AwaySet,
    Confirmed,
    Entries,
    MemberList,
    NickSet,
    NotConfirmed,
    RecipientAway,
    Refused,
    Resumed,
    Review,
    RoomEntered,
    RoomLeft,
    RoomList,
    SessionToken,
    TopicShown,
    Verdict,
    Welcome,
    Whispered,
)
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.fan_out import DELIVERIES_PER_ITERATION
from netsvc.chat.hub import ChatHub
from netsvc.chat.memory_directory import MemoryDirectory
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.participant import Resumption
from netsvc.chat.program_lines import PROGRAM_LINES
from netsvc.chat.room import Mode, Role
from netsvc.chat.speech import ERASE_TIME
from netsvc.chat.store import LogState, NewLog, StoreError
from netsvc.limits.cause import Cause
from tests.chat_members import RecordingMember, SlowStore, entered, new_hub
from tests.connections import IterationClock, terms

T = TypeVar("T")


@pytest.fixture
def hub() -> ChatHub:
    return new_hub()


def shown(entries: Entries) -> list[str]:
    return [entry.text for entry in entries.entries]


# Members


def test_a_new_member_gets_a_free_nick_and_is_told_who_is_in_the_lobby(hub: ChatHub) -> None:
    entered(hub, "ann")
    new = RecordingMember()
    hub.enter(new)
    assert new.told(Welcome) == [Welcome("guest-2")]
    [room] = new.told(RoomEntered)
    assert (room.room, room.count, room.others) == ("#lobby", 2, ("ann",))


def test_a_guest_nick_that_a_member_has_taken_is_skipped(hub: ChatHub) -> None:
    entered(hub, "Guest-2")
    new = RecordingMember()
    hub.enter(new)
    assert hub.nick(new) == "guest-3"


def test_the_lobby_is_told_of_a_new_member_under_the_nick_that_it_has_taken_meanwhile(hub: ChatHub) -> None:
    ann = entered(hub, "ann")
    bob = RecordingMember()
    hub.enter(bob)
    hub.rename(bob, "bob")
    assert ann.taken() == []
    hub.announce_arrival(bob)
    hub.announce_arrival(bob)
    assert ann.taken() == ["* bob joined #lobby"]


def test_a_member_that_leaves_before_the_lobby_was_told_of_it_leaves_unnoticed(hub: ChatHub) -> None:
    ann = entered(hub, "ann")
    bob = RecordingMember()
    hub.enter(bob)
    hub.leave(bob)
    assert ann.taken() == []
    assert hub.members("#lobby") == ["ann"]


def test_a_member_that_leaves_is_no_member_any_more_and_its_room_is_told(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    ann.clear()
    hub.leave(bob)
    hub.leave(bob)
    assert ann.taken() == ["* bob left"]
    assert bob not in hub
    assert len(hub) == 1


def test_a_taken_nick_is_refused_regardless_of_case(hub: ChatHub) -> None:
    entered(hub, "ann")
    bob = entered(hub, "bob")
    hub.rename(bob, "ANN", "m1")
    assert bob.told(Refused) == [Refused(Cause.NICK_TAKEN, "ANN is taken; take another nick", "m1")]
    assert hub.nick(bob) == "bob"


def test_a_member_may_change_the_case_of_its_nick(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    hub.rename(ann, "Ann")
    assert ann.told(NickSet) == [NickSet("Ann")]
    assert bob.taken() == ["* ann is now Ann"]
    hub.rename(ann, "Ann")
    assert ann.refusals() == ["you are already Ann"]


def test_a_nick_is_free_again_after_its_member_changes_it_or_leaves(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    hub.rename(ann, "eve")
    hub.rename(bob, "ann")
    assert hub.nick(bob) == "ann"
    hub.leave(ann)
    hub.rename(bob, "eve")
    assert hub.nick(bob) == "eve"


# Saying things


def test_a_line_reaches_the_other_members_but_not_its_sender(hub: ChatHub) -> None:
    ann, bob, cy = (entered(hub, nick) for nick in ("ann", "bob", "cy"))
    for member in (ann, bob, cy):
        member.clear()
    hub.say(ann, "#lobby", "hi")
    hub.say(ann, "#lobby", "waves", EntryKind.ACTION)
    assert bob.taken() == cy.taken() == ["<ann> hi", "<ann *> waves"]
    assert ann.taken() == []


def test_a_line_reaches_only_the_members_of_the_same_room(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann"), entered(hub, "bob", "#dev")
    hub.say(ann, "#lobby", "hi")
    assert bob.taken() == []
    hub.say(ann, "#dev", "hi", message_id="m1")
    assert ann.told(Refused) == [Refused(Cause.NOT_IN_ROOM, "you are not in #dev", "m1")]
    assert bob.taken() == []


def test_a_member_may_be_in_many_rooms(hub: ChatHub) -> None:
    ann, bob, cy = entered(hub, "ann"), entered(hub, "bob"), entered(hub, "cy", "#dev")
    hub.join(ann, "#dev")
    ann.clear()
    hub.say(bob, "#lobby", "here")
    hub.say(cy, "#dev", "there")
    assert ann.taken() == ["<bob> here", "<cy> there"]
    hub.part(ann, "#lobby")
    assert ann.told(RoomLeft) == [RoomLeft("#lobby")]
    hub.say(bob, "#lobby", "again")
    assert ann.taken() == []
    assert hub.rooms() == {"#lobby": 1, "#dev": 2}


def test_a_program_receives_its_own_entries_with_their_ids_and_positions(hub: ChatHub) -> None:
    ann = entered(hub, "ann")
    ann.entry_format = PROGRAM_LINES
    hub.begin_session(ann)
    [room] = ann.told(RoomEntered)
    hub.say(ann, "#lobby", "hi", message_id="m1")
    assert ann.taken() == [f"@{room.position.offset + 1}=m1 1970-01-01T00:00:00.000Z <ann> hi"]


def test_a_retry_is_acknowledged_again_and_delivered_once(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    ann.entry_format = PROGRAM_LINES
    hub.begin_session(ann)
    ann.clear()
    bob.clear()
    for _ in range(2):
        hub.say(ann, "#lobby", "hi", message_id="m1")
    assert bob.taken() == ["<ann> hi"]
    first, second = ann.taken()
    assert first == second


def test_a_private_message_reaches_its_sender_and_its_recipient_across_rooms_and_is_not_logged(hub: ChatHub) -> None:
    entries: list[Entry] = []
    ann, bob = entered(hub, "ann"), entered(hub, "bob", "#dev")
    hub.listen(entries.append)
    hub.whisper(ann, "BOB", "psst", "m1")
    assert ann.told(Whispered) == [Whispered("ann", "bob", "psst", "m1")]
    assert bob.told(Whispered) == [Whispered("ann", "bob", "psst")]
    assert entries == []


def test_a_private_message_to_oneself_arrives_once_and_to_an_unknown_nick_is_refused(hub: ChatHub) -> None:
    ann = entered(hub, "ann")
    hub.whisper(ann, "ann", "me")
    assert len(ann.told(Whispered)) == 1
    hub.whisper(ann, "eve", "you")
    assert ann.told(Refused) == [Refused(Cause.NO_SUCH_NICK, "there is no member eve")]


def test_those_who_write_to_a_member_that_is_away_are_told(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    hub.set_away(bob, "lunch")
    hub.whisper(ann, "bob", "psst")
    assert ann.told(RecipientAway) == [RecipientAway("bob", "lunch")]
    hub.set_away(bob, "")
    hub.whisper(ann, "bob", "psst")
    assert ann.told(RecipientAway) == []
    assert bob.told(AwaySet) == [AwaySet("lunch"), AwaySet("")]


# Rooms


def test_a_member_that_joins_a_room_sees_who_is_there_and_both_rooms_are_told(hub: ChatHub) -> None:
    ann, bob, cy = entered(hub, "ann"), entered(hub, "bob", "#dev"), entered(hub, "cy")
    ann.clear()
    hub.join(cy, "#dev", leaving=["#lobby"])
    assert ann.taken() == ["* cy moved to #dev"]
    assert bob.taken() == ["* cy joined #dev"]
    [room] = cy.told(RoomEntered)
    assert (room.room, room.count, room.others) == ("#dev", 2, ("bob",))
    hub.join(cy, "#dev")
    assert cy.refusals() == ["you are already in #dev"]


def test_the_number_of_rooms_is_limited_in_all_and_for_each_host() -> None:
    hub = new_hub(rooms_max=4, rooms_per_host=2)
    for number in range(2):
        entered(hub, f"a{number}", f"#a{number}")
    third = entered(hub, "third")
    hub.join(third, "#third")
    assert third.refusals() == ["too many rooms were opened from your address; /rooms lists the rooms"]
    hub.join(third, "#a0")
    assert hub.members("#a0") == ["a0", "third"]
    entered(hub, "other", "#other", host="198.51.100.1")  # with the lobby, the fourth
    other = entered(hub, "other2", host="198.51.100.1")
    hub.join(other, "#one-more")
    assert other.refusals() == ["too many rooms; /rooms lists them"]


def test_a_host_may_open_another_room_when_one_of_its_rooms_is_empty() -> None:
    hub = new_hub(rooms_per_host=1)
    ann = entered(hub, "ann", host="198.51.100.1")
    hub.join(ann, "#one")
    hub.join(ann, "#two")
    assert ann.refusals() == ["too many rooms were opened from your address; /rooms lists the rooms"]
    hub.part(ann, "#one")
    hub.join(ann, "#two")
    assert ann.refusals() == []


def test_rooms_are_listed_with_the_largest_first(hub: ChatHub) -> None:
    ann = entered(hub, "ann")
    for nick in ("bob", "cy"):
        entered(hub, nick, "#dev")
    hub.list_rooms(ann)
    assert ann.told(RoomList) == [RoomList(2, (("#dev", 2), ("#lobby", 1)))]


def test_a_long_list_of_members_is_cut_to_what_fits_on_a_line(hub: ChatHub) -> None:
    names = [f"a-rather-long-name-{number:04}" for number in range(200)]
    members = [entered(hub, name) for name in names]
    hub.list_members(members[0], "#lobby")
    [listed] = members[0].told(MemberList)
    assert listed.count == 200
    assert list(listed.nicks) == names[: len(listed.nicks)]
    assert 20 < len(listed.nicks) < 40


def test_a_topic_is_set_shown_to_those_who_join_and_removed(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob")
    hub.set_topic(ann, "#dev", "tea")
    hub.join(bob, "#dev")
    assert bob.told(TopicShown) == [TopicShown("#dev", "tea", "ann", 0.0)]
    bob.clear()
    hub.set_topic(ann, "#dev", "")
    assert bob.taken() == ["* ann removed the topic"]
    hub.show_topic(bob, "#dev")
    assert bob.told(TopicShown) == [TopicShown("#dev", "")]


def test_the_topic_is_kept_when_the_room_was_empty(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob")
    hub.set_topic(ann, "#dev", "tea")
    hub.leave(ann)
    hub.join(bob, "#dev")
    assert [topic.text for topic in bob.told(TopicShown)] == ["tea"]


def test_in_a_moderated_room_only_operators_and_the_owner_may_speak(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob", "#dev")
    room = hub.room("#dev")
    assert room is not None
    assert [membership.role for membership in room.members.values()] == [Role.OWNER, Role.MEMBER]
    room.modes.add(Mode.MODERATED)
    ann.clear()
    hub.say(bob, "#dev", "hi")
    hub.set_topic(bob, "#dev", "mine")
    assert bob.refusals() == ["only operators may speak in #dev"] * 2
    assert ann.taken() == []
    hub.say(ann, "#dev", "hi")
    assert bob.taken() == ["<ann> hi"]


def test_an_invite_only_room_admits_those_who_are_invited(hub: ChatHub) -> None:
    entered(hub, "ann", "#dev")
    bob = entered(hub, "bob")
    room = hub.room("#dev")
    assert room is not None
    room.modes.add(Mode.INVITE_ONLY)
    hub.join(bob, "#dev", leaving=["#lobby"])
    assert bob.refusals() == ["#dev is open to invited members only"]
    assert hub.members("#lobby") == ["bob"]


# History


def test_a_member_that_joins_sees_the_last_20_entries_without_those_of_presence(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob")
    for number in range(25):
        hub.say(ann, "#dev", f"{number}")
        hub.rename(ann, f"ann-{number}")
    hub.join(bob, "#dev")
    [replay] = bob.told(Entries)
    assert replay.review is Review.REPLAY
    assert shown(replay) == [f"{number}" for number in range(5, 25)]


def test_a_log_outlives_the_members_of_its_room(hub: ChatHub) -> None:
    ann = entered(hub, "ann", "#dev")
    hub.say(ann, "#dev", "for later")
    hub.leave(ann)
    bob = entered(hub, "bob")
    hub.join(bob, "#dev")
    assert [shown(entries) for entries in bob.told(Entries)] == [["for later"]]


def test_history_and_search_show_old_entries() -> None:
    clock = Clock()
    hub = new_hub(clock)
    ann = entered(hub, "ann", "#dev")
    for text in ("Green tea", "black coffee", "black tea"):
        hub.say(ann, "#dev", text)
    hub.show_history(ann, "#dev", 2)
    hub.search(ann, "#dev", "TEA")
    clock.advance(0)
    history, found = ann.told(Entries)
    assert shown(history) == ["black coffee", "black tea"]
    assert shown(found) == ["Green tea", "black tea"]


def test_an_author_erases_its_last_line_or_one_at_an_offset(hub: ChatHub) -> None:
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob", "#dev")
    hub.say(ann, "#dev", "one")
    hub.say(ann, "#dev", "two")
    hub.say(bob, "#dev", "three")
    bob.clear()
    hub.erase(ann, "#dev")
    assert bob.taken() == ["* ann erased a line"]
    hub.show_history(bob, "#dev")
    assert [shown(entries) for entries in bob.told(Entries)] == [["one", "three"]]
    for offset in (5, 99, 1):  # bob's, none, and no text
        hub.erase(ann, "#dev", offset)
    assert ann.refusals() == ["there is no such line of yours"] * 3
    hub.erase(ann, "#dev", 3)
    hub.show_history(bob, "#dev")
    assert [shown(entries) for entries in bob.told(Entries)] == [["three"]]


def test_a_line_cannot_be_erased_after_ten_minutes() -> None:
    clock = Clock()
    hub = new_hub(clock)
    ann = entered(hub, "ann", "#dev")
    hub.say(ann, "#dev", "one")
    clock.advance(ERASE_TIME + 1)
    hub.erase(ann, "#dev")
    assert ann.refusals() == ["a line can be erased for 10 minutes only"]


# Resuming


def session(hub: ChatHub, nick: str, room: str = "#dev") -> tuple[RecordingMember, str, Position]:
    """Return a member with lines for programs, its token, and its position."""
    member = entered(hub, nick, room)
    member.entry_format = PROGRAM_LINES
    hub.begin_session(member)
    [token] = member.told(SessionToken)
    [room_entered] = member.told(RoomEntered)
    return member, token.token, room_entered.position


def resumed(hub: ChatHub, token: str, nick: str, position: Position, room: str = "#dev") -> RecordingMember:
    """Return a new connection that has resumed."""
    member = RecordingMember(entry_format=PROGRAM_LINES)
    hub.enter(member)
    member.clear()
    hub.resume(member, token, nick, {room: position})
    return member


def test_a_member_that_resumes_gets_its_nick_and_exactly_what_it_missed(hub: ChatHub) -> None:
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.say(ann, "#dev", "before")
    position = Position(position.epoch, position.offset + 1)
    hub.leave(bob, keep_nick=True)
    hub.say(ann, "#dev", "missed")
    ann.clear()
    again = resumed(hub, token, "bob", position)
    assert again.told(Resumed) == [Resumed("#dev", Verdict.RECOVERED, 0)]
    assert [line.split(" ", 2)[2] for line in again.taken()] == ["left bob left", "<ann> missed", "joined bob"]
    assert hub.nick(again) == "bob"
    assert ann.taken() == ["* bob joined #dev"]


def test_a_member_that_resumes_replaces_its_own_old_connection_and_nobody_notices(hub: ChatHub) -> None:
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.say(ann, "#dev", "lost on the way")
    ann.clear()
    again = resumed(hub, token, "bob", position)
    assert bob.was_replaced
    assert bob not in hub
    assert [line.split(" ", 2)[2] for line in again.taken()] == ["<ann> lost on the way"]
    assert ann.taken() == []
    assert hub.members("#dev") == ["ann", "bob"]
    assert len(hub) == 2


def test_a_member_that_resumes_is_told_how_many_entries_are_no_longer_kept() -> None:
    clock = Clock()
    hub = new_hub(clock, MemoryStore(clock.seconds, entries_max=3))
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.leave(bob, keep_nick=True)
    for number in range(5):
        hub.say(ann, "#dev", f"{number}")
    again = resumed(hub, token, "bob", position)
    assert again.told(Resumed) == [Resumed("#dev", Verdict.LOST, 3)]
    assert [line.split(" ", 2)[2] for line in again.taken()] == ["<ann> 2", "<ann> 3", "<ann> 4", "joined bob"]


@pytest.mark.parametrize("offset", [0, 3])
def test_a_member_that_resumes_in_another_log_is_told_so(hub: ChatHub, offset: int) -> None:
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.say(ann, "#dev", "hello")
    hub.leave(bob, keep_nick=True)
    again = resumed(hub, token, "bob", Position("0123abcd", offset))
    assert again.told(Resumed) == [Resumed("#dev", Verdict.UNKNOWN, 0)]
    assert [shown(entries) for entries in again.told(Entries)] == [["hello"]]
    assert resumed(hub, token, "bob", Position(position.epoch, 99)).told(Resumed)[0].verdict is Verdict.UNKNOWN


def test_a_session_continues_in_the_rooms_that_can_be_entered_and_leaves_the_others() -> None:
    hub = new_hub(rooms_max=2)
    entered(hub, "ann", "#dev")
    bob, token, position = session(hub, "bob")
    hub.leave(bob, keep_nick=True)
    again = RecordingMember()
    positions = {"#dev": position, "#tea": Position("0", 0), "#full": Position("0", 0)}
    hub.enter(again, Resumption(token, "bob", positions))
    kinds = [type(event) for event in again.events]
    assert kinds.index(SessionToken) < kinds.index(Refused)
    assert [told.room for told in again.told(RoomEntered)] == ["#dev", "#tea"]
    assert again.told(RoomLeft) == [RoomLeft("#full")]
    assert hub.rooms_of(again) == ["#dev", "#tea"]


def test_what_was_missed_is_sent_as_fast_as_the_member_reads(hub: ChatHub) -> None:
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.leave(bob)
    for number in range(250):
        hub.say(ann, "#dev", f"{number}")
    again = RecordingMember(entry_format=PROGRAM_LINES)
    hub.enter(again)
    again.output_blocked = True
    hub.resume(again, token, "bob", {"#dev": position})
    assert again.taken() == []
    assert again.paused
    hub.say(ann, "#dev", "meanwhile")
    again.output_blocked = False
    hub.output_drained(again)
    assert not again.paused
    texts = [line.split(" ", 2)[2] for line in again.taken()]
    assert texts == ["left bob left", *(f"<ann> {number}" for number in range(250)), "<ann> meanwhile", "joined bob"]


def test_the_nick_of_a_lost_member_is_kept_for_it_for_two_minutes() -> None:
    clock = Clock()
    hub = new_hub(clock)
    (bob, token, position), eve = session(hub, "bob"), entered(hub, "eve")
    hub.leave(bob, keep_nick=True)
    hub.rename(eve, "bob")
    assert eve.refusals() == ["bob is kept for a member whose connection was lost; take another nick"]
    clock.advance(NICK_KEPT + 1)
    hub.rename(eve, "bob")
    assert hub.nick(eve) == "bob"
    again = resumed(hub, token, "bob", position)
    assert hub.nick(again) == "guest-3"


def test_a_retry_after_resuming_is_recognised(hub: ChatHub) -> None:
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.say(bob, "#dev", "once", message_id="m1")
    ann.clear()
    again = resumed(hub, token, "bob", position)
    assert [line.split(" ")[0].partition("=")[2] for line in again.taken()] == ["m1"]
    hub.say(again, "#dev", "once", message_id="m1")
    assert ann.taken() == []
    assert [line.split(" ")[0].partition("=")[2] for line in again.taken()] == ["m1"]


# Stores that are slow or fail


class LateDirectory(MemoryDirectory):
    """A directory that cannot answer while the test says so."""

    error: StoreError | None = None

    def enter(self, author: str) -> Deferred[str]:
        return super().enter(author) if self.error is None else fail(self.error)


class SlowDirectory(MemoryDirectory):
    """A directory that answers to a new member when the test says so."""

    def __init__(self) -> None:
        super().__init__(Clock().seconds)
        self.answer: Deferred[None] = Deferred()

    def enter(self, author: str) -> Deferred[str]:
        entered: Deferred[str] = Deferred()
        self.answer.addCallback(lambda _: super(SlowDirectory, self).enter(author).chainDeferred(entered))
        return entered


def test_a_member_that_resumes_keeps_its_nick_when_the_directory_answers_late() -> None:
    directory = SlowDirectory()
    hub = ChatHub(terms(Clock()), directory=directory)
    hub.open("the test")
    member = RecordingMember()
    hub.enter(member, Resumption("0" * 32, "ann", {"#dev": Position("0", 0)}))
    assert member.paused
    directory.answer.callback(None)
    assert member.told(NickSet) == [NickSet("ann")]
    assert hub.nick(member) == "ann"


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


def test_the_input_of_a_member_is_paused_while_its_line_is_being_appended(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    bob.clear()
    store.is_slow = True
    hub.say(ann, "#lobby", "hi")
    assert ann.paused
    assert not bob.paused
    assert bob.taken() == []
    store.answer()
    assert not ann.paused
    assert bob.taken() == ["<ann> hi"]


def test_a_failing_store_answers_the_sender_and_nothing_is_pretended(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    bob.clear()
    store.is_slow = True
    hub.say(ann, "#lobby", "hi", message_id="m1")
    store.refuse()
    assert ann.told(Refused) == [Refused(Cause.STORE_FAILED, "not sent: the disk is full", "m1")]
    assert not ann.paused
    assert bob.taken() == []
    store.is_slow = False
    hub.say(ann, "#lobby", "hi")
    assert bob.taken() == ["<ann> hi"]


def test_a_member_is_told_that_its_line_is_not_confirmed_and_waits_for_the_outcome(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    bob.clear()
    store.is_slow = True
    hub.say(ann, "#lobby", "hi", message_id="m1")
    store.unconfirm()
    assert ann.told(NotConfirmed) == [NotConfirmed("m1")]
    assert ann.paused
    store.answer()
    assert ann.told(Confirmed) == [Confirmed("m1")]
    assert not ann.paused
    assert bob.taken() == ["<ann> hi"]


def test_a_line_that_was_not_confirmed_may_be_refused_in_the_end(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann = entered(hub, "ann")
    store.is_slow = True
    hub.say(ann, "#lobby", "hi")
    store.unconfirm()
    store.refuse()
    assert ann.refusals() == ["not sent: the disk is full"]
    assert ann.told(Confirmed) == []
    assert not ann.paused
    store.is_slow = False
    hub.say(ann, "#lobby", "hi")
    assert ann.told(Confirmed) == []


def test_a_room_stays_open_until_the_outcome_of_what_it_is_told_is_known(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann = entered(hub, "ann", "#dev")
    store.is_slow = True
    hub.leave(ann)
    store.unconfirm()
    assert hub.room("#dev") is not None
    store.answer()
    assert hub.room("#dev") is None


def test_members_are_told_that_the_log_of_their_room_was_begun_anew(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    hub.say(ann, "#lobby", "before")
    for member in (ann, bob):
        member.clear()
    unseen = Entry("#lobby", EntryKind.SAID, "cy", "meanwhile", 0.0, "a3", "", "new", 4)
    topic = Entry("#lobby", EntryKind.TOPIC, "cy", "news", 0.0, "a3", "", "new", 2)
    store.begun_anew(NewLog("#lobby", LogState(Position("new", 4), topic), (unseen,)))
    for member, other in ((ann, "bob"), (bob, "ann")):
        assert member.told(RoomEntered) == [RoomEntered("#lobby", Position("new", 4), 2, (other,))]
        assert member.told(Resumed) == [Resumed("#lobby", Verdict.UNKNOWN, 0)]
        assert member.told(Entries) == [Entries("#lobby", Review.REPLAY, (unseen,))]
        assert not member.paused
    room = hub.room("#lobby")
    assert room is not None
    assert room.topic == topic
    store.deliver(Entry("#lobby", EntryKind.SAID, "cy", "old", 0.0, "a3", "", "before", 3))
    store.deliver(Entry("#lobby", EntryKind.SAID, "cy", "next", 0.0, "a3", "", "new", 5))
    assert bob.taken() == ["<cy> next"]
    store.begun_anew(NewLog("#nowhere", LogState(Position("new", 4), None), ()))


def test_a_member_that_cannot_enter_waits_until_the_directory_answers() -> None:
    clock, directory = Clock(), LateDirectory(lambda: 0.0)
    hub = ChatHub(terms(clock), directory=directory)
    hub.open("the test")
    member = RecordingMember()
    directory.error = StoreError("Redis is away")
    hub.enter(member)
    assert member.refusals() == ["please wait: Redis is away"]
    assert member.paused
    clock.advance(1.0)
    assert member.refusals() == []
    directory.error = None
    clock.advance(1.0)
    assert member.told(Welcome) == [Welcome("guest-1")]
    assert hub.members("#lobby") == ["guest-1"]
    assert not member.paused


def test_a_member_that_leaves_while_it_cannot_enter_is_forgotten() -> None:
    clock, directory = Clock(), LateDirectory(lambda: 0.0)
    hub = ChatHub(terms(clock), directory=directory)
    hub.open("the test")
    member = RecordingMember()
    directory.error = StoreError("Redis is away")
    hub.enter(member)
    hub.leave(member)
    directory.error = None
    clock.advance(1.0)
    assert len(hub) == 0
    assert not clock.getDelayedCalls()
    hub.enter(RecordingMember())
    assert hub.members("#lobby") == ["guest-1"]


def test_a_room_that_the_store_cannot_open_is_not_joined(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann = entered(hub, "ann")
    store.is_slow = True
    hub.join(ann, "#dev", leaving=["#lobby"])
    assert ann.paused
    store.refuse()
    assert not ann.paused
    assert ann.refusals() == ["not done: the disk is full"]
    assert hub.members("#lobby") == ["ann"]


def test_two_members_that_open_a_room_at_the_same_time_are_in_it_together(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann, bob, cy = entered(hub, "ann"), entered(hub, "bob"), entered(hub, "cy")
    store.is_slow = True
    for member in (ann, bob, cy):
        hub.join(member, "#dev", leaving=["#lobby"])
    hub.leave(ann)
    assert len(store.waiting) == 2  # that ann left, and one subscription
    store.answer()
    assert hub.members("#dev") == ["bob", "cy"]


def test_a_member_that_leaves_while_its_line_is_appended_or_its_room_is_opened_leaves_nothing_behind(
    store: SlowStore,
) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    store.is_slow = True
    hub.say(ann, "#lobby", "hi")
    hub.join(bob, "#dev", leaving=["#lobby"])
    hub.leave(ann)
    hub.leave(bob)
    store.answer()
    assert hub.rooms() == {}
    assert len(hub) == 0


def test_a_member_that_stops_waiting_for_a_room_does_not_close_it_for_another(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    store.is_slow = True
    hub.join(ann, "#dev", leaving=["#lobby"])
    hub.join(bob, "#dev", leaving=["#lobby"])
    hub.leave(bob)
    store.answer()
    hub.say(ann, "#dev", "hi")
    store.answer()
    assert hub.members("#dev") == ["ann"]
    assert ann.refusals() == []


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_a_member_is_not_in_a_room_of_which_the_store_cannot_tell_it_what_was_said(
    store: SlowStore, answered: int
) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob")
    hub.say(ann, "#dev", "before")
    ann.clear()
    store.is_slow = True
    hub.join(bob, "#dev")
    store.answer(answered)
    hub.say(ann, "#dev", "meanwhile")  # so that bob has to catch up
    store.answer(1)
    store.refuse()
    store.is_slow = False
    hub.join(bob, "#dev")
    hub.say(ann, "#dev", "after")
    assert not bob.paused
    assert hub.members("#dev") == ["ann", "bob"]
    assert bob.taken()[-1] == "<ann> after"


@pytest.mark.parametrize("is_known", [True, False])
def test_a_member_that_resumes_is_not_in_a_room_that_the_store_cannot_read(store: SlowStore, is_known: bool) -> None:
    hub = new_hub(store=store)
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.leave(bob)
    hub.say(ann, "#dev", "missed")
    again = RecordingMember(entry_format=PROGRAM_LINES)
    hub.enter(again)
    store.is_slow = True
    hub.resume(again, token, "bob", {"#dev": position if is_known else Position("0123abcd", 1)})
    store.refuse()
    assert not again.paused
    assert again.refusals() == ["not done: the disk is full"]
    assert again.told(RoomLeft) == [RoomLeft("#dev")]
    assert hub.members("#dev") == ["ann"]


def test_a_member_that_catches_up_while_the_log_forgets_is_told_what_it_lost() -> None:
    clock = Clock()
    hub = new_hub(clock, MemoryStore(clock.seconds, entries_max=20))
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.leave(bob)
    hub.say(ann, "#dev", "one")
    again = RecordingMember(entry_format=PROGRAM_LINES)
    hub.enter(again)
    again.output_blocked = True
    hub.resume(again, token, "bob", {"#dev": position})
    for number in range(40):
        hub.say(ann, "#dev", f"{number}")
    again.output_blocked = False
    hub.output_drained(again)
    recovered, lost = again.told(Resumed)
    assert recovered.verdict is Verdict.RECOVERED
    assert lost.verdict is Verdict.LOST
    first = int(again.lines[0].split(" ")[0][1:])
    assert first == position.offset + lost.lost + 1


def test_what_members_catch_up_with_is_part_of_the_budget() -> None:
    clock = Clock()
    hub = new_hub(clock, total=1_000)
    ann, (bob, token, position) = entered(hub, "ann", "#dev"), session(hub, "bob")
    hub.leave(bob)
    for number in range(3_000):
        hub.say(ann, "#dev", f"{number}")
        clock.advance(0.002)
    again = resumed(hub, token, "bob", position)
    assert again.paused
    clock.pump([0.05] * 20)
    assert 500 < len(again.lines) < 2_000
    clock.pump([0.05] * 60)
    assert not again.paused
    assert len(again.lines) == 3_002


def test_a_room_cannot_be_taken_over_by_resuming_in_one_whose_name_looks_like_it(hub: ChatHub) -> None:
    mallory = resumed(hub, "0" * 32, "mallory", Position("ab", 0), "#iobby")
    assert hub.rooms() == {"#lobby": 1}
    assert [resumed_.verdict for resumed_ in mallory.told(Resumed)] == [Verdict.UNKNOWN]
    entered(hub, "ann")
    assert hub.members("#lobby") == ["mallory", "ann"]


def test_an_acknowledgement_that_waits_for_the_fan_out_is_sent_before_its_member_leaves_the_room() -> None:
    clock = IterationClock()
    hub = new_hub(clock)
    for number in range(DELIVERIES_PER_ITERATION + 100):
        entered(hub, f"m{number}")
    ann = entered(hub, "ann")
    ann.entry_format = PROGRAM_LINES
    hub.begin_session(ann)
    hub.say(ann, "#lobby", "hi", message_id="m1")
    hub.join(ann, "#dev", leaving=["#lobby"])
    assert [line.split(" ")[0].partition("=")[2] for line in ann.lines[:1]] == ["m1"]
    for _ in range(5):
        clock.iterate()


def test_what_the_server_says_is_one_line_without_control_characters(hub: ChatHub) -> None:
    ann = entered(hub, "ann", "#dev")
    hub.announce("#dev", "done\n<root> send me your password")
    assert ann.taken() == ["* done <root> send me your password"]


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_member_whose_connection_fails_stops_no_other(hub: ChatHub) -> None:
    class Failing(RecordingMember):
        def send(self, data: bytes) -> None:
            raise ZeroDivisionError

    failing = Failing()
    hub.enter(failing)
    ann, bob = entered(hub, "ann"), entered(hub, "bob")
    hub.say(ann, "#lobby", "hi")
    assert bob.taken() == ["<ann> hi"]


def test_an_entry_is_told_erased_although_its_author_has_left_meanwhile(store: SlowStore) -> None:
    hub = new_hub(store=store)
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob", "#dev")
    hub.say(ann, "#dev", "oops")
    bob.clear()
    store.is_slow = True
    hub.erase(ann, "#dev")
    store.answer(1)
    hub.leave(ann)
    store.answer()
    assert "* ann erased a line" in bob.taken()


# Crowds


def test_those_who_join_and_leave_a_large_room_are_summed_up() -> None:
    clock = Clock()
    hub = new_hub(clock)
    members = [entered(hub, f"m{number}") for number in range(60)]
    members[0].clear()
    for member in members[50:55]:
        hub.leave(member)
    assert members[0].taken() == []
    clock.advance(SUMMARY_INTERVAL)
    assert members[0].taken() == ["* 10 joined, 5 left"]


def test_a_line_for_a_large_room_is_delivered_in_pieces_and_in_order() -> None:
    clock = IterationClock()
    hub = new_hub(clock)
    count = 2 * DELIVERIES_PER_ITERATION + 100
    members = [entered(hub, f"m{number}") for number in range(count)]
    for member in members:
        member.clear()
    hub.say(members[0], "#lobby", "one")
    assert not any(member.lines for member in members)
    clock.iterate()
    assert sum(len(member.lines) for member in members) == DELIVERIES_PER_ITERATION
    hub.say(members[1], "#lobby", "two")
    assert members[1].paused
    hub.leave(members[-1])
    late = RecordingMember()
    hub.enter(late)
    for _ in range(10):
        clock.iterate()
    assert not members[1].paused
    assert members[2].taken() == ["<m0> one", "<m1> two"]
    assert members[-1].taken() == ["<m0> one"]  # when it left
    assert late.taken() == ["<m1> two"]


def test_speakers_above_the_budget_are_slowed_down_and_rooms_get_equal_shares() -> None:
    clock = Clock()
    hub = new_hub(clock, total=1_000)
    crowd = [entered(hub, f"m{number}") for number in range(400)]
    ann, bob = entered(hub, "ann", "#small"), entered(hub, "bob", "#small")
    clock.advance(60)
    for member in (*crowd, bob):
        member.clear()
    for member in crowd[:20]:
        hub.say(member, "#lobby", "x")
    hub.say(ann, "#small", "in between")
    assert ann.paused
    clock.pump([0.05] * 20)
    assert bob.taken() == ["<ann> in between"]
    assert len(crowd[-1].lines) in range(3, 6)
    clock.pump([0.05] * 160)
    assert crowd[-1].taken() == [f"<m{number}> x" for number in range(20)]
    assert not any(member.paused for member in crowd)


# Applications


def test_an_application_sees_the_rooms_the_members_and_each_entry_and_speaks_as_the_server(hub: ChatHub) -> None:
    entries: list[Entry] = []
    stop = hub.listen(entries.append)
    ann = entered(hub, "ann", "#dev")
    said: list[Entry] = []
    hub.announce("#dev", "the build is green").addCallback(said.append)
    assert ann.taken() == ["* the build is green"]
    assert hub.rooms() == {"#dev": 1}
    assert hub.members("#dev") == ["ann"]
    assert [entry.kind for entry in entries] == [EntryKind.JOINED, EntryKind.NOTICE]
    assert said == entries[1:]
    stop()
    hub.say(ann, "#dev", "hi")
    assert len(entries) == 2
    with pytest.raises(KeyError, match="no member is in #nowhere"):
        hub.announce("#nowhere", "hello?")


@pytest.mark.logs_failure("ZeroDivisionError")
def test_a_listener_that_fails_is_logged_and_stops_nobody(hub: ChatHub) -> None:
    hub.listen(lambda _: 1 / 0)
    ann, bob = entered(hub, "ann", "#dev"), entered(hub, "bob", "#dev")
    ann.clear()
    hub.say(bob, "#dev", "hi")
    assert ann.taken() == ["<bob> hi"]


# Any history

actions = st.one_of(
    st.tuples(st.just("enter"), st.integers(0, 7), st.none()),
    st.tuples(st.just("leave"), st.integers(0, 7), st.none()),
    st.tuples(st.just("say"), st.integers(0, 7), st.sampled_from(["#lobby", "#dev"])),
    st.tuples(st.just("join"), st.integers(0, 7), st.sampled_from(["#lobby", "#dev", "#ops"])),
    st.tuples(st.just("part"), st.integers(0, 7), st.sampled_from(["#lobby", "#dev", "#ops"])),
    st.tuples(st.just("nick"), st.integers(0, 7), st.sampled_from(["ann", "ANN", "bob", "guest-1", "guest-9"])),
)


@given(st.lists(actions, max_size=60))
def test_nicks_stay_unique_and_lines_stay_in_their_room_after_any_history(
    history: list[tuple[str, int, str | None]],
) -> None:
    hub = new_hub()
    members: dict[int, RecordingMember] = {}
    rooms: dict[int, set[str]] = {}
    for action, number, text in history:
        if action == "enter" and number not in members:
            members[number] = RecordingMember()
            hub.enter(members[number])
            rooms[number] = {"#lobby"}
        elif number not in members:
            continue
        elif action == "leave":
            hub.leave(members.pop(number))
            del rooms[number]
        elif action == "nick":
            assert text is not None
            hub.rename(members[number], text)
        elif action == "join":
            assert text is not None
            hub.join(members[number], text)
            rooms[number].add(text)
        elif action == "part":
            assert text is not None
            hub.part(members[number], text)
            rooms[number].discard(text)
        elif text is not None:
            for member in members.values():
                member.clear()
            hub.say(members[number], text, "x")
            recipients = {other for other, member in members.items() if member.lines}
            spoke = text in rooms[number]
            assert recipients == ({other for other in rooms if text in rooms[other]} - {number} if spoke else set())
        nicks = [hub.nick(member).lower() for member in members.values()]
        assert len(set(nicks)) == len(nicks) == len(hub)
        counts = {name: sum(name in each for each in rooms.values()) for name in ("#lobby", "#dev", "#ops")}
        assert hub.rooms() == {name: count for name, count in counts.items() if count}
    for member in members.values():
        hub.leave(member)
    assert hub.rooms() == {}
