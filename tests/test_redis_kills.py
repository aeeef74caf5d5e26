"""A real Redis, and real servers on it, that are killed: what was acknowledged stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.redis_kills import SETTINGS, kill_and_check

pytestmark = pytest.mark.redis


@pytest.mark.parametrize("appendfsync", SETTINGS)
def test_a_killed_redis_loses_and_doubles_nothing_that_was_acknowledged(appendfsync: str) -> None:
    found = kill_and_check(kills=2, appendfsync=appendfsync)
    assert found.acknowledged
    assert found.repeated
    assert found.is_good, found


def test_a_killed_server_of_two_loses_and_doubles_nothing_and_its_members_resume_at_the_other() -> None:
    command = [sys.executable, "-m", "tests.node_kills", "2", "--quick"]
    found = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120.0, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
