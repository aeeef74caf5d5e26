"""A chat of eight under loss, cuts, stalls, crashes and partitions: see tests/simulated_chat.py."""

from __future__ import annotations

import pytest

from tests.simulated_chat import Play

SEEDS = 200
BLOCK = 20


@pytest.mark.parametrize("first", range(0, SEEDS, BLOCK))
def test_a_chat_holds_its_promises_whatever_happens_on_the_network(first: int) -> None:
    for seed in range(first, first + BLOCK):
        play = Play(seed)
        try:
            play.run()
        except BaseException:
            print(f"seed {seed}; again: python -m tests.simulated_chat --seed {seed}")  # noqa: T201
            raise
