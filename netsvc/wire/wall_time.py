"""The time of day as a number of nanoseconds, which a float cannot tell apart: it has a resolution of 240 ns today."""

from __future__ import annotations


def wall_nanoseconds(seconds: float) -> int:
    """Return seconds since the epoch as nanoseconds, as exactly as a float tells them."""
    whole = int(seconds // 1)
    return whole * 1_000_000_000 + round((seconds - whole) * 1e9)
