from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from netsvc.chat.messages import (
    Event,
    Help,
    Join,
    Leave,
    ListRooms,
    Notice,
    Quit,
    Rename,
    Said,
    Say,
    Whisper,
    Whispered,
    Who,
    encode_event,
)
from netsvc.chat.room import ROOMS_MAX, Delivery, Room


def by_member(deliveries: list[Delivery[str]]) -> dict[str, list[Event]]:
    """Return the events for each member, in order."""
    events: dict[str, list[Event]] = defaultdict(list)
    for delivery in deliveries:
        for member in delivery.members:
            events[member].append(delivery.event)
    return dict(events)


def room_with(*members: str) -> Room[str]:
    """Return a room with these members. The nick of each member is its name in the test."""
    room: Room[str] = Room()
    for member in members:
        room.enter(member)
        room.receive(member, Rename(member))
    return room


def test_a_new_member_gets_a_free_nick_and_a_list_of_the_members() -> None:
    room = room_with("ann")
    assert by_member(room.enter("new")) == {
        "new": [
            Notice("welcome, you are guest-2; /nick NAME changes that, /help lists the commands"),
            Notice("you are in #lobby with ann"),
        ],
        "ann": [Notice("guest-2 joined #lobby")],
    }


def test_a_guest_nick_that_a_member_has_taken_is_skipped() -> None:
    room = room_with("ann")
    room.receive("ann", Rename("Guest-2"))
    room.enter("new")
    assert room.nick("new") == "guest-3"


def test_a_line_reaches_the_other_members_but_not_its_sender() -> None:
    room = room_with("ann", "bob", "cy")
    assert by_member(room.receive("ann", Say("hi"))) == {"bob": [Said("ann", "hi")], "cy": [Said("ann", "hi")]}


def test_an_empty_line_is_ignored() -> None:
    room = room_with("ann", "bob")
    assert room.receive("ann", Say("")) == []
    assert room.receive("ann", Say("  ")) == []
    assert room_with("ann").receive("ann", Say("hello?")) == []


def test_a_line_reaches_only_the_members_of_the_same_room() -> None:
    room = room_with("ann", "bob", "cy")
    assert by_member(room.receive("cy", Join("#dev"))) == {
        "ann": [Notice("cy moved to #dev")],
        "bob": [Notice("cy moved to #dev")],
        "cy": [Notice("you are the only one in #dev")],
    }
    assert by_member(room.receive("ann", Say("hi"))) == {"bob": [Said("ann", "hi")]}
    assert by_member(room.receive("bob", Join("#dev"))) == {
        "ann": [Notice("bob moved to #dev")],
        "bob": [Notice("you are in #dev with cy")],
        "cy": [Notice("bob joined #dev")],
    }


def test_a_member_that_leaves_a_room_moves_to_the_lobby() -> None:
    room = room_with("ann")
    room.receive("ann", Join("#dev"))
    assert by_member(room.receive("ann", Leave())) == {"ann": [Notice("you are the only one in #lobby")]}
    assert by_member(room.receive("ann", Leave())) == {"ann": [Notice("you are already in #lobby")]}


def test_an_empty_room_is_deleted() -> None:
    room = room_with("ann")
    room.receive("ann", Join("#dev"))
    room.receive("ann", Leave())
    assert by_member(room.receive("ann", ListRooms())) == {"ann": [Notice("rooms: #lobby (1)")]}


def test_the_number_of_rooms_is_limited() -> None:
    room: Room[str] = Room()
    for number in range(ROOMS_MAX + 1):
        room.enter(f"m{number}")
        events = by_member(room.receive(f"m{number}", Join(f"#room-{number}")))
    last = f"m{ROOMS_MAX}"
    assert events == {last: [Notice("too many rooms; /rooms lists them")]}
    assert Notice("you are in #room-1 with guest-2") in by_member(room.receive(last, Join("#room-1")))[last]
    assert Notice(f"you are in #lobby with guest-{ROOMS_MAX}") in by_member(room.receive(last, Leave()))[last]


def test_rooms_are_listed_with_the_largest_first() -> None:
    room = room_with("ann", "bob", "cy")
    room.receive("bob", Join("#dev"))
    room.receive("cy", Join("#dev"))
    assert by_member(room.receive("ann", ListRooms())) == {"ann": [Notice("rooms: #dev (2), #lobby (1)")]}


def test_a_taken_nick_is_refused_regardless_of_case() -> None:
    room = room_with("ann", "bob")
    assert by_member(room.receive("bob", Rename("ANN"))) == {"bob": [Notice("ANN is taken; take another nick")]}
    assert room.nick("bob") == "bob"


