from __future__ import annotations

import pytest

from netsvc.net.connection_state import SENDING, TRANSITIONS, ConnectionState, check_transition

STATES = list(ConnectionState)


def test_the_table_has_every_state() -> None:
    assert set(TRANSITIONS) == set(STATES)


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_transition_is_accepted_if_the_table_has_it_and_is_an_error_otherwise(
    before: ConnectionState, after: ConnectionState
) -> None:
    if after in TRANSITIONS[before]:
        assert check_transition(before, after) is after
    else:
        with pytest.raises(ValueError, match=f"from {before.name} to {after.name}"):
            check_transition(before, after)


def test_a_state_never_follows_itself_and_a_closed_connection_stays_closed() -> None:
    assert all(state not in TRANSITIONS[state] for state in STATES)
    assert not TRANSITIONS[ConnectionState.CLOSED]


def test_a_connection_that_has_stopped_sending_never_sends_again() -> None:
    for state in set(STATES) - SENDING:
        assert not TRANSITIONS[state] & SENDING


def test_every_state_but_the_first_can_end() -> None:
    for state in set(STATES) - {ConnectionState.NEW, ConnectionState.CLOSED}:
        assert ConnectionState.CLOSED in TRANSITIONS[state]
