"""A real Redis, and real servers on it, that are killed: what was acknowledged stays."""

from __future__ import annotations

import pytest

from tests.redis_kills import SETTINGS, kill_and_check

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("appendfsync", SETTINGS)
def test_a_killed_redis_loses_and_doubles_nothing_that_was_acknowledged(appendfsync: str) -> None:
    found = kill_and_check(kills=2, appendfsync=appendfsync)
    assert found.acknowledged
    assert found.repeated
    assert found.is_good, found
