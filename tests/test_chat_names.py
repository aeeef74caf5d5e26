from __future__ import annotations

import pytest
from confusable_homoglyphs.confusables import confusables_data
from hypothesis import given
from hypothesis import strategies as st

from netsvc.chat.messages import (
    PREFIX_MAX,
    Join,
    Leave,
    Notice,
    Quit,
    Rename,
    Request,
    Said,
    Whispered,
    Who,
    decode_event,
    encode_event,
)
from netsvc.chat.names import ASCII_NAMES, NAME_MAX, InvalidNameError
from netsvc.chat.room import Delivery, Room
from netsvc.chat.unicode_names import UnicodeNames
from netsvc.limits.cause import Cause

UNICODE = UnicodeNames()


@pytest.mark.parametrize("nick", ["a", "guest-7", "Bob_2", "x" * 24])
def test_a_valid_nick_is_returned_unchanged(nick: str) -> None:
    assert ASCII_NAMES.nick(nick) == nick
    assert UNICODE.nick(nick) == nick


@pytest.mark.parametrize("nick", ["", "x" * 25, "a b", "a>", "é", "Ａ", "a\n", "*", "٣", "server", "SYSTEM", "Admin"])
def test_an_invalid_or_reserved_nick_is_refused(nick: str) -> None:
    with pytest.raises(InvalidNameError):
        ASCII_NAMES.nick(nick)


def test_a_room_name_needs_no_number_sign_and_ignores_case() -> None:
    assert ASCII_NAMES.room("#Dev") == ASCII_NAMES.room("dev") == "#dev"
    assert UNICODE.room("#Über") == UNICODE.room("über") == "#über"


@pytest.mark.parametrize("room", ["", "#", "##a", "a b", "x" * 25])
def test_an_invalid_room_name_is_refused(room: str) -> None:
    for names in (ASCII_NAMES, UNICODE):
        with pytest.raises(InvalidNameError):
            names.room(room)


def test_names_are_compared_regardless_of_case() -> None:
    assert ASCII_NAMES.keys("Bob") == ASCII_NAMES.keys("bOB")
    assert UNICODE.keys("Ännchen") & UNICODE.keys("äNNCHEN")


@pytest.mark.parametrize("nick", ["王小明", "Ännchen", "Αθήνα", "שלום", "हिन्दी", "ひらがな", "한국어"])
def test_unicode_names_may_be_in_any_script(nick: str) -> None:
    assert UNICODE.nick(nick) == nick


def test_full_width_letters_are_normalised() -> None:
    assert UNICODE.nick("Ａｎｎ") == "Ann"


@pytest.mark.parametrize(
    "nick",
    [
        *("", "a b", "a>", "<a", "a*", "a\n", "a#b", "a/b", "a\u00a0b", "a\u3000b"),
        *("a\u200db", "a\u202eb", "\u0301a", "😀", "ﬁ", "שלוםa", "王" * 9, "x" * 25, "\ud800", "a\x9b", "½"),
        *("server", "SYSTEM", "аdmin", "ѕerver", "systеm", "ａdmin", "ADМIN"),
    ],
)
def test_an_invisible_misleading_or_long_nick_is_refused_in_any_script(nick: str) -> None:
    with pytest.raises(InvalidNameError):
        UNICODE.nick(nick)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ann", "аnn"),
        ("paul", "pau1"),
        ("paul", "PauI"),
        ("Bob", "B0b"),
        ("modern", "rnodern"),
        ("scope", "ѕсоре"),
        ("Bob", "Вob"),
        ("KIM", "КIM"),
    ],
)
def test_a_nick_that_is_confusable_with_a_taken_one_is_refused(one: str, other: str) -> None:
    assert UNICODE.keys(one) & UNICODE.keys(other)
    room: Room[str] = Room(UNICODE)
    for member in ("first", "second"):
        room.enter(member)
    room.receive("first", Rename(UNICODE.nick(one)))
    deliveries = room.receive("second", Rename(UNICODE.nick(other)))
    notice = Notice(f"{UNICODE.nick(other)} looks like {one}; take another nick")
    assert deliveries == [Delivery(("second",), notice, Cause.NICK_TAKEN)]
    assert room.nick("second") == "guest-2"


