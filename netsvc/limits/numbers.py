"""The check of a number that is a limit."""

from __future__ import annotations

import math

from netsvc.errors import ConfigError

#: The meaning of 0 for most numbers.
NO_LIMIT = "no limit"


def check_number(setting: str, value: object, *, whole: bool, zero: str = NO_LIMIT) -> None:
    """Check that a limit is a number from 0.

    :param zero: what 0 means, for the error; empty if it means nothing.
    :raises ConfigError: if it is not.
    """
    wanted = "a whole number" if whole else "a number"
    remedy = number_remedy(wanted, zero)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ConfigError(setting, value, f"not {wanted}", remedy)
    if not math.isfinite(value) or value < 0:
        raise ConfigError(setting, value, "out of range", remedy)


def number_remedy(wanted: str, zero: str) -> str:
    """Return the remedy for a limit that is no number from 0.

    :param wanted: the kind of number, with its article.
    :param zero: what 0 means; empty if it means nothing.
    """
    return f"give {wanted} from 0, which means {zero}" if zero else f"give {wanted} above 0"
