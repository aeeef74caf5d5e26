from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.wire.text import clean, split_incomplete
from tests.strategies import split, split_places

# Format characters that are visible: Arabic and Syriac number and verse signs.
VISIBLE_FORMATS = set("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")


def test_clean_text_contains_no_unicode_control_format_or_line_separator_character() -> None:
    unsafe = {
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }
    kept = {character for character in unsafe - VISIBLE_FORMATS if clean(character).strip(" ")}
    assert kept == set()


def test_clean_keeps_letters_marks_emoji_and_spaces_of_every_language() -> None:
    text = "añ 收到 שלום नमस्ते 👍\ufe0f \u00a0 ..."
    assert clean(text) == text


@pytest.mark.parametrize("end", "\t\n\x0b\x0c\r\x85\u2028\u2029")
def test_a_tab_or_a_line_end_becomes_a_space(end: str) -> None:
    assert clean(f"a{end}b") == "a b"


@pytest.mark.parametrize("escape", ["\x1b[31m", "\x9b31m", "\r", "\b\b", "\u202egnp.exe", "\u200b", "\x07", "\x00"])
def test_clean_removes_the_control_characters_of_terminal_escapes(escape: str) -> None:
    assert not any(unicodedata.category(character).startswith("C") for character in clean(f"a{escape}b"))


@given(st.text(), split_places)
def test_text_is_decoded_correctly_at_every_split(text: str, places: list[int]) -> None:
    whole, rest = [], b""
    for piece in split(text.encode(), places):
        complete, rest = split_incomplete(rest + piece)
        whole.append(complete.decode())  # raises if a character is incomplete
    assert "".join(whole) == text
    assert rest == b""


@given(st.binary())
def test_any_bytes_are_split_without_loss_and_at_most_three_are_incomplete(data: bytes) -> None:
    whole, rest = split_incomplete(data)
    assert whole + rest == data
    assert len(rest) <= 3


@pytest.mark.parametrize("data", [b"\xff", b"\x80\x80\x80\x80", b"abc\xfe", b"\xc0"])
def test_invalid_bytes_are_not_kept_as_an_incomplete_character(data: bytes) -> None:
    assert split_incomplete(data) == (data, b"")
