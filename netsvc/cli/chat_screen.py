"""A chat on the full screen of a terminal."""

from __future__ import annotations

from contextlib import suppress

from prompt_toolkit.input import Input
from prompt_toolkit.output import Output
from twisted.internet.defer import CancelledError

from netsvc.cli.chat_session import ChatSession
from netsvc.cli.terminal_screen import TerminalScreen
from netsvc.cli.terminal_text import StyledLine


class ScreenView:
    """Shows a chat on a screen, own lines as well.

    :param screen: the screen.
    """

    has_keys = True

    def __init__(self, screen: TerminalScreen) -> None:
        self.replace = screen.replace
        self.clear = screen.clear
        self.redraw = screen.redraw
        self._screen = screen

    def show(self, line: StyledLine, *, is_own: bool = False) -> None:
        """Show a line."""
        self._screen.show(line)

    def report(self, line: StyledLine) -> None:
        """Show a line of the client itself, in its place among the others."""
        self._screen.show(line)


async def run_on_screen(
    session: ChatSession, *, color: bool | None, input_: Input | None = None, output: Output | None = None
) -> None:
    """Run a session on a terminal until it ends, and leave the terminal as it was.

    :param color: whether to use colors; None for what the terminal and ``NO_COLOR`` say.
    """
    screen = TerminalScreen(session, color=color, input_=input_, output=output)
    session.view = ScreenView(screen)
    screen.open()
    try:
        session.start()
        await session.ended
    finally:
        with suppress(CancelledError):
            await screen.close()
