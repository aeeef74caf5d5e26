"""``netsvc``: the command line, its exit statuses and its signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import react
from twisted.python.usage import UsageError

from netsvc.cli import lookup, receive, send, talk, timestamp
from netsvc.cli.command import Command, CommandError, VersionedOptions
from netsvc.cli.console import notice
from netsvc.net.reactors import Reactor

FAILED = 1
USAGE = 64  # EX_USAGE in sysexits.h
INTERRUPTED = 128 + signal.SIGINT


class ClientOptions(VersionedOptions):
    """The subcommands."""

    synopsis = "Usage: netsvc"
    longdesc = (
        "Data goes to standard output, everything else to standard error. Exit status: 0 for success, 1 if the network "
        "or the peer failed, 64 for wrong usage, 130 after Ctrl-C. For the servers, see twist netsvc --help."
    )
    subCommands = [  # noqa: RUF012  Twisted's own convention
        ["talk", None, talk.Talk, "Talk with a peer, as the client or as the server."],
        ["timestamp", None, timestamp.Timestamp, "Ask a timestamp server for the time."],
        ["send", None, send.Send, "Send text or standard input to a peer."],
        ["receive", None, receive.Receive, "Print the messages that arrive at a port."],
        ["lookup", None, lookup.Lookup, "Look up names, addresses, services and ports."],
    ]

    def postOptions(self) -> None:
        if self.subCommand is None:
            raise UsageError("the command is missing; choose talk, timestamp, send, receive or lookup")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line ``argv``, by default that of the process."""
    _open_missing_descriptors()
    options = ClientOptions()
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
    """Open /dev/null for each standard stream that the process was started without."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system returns the lowest free descriptor, which is fd


async def _run(reactor: Reactor, command: Command) -> None:
    running: Deferred[None] | None = None
    interruptions = 0
    status = INTERRUPTED

    def interrupt(number: int, _frame: object) -> None:
        nonlocal interruptions, status
        interruptions += 1
        status = 128 + number
        if interruptions > 1:  # a full pipe or a name server blocks the orderly end
            os._exit(status)
        if running is not None:
            IReactorFromThreads(reactor).callFromThread(running.cancel)

    def handle_sigterm() -> None:
        signal.signal(signal.SIGTERM, interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    signal.signal(signal.SIGINT, interrupt)
    # When the reactor starts, it installs its own handler, which would end the process with status 0. The signal is
    # blocked until that handler is replaced.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    reactor.callWhenRunning(handle_sigterm)
    try:
        running = Deferred.fromCoroutine(command.run(reactor))
        if interruptions:  # before the command waited for anything
            running.cancel()
        await running
    except CommandError as e:
        if str(e):
            notice(str(e))
        raise SystemExit(FAILED) from None
    except BrokenPipeError:  # standard output was closed by its reader
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except UsageError as e:
        notice(str(e))
        raise SystemExit(USAGE) from None
    except CancelledError:
        raise SystemExit(status) from None
