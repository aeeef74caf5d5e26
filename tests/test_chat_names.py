from __future__ import annotations

import sys
import unicodedata

import pytest
from confusable_homoglyphs.confusables import confusables_data
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from netsvc.chat.chat_events import Whispered
from netsvc.chat.entries import Entry, EntryKind
from netsvc.chat.memory_directory import MemoryDirectory
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.names import ASCII_NAMES, NAME_MAX, RESERVED_NICKS, InvalidNameError, Names
from netsvc.chat.nicks import Nicks
from netsvc.chat.open_rooms import OpenRooms
from netsvc.chat.people_lines import PEOPLE_LINES
from netsvc.chat.program_lines import PREFIX_MAX, PROGRAM_LINES, ProgramLineDecoder, ReceivedEntry
from netsvc.chat.request_lines import decode_request, encode_request
from netsvc.chat.requests import Rename
from netsvc.chat.room import LOBBY
from netsvc.chat.unicode_names import UnicodeNames
from netsvc.wire.text import clean

UNICODE = UnicodeNames()
BOTH = pytest.mark.parametrize("names", [ASCII_NAMES, UNICODE], ids=["ASCII", "Unicode"])

ascii_names = st.text("abcdefghijklmnopqrstuvwxyzILOMW0159_-", min_size=1, max_size=NAME_MAX)


@pytest.mark.parametrize("nick", ["a", "guest-7", "Bob_2", "x" * 24])
def test_a_valid_nick_is_returned_unchanged(nick: str) -> None:
    assert ASCII_NAMES.nick(nick) == nick
    assert UNICODE.nick(nick) == nick


@pytest.mark.parametrize("nick", ["", "x" * 25, "a b", "a>", "é", "Ａ", "a\n", "*", "٣", "-"])
def test_an_invalid_nick_is_refused(nick: str) -> None:
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


@BOTH
@pytest.mark.parametrize("nick", RESERVED_NICKS)
def test_reserved_nicks_are_refused_in_any_case(names: Names, nick: str) -> None:
    for form in (nick, nick.upper(), nick.title()):
        with pytest.raises(InvalidNameError, match="reserved"):
            names.nick(form)


@BOTH
@pytest.mark.parametrize(
    "nick", ["adm1n", "ADMlN", "r00t", "systern", "Moderat0r", "rnod", "0p", "0vvner", "he1p", "a1l"]
)
def test_a_nick_that_looks_like_a_reserved_one_is_refused(names: Names, nick: str) -> None:
    with pytest.raises(InvalidNameError, match=f"{nick} is reserved; take another nick"):
        names.nick(nick)


@BOTH
@pytest.mark.parametrize("nick", ["guest-1", "Ann", "opal", "model", "allan", "admin2", "badmin", "bot", "serverless"])
def test_a_nick_that_only_contains_a_reserved_one_is_allowed(names: Names, nick: str) -> None:
    assert names.nick(nick) == nick


def test_a_room_may_have_a_reserved_name() -> None:
    assert ASCII_NAMES.room("help") == "#help"


@BOTH
@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("paul", "pauI"), ("paul", "pau1"), ("guest-1", "guest-l"), ("guest-10", "guest-lO"), ("Ian", "lan")),
        *(("Bob", "B0b"), ("modern", "rnodern"), ("vvalter", "Walter"), ("vw", "vvv"), ("wv", "vvv"), ("WARN", "wam")),
    ],
)
def test_names_that_look_alike_in_ascii_share_a_key(names: Names, one: str, other: str) -> None:
    assert names.keys(one) & names.keys(other)


@BOTH
@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("ann", "anna"), ("clay", "day"), ("a-b", "a_b"), ("a_b", "ab"), ("bob_", "bob__"), ("x5", "xs"), ("z", "2")),
        *(("guest-11", "guest-1"), ("guest-2", "guest-3"), ("nm", "mn"), ("new", "nevv2"), ("mia", "nia"), ("b", "8")),
    ],
)
def test_names_that_can_be_told_apart_share_no_key(names: Names, one: str, other: str) -> None:
    assert not names.keys(one) & names.keys(other)


