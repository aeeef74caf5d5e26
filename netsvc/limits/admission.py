"""Which connections are accepted: from which networks, how many in all and per host, and how many new ones per second.

A host is an IPv4 address or an IPv6 /64, as for datagrams (:mod:`netsvc.limits.token_bucket`).
"""

from __future__ import annotations

import resource
from collections import Counter
from contextlib import suppress

from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.limits.numbers import check_number
from netsvc.limits.token_bucket import SourceBuckets, source_prefix

#: Concurrent connections per host, and new ones per second and host: the defaults.
MAX_PER_HOST = 64
CONNECT_RATE = 20.0

#: TLS handshakes per second of all hosts together: the default. With an ECDSA key they take about a third of a core.
HANDSHAKE_RATE = 500.0

#: A host that was silent may open the connections of this many seconds at once.
BURST_SECONDS = 10

#: Open files that connections leave to everything else.
SPARE_FILES = 64


#: Open files to which :func:`raise_file_limit` raises the limit, if the system allows as many.
FILES_MAX = 65_536


def raise_file_limit() -> None:
    """Raise the soft limit of open files to the hard limit, but to at most 65,536. Never lower it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # some systems allow fewer than their hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def default_max_connections() -> int:
    """Return how many connections the open-file limit of this process allows: the soft limit less 64."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - SPARE_FILES) if soft != resource.RLIM_INFINITY else 1_000_000


class HostCounter:
    """Counts something per host. Hosts whose count is 0 take no memory. A peer without an address is not counted."""

    def __init__(self) -> None:
        self._counts: Counter[str | bytes] = Counter()

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


class ConnectionCounter:
    """Counts open connections, in all and per host. The services of one server share it.

    :param maximum: of all connections; 0 for no limit; None for what the open-file limit allows.
    :param max_per_host: of the connections of one host; 0 for no limit.
    :raises ConfigError: for a number that is negative or not a whole number.
    """

    def __init__(self, maximum: int | None = None, max_per_host: int = MAX_PER_HOST) -> None:
        self._maximum = default_max_connections() if maximum is None else maximum
        check_number("max_connections", self._maximum, whole=True)
        check_number("max_per_host", max_per_host, whole=True)
        self._max_per_host = max_per_host
        self._open = 0
        self._per_host = HostCounter()

    def __len__(self) -> int:
        """Return the number of open connections."""
        return self._open

    def check(self, host: str | None) -> Cause | None:
        """Return why one more connection from ``host`` would be too many; None if it would not."""
        if self._maximum and self._open >= self._maximum:
            return Cause.SERVER_FULL
        if 0 < self._max_per_host <= self._per_host.count(host):
            return Cause.TOO_MANY_PER_HOST
        return None

    def connection_opened(self, host: str | None) -> None:
        """Count a connection."""
        self._open += 1
        self._per_host.add(host, 1)

    def connection_closed(self, host: str | None) -> None:
        """Stop counting a connection that was counted."""
        self._open -= 1
        self._per_host.add(host, -1)


class Admission:
    """Decides which connections one service accepts.

    :param connections: the counter of open connections.
    :param networks: the networks from which the service may be reached.
    :param connect_rate: new connections per second and host, ten seconds' worth of them at once; 0 for no limit.
    :raises ConfigError: for a rate that is negative or not a number.
    """

    def __init__(
        self,
        connections: ConnectionCounter | None = None,
        networks: NetworkRules | None = None,
        connect_rate: float = CONNECT_RATE,
    ) -> None:
        self.connections = ConnectionCounter() if connections is None else connections
        self._networks = NetworkRules() if networks is None else networks
        check_number("connect_rate", connect_rate, whole=False)
        # No total and no random leak: unlike that of a datagram, the address of a connection cannot be forged.
        self._rate = SourceBuckets(connect_rate, connect_rate * BURST_SECONDS, 0, lambda: 1.0)

    @classmethod
    def unlimited(cls) -> Admission:
        """Return an admission that accepts every connection."""
        return cls(ConnectionCounter(0, 0), connect_rate=0)

    def check(self, host: str | None, now: float) -> Cause | None:
        """Return why a connection from ``host`` is refused at ``now`` (seconds); None if it is accepted.

        :param host: an IP address; None for a peer without one (a UNIX socket), for which only the total counts.
        """
        if host is not None and not self._networks.allows(host):
            return Cause.NOT_ALLOWED
        cause = self.connections.check(host)
        if cause is None and host is not None and not self._rate.admits(host, now):
            return Cause.CONNECT_RATE
        return cause
