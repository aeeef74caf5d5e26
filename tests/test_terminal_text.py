"""The pure parts of a terminal's screen: rows, scrolling, lines of a chat, completion and the status line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from netsvc.chat.chat_events import (
    Entries,
    MemberList,
    Refused,
    Resumed,
    Review,
    RoomEntered,
    RoomList,
    SessionToken,
    TopicShown,
    Verdict,
    Whispered,
)
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Act, Join, Say, Whisper
from netsvc.cli.chat_memory import ChatMemory, Remembered, RememberedSession, latest_server
from netsvc.cli.terminal_chat_lines import entry_line, event_lines, mentions
from netsvc.cli.terminal_commands import ClientCommand, parse_typed_line
from netsvc.cli.terminal_completion import KnownNames, completions
from netsvc.cli.terminal_scrollback import Scrollback
from netsvc.cli.terminal_status import ChatStatus, chat_status_parts, status_row
from netsvc.cli.terminal_text import (
    LOOKS,
    NICK_COLORS,
    Fragment,
    StyledLine,
    displayed,
    nick_style,
    rows_of,
    sgr,
    wrapped,
)
from netsvc.limits.cause import Cause

NOON = 1_795_953_600.0


def texts(rows: list[list[Fragment]]) -> list[str]:
    return ["".join(text for _, text in row) for row in rows]


def width_of(text: str) -> int:
    return sum(map(get_cwidth, text))


# Rows


@pytest.mark.parametrize(
    ("text", "columns", "rows"),
    [
        ("", 10, [""]),
        ("one two three", 13, ["one two three"]),
        ("one two three", 12, ["one two", "three"]),
        ("one two  three", 8, ["one two", "three"]),
        ("abcdefghijkl", 5, ["abcde", "fghij", "kl"]),
        ("a bcdefghijkl", 5, ["a bcd", "efghi", "jkl"]),
        ("你好世界", 5, ["你好", "世界"]),
        ("ab你好", 4, ["ab你", "好"]),
        ("你", 1, ["你"]),
        ("e\u0301e\u0301e\u0301", 2, ["e\u0301e\u0301", "e\u0301"]),
    ],
)
def test_a_row_ends_at_a_space_or_beside_a_wide_character(text: str, columns: int, rows: list[str]) -> None:
    assert texts(wrapped([("", text)], columns, get_cwidth, indent=0)) == rows


@given(st.text(alphabet=st.sampled_from("ab  你好e\u0301😀שé"), max_size=60), st.integers(2, 30), st.integers(0, 6))
def test_no_row_is_wider_than_the_screen_and_only_spaces_are_left_out(text: str, columns: int, indent: int) -> None:
    rows = texts(wrapped([("", text)], columns, get_cwidth, indent=indent))
    assert all(width_of(row) <= columns for row in rows)
    assert "".join(rows).replace(" ", "") == text.replace(" ", "")


def test_styles_are_kept_and_further_rows_are_indented() -> None:
    rows = wrapped([("own", "<ann>"), ("", " one second")], 15, get_cwidth, indent=6)
    assert rows == [[("own", "<ann>"), ("", " one")], [("", "      "), ("", "second")]]


def test_the_time_is_left_out_on_a_narrow_screen() -> None:
    line = StyledLine(NOON, (("", "hello"),))
    assert texts(rows_of(line, 40, get_cwidth))[0][2:] == ":00 hello"
    assert texts(rows_of(line, 39, get_cwidth)) == ["hello"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("👨‍👩‍👧", "👨👩👧"),
        ("❤️", "❤"),
        ("👍🏽", "👍"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),  # a joiner of Devanagari
        ("abc", "abc"),
    ],
)
def test_joined_emoji_are_shown_as_their_parts(text: str, shown: str) -> None:
    assert displayed(text) == shown


def luminance(color: int) -> float:
    """Return the relative luminance of WCAG 2."""
    levels = [8 + 10 * (color - 232)] * 3
    if color < 232:
        levels = [level * 40 + 55 if level else 0 for level in divmod_color(color)]
    red, green, blue = (
        level / 255 / 12.92 if level / 255 <= 0.03928 else ((level / 255 + 0.055) / 1.055) ** 2.4 for level in levels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def divmod_color(color: int) -> list[int]:
    return [(color - 16) // 36, (color - 16) // 6 % 6, (color - 16) % 6]


@pytest.mark.parametrize("color", sorted({look.color for look in LOOKS.values() if look.color is not None}))
def test_every_color_can_be_read_on_white_and_on_black(color: int) -> None:
    assert 1.05 / (luminance(color) + 0.05) >= 4
    assert (luminance(color) + 0.05) / 0.05 >= 4


def test_a_nick_has_one_color_in_any_case_of_letters() -> None:
    assert nick_style("Ann") == nick_style("ann")
    assert len({nick_style(f"nick{number}") for number in range(500)}) == len(NICK_COLORS)


def test_escape_sequences_surround_the_styled_parts_only() -> None:
    assert sgr([("own", "<ann>"), ("", " hi")]) == "\x1b[1m<ann>\x1b[0m hi"


# Scrolling


def scrollback_of(count: int, lines_max: int = 1000) -> Scrollback:
    scrollback = Scrollback(get_cwidth, lines_max)
    for number in range(count):
        scrollback.add(StyledLine(NOON, (("", f"line {number}"),), key=str(number)))
    return scrollback


def visible(scrollback: Scrollback, columns: int = 30, height: int = 5) -> list[str]:
    return texts(scrollback.rows(columns, height))


def test_the_end_is_visible_until_it_is_scrolled() -> None:
    scrollback = scrollback_of(20)
    assert visible(scrollback) == [f"line {number}" for number in range(15, 20)]
    scrollback.scroll(3, 30, 5)
    assert visible(scrollback) == [f"line {number}" for number in range(12, 17)]
    scrollback.add(StyledLine(NOON, (("", "new"),)))
    assert (visible(scrollback)[-1], scrollback.lines_below) == ("line 16", 4)
    scrollback.scroll(-100, 30, 5)
    assert (visible(scrollback)[-1], scrollback.lines_below) == ("new", 0)


def test_scrolling_up_ends_with_the_first_line_at_the_top() -> None:
    scrollback = scrollback_of(20)
    scrollback.scroll(1000, 30, 5)
    assert visible(scrollback) == [f"line {number}" for number in range(5)]
    few = scrollback_of(3)
    few.scroll(1000, 30, 5)
    assert (visible(few), few.lines_below) == (["line 0", "line 1", "line 2"], 0)


def test_scrolling_goes_by_rows_inside_long_lines() -> None:
    scrollback = scrollback_of(2)
    scrollback.add(StyledLine(NOON, (("", "a " * 100),)))
    before = visible(scrollback, 10, 5)
    scrollback.scroll(1, 10, 5)
    scrollback.scroll(-1, 10, 5)
    assert visible(scrollback, 10, 5) == before


@given(
    st.lists(st.one_of(st.none(), st.tuples(st.integers(-30, 30), st.integers(5, 80), st.integers(1, 12))), max_size=40)
)
def test_however_it_is_scrolled_resized_and_added_to_the_window_is_filled(
    steps: list[tuple[int, int, int] | None],
) -> None:
    scrollback = scrollback_of(15, lines_max=20)
    for number, step in enumerate(steps):
        if step is None:
            scrollback.add(StyledLine(NOON, (("", f"added {number} " * (number % 7)),)))
            continue
        up, columns, height = step
        scrollback.scroll(up, columns, height)
        rows = scrollback.rows(columns, height)
        assert 0 < len(rows) <= height
        scrollback.scroll(0, columns, height)
        assert len(scrollback.rows(columns, height)) == height or scrollback.lines_below == 0


def test_the_oldest_lines_are_forgotten_and_the_view_follows() -> None:
    scrollback = scrollback_of(10, lines_max=10)
    scrollback.scroll(100, 30, 5)
    for number in range(10, 30):
        scrollback.add(StyledLine(NOON, (("", f"line {number}"),)))
    assert visible(scrollback) == ["line 20"]
    scrollback.scroll(0, 30, 5)
    assert visible(scrollback) == [f"line {number}" for number in range(20, 25)]


def test_a_line_can_be_replaced_and_all_can_be_forgotten() -> None:
    scrollback = scrollback_of(3)
    assert scrollback.replace("1", StyledLine(NOON, (("", "gone"),)))
    assert not scrollback.replace("9", StyledLine(NOON, ()))
    assert visible(scrollback) == ["line 0", "gone", "line 2"]
    scrollback.clear()
    assert visible(scrollback) == []
    scrollback.scroll(1, 30, 5)


def test_a_new_day_is_shown() -> None:
    scrollback = scrollback_of(1)
    scrollback.add(StyledLine(NOON + 86_400, (("", "next"),)))
    assert [line.partition("20")[0] for line in visible(scrollback)] == ["line 0", "* ", "next"]


# Lines of a chat


def entry(kind: EntryKind = EntryKind.SAID, nick: str = "bob", text: str = "hi") -> Entry:
    return Entry("#tea", kind, nick, text, NOON, "", "", "ab", 7)


def test_own_lines_and_those_of_others_have_other_styles() -> None:
    own = entry_line(entry(nick="ann"), "ann", is_own=True)
    other = entry_line(entry(), "ann", is_own=False)
    assert own is not None
    assert other is not None
    assert (own.fragments[0], other.fragments[0]) == (("own", "<ann>"), (nick_style("bob"), "<bob>"))
    assert (own.text, other.text) == ("<ann> hi", "<bob> hi")


@pytest.mark.parametrize(
    ("text", "is_mention"),
    [("ann: hi", True), ("hi ANN!", True), ("annual", False), ("joann", False), ("ann-2 hi", False), ("", False)],
)
def test_a_mention_is_the_nick_as_a_word(text: str, is_mention: bool) -> None:
    assert mentions(text, "ann") is is_mention


def test_a_mention_by_another_member_is_for_the_reader() -> None:
    line = entry_line(entry(text="ann?"), "ann", is_own=False)
    own = entry_line(entry(nick="ann", text="ann?"), "ann", is_own=True)
    assert line is not None
    assert own is not None
    assert (line.is_for_reader, line.fragments[-1]) == (True, ("mention", "ann?"))
    assert not own.is_for_reader


def shown(event: object) -> list[str]:
    return [line.text for line in event_lines(event, "ann", NOON)]  # type: ignore[arg-type]


def test_events_are_sentences_and_the_token_is_never_shown() -> None:
    assert shown(SessionToken("secret")) == []
    assert shown(Refused(Cause.ALREADY_IN_ROOM, "no")) == ["* no"]
    assert shown(Whispered("bob", "ann", "psst")) == ["<bob -> ann> psst"]
    assert shown(Entries("#tea", Review.SEARCH, ())) == ["* nothing was found in #tea"]
    replay = shown(Entries("#tea", Review.REPLAY, (entry(), entry(text=""))))
    assert replay == ["* the last 2 lines of #tea:", "<bob> hi", "* this line was erased"]
    assert shown(TopicShown("#tea", "")) == ["* #tea has no topic; /topic TEXT sets it"]


@pytest.mark.parametrize(
    ("verdict", "lost", "text"),
    [
        (Verdict.RECOVERED, 0, "* connected again; no message was lost"),
        (Verdict.LOST, 1, "* connected again; 1 message lost, because the server no longer keeps them"),
        (Verdict.LOST, 3, "* connected again; 3 messages lost, because the server no longer keeps them"),
        (Verdict.UNKNOWN, 0, "* connected again; the log of #tea was begun anew, so messages may be missing"),
    ],
)
def test_a_verdict_says_what_was_lost(verdict: Verdict, lost: int, text: str) -> None:
    assert shown(Resumed("#tea", verdict, lost)) == [text]


# What is typed


def test_typed_lines_are_requests_and_commands_of_the_client() -> None:
    assert parse_typed_line("hi") == Say("hi")
    assert parse_typed_line("//etc") == Say("/etc")
    assert parse_typed_line("/me waves") == Act("waves")
    assert parse_typed_line("/join чай") == Join("#чай")
    assert parse_typed_line("/msg zoë hi") == Whisper("zoë", "hi")
    assert parse_typed_line("/quit") is ClientCommand.QUIT
    assert parse_typed_line("/cancel ") is ClientCommand.CANCEL


@pytest.mark.parametrize("line", ["/nonsense", "/nick", "/nick a b", "/positions on", "/msg ann"])
def test_a_line_that_is_no_command_is_refused(line: str) -> None:
    with pytest.raises(MessageError):
        parse_typed_line(line)


@pytest.mark.parametrize(
    ("before", "found"),
    [
        ("/ni", ["/nick "]),
        ("/JO", ["/join "]),
        ("/join t", ["tea"]),
        ("/join #t", ["#tea"]),
        ("/msg b", ["bob ", "Bert "]),
        ("b", ["bob: ", "Bert: "]),
        ("hi bE", ["Bert"]),
        ("", []),
        ("hi ", []),
    ],
)
def test_the_last_word_is_completed(before: str, found: list[str]) -> None:
    assert completions(before, ["nick", "join"], ["bob", "Bert"], ["#tea", "#lobby"]) == found


def test_names_are_learnt_and_the_latest_speaker_is_first() -> None:
    names = KnownNames()
    names.learn(RoomEntered("#tea", Position("ab", 1), 3, ("bob", "carol")))
    names.learn_entry(entry(nick="bob"))
    names.learn(MemberList("#tea", 3, ("dora", "bob")))
    assert names.nicks == ["bob", "carol", "dora"]
    names.learn_entry(entry(EntryKind.LEFT, "carol", "left"))
    names.learn_entry(entry(EntryKind.RENAMED, "bob", "rob"))
    assert names.nicks == ["rob", "dora"]
    names.learn(RoomList(2, (("#lobby", 4), ("#tea", 1))))
    assert set(names.rooms) == {"#tea", "#lobby"}


# The status line

STATUS = ChatStatus("chat.example.org:1400", "#tea", "ann", is_connected=True)


def status_text(status: ChatStatus, columns: int) -> str:
    return "".join(text for _, text in status_row(chat_status_parts(status), columns, get_cwidth))


def test_the_status_line_fills_the_row() -> None:
    assert status_text(STATUS, 80) == " #tea  ann  chat.example.org:1400  connected".ljust(80)


@pytest.mark.parametrize("columns", [1, 5, 20, 33, 40, 60, 80])
def test_the_status_line_leaves_out_what_matters_least(columns: int) -> None:
    status = ChatStatus("chat.example.org:1400", "#茶", "ann", False, 7.2, 120, 2, 30)
    row = status_text(status, columns)
    assert width_of(row) == columns
    parts = ["ann", "30 below, PageDown", "2 for you", "120 to send", "not connected, again in 8 s"]
    present = [part in row for part in parts]
    assert present == sorted(present) or columns < 40


# The memory


def test_the_memory_is_read_again_and_a_damaged_one_is_ignored(tmp_path: Path) -> None:
    directory = tmp_path / "chat"
    session = RememberedSession("00", "ann", "#tea", "ab", 3, NOON)
    memory = ChatMemory(directory, "[::1]:1400")
    assert memory.open() == Remembered("[::1]:1400")
    memory.write(Remembered("[::1]:1400", nick="ann", session=session))
    other = ChatMemory(directory, "[::1]:1400")
    assert other.open() == Remembered("[::1]:1400", nick="ann")  # the first one uses the session
    other.write(Remembered("[::1]:1400", nick="bob"))
    memory.close()
    again = ChatMemory(directory, "[::1]:1400")
    assert again.open() == Remembered("[::1]:1400", nick="ann", session=session)
    assert latest_server(directory) == Remembered("[::1]:1400", nick="ann", session=session)
    again.close()
    [path] = directory.iterdir()
    for damaged in ("", "[]", "{}", '{"server": 3}', '{"server": "a\\nb"}', '{"server": "x", "session": {"token": 1}}'):
        path.write_text(damaged)
        assert latest_server(directory) is None
