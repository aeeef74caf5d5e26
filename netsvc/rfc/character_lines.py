"""The stream of characters of RFC 864: lines of 72 of the 95 printable ASCII characters, each shifted by one."""

from __future__ import annotations

#: The printable characters, from the space to the tilde. Behind the last one follows the first one again.
_RING = bytes(range(0x20, 0x7F))

#: Characters of a line, without its end.
LINE_LENGTH = 72


def character_line(number: int) -> bytes:
    """Return a line with its end, CR LF.

    :param number: of the line, from 0. The line begins with the character of this number, modulo 95.
    """
    first = number % len(_RING)
    return (_RING + _RING)[first : first + LINE_LENGTH] + b"\r\n"


#: The lines after which the stream repeats: 95 lines, 7,030 bytes.
CHARACTER_LINES = b"".join(map(character_line, range(len(_RING))))