@BOTH
def test_guest_nicks_never_collide(names: Names) -> None:
    keys = [key for number in range(1, 10_000) for key in names.keys(f"guest-{number}")]
    assert len(keys) == len(set(keys))


@given(ascii_names, st.sampled_from(["Il", "l1", "iI", "oO", "O0", ("m", "rn"), ("w", "vv")]))
def test_a_name_shares_its_key_with_every_name_that_it_looks_like(name: str, pair: tuple[str, str]) -> None:
    one, other = pair
    for names in (ASCII_NAMES, UNICODE):
        assert names.keys(name) & names.keys(name.replace(one, other))
        assert names.keys(name) & names.keys(name.replace(other, one))


@given(ascii_names, ascii_names)
def test_names_that_look_alike_in_ascii_do_so_among_names_in_any_script(one: str, other: str) -> None:
    if ASCII_NAMES.keys(one) == ASCII_NAMES.keys(other):
        assert UNICODE.keys(one) & UNICODE.keys(other)


@pytest.mark.parametrize(
    "nick",
    [
        *("王小明", "Ännchen", "Αθήνα", "Ёлка", "ひらがな", "ガンダム", "김민수", "ጌታ", "Յուրի"),
        *("Nguyễn", "Trần_Đức", "Ọlá", "İbrahim", "שלום", "محمد", "آرش", "علی\u200cرضا"),
        *("हिन्दी", "नमस्ते", "प्रियंका", "शहज़ाद", "ज़ीं", "বাংলা", "ਗੁਰਪ੍ਰੀਤ", "தமிழ்", "செல்வி", "తెలుగు", "ಕನ್ನಡ"),
        *("ഉണ്ണി", "ශ්\u200dරී", "สมชาย", "ปิ่น", "ສົມ", "ကျော်", "မြို့", "ဖြိုး", "សុខា", "བཀྲཤིས", "ތާނަ"),
    ],
)
def test_unicode_names_may_be_in_any_script(nick: str) -> None:
    assert UNICODE.nick(nick) == nick
    assert clean(nick) == nick


def test_a_name_is_composed_so_that_an_accent_is_no_mark() -> None:
    assert UNICODE.nick("Jose\u0301") == "José"
    assert UNICODE.nick(unicodedata.normalize("NFD", "Nguyễn")) == "Nguyễn"
    assert UNICODE.nick(unicodedata.normalize("NFD", "김민수")) == "김민수"


@pytest.mark.parametrize(
    "nick",
    [
        *("x\u0301", "ann\u0336", "a\u0301\u0302", "И\u0301", "王\u0301"),  # on any script
        *("שָׁלוֹם", "مُحَمَّد", "м\u2de0", "ድ\u135f"),  # of a script that is written without
        *("aि", "कิ", "กि", "1ि", "_ि", "-ิ", "ิ", "१ि"),  # of another script
        *("किि", "ก่่", "က\u103b\u103c\u103d\u102d\u102f"),  # twice, and too many
        "क\u0951",
    ],
)
def test_a_combining_mark_that_no_script_needs_is_refused(nick: str) -> None:
    with pytest.raises(InvalidNameError, match="combining marks"):
        UNICODE.nick(nick)
    with pytest.raises(InvalidNameError):
        UNICODE.room(nick)


def test_every_mark_of_unicode_is_refused_on_a_latin_letter() -> None:
    for mark in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(mark)[0] == "M" and len(unicodedata.normalize("NFC", f"x{mark}")) == 2:
            assert not is_name(f"x{mark}"), mark


def test_joiners_do_not_distinguish_names() -> None:
    assert UNICODE.keys("श्\u200dरी") & UNICODE.keys("श्री")


