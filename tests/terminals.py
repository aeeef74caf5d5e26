"""Programs in a pseudo-terminal, and what its screen shows."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pyte

from tests.programs import SECONDS


class Terminal:
    """A program in a terminal.

    :ivar screen: what the terminal shows.
    :ivar received: all bytes that the program has written.
    """

    def __init__(self, command: Sequence[object], env: dict[str, str], columns: int, rows: int) -> None:
        self.screen = pyte.Screen(columns, rows)
        self.received = b""
        self._stream = pyte.ByteStream(self.screen)
        self._fd, program_side = pty.openpty()
        self._set_size(columns, rows)
        self.modes = termios.tcgetattr(program_side)
        self._program_side = program_side
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *map(str, command)],  # it becomes the terminal of the program's session, as of a shell
            stdin=program_side,
            stdout=program_side,
            stderr=program_side,
            env={**os.environ, "TERM": "xterm-256color", **env},
        )

    @property
    def text(self) -> str:
        """The screen as text. pyte puts an empty cell after each wide character."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def row_with(self, text: str) -> int:
        """Return the number of the only row that contains a text."""
        [row] = [number for number, line in enumerate(self.screen.display) if text in line]
        return row

    def style_at(self, row: int, text: str) -> pyte.screens.Char:
        """Return the first cell of a text in a row, with its style."""
        cell = self.screen.buffer[row][self.screen.display[row].index(text)]
        assert isinstance(cell, pyte.screens.Char)
        return cell

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    def paste(self, text: str) -> None:
        """Paste as terminals do that mark what is pasted."""
        for begin in range(0, len(text), 1000):
            part = text[begin : begin + 1000]
            opening = "\x1b[200~" if begin == 0 else ""
            closing = "\x1b[201~" if begin + 1000 >= len(text) else ""
            self.type(opening + part + closing)
            self._read(0.01)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the terminal, as its window does."""
        self.screen.resize(rows, columns)
        self._set_size(columns, rows)
        os.kill(self.process.pid, signal.SIGWINCH)

    def wait_for(self, pattern: str, seconds: float = SECONDS) -> re.Match[str]:
        """Read what the program writes until the screen matches a pattern."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text, re.MULTILINE)):
            assert time.monotonic() < end, f"no {pattern!r}:\n{self.text}"
            assert self._read(0.1) or self.process.poll() is None, f"ended without {pattern!r}:\n{self.text}"
        return match

    def end(self) -> int:
        """Read the rest and return the exit status of the program."""
        end = time.monotonic() + SECONDS
        while self.process.poll() is None:
            self._read(0.1)
            assert time.monotonic() < end, f"it does not end:\n{self.text}"
        while self._read(0.1):
            pass
        return self.process.returncode

    def is_restored(self) -> bool:
        """Return whether the terminal has the modes that it had before the program, and the main screen."""
        screens = re.findall(rb"\x1b\[\?1049([hl])", self.received)
        return termios.tcgetattr(self._program_side) == self.modes and screens[-1:] != [b"h"]

    def close(self) -> None:
        """End the program."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)
        os.close(self._program_side)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def _read(self, seconds: float) -> bool:
        readable, _, _ = select.select([self._fd], [], [], seconds)
        if not readable:
            return False
        data = b""
        with suppress(OSError):  # the program has closed its side
            data = os.read(self._fd, 65536)
        self.received += data
        self._stream.feed(data)
        return bool(data)


@contextmanager
def at_terminal(
    *command: object, env: dict[str, str] | None = None, columns: int = 80, rows: int = 24
) -> Iterator[Terminal]:
    """Run a program in a terminal during a block."""
    terminal = Terminal(command, env or {}, columns, rows)
    try:
        yield terminal
    finally:
        terminal.close()
