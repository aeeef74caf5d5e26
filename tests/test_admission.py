from __future__ import annotations

import math
import resource
from typing import Any

import pytest

from netsvc.limits.admission import Admission
from netsvc.limits.cause import Cause
from netsvc.limits.connection_counter import LEAVING_MAX, UNKNOWN_MAX, ConnectionCounter
from netsvc.limits.file_limit import default_max_connections
from netsvc.limits.networks import InvalidNetworkError, NetworkRules, parse_network


class Connection:
    """A connection as the counter knows it."""

    def __init__(self, counter: ConnectionCounter, host: str | None, service: str, idle_since: float) -> None:
        self.host = host
        self.service = service
        self.idle_since = idle_since
        self.displaced = False
        self._counter = counter
        counter.connection_opened(self)

    def displace(self) -> None:
        self.displaced = True

    def close(self) -> None:
        self._counter.connection_closed(self)


class Server:
    """The admission of a server, and its open connections."""

    def __init__(self, counter: ConnectionCounter | None = None, **settings: Any) -> None:
        self.admission = Admission(counter, **settings)
        self.counter = self.admission.connections
        self.open: list[Connection] = []

    def connect(
        self, host: str | None, now: float = 0.0, service: str = "tcp", idle_since: float = math.inf
    ) -> Cause | None:
        cause = self.admission.check(host, now, service)
        if cause is None:
            self.open.append(Connection(self.counter, host, service, idle_since))
        return cause

    def close(self, host: str | None) -> None:
        """Close a connection of ``host``."""
        connection = next(one for one in self.open if one.host == host)
        self.open.remove(connection)
        connection.close()

    def displaced(self) -> list[str | None]:
        """Return the hosts of the displaced connections."""
        return [one.host for one in self.open if one.displaced]


def test_a_connection_above_the_maximum_is_refused_until_another_one_is_closed() -> None:
    server = Server(ConnectionCounter(2))
    assert server.connect("192.0.2.1") is None
    assert server.connect(None) is None
    assert server.connect("192.0.2.2") == Cause.SERVER_FULL
    assert server.connect(None) == Cause.SERVER_FULL
    server.close(None)
    assert server.connect("192.0.2.2") is None
    assert len(server.counter) == 2


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"),
    ],
)
def test_a_host_has_its_maximum_and_takes_no_place_from_another_host(one: str, same: str, other: str) -> None:
    server = Server(ConnectionCounter(max_per_host=2))
    assert [server.connect(host) for host in (one, same)] == [None, None]
    assert server.connect(same) == Cause.TOO_MANY_PER_HOST
    assert server.connect(other) is None
    server.close(one)
    assert server.connect(same) is None


def test_the_connections_of_a_host_are_limited_by_a_rate_with_a_burst_of_ten_seconds() -> None:
    server = Server(connect_rate=2)
    for _ in range(20):
        assert server.connect("192.0.2.1") is None
        server.close("192.0.2.1")
    assert server.connect("192.0.2.1") == Cause.CONNECT_RATE
    assert server.connect("192.0.2.2") is None
    assert server.connect("192.0.2.1", 0.5) is None
    assert server.connect("192.0.2.1", 0.5) == Cause.CONNECT_RATE


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.{}", "192.0.2.200", "192.0.3.1"),
        ("2001:db8:0:{}00::1", "2001:db8:0:ff00::1", "2001:db8:1::1"),
    ],
)
def test_a_network_has_its_maximum(one: str, same: str, other: str) -> None:
    server = Server(ConnectionCounter(max_per_network=4))
    assert [server.connect(one.format(number)) for number in range(4)] == [None] * 4
    assert server.connect(same) == Cause.TOO_MANY_PER_NETWORK
    assert server.connect(other) is None
    server.close(one.format(1))
    assert server.connect(same) is None


def test_an_ipv6_56_may_have_half_as_many_as_a_network() -> None:
    server = Server(ConnectionCounter(max_per_network=4))
    assert [server.connect(f"2001:db8:0:{number}::1") for number in range(2)] == [None] * 2
    assert server.connect("2001:db8:0:2::1") == Cause.TOO_MANY_PER_NETWORK
    assert server.connect("2001:db8:0:100::1") is None


