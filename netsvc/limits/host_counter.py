"""Counts something per host."""

from __future__ import annotations

from collections import Counter

from netsvc.limits.prefixes import Prefix, source_prefix


class HostCounter:
    """Counts something per host. Hosts whose count is 0 take no memory. A peer without an address is not counted."""

    def __init__(self) -> None:
        self._counts: Counter[Prefix] = Counter()

    def count(self, host: str | None) -> int:
        """Return the count of ``host``."""
        return 0 if host is None else self._counts[source_prefix(host)]

    def add(self, host: str | None, number: int) -> None:
        """Add ``number``, which may be negative, to the count of ``host``."""
        if host is not None:
            prefix = source_prefix(host)
            self._counts[prefix] += number
            if not self._counts[prefix]:
                del self._counts[prefix]
