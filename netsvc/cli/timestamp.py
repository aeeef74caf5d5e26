"""``netsvc timestamp``: ask a timestamp server, with a text or line by line."""

from __future__ import annotations

from twisted.internet.defer import DeferredQueue
from twisted.python.usage import UsageError

from netsvc.cli.command import DEFAULT_HOST, Command, CommandError, explain
from netsvc.cli.console import Console, is_terminal, notice, standard_streams
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.net.reactors import Reactor
from netsvc.timestamp.client import ask_timestamp
from netsvc.wire.address import HostPort


class Timestamp(Command):
    """Ask a timestamp server, with TEXT or with each line of standard input, and print the answers."""

    synopsis = "[options] [HOST:]PORT [TEXT...]"
    longdesc = (
        "Ask a timestamp server and print its answers. "
        "Without TEXT, each line of standard input is a question. At a terminal, an empty line ends the command. "
        "If no answer to a question arrives, the command prints an error, and its exit status is 1."
    )
    optParameters = [  # noqa: RUF012  Twisted's own convention
        ["timeout", None, "1", "Seconds to wait for the answer after each try."],
        ["tries", None, "3", "Maximum number of times that a question is sent."],
    ]
    where: HostPort

    def parseArgs(self, where: str = "", *text: str) -> None:
        if not where:
            raise UsageError("[HOST:]PORT is missing; give the address of the server")
        self.where = self.peer_address(where, DEFAULT_HOST)
        self["text"] = text

    def postOptions(self) -> None:
        self["timeout"] = self.positive_number("timeout", float)
        self["tries"] = self.positive_number("tries", int)

    async def run(self, reactor: Reactor) -> None:
        lines: DeferredQueue[bytes | None] = DeferredQueue()
        console = Console(lines.put, lambda: lines.put(None))
        async with standard_streams(reactor, console):
            if self["text"]:
                console.pause_input()
                question = " ".join(self["text"]).encode("utf-8", "surrogateescape")
                all_answered = await self._ask(reactor, console, question)
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
        where = self.where
        try:
            answer = await ask_timestamp(
                reactor, where.host or "", where.port, question, timeout=self["timeout"], tries=self["tries"]
            )
        except Exception as e:
            hint = f"; a netsvc server answers at most {MAX_SIZE:,} bytes" if len(question) > MAX_SIZE else ""
            notice(explain(e, where) + hint)
            return False
        console.print_text(f"[{answer.time.ctime()}] {answer.payload.decode('utf-8', 'replace')}")
        tries = f", try {answer.tries}" if answer.tries > 1 else ""
        notice(f"round trip {answer.round_trip * 1000:.1f} ms{tries}")
        return True
