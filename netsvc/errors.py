"""The exceptions that netsvc raises when the fault is the user's or the network's."""

from __future__ import annotations


class NetsvcError(Exception):
    """The base class of every exception that netsvc defines. Its text is one line."""


class SettingError(NetsvcError):
    """A setting that cannot be served.

    :param setting: the name of the ``Config`` field, such as ``udp_rate``; the text shows its flag, ``--udp-rate``.
        Empty if the value was given as an argument, without a flag.
    :param value: the value that was given; empty where there is none to show.
    :param problem: what is wrong, without a full stop.
    :param remedy: what to do about it, without a full stop.
    """

    def __init__(self, setting: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(setting, value, problem, remedy)
        self.setting = setting
        self.value = value
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        flag = flag_of(self.setting) if self.setting else ""
        given = " ".join(str(part) for part in (flag, self.value) if part != "")
        return f"{given}: {self.problem}; {self.remedy}"


class ConfigError(SettingError, ValueError):
    """The value has no meaning: no such port, no such endpoint, not a number. Nothing was started."""


class ListenError(SettingError):
    """The system refused to open the port. ``__cause__`` is the reactor's own exception."""


def flag_of(setting: str) -> str:
    """Return the flag of a ``Config`` field, as it is typed: ``--udp-rate`` for ``udp_rate``."""
    return "--" + setting.replace("_", "-")
