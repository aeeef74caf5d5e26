"""Token buckets per source prefix: how many answers a second an address, and the world, may have.

After chrony's client log (``ratelimit interval 3 burst 8 leak 2``, a table of 4,096 addresses): a source that
asks too often is answered at random, now and then, so that somebody who forges a victim's address cannot
silence the victim's own questions.
"""

from __future__ import annotations

import random
import socket
from collections import OrderedDict
from collections.abc import Callable

#: How many source prefixes are remembered; the one that was silent longest is forgotten first.
TABLE_SIZE = 4096

#: The share of a source's refused questions that is answered all the same.
LEAK = 1 / 16

#: Answers a second for one source, at once after a silence, and a second for all: the defaults.
RATE = 100.0
BURST = 200
TOTAL = 10_000.0

_MAPPED = b"\0" * 10 + b"\xff\xff"


class TokenBucket:
    """Holds at most ``burst`` tokens and gains ``rate`` a second. No rate or no burst: no limit.

    :param tokens: how many it holds at first; by default as many as it can.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float, tokens: float | None = None) -> None:
        self._rate = rate if burst else 0.0
        self._burst = max(1.0, burst)
        self._tokens = self._burst if tokens is None else min(tokens, self._burst)
        self._updated = now

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Take a token at ``now`` (seconds), if there is one. A clock that was set back adds nothing.

        :param cost: how many are taken; those that are not there yet are owed.
        """
        if not self._rate:
            return True
        self._tokens = tokens = _filled(self._tokens, now - self._updated, self._rate, self._burst)
        self._updated = now
        if tokens < 1:
            return False
        self._tokens = tokens - cost
        return True

    def wait(self, now: float) -> float:
        """Return the seconds from ``now`` until there is a token; 0 if there is one."""
        if not self._rate:
            return 0.0
        self._tokens = tokens = _filled(self._tokens, now - self._updated, self._rate, self._burst)
        self._updated = now
        # Rounded up, or the last bit of a token would be waited for again and again.
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate + 1e-6


def _filled(tokens: float, seconds: float, rate: float, burst: float) -> float:
    """Return how many tokens there are so many seconds later."""
    # Once or twice for each datagram and each line: min() and max() would take twice as long as all the rest.
    if seconds > 0:
        tokens += seconds * rate
        return tokens if tokens < burst else burst
    return tokens


class SourceBuckets:
    """A token bucket for each IPv4 address (/32) and each IPv6 network (/64), and one for all together.

    :param rate: answers a second for each source prefix; 0 for no limit.
    :param burst: how many a source that was silent may have at once; 0 for no limit.
    :param total: answers a second for all sources together, with a burst of one second; 0 for no limit.
    :param chance: returns a random number from 0 to 1, for the leak.
    """

    def __init__(
        self,
        rate: float = RATE,
        burst: float = BURST,
        total: float = TOTAL,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._rate = rate if burst else 0.0
        self._burst = max(1.0, burst)
        self._total_rate = total
        self._chance = chance
        self._total: TokenBucket | None = None
        # Tokens, and when there were so many: a pair for each takes half of the time that a TokenBucket would,
        # and a flood of forged sources makes one for each datagram.
        self._sources: OrderedDict[str | bytes, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """How many source prefixes are remembered."""
        return len(self._sources)

    def admits(self, host: str, now: float) -> bool:
        """Whether a question from the address ``host`` at ``now`` (seconds) may be answered."""
        if self._rate and not self._take(source_prefix(host), now) and self._chance() >= LEAK:
            return False
        if self._total is None:
            self._total = TokenBucket(self._total_rate, max(1.0, self._total_rate), now)
        return self._total.take(now)

    def _take(self, prefix: str | bytes, now: float) -> bool:
        """Take a token of one source."""
        sources = self._sources
        known = sources.get(prefix)
        if known is None:
            if len(sources) >= TABLE_SIZE:
                sources.popitem(last=False)
            tokens = self._burst
        else:
            sources.move_to_end(prefix)
            tokens = _filled(known[0], now - known[1], self._rate, self._burst)
        taken = tokens >= 1
        sources[prefix] = (tokens - taken, now)
        return taken


def source_prefix(host: str) -> str | bytes:
    """Return what stands for everybody who can send from ``host``: an IPv4 address, or the first 8 bytes of IPv6.

    An IPv4 address inside IPv6 (``::ffff:192.0.2.1``), as a dual-stack socket reports it, is the IPv4 address.
    """
    if ":" not in host:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return socket.inet_ntop(socket.AF_INET, packed[12:]) if packed.startswith(_MAPPED) else packed[:8]
