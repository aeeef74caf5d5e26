"""Hypothesis strategies that several tests share: places at which a stream is split."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st


def split(stream: bytes, places: list[int]) -> list[bytes]:
    """Split ``stream`` at ``places``, as a network might deliver it. No piece is empty."""
    bounds = [0, *sorted(min(place, len(stream)) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds) if b > a]


split_places = st.lists(st.integers(0, 4096), max_size=20)