def test_a_member_may_change_the_case_of_its_nick() -> None:
    room = room_with("ann", "bob")
    assert by_member(room.receive("ann", Rename("Ann"))) == {
        "ann": [Notice("you are now Ann")],
        "bob": [Notice("ann is now Ann")],
    }
    assert by_member(room.receive("ann", Rename("Ann"))) == {"ann": [Notice("you are already Ann")]}


def test_a_nick_is_free_again_after_its_member_changes_it_or_leaves() -> None:
    room = room_with("ann", "bob")
    room.receive("ann", Rename("eve"))
    room.receive("bob", Rename("ann"))
    assert room.nick("bob") == "ann"
    room.leave("ann")
    room.receive("bob", Rename("eve"))
    assert room.nick("bob") == "eve"


def test_a_private_message_reaches_its_sender_and_its_recipient_across_rooms() -> None:
    room = room_with("ann", "bob", "cy")
    room.receive("bob", Join("#dev"))
    message = Whispered("ann", "bob", "psst")
    assert by_member(room.receive("ann", Whisper("BOB", "psst"))) == {"ann": [message], "bob": [message]}


def test_a_private_message_to_oneself_arrives_once_and_to_an_unknown_nick_is_refused() -> None:
    room = room_with("ann")
    assert by_member(room.receive("ann", Whisper("ann", "me"))) == {"ann": [Whispered("ann", "ann", "me")]}
    refusal = Notice("there is no member eve")
    assert by_member(room.receive("ann", Whisper("eve", "you"))) == {"ann": [refusal]}


def test_the_who_command_lists_the_members_of_the_room() -> None:
    room = room_with("ann", "bob")
    assert by_member(room.receive("bob", Who())) == {"bob": [Notice("2 in #lobby: ann, bob")]}


def test_a_long_list_is_truncated_to_one_line_with_the_number_of_further_members() -> None:
    room = room_with(*(f"a-rather-long-name-{n:04}" for n in range(200)))
    [delivery] = room.receive("a-rather-long-name-0000", Who())
    assert len(encode_event(delivery.event)) < 1024
    assert isinstance(delivery.event, Notice)
    assert delivery.event.text.endswith(" more")


def test_the_help_command_names_every_command() -> None:
    [delivery] = room_with("ann").receive("ann", Help())
    assert isinstance(delivery.event, Notice)
    for command in ("/nick", "/join", "/leave", "/rooms", "/who", "/msg", "/help", "/quit", "//"):
        assert command in delivery.event.text


def test_a_member_that_quits_gets_a_goodbye_and_the_room_gets_a_notice() -> None:
    room = room_with("ann", "bob")
    assert by_member(room.receive("ann", Quit())) == {"ann": [Notice("bye")], "bob": [Notice("ann left")]}
    assert "ann" not in room
    assert room.leave("ann") == []


actions = st.one_of(
    st.tuples(st.just("enter"), st.integers(0, 7), st.none()),
    st.tuples(st.just("leave"), st.integers(0, 7), st.none()),
    st.tuples(
        st.just("receive"),
        st.integers(0, 7),
        st.one_of(
            st.builds(Say, st.sampled_from(["a", "b"])),
            st.builds(Join, st.sampled_from(["#lobby", "#dev", "#ops"])),
            st.builds(Rename, st.sampled_from(["ann", "ANN", "bob", "guest-1", "guest-9"])),
            st.builds(Whisper, st.sampled_from(["ann", "guest-1"]), st.just("x")),
            st.just(Quit()),
        ),
    ),
)


@given(st.lists(actions, max_size=60))
def test_nicks_stay_unique_and_lines_stay_in_their_room_after_any_history(
    history: list[tuple[str, int, object]],
) -> None:
    room: Room[int] = Room()
    rooms: dict[int, str] = {}
    for action, member, request in history:
        if action == "enter" and member not in room:
            deliveries = room.enter(member)
            rooms[member] = "#lobby"
        elif action == "leave":
            deliveries = room.leave(member)
            rooms.pop(member, None)
        elif action == "receive" and member in room:
            current = rooms[member]
            deliveries = room.receive(member, request)  # type: ignore[arg-type]
            if isinstance(request, Say):
                recipients = {one for delivery in deliveries for one in delivery.members}
                assert recipients == {one for one, its_room in rooms.items() if its_room == current} - {member}
            if isinstance(request, Join):
                rooms[member] = request.room
            if isinstance(request, Quit):
                deliveries = deliveries[1:]  # without the goodbye
                del rooms[member]
        else:
            continue
        assert {one for delivery in deliveries for one in delivery.members} <= set(rooms)
        assert len({room.nick(one).lower() for one in rooms}) == len(rooms) == len(room)
    for member in list(rooms):
        room.leave(member)
    assert not any([room._nicks, room._by_nick, room._room_of, room._rooms])
