"""The daytime line: ``Sat Nov 21 00:33:33 2026``."""

from __future__ import annotations

import time


def daytime_line(now: float) -> bytes:
    """Return the local time at ``now`` (seconds since the epoch) as one line that ends with CR LF.

    RFC 867 leaves the format open and recommends ASCII text on one line. This is C's ``ctime``, as in netsvc's
    timestamps.
    """
    return time.ctime(now).encode("ascii") + b"\r\n"
