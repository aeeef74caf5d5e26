"""The lines that a terminal has shown, and the part of them that is visible."""

from __future__ import annotations

from collections import deque

from netsvc.cli.terminal_text import CharacterWidth, Fragment, StyledLine, day_text, rows_of

#: Lines that are kept.
SCROLLBACK_MAX = 10_000


class Scrollback:
    """Lines, of which a window of some rows is visible. It shows the end, or stays where it was scrolled to.

    :param width: returns the columns of a character.
    :param lines_max: lines that are kept. Older ones are forgotten.
    """

    def __init__(self, width: CharacterWidth, lines_max: int = SCROLLBACK_MAX) -> None:
        self._width = width
        self._lines: deque[StyledLine] = deque(maxlen=lines_max)
        self._first = 0  # the number of the first line that is kept
        self._day = ""
        # The last visible row: the number of its line, and its place in that line. None at the end.
        self._last_row: tuple[int, int] | None = None

    @property
    def lines_below(self) -> int:
        """How many lines are below the visible ones."""
        return 0 if self._last_row is None else self._end - 1 - self._last_row[0]

    @property
    def _end(self) -> int:
        return self._first + len(self._lines)

    def add(self, line: StyledLine) -> None:
        """Add a line at the end, and before it the date if that is another one."""
        day = day_text(line.time)
        if self._day != day:
            if self._day:
                self._append(StyledLine(line.time, (("notice", f"* {day}"),)))
            self._day = day
        self._append(line)

    def replace(self, key: str, line: StyledLine) -> bool:
        """Put a line in the place of the one with this key. Return whether there is one."""
        for index in range(len(self._lines) - 1, -1, -1):
            if self._lines[index].key == key:
                self._lines[index] = line
                return True
        return False

    def clear(self) -> None:
        """Forget all lines."""
        self._first = self._end
        self._lines.clear()
        self._last_row = None

    def to_end(self) -> None:
        """Show the end."""
        self._last_row = None

    def rows(self, columns: int, height: int) -> list[list[Fragment]]:
        """Return the visible rows, at most ``height``."""
        number, place = self._last_visible(columns)
        rows: list[list[Fragment]] = []
        while number >= self._first and len(rows) < height:
            rows = [*self._rows(number, columns)[: place + 1], *rows]
            number, place = number - 1, SCROLLBACK_MAX
        return rows[-height:] if height > 0 else []

    def scroll(self, up: int, columns: int, height: int) -> None:
        """Scroll up by a number of rows, or down if it is negative."""
        if not self._lines:
            return
        number, place = self._last_visible(columns)
        place -= up
        while place < 0 and number > self._first:
            number -= 1
            place += len(self._rows(number, columns))
        while number < self._end and place >= (count := len(self._rows(number, columns))):
            place -= count
            number += 1
        highest = self._highest(columns, height)
        self._last_row = max((number, place), highest)
        if self._last_row >= (self._end - 1, len(self._rows(self._end - 1, columns)) - 1):
            self._last_row = None

    def _append(self, line: StyledLine) -> None:
        if len(self._lines) == self._lines.maxlen:
            self._first += 1
        self._lines.append(line)

    def _rows(self, number: int, columns: int) -> list[list[Fragment]]:
        return rows_of(self._lines[number - self._first], columns, self._width)

    def _last_visible(self, columns: int) -> tuple[int, int]:
        """Return the last visible row as it is now: older lines may be forgotten, and the width may have changed."""
        if self._last_row is None or not self._lines:
            number = self._end - 1
            return number, len(self._rows(number, columns)) - 1 if self._lines else 0
        number, place = self._last_row
        if number < self._first:
            return self._first, 0
        return number, min(place, len(self._rows(number, columns)) - 1)

    def _highest(self, columns: int, height: int) -> tuple[int, int]:
        """Return the last row of the window at the beginning."""
        rest = height
        for number in range(self._first, self._end):
            count = len(self._rows(number, columns))
            if count >= rest:
                return number, rest - 1
            rest -= count
        return self._end - 1, len(self._rows(self._end - 1, columns)) - 1
