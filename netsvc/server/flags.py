"""The settings as flags: what ``twist netsvc`` and ``netsvc serve`` have in common."""

from __future__ import annotations

from netsvc.errors import ConfigError
from netsvc.limits.numbers import number_remedy
from netsvc.server.config import SETTINGS

#: The meaning of WHERE in the help.
WHERE_HELP = (
    "WHERE is a port (1314: all addresses of this host, IPv4 and IPv6), an address and port (127.0.0.1:1314, "
    "[::1]:1314) or a Twisted endpoint description (tcp:..., ssl:..., tls:..., unix:PATH:mode=660, systemd:...; "
    "on UDP, udp:PORT:interface=ADDRESS or systemd:domain=INET6:name=NAME). "
    "Without any of these flags, and without --probe: --tcp 1314 --udp 520."
)


def is_list(name: str) -> bool:
    """Whether the flag of a setting may be repeated."""
    return SETTINGS[name].kind in ("listen", "networks", "names")


def parse_flag(name: str, text: str) -> str | float:
    """Return the value of a setting, as it was typed after its flag.

    :raises ConfigError: for a text that is not a number where one is needed. ``Config`` checks everything else.
    """
    kind = SETTINGS[name].kind
    if kind not in ("number", "whole number"):
        return text
    try:
        return (int if kind == "whole number" else float)(text)
    except ValueError:
        remedy = number_remedy(f"a {kind}", SETTINGS[name].zero)
        raise ConfigError(name, text, f"not a {kind}", remedy) from None
