"""What netsvc raises when the fault is the user's: which setting, what is wrong with it, what to do."""

from __future__ import annotations


class SettingError(Exception):
    """A setting that cannot be served.

    :param setting: the name of the ``Config`` field; its flag is the same word.
    :param value: what it was given; empty where that goes without saying.
    :param problem: what is wrong, without an end mark.
    :param remedy: what to do about it, without an end mark.
    """

    def __init__(self, setting: str, value: object, problem: str, remedy: str) -> None:
        super().__init__(setting, value, problem, remedy)
        self.setting = setting
        self.value = value
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        given = "" if self.value == "" else f" {self.value}"
        return f"{self.setting.replace('_', '-')}{given}: {self.problem}; {self.remedy}"


class ConfigError(SettingError, ValueError):
    """The setting means nothing: no such port, no such endpoint, not a number. Nothing was started."""


class ListenError(SettingError):
    """The system refused to listen there. Its ``__cause__`` is the reactor's own error."""
