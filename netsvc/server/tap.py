"""``twist netsvc`` and ``twistd -n netsvc``: flags to a Config, a Config to a service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.python import log
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from netsvc import __version__
from netsvc.errors import ConfigError, SettingError
from netsvc.server.assembly import NetsvcService, netsvc_service
from netsvc.server.config import SERVICES, Config
from netsvc.server.signals import Signals

_KNOBS = {knob.name: knob for knob in fields(Config)}
_LISTS = (*SERVICES, "allow", "deny", "proxy_from")


class Refusal(SystemExit, Exception):  # noqa: N818  it ends the process; it reports no error
    """Ends the process with status 1.

    An ``Exception`` as well, so that ``twistd`` removes its pid file and a daemon tells its parent why.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.code = 1


def refuse(line: str) -> NoReturn:
    """End the process, with one line on the real standard error: ``twistd`` sends the other to its log."""
    log.msg(line)  # for a daemon, which has no standard error
    print(line, file=sys.__stderr__, flush=True)
    raise Refusal(line) from None


class Options(UsageOptions):
    """The flags: one for each field of :class:`Config`, whose meanings are their help."""

    synopsis = "[--tcp WHERE]... [--udp WHERE]... [--chat WHERE]... [options]"
    longdesc = (
        "WHERE is a port (1314: every address of this host, IPv4 and IPv6), an address and port (127.0.0.1:1314, "
        "[::1]:1314) or a Twisted endpoint description (tcp:..., ssl:..., tls:..., unix:..., systemd:...; "
        "for --udp udp:PORT:interface=ADDRESS or systemd:domain=INET6:name=NAME). "
        "With none of the three flags: --tcp 1314 --udp 520."
    )
    optParameters = [  # noqa: RUF012  Twisted's own convention
        [name.replace("_", "-"), None, knob.default, knob.metadata["meaning"]]
        for name, knob in _KNOBS.items()
        if name not in _LISTS and name != "framing" and not isinstance(knob.default, bool)
    ]
    optFlags = [  # noqa: RUF012  likewise
        [name.replace("_", "-"), None, knob.metadata["meaning"]]
        for name, knob in _KNOBS.items()
        if isinstance(knob.default, bool)
    ]

    def __init__(self) -> None:
        super().__init__()
        for setting in _LISTS:
            self[setting.replace("_", "-")] = []

    def opt_tcp(self, where: str) -> None:
        self["tcp"].append(where)

    def opt_udp(self, where: str) -> None:
        self["udp"].append(where)

    def opt_chat(self, where: str) -> None:
        self["chat"].append(where)

    def opt_allow(self, network: str) -> None:
        self["allow"].append(network)

    def opt_deny(self, network: str) -> None:
        self["deny"].append(network)

    def opt_proxy_from(self, network: str) -> None:
        self["proxy-from"].append(network)

    def opt_framing(self, framing: str) -> None:
        self["framing"] = framing

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"netsvc {__version__}")  # noqa: T201  the answer to --version
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        # twist would print the whole help below the error, and the error is what matters.
        try:
            super().parseOptions(options)
            self.config()
        except UsageError as e:
            refuse(f"netsvc: {e}; twist netsvc --help lists the options")
        except SettingError as e:
            refuse(f"netsvc: --{e}")

    def parseArgs(self, *args: str) -> None:
        if args:
            raise UsageError(f"unexpected argument {args[0]!r}")

    def config(self) -> Config:
        """Return what the flags ask for.

        :raises ConfigError: for a value that means nothing.
        """
        given = {name: self._value(name) for name in _KNOBS if name.replace("_", "-") in self}
        return Config(**given)

    def _value(self, name: str) -> Any:
        value = self[name.replace("_", "-")]
        kind: type = type(_KNOBS[name].default)
        if kind is bool:
            return bool(value)
        if kind not in (int, float) or not isinstance(value, str):
            return value
        try:
            return kind(value)
        except ValueError:
            wanted = "a whole number" if kind is int else "a number"
            raise ConfigError(name, value, f"not {wanted}", f"give {wanted} from 0, which means no limit") from None


for _setting in (*_LISTS, "framing"):
    getattr(Options, f"opt_{_setting}").__doc__ = _KNOBS[_setting].metadata["meaning"]


class _CommandLineService(MultiService):
    """Turns what the system refuses into one line and the end, instead of a traceback, and handles signals."""

    def __init__(self, reactor: Any, serving: NetsvcService) -> None:
        super().__init__()
        self._reactor = reactor
        self._signals = Signals(reactor, serving.reload, serving.log_counts)
        serving.setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._or_refuse(super().privilegedStartService)

    def startService(self) -> None:
        self._or_refuse(super().startService)
        self._reactor.callWhenRunning(self._signals.install)

    def stopService(self) -> Deferred[Any]:
        stopped: Deferred[Any] = maybeDeferred(super().stopService)
        return stopped.addBoth(self._restored)

    def _restored(self, result: Any) -> Any:
        self._signals.restore()
        return result

    def _or_refuse(self, start: Callable[[], None]) -> None:
        try:
            start()
        except SettingError as e:
            refuse(f"netsvc: --{e}")


def makeService(options: Options) -> IService:
    """Called by ``twist`` and ``twistd``, which have by now installed the reactor they want."""
    from twisted.internet import reactor  # noqa: TID251  one of the two places that may name it

    try:
        return _CommandLineService(reactor, netsvc_service(reactor, options.config()))
    except SettingError as e:
        refuse(f"netsvc: --{e}")
