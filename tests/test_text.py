from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.wire.text import clean, split_incomplete
from tests.strategies import cut, cuts

# Format characters that are seen: Arabic and Syriac number and verse signs.
VISIBLE_FORMATS = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")


def test_clean_text_holds_no_control_format_or_separator_of_unicode() -> None:
    unsafe = {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }
    kept = {character for character in unsafe - VISIBLE_FORMATS if clean(character).strip(" ")}
    assert kept == set()


def test_clean_keeps_letters_marks_emoji_and_blanks_of_every_language() -> None:
    text = "añ 收到 שלום नमस्ते 👍\ufe0f \u00a0 ..."
    assert clean(text) == text


@pytest.mark.parametrize("end", "\t\n\x0b\x0c\r\x85\u2028\u2029")
def test_a_tab_or_a_line_end_becomes_a_space(end: str) -> None:
    assert clean(f"a{end}b") == "a b"


@pytest.mark.parametrize("trick", ["\x1b[31m", "\x9b31m", "\r", "\b\b", "\u202egnp.exe", "\u200b", "\x07", "\x00"])
def test_terminal_tricks_lose_what_makes_them_work(trick: str) -> None:
    assert not any(unicodedata.category(character).startswith("C") for character in clean(f"a{trick}b"))


@given(st.text(), cuts)
def test_text_cut_anywhere_comes_out_whole(text: str, places: list[int]) -> None:
    whole, rest = [], b""
    for piece in cut(text.encode(), places):
        done, rest = split_incomplete(rest + piece)
        whole.append(done.decode())  # raises if a character is cut
    assert "".join(whole) == text
    assert rest == b""


@given(st.binary())
def test_any_bytes_are_split_without_loss_and_at_most_three_wait(data: bytes) -> None:
    whole, rest = split_incomplete(data)
    assert whole + rest == data
    assert len(rest) <= 3


@pytest.mark.parametrize("data", [b"\xff", b"\x80\x80\x80\x80", b"abc\xfe", b"\xc0"])
def test_bytes_that_nothing_could_complete_do_not_wait(data: bytes) -> None:
    assert split_incomplete(data) == (data, b"")
