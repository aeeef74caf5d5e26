"""STAMP sessions with loss, duplicates and reordering by direction: see tests/simulated_stamp.py."""

from __future__ import annotations

import pytest

from tests.simulated_stamp import Tally, run_seed, unlike_histories

SEEDS = 60
SEEDS_PER_TEST = 20


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_the_counters_of_a_session_tell_loss_there_from_loss_back(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        run_seed(seed)


def test_a_lost_second_answer_cannot_be_told_from_a_lost_first_one() -> None:
    duplicated, delivered = unlike_histories()
    assert duplicated == delivered
    assert (duplicated.lost_back, duplicated.lost_there, duplicated.duplicated_there) == (1, (0, 1), (0, 1))


def test_two_answers_to_one_question_are_a_duplicate_there_and_two_equal_answers_one_back() -> None:
    tally = Tally(3, [(0, 0), (0, 1), (2, 2), (2, 2)])
    assert (tally.lost_there, tally.duplicated_there) == ((1, 1), (1, 1))
    assert (tally.lost_back, tally.duplicated_back) == (0, 1)
