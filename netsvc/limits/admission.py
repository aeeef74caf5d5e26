"""Which connections one service accepts: from which networks, how many at once, and how many new ones per second."""

from __future__ import annotations

from netsvc.limits.cause import Cause
from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.limits.networks import NetworkRules
from netsvc.limits.numbers import check_number
from netsvc.limits.prefixes import prefixes
from netsvc.limits.token_bucket import BucketTable

#: New connections per second and host: the default.
CONNECT_RATE = 20.0

#: TLS handshakes per second of all hosts together: the default. With an ECDSA key they take about a third of a core.
HANDSHAKE_RATE = 500.0

#: A host that was silent may open the connections of this many seconds at once.
BURST_SECONDS = 10

#: Further requests of one host at once, at least. A page has a dozen files.
REQUEST_BURST_MIN = 50

#: The rate of a network is this many times that of a host; the rate of an IPv6 /56 is half of that.
NETWORK_FACTOR = 4


class Admission:
    """Decides which connections one service accepts.

    :param connections: the counter of open connections.
    :param networks: the networks from which the service may be reached.
    :param connect_rate: new connections per second and host, ten seconds' worth of them at once; 0 for no limit. A
        network may have four times as many, and an IPv6 /56 twice as many.
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
        burst = connect_rate * BURST_SECONDS
        self._connections_of = _Rates(connect_rate, burst)
        self._requests_of = _Rates(connect_rate, max(burst, REQUEST_BURST_MIN))

    @classmethod
    def unlimited(cls) -> Admission:
        """Return an admission that accepts every connection."""
        return cls(ConnectionCounter(0, 0, 0), connect_rate=0)

    def check(self, host: str | None, now: float, service: str = "") -> Cause | None:
        """Return why a connection from ``host`` is refused at ``now`` (seconds); None if it is accepted.

        If the server is full, this may displace another connection (:class:`ConnectionCounter`).

        :param host: an IP address; None for a peer without one (a UNIX socket), for which only the total counts.
        :param service: the name of the service.
        """
        if host is not None and not self._networks.allows(host):
            return Cause.NOT_ALLOWED
        cause = self.connections.check(host)
        if cause is not None:
            return cause
        if not self._connections_of.take(host, now):
            return Cause.CONNECT_RATE
        return None if self.connections.make_room(host, service) else Cause.SERVER_FULL

    def check_request(self, host: str | None, now: float, cost: float = 1.0) -> bool:
        """Count a further request on a connection. Return whether the rate allows it at ``now`` (seconds).

        A host may send as many per second as it may open connections.

        :param host: an IP address; None for a peer without one, which has no rate.
        :param cost: how many requests it counts as.
        """
        return self._requests_of.take(host, now, cost)


class _Rates:
    """The rates of hosts and networks.

    :param rate: events per second of one host; 0 for no limit.
    :param burst: events of one host at once.
    """

    def __init__(self, rate: float, burst: float) -> None:
        host, of_56, network = (
            BucketTable(factor * rate, factor * burst) for factor in (1, NETWORK_FACTOR / 2, NETWORK_FACTOR)
        )
        self._tables = {2: (host, network), 3: (host, of_56, network)}  # by the number of prefixes

    def take(self, host: str | None, now: float, cost: float = 1.0) -> bool:
        """Count an event of a host, or several. Return whether its rates allow it."""
        if host is None:
            return True
        of_host = prefixes(host)
        return all(
            table.take(prefix, now, cost) for table, prefix in zip(self._tables[len(of_host)], of_host, strict=True)
        )
