"""Probes on networks that lose, delay, duplicate and reorder: see tests/simulated_probe.py."""

from __future__ import annotations

import pytest

from tests.simulated_probe import run_seed

SEEDS = 30
SEEDS_PER_TEST = 10


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_a_probe_reports_what_the_network_did_to_every_packet(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        run_seed(seed)
