from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.cli.json_lines import json_line
from netsvc.probe.clock_offset import ClockEstimate
from netsvc.probe.duration_summary import DurationSummary
from netsvc.probe.fail_condition import FailConditionError, parse_fail_condition
from netsvc.probe.loss_direction import DirectionCounts
from netsvc.probe.probe_event import ProbeEvent
from netsvc.probe.probe_ledger import LedgerCounts
from netsvc.probe.probe_statistics import DurationKind
from netsvc.probe.probe_summary import (
    ClockSummary,
    ProbeSummary,
    StampSourceCounts,
    counts_since,
    directions_since,
    sources_since,
)

MS = 1_000_000

RTT = DurationSummary(
    98, 1 * MS, 10.5 * MS, 40 * MS, 2.5 * MS, {"p50": 10 * MS, "p90": 12 * MS, "p99": 20 * MS, "p99.9": 39 * MS}
)

SUMMARY = ProbeSummary(
    target="host:862",
    protocol="stamp",
    scope="total",
    started=1_780_000_000_250_000_000,
    duration=20_000_000_000,
    interval=200 * MS,
    counts=LedgerCounts(attempted=102, sent=101, unsent=1, answered=97, late=1, lost=2, pending=1, duplicates=3),
    address="192.0.2.1:862",
    late_sends=4,
    void_times=5,
    durations={"rtt": RTT},
    jitter={"rtt": 1.5 * MS, "there": 1.0 * MS},
    direction=DirectionCounts(stateful=True, lost_there=1, lost_unknown=1, duplicates_back=3),
    clock=ClockSummary(ClockEstimate(-7_000, 500, 1.5, 0.25), 1, 2, True, None),
    sources=StampSourceCounts(sent_kernel=90, sent_process=8, received_kernel=98),
    rate_limit=100.5,
    errors={"no buffer space": 1},
)

EMPTY = ProbeSummary("host", "udp", "total", 0, 0, MS, LedgerCounts())


def test_the_json_of_a_summary_is_the_documented_one() -> None:
    durations = {"count": 98, "min_seconds": 0.001, "mean_seconds": 0.0105, "max_seconds": 0.04}
    durations |= {"stddev_seconds": 0.0025, "p50_seconds": 0.01, "p90_seconds": 0.012, "p99_seconds": 0.02}
    direction = {"stateful": True, "lost_there": 1, "lost_back": 0, "lost_unknown": 1, "duplicates_there": 0}
    direction |= {"duplicates_back": 3, "duplicates_unknown": 0, "reordered_there": 0, "reordered_back": 0}
    assert SUMMARY.to_json() == {
        **{"type": "summary", "version": 1, "target": "host:862", "address": "192.0.2.1:862", "protocol": "stamp"},
        **{"scope": "total", "started_seconds": 1_780_000_000.25, "duration_seconds": 20.0, "interval_seconds": 0.2},
        **{"attempted": 102, "sent": 101, "unsent": 1, "answered": 97, "late": 1, "lost": 2, "pending": 1},
        **{"duplicates": 3, "reordered": 0, "reordering_extent_max": 0, "corrupted": 0, "foreign": 0, "forgotten": 0},
        **{"loss": 0.02, "late_sends": 4, "void_times": 5},
        "durations": {"rtt": durations | {"p99_9_seconds": 0.039}},
        "jitter": {"rtt_seconds": 0.0015, "there_seconds": 0.001},
        "direction": direction | {"restarts": 0},
        "clock": {
            **{"offset_seconds": -7e-06, "offset_uncertainty_seconds": 5e-07, "drift_ppm": 1.5},
            **{"drift_uncertainty_ppm": 0.25, "steps": 1, "movements": 2},
            **{"sender_synchronised": True, "reflector_synchronised": None},
        },
        "sources": {"sent_kernel": 90, "sent_process": 8, "received_kernel": 98, "received_process": 0},
        "rate_limit": 100.5,
        "errors": {"no buffer space": 1},
    }


@pytest.mark.parametrize("summary", [SUMMARY, EMPTY, replace(SUMMARY, clock=ClockSummary())])
def test_a_summary_is_one_line_of_json(summary: ProbeSummary) -> None:
    assert json.loads(json_line(summary.to_json())) == summary.to_json()


def test_the_loss_is_a_fraction_of_the_probes_that_have_a_verdict() -> None:
    assert SUMMARY.loss == Fraction(1, 50)
    assert EMPTY.loss is None


def test_an_interval_in_which_losses_were_answered_late_has_no_fraction_of_losses() -> None:
    counts = LedgerCounts(sent=5, lost=-25, late=30)
    assert replace(SUMMARY, scope="interval", counts=counts).loss is None


def test_the_numbers_of_an_interval_are_the_differences_except_those_of_the_moment() -> None:
    before = LedgerCounts(attempted=10, sent=10, answered=5, pending=3, lost=2, reordering_extent_max=4)
    after = LedgerCounts(attempted=14, sent=14, answered=12, late=1, pending=0, lost=1, reordering_extent_max=6)
    assert counts_since(after, before) == LedgerCounts(
        attempted=4, sent=4, answered=7, late=1, lost=-1, reordering_extent_max=6
    )
    direction = DirectionCounts(stateful=True, lost_there=2)
    assert directions_since(direction, DirectionCounts(lost_unknown=1)) == DirectionCounts(
        stateful=True, lost_there=2, lost_unknown=-1
    )
    assert sources_since(StampSourceCounts(5, 4, 3, 2), StampSourceCounts(1, 1, 1, 1)) == StampSourceCounts(4, 3, 2, 1)


