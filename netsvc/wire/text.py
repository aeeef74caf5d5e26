"""Text that is safe on a terminal, and UTF-8 characters that the network has split."""

from __future__ import annotations

import re
import unicodedata

#: Combining marks, variation selectors and joiners after one character. Real words have up to eight of them (Tibetan).
MARKS_MAX = 8

# These are ranges because a scan of all of Unicode at import would take longer than the rest of the start. Tests
# compare them with the Unicode database.
_UNSAFE = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1 controls
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f"  # invisible characters
    "\u3164\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # among them tag characters
    "\u2028\u2029\ud800-\udfff"  # line and paragraph separators, lone surrogates
)
_SPACES = "\t\n\x0b\x0c\r\x85\u2028\u2029"
_JOINERS = "\u200c\u200d"
_SELECTORS = "\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"  # variation selectors

# Blocks that contain all combining marks, and letters as well.
_MARK_BLOCKS = (
    "\u0300-\u036f\u0483-\u0489\u0590-\u109f\u135d-\u135f\u1700-\u1cff\u1dc0-\u1dff\u20d0-\u20ff\u2cef-\u2cf1\u2d7f"
    "\u2de0-\u2dff\u302a-\u302f\u3099\u309a\ua66f-\ua6f1\ua802-\uabff\ufb1e\ufe00-\ufe2f\U000101fd-\U0001efff"
    "\U000e0100-\U000e01ef"
)

# A few symbols more than the property Extended_Pictographic has, so that the ranges are fewer.
_PICTOGRAPHS = (
    "\xa9\xae\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u27bf\u2934\u2935\u2b05-\u2b55\u3030\u303d"
    "\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff\U0001fc00-\U0001fffd"
)
_SKIN_TONES = "\U0001f3fb-\U0001f3ff"

# Scripts whose letters are joined: Arabic, Syriac, N'Ko, Mandaic, Mongolian, Phags-pa, Manichaean, Psalter Pahlavi,
# Hanifi Rohingya, Sogdian, Chorasmian and Adlam, with their digits.
_JOINED = (
    "\u0620-\u08ff\u1807\u180a\u1810-\u18aa\ua840-\ua872\ufb50-\ufdff\ufe70-\ufefc\U00010ac0-\U00010aef"
    "\U00010b80-\U00010baf\U00010d00-\U00010d39\U00010f30-\U00010fcb\U0001e900-\U0001e959"
)

# Marks that join two consonants, or end one without a vowel: combining class 9.
_VIRAMAS = (
    "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u0e3a\u0eba\u0f84\u1039\u103a\u1714\u1715"
    "\u1734\u17d2\u1a60\u1b44\u1baa\u1bab\u1bf2\u1bf3\u2d7f\ua806\ua82c\ua8c4\ua953\ua9c0\uaaf6\uabed\U00010a3f"
    "\U00011046\U00011070\U0001107f\U000110b9\U00011133\U00011134\U000111c0\U00011235\U000112ea\U0001134d"
    "\U000113ce-\U000113d0\U00011442\U000114c2\U000115bf\U0001163f\U000116b6\U0001172b\U00011839\U0001193d\U0001193e"
    "\U000119e0\U00011a34\U00011a47\U00011a99\U00011c3f\U00011d44\U00011d45\U00011d97\U00011f41\U00011f42\U0001612f"
)

_SPACE = re.compile(f"[{_SPACES}]")
_REMOVED = re.compile(f"[{_UNSAFE}]")
_NO_LETTERS = re.compile(rf"[^\w\s!-~][^\w\s!-~]{{{MARKS_MAX},}}")  # too many marks, or symbols
_SUSPECT = re.compile(f"[{_UNSAFE}{_MARK_BLOCKS}{_JOINERS}{_SELECTORS}]")

# The places in which a joiner or a variation selector has a meaning (UTS #51, UAX #31), seen from behind it.
_MEANINGFUL = "|".join(
    (
        f"(?<=[{_PICTOGRAPHS}]\u200d)(?=[{_PICTOGRAPHS}])",  # between emoji
        f"(?<=[{_PICTOGRAPHS}][\ufe0f{_SKIN_TONES}]\u200d)(?=[{_PICTOGRAPHS}])",
        f"(?<=[{_VIRAMAS}][{_JOINERS}])",  # Indic
        rf"(?<=\w\u200d)(?=[{_VIRAMAS}])",  # Bengali, Kannada and Sinhala: before the virama
        f"(?<=[{_JOINED}]\u200d)",  # Persian abbreviations end with it
        f"(?<=[{_JOINED}]\u200c)(?=[{_JOINED}])",  # Persian, inside words
        rf"(?<=[^\s{_JOINERS}{_SELECTORS}][{_SELECTORS}])",  # one variation selector after a character
    )
)
_MISPLACED = re.compile(f"[{_JOINERS}{_SELECTORS}](?!{_MEANINGFUL})")

# Characters that are neither spaces nor marks and yet show nothing: of Braille, music and hieroglyphs.
_BLANKS = "\u2800\U0001d159\U00013441\U00013442"


def clean(text: str) -> str:
    """Return ``text`` without characters that move the cursor, reorder or overlay lines, or are invisible.

    A tab or a line end becomes a space. Every other control character, bidirectional control, tag character and
    zero-width character is removed. Joiners and variation selectors stay where emoji and scripts need them, and at most
    8 combining marks stay on one character.
    """
    if text.isascii() and text.isprintable():  # the usual case: 0.14 us
        return text
    if not _SUSPECT.search(text):  # most of the rest
        return text
    text = _REMOVED.sub("", _SPACE.sub(" ", text))
    text = _NO_LETTERS.sub(_limit_marks, text)  # before the joiners are looked at, because their neighbours matter
    return _MISPLACED.sub("", text)


def _limit_marks(match: re.Match[str]) -> str:
    kept = []
    marks = 0
    for character in match[0]:
        is_mark = unicodedata.category(character)[0] == "M" or character in _JOINERS
        marks = marks + 1 if is_mark else 0
        if marks <= MARKS_MAX:
            kept.append(character)
    return "".join(kept)


def is_blank(text: str) -> bool:
    """Whether nothing of a clean text is visible: there are only spaces, and marks without a letter."""
    if text.isascii():
        return not text.strip()
    return all(
        character.isspace() or character in _BLANKS or unicodedata.category(character)[0] == "M" for character in text
    )


def split_incomplete(data: bytes) -> tuple[bytes, bytes]:
    """Split ``data`` before an incomplete UTF-8 character at its end.

    Bytes that are not UTF-8 are not split off: no following byte could complete them.

    :return: the complete part, and the 0 to 3 bytes of the incomplete character.
    """
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:  # a continuation byte: the first byte of its character is before it
            continue
        length = 4 if 0xF0 <= byte <= 0xF4 else 3 if 0xE0 <= byte < 0xF0 else 2 if 0xC2 <= byte < 0xE0 else 1
        return (data[:-back], data[-back:]) if length > back else (data, b"")
    return data, b""
