"""``netsvc``: the command line, its exit statuses and its signals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from netsvc import __version__
from netsvc.cli.parameters import CONTEXT_SETTINGS, command_names, usage_error_text
from netsvc.cli.statuses import FAILED, INTERRUPTED, USAGE

#: The subcommands. Each has its module in this package, and its parameters in ``COMMAND`` there.
NAMES = ("talk", "chat", "timestamp", "send", "receive", "lookup", "check", "probe", "serve", "completion")


class _Commands(click.Group):
    """The subcommands. The module of each is imported when it is needed: Twisted alone takes 0.2 s."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NAMES:
            return None
        command: click.Command = import_module(f"netsvc.cli.{cmd_name}").COMMAND
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in NAMES:
            ctx.fail(f"{args[0]}: there is no such command; choose {command_names(ctx)}")
        return super().resolve_command(ctx, args)


COMMANDS = _Commands(
    "netsvc",
    context_settings=CONTEXT_SETTINGS,
    no_args_is_help=False,
    help=(
        "Data goes to standard output, everything else to standard error. Exit status: 0 for success, 1 if the network "
        "or the peer failed, 64 for wrong usage, 130 after Ctrl-C."
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
        command = _parse(argv)
        if isinstance(command, int | None):  # the help was printed, or the version
            raise SystemExit(command)
        from netsvc.cli.running import run_command  # late, as in _Commands

        run_command(command)
    except (KeyboardInterrupt, click.Abort):  # before the reactor runs
        raise SystemExit(INTERRUPTED) from None


def _parse(argv: Sequence[str] | None) -> Any:
    try:
        return COMMANDS.main(argv, prog_name="netsvc", standalone_mode=False)
    except click.UsageError as e:
        _end(usage_error_text(e), USAGE)
    except OSError as e:  # the help was to be printed
        from netsvc.net.error_words import failure_words  # late, as in _Commands

        _end(f"standard output: {failure_words(e)}", FAILED)


def _end(line: str, status: int) -> NoReturn:
    from netsvc.cli.console import notice

    notice(line)
    raise SystemExit(status) from None


def _open_missing_descriptors() -> None:
    """Open /dev/null for each standard stream that the process was started without."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system returns the lowest free descriptor, which is fd
