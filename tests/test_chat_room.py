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


def told(deliveries: list[Delivery[str]]) -> dict[str, list[Event]]:
    """Return what each member is owed, in order."""
    owed: dict[str, list[Event]] = defaultdict(list)
    for delivery in deliveries:
        for member in delivery.members:
            owed[member].append(delivery.event)
    return dict(owed)


def room_with(*members: str) -> Room[str]:
    """Return a room whose members have their own names for nicks."""
    room: Room[str] = Room()
    for member in members:
        room.enter(member)
        room.receive(member, Rename(member))
    return room


def test_a_newcomer_gets_a_free_name_and_learns_who_is_there() -> None:
    room = room_with("ann")
    assert told(room.enter("new")) == {
        "new": [
            Notice("welcome, you are guest-2; /nick NAME changes that, /help lists the commands"),
            Notice("you are in #lobby with ann"),
        ],
        "ann": [Notice("guest-2 joined #lobby")],
    }


def test_a_guest_name_that_somebody_took_is_not_given_again() -> None:
    room = room_with("ann")
    room.receive("ann", Rename("Guest-2"))
    room.enter("new")
    assert room.nick("new") == "guest-3"


def test_what_is_said_reaches_the_others_and_not_the_speaker() -> None:
    room = room_with("ann", "bob", "cy")
    assert told(room.receive("ann", Say("hi"))) == {"bob": [Said("ann", "hi")], "cy": [Said("ann", "hi")]}


def test_nothing_said_is_nothing_sent() -> None:
    room = room_with("ann", "bob")
    assert room.receive("ann", Say("")) == []
    assert room.receive("ann", Say("  ")) == []
    assert room_with("ann").receive("ann", Say("hello?")) == []


def test_rooms_do_not_hear_each_other() -> None:
    room = room_with("ann", "bob", "cy")
    assert told(room.receive("cy", Join("#dev"))) == {
        "ann": [Notice("cy moved to #dev")],
        "bob": [Notice("cy moved to #dev")],
        "cy": [Notice("you are the only one in #dev")],
    }
    assert told(room.receive("ann", Say("hi"))) == {"bob": [Said("ann", "hi")]}
    assert told(room.receive("bob", Join("#dev"))) == {
        "ann": [Notice("bob moved to #dev")],
        "bob": [Notice("you are in #dev with cy")],
        "cy": [Notice("bob joined #dev")],
    }


def test_leaving_a_room_leads_to_the_lobby() -> None:
    room = room_with("ann")
    room.receive("ann", Join("#dev"))
    assert told(room.receive("ann", Leave())) == {"ann": [Notice("you are the only one in #lobby")]}
    assert told(room.receive("ann", Leave())) == {"ann": [Notice("you are already in #lobby")]}


def test_an_empty_room_is_gone() -> None:
    room = room_with("ann")
    room.receive("ann", Join("#dev"))
    room.receive("ann", Leave())
    assert told(room.receive("ann", ListRooms())) == {"ann": [Notice("rooms: #lobby (1)")]}


def test_there_are_only_so_many_rooms() -> None:
    room: Room[str] = Room()
    for number in range(ROOMS_MAX + 1):
        room.enter(f"m{number}")
        owed = told(room.receive(f"m{number}", Join(f"#room-{number}")))
    last = f"m{ROOMS_MAX}"
    assert owed == {last: [Notice("too many rooms; /rooms lists them")]}
    assert Notice("you are in #room-1 with guest-2") in told(room.receive(last, Join("#room-1")))[last]
    assert Notice(f"you are in #lobby with guest-{ROOMS_MAX}") in told(room.receive(last, Leave()))[last]


def test_rooms_are_listed_with_the_fullest_first() -> None:
    room = room_with("ann", "bob", "cy")
    room.receive("bob", Join("#dev"))
    room.receive("cy", Join("#dev"))
    assert told(room.receive("ann", ListRooms())) == {"ann": [Notice("rooms: #dev (2), #lobby (1)")]}


def test_a_name_is_taken_without_regard_to_case() -> None:
    room = room_with("ann", "bob")
    assert told(room.receive("bob", Rename("ANN"))) == {"bob": [Notice("ANN is taken; take another nick")]}
    assert room.nick("bob") == "bob"


def test_one_may_change_the_case_of_ones_own_name() -> None:
    room = room_with("ann", "bob")
    assert told(room.receive("ann", Rename("Ann"))) == {
        "ann": [Notice("you are now Ann")],
        "bob": [Notice("ann is now Ann")],
    }
    assert told(room.receive("ann", Rename("Ann"))) == {"ann": [Notice("you are already Ann")]}


def test_a_name_that_was_given_up_is_free() -> None:
    room = room_with("ann", "bob")
    room.receive("ann", Rename("eve"))
    room.receive("bob", Rename("ann"))
    assert room.nick("bob") == "ann"
    room.leave("ann")
    room.receive("bob", Rename("eve"))
    assert room.nick("bob") == "eve"


def test_a_private_message_reaches_the_two_wherever_they_are() -> None:
    room = room_with("ann", "bob", "cy")
    room.receive("bob", Join("#dev"))
    message = Whispered("ann", "bob", "psst")
    assert told(room.receive("ann", Whisper("BOB", "psst"))) == {"ann": [message], "bob": [message]}


def test_a_private_message_to_oneself_comes_once_and_to_nobody_is_said() -> None:
    room = room_with("ann")
    assert told(room.receive("ann", Whisper("ann", "me"))) == {"ann": [Whispered("ann", "ann", "me")]}
    nobody = Notice("there is no member eve")
    assert told(room.receive("ann", Whisper("eve", "you"))) == {"ann": [nobody]}


def test_who_lists_ones_room() -> None:
    room = room_with("ann", "bob")
    assert told(room.receive("bob", Who())) == {"bob": [Notice("2 in #lobby: ann, bob")]}


def test_a_long_list_stays_one_short_line_and_says_how_many_more() -> None:
    room = room_with(*(f"a-rather-long-name-{n:04}" for n in range(200)))
    [delivery] = room.receive("a-rather-long-name-0000", Who())
    assert len(encode_event(delivery.event)) < 1024
    assert isinstance(delivery.event, Notice)
    assert delivery.event.text.endswith(" more")


def test_help_names_every_command() -> None:
    [delivery] = room_with("ann").receive("ann", Help())
    assert isinstance(delivery.event, Notice)
    for command in ("/nick", "/join", "/leave", "/rooms", "/who", "/msg", "/help", "/quit", "//"):
        assert command in delivery.event.text


def test_quitting_says_good_bye_and_the_room_is_told() -> None:
    room = room_with("ann", "bob")
    assert told(room.receive("ann", Quit())) == {"ann": [Notice("bye")], "bob": [Notice("ann left")]}
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
def test_whatever_members_do_names_differ_rooms_keep_apart_and_nothing_is_owed_to_the_absent(
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
            where = rooms[member]
            deliveries = room.receive(member, request)  # type: ignore[arg-type]
            if isinstance(request, Say):
                reached = {one for delivery in deliveries for one in delivery.members}
                assert reached == {one for one, at in rooms.items() if at == where} - {member}
            if isinstance(request, Join):
                rooms[member] = request.room
            if isinstance(request, Quit):
                deliveries = deliveries[1:]  # the good-bye
                del rooms[member]
        else:
            continue
        assert {one for delivery in deliveries for one in delivery.members} <= set(rooms)
        assert len({room.nick(one).lower() for one in rooms}) == len(rooms) == len(room)
    for member in list(rooms):
        room.leave(member)
    assert not any([room._nicks, room._by_nick, room._room_of, room._rooms])
