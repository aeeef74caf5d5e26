"""Lines in styles, and how they are divided into rows of a terminal. The width of a character is an argument."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

#: A style, which is a name of :data:`LOOKS` or empty, and a text in it.
Fragment = tuple[str, str]

#: Returns the number of columns of one character.
CharacterWidth = Callable[[str], int]

#: Columns below which a terminal shows no times.
TIMES_MIN_COLUMNS = 40


class Look(NamedTuple):
    """How a style looks.

    :ivar color: a number of the 256 colors of terminals; None for the one of the terminal.
    """

    color: int | None = None
    bold: bool = False
    reverse: bool = False


#: Colors of nicks. All have a contrast of 4 or more to white and to black: light and dark terminals can show them.
NICK_COLORS = (27, 28, 30, 31, 64, 98, 129, 130, 131, 133, 161, 164)

LOOKS = {
    "time": Look(243),
    "notice": Look(243),
    "own": Look(bold=True),
    "mention": Look(bold=True),
    "problem": Look(161, bold=True),
    "status": Look(reverse=True),
    "status-problem": Look(reverse=True, bold=True),
    **{f"nick-{number}": Look(color) for number, color in enumerate(NICK_COLORS)},
}


@dataclass(frozen=True, slots=True)
class StyledLine:
    """A line that is shown.

    :ivar time: seconds since the epoch of UNIX.
    :ivar fragments: its text, in styles.
    :ivar key: names the line, so that another one can take its place; empty for none.
    :ivar is_for_reader: whether it is meant for the reader, such as a private message.
    """

    time: float
    fragments: tuple[Fragment, ...]
    key: str = ""
    is_for_reader: bool = False

    @property
    def text(self) -> str:
        """The text without styles."""
        return "".join(text for _, text in self.fragments)


def nick_style(nick: str) -> str:
    """Return the style of a nick: the same everywhere, in any case of letters."""
    return f"nick-{zlib.crc32(nick.casefold().encode()) % len(NICK_COLORS)}"


def sgr(fragments: Iterable[Fragment]) -> str:
    """Return a text with the escape sequences of a terminal for its styles."""
    return "".join(_colored(LOOKS[style], text) if style else text for style, text in fragments)


def _colored(look: Look, text: str) -> str:
    codes = [f"38;5;{look.color}"] * (look.color is not None) + ["1"] * look.bold + ["7"] * look.reverse
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m"


# Terminals disagree about how wide an emoji of several characters is. Its first parts are shown one by one.
_EMOJI_JOINS = re.compile(
    "(?<=[\u2190-\u2bff\U0001f000-\U0001faff\ufe0f])\u200d|[\ufe0e\ufe0f]"
    "|(?<=[\u261d\u26f9\u270a-\u270d\U0001f385-\U0001faff])[\U0001f3fb-\U0001f3ff]"
)


def displayed(text: str) -> str:
    """Return a text whose width is the same in all terminals: joined emoji are divided."""
    return text if text.isascii() else _EMOJI_JOINS.sub("", text)


def clock_text(time: float) -> str:
    """Return the hour and the minute, in the time zone of the process."""
    return datetime.fromtimestamp(time).strftime("%H:%M")


def day_text(time: float) -> str:
    """Return the date, in the time zone of the process."""
    return datetime.fromtimestamp(time).strftime("%Y-%m-%d")


def rows_of(line: StyledLine, columns: int, width: CharacterWidth) -> list[list[Fragment]]:
    """Divide a line into the rows that show it, with its time before it if there is space."""
    if columns < TIMES_MIN_COLUMNS:
        return wrapped(line.fragments, columns, width, indent=0)
    time = clock_text(line.time) + " "
    return wrapped([("time", time), *line.fragments], columns, width, indent=len(time))


class _Cell(NamedTuple):
    """A character with the marks on it."""

    style: str
    text: str
    width: int


def wrapped(fragments: Iterable[Fragment], columns: int, width: CharacterWidth, *, indent: int) -> list[list[Fragment]]:
    """Divide a text into rows. A row ends at a space or beside a wide character, and if there is none, anywhere.

    :param indent: columns at the beginning of the second and each further row.
    """
    cells = _cells(fragments, width)
    indent = indent if indent < columns - 8 else 0
    rows: list[list[Fragment]] = []
    begin = 0
    while begin < len(cells):
        room = columns - (indent if rows else 0)
        end = _row_end(cells, begin, room)
        shown = end
        while end < len(cells) and shown > begin and cells[shown - 1].text == " ":
            shown -= 1
        row = _merged(cells[begin:shown])
        rows.append([("", " " * indent), *row] if rows and indent else row)
        begin = end
        while begin < len(cells) and cells[begin].text == " ":  # the space at which the row was ended
            begin += 1
    return rows or [[]]


def _cells(fragments: Iterable[Fragment], width: CharacterWidth) -> list[_Cell]:
    cells: list[_Cell] = []
    for style, text in fragments:
        for character in displayed(text):
            columns = width(character)
            if columns <= 0 and cells:
                last = cells[-1]
                cells[-1] = _Cell(last.style, last.text + character, last.width)
            else:
                cells.append(_Cell(style, character, max(columns, 0)))
    return cells


def _row_end(cells: list[_Cell], begin: int, room: int) -> int:
    """Return the index of the first cell that is not in the row."""
    used = 0
    best = begin
    for index in range(begin, len(cells)):
        if index > begin and _may_end_before(cells, index):
            best = index
        used += cells[index].width
        if used > room:
            if best == begin or _part_width(cells, best) > room:  # a word that is longer than a row
                return max(index, begin + 1)
            return best
    return len(cells)


def _may_end_before(cells: list[_Cell], index: int) -> bool:
    before, cell = cells[index - 1], cells[index]
    return " " in (before.text, cell.text) or cell.width > 1 or before.width > 1


def _part_width(cells: list[_Cell], begin: int) -> int:
    """Return the columns from a cell to the next one before which a row may end."""
    columns = cells[begin].width
    for index in range(begin + 1, len(cells)):
        if _may_end_before(cells, index):
            break
        columns += cells[index].width
    return columns


def _merged(cells: Iterable[_Cell]) -> list[Fragment]:
    row: list[Fragment] = []
    for style, text, _ in cells:
        if row and row[-1][0] == style:
            row[-1] = (style, row[-1][1] + text)
        else:
            row.append((style, text))
    return row
