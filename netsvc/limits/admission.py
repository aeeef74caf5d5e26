"""Who may connect: from which networks, how many in all and from one host, and how often a host may come.

A host is an IPv4 address or an IPv6 /64, as for datagrams (:mod:`netsvc.limits.token_bucket`).
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from netsvc.limits.networks import Networks
from netsvc.limits.token_bucket import SourceBuckets, source_prefix

Refusal = Literal["not allowed", "server full", "too many connections from one host", "connects too often"]

#: Connections of one host at a time, and new ones a second: the defaults.
MAX_PER_HOST = 64
CONNECT_RATE = 20.0

#: How many seconds' worth of connections a host that was silent may make at once.
BURST_SECONDS = 10


class HostCounter:
    """Counts something of each host, in memory only for those that have any. A peer without an address is no host."""

    def __init__(self) -> None:
        self._numbers: Counter[str | bytes] = Counter()

    def of(self, host: str | None) -> int:
        """Return how many ``host`` has."""
        return 0 if host is None else self._numbers[source_prefix(host)]

    def add(self, host: str | None, number: int) -> None:
        """Count so many more, or less."""
        if host is not None:
            prefix = source_prefix(host)
            self._numbers[prefix] += number
            if not self._numbers[prefix]:
                del self._numbers[prefix]


class Connections:
    """Counts connections, in all and of each host. Services share one.

    :param most: at a time, from everybody; 0 for no limit.
    :param most_of_a_host: at a time, from one host; 0 for no limit.
    """

    def __init__(self, most: int = 0, most_of_a_host: int = MAX_PER_HOST) -> None:
        self._most = most
        self._most_of_a_host = most_of_a_host
        self._number = 0
        self._of_host = HostCounter()

    def __len__(self) -> int:
        """How many connections there are."""
        return self._number

    def refusal(self, host: str | None) -> Refusal | None:
        """Say why there are too many for one more from ``host``; None if there are not."""
        if self._most and self._number >= self._most:
            return "server full"
        if 0 < self._most_of_a_host <= self._of_host.of(host):
            return "too many connections from one host"
        return None

    def enter(self, host: str | None) -> None:
        """Count a connection."""
        self._number += 1
        self._of_host.add(host, 1)

    def leave(self, host: str | None) -> None:
        """Forget a connection that was counted."""
        self._number -= 1
        self._of_host.add(host, -1)


class Admission:
    """Says who may connect to one service.

    :param connections: all that there are.
    :param networks: from where the service may be reached.
    :param connect_rate: connections a second of one host, ten seconds' worth of them at once; 0 for no limit.
    """

    def __init__(
        self,
        connections: Connections | None = None,
        networks: Networks | None = None,
        connect_rate: float = CONNECT_RATE,
    ) -> None:
        self.connections = Connections() if connections is None else connections
        self._networks = Networks() if networks is None else networks
        # No total, and no answer at random: unlike a datagram's, the address of a connection cannot be forged.
        self._rate = SourceBuckets(connect_rate, connect_rate * BURST_SECONDS, 0, lambda: 1.0)

    def refusal(self, host: str | None, now: float) -> Refusal | None:
        """Say why there shall be no connection from ``host`` at ``now`` (seconds); None if there may be one.

        :param host: an IP address; None for a peer without one (a UNIX socket), of which only the total counts.
        """
        if host is not None and not self._networks.allows(host):
            return "not allowed"
        refusal = self.connections.refusal(host)
        if refusal is None and host is not None and not self._rate.admits(host, now):
            return "connects too often"
        return refusal