def test_the_json_of_an_event_has_the_fields_that_are_known() -> None:
    event = ProbeEvent("host", "late", 1_500 * MS, 7, rtt=MS, there_delay=-MS, sent_source="kernel", extent=2)
    assert event.to_json() == {
        **{"type": "late", "version": 1, "target": "host", "time_seconds": 1.5, "sequence": 7, "rtt_seconds": 0.001},
        **{"there_delay_seconds": -0.001, "sent_source": "kernel"},
        "reordering_extent": 2,
    }
    assert ProbeEvent("host", "unsent", 0, 0, error="no route").to_json() == {
        **{"type": "unsent", "version": 1, "target": "host", "time_seconds": 0.0, "sequence": 0, "error": "no route"}
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("loss>1%", "loss is 2%"),
        ("loss >= 2%", "loss is 2%"),
        ("p99>=20ms", "p99 is 20ms"),
        ("p99>19999us", "p99 is 20ms"),
        ("p99>19999999ns", "p99 is 20ms"),
        ("p99<0.021s", "p99 is 20ms"),
        ("p99.9>0.038s", "p99.9 is 39ms"),
        ("mean<11ms", "mean is 10.5ms"),
        ("rtt.max>5ms", "rtt.max is 40ms"),
        ("duplicates>0", "duplicates is 3"),
        ("late>0", "late is 1"),
        ("late_sends>3", "late_sends is 4"),
        ("loss_there>0.5%", "loss_there is 1%"),
        ("duplicates_back>2", "duplicates_back is 3"),
        ("jitter>1.4ms", "jitter is 1.5ms"),
        ("jitter_there<=1ms", "jitter_there is 1ms"),
        ("sent<=101", "sent is 101"),
    ],
)
def test_a_condition_that_is_met_says_which_value_met_it(text: str, words: str) -> None:
    assert parse_fail_condition(text).failure(SUMMARY) == f"{text}: {words}"


@pytest.mark.parametrize(
    "text", ["loss>2%", "p99>20ms", "p50>=10001us", "duplicates>3", "loss_back>0%", "jitter>1.5ms"]
)
def test_a_condition_that_is_not_met_says_nothing(text: str) -> None:
    assert parse_fail_condition(text).failure(SUMMARY) is None


@pytest.mark.parametrize("text", ["loss>1%", "p99>20ms", "loss_there>1%", "jitter>1ms", "connect.p99>1s"])
def test_a_value_that_is_not_known_meets_every_condition(text: str) -> None:
    assert parse_fail_condition(text).failure(EMPTY) == f"{text}: {text.partition('>')[0]} is unknown"


def test_no_direction_is_known_while_the_reflector_may_be_stateless() -> None:
    summary = replace(SUMMARY, direction=DirectionCounts(lost_unknown=2, duplicates_unknown=1))
    assert parse_fail_condition("loss_there>50%").failure(summary) == "loss_there>50%: loss_there is unknown"
    assert parse_fail_condition("duplicates_back>9").failure(summary) is not None
    assert parse_fail_condition("loss_unknown>1%").failure(summary) == "loss_unknown>1%: loss_unknown is 2%"
    without_loss = replace(SUMMARY, direction=DirectionCounts())
    assert parse_fail_condition("loss_there>0%").failure(without_loss) is None


def test_a_percentile_without_a_prefix_is_that_of_the_connection_where_there_is_no_round_trip() -> None:
    summary = replace(SUMMARY, durations={"connect": RTT})
    assert parse_fail_condition("p99>19ms").failure(summary) == "p99>19ms: p99 is 20ms"


def test_each_kind_of_duration_can_be_named() -> None:
    for kind in DurationKind:
        condition = parse_fail_condition(f"{kind.value}.p99.9>1s")
        assert condition.failure(replace(SUMMARY, durations={kind.value: RTT})) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("loss", "is not a condition; write NAME>VALUE, as in loss>1% or p99>20ms"),
        ("loss>", "is not a condition"),
        ("loss=1%", "is not a condition"),
        ("loss>-1%", "is not a condition"),
        ("los>1%", "no value is named 'los'; choose loss, loss_there, loss_back"),
        ("loss>1", "loss is a fraction and needs %; write loss>1%"),
        ("p99>20", "p99 is a duration and needs ns or us or ms or s; write p99>20ms"),
        ("p99>=20min", "write p99>=20ms"),
        ("late>1%", "late is a count and needs no unit; write late>0"),
    ],
)
def test_a_text_that_is_no_condition_is_refused_with_a_remedy(text: str, problem: str) -> None:
    with pytest.raises(FailConditionError) as refused:
        parse_fail_condition(text)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=30) | st.from_regex(r"[a-z0-9_.]{1,9}[<>]=?[0-9.]{1,20}[a-z%]{0,2}", fullmatch=True))
def test_no_text_raises_anything_else(text: str) -> None:
    with suppress(FailConditionError):
        parse_fail_condition(text).failure(SUMMARY)


def test_the_list_of_names_is_complete_and_short_enough_for_a_terminal() -> None:
    with pytest.raises(FailConditionError) as refused:
        parse_fail_condition("x>1")
    known: Any = SUMMARY.to_json()
    for name in ("sent", "unsent", "answered", "lost", "late", "duplicates", "reordered", "corrupted", "foreign"):
        assert name in str(refused.value)
        assert name in known
    assert len(str(refused.value)) < 600
