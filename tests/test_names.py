from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.chat.messages import PREFIX_MAX, Join, Notice, Rename, Said, Whispered, decode_event, encode_event
from netsvc.chat.room import Delivery, Room
from netsvc.names import ASCII_NAMES, NAME_MAX, NameRefusedError
from netsvc.unicode_names import UnicodeNames

UNICODE = UnicodeNames()


@pytest.mark.parametrize("nick", ["a", "guest-7", "Bob_2", "x" * 24])
def test_a_good_nick_is_returned_as_it_is(nick: str) -> None:
    assert ASCII_NAMES.nick(nick) == nick
    assert UNICODE.nick(nick) == nick


@pytest.mark.parametrize("nick", ["", "x" * 25, "a b", "a>", "é", "Ａ", "a\n", "*", "٣", "server", "SYSTEM", "Admin"])
def test_a_bad_or_reserved_nick_is_refused(nick: str) -> None:
    with pytest.raises(NameRefusedError):
        ASCII_NAMES.nick(nick)


def test_a_room_is_named_with_or_without_its_sign_and_without_case() -> None:
    assert ASCII_NAMES.room("#Dev") == ASCII_NAMES.room("dev") == "#dev"
    assert UNICODE.room("#Über") == UNICODE.room("über") == "#über"


@pytest.mark.parametrize("room", ["", "#", "##a", "a b", "x" * 25])
def test_a_bad_room_name_is_refused(room: str) -> None:
    for names in (ASCII_NAMES, UNICODE):
        with pytest.raises(NameRefusedError):
            names.room(room)


def test_names_are_compared_without_case() -> None:
    assert ASCII_NAMES.key("Bob") == ASCII_NAMES.key("bOB")
    assert UNICODE.key("Ännchen") == UNICODE.key("äNNCHEN")


@pytest.mark.parametrize("nick", ["王小明", "Ännchen", "Αθήνα", "שלום", "हिन्दी", "ひらがな", "한국어"])
def test_a_name_may_be_in_any_script_if_it_is_asked_for(nick: str) -> None:
    assert UNICODE.nick(nick) == nick


def test_full_width_letters_are_the_plain_ones() -> None:
    assert UNICODE.nick("Ａｎｎ") == "Ann"


@pytest.mark.parametrize(
    "nick",
    [
        *("", "a b", "a>", "<a", "a*", "a\n", "a#b", "a/b", "a\u00a0b", "a\u3000b"),
        *("a\u200db", "a\u202eb", "\u0301a", "😀", "ﬁ", "שלוםa", "王" * 9, "x" * 25, "\ud800", "a\x9b", "½"),
        *("server", "SYSTEM", "аdmin", "ѕerver", "systеm", "ａdmin"),
    ],
)
def test_what_hides_forges_or_is_too_long_is_refused_in_any_script(nick: str) -> None:
    with pytest.raises(NameRefusedError):
        UNICODE.nick(nick)


@pytest.mark.parametrize(
    ("one", "other"),
    [("ann", "аnn"), ("paul", "pau1"), ("paul", "PauI"), ("Bob", "B0b"), ("modern", "rnodern"), ("scope", "ѕсоре")],
)
def test_names_that_look_alike_are_taken_for_the_same(one: str, other: str) -> None:
    assert UNICODE.key(one) == UNICODE.key(other)
    room: Room[str] = Room(UNICODE)
    for member in ("first", "second"):
        room.enter(member)
    room.receive("first", Rename(UNICODE.nick(one)))
    told = room.receive("second", Rename(UNICODE.nick(other)))
    assert told == [Delivery(("second",), Notice(f"{UNICODE.nick(other)} looks like {one}; take another nick"))]
    assert room.nick("second") == "guest-2"


@pytest.mark.parametrize(("one", "other"), [("ann", "anna"), ("王", "主"), ("bob", "вов")])
def test_names_that_differ_to_the_eye_do_not_collide(one: str, other: str) -> None:
    assert UNICODE.key(one) != UNICODE.key(other)


def test_a_room_that_looks_like_another_is_that_one() -> None:
    room: Room[str] = Room(UNICODE)
    for member in ("first", "second"):
        room.enter(member)
    room.receive("first", Join(UNICODE.room("scope")))
    told = room.receive("second", Join(UNICODE.room("ѕсоре")))
    assert Delivery(("second",), Notice("you are in #scope with guest-1")) in told
    for member in ("first", "second"):
        room.leave(member)
    room.enter("third")
    told = room.receive("third", Join(UNICODE.room("ѕсоре")))
    assert Delivery(("third",), Notice("you are in #ѕсоре, alone so far")) in told


def test_guests_are_all_different() -> None:
    assert len({UNICODE.key(f"guest-{number}") for number in range(2_000)}) == 2_000


@given(st.text(max_size=30))
def test_whatever_is_asked_for_is_refused_or_a_name_that_forges_nothing(text: str) -> None:
    try:
        nick = UNICODE.nick(text)
    except NameRefusedError:
        return
    assert 0 < len(nick.encode()) <= NAME_MAX
    assert UNICODE.nick(nick) == nick
    assert decode_event(encode_event(Said(nick, "hi"))) == Said(nick, "hi")
    assert len(encode_event(Whispered(nick, nick, ""))) <= PREFIX_MAX
    assert decode_event(encode_event(Whispered(nick, nick, "hi"))) == Whispered(nick, nick, "hi")
