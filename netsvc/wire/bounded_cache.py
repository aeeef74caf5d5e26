"""A cache of what a function returns, with a bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(dict[K, V]):
    """Maps each key to what a function returns for it. It is emptied when it is full.

    A hit costs no more than that of a dict.

    :param make: returns the value of a new key.
    :param maximum: the number of keys.
    """

    def __init__(self, make: Callable[[K], V], maximum: int) -> None:
        super().__init__()
        self._make = make
        self._maximum = maximum

    def __missing__(self, key: K) -> V:
        value = self._make(key)
        if len(self) >= self._maximum:
            self.clear()
        self[key] = value
        return value
