"""Counters of a store that does not answer at once: a file, or one on another host."""

from __future__ import annotations

from collections.abc import Callable


class StoreCounters:
    """Counts what happens between the chat and its store.

    :param kind: ``sqlite`` or ``redis``.
    :ivar waiting: returns how many lines have no outcome yet, and for how many seconds the oldest has waited.
    :ivar nodes: returns the ID of this node, and how many nodes are alive; 0 if that is unknown. None without nodes.
    :ivar is_connected: whether the store can be used.
    :ivar connections: how often a connection was made, or the file was opened.
    :ivar appends: lines that the store has answered.
    :ivar append_seconds: how long these answers took, in all.
    :ivar refused: lines that the store has refused.
    :ivar gaps: how often messages were missing.
    :ivar filled: entries that were read because their messages were missing.
    :ivar new_logs: how often a log was begun anew, or was set back.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.waiting: Callable[[], tuple[int, float]] = lambda: (0, 0.0)
        self.nodes: Callable[[], tuple[str, int]] | None = None
        self.is_connected = False
        self.connections = self.appends = self.refused = self.gaps = self.filled = self.new_logs = 0
        self.append_seconds = 0.0

    def summary(self) -> str:
        """Return all counters on one line."""
        waiting, oldest = self.waiting()
        mean = 1_000 * self.append_seconds / self.appends if self.appends else 0.0
        return "; ".join(
            [
                f"store: {'connected' if self.is_connected else 'not connected'}, {self.connections:,} connections",
                f"appends: {self.appends:,}, mean {mean:.1f} ms, {self.refused:,} refused",
                f"waiting: {waiting:,}, the oldest for {oldest:.1f} s",
                f"gaps: {self.gaps:,}, {self.filled:,} entries read; new logs: {self.new_logs:,}",
            ]
        )
