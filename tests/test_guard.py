from __future__ import annotations

import pytest

from netsvc.bucket import SourceBuckets
from netsvc.guard import Guard
from netsvc.stamp import Stamper


def admits(guard: Guard, datagram: bytes = b"hello", port: int = 40_000) -> bool:
    return guard.admits(datagram, "192.0.2.1", port, own_port=5200, now=0.0)


def test_a_question_is_admitted() -> None:
    guard = Guard()
    assert admits(guard)
    assert admits(guard, b"")
    assert not guard.refused


@pytest.mark.parametrize("port", [0, 7, 13, 520, 1023])
def test_a_privileged_port_is_not_answered(port: int) -> None:
    guard = Guard()
    assert not admits(guard, port=port)
    assert guard.refused == {"privileged port": 1}


def test_the_same_port_as_ones_own_is_not_answered() -> None:
    guard = Guard()
    assert not admits(guard, port=5200)
    assert guard.refused == {"own port": 1}


def test_an_answer_is_not_answered() -> None:
    guard = Guard()
    assert not admits(guard, Stamper().answer(b"x", 0))
    assert guard.refused == {"already stamped": 1}


def test_a_datagram_of_the_most_bytes_is_admitted_and_a_longer_one_counted() -> None:
    guard = Guard(max_size=10)
    assert admits(guard, b"x" * 10)
    assert not admits(guard, b"x" * 11)
    assert guard.refused == {"too long": 1}


def test_without_a_limit_any_size_is_admitted() -> None:
    assert admits(Guard(max_size=0), b"x" * 60_000)


def test_a_flood_is_refused_and_counted() -> None:
    guard = Guard(SourceBuckets(rate=1, burst=2, total=0, chance=lambda: 1.0))
    assert [admits(guard) for _ in range(4)] == [True, True, False, False]
    assert guard.refused == {"too many": 2}
