"""Sums of those who join and leave large rooms. One line for each would cost a delivery to every member."""

from __future__ import annotations


class PresenceSummary:
    """Counts who joined and who left, for each room."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}

    def joined(self, room: str) -> None:
        """Count a member that joined."""
        self._counts.setdefault(room, [0, 0])[0] += 1

    def left(self, room: str) -> None:
        """Count a member that left."""
        self._counts.setdefault(room, [0, 0])[1] += 1

    def clear(self) -> None:
        """Forget all counts."""
        self._counts.clear()

    def take(self) -> dict[str, str]:
        """Return the sum of each room, such as ``12 joined, 9 left``, and begin anew."""
        counts, self._counts = self._counts, {}
        return {room: ", ".join(_parts(*each)) for room, each in counts.items()}


def _parts(joined: int, left: int) -> list[str]:
    return [f"{count:,} {verb}" for count, verb in ((joined, "joined"), (left, "left")) if count]
