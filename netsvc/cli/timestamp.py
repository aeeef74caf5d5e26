"""``netsvc timestamp``: ask a timestamp server, with a text or line by line."""

from __future__ import annotations

from dataclasses import dataclass

import click
from twisted.internet import error
from twisted.internet.defer import DeferredQueue

from netsvc.cli.command import DEFAULT_HOST, Command, CommandError, explain
from netsvc.cli.console import Console, is_terminal, notice, standard_streams
from netsvc.cli.json_lines import json_line
from netsvc.cli.parameters import (
    CONTEXT_SETTINGS,
    PositiveNumber,
    address_family,
    family_options,
    json_option,
    peer_argument,
    source_options,
    text_argument,
    verbose_option,
    wait_option,
)
from netsvc.limits.datagram_guard import MAX_SIZE
from netsvc.net.host_names import resolve
from netsvc.net.reactors import Reactor
from netsvc.timestamp.client import TimestampAnswer, ask_timestamp
from netsvc.wire.address import HostPort, family_of, format_address

_SOURCES = {
    "kernel": "from the send to the receive stamp of the kernel",
    "process": "from the send until this program read the answer, because the system gave no receive stamp",
}


@dataclass
class Timestamp(Command):
    """The address of a timestamp server, the question, and how to ask it."""

    where: str
    text: bytes | None
    timeout: float
    tries: int
    ipv4: bool
    ipv6: bool
    source: str | None
    source_port: int | None
    as_json: bool
    verbose: bool

    def __post_init__(self) -> None:
        self._server = self.peer_address(self.where, DEFAULT_HOST)
        self._family = address_family(self.ipv4, self.ipv6)
        if self.source:
            if self._family not in (0, family_of(self.source)):
                raise click.UsageError(f"--source {self.source}: an address of the other family; leave out -4 or -6")
            self._family = family_of(self.source)
        self._source = HostPort(self.source, self.source_port or 0) if self.source or self.source_port else None
        self._addresses: list[str] = []

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
        try:
            address, answer = await self._answer(reactor, question)
        except Exception as e:
            hint = f"; a netsvc server answers at most {MAX_SIZE:,} bytes" if len(question) > MAX_SIZE else ""
            notice(explain(e, self._server, self._source) + hint)
            return False
        if answer.void_round_trips:
            notice("the clock of this host was set during a measurement, which does not count")
        if self.as_json:
            console.print_text(json_line(self._fields(address, answer)))
            return True
        console.print_text(f"[{answer.time.ctime()}] {answer.payload.decode('utf-8', 'replace')}")
        tries = f", from the first of {answer.tries} tries" if answer.tries > 1 else ""
        how = f", {_SOURCES[answer.round_trip_source]}" if self.verbose else ""
        notice(f"round trip {answer.round_trip * 1000:.3f} ms{tries}{how}")
        return True

    async def _answer(self, reactor: Reactor, question: bytes) -> tuple[str, TimestampAnswer]:
        """Ask one address after another. Return the one that answered, and its answer.

        The following questions are sent to the address that has answered.
        """
        if not self._addresses:
            self._addresses = await resolve(reactor, self._server.host or "", self._family)
        failure: Exception = error.TimeoutError()
        for address in self._addresses:
            if self.verbose:
                notice(f"asking {format_address(address, self._server.port)}")
            try:
                answer = await ask_timestamp(
                    reactor,
                    address,
                    self._server.port,
                    question,
                    timeout=self.timeout / self.tries / len(self._addresses),
                    tries=self.tries,
                    source=self.source or "",
                    source_port=self.source_port or 0,
                )
            except (OSError, error.ConnectionRefusedError, error.TimeoutError) as e:
                failure = e
            else:
                self._addresses = [address]
                return address, answer
        raise failure

    def _fields(self, address: str, answer: TimestampAnswer) -> dict[str, object]:
        return {
            "address": address,
            "port": self._server.port,
            "time": answer.time.isoformat(),
            "text": answer.payload.decode("utf-8", "replace"),
            "round_trip": answer.round_trip,
            "round_trip_source": answer.round_trip_source,
            "tries": answer.tries,
        }


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
        *family_options(),
        *source_options(),
        wait_option(3.0, "Seconds without an answer after which a question has failed."),
        click.Option(
            ["--tries"],
            type=PositiveNumber(int),
            default=3,
            show_default=True,
            metavar="N",
            help="How often a question is sent within that time.",
        ),
        json_option(),
        verbose_option("Say which address is asked, and how the round trip was measured."),
    ],
)
