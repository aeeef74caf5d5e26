"""The time as four octets (RFC 868)."""

from __future__ import annotations

import math

#: Seconds from 1900-01-01 to 1970-01-01, UTC: 70 years with 17 leap days.
SECONDS_FROM_1900_TO_1970 = 2_208_988_800


def time_octets(now: float) -> bytes:
    """Return the seconds since 1900-01-01 00:00 UTC, modulo 2^32, as four octets with the highest first.

    The number starts again from 0 at 2036-02-07 06:28:16 UTC. RFC 868 does not say so; NTP has the same number and the
    same rule for it (RFC 4330, section 3). A client tells the era by the highest bit: if it is set, the time is in the
    years 1968 to 2036, and otherwise it is in the years 2036 to 2104.

    :param now: the seconds since 1970-01-01, as ``time.time`` returns them.
    """
    return ((math.floor(now) + SECONDS_FROM_1900_TO_1970) % 2**32).to_bytes(4, "big")