@pytest.mark.parametrize(("one", "other"), [("ann", "anna"), ("王", "主"), ("bob", "вов")])
def test_visibly_different_names_do_not_collide(one: str, other: str) -> None:
    assert not UNICODE.keys(one) & UNICODE.keys(other)


def test_a_room_name_that_is_confusable_with_an_existing_room_means_that_room() -> None:
    room: Room[str] = Room(UNICODE)
    for member in ("first", "second"):
        room.enter(member)
    room.receive("first", Join(UNICODE.room("scope")))
    deliveries = room.receive("second", Join(UNICODE.room("ѕсоре")))
    assert Delivery(("second",), Notice("you are in #scope with guest-1")) in deliveries
    for member in ("first", "second"):
        room.leave(member)
    room.enter("third")
    deliveries = room.receive("third", Join(UNICODE.room("ѕсоре")))
    assert Delivery(("third",), Notice("you are the only one in #ѕсоре")) in deliveries


def is_name(text: str) -> bool:
    """Return whether ``text`` is a valid nick and needs no normalisation."""
    try:
        return UNICODE.nick(text) == text
    except InvalidNameError:
        return False


def test_all_pairs_that_unicode_lists_as_confusable_collide() -> None:
    for character, confusables in confusables_data.items():
        for other in (entry["c"] for entry in confusables):
            one, two = f"x{character}", f"x{other}"
            if is_name(one) and is_name(two):
                assert UNICODE.keys(one) & UNICODE.keys(two), (one, two)


def test_a_confusable_name_of_the_lobby_means_the_lobby() -> None:
    room: Room[str] = Room(UNICODE)
    room.enter("a")
    room.receive("a", Join("#x"))
    deliveries = room.receive("a", Join(UNICODE.room("l0bby")))
    assert Delivery(("a",), Notice("you are the only one in #lobby")) in deliveries
    room.enter("b")
    room.receive("a", Leave())
    room.leave("a")
    room.leave("b")
    assert len(room) == 0


requests = st.sampled_from(
    [
        *(Join(UNICODE.room(name)) for name in ("lobby", "l0bby", "scope", "ѕсоре", "x")),
        *(Rename(UNICODE.nick(name)) for name in ("Bob", "Вob", "b0b", "guest-1", "guest-l")),
        *(Leave(), Who(), Quit(), None),
    ]
)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), requests), max_size=40))
def test_no_state_is_left_when_all_members_have_left(history: list[tuple[str, Request | None]]) -> None:
    room: Room[str] = Room(UNICODE)
    empty = repr(vars(room) | {"_guests": 0})
    for member, request in history:
        if member not in room:
            room.enter(member)
        if request is None:
            room.leave(member)
        else:
            room.receive(member, request)
        keys = [key for one in ("a", "b", "c") if one in room for key in UNICODE.keys(room.nick(one))]
        assert len(keys) == len(set(keys))
    for member in ("a", "b", "c"):
        room.leave(member)
    assert repr(vars(room) | {"_guests": 0}) == empty


def test_guest_nicks_never_collide() -> None:
    keys = [key for number in range(2_000) for key in UNICODE.keys(f"guest-{number}")]
    assert len(keys) == len(set(keys))


@given(st.text(max_size=30))
def test_any_text_is_refused_or_is_a_nick_that_cannot_forge_a_line(text: str) -> None:
    try:
        nick = UNICODE.nick(text)
    except InvalidNameError:
        return
    assert 0 < len(nick.encode()) <= NAME_MAX
    assert UNICODE.nick(nick) == nick
    assert decode_event(encode_event(Said(nick, "hi"))) == Said(nick, "hi")
    assert len(encode_event(Whispered(nick, nick, ""))) <= PREFIX_MAX
    assert decode_event(encode_event(Whispered(nick, nick, "hi"))) == Whispered(nick, nick, "hi")
