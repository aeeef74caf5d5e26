"""Who may connect: from which networks, how many in all and from one host, and how often a host may come.

A host is an IPv4 address or an IPv6 /64, as for datagrams (:mod:`netsvc.bucket`).
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from netsvc.bucket import SourceBuckets, source_prefix
from netsvc.networks import Networks

Refusal = Literal["not allowed", "server full", "too many connections from one host", "connects too often"]

#: Connections of one host at a time, and new ones a second: the defaults.
MAX_PER_HOST = 64
CONNECT_RATE = 20.0

#: How many seconds' worth of connections a host that was silent may make at once.
BURST_SECONDS = 10


class Admission:
    """Counts connections and says who may make one more.

    :param max_connections: at a time, from everybody; 0 for no limit.
    :param max_per_host: at a time, from one host; 0 for no limit.
    :param connect_rate: a second, from one host, ten seconds' worth of them at once; 0 for no limit.
    """

    def __init__(
        self, max_connections: int = 0, max_per_host: int = MAX_PER_HOST, connect_rate: float = CONNECT_RATE
    ) -> None:
        self._max_connections = max_connections
        self._max_per_host = max_per_host
        # No total, and no answer at random: unlike a datagram's, the address of a connection cannot be forged.
        self._rate = SourceBuckets(connect_rate, connect_rate * BURST_SECONDS, 0, lambda: 1.0)
        self._connections = 0
        self._of_host: Counter[str | bytes] = Counter()

    def __len__(self) -> int:
        """How many connections there are."""
        return self._connections

    def refusal(self, host: str | None, networks: Networks, now: float) -> Refusal | None:
        """Say why there shall be no connection from ``host`` at ``now`` (seconds); None if there may be one.

        :param host: an IP address; None for a peer without one (a UNIX socket), of which only the total counts.
        :param networks: from where the service may be reached.
        """
        if host is not None and not networks.allows(host):
            return "not allowed"
        if self._max_connections and self._connections >= self._max_connections:
            return "server full"
        if host is not None:
            prefix = source_prefix(host)
            if self._max_per_host and self._of_host[prefix] >= self._max_per_host:
                return "too many connections from one host"
            if not self._rate.admits(host, now):
                return "connects too often"
        return None

    def enter(self, host: str | None) -> None:
        """Count a connection."""
        self._connections += 1
        if host is not None:
            self._of_host[source_prefix(host)] += 1

    def leave(self, host: str | None) -> None:
        """Forget a connection that was counted."""
        self._connections -= 1
        if host is not None:
            prefix = source_prefix(host)
            self._of_host[prefix] -= 1
            if not self._of_host[prefix]:
                del self._of_host[prefix]
