"""Token buckets: how many events per second one source, and all sources together, may cause.

The buckets per source follow chrony's client log (``ratelimit interval 3 burst 8 leak 2``, a table of 4,096 addresses).
A source above its limit still gets a few answers, chosen at random. An attacker who forges a victim's address can
therefore not silence the victim's own requests.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable

from netsvc.limits.numbers import check_number
from netsvc.limits.prefixes import Prefix, source_prefix
from netsvc.limits.seen_sources import SeenSources

#: How many source prefixes are kept. The least recently used one is removed first.
TABLE_SIZE = 4096

#: The share of the requests above a source's limit that is answered all the same.
LEAK = 1 / 16

#: The share of the answers for all sources that is reserved for sources that were seen shortly before.
RESERVED = 1 / 4

#: Answers per second for one source, its burst, and answers per second for all sources: the defaults.
RATE = 100.0
BURST = 200
TOTAL = 10_000.0


class TokenBucket:
    """Holds at most ``burst`` tokens and gains ``rate`` per second. A rate or burst of 0 means no limit.

    :param now: the time in seconds.
    :param tokens: the number at the start; by default ``burst``.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float, tokens: float | None = None) -> None:
        self._rate = rate if burst else 0.0
        self._burst = max(1.0, burst)
        self._tokens = self._burst if tokens is None else min(tokens, self._burst)
        self._updated = now

    def take(self, now: float, cost: float = 1.0) -> bool:
        """Take tokens at ``now`` (seconds) and return True; return False if there is not a whole one.

        A clock that was set back adds no tokens.

        :param cost: how many tokens to take. The bucket may go below 0; it then refuses until it has filled up.
        """
        if not self._rate:
            return True
        if now != self._updated:  # else all datagrams of a batch would pay for the call
            self._fill(now)
        if self._tokens < 1:
            return False
        self._tokens -= cost
        return True

    def charge(self, now: float, cost: float) -> None:
        """Take tokens, whether or not there are enough. The bucket may go below 0."""
        if self._rate:
            self._fill(now)
            self._tokens -= cost

    def spend(self, now: float, cost: float) -> None:
        """Take tokens, whether or not there are enough. The bucket goes no further below 0 than one second fills."""
        if self._rate:
            self._fill(now)
            self._tokens = max(self._tokens - cost, -self._rate)

    def _fill(self, now: float) -> None:
        if now > self._updated:
            tokens = self._tokens + (now - self._updated) * self._rate
            self._tokens = tokens if tokens < self._burst else self._burst  # min() would take twice as long as the rest
        self._updated = now

    def wait(self, now: float) -> float:
        """Return the seconds from ``now`` until there is a whole token; 0 if there is one."""
        if not self._rate:
            return 0.0
        self._fill(now)
        tokens = self._tokens
        # Rounded up, so that one wait is enough.
        return 0.0 if tokens >= 1 else (1 - tokens) / self._rate + 1e-6


class BucketTable:
    """A token bucket for each key, with a bound on the number of keys. The least recently used one is dropped.

    Of keys that were last used at the same ``now``, the one that was used first then is dropped first.

    :param rate: tokens per second for each key; 0 for no limit.
    :param burst: the most tokens of a key; 0 for no limit.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate if burst else 0.0
        self._burst = max(1.0, burst)
        # [tokens, time of that count] for each key, with the least recently used key first. A list takes half the time
        # of a TokenBucket, and a flood of forged sources creates one for each datagram.
        self._buckets: OrderedDict[Prefix, list[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of keys that are kept."""
        return len(self._buckets)

    def take(self, key: Prefix, now: float, cost: float = 1.0) -> bool:
        """Take tokens of one key at ``now`` (seconds). Return False if it has not a whole one.

        :param cost: how many tokens to take. The count may go below 0; it then refuses until it has filled up.
        """
        if not self._rate:
            return True
        buckets = self._buckets
        bucket = buckets.get(key)
        if bucket is None:
            if len(buckets) >= TABLE_SIZE:
                buckets.popitem(last=False)
            bucket = buckets[key] = [self._burst, now]
        elif now != bucket[1]:
            buckets.move_to_end(key)
            if now > bucket[1]:
                tokens = bucket[0] + (now - bucket[1]) * self._rate
                bucket[0] = tokens if tokens < self._burst else self._burst
            bucket[1] = now
        if bucket[0] < 1:
            return False
        bucket[0] -= cost
        return True


class SourceBuckets:
    """A token bucket for each IPv4 address (/32) and each IPv6 network (/64), and one for all sources together.

    A quarter of the total is reserved for sources that were seen shortly before. Forged sources are mostly new. So when
    they use up the total, a client that asks again is answered.

    :param rate: answers per second for each source prefix; 0 for no limit.
    :param burst: answers that a source may have at once after a pause; 0 for no limit.
    :param total: answers per second for all sources together, with a burst of one second; 0 for no limit. Below 4,
        nothing is reserved.
    :param chance: returns a random number from 0 to 1. It selects the requests above the limit that are answered.
    :raises ConfigError: for a number that is negative or not finite.
    """

    def __init__(
        self,
        rate: float = RATE,
        burst: float = BURST,
        total: float = TOTAL,
        chance: Callable[[], float] = random.random,
    ) -> None:
        for name, number in (("udp_rate", rate), ("udp_burst", burst), ("udp_total", total)):
            check_number(name, number, whole=False)
        self._sources = BucketTable(rate, burst)
        self._total = total
        self._chance = chance
        self._reserved = total * RESERVED if total * RESERVED >= 1 else 0.0
        self._for_all: TokenBucket | None = None
        self._for_seen: TokenBucket | None = None
        self._seen = SeenSources()

    def __len__(self) -> int:
        """Return the number of source prefixes that are kept."""
        return len(self._sources)

    def admits(self, host: str, now: float) -> bool:
        """Whether a request from the IP address ``host`` at ``now`` (seconds) may be answered."""
        prefix = source_prefix(host)
        if not self._sources.take(prefix, now) and self._chance() >= LEAK:
            return False
        for_all = self._for_all
        if for_all is None:
            general = self._total - self._reserved
            for_all = self._for_all = TokenBucket(general, max(1.0, general), now)
            self._for_seen = TokenBucket(self._reserved, self._reserved, now)
        if for_all.take(now):
            return True
        # Sources are remembered only when the rest is used up. Each takes 0.3 us.
        for_seen = self._for_seen
        return for_seen is not None and self._reserved > 0 and self._seen.add(prefix, now) and for_seen.take(now)