def test_a_network_has_four_times_the_rate_of_a_host_and_an_ipv6_56_twice() -> None:
    server = Server(ConnectionCounter(0, 0, 0), connect_rate=1)
    accepted = [server.connect(f"192.0.2.{number}") for number in range(100)]
    assert accepted == [None] * 40 + [Cause.CONNECT_RATE] * 60
    accepted = [server.connect(f"2001:db8:0:{number:x}::1") for number in range(100)]
    assert accepted == [None] * 20 + [Cause.CONNECT_RATE] * 80
    assert server.connect("2001:db8:0:100::1") is None
    assert server.connect("192.0.3.1") is None


def test_services_share_the_connection_counter_but_not_the_rate() -> None:
    connections = ConnectionCounter(max_per_host=5)
    echo, chat = Server(connections, connect_rate=20), Server(connections, connect_rate=0.1)
    assert [chat.connect("192.0.2.1") for _ in range(2)] == [None, Cause.CONNECT_RATE]
    assert [echo.connect("192.0.2.1") for _ in range(5)] == [None] * 4 + [Cause.TOO_MANY_PER_HOST]


def test_a_refused_connection_is_not_counted() -> None:
    server = Server(ConnectionCounter(max_per_host=1))
    server.connect("192.0.2.1")
    for _ in range(10):
        server.connect("192.0.2.1")
    assert len(server.counter) == 1


def test_a_host_without_connections_takes_no_memory() -> None:
    server = Server()
    hosts = [f"192.0.2.{number}" for number in range(100)] + [f"2001:db8::{number:x}" for number in range(50)]
    for host in hosts:
        server.connect(host)
    for host in hosts:
        server.close(host)
    assert len(server.counter) == 0
    assert server.counter.top(1) == []


def test_zero_means_no_limit() -> None:
    server = Server(ConnectionCounter(0, 0, 0), connect_rate=0)
    assert {server.connect("192.0.2.1") for _ in range(1000)} == {None}


@pytest.mark.parametrize(
    ("allow", "deny", "allowed", "refused"),
    [
        ((), (), ["192.0.2.1", "::1"], []),
        (["192.0.2.0/24"], (), ["192.0.2.1", "::ffff:192.0.2.1"], ["192.0.3.1", "::1"]),
        ((), ["192.0.2.0/24"], ["192.0.3.1", "::1"], ["192.0.2.1", "::ffff:192.0.2.1"]),
        (["192.0.2.0/24", "::1"], ["192.0.2.7"], ["192.0.2.1", "::1"], ["192.0.2.7", "::2"]),
        (["fe80::/10"], (), ["fe80::1%eth0"], ["2001:db8::1"]),
    ],
)
def test_networks_are_allowed_and_denied(
    allow: list[str], deny: list[str], allowed: list[str], refused: list[str]
) -> None:
    networks = NetworkRules(allow, deny)
    assert [host for host in allowed + refused if networks.allows(host)] == allowed
    server = Server(networks=networks)
    assert all(server.connect(host) == Cause.NOT_ALLOWED for host in refused)
    assert server.connect(None) is None


@pytest.mark.parametrize("host", ["::192.0.2.1", "64:ff9b::192.0.2.1", "2002:c000:201::1", "2002:c000:201:ff::9"])
def test_an_ipv4_address_inside_ipv6_is_denied_by_the_rules_for_ipv4(host: str) -> None:
    assert not NetworkRules(deny=["192.0.2.0/24"]).allows(host)
    assert not NetworkRules(deny=["::/0"]).allows(host)
    assert NetworkRules(deny=["192.0.3.0/24"]).allows(host)


@pytest.mark.parametrize(
    ("host", "allowed"), [("::192.0.2.1", False), ("2002:c000:201::1", False), ("64:ff9b::192.0.2.1", True)]
)
def test_only_a_translated_ipv4_address_is_allowed_by_the_rules_for_ipv4(host: str, allowed: bool) -> None:
    assert NetworkRules(allow=["192.0.2.0/24"]).allows(host) == allowed


@pytest.mark.parametrize("host", ["192.0.2.1", "::ffff:192.0.2.1"])
def test_a_mapped_address_is_the_ipv4_address(host: str) -> None:
    assert NetworkRules(deny=["::/0"]).allows(host)
    assert not NetworkRules(allow=["::/0"]).allows(host)
    assert NetworkRules(allow=["192.0.2.0/24"]).allows(host)


