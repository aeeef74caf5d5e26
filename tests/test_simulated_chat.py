"""A chat of eight members with loss, split streams, stalls, crashes and partitions: see tests/simulated_chat.py."""

from __future__ import annotations

import pytest

from tests.simulated_chat import STORES, Simulations

SEEDS = 40
SEEDS_PER_TEST = 20


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_the_chat_keeps_its_guarantees_on_a_faulty_network(store: str, first: int) -> None:
    simulations = Simulations(store)
    for seed in range(first, first + SEEDS_PER_TEST):
        simulations.run(seed)
