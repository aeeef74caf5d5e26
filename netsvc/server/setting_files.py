"""Small text files that a setting names, such as one with keys or a password."""

from __future__ import annotations

from pathlib import Path

from netsvc.errors import ConfigError
from netsvc.net.error_words import failure_words


def read_setting_file(setting: str, path: str, encoding: str, content: str) -> str:
    """Return the text of a file.

    :param setting: the setting that names the file, for the error.
    :param encoding: of the file, as a user knows it: ``ASCII``, ``UTF-8``.
    :param content: what the user should write into it, for the error.
    :raises ConfigError: if the file cannot be read or has another encoding.
    """
    try:
        return Path(path).read_text(encoding)
    except OSError as e:
        raise ConfigError(setting, path, failure_words(e), "name a file that can be read") from None
    except UnicodeDecodeError:
        raise ConfigError(setting, path, f"the file is not {encoding}", f"write {content}") from None
