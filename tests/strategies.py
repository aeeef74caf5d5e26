"""What several tests draw: pieces of a stream."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """Return ``stream`` in pieces, none of them empty, as a network might deliver it."""
    places = [0, *sorted(min(place, len(stream)) for place in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(places) if b > a]


cuts = st.lists(st.integers(0, 4096), max_size=20)
