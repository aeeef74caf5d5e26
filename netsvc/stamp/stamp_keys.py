"""The keys of authenticated STAMP sessions, by SSID: the text of the file that ``--stamp-keys`` names."""

from __future__ import annotations

from collections.abc import Mapping

from netsvc.errors import ConfigError

#: Octets of the shortest key: those of the HMAC (RFC 8762, section 4.4, and RFC 2104, section 3).
SHORTEST_KEY = 16

#: Instead of an SSID: all that have no line of their own.
OTHERS = "*"

_FORM = "write lines such as `17 HEXKEY` or `* HEXKEY`"


class StampKeys:
    """The keys by SSID.

    :param keys: the keys of single sessions.
    :param others: the key of all other sessions, or None.
    """

    def __init__(self, keys: Mapping[int, bytes], others: bytes | None = None) -> None:
        self._keys = dict(keys)
        self._others = others

    def __repr__(self) -> str:
        """Show no key."""
        return f"StampKeys({len(self._keys)} by SSID{', and one for all others' if self._others else ''})"

    def key_for(self, ssid: int) -> bytes | None:
        """Return the key of a session, or None if it has none."""
        return self._keys.get(ssid, self._others)


def parse_stamp_keys(text: str, setting: str = "", file: str = "") -> StampKeys:
    """Parse the text of a key file.

    Each line is an SSID, 0 to 65535, or ``*`` for all others, and after spaces a key of 16 octets or more in
    hexadecimal. Empty lines, and lines that begin with ``#``, are ignored.

    :param setting: the name of the setting that names the file, for the error.
    :param file: the file, for the error.
    :raises ConfigError: for any other line, a second key for the same SSID, and a text without a key. The error names
        the line and shows nothing of the key.
    """
    keys: dict[int | str, bytes] = {}
    lines: dict[int | str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name = f"{file}, line {number}" if file else f"line {number}"
        if len(words) != 2:
            counted = "1 word" if len(words) == 1 else f"{len(words)} words"
            raise ConfigError(setting, name, f"it has {counted}, not 2", _FORM)
        ssid = _ssid(words[0])
        if ssid is None:
            # The word is not shown: it may be a key whose SSID was forgotten.
            raise ConfigError(
                setting, name, "the first word is no SSID", "begin it with a number up to 65535, or with *"
            )
        if ssid in lines:
            problem, remedy = f"line {lines[ssid]} has a key for the same SSID", "remove one of them"
            raise ConfigError(setting, name, problem, remedy)
        lines[ssid] = number
        keys[ssid] = _key(words[1], setting, name)
    if not keys:
        raise ConfigError(setting, file, "the file contains no key", _FORM)
    others = keys.pop(OTHERS, None)
    return StampKeys({ssid: key for ssid, key in keys.items() if isinstance(ssid, int)}, others)


def _ssid(word: str) -> int | str | None:
    if word == OTHERS:
        return OTHERS
    if not (word.isascii() and word.isdecimal() and len(word) <= 5):
        return None
    ssid = int(word)
    return ssid if ssid <= 0xFFFF else None


def _key(word: str, setting: str, name: str) -> bytes:
    try:
        key = bytes.fromhex(word)
    except ValueError:
        problem = "the key is not hexadecimal"
        raise ConfigError(setting, name, problem, "write two of 0-9 and a-f for each octet") from None
    if len(key) < SHORTEST_KEY:
        problem = f"the key has {len(key)} octets, fewer than {SHORTEST_KEY}"
        raise ConfigError(setting, name, problem, "make one with `openssl rand -hex 32`")
    return key
