"""The configuration file of ``netsvc serve``: TOML, whose keys are the flags."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from netsvc.errors import NetsvcError
from netsvc.net.error_words import failure_words
from netsvc.server.config import SETTINGS, Setting

#: Bytes of the longest file that is read.
FILE_MAX = 1024 * 1024

#: A value that a setting of each kind may have.
_EXAMPLES = {
    "listen": '["1314"]',
    "networks": '["192.0.2.0/24"]',
    "names": '["monitor.example.org"]',
    "number": "2.5",
    "whole number": "100",
    "switch": "true",
}

_WANTED = {
    "listen": "a list of strings",
    "networks": "a list of strings",
    "names": "a list of strings",
    "number": "a number",
    "whole number": "a whole number",
    "switch": "neither true nor false",
    "text": "a string",
}


class ConfigFileError(NetsvcError):
    """The file cannot be used. The text is ``PATH: KEY: problem; remedy``."""


def read_config_file(path: str, others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings in a file, by the names of their ``Config`` fields.

    The file may be a pipe. Whether the values fit each other is checked by ``Config``.

    :param others: keys of texts that are not settings.
    :raises ConfigFileError: if it cannot be read, is not TOML, or has a wrong key or a value of a wrong type.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(FILE_MAX + 1)
    except OSError as e:
        problem = failure_words(e)
        raise ConfigFileError(f"{path}: {problem}; name a TOML file that you may read") from None
    if len(content) > FILE_MAX:
        raise ConfigFileError(f"{path}: longer than 1 MiB; name a TOML file")
    try:
        return parse_config(content.decode("utf-8"), others)
    except UnicodeDecodeError as e:
        raise ConfigFileError(f"{path}: not UTF-8 at byte {e.start}; name a TOML file") from None
    except tomllib.TOMLDecodeError as e:
        problem = str(e)[:1].lower() + str(e)[1:]
        raise ConfigFileError(f"{path}: not TOML: {problem}; write lines such as udp-rate = 20") from None
    except ConfigFileError as e:
        raise ConfigFileError(f"{path}: {e}") from None


def parse_config(text: str, others: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings in a text.

    :param others: as in :func:`read_config_file`.
    :raises ConfigFileError: for a wrong key, and for a value of a wrong type.
    :raises tomllib.TOMLDecodeError: for a text that is not TOML.
    """
    found: dict[str, Any] = {}
    for key, value in tomllib.loads(text).items():
        name = key.replace("-", "_")
        if isinstance(value, Mapping):
            raise ConfigFileError(f"{key}: a table; write lines such as udp-rate = 20, without tables")
        if name in found:
            raise ConfigFileError(f"{key}: written twice, with - and with _; remove one of them")
        if name in SETTINGS:
            _check(key, value, SETTINGS[name])
        elif name not in others:
            raise ConfigFileError(_unknown(key, (*SETTINGS, *others)))
        elif not isinstance(value, str):
            raise ConfigFileError(f'{key}: {_shown(value)} is not a string; write {key} = "{value}"')
        found[name] = value
    return found


def _unknown(key: str, names: tuple[str, ...]) -> str:
    keys = [name.replace("_", "-") for name in names]
    similar = get_close_matches(key.lstrip("-").replace("_", "-"), keys, 1)
    remedy = f"write {similar[0]}" if similar else "netsvc serve --help lists the flags, which are the keys"
    return f"{key}: there is no such key; {remedy}"


def _check(key: str, value: Any, setting: Setting) -> None:
    match setting.kind:
        case "listen" | "networks" | "names":
            fits = isinstance(value, list) and all(isinstance(text, str) for text in value)
        case "number":
            fits = isinstance(value, int | float) and not isinstance(value, bool)
        case "whole number":
            fits = isinstance(value, int) and not isinstance(value, bool)
        case "switch":
            fits = isinstance(value, bool)
        case "text":
            fits = isinstance(value, str)
    if not fits:
        wanted = _WANTED[setting.kind]
        verdict = wanted if setting.kind == "switch" else f"not {wanted}"
        raise ConfigFileError(f"{key}: {_shown(value)} is {verdict}; write {key} = {_remedy(value, setting)}")


def _remedy(value: Any, setting: Setting) -> str:
    """Return a value that the setting may have; the given one in the right form if it can be told."""
    is_list = setting.kind in ("listen", "networks", "names")
    if is_list and isinstance(value, str | int) and not isinstance(value, bool):
        return f'["{value}"]'
    if is_list and isinstance(value, list) and value and all(type(one) in (str, int) for one in value):
        return json.dumps([str(one) for one in value], ensure_ascii=False)
    if setting.kind == "text":
        return f'"{value}"' if type(value) in (int, float) else f'"{(setting.choices or ("...",))[0]}"'
    return _EXAMPLES[setting.kind]


def _shown(value: Any) -> str:
    """Return a value as TOML would have it, on one line and not too long."""
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
