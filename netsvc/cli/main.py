"""``netsvc``: the command line, its exit statuses and its signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import NoReturn

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import react

from netsvc import __version__
from netsvc.cli import lookup, receive, send, talk, timestamp
from netsvc.cli.command import Command, CommandError
from netsvc.cli.console import notice
from netsvc.cli.parameters import CONTEXT_SETTINGS, command_names, usage_error_text
from netsvc.net.reactors import Reactor

FAILED = 1
USAGE = 64  # EX_USAGE in sysexits.h
INTERRUPTED = 128 + signal.SIGINT


class _Commands(click.Group):
    """The subcommands."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"{args[0]}: there is no such command; choose {command_names(self)}")
        return super().resolve_command(ctx, args)


COMMANDS = _Commands(
    "netsvc",
    commands=[talk.COMMAND, timestamp.COMMAND, send.COMMAND, receive.COMMAND, lookup.COMMAND],
    context_settings=CONTEXT_SETTINGS,
    no_args_is_help=False,
    help=(
        "Data goes to standard output, everything else to standard error. Exit status: 0 for success, 1 if the network "
        "or the peer failed, 64 for wrong usage, 130 after Ctrl-C. For the servers, see twist netsvc --help."
    ),
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=lambda ctx, _param, value: _print_version(ctx) if value else None,
            help="Print the version and exit.",
        )
    ],
)


def _print_version(ctx: click.Context) -> None:
    click.echo(f"netsvc {__version__}")
    ctx.exit()


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line ``argv``, by default that of the process."""
    _open_missing_descriptors()
    try:
        command = COMMANDS.main(argv, prog_name="netsvc", standalone_mode=False)
        if not isinstance(command, Command):  # the help was printed, or the version
            raise SystemExit(command)
        from twisted.internet import reactor  # noqa: TID251  one of the two places that may name it

        react(_run, [command], reactor)
    except click.UsageError as e:
        notice(usage_error_text(e))
        raise SystemExit(USAGE) from None
    except OSError as e:  # the help was to be printed
        notice(f"standard output: {(e.strerror or str(e)).lower()}")
        raise SystemExit(FAILED) from None
    except (KeyboardInterrupt, click.Abort):  # before the reactor runs
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
    except click.UsageError as e:  # that was found while it ran
        notice(e.message)
        raise SystemExit(USAGE) from None
    except CancelledError:
        raise SystemExit(status) from None
