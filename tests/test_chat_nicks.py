from __future__ import annotations

import pytest

from netsvc.chat.nicks import RESERVED_MAX, Nicks


@pytest.fixture
def nicks() -> Nicks:
    return Nicks()


def test_a_nick_has_one_owner(nicks: Nicks) -> None:
    nicks.claim("ann", "author-1")
    assert nicks.problem("Ann", "author-2", 0.0) == "is taken"
    assert nicks.problem("Ann", "author-1", 0.0) == ""
    assert nicks.owner("ANN") == "author-1"


def test_an_owner_that_claims_another_nick_gives_up_the_first(nicks: Nicks) -> None:
    nicks.claim("ann", "author-1")
    nicks.claim("eve", "author-1")
    assert nicks.owner("ann") is None
    assert nicks.owner("eve") == "author-1"
    assert len(nicks) == 1


def test_a_released_nick_is_free(nicks: Nicks) -> None:
    nicks.claim("ann", "author-1")
    for _ in range(2):
        nicks.release("author-1")
    assert nicks.problem("ann", "author-2", 0.0) == ""


def test_a_reserved_nick_is_kept_for_its_author_until_its_time(nicks: Nicks) -> None:
    nicks.reserve("ann", "author-1", until=10.0)
    assert nicks.problem("Ann", "author-2", 9.9) == "is kept for a member whose connection was lost"
    assert nicks.problem("Ann", "author-1", 9.9) == ""
    assert nicks.reserved_for("author-1", 9.9) == "ann"
    assert nicks.reserved_for("author-1", 10.0) is None
    assert nicks.problem("Ann", "author-2", 10.0) == ""


def test_an_author_that_claims_a_nick_has_nothing_reserved_any_more(nicks: Nicks) -> None:
    nicks.reserve("ann", "author-1", until=10.0)
    nicks.claim("eve", "author-1")
    assert nicks.problem("ann", "author-2", 0.0) == ""


def test_the_number_of_reserved_nicks_is_bounded_and_the_oldest_is_given_up_first(nicks: Nicks) -> None:
    for number in range(RESERVED_MAX + 1):
        nicks.reserve(f"n{number}", f"author-{number}", until=10.0)
    assert nicks.reserved_for("author-0", 0.0) is None
    assert nicks.reserved_for("author-1", 0.0) == "n1"
    assert nicks.problem("n0", "author-2", 0.0) == ""


def test_a_guest_nick_is_neither_taken_nor_reserved(nicks: Nicks) -> None:
    nicks.claim("Guest-1", "author-1")
    nicks.reserve("guest-2", "author-2", until=10.0)
    assert nicks.claim_guest_nick("author-3", 0.0) == "guest-3"
