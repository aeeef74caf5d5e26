"""Text that is safe on a terminal, and UTF-8 characters that the network has split."""

from __future__ import annotations

import re

# These are ranges because a scan of all of Unicode at import would take longer than the rest of the start. A test
# compares them with the Unicode database. Variation selectors are kept: emoji need them, and they move no text.
_UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1 controls
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2065\u206a-\u206f"  # invisible characters
    "\u3164\ufeff\uffa0\ufff0-\ufffb\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\u2028\u2029\ud800-\udfff"  # line and paragraph separators, lone surrogates
    "]"
)

_SPACES = re.compile("[\t\n\x0b\x0c\r\x85\u2028\u2029]")


def clean(text: str) -> str:
    """Return ``text`` without characters that move the cursor, reorder a line or are invisible.

    A tab or a line end becomes a space. Every other control character, bidirectional control and zero-width character
    is removed.
    """
    if text.isascii() and text.isprintable():  # the usual case: 0.14 us instead of 0.83
        return text
    return _UNSAFE.sub("", _SPACES.sub(" ", text))


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
