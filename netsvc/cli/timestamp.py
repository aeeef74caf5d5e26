"""``netsvc timestamp``: ask a timestamp server, with a text or line by line."""

from __future__ import annotations

from dataclasses import dataclass

import click
from twisted.internet.defer import DeferredQueue

from netsvc.cli.command import DEFAULT_HOST, Command, CommandError, explain
from netsvc.cli.console import Console, is_terminal, notice, standard_streams
from netsvc.cli.parameters import CONTEXT_SETTINGS, PositiveNumber, peer_argument, text_argument
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.net.reactors import Reactor
from netsvc.timestamp.client import ask_timestamp


@dataclass
class Timestamp(Command):
    """The address of a timestamp server, the question, and how to ask it."""

    where: str
    text: bytes | None
    timeout: float
    tries: int

    def __post_init__(self) -> None:
        self._server = self.peer_address(self.where, DEFAULT_HOST)

    async def run(self, reactor: Reactor) -> None:
        lines: DeferredQueue[bytes | None] = DeferredQueue()
        console = Console(lines.put, lambda: lines.put(None))
        async with standard_streams(reactor, console):
            if self.text is not None:
                console.pause_input()
                all_answered = await self._ask(reactor, console, self.text)
            else:
                all_answered = await self._ask_lines(reactor, console, lines)
        if not all_answered:
            raise CommandError

    async def _ask_lines(self, reactor: Reactor, console: Console, lines: DeferredQueue[bytes | None]) -> bool:
        """Ask one question for each line. Return whether all were answered."""
        all_answered = True
        while True:
            console.prompt("> ")
            console.resume_input()
            line = await lines.get()
            console.pause_input()  # further lines wait in the terminal or the pipe
            if line is None or console.output_closed.called or (not line and is_terminal()):
                return all_answered
            all_answered &= await self._ask(reactor, console, line)

    async def _ask(self, reactor: Reactor, console: Console, question: bytes) -> bool:
        """Ask one question and print the answer. Return whether there was one."""
        where = self._server
        try:
            answer = await ask_timestamp(
                reactor, where.host or "", where.port, question, timeout=self.timeout, tries=self.tries
            )
        except Exception as e:
            hint = f"; a netsvc server answers at most {MAX_SIZE:,} bytes" if len(question) > MAX_SIZE else ""
            notice(explain(e, where) + hint)
            return False
        console.print_text(f"[{answer.time.ctime()}] {answer.payload.decode('utf-8', 'replace')}")
        tries = f", try {answer.tries}" if answer.tries > 1 else ""
        notice(f"round trip {answer.round_trip * 1000:.1f} ms{tries}")
        return True


COMMAND = click.Command(
    "timestamp",
    callback=Timestamp,
    context_settings=CONTEXT_SETTINGS,
    short_help="Ask a timestamp server for the time.",
    help=(
        "Ask a timestamp server, with TEXT or with each line of standard input, and print the answers. "
        "Without TEXT, each line of standard input is a question. At a terminal, an empty line ends the command. "
        "If no answer to a question arrives, the command prints an error, and its exit status is 1."
    ),
    params=[
        peer_argument(),
        text_argument(),
        click.Option(
            ["--timeout"],
            type=PositiveNumber(float),
            default=1.0,
            show_default=True,
            metavar="SECONDS",
            help="Seconds to wait for the answer after each try.",
        ),
        click.Option(
            ["--tries"],
            type=PositiveNumber(int),
            default=3,
            show_default=True,
            metavar="N",
            help="Maximum number of times that a question is sent.",
        ),
    ],
)
