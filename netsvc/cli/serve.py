"""``netsvc serve``: the server of ``twist netsvc``, without ``twist``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem
from twisted.logger import (
    FilteringLogObserver,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from netsvc.cli.command import CommandError, ServerCommand
from netsvc.cli.console import notice, print_line
from netsvc.cli.parameters import CONTEXT_SETTINGS
from netsvc.cli.serve_options import GroupedCommand, Settings, read_settings, setting_options
from netsvc.errors import SettingError
from netsvc.server.config import Config
from netsvc.server.flags import WHERE_HELP

if TYPE_CHECKING:
    from netsvc.server.server_process import ServerProcess

#: The reactor of Twisted's choice.
DEFAULT_REACTOR = "default"


@dataclass
class Serve(ServerCommand):
    """The settings of a server, and how to run it."""

    settings: Settings
    reactor: str | None
    check: bool

    log = Logger()

    def __post_init__(self) -> None:
        self._config = self.settings.config()

    def serve(self) -> NoReturn:
        name, reactor = choose_reactor(self.reactor)
        if self.check:
            self._print_plan(name, reactor)
            raise SystemExit(0)
        process = self._process(reactor, self._config)
        process.startService()
        reactor.addSystemEventTrigger("before", "shutdown", process.stopService)
        begin_logging()
        reactor.callWhenRunning(self.log.info, "Starting reactor...")  # after the signals are handled
        reactor.run()
        if process.signals.interrupted:  # the shell learns that it was Ctrl-C
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        raise SystemExit(0)

    def _process(self, reactor: Any, config: Config) -> ServerProcess:
        from netsvc.server.server_process import server_process  # late: all services

        try:
            return server_process(reactor, config)
        except SettingError as e:
            raise self.settings.usage_error(e) from None

    def _print_plan(self, name: str, reactor: Any) -> None:
        """Print what a start would do, and check all that can be checked without opening a port."""
        from netsvc.cli.host_facts import host_facts
        from netsvc.server.start_check import problems_of
        from netsvc.server.start_plan import describe, warnings_about, without_inherited_sockets

        facts, config = host_facts(), self._config
        checked = config if facts.inherits_sockets else replace(config, **without_inherited_sockets(config))
        self._process(reactor, checked)
        for line in (*describe(config), *_certificate(config, reactor.seconds()), f"reactor: {name}"):
            print_line(line)
        for line in warnings_about(config, facts):
            print_line(f"warning: {line}")
        problems = list(problems_of(config))
        for line in problems:
            notice(line)
        if problems:
            raise CommandError


def _certificate(config: Config, now: float) -> Iterator[str]:
    """Give the certificate of the stream services, and a warning if it ends soon."""
    if config.tls_cert is None:
        return
    from netsvc.net.certificate_facts import certificate_facts
    from netsvc.net.server_tls import format_date, load_certificates
    from netsvc.server.certificate_watch import DAY, WARNED_BEFORE

    facts = certificate_facts(load_certificates(config.tls_cert)[0].original)
    names, date, left = ", ".join(facts.names) or "no name", format_date(facts.ends), facts.ends - now
    yield f"certificate: {config.tls_cert} for {names}, ends on {date} (in {left / DAY:.0f} days)"
    if left <= WARNED_BEFORE:
        yield f"warning: {config.tls_cert}: the certificate expires on {date}; renew it"


def begin_logging() -> None:
    """Write the log to standard output from now on, as text. What was logged before comes first."""
    important = LogLevelFilterPredicate(defaultLogLevel=LogLevel.info)
    globalLogBeginner.beginLoggingTo([FilteringLogObserver(textFileLogObserver(sys.stdout), [important])])


def choose_reactor(name: str | None) -> tuple[str, Any]:
    """Install a reactor, and return it with its name.

    :param name: as ``twist --reactor`` takes it; None for uvloop's, or Twisted's default if uvloop is not installed.
    :raises UsageError: if there is no such reactor.
    :raises CommandError: if it cannot be used here.
    """
    from twisted.application.reactors import NoSuchReactor, installReactor

    if name is None and find_spec("uvloop") is not None:
        try:
            return "uvloop", installReactor("uvloop")
        except SystemExit as e:
            notice(str(e))
    try:
        return name or DEFAULT_REACTOR, installReactor(name or DEFAULT_REACTOR)
    except NoSuchReactor:
        names = ", ".join(reactor_names())
        raise click.UsageError(f"--reactor {name}: there is no such reactor; choose one of {names}") from None
    except (SystemExit, ImportError) as e:
        raise CommandError(f"--reactor {name}: {e}; leave the flag out, or choose epoll") from None


def reactor_names() -> list[str]:
    """Return the names of the reactors that Twisted and its plugins know."""
    from twisted.application.reactors import getReactorTypes

    return sorted(kind.shortName for kind in getReactorTypes())


def _make(config: str | None, reactor: str | None, check: bool, **values: Any) -> Serve:
    settings = read_settings(values, config)
    return Serve(settings, reactor or settings.reactor, check)


def _complete_reactor(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in reactor_names() if name.startswith(typed)]


COMMAND = GroupedCommand(
    "serve",
    callback=_make,
    context_settings=CONTEXT_SETTINGS,
    short_help="Run the server: echo, chat, timestamps and more.",
    help=(
        "Run the server until Ctrl-C or SIGTERM. It is that of twist netsvc, with the same flags. The log goes to "
        f"standard output. {WHERE_HELP}"
    ),
    params=[
        click.Option(
            ["--config"],
            type=click.Path(),
            metavar="FILE",
            help=(
                "Read settings from this TOML file. Its keys are the flags without dashes in front; flags that may be "
                "repeated are lists. Flags of the command line replace the values in the file."
            ),
        ),
        click.Option(
            ["--reactor"],
            metavar="NAME",
            help="The reactor of Twisted to use. [default: uvloop if it is installed]",
            shell_complete=_complete_reactor,
        ),
        click.Option(
            ["--check"], is_flag=True, help="Check the settings and print what a start would do, but open no port."
        ),
        *setting_options(),
    ],
)