@given(st.text(max_size=10) | st.sampled_from(["İx", "Ⱥ" * 12, "ΑΣ", "Å", "Ａ"]))
def test_the_name_of_a_room_is_a_name_of_that_room(text: str) -> None:
    try:
        room = UNICODE.room(text)
    except InvalidNameError:
        return
    assert UNICODE.room(room) == room
    assert len(room.encode()) <= 1 + NAME_MAX


def test_full_width_letters_are_normalised() -> None:
    assert UNICODE.nick("Ａｎｎ") == "Ann"


@pytest.mark.parametrize(
    "nick",
    [
        *("", "a b", "a>", "<a", "a*", "a\n", "a#b", "a/b", "a\u00a0b", "a\u3000b"),
        *("a\u200db", "a\u202eb", "😀", "ﬁ", "שלוםa", "王" * 9, "x" * 25, "\ud800", "a\x9b", "½"),
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
    one, other = UNICODE.nick(one), UNICODE.nick(other)
    nicks = Nicks(UNICODE)
    nicks.claim(one, "first")
    assert nicks.problem(other, "second", 0.0) == f"looks like {one}"
    nicks.release("first")
    assert nicks.problem(other, "second", 0.0) == ""


@pytest.mark.parametrize(("one", "other"), [("ann", "anna"), ("王", "主"), ("bob", "вов")])
def test_visibly_different_names_do_not_collide(one: str, other: str) -> None:
    assert not UNICODE.keys(one) & UNICODE.keys(other)


def open_room(rooms: OpenRooms, name: str) -> None:
    Deferred.fromCoroutine(rooms.open(name_of(rooms, name), None))


def name_of(rooms: OpenRooms, name: str) -> str:
    names: list[str] = []
    Deferred.fromCoroutine(rooms.name_of(name)).addCallback(names.append)
    return names[0]


@BOTH
@pytest.mark.parametrize(("one", "other"), [("dev-1", "dev-l"), ("scope", "SC0PE")])
def test_a_room_name_that_is_confusable_with_an_open_room_means_that_room(names: Names, one: str, other: str) -> None:
    rooms = OpenRooms(MemoryStore(lambda: 0.0), MemoryDirectory(lambda: 0.0, names), names, 0, 0)
    one, other = names.room(one), names.room(other)
    assert name_of(rooms, other) == other
    open_room(rooms, one)
    open_room(rooms, other)
    assert [room.name for room in rooms.all()] == [one]
    for _ in range(2):
        [room] = rooms.all()
        rooms.release(room)
    assert rooms.all() == []
    assert name_of(rooms, other) == other


@BOTH
def test_a_confusable_name_of_the_lobby_means_the_lobby(names: Names) -> None:
    rooms = OpenRooms(MemoryStore(lambda: 0.0), MemoryDirectory(lambda: 0.0, names), names, 0, 0)
    assert name_of(rooms, names.room("l0bby")) == LOBBY
    assert name_of(rooms, names.room("IObby")) == LOBBY


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


@given(st.text(max_size=30))
def test_any_text_is_refused_or_is_a_nick_that_cannot_forge_a_line(text: str) -> None:
    try:
        nick = UNICODE.nick(text)
    except InvalidNameError:
        return
    assert 0 < len(nick.encode()) <= NAME_MAX
    assert UNICODE.nick(nick) == nick
    assert decode_request(encode_request(Rename(nick)), UNICODE) == Rename(nick)
    entry = Entry("", EntryKind.SAID, nick, "hi", 0.0, "", "", "", 7)
    assert PEOPLE_LINES.entry(entry) == f"<{nick}> hi\n".encode()
    line = PROGRAM_LINES.entry(entry)
    received = ProgramLineDecoder().decode(line.rstrip(b"\n"))
    assert isinstance(received, ReceivedEntry)
    assert received.entry == entry
    assert len(line) <= PREFIX_MAX
    whisper = Whispered(nick, nick, "hi")
    assert ProgramLineDecoder().decode(PROGRAM_LINES.event(whisper).rstrip(b"\n")) == whisper
