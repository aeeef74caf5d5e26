"""The settings of ``netsvc serve``: their options, and the file that may have them as well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import click
from click.shell_completion import CompletionItem

from netsvc.errors import SettingError, flag_of
from netsvc.server.config import DEFAULTS, SETTINGS, Config, Setting
from netsvc.server.config_file import ConfigFileError, read_config_file
from netsvc.server.flags import is_list, parse_flag


@dataclass(frozen=True)
class Settings:
    """The settings of a server, and where they come from.

    :param given: those of the command line.
    :param read: those of the file.
    :param path: the file; None without one.
    :param reactor: the reactor that the file names.
    """

    given: Mapping[str, Any]
    read: Mapping[str, Any]
    path: str | None = None
    reactor: str | None = None

    def config(self) -> Config:
        """Return the configuration. What the command line says replaces what the file says.

        :raises UsageError: if it is wrong.
        """
        try:
            return Config(**{**self.read, **self.given})
        except SettingError as e:
            raise self.usage_error(e) from None

    def usage_error(self, error: SettingError) -> click.UsageError:
        """Return the error with the name of the file, if the wrong value is there."""
        if self.path is not None and error.setting in self.read and error.setting not in self.given:
            return click.UsageError(f"{self.path}: {str(error).removeprefix('--')}")
        return click.UsageError(str(error))


def read_settings(values: Mapping[str, Any], path: str | None) -> Settings:
    """Return the settings of the command line and of a file.

    :param values: the values of the options.
    :param path: the file; None without one.
    :raises UsageError: for a text that is not a number where one is needed, and for a file that cannot be used.
    """
    try:
        given = dict(_given(values))
        read = {} if path is None else read_config_file(path, ("reactor",))
    except (SettingError, ConfigFileError) as e:
        raise click.UsageError(str(e)) from None
    reactor = read.pop("reactor", None)
    return Settings(given, read, path, reactor)


def _given(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the settings that are on the command line."""
    for name, value in values.items():
        if value not in (None, (), False):
            yield name, parse_flag(name, value) if isinstance(value, str) else value


class GroupedCommand(click.Command):
    """Shows its options in the groups of the settings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for group, parameters in groupby(self._sorted(ctx), key=_group):
            with formatter.section(group):
                formatter.write_dl([row for one in parameters if (row := one.get_help_record(ctx)) is not None])

    def _sorted(self, ctx: click.Context) -> list[click.Parameter]:
        parameters = self.get_params(ctx)
        groups = list(dict.fromkeys(map(_group, parameters)))
        return sorted(parameters, key=lambda one: groups.index(_group(one)))


def _group(parameter: click.Parameter) -> str:
    setting = SETTINGS.get(parameter.name or "")
    return "Options" if setting is None else setting.group


def setting_options() -> Iterator[click.Option]:
    """Give the option of each setting."""
    for name, setting in SETTINGS.items():
        yield _option(name, setting)


def _option(name: str, setting: Setting) -> click.Option:
    """Return the option of a setting. ``Config`` has the defaults."""
    if setting.kind == "switch":
        return click.Option([flag_of(name)], is_flag=True, help=setting.meaning)
    default = setting.default_text or (f"{DEFAULTS[name]:g}" if isinstance(DEFAULTS[name], float) else DEFAULTS[name])
    return click.Option(
        [flag_of(name)],
        type=click.Path() if setting.metavar == "FILE" else None,
        multiple=is_list(name),
        metavar=setting.metavar,
        help=f"{setting.meaning}{' May be repeated.' if is_list(name) else ''} [default: {default}]",
        shell_complete=_completing(setting.choices) if setting.choices else None,
    )


def _completing(choices: tuple[str, ...]) -> Any:
    def complete(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
        return [CompletionItem(choice) for choice in choices if choice.startswith(typed)]

    return complete
