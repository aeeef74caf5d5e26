"""One direction between two hosts: what it is like, and what becomes of a packet on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace
from math import inf, isnan
from random import Random
from typing import Any

from netsvc.testing.cuts import Policy, lumps

#: Bytes of headers before the payload of a datagram, and before that of a stream's segment (IPv4).
DATAGRAM_HEADERS = 28
SEGMENT_HEADERS = 40

#: Payload bytes of a segment on a link without a bandwidth; what hosts hand to their network cards at once.
SEGMENT_MAX = 65_536

#: Bytes of a packet on a link with a bandwidth, if its MTU is not less; or one segment would keep others waiting.
ETHERNET = 1_500

#: The least by which a datagram is held back that others overtake, in seconds.
HELD_BACK = 0.001


class LinkError(ValueError):
    """No link is like that."""


@dataclass(frozen=True)
class Conditions:
    """What a link is like. As it stands, it is perfect.

    ``loss``, ``duplication`` and ``reordering`` are shares between 0 and 1 of the datagrams. A lost segment of a stream
    is sent again, as TCP does, so that there loss is delay.

    :param latency: seconds that a packet is under way.
    :param jitter: seconds that may be added to it, evenly distributed. Datagrams may overtake each other for it.
    :param bandwidth: bits a second. Packets wait their turn, in a queue without bound.
    :param loss: the share that is lost.
    :param burst: how many are lost in a row, on average (the Gilbert model); 1 for each on its own.
    :param duplication: the share that arrives twice.
    :param reordering: the share that is held back for another latency and jitter, so that others overtake it.
    :param mtu: bytes of the longest packet, headers included. Sending a longer datagram is an error.
    :param cuts: where streams are cut; see :mod:`netsvc.testing.cuts`.
    :param up: False for a partition: whatever is sent is lost.
    """

    latency: float = 0.0
    jitter: float = 0.0
    bandwidth: float = inf
    loss: float = 0.0
    burst: float = 1.0
    duplication: float = 0.0
    reordering: float = 0.0
    mtu: int = 65_575  # the longest that UDP allows: over IPv6
    cuts: Policy = lumps
    up: bool = True

    def __post_init__(self) -> None:
        for name in ("latency", "jitter"):
            value = getattr(self, name)
            if not _number(value) or not 0 <= value < inf:
                raise LinkError(f"{name} is in seconds, and 0 or more: {value!r}")
        for name in ("loss", "duplication", "reordering"):
            value = getattr(self, name)
            if not _number(value) or not 0 <= value <= 1:
                raise LinkError(f"{name} is a share between 0 and 1: {value!r}")
        if not _number(self.bandwidth) or not self.bandwidth > 0:
            raise LinkError(f"bandwidth is in bits a second, and more than 0: {self.bandwidth!r}")
        if not _number(self.burst) or not 1 <= self.burst < inf:
            raise LinkError(f"burst is a mean number of datagrams in a row, and 1 or more: {self.burst!r}")
        if self.burst > 1 and self.loss / (self.burst * (1 - self.loss) or 1) > 1:
            raise LinkError(f"a loss of {self.loss} does not come in bursts of {self.burst}: they would touch")
        if not isinstance(self.mtu, int) or self.mtu < 68:  # RFC 791
            raise LinkError(f"mtu is in bytes, and 68 or more: {self.mtu!r}")
        if not isinstance(self.up, bool):
            raise LinkError(f"up is True or False: {self.up!r}")
        if not callable(self.cuts):
            raise LinkError(f"cuts is a policy such as netsvc.testing.cuts.anywhere: {self.cuts!r}")

    def but(self, **changes: Any) -> Conditions:
        """Return these conditions, changed.

        :raises LinkError: for a condition that there is not, or a value that it cannot have.
        """
        known = [field.name for field in fields(self)]
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise LinkError(f"no condition of a link is called {unknown[0]!r}; there are {', '.join(known)}")
        return replace(self, **changes)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not isnan(value)


class Link:
    """One direction between two hosts.

    :param seed: whatever makes its chances its own.
    :ivar counts: what became of the datagrams: ``carried``, ``lost``, ``doubled``, ``late``.
    """

    def __init__(self, seed: str, conditions: Conditions) -> None:
        self.conditions = conditions
        self.counts: Counter[str] = Counter()
        self._seed = seed
        self._random: Random | None = None
        self._free_at = 0.0  # when what was sent before has left
        self._losing = False  # in the middle of a burst

    @property
    def random(self) -> Random:
        """Its chances, which no other link's traffic touches."""
        if self._random is None:
            self._random = Random(self._seed)
        return self._random

    @property
    def segment_max(self) -> int:
        """Payload bytes of a segment."""
        now = self.conditions
        return SEGMENT_MAX if now.bandwidth == inf else min(now.mtu, ETHERNET) - SEGMENT_HEADERS

    def segment(self, now: float, length: int) -> float | None:
        """Send a segment of a stream. Returns when it arrives, or None if it does not."""
        conditions = self.conditions
        if not conditions.up or (conditions.loss and self._loses()):
            return None
        return self._arrival(now, length + SEGMENT_HEADERS)

    def datagram(self, now: float, length: int) -> tuple[list[float], str]:
        """Send a datagram. Returns when it arrives, which is not at all, once or twice, and what became of it."""
        conditions = self.conditions
        if not conditions.up or (conditions.loss and self._loses()):
            self.counts["lost"] += 1
            return [], "lost"
        self.counts["carried"] += 1
        arrivals = [self._arrival(now, length + DATAGRAM_HEADERS)]
        fate = ""
        if conditions.reordering and self.random.random() < conditions.reordering:
            self.counts["late"] += 1
            fate = "late"
            arrivals[0] += max(HELD_BACK, conditions.latency + conditions.jitter)
        if conditions.duplication and self.random.random() < conditions.duplication:
            self.counts["doubled"] += 1
            fate = "doubled" if not fate else "late and doubled"
            arrivals.append(self._arrival(now, length + DATAGRAM_HEADERS))
        return arrivals, fate

    def _arrival(self, now: float, length: int) -> float:
        conditions = self.conditions
        leaves = now
        if conditions.bandwidth != inf:
            leaves = self._free_at = max(now, self._free_at) + length * 8 / conditions.bandwidth
        if conditions.jitter:
            leaves += conditions.jitter * self.random.random()
        return leaves + conditions.latency

    def _loses(self) -> bool:
        loss, burst = self.conditions.loss, self.conditions.burst
        if burst == 1 or loss == 1:
            return self.random.random() < loss
        # Gilbert's two states; within a burst each is lost. The share of time in bursts comes to ``loss``.
        if self._losing:
            self._losing = self.random.random() >= 1 / burst
        else:
            self._losing = self.random.random() < loss / (burst * (1 - loss))
        return self._losing
