from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.chat.chat_events import (
    AwaySet,
    Entries,
    Event,
    MemberList,
    NickSet,
    NotConfirmed,
    Notice,
    RecipientAway,
    Refused,
    Replaced,
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
from netsvc.chat.people_lines import PEOPLE_LINES
from netsvc.chat.program_lines import PREFIX_MAX, PROGRAM_LINES, ProgramLineDecoder, ReceivedEntry
from netsvc.chat.request_lines import HELP, MessageError, decode_request, encode_request, split_message_id
from netsvc.chat.requests import (
    Act,
    Away,
    Erase,
    Help,
    History,
    Join,
    Leave,
    ListRooms,
    Positions,
    Quit,
    Rename,
    Request,
    Resume,
    Say,
    Search,
    SetTopic,
    ShowTopic,
    Whisper,
    Who,
)
from netsvc.limits.cause import Cause
from netsvc.wire.text import clean

nicks = st.from_regex(r"[A-Za-z0-9_-]{1,18}x", fullmatch=True)
rooms = nicks.map(lambda room: "#" + room.lower())
texts = st.text(max_size=50).map(clean)
shown_texts = texts.map(lambda text: clean(("x" + text).strip()))
epochs = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
tokens = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)
offsets = st.integers(1, 10**15)
times = st.integers(0, 4 * 10**12).map(lambda milliseconds: milliseconds / 1000)
message_ids = st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True)

requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(Say, texts),
    st.builds(Act, shown_texts),
    st.builds(Whisper, nicks, shown_texts),
    st.builds(Rename, nicks),
    st.builds(Join, rooms),
    st.builds(SetTopic, shown_texts.filter(lambda text: text != "-") | st.just("")),
    st.builds(Away, shown_texts | st.just("")),
    st.builds(History, offsets),
    st.builds(Search, shown_texts),
    st.builds(Erase, offsets | st.none()),
    st.builds(Positions, st.booleans()),
    st.builds(Resume, tokens, nicks, rooms, st.builds(Position, epochs, offsets)),
    st.sampled_from([Leave(), ListRooms(), Who(), ShowTopic(), Help(), Quit()]),
)

ONE_NICK = (EntryKind.SAID, EntryKind.ACTION, EntryKind.LEFT, EntryKind.TOPIC)


@st.composite
def entries(draw: st.DrawFn, room: str = "#dev", epoch: str = "0a") -> Entry:
    kind = draw(st.sampled_from(EntryKind))
    text = {
        EntryKind.JOINED: st.just(""),
        EntryKind.RENAMED: nicks,
        EntryKind.ERASED: offsets.map(str),
        EntryKind.SAID: texts,
        EntryKind.ACTION: texts,
    }.get(kind, shown_texts)
    nick = "" if kind is EntryKind.NOTICE else draw(nicks)
    return Entry(room, kind, nick, draw(text), draw(times), "", "", epoch, draw(offsets))


events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Welcome, nicks),
    st.builds(SessionToken, tokens),
    st.builds(NickSet, nicks),
    st.builds(RoomEntered, rooms, st.builds(Position, epochs, offsets), offsets, st.lists(nicks).map(tuple)),
    st.builds(RoomLeft, rooms),
    st.builds(Resumed, rooms, st.sampled_from(Verdict), offsets),
    st.builds(Whispered, nicks, nicks, texts),
    st.builds(Refused, st.sampled_from(Cause), shown_texts, message_ids.filter("-".__ne__) | st.just("")),
    st.builds(NotConfirmed, message_ids.filter("-".__ne__) | st.just("")),
    st.builds(TopicShown, rooms, shown_texts, nicks, times),
    st.builds(AwaySet, shown_texts | st.just("")),
    st.builds(RecipientAway, nicks, shown_texts),
    st.builds(MemberList, rooms, offsets, st.lists(nicks).map(tuple)),
    st.builds(RoomList, offsets, st.lists(st.tuples(rooms, offsets)).map(tuple)),
    st.builds(Replaced),
    st.builds(Notice, texts),
    st.builds(Entries, rooms, st.sampled_from(Review), st.lists(entries(room="", epoch=""), max_size=3).map(tuple)),
)