@pytest.mark.parametrize("host", ["::", "::1", "2001:db8::192.0.2.1", "64:ff9b:1::192.0.2.1"])
def test_another_ipv6_address_contains_no_ipv4_address(host: str) -> None:
    assert NetworkRules(deny=["0.0.0.0/0"]).allows(host)


def test_an_ipv4_network_written_as_ipv6_is_the_ipv4_network() -> None:
    networks = NetworkRules(deny=["::ffff:192.0.2.0/120"])
    assert not networks.allows("192.0.2.5")
    assert not networks.allows("::ffff:192.0.2.5")
    assert networks.allows("192.0.3.5")
    assert not NetworkRules(deny=["::/0"]).allows("2001:db8::1")


@pytest.mark.parametrize("text", ["", "192.0.2.0/33", "nonsense", "192.0.2.0/24/1"])
def test_a_text_that_is_not_a_network_is_refused(text: str) -> None:
    with pytest.raises(InvalidNetworkError):
        parse_network(text)


def test_a_single_text_instead_of_a_list_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidNetworkError) as refusal:
        NetworkRules(allow="10.0.0.0/8")
    assert str(refusal.value) == 'allow takes a list of networks; write allow=["10.0.0.0/8"]'
    with pytest.raises(InvalidNetworkError, match="deny takes a list of networks"):
        NetworkRules(deny=5)  # type: ignore[arg-type]


def test_the_default_maximum_leaves_64_open_files() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert default_max_connections() == max(1, soft - 64)


def test_an_address_within_a_network_names_it() -> None:
    assert str(parse_network("192.0.2.77/24")) == "192.0.2.0/24"


def full(*hosts: str, maximum: int = 0, **settings: Any) -> Server:
    """Return a server whose places are taken by these hosts."""
    counter = ConnectionCounter(maximum or len(hosts), 0, 0, **settings)
    server = Server(counter, connect_rate=0)
    for number, host in enumerate(hosts):
        assert server.connect(host, idle_since=float(number)) is None
    return server


def test_the_connection_that_is_idle_for_longest_leaves_for_a_host_of_another_network() -> None:
    server = full(*["192.0.2.1"] * 8, "192.0.3.1", "192.0.4.1")
    server.open[5].idle_since = -1.0
    assert server.connect("192.0.5.1") is None
    assert [one.displaced for one in server.open].index(True) == 5
    assert server.displaced() == ["192.0.2.1"]


def test_the_host_with_the_most_connections_of_the_largest_network_loses_one() -> None:
    server = full("192.0.2.1", *["192.0.2.2"] * 3, *["192.0.2.3"] * 2, "192.0.3.1", "192.0.4.1")
    assert server.connect("192.0.5.1") is None
    assert server.displaced() == ["192.0.2.2"]


def test_a_network_within_its_fair_share_loses_nothing_and_one_above_it_gets_nothing() -> None:
    server = full(*["192.0.2.1"] * 4, *["192.0.3.1"] * 2, *["192.0.4.1"] * 2)
    assert server.connect("192.0.3.1") == Cause.SERVER_FULL  # it has its share: 8 places for 3 networks
    assert server.connect("192.0.2.1") == Cause.SERVER_FULL
    assert server.connect("192.0.5.1") is None
    server = full(*["192.0.2.1"] * 2, *["192.0.3.1"] * 2)
    assert [server.connect(f"192.0.{number}.1") for number in (4, 5, 6)] == [None, None, Cause.SERVER_FULL]
    assert server.displaced() == ["192.0.2.1", "192.0.3.1"]


def test_hosts_of_one_network_share_its_places() -> None:
    server = full(*["192.0.2.1"] * 6, *["192.0.2.2"] * 2)
    assert server.connect("192.0.2.3") is None
    assert server.connect("192.0.2.2") is None
    assert server.connect("192.0.2.1") == Cause.SERVER_FULL
    assert server.displaced() == ["192.0.2.1"] * 2


def test_a_flood_of_many_hosts_leaves_a_place_to_each_new_host() -> None:
    server = full(*[f"198.51.{number}.1" for number in range(15) for _ in range(64)])
    assert [server.connect(f"203.0.{number}.1") for number in range(10)] == [None] * 10


