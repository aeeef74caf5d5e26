from __future__ import annotations

import pytest

from netsvc.limits.datagram_guard import Guard
from netsvc.limits.networks import Networks
from netsvc.limits.token_bucket import SourceBuckets


def refusal(guard: Guard, datagram: bytes = b"hello", port: int = 40_000) -> str | None:
    return guard.refusal(datagram, "192.0.2.1", port, own_port=5200, now=0.0)


def test_a_question_is_admitted() -> None:
    assert refusal(Guard()) is None
    assert refusal(Guard(), b"") is None


@pytest.mark.parametrize("port", [0, 7, 13, 520, 1023])
def test_a_privileged_port_is_not_answered(port: int) -> None:
    assert refusal(Guard(), port=port) == "privileged port"


def test_the_same_port_as_ones_own_is_not_answered() -> None:
    assert refusal(Guard(), port=5200) == "own port"


def test_a_datagram_of_the_most_bytes_is_admitted_and_a_longer_one_is_not() -> None:
    guard = Guard(max_size=10)
    assert refusal(guard, b"x" * 10) is None
    assert refusal(guard, b"x" * 11) == "too long"


def test_without_a_limit_any_size_is_admitted() -> None:
    assert refusal(Guard(max_size=0), b"x" * 60_000) is None


def test_a_network_that_is_denied_is_not_answered() -> None:
    assert refusal(Guard(networks=Networks(deny=["192.0.2.0/24"]))) == "not allowed"


def test_a_flood_is_refused() -> None:
    guard = Guard(SourceBuckets(rate=1, burst=2, total=0, chance=lambda: 1.0))
    assert [refusal(guard) for _ in range(4)] == [None, None, "too many", "too many"]