@given(requests)
def test_an_encoded_request_is_decoded_unchanged(request: Request) -> None:
    assert decode_request(split_message_id(encode_request(request))[1]) == request


@given(requests, message_ids)
def test_a_message_id_is_split_off_the_line_of_a_request(request: Request, message_id: str) -> None:
    for wanted in (message_id, ""):
        given_id, line = split_message_id(encode_request(request, wanted))
        assert given_id == wanted
        assert decode_request(line) == request


@given(st.binary())
def test_any_bytes_of_a_member_are_a_request_or_raise_a_message_error_with_clean_text(line: bytes) -> None:
    refusal = ""
    try:
        decode_request(split_message_id(line)[1])
    except MessageError as e:
        refusal = str(e)
    assert refusal.isprintable()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"/dance", "unknown command /dance; /help lists the commands"),
        (b"/nick", "a nick is 1 to 24 letters (a-z), digits, _ and -"),
        (b"/nick a b", "a nick is 1 to 24 letters (a-z), digits, _ and -"),
        (b"/msg ann", "usage: /msg NICK TEXT"),
        (b"/me  ", "usage: /me TEXT"),
        (b"/search", "usage: /search WORDS"),
        (b"/search a b c d e f g h i", "search for at most 8 words of at most 64 characters"),
        (b"/search " + b"x" * 65, "search for at most 8 words of at most 64 characters"),
        (b"/history x", "usage: /history [N]"),
        (b"/history 0", "usage: /history [N]"),
        (b"/erase -1", "usage: /erase [OFFSET]"),
        (b"/positions", "usage: /positions on or /positions off"),
        (b"/resume x", "usage: /resume TOKEN NICK ROOM EPOCH OFFSET"),
    ],
)
def test_a_wrong_request_is_refused_with_its_usage(line: bytes, reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode_request(line)
    assert str(caught.value) == reason


def test_an_id_that_is_none_is_refused() -> None:
    for line in (b"@a,b hi", b"@" + b"x" * 33 + b" hi", b"@\xff hi"):
        with pytest.raises(MessageError, match="after @ comes an ID"):
            split_message_id(line)


def test_the_help_names_every_command_for_people() -> None:
    commands = "nick join leave rooms who msg me topic history search erase away help quit"
    assert all(f"/{command}" in HELP for command in commands.split())
    assert len(HELP) < 800


@given(entries(), message_ids | st.just(""))
def test_a_program_reads_an_entry_as_it_was_written(entry: Entry, message_id: str) -> None:
    decoder = ProgramLineDecoder()
    decoder.room, decoder.epoch = entry.room, entry.epoch
    assert decoder.decode(PROGRAM_LINES.entry(entry)[:-1]) == ReceivedEntry(entry, is_own=False)
    own = entry._replace(message_id=message_id)
    assert decoder.decode(PROGRAM_LINES.own_entry(own)[:-1]) == ReceivedEntry(own, is_own=True)


@given(events)
def test_a_program_reads_an_event_as_it_was_written(event: Event) -> None:
    decoder = ProgramLineDecoder()
    *before, last = PROGRAM_LINES.event(event).split(b"\n")[:-1]
    assert [decoder.decode(line) for line in before] == [None] * len(before)
    assert decoder.decode(last) == event


@given(
    st.binary()
    | st.sampled_from(
        [
            "@1 x",
            "@1 2026-13-01 <a> b",
            "@1 2026-11-29T00:00:00Z dance",
            "& room x",
            "& dance",
            "& entries #a replay 9999999",
            "& refused nothing - x",
            "ann",
        ]
    ).map(str.encode)
)
def test_whatever_a_server_sends_is_an_event_or_raises_a_message_error(line: bytes) -> None:
    refusal = ""
    try:
        ProgramLineDecoder().decode(line)
    except MessageError as e:
        refusal = str(e)
    assert refusal.isprintable()


def test_no_prefix_of_an_entry_is_longer_than_a_program_expects() -> None:
    entry = Entry("#dev", EntryKind.ACTION, "x" * 24, "", 4e9, "", "x" * 32, "0a", 10**18)
    assert len(PROGRAM_LINES.own_entry(entry)) < PREFIX_MAX


ENTRY = Entry("#dev", EntryKind.SAID, "ann", "hi", 1_796_000_000.0, "author", "m1", "0a", 7)


@pytest.mark.parametrize(
    ("changes", "line", "own"),
    [
        ({}, "<ann> hi", ""),
        ({"kind": EntryKind.ACTION}, "<ann *> hi", ""),
        ({"kind": EntryKind.JOINED, "text": ""}, "* ann joined #dev", ""),
        ({"kind": EntryKind.LEFT, "text": "left"}, "* ann left", ""),
        ({"kind": EntryKind.RENAMED, "text": "bob"}, "* ann is now bob", ""),
        ({"kind": EntryKind.TOPIC}, "* ann set the topic: hi", "* ann set the topic: hi"),
        ({"kind": EntryKind.TOPIC, "text": ""}, "* ann removed the topic", "* ann removed the topic"),
        ({"kind": EntryKind.NOTICE, "nick": ""}, "* hi", ""),
        ({"kind": EntryKind.ERASED, "text": "3"}, "* ann erased a line", "* ann erased a line"),
    ],
)
def test_what_people_see_of_an_entry(changes: dict[str, Any], line: str, own: str) -> None:
    entry = ENTRY._replace(**changes)
    assert PEOPLE_LINES.entry(entry).decode() == line + "\n"
    assert PEOPLE_LINES.own_entry(entry).decode() == (own and own + "\n")


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (RoomEntered("#dev", Position("0a", 7), 3, ("ann", "bob")), ["* you are in #dev with ann, bob"]),
        (RoomEntered("#dev", Position("0a", 7), 9, ("ann",)), ["* you are in #dev with ann and 7 more"]),
        (RoomEntered("#dev", Position("0a", 0), 1, ()), ["* you are the only one in #dev"]),
        (NickSet("ann"), ["* you are now ann"]),
        (
            Entries("#dev", Review.REPLAY, (ENTRY, ENTRY._replace(kind=EntryKind.ACTION))),
            [
                "* the last 2 lines of #dev (times in UTC):",
                "[2026-11-30 00:53] <ann> hi",
                "[2026-11-30 00:53] <ann *> hi",
            ],
        ),
        (Entries("#dev", Review.HISTORY, ()), ["* nothing was said in #dev"]),
        (Entries("#dev", Review.SEARCH, ()), ["* nothing was found in #dev"]),
        (Whispered("ann", "bob", "psst"), ["<ann -> bob> psst"]),
        (Refused(Cause.NICK_TAKEN, "ann is taken; take another nick"), ["* ann is taken; take another nick"]),
        (
            TopicShown("#dev", "tea", "ann", 1_796_000_000.0),
            ["* topic of #dev: tea (set by ann, 2026-11-30 00:53 UTC)"],
        ),
        (TopicShown("#dev", ""), ["* #dev has no topic; /topic TEXT sets it"]),
        (MemberList("#dev", 2, ("ann", "bob")), ["* 2 in #dev: ann, bob"]),
        (RoomList(3, (("#dev", 2), ("#lobby", 1))), ["* rooms: #dev (2), #lobby (1) and 1 more"]),
        (Resumed("#dev", Verdict.LOST, 12), ["* welcome back; 12 older lines are no longer kept"]),
        (AwaySet("lunch"), ["* you are away; /away alone ends that"]),
        (AwaySet(""), ["* you are back"]),
        (RecipientAway("bob", "lunch"), ["* bob is away: lunch"]),
        (Replaced(), ["* another connection of yours has taken over; bye"]),
        (SessionToken("0a"), []),
    ],
)
def test_what_people_see_of_an_event(event: Event, lines: list[str]) -> None:
    assert PEOPLE_LINES.event(event).decode().splitlines() == lines
