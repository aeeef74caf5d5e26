from __future__ import annotations

import resource

import pytest

from netsvc.limits.admission import Admission, ConnectionCounter, default_max_connections
from netsvc.limits.cause import Cause
from netsvc.limits.networks import InvalidNetworkError, NetworkRules, parse_network


def connect(admission: Admission, host: str | None, now: float = 0.0) -> Cause | None:
    cause = admission.check(host, now)
    if cause is None:
        admission.connections.connection_opened(host)
    return cause


def test_a_connection_above_the_maximum_is_refused_until_another_one_is_closed() -> None:
    admission = Admission(ConnectionCounter(2))
    assert connect(admission, "192.0.2.1") is None
    assert connect(admission, None) is None
    assert connect(admission, "192.0.2.2") == Cause.SERVER_FULL
    assert connect(admission, None) == Cause.SERVER_FULL
    admission.connections.connection_closed(None)
    assert connect(admission, "192.0.2.2") is None
    assert len(admission.connections) == 2


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"),
    ],
)
def test_a_host_has_its_maximum_and_takes_no_place_from_another_host(one: str, same: str, other: str) -> None:
    admission = Admission(ConnectionCounter(max_per_host=2))
    assert [connect(admission, host) for host in (one, same)] == [None, None]
    assert connect(admission, same) == Cause.TOO_MANY_PER_HOST
    assert connect(admission, other) is None
    admission.connections.connection_closed(one)
    assert connect(admission, same) is None


def test_the_connections_of_a_host_are_limited_by_a_rate_with_a_burst_of_ten_seconds() -> None:
    admission = Admission(connect_rate=2)
    for _ in range(20):
        assert connect(admission, "192.0.2.1") is None
        admission.connections.connection_closed("192.0.2.1")
    assert connect(admission, "192.0.2.1") == Cause.CONNECT_RATE
    assert connect(admission, "192.0.2.2") is None
    assert connect(admission, "192.0.2.1", 0.5) is None
    assert connect(admission, "192.0.2.1", 0.5) == Cause.CONNECT_RATE


def test_services_share_the_connection_counter_but_not_the_rate() -> None:
    connections = ConnectionCounter(max_per_host=5)
    echo, chat = Admission(connections, connect_rate=20), Admission(connections, connect_rate=0.1)
    assert [connect(chat, "192.0.2.1") for _ in range(2)] == [None, Cause.CONNECT_RATE]
    assert [connect(echo, "192.0.2.1") for _ in range(5)] == [None] * 4 + [Cause.TOO_MANY_PER_HOST]


def test_a_refused_connection_is_not_counted() -> None:
    admission = Admission(ConnectionCounter(max_per_host=1))
    connect(admission, "192.0.2.1")
    for _ in range(10):
        connect(admission, "192.0.2.1")
    assert len(admission.connections) == 1


def test_a_host_without_connections_takes_no_memory() -> None:
    admission = Admission()
    for number in range(100):
        connect(admission, f"192.0.2.{number}")
    for number in range(100):
        admission.connections.connection_closed(f"192.0.2.{number}")
    assert len(admission.connections) == 0
    assert not admission.connections._per_host._counts


def test_zero_means_no_limit() -> None:
    admission = Admission.unlimited()
    assert {connect(admission, "192.0.2.1") for _ in range(1000)} == {None}


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
    admission = Admission(networks=networks)
    assert all(connect(admission, host) == Cause.NOT_ALLOWED for host in refused)
    assert connect(admission, None) is None


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
