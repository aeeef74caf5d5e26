"""Runs a subcommand on a reactor, and turns its end into an exit status."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from click import UsageError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorPluggableNameResolver
from twisted.internet.task import react

from netsvc.cli.command import Command, CommandError, ServerCommand
from netsvc.cli.console import discard_output, notice
from netsvc.cli.statuses import FAILED, INTERRUPTED, USAGE
from netsvc.net.name_resolver import NameResolver
from netsvc.net.reactors import Reactor


def run_command(command: Command | ServerCommand) -> NoReturn:
    """Run a subcommand, and end the process."""
    if isinstance(command, ServerCommand):
        _serve(command)
    command.install_reactor()
    from twisted.internet import reactor  # noqa: TID251  one of the two places that may name it

    react(_run, [command], reactor)


def _serve(command: ServerCommand) -> NoReturn:
    try:
        command.serve()
    except CommandError as e:
        if str(e):
            notice(str(e))
        raise SystemExit(FAILED) from None
    except BrokenPipeError:  # standard output was closed by its reader
        discard_output()
        raise SystemExit(0) from None
    except UsageError as e:
        notice(e.message)
        raise SystemExit(USAGE) from None


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
    names = IReactorPluggableNameResolver(reactor)
    names.installNameResolver(NameResolver(names.nameResolver))
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
        discard_output()
    except UsageError as e:  # that was found while it ran
        notice(e.message)
        raise SystemExit(USAGE) from None
    except CancelledError:
        raise SystemExit(status) from None
