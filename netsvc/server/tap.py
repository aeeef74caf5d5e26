"""The plugin of ``twist netsvc`` and ``twistd -n netsvc``: flags become a ``Config``, and a ``Config`` a service."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python import log
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from netsvc import __version__
from netsvc.errors import ConfigError, NetsvcError, SettingError, flag_of
from netsvc.limits.file_limit import raise_file_limit
from netsvc.server.assembly import NetsvcService, netsvc_service
from netsvc.server.config import DEFAULTS, SERVICE_NAMES, SETTINGS, Config, Setting
from netsvc.server.log_relay import LogRelay
from netsvc.server.signals import Signals, StoppableReactor


class StartRefused(SystemExit, Exception):  # noqa: N818  it ends the process; it reports no error
    """Ends the process with status 1.

    It is an ``Exception`` as well, so that ``twistd`` removes its pid file, and a daemon tells its parent why.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.code = 1


def refuse_start(line: str) -> NoReturn:
    """End the process with one line on the real standard error: ``twistd`` redirects the other to its log."""
    log.msg(line)  # for a daemon, which has no standard error
    print(line, file=sys.__stderr__, flush=True)
    raise StartRefused(line) from None


def _is_list(setting: Setting) -> bool:
    return setting.kind in ("listen", "networks", "names")


def _help(name: str, setting: Setting) -> str:
    """Return the help of a flag. Twisted adds the default, unless that is None."""
    return setting.meaning + (f" [default: {setting.default_text}]" if DEFAULTS[name] is None else "")


class Options(UsageOptions):
    """The flags: one for each setting, whose meaning is its help."""

    synopsis = " ".join(f"[{flag_of(name)} WHERE]..." for name in SERVICE_NAMES) + " [options]"
    longdesc = (
        "WHERE is a port (1314: all addresses of this host, IPv4 and IPv6), an address and port (127.0.0.1:1314, "
        "[::1]:1314) or a Twisted endpoint description (tcp:..., ssl:..., tls:..., unix:PATH:mode=660, systemd:...; "
        "for --udp, udp:PORT:interface=ADDRESS or systemd:domain=INET6:name=NAME). "
        "Without any of these flags: --tcp 1314 --udp 520."
    )
    optParameters = [  # noqa: RUF012  Twisted's own convention
        [flag_of(name).removeprefix("--"), None, DEFAULTS[name], _help(name, setting)]
        for name, setting in SETTINGS.items()
        if not _is_list(setting) and setting.kind != "switch"
    ]
    optFlags = [  # noqa: RUF012  likewise
        [flag_of(name).removeprefix("--"), None, setting.meaning]
        for name, setting in SETTINGS.items()
        if setting.kind == "switch"
    ]

    def __init__(self) -> None:
        super().__init__()
        for name, setting in SETTINGS.items():
            if _is_list(setting):
                self[flag_of(name).removeprefix("--")] = []
        self._config: Config | None = None

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"netsvc {__version__}")  # noqa: T201  the answer to --version
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        # twist would print the whole help below the error. The error is what matters.
        try:
            super().parseOptions(options)
            self._config = self._make_config()
        except UsageError as e:
            refuse_start(f"netsvc: {e}; twist netsvc --help lists the options")
        except SettingError as e:
            refuse_start(f"netsvc: {e}")

    def parseArgs(self, *args: str) -> None:
        if args:
            raise UsageError(f"unexpected argument {args[0]!r}")

    def config(self) -> Config:
        """Return the configuration that the flags describe. Call it after ``parseOptions``."""
        if self._config is None:
            self._config = self._make_config()
        return self._config

    def _make_config(self) -> Config:
        return Config(**{name: self._value(name, setting) for name, setting in SETTINGS.items()})

    def _value(self, name: str, setting: Setting) -> Any:
        value = self[flag_of(name).removeprefix("--")]
        if setting.kind == "switch":
            return bool(value)
        if setting.kind not in ("number", "whole number") or not isinstance(value, str):
            return value
        try:
            return (int if setting.kind == "whole number" else float)(value)
        except ValueError:
            wanted = f"a {setting.kind}"
            raise ConfigError(name, value, f"not {wanted}", f"give {wanted} from 0, which means no limit") from None


def _add_repeatable_flag(name: str, setting: Setting) -> None:
    """Add a flag that may be repeated. Twisted finds it by its method ``opt_NAME``."""

    def append(self: Options, value: str) -> None:
        self[flag_of(name).removeprefix("--")].append(value)

    append.__doc__ = f"{setting.meaning} May be repeated. [default: {setting.default_text}]"
    setattr(Options, f"opt_{name}", append)


for _name, _known in SETTINGS.items():
    if _is_list(_known):
        _add_repeatable_flag(_name, _known)


#: The descriptor of standard output.
STDOUT = 1


def _is_log_output(descriptor: int) -> bool:
    """Whether the descriptor is open, and neither a terminal nor /dev/null."""
    try:
        return not os.isatty(descriptor) and not os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    except OSError:
        return False


class _CommandLineService(MultiService):
    """Handles signals and the log, and turns a refusal of the system into one line and the end of the process."""

    def __init__(self, reactor: StoppableReactor, signals: Signals, serving: NetsvcService) -> None:
        super().__init__()
        self._reactor = reactor
        self._signals = signals
        self._serving = serving
        serving.setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._start(super().privilegedStartService)

    def startService(self) -> None:
        self._relay_log()  # not earlier: twistd forks before this, and threads do not survive that
        self._start(super().startService)
        # The modules that are loaded now stay. If the garbage collector scanned their objects each time, a full
        # collection would take 25 ms more, and all peers would wait.
        gc.collect()
        gc.freeze()
        self._reactor.callWhenRunning(self._signals.install)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = maybeDeferred(super().stopService)
        return stopped.addBoth(self._restore_signals)

    def _relay_log(self) -> None:
        """Let no reader of standard output delay the server. On a terminal, Ctrl-S may."""
        if self._serving.log_relay is not None or not _is_log_output(STDOUT):
            return
        relay = LogRelay(STDOUT, lambda: self._reactor.callFromThread(self._serving.log_dropped_lines))
        self._serving.log_relay = relay
        relay.start()
        # The last of Twisted's own lines follow these triggers.
        self._reactor.addSystemEventTrigger("after", "shutdown", relay.stop)

    def _restore_signals(self, result: Any) -> Any:
        self._signals.restore()
        return result

    def _start(self, start: Callable[[], None]) -> None:
        try:
            start()
        except NetsvcError as e:
            refuse_start(f"netsvc: {e}")


def makeService(options: Options) -> IService:
    """Called by ``twist`` and ``twistd`` after they have installed the reactor."""
    from twisted.internet import reactor  # noqa: TID251  one of the two places that may name it
    from twisted.internet.selectreactor import SelectReactor

    if not isinstance(reactor, SelectReactor):  # select() fails for files above 1,023
        raise_file_limit()
    try:
        serving = netsvc_service(reactor, options.config())
        stoppable = cast(StoppableReactor, reactor)
        signals = Signals(stoppable, serving.reload, serving.log_counters)
        return _CommandLineService(stoppable, signals, serving)
    except SettingError as e:
        refuse_start(f"netsvc: {e}")