def test_a_place_is_free_only_when_the_displaced_connection_is_closed() -> None:
    server = full(*["192.0.2.1"] * 40)
    accepted = [server.connect(f"192.0.{number}.1") for number in range(3, 3 + LEAVING_MAX + 5)]
    assert accepted == [None] * LEAVING_MAX + [Cause.SERVER_FULL] * 5
    assert len(server.counter) == 40 + LEAVING_MAX
    for connection in [one for one in server.open if one.displaced]:
        server.open.remove(connection)
        connection.close()
    assert len(server.counter) == 40
    assert server.connect("192.0.100.1") is None


def test_a_peer_on_a_unix_socket_neither_displaces_a_connection_nor_leaves() -> None:
    server = Server(ConnectionCounter(5), connect_rate=0)
    for host in [None, None, "192.0.2.1", "192.0.2.1", "192.0.3.1"]:
        assert server.connect(host) is None
    assert server.connect(None) == Cause.SERVER_FULL
    assert server.connect("192.0.4.1") is None
    assert server.displaced() == ["192.0.2.1"]


def test_each_service_keeps_its_share_of_half_of_the_places() -> None:
    server = Server(ConnectionCounter(8, 0, 0, services=["tcp", "chat"]), connect_rate=0)
    taken = [server.connect("192.0.2.1", service="tcp") for _ in range(8)]
    assert taken == [None] * 6 + [Cause.SERVER_FULL] * 2
    assert [server.connect("192.0.2.1", service="chat") for _ in range(3)] == [None, None, Cause.SERVER_FULL]
    assert not server.displaced()


def test_a_service_within_its_share_loses_no_connection_to_another_one() -> None:
    server = Server(ConnectionCounter(8, 0, 0, services=["tcp", "chat"]), connect_rate=0)
    for _ in range(2):
        assert server.connect("192.0.2.1", service="chat", idle_since=-1.0) is None
    for _ in range(6):
        assert server.connect("192.0.2.1", service="tcp") is None
    assert server.connect("192.0.3.1", service="tcp") is None
    assert [one.service for one in server.open if one.displaced] == ["tcp"]


def test_the_largest_networks_are_named() -> None:
    counter = ConnectionCounter(0, 0, 0)
    server = Server(counter, connect_rate=0)
    for host in ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:ffff::1", "2001:db8::2", "192.0.3.1", None]:
        server.connect(host)
    assert counter.top(2) == [("2001:db8::/48", 3), ("192.0.2.0/24", 2)]


def test_a_full_server_lets_a_few_connections_wait_for_a_proxy_to_name_their_host() -> None:
    counter = full("192.0.2.1", "192.0.3.1").counter
    waiting = 0
    while counter.has_room_for_unknown():
        counter.unknown_opened()
        waiting += 1
    assert waiting == UNKNOWN_MAX
    counter.unknown_closed()
    assert counter.has_room_for_unknown()
    assert len(counter) == 2 + UNKNOWN_MAX - 1


def test_a_service_within_its_share_does_not_keep_the_others_from_losing_connections() -> None:
    server = Server(ConnectionCounter(960, 0, 0, services=["tcp", "chat"]), connect_rate=0)
    for _ in range(240):
        assert server.connect("192.0.2.1", service="chat") is None
    for number in range(720):
        assert server.connect(f"198.51.{number % 3}.1", service="tcp") is None
    assert [server.connect(f"203.0.{number}.1", service="tcp") for number in range(10)] == [None] * 10
    assert {one.service for one in server.open if one.displaced} == {"tcp"}


def test_a_service_keeps_its_share_when_many_hosts_come_at_once() -> None:
    server = Server(ConnectionCounter(100, 0, 0, services=["tcp", "chat"]), connect_rate=0)
    for _ in range(26):
        assert server.connect("192.0.2.1", service="chat") is None
    for number in range(74):
        assert server.connect(f"198.51.{number}.1", service="tcp") is None
    for number in range(16):
        server.connect(f"203.0.{number}.1", service="tcp")
    assert sum(one.displaced for one in server.open if one.service == "chat") == 1


def test_a_network_within_its_fair_share_loses_nothing_although_unix_sockets_have_taken_places() -> None:
    server = Server(ConnectionCounter(4), connect_rate=0)
    for host in [None, None, "192.0.2.1", "192.0.3.1"]:
        assert server.connect(host) is None
    assert server.connect("192.0.4.1") == Cause.SERVER_FULL
    assert not server.displaced()
