"""Which sources sent something in the last seconds, in bounded memory, however many there are."""

from __future__ import annotations

from netsvc.limits.prefixes import Prefix

#: Bits of one generation. A flood of 20,000 forged sources per second sets 5 % of them in ten seconds.
BITS = 1 << 22

#: Seconds after which a generation ends. A source is remembered for one to two of them.
GENERATION = 10.0


class SeenSources:
    """Remembers sources for 10 to 20 seconds.

    It is a Bloom filter with one hash function and two generations (B. Bloom, "Space/time trade-offs in hash coding
    with allowable errors", 1970). A source that it has not seen may be taken for one that it has: at 20,000 new sources
    per second in 10 % of cases. Python's hash of texts and bytes has a secret of the process, so no peer can choose
    sources that collide. It takes 1 MiB, from the first source on.
    """

    def __init__(self) -> None:
        self._bits = bytearray()
        self._before = bytearray()
        self._ends = 0.0

    def add(self, source: Prefix, now: float) -> bool:
        """Remember a source at ``now`` (seconds). Return whether it was remembered already."""
        if now >= self._ends or not self._bits:
            self._begin_generation(now)
        number = hash(source) & (BITS - 1)
        index, mask = number >> 3, 1 << (number & 7)
        known = bool((self._bits[index] | self._before[index]) & mask)
        self._bits[index] |= mask
        return known

    def _begin_generation(self, now: float) -> None:
        recent = now < self._ends + GENERATION
        self._before = self._bits if recent and self._bits else bytearray(BITS // 8)
        self._bits = bytearray(BITS // 8)
        self._ends = now + GENERATION
