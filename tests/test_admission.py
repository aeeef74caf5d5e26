from __future__ import annotations

import pytest

from netsvc.limits.admission import Admission, Connections
from netsvc.limits.networks import NetworkError, Networks, parse_network


def enter(admission: Admission, host: str | None, now: float = 0.0) -> str | None:
    refusal = admission.refusal(host, now)
    if refusal is None:
        admission.connections.enter(host)
    return refusal


def test_so_many_connections_and_no_more_until_one_is_gone() -> None:
    admission = Admission(Connections(2))
    assert enter(admission, "192.0.2.1") is None
    assert enter(admission, None) is None
    assert enter(admission, "192.0.2.2") == "server full"
    assert enter(admission, None) == "server full"
    admission.connections.leave(None)
    assert enter(admission, "192.0.2.2") is None
    assert len(admission.connections) == 2


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1"),
    ],
)
def test_one_host_has_so_many_connections_and_takes_none_from_another(one: str, same: str, other: str) -> None:
    admission = Admission(Connections(most_of_a_host=2))
    assert [enter(admission, host) for host in (one, same)] == [None, None]
    assert enter(admission, same) == "too many connections from one host"
    assert enter(admission, other) is None
    admission.connections.leave(one)
    assert enter(admission, same) is None


def test_a_host_that_connects_again_and_again_has_its_rate() -> None:
    admission = Admission(connect_rate=2)
    for _ in range(20):
        assert enter(admission, "192.0.2.1") is None
        admission.connections.leave("192.0.2.1")
    assert enter(admission, "192.0.2.1") == "connects too often"
    assert enter(admission, "192.0.2.2") is None
    assert enter(admission, "192.0.2.1", 0.5) is None
    assert enter(admission, "192.0.2.1", 0.5) == "connects too often"


def test_services_share_their_connections_but_not_their_rates() -> None:
    connections = Connections(most_of_a_host=5)
    echo, chat = Admission(connections, connect_rate=20), Admission(connections, connect_rate=0.1)
    assert [enter(chat, "192.0.2.1") for _ in range(2)] == [None, "connects too often"]
    assert [enter(echo, "192.0.2.1") for _ in range(5)] == [None] * 4 + ["too many connections from one host"]


def test_who_was_refused_does_not_count() -> None:
    admission = Admission(Connections(most_of_a_host=1))
    enter(admission, "192.0.2.1")
    for _ in range(10):
        enter(admission, "192.0.2.1")
    assert len(admission.connections) == 1


def test_nobody_is_remembered_who_is_gone() -> None:
    admission = Admission()
    for number in range(100):
        enter(admission, f"192.0.2.{number}")
    for number in range(100):
        admission.connections.leave(f"192.0.2.{number}")
    assert len(admission.connections) == 0
    assert not admission.connections._of_host._numbers


def test_zero_is_no_limit() -> None:
    admission = Admission(Connections(0, 0), connect_rate=0)
    assert {enter(admission, "192.0.2.1") for _ in range(1000)} == {None}


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
    networks = Networks(allow, deny)
    assert [host for host in allowed + refused if networks.allows(host)] == allowed
    admission = Admission(networks=networks)
    assert all(enter(admission, host) == "not allowed" for host in refused)
    assert enter(admission, None) is None


def test_an_ipv4_network_written_as_ipv6_is_the_ipv4_network() -> None:
    networks = Networks(deny=["::ffff:192.0.2.0/120"])
    assert not networks.allows("192.0.2.5")
    assert not networks.allows("::ffff:192.0.2.5")
    assert networks.allows("192.0.3.5")
    assert not Networks(deny=["::/0"]).allows("2001:db8::1")


@pytest.mark.parametrize("text", ["", "192.0.2.0/33", "nonsense", "192.0.2.0/24/1"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(NetworkError):
        parse_network(text)


def test_an_address_within_a_network_names_it() -> None:
    assert str(parse_network("192.0.2.77/24")) == "192.0.2.0/24"
