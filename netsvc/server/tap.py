"""The plugin of ``twist netsvc`` and ``twistd -n netsvc``: flags become a ``Config``, and a ``Config`` a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from netsvc import __version__
from netsvc.errors import SettingError, flag_of
from netsvc.server.config import DEFAULTS, SERVICE_NAMES, SETTINGS, Config, Setting
from netsvc.server.flags import WHERE_HELP, is_list, parse_flag
from netsvc.server.server_process import refuse_start, server_process


def _help(name: str, setting: Setting) -> str:
    """Return the help of a flag. Twisted adds the default, unless that is None."""
    return setting.meaning + (f" [default: {setting.default_text}]" if DEFAULTS[name] is None else "")


class Options(UsageOptions):
    """The flags: one for each setting, whose meaning is its help."""

    synopsis = " ".join(f"[{flag_of(name)} WHERE]..." for name in SERVICE_NAMES) + " [options]"
    longdesc = WHERE_HELP
    optParameters = [  # noqa: RUF012  Twisted's own convention
        [flag_of(name).removeprefix("--"), None, DEFAULTS[name], _help(name, setting)]
        for name, setting in SETTINGS.items()
        if not is_list(name) and setting.kind != "switch"
    ]
    optFlags = [  # noqa: RUF012  likewise
        [flag_of(name).removeprefix("--"), None, setting.meaning]
        for name, setting in SETTINGS.items()
        if setting.kind == "switch"
    ]

    def __init__(self) -> None:
        super().__init__()
        for name in SETTINGS:
            if is_list(name):
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
        return parse_flag(name, value) if isinstance(value, str) else value


def _add_repeatable_flag(name: str, setting: Setting) -> None:
    """Add a flag that may be repeated. Twisted finds it by its method ``opt_NAME``."""

    def append(self: Options, value: str) -> None:
        self[flag_of(name).removeprefix("--")].append(value)

    append.__doc__ = f"{setting.meaning} May be repeated. [default: {setting.default_text}]"
    setattr(Options, f"opt_{name}", append)


for _name, _known in SETTINGS.items():
    if is_list(_name):
        _add_repeatable_flag(_name, _known)


def makeService(options: Options) -> IService:
    """Called by ``twist`` and ``twistd`` after they have installed the reactor."""
    from twisted.internet import reactor  # noqa: TID251  one of the two places that may name it

    try:
        return server_process(reactor, options.config())
    except SettingError as e:
        refuse_start(f"netsvc: {e}")
