"""Counts per key, and knows the key with the largest count."""

from __future__ import annotations

from collections.abc import Hashable
from heapq import nlargest
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class RankedCounter(Generic[K]):
    """Counts per key. Each operation but :meth:`top` takes the same time for any number of keys.

    A key whose count is 0 takes no memory.
    """

    def __init__(self) -> None:
        self._counts: dict[K, int] = {}
        self._keys: dict[int, dict[K, None]] = {}  # by count; in the order in which they reached it
        self._largest = 0

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._counts)

    def __contains__(self, key: K) -> bool:
        return key in self._counts

    def __getitem__(self, key: K) -> int:
        """Return the count of ``key``."""
        return self._counts.get(key, 0)

    def increment(self, key: K) -> None:
        """Add 1 to the count of ``key``."""
        self._set(key, self[key] + 1)

    def decrement(self, key: K) -> None:
        """Take 1 from the count of ``key``, which is at least 1."""
        self._set(key, self[key] - 1)

    def largest(self) -> K:
        """Return a key with the largest count.

        :raises KeyError: if there is no key.
        """
        return next(iter(self._keys[self._largest]))

    def top(self, number: int) -> list[tuple[K, int]]:
        """Return the keys with the largest counts, and the counts; the largest first."""
        return nlargest(number, self._counts.items(), key=lambda item: item[1])

    def _set(self, key: K, count: int) -> None:
        before = self._counts.pop(key, 0)
        if before:
            of_before = self._keys[before]
            del of_before[key]
            if not of_before:
                del self._keys[before]
        if count:
            self._counts[key] = count
            self._keys.setdefault(count, {})[key] = None
        # A count changes by 1. So the next count that some key has is that of this one.
        if count > self._largest or (before == self._largest and before not in self._keys):
            self._largest = count
