"""Which sources cause the most events of one kind, in bounded memory, however many sources there are."""

from __future__ import annotations

from collections import OrderedDict
from heapq import nlargest

from netsvc.limits.prefixes import Prefix, format_prefix, source_prefix

#: Sources that are counted. The one that was counted least recently is removed first.
SOURCES_MAX = 4096


class SourceCounts:
    """Counts the events of each source: an IPv4 address or an IPv6 /64.

    The count of a source begins at 0 again if it was removed meanwhile.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[Prefix, int] = OrderedDict()

    def add(self, host: str) -> None:
        """Count one event of the IP address ``host``."""
        prefix = source_prefix(host)
        counts = self._counts
        count = counts.pop(prefix, 0)
        if len(counts) >= SOURCES_MAX:
            counts.popitem(last=False)
        counts[prefix] = count + 1

    def top(self, number: int) -> list[tuple[str, int]]:
        """Return the sources with the most events, and how many; the largest first."""
        largest = nlargest(number, self._counts.items(), key=lambda item: item[1])
        return [(format_prefix(prefix), count) for prefix, count in largest]
