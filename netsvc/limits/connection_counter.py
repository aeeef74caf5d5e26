"""The open connections of a server: how many, from which hosts and networks, and which one leaves when it is full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Protocol

from netsvc.limits.cause import Cause
from netsvc.limits.file_limit import default_max_connections
from netsvc.limits.numbers import check_number
from netsvc.limits.prefixes import Prefix, format_prefix, prefixes
from netsvc.limits.ranked_counter import RankedCounter

#: Concurrent connections of one host (IPv4 /32, IPv6 /64) and of one network (IPv4 /24, IPv6 /48): the defaults. An
#: IPv6 /56 may have half as many as a network.
MAX_PER_HOST = 64
MAX_PER_NETWORK = 256

#: The number of networks that the log and the metrics name, of those with the most connections.
TOP_NETWORKS = 5

#: Displaced connections that may still be closing. Each keeps one of the spare files for a moment.
LEAVING_MAX = 16

#: Connections that a full server accepts although their host is not known yet, because a proxy has still to name it.
UNKNOWN_MAX = 8


class CountedConnection(Protocol):
    """A connection, as the counter knows it."""

    @property
    def host(self) -> str | None:
        """The IP address of the peer; None on a UNIX socket."""

    @property
    def service(self) -> str:
        """The name of its service."""

    @property
    def idle_since(self) -> float:
        """The time of its last activity, in seconds; infinite if it is active now."""

    def displace(self) -> None:
        """Tell the peer that it leaves for another one, and close the connection soon."""


class ConnectionCounter:
    """Counts open connections: in all, per host, per network and per service. The services of one server share it.

    When the server is full, a host gets a place if its network has fewer connections than its fair share: the places
    divided by the number of networks. The connection that leaves is the one that is idle for longest, of the host with
    the most connections in the network with the most. A network within its fair share loses none to another one. Hosts
    of one network share what it has.

    Half of the maximum is divided among the services and reserved for them, so that a flood of one service leaves
    places in the others.

    :param maximum: of all connections; 0 for no limit; None for what the open-file limit allows.
    :param max_per_host: of the connections of one host; 0 for no limit.
    :param max_per_network: of the connections of one network; 0 for no limit.
    :param services: the names of the services; only if there are several, places are reserved.
    :raises ConfigError: for a number that is negative or not a whole number.
    """

    def __init__(
        self,
        maximum: int | None = None,
        max_per_host: int = MAX_PER_HOST,
        max_per_network: int = MAX_PER_NETWORK,
        services: Collection[str] = (),
    ) -> None:
        self._maximum = default_max_connections() if maximum is None else maximum
        check_number("max_connections", self._maximum, whole=True)
        check_number("max_per_host", max_per_host, whole=True)
        check_number("max_per_network", max_per_network, whole=True)
        self._max_per_host = max_per_host
        self._max_per_network = max_per_network
        self._services: dict[str, _Service] = {name: _Service() for name in services}
        self._reserved = self._maximum // (2 * len(services)) if len(services) > 1 else 0
        self._open = 0
        self._unknown = 0
        self._per_network: RankedCounter[Prefix] = RankedCounter()
        self._per_56: Counter[Prefix] = Counter()
        self._leaving: set[CountedConnection] = set()

    def __len__(self) -> int:
        """Return the number of open connections."""
        return self._open + self._unknown

    def check(self, host: str | None) -> Cause | None:
        """Return why one more connection from ``host`` would be too many for it; None if it would not."""
        if host is None:
            return None
        own_host, *of_56, network = prefixes(host)
        of_host = sum(len(service.of_host(network, own_host)) for service in self._services.values())
        if 0 < self._max_per_host <= of_host:
            return Cause.TOO_MANY_PER_HOST
        limit = self._max_per_network
        if limit and (
            self._per_network[network] >= limit or any(self._per_56[prefix] >= max(1, limit // 2) for prefix in of_56)
        ):
            return Cause.TOO_MANY_PER_NETWORK
        return None

    def make_room(self, host: str | None, service: str) -> bool:
        """Return whether there is a place for one more connection. If it takes that, displace another one."""
        available = self._available(service)
        if not self._maximum or len(self) - len(self._leaving) < available:
            return True
        displaced = self._displaced_by(host, service, available)
        if displaced is None:
            return False
        self._forget(displaced)
        self._leaving.add(displaced)
        displaced.displace()
        return True

    def connection_opened(self, connection: CountedConnection) -> None:
        """Count a connection."""
        self._open += 1
        service = self._services.setdefault(connection.service, _Service())
        service.open += 1
        if connection.host is not None:
            own_host, *of_56, network = prefixes(connection.host)
            service.networks.setdefault(network, {}).setdefault(own_host, []).append(connection)
            service.ranks.increment(network)
            self._per_network.increment(network)
            self._per_56.update(of_56)

    def connection_closed(self, connection: CountedConnection) -> None:
        """Stop counting a connection that was counted."""
        self._open -= 1
        if connection in self._leaving:
            self._leaving.discard(connection)
        else:
            self._forget(connection)

    def has_room_for_unknown(self) -> bool:
        """Return whether a connection may wait for a proxy to name its host."""
        return not self._maximum or self._unknown < UNKNOWN_MAX or len(self) < self._maximum

    def unknown_opened(self) -> None:
        """Count a connection whose host is not known yet."""
        self._unknown += 1

    def unknown_closed(self) -> None:
        """Stop counting one. Its host is known, or it is closed."""
        self._unknown -= 1

    def top(self, number: int) -> list[tuple[str, int]]:
        """Return the networks with the most connections, and how many; the largest first."""
        return [(format_prefix(prefix), count) for prefix, count in self._per_network.top(number)]

    def _available(self, name: str) -> int:
        """Return how many connections there may be without the places that are reserved for other services."""
        others = (service for other, service in self._services.items() if other != name)
        return self._maximum - sum(max(0, self._reserved - service.open) for service in others)

    def _displaced_by(self, host: str | None, name: str, available: int) -> CountedConnection | None:
        """Return the connection that leaves if ``host`` gets a place; None if it gets none."""
        if host is None or len(self._leaving) >= LEAVING_MAX:
            return None
        losing = [
            service
            for other, service in self._services.items()
            if len(service.ranks) and (other == name or service.open > self._reserved)
        ]
        if not losing:
            return None
        service = max(losing, key=lambda one: one.ranks[one.ranks.largest()])
        largest = service.ranks.largest()
        of_largest_host = max(service.networks[largest].values(), key=len)
        own_host, *_, network = prefixes(host)
        if network == largest:
            is_fair = len(service.of_host(network, own_host)) + 1 < len(of_largest_host)
        else:
            share = available / (len(self._per_network) + (network not in self._per_network))
            is_fair = self._per_network[network] + 1 <= share < self._per_network[largest]
        return min(of_largest_host, key=lambda one: one.idle_since) if is_fair else None

    def _forget(self, connection: CountedConnection) -> None:
        """Stop counting a connection for its service, host and network."""
        service = self._services[connection.service]
        service.open -= 1
        if connection.host is None:
            return
        own_host, *of_56, network = prefixes(connection.host)
        hosts = service.networks[network]
        hosts[own_host].remove(connection)
        if not hosts[own_host]:
            del hosts[own_host]
        if not hosts:
            del service.networks[network]
        service.ranks.decrement(network)
        self._per_network.decrement(network)
        for prefix in of_56:
            self._per_56[prefix] -= 1
            if not self._per_56[prefix]:
                del self._per_56[prefix]


class _Service:
    """The open connections of one service, without those that leave.

    :ivar open: their number, with those of UNIX sockets.
    :ivar networks: those that have an address, by network and host.
    :ivar ranks: the number of each network.
    """

    def __init__(self) -> None:
        self.open = 0
        self.networks: dict[Prefix, dict[Prefix, list[CountedConnection]]] = {}
        self.ranks: RankedCounter[Prefix] = RankedCounter()

    def of_host(self, network: Prefix, host: Prefix) -> Sequence[CountedConnection]:
        """Return the connections of one host."""
        return self.networks.get(network, {}).get(host, ())
