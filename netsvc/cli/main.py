"""``netsvc``: talk, timestamp, send, receive, lookup."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react
from twisted.python.usage import UsageError

from netsvc.cli import lookup, receive, send, talk, timestamp
from netsvc.cli.command import Command, CommandError, VersionedOptions
from netsvc.cli.console import notice

FAILED = 1
USAGE = 64  # EX_USAGE in sysexits.h
INTERRUPTED = 128 + signal.SIGINT


class Options(VersionedOptions):
    """The subcommands."""

    synopsis = "Usage: netsvc"
    longdesc = (
        "Data goes to standard output, everything else to standard error. Exit status: 0 it worked, 1 the network "
        "or the peer failed, 64 wrong usage, 130 Ctrl-C. The servers: twist netsvc --help."
    )
    subCommands = [  # noqa: RUF012  Twisted's own convention
        ["talk", None, talk.Talk, "a conversation, both directions at once, either side listening"],
        ["timestamp", None, timestamp.Timestamp, "ask a timestamp server"],
        ["send", None, send.Send, "one stream or datagram out"],
        ["receive", None, receive.Receive, "print what arrives"],
        ["lookup", None, lookup.Lookup, "names and addresses, services and ports, this host's own"],
    ]

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise UsageError("a command is missing: talk, timestamp, send, receive or lookup")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line ``argv``, by default the program's own."""
    _open_missing_descriptors()
    options = Options()
    try:
        options.parseOptions(argv)
        from twisted.internet import reactor  # noqa: TID251  one of the two places that may name it

        react(_run, [options.subOptions], reactor)
    except UsageError as e:
        command = f" {options.subCommand}" if options.subCommand else ""
        notice(f"{e}; see netsvc{command} --help")
        raise SystemExit(USAGE) from None
    except KeyboardInterrupt:  # before the reactor runs
        raise SystemExit(INTERRUPTED) from None


def _open_missing_descriptors() -> None:
    """Give a program that was started without standard input, output or error an empty one."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is fd


async def _run(reactor: Any, command: Command) -> None:
    running: Deferred[None] | None = None
    interruptions = 0
    status = INTERRUPTED

    def interrupt(number: int, _frame: object) -> None:
        nonlocal interruptions, status
        interruptions += 1
        status = 128 + number
        if interruptions > 1:  # something does not listen: a full pipe, a name server
            os._exit(status)
        if running is not None:
            reactor.callFromThread(running.cancel)

    def listen() -> None:
        signal.signal(signal.SIGTERM, interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    signal.signal(signal.SIGINT, interrupt)
    # The reactor sets a handler of its own when it starts, which would end this with status 0: until that is replaced,
    # the signal waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    reactor.callWhenRunning(listen)
    try:
        running = Deferred.fromCoroutine(command.run(reactor))
        if interruptions:  # before it waited for anything
            running.cancel()
        await running
    except CommandError as e:
        if str(e):
            notice(str(e))
        raise SystemExit(FAILED) from None
    except BrokenPipeError:  # nobody reads standard output, and nobody will
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except UsageError as e:
        notice(str(e))
        raise SystemExit(USAGE) from None
    except CancelledError:
        raise SystemExit(status) from None
