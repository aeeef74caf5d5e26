"""``netsvc timestamp``: questions from arguments or line by line."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import DeferredQueue
from twisted.python.usage import UsageError

from netsvc.cli.command import DEFAULT_HOST, Command, CommandError, explain
from netsvc.cli.console import Console, is_terminal, notice, opened
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.timestamp.server import ask_timestamp
from netsvc.wire.address import HostPort


class Timestamp(Command):
    """Ask a timestamp server, with TEXT or with each line of standard input, and print its answers."""

    synopsis = "[options] [HOST:]PORT [TEXT...]"
    longdesc = (
        "Without TEXT, each line of standard input is a question; on a terminal an empty line ends. "
        "An answer that does not come is said, and is exit status 1."
    )
    optParameters = [  # noqa: RUF012  Twisted's own convention
        ["timeout", None, "1", "seconds to wait for each try"],
        ["tries", None, "3", "how often a question is sent"],
    ]
    where: HostPort

    def parseArgs(self, where: str = "", *text: str) -> None:
        if not where:
            raise UsageError("the port is missing")
        self.where = self.address(where, DEFAULT_HOST)
        self["text"] = text

    def postOptions(self) -> None:
        self["timeout"] = self.number("timeout", float)
        self["tries"] = self.number("tries", int)

    async def run(self, reactor: Any) -> None:
        lines: DeferredQueue[bytes | None] = DeferredQueue()
        console = Console(lines.put, lambda: lines.put(None))
        async with opened(reactor, console):
            if self["text"]:
                console.pause()
                question = " ".join(self["text"]).encode("utf-8", "surrogateescape")
                unanswered = not await self._ask(reactor, console, question)
            else:
                unanswered = await self._ask_lines(reactor, console, lines)
        if unanswered:
            raise CommandError  # each was said

    async def _ask_lines(self, reactor: Any, console: Console, lines: DeferredQueue[bytes | None]) -> bool:
        """Ask line by line. Returns whether an answer is missing."""
        unanswered = False
        while True:
            console.prompt("> ")
            console.resume()
            line = await lines.get()
            console.pause()  # what is typed meanwhile waits where it is
            if line is None or console.unread.called or (not line and is_terminal()):
                return unanswered
            unanswered |= not await self._ask(reactor, console, line)

    async def _ask(self, reactor: Any, console: Console, question: bytes) -> bool:
        """Ask one question and print the answer. Returns whether there was one."""
        where = self.where
        try:
            answer = await ask_timestamp(
                reactor, where.host or "", where.port, question, timeout=self["timeout"], tries=self["tries"]
            )
        except Exception as e:
            long = f"; a netsvc server answers {MAX_SIZE:,} bytes at most" if len(question) > MAX_SIZE else ""
            notice(explain(e, where) + long)
            return False
        console.show(f"[{answer.time.ctime()}] {answer.payload.decode('utf-8', 'replace')}")
        tries = f", try {answer.tries}" if answer.tries > 1 else ""
        notice(f"round trip {answer.round_trip * 1000:.1f} ms{tries}")
        return True
