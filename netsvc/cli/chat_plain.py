"""A chat in a pipe, or at a terminal without prompt_toolkit: lines in, lines out."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from netsvc.cli.chat_session import ChatSession
from netsvc.cli.console import Console, standard_streams
from netsvc.cli.terminal_text import StyledLine, sgr
from netsvc.net.reactors import Reactor


class PlainView:
    """Prints lines to standard output, and those of the client itself to standard error.

    :param console: standard input and output.
    :param color: whether to print colors.
    """

    has_keys = False

    def __init__(self, console: Console, *, color: bool) -> None:
        self._console = console
        self._color = color

    def show(self, line: StyledLine, *, is_own: bool = False) -> None:
        """Print a line, unless the user has typed it."""
        if is_own:
            return
        if self._color:
            self._console.write(f"{sgr(line.fragments)}\n".encode())
        else:
            self._console.print_text(line.text)

    def report(self, line: StyledLine) -> None:
        """Print a line to standard error."""
        self._console.notice(line.text.removeprefix("* "))

    def replace(self, key: str, line: StyledLine) -> None:
        """Do nothing: the line is printed."""

    def clear(self) -> None:
        """Do nothing: the lines are printed."""

    def redraw(self) -> None:
        """Do nothing: there is no status line."""


async def run_plain(session: ChatSession, reactor: Reactor, *, color: bool) -> None:
    """Run a session on standard input and output until it ends."""
    console = Console(lambda line: session.accept(line.decode("utf-8", "replace")), session.leave_when_sent)
    async with standard_streams(reactor, console):
        is_open = True

        def input_wanted(wanted: bool) -> None:
            if is_open:
                console.resume_input() if wanted else console.pause_input()

        session.view = PlainView(console, color=color)
        session.input_wanted = input_wanted
        console.pause_input()
        closed: Deferred[None] = console.output_closed
        closed.addCallback(lambda _: session.output_closed())
        session.start()
        try:
            await session.ended
        finally:
            is_open = False
