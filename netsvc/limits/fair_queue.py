"""A queue that serves its groups fairly, whatever their items cost."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

G = TypeVar("G", bound=Hashable)
T = TypeVar("T")


class FairQueue(Generic[G, T]):
    """Items of several groups, by deficit round robin (Shreedhar and Varghese, 1995).

    Each group may spend the same in each round. So a group with cheap items is served more of them than one with dear
    items, and none waits for all items of another one. The items of one group are served in their order.

    :param quantum: what a group may spend in each round.
    :ivar count: the number of items.
    """

    def __init__(self, quantum: float) -> None:
        self._quantum = quantum
        self._groups: OrderedDict[G, deque[tuple[T, float]]] = OrderedDict()
        self._credit: dict[G, float] = {}
        self.count = 0

    def push(self, group: G, item: T, cost: float) -> None:
        """Add an item at the end of its group."""
        if group not in self._groups:
            self._groups[group] = deque()
            self._credit[group] = 0.0
        self._groups[group].append((item, cost))
        self.count += 1

    def pop(self) -> tuple[T, float]:
        """Remove the item whose turn it is. Return it and its cost.

        :raises IndexError: if the queue is empty.
        """
        if not self.count:
            raise IndexError("the queue is empty")
        while True:
            group, items = next(iter(self._groups.items()))
            item, cost = items[0]
            if self._credit[group] >= cost:
                items.popleft()
                self.count -= 1
                self._credit[group] -= cost
                if not items:
                    del self._groups[group], self._credit[group]
                return item, cost
            self._credit[group] += self._quantum
            self._groups.move_to_end(group)
