from __future__ import annotations

from netsvc.chat.pace import CHAT_IDLE_TIMEOUT, DEAD_TIME, PROBE_TIME, WARNING_TIME, Action, MemberPace


def pace(idle_timeout: float = CHAT_IDLE_TIMEOUT, *, has_keepalive: bool = True) -> MemberPace:
    return MemberPace(5.0, 10, idle_timeout, 0.0, has_keepalive=has_keepalive)


def test_a_member_that_reads_all_day_stays_for_12_hours_and_is_warned_5_minutes_before_they_end() -> None:
    member = pace()
    end = 12 * 3_600.0
    assert member.check(end - WARNING_TIME - 1) is Action.NOTHING
    assert member.check(end - WARNING_TIME) is Action.WARN
    assert member.seconds_left(end - WARNING_TIME) == 300.0
    assert member.check(end - 1) is Action.NOTHING
    assert member.check(end) is Action.CLOSE


def test_a_line_ends_the_warning_and_begins_the_time_anew() -> None:
    member = pace(idle_timeout=100.0)
    assert member.check(50.0) is Action.WARN
    member.spoke(60.0)
    assert member.check(100.0) is Action.NOTHING
    assert member.check(110.0) is Action.WARN
    assert member.check(160.0) is Action.CLOSE


def test_without_an_idle_timeout_a_member_stays() -> None:
    assert pace(idle_timeout=0.0).check(1e9) is Action.NOTHING


def test_a_member_without_keepalive_is_asked_for_a_sign_of_life_and_given_up_within_2_minutes() -> None:
    member = pace(has_keepalive=False)
    assert member.check(PROBE_TIME - 1) is Action.NOTHING
    assert member.check(PROBE_TIME) is Action.PROBE
    assert member.check(PROBE_TIME + 1) is Action.NOTHING
    assert member.check(DEAD_TIME) is Action.GIVE_UP
    assert DEAD_TIME < 120


def test_the_answer_to_a_probe_keeps_a_member_that_only_reads() -> None:
    member = pace(has_keepalive=False)
    assert member.check(PROBE_TIME) is Action.PROBE
    member.is_alive(PROBE_TIME + 1)
    assert member.check(PROBE_TIME + DEAD_TIME - 1) is Action.PROBE
    member.is_alive(PROBE_TIME + DEAD_TIME)
    assert member.check(PROBE_TIME + DEAD_TIME + 1) is Action.NOTHING


def test_a_member_that_was_not_read_from_is_asked_before_it_is_given_up() -> None:
    member = pace(has_keepalive=False)
    assert member.check(10 * DEAD_TIME) is Action.PROBE
    assert member.check(11 * DEAD_TIME - PROBE_TIME - 1) is Action.NOTHING
    assert member.check(11 * DEAD_TIME - PROBE_TIME) is Action.GIVE_UP


def test_a_member_starts_with_one_line_and_gains_its_rate() -> None:
    member = pace()
    assert member.wait(0.0) == 0.0
    member.spoke(0.0)
    assert 0.19 < member.wait(0.0) < 0.21
    assert member.wait(0.21) == 0.0
    member.spoke(10.0, cost=5.0)
    assert member.wait(10.0) == 0.0


def test_what_a_member_says_counts_even_if_it_has_no_line_left() -> None:
    member = pace()
    member.spoke(0.0)
    member.spoke(0.0, cost=4.0)
    assert 0.99 < member.wait(0.0) < 1.01
    member.is_alive(0.0, cost=5.0)
    assert 1.99 < member.wait(0.0) < 2.01
