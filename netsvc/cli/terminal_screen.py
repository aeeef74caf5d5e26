"""A full screen of a terminal: lines that arrive, a status line, and a line editor. It needs ``netsvc[terminal]``.

The screen is full, not a prompt below lines that scroll by. prompt_toolkit then draws every row itself, so that a
resize leaves nothing of the old status line behind, in tmux as well, and the lines are divided anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Protocol

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, Dimension, Float, FloatContainer, HSplit, Layout, UIContent, UIControl
from prompt_toolkit.layout.containers import Window
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import get_cwidth
from prompt_toolkit.widgets import SearchToolbar
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from netsvc.cli.terminal_scrollback import Scrollback
from netsvc.cli.terminal_status import status_row
from netsvc.cli.terminal_text import LOOKS, Fragment, Look, StyledLine
from netsvc.wire.text import is_blank

#: Rows of the line editor at most.
EDITOR_ROWS_MAX = 6

#: Seconds between two drawings at least, however many lines arrive.
_REDRAW_INTERVAL = 0.02


class ScreenUser(Protocol):
    """The user of a screen. The screen reports keys and lines to it."""

    def accept(self, text: str) -> bool:
        """Take what was typed. It has several lines if it was pasted. If this returns false, it stays in the editor."""

    def complete(self, before: str) -> Iterable[str]:
        """Return what the last word of the text before the cursor may become."""

    def status(self, below: int) -> list[tuple[int, Fragment]]:
        """Return the parts of the status line, with their ranks.

        :param below: lines below the visible ones.
        """

    def key_pressed(self) -> None:
        """A key was pressed, so somebody is there."""

    def end_of_input(self) -> None:
        """Ctrl-D was pressed on an empty line, or the terminal was closed."""

    def interrupted(self) -> None:
        """Ctrl-C was pressed on an empty line."""


class TerminalScreen:
    """The screen of a program that runs on an asyncio loop.

    :param user: is told what happens.
    :param color: whether to use colors; None for what the terminal and ``NO_COLOR`` say.
    :param prompt: stands before what is typed.
    :param input_: by default, standard input.
    :param output: by default, standard output.
    """

    def __init__(
        self,
        user: ScreenUser,
        *,
        color: bool | None = None,
        prompt: str = "> ",
        input_: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._user = user
        self._scrollback = Scrollback(get_cwidth)
        self._rows = _ScrollbackControl(self._scrollback)
        self._buffer = Buffer(
            completer=_UserCompleter(user),
            history=InMemoryHistory(),
            accept_handler=self._accepted,
            multiline=False,
        )
        self._app: Application[None] = Application(
            layout=self._layout(prompt),
            key_bindings=self._keys(),
            style=_style(),
            include_default_pygments_style=False,
            full_screen=True,
            color_depth=None if color is None else ColorDepth.DEPTH_8_BIT if color else ColorDepth.DEPTH_1_BIT,
            min_redraw_interval=_REDRAW_INTERVAL,
            input=input_,
            output=output,
        )
        self._app.key_processor.before_key_press += lambda _: user.key_pressed()
        self._app.ttimeoutlen = 0.1
        self._closed: Deferred[None] = succeed(None)

    def open(self) -> None:
        """Draw the screen, and read keys. Call it while the loop runs."""
        # The application runs in a task of its own: what ends the program calls close(), which waits for its end.
        task = asyncio.ensure_future(self._app.run_async(handle_sigint=False, set_exception_handler=False))
        self._closed = Deferred.fromFuture(task)
        self._closed.addErrback(self._failed)

    def close(self) -> Deferred[None]:
        """Leave the terminal as it was. The Deferred fires when that is done."""
        if self._app.is_running and not self._app.is_done:
            self._app.exit()
        return self._closed

    def _failed(self, failure: Failure) -> Failure | None:
        self._user.end_of_input()
        return None if failure.check(EOFError) else failure  # the terminal was closed

    def show(self, line: StyledLine) -> None:
        """Show a line below the others."""
        self._scrollback.add(line)
        self._app.invalidate()

    def replace(self, key: str, line: StyledLine) -> None:
        """Show a line in the place of the one with this key."""
        self._scrollback.replace(key, line)
        self._app.invalidate()

    def clear(self) -> None:
        """Forget all lines."""
        self._scrollback.clear()
        self._app.invalidate()

    def redraw(self) -> None:
        """Show what has changed in the status line."""
        self._app.invalidate()

    # The editor

    def _accepted(self, buffer: Buffer) -> bool:
        self._scrollback.to_end()
        return not self._user.accept(buffer.text)

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        is_empty = Condition(lambda: not self._buffer.text)
        keys.add("c-d", filter=is_empty & ~is_searching)(lambda _: self._user.end_of_input())
        keys.add("c-c", filter=is_empty & ~is_searching)(lambda _: self._user.interrupted())
        keys.add("c-c", filter=~is_empty & ~is_searching)(lambda _: self._buffer.reset())
        keys.add("c-i", filter=~is_searching)(lambda _: self._complete())
        keys.add("c-z")(lambda _: self._app.suspend_to_background())
        keys.add("pageup")(lambda _: self._scroll(1))
        keys.add("pagedown")(lambda _: self._scroll(-1))
        keys.add("c-end")(lambda _: self._scrollback.to_end())
        keys.add("escape", ">")(lambda _: self._scrollback.to_end())
        keys.add("c-l")(_redraw_all)
        return keys

    def _scroll(self, pages: int) -> None:
        rows = max(self._rows.height - 2, 1)  # two rows of the page before stay visible
        self._scrollback.scroll(pages * rows, self._rows.width, self._rows.height)

    def _complete(self) -> None:
        """Complete the word before the cursor at once; show a menu if there are several ways."""
        if self._buffer.complete_state is not None:
            self._buffer.complete_next()
            return
        before = self._buffer.document.current_line_before_cursor
        word = before.rpartition(" ")[2]
        found = list(self._user.complete(before))
        common = os.path.commonprefix(found)  # noqa: RUF071  of texts
        if common and len(common) >= len(word):
            self._buffer.delete_before_cursor(len(word))
            self._buffer.insert_text(common)
        if len(found) > 1 and len(common) <= len(word):
            self._buffer.start_completion()

    # The layout

    def _layout(self, prompt: str) -> Layout:
        search = SearchToolbar()
        editor = Window(
            BufferControl(
                self._buffer,
                input_processors=[BeforeInput(prompt, "class:prompt")],
                search_buffer_control=search.control,
                preview_search=True,
            ),
            height=Dimension(min=1, max=EDITOR_ROWS_MAX),
            dont_extend_height=True,
            wrap_lines=True,
        )
        rows = HSplit(
            [Window(self._rows), Window(_StatusControl(self._status), height=1, style="class:status"), editor, search]
        )
        menu = Float(CompletionsMenu(max_height=8, scroll_offset=1), xcursor=True, ycursor=True)
        return Layout(FloatContainer(rows, [menu]), focused_element=editor)

    def _status(self, columns: int) -> list[Fragment]:
        parts = self._user.status(self._scrollback.lines_below)
        lines = sum(not is_blank(line) for line in self._buffer.text.split("\n"))
        if lines > 1:
            parts = [(0, ("status-problem", f"{lines:,} lines: Enter sends, Ctrl-C drops them")), *parts]
        return status_row(parts, columns, get_cwidth)


class _ScrollbackControl(UIControl):
    """Draws the visible rows.

    :ivar width: columns of the last drawing.
    :ivar height: rows of the last drawing.
    """

    def __init__(self, scrollback: Scrollback) -> None:
        self._scrollback = scrollback
        self.width = 80
        self.height = 22

    def create_content(self, width: int, height: int) -> UIContent:
        self.width, self.height = width, height
        rows = self._scrollback.rows(width, height) or [[]]
        return UIContent(lambda index: _classed(rows[index]), len(rows), show_cursor=False)


class _StatusControl(UIControl):
    """Draws the status line."""

    def __init__(self, status: _Status) -> None:
        self._status = status

    def create_content(self, width: int, height: int) -> UIContent:
        row = _classed(self._status(width))
        return UIContent(lambda _: row, 1, show_cursor=False)


class _Status(Protocol):
    def __call__(self, columns: int) -> list[Fragment]: ...


class _UserCompleter(Completer):
    """Asks the user of the screen."""

    def __init__(self, user: ScreenUser) -> None:
        self._user = user

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        before = document.current_line_before_cursor
        start = -len(before.rpartition(" ")[2])
        for text in self._user.complete(before):
            yield Completion(text, start)


def _redraw_all(event: KeyPressEvent) -> None:
    event.app.renderer.clear()


def _classed(row: Iterable[Fragment]) -> StyleAndTextTuples:
    return [(f"class:{style}" if style else "", text) for style, text in row]


def _style() -> Style:
    return Style([(name, _style_text(look)) for name, look in LOOKS.items()])


def _style_text(look: Look) -> str:
    words = [] if look.color is None else [f"fg:{_hexadecimal(look.color)}"]
    words += ["bold"] * look.bold
    return " ".join([*words, *["reverse"] * look.reverse])


def _hexadecimal(color: int) -> str:
    """Return the color with this number: of the cube of 216, or of the 24 grays."""
    if color >= 232:
        return f"#{8 + 10 * (color - 232):02x}" + f"{8 + 10 * (color - 232):02x}" * 2
    levels = [(color - 16) // 36, (color - 16) // 6 % 6, (color - 16) % 6]
    return "#" + "".join(f"{level * 40 + 55 if level else 0:02x}" for level in levels)
