"""The console of a conversation on the full screen of a terminal. It needs ``netsvc[terminal]``."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer

from netsvc.cli.console import Console
from netsvc.cli.terminal_screen import TerminalScreen
from netsvc.cli.terminal_text import Fragment, StyledLine
from netsvc.net.reactors import Clock, Reactor
from netsvc.wire.text import clean

#: Stands before each line that was typed.
_OWN = "> "


class ScreenConsole(Console):
    """Shows what arrives and what was typed as lines with times, above a line editor.

    :param clock: tells the time.
    :param line_received: called with each line that was typed.
    :param input_ended: called after Ctrl-D on an empty line.
    """

    def __init__(
        self, clock: Clock, line_received: Callable[[bytes], object], input_ended: Callable[[], object]
    ) -> None:
        super().__init__(line_received, input_ended)
        self._clock = clock
        self._take_line = line_received
        self._end_input = input_ended
        self._screen = TerminalScreen(self)
        self._lines: deque[str] = deque()  # that were typed while nothing could be sent
        self._is_paused = False
        self._is_at_end = False
        self._state = ""
        self._shown: deque[str] = deque(maxlen=1_000)

    # For standard_streams and for the conversation

    def open(self, reactor: Reactor) -> None:
        self._screen.open()

    def close(self) -> Deferred[None]:
        return succeed(None)

    def detach(self) -> None:
        """Do nothing: :meth:`leave` is called."""

    def check(self) -> None:
        """Do nothing: no output is written to a file."""

    async def leave(self) -> None:
        """Leave the full screen, and print the conversation to the terminal, where it stays."""
        await self._screen.close()
        os.set_blocking(1, True)
        for text in self._shown:
            print(text)

    @property
    def output_is_full(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.print_text(data.decode("utf-8", "replace"))

    def print_text(self, text: str) -> None:
        for line in text.removesuffix("\n").split("\n"):
            self._show("", clean(line))

    def notice(self, line: str) -> None:
        self._state = line
        self._show("notice", f"* {clean(line)}")

    def pause_input(self) -> None:
        self._is_paused = True

    def resume_input(self) -> None:
        self._is_paused = False
        self._deliver()

    @property
    def source(self) -> _Editor:  # type: ignore[override]
        """The typed lines, as the producer of what is sent."""
        return _Editor(self)

    def register_producer(self, producer: IPushProducer) -> None:
        """Do nothing: a screen shows the last lines, however fast they arrive."""

    # For the screen

    def accept(self, text: str) -> bool:
        """Show and send what was typed, unless the input was ended."""
        if self._is_at_end:
            self.notice("not sent, because Ctrl-D has ended the input; Ctrl-C ends the conversation")
            return False
        for line in text.removesuffix("\n").split("\n"):
            self._show("own", _OWN + clean(line))
            self._lines.append(line)
        self._deliver()
        return True

    def complete(self, before: str) -> Iterable[str]:
        """Complete nothing."""
        return ()

    def status(self, below: int) -> list[tuple[int, Fragment]]:
        """Return the last notice, and what waits."""
        parts = [(0, ("status", self._state or "not connected yet"))]
        if self._lines:
            parts.append((0, ("status-problem", f"{len(self._lines):,} to send")))
        if below:
            parts.append((0, ("status-problem", f"{below:,} below, PageDown")))
        return parts

    def key_pressed(self) -> None:
        """Do nothing."""

    def end_of_input(self) -> None:
        """Ctrl-D: end the input once every line was sent."""
        if not self._is_at_end:
            self._is_at_end = True
            self._deliver()

    def interrupted(self) -> None:
        """Ctrl-C: end the program, as on a terminal without a screen."""
        os.kill(os.getpid(), signal.SIGINT)

    def _deliver(self) -> None:
        while self._lines and not self._is_paused:
            self._take_line(self._lines.popleft().encode("utf-8", "surrogateescape"))
        if self._is_at_end and not self._lines:
            self._end_input()
        self._screen.redraw()

    def _show(self, style: str, text: str) -> None:
        self._shown.append(text)
        self._screen.show(StyledLine(self._clock.seconds(), ((style, text),)))


class _Editor:
    """Pauses and resumes what was typed."""

    def __init__(self, console: ScreenConsole) -> None:
        self.pauseProducing = console.pause_input
        self.resumeProducing = console.resume_input
