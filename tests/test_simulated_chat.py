"""A chat of eight members with loss, split streams, stalls, crashes and partitions: see tests/simulated_chat.py."""

from __future__ import annotations

import pytest

from tests.simulated_chat import Simulation

SEEDS = 200
SEEDS_PER_TEST = 20


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_the_chat_keeps_its_guarantees_on_a_faulty_network(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        simulation = Simulation(seed)
        try:
            simulation.run()
        except BaseException:
            print(f"seed {seed}; run it again with: python -m tests.simulated_chat --seed {seed}")  # noqa: T201
            raise
