"""The check of a number that is a limit."""

from __future__ import annotations

import math

from netsvc.errors import ConfigError


def check_number(setting: str, value: object, *, whole: bool) -> None:
    """Check that a limit is a number from 0.

    :raises ConfigError: if it is not.
    """
    wanted = "a whole number" if whole else "a number"
    remedy = f"give {wanted} from 0, which means no limit"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ConfigError(setting, value, f"not {wanted}", remedy)
    if not math.isfinite(value) or value < 0:
        raise ConfigError(setting, value, "out of range", remedy)
