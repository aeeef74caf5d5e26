from __future__ import annotations

import pytest

from netsvc.limits.cause import Cause
from netsvc.limits.datagram_guard import DatagramGuard
from netsvc.limits.networks import NetworkRules
from netsvc.limits.token_bucket import SourceBuckets


def check(guard: DatagramGuard, size: int = 5, port: int = 40_000) -> Cause | None:
    return guard.check(size, "192.0.2.1", port, own_port=5200, now=0.0)


def test_a_request_is_answered() -> None:
    assert check(DatagramGuard()) is None
    assert check(DatagramGuard(), 0) is None


@pytest.mark.parametrize("port", [0, 7, 13, 520, 1023])
def test_a_privileged_port_is_not_answered(port: int) -> None:
    assert check(DatagramGuard(), port=port) == Cause.PRIVILEGED_PORT


def test_the_own_port_number_is_not_answered() -> None:
    assert check(DatagramGuard(), port=5200) == Cause.OWN_PORT


def test_a_trusted_network_may_send_from_the_ports_of_services() -> None:
    guard = DatagramGuard(from_services=NetworkRules(["192.0.2.0/24"]))
    assert [check(guard, port=port) for port in (862, 5200, 0)] == [None, None, Cause.PRIVILEGED_PORT]
    others = DatagramGuard(from_services=NetworkRules(["198.51.100.0/24"]))
    assert [check(others, port=port) for port in (862, 5200)] == [Cause.PRIVILEGED_PORT, Cause.OWN_PORT]


def test_without_a_trusted_network_no_port_of_a_service_is_answered() -> None:
    assert check(DatagramGuard(from_services=NetworkRules()), port=862) == Cause.PRIVILEGED_PORT


def test_a_datagram_of_the_maximum_size_is_answered_and_a_longer_one_is_not() -> None:
    guard = DatagramGuard(max_size=10)
    assert check(guard, 10) is None
    assert check(guard, 11) == Cause.DATAGRAM_TOO_LONG


def test_without_a_limit_any_size_is_answered() -> None:
    assert check(DatagramGuard(max_size=0), 60_000) is None


def test_a_denied_network_is_not_answered() -> None:
    assert check(DatagramGuard(networks=NetworkRules(deny=["192.0.2.0/24"]))) == Cause.NOT_ALLOWED


def test_a_flood_is_refused() -> None:
    guard = DatagramGuard(SourceBuckets(rate=1, burst=2, total=0, chance=lambda: 1.0))
    assert [check(guard) for _ in range(4)] == [None, None, Cause.DATAGRAM_RATE, Cause.DATAGRAM_RATE]
