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
        host, of_56, network = (
            BucketTable(factor * connect_rate, factor * connect_rate * BURST_SECONDS)
            for factor in (1, NETWORK_FACTOR / 2, NETWORK_FACTOR)
        )
        self._rates = {2: (host, network), 3: (host, of_56, network)}  # by the number of prefixes

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
        if not self.check_rate(host, now):
            return Cause.CONNECT_RATE
        return None if self.connections.make_room(host, service) else Cause.SERVER_FULL

    def check_rate(self, host: str | None, now: float) -> bool:
        """Count a connection, or what counts as one. Return whether the rates allow it at ``now`` (seconds).

        :param host: an IP address; None for a peer without one, which has no rate.
        """
        if host is None:
            return True
        of_host = prefixes(host)
        return all(rate.take(prefix, now) for rate, prefix in zip(self._rates[len(of_host)], of_host, strict=True))
