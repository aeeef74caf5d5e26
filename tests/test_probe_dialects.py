"""The questions of a probe, and the answers of each kind of responder to them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.probe_dialects import (
    FIRST_SEQUENCE,
    REMEMBERED_TIMES,
    EchoDialect,
    ParsedAnswer,
    ProbeSizeError,
    ReflectedTimes,
    StampDialect,
)
from netsvc.probe.probe_payload import PayloadError, PayloadKind
from netsvc.stamp.packets import StampAnswer, decode_answer, decode_question, encode_answer, unpack_answer
from netsvc.stamp.stamp_times import ErrorEstimate, TimeFormat
from netsvc.timestamp.format import TimestampFormatter
from tests.stamp_datagrams import T1, answers

SSID = 7
RUN = b"this run"
UNKNOWN = ErrorEstimate(False, TimeFormat.NTP, 0.5)


def answer_to(question: bytes, sequence: int = 3, **changes: object) -> bytes:
    """Return what a STAMP reflector answers, 2 ms after the question, in 1 ms."""
    asked = decode_question(question, near=T1)
    answer = StampAnswer(
        sequence,
        T1 + 3_000_000,
        UNKNOWN,
        asked.ssid,
        T1 + 2_000_000,
        asked.sequence,
        asked.time,
        asked.error_estimate,
        64,
        asked.tlvs,
    )
    return encode_answer(replace(answer, **changes))  # type: ignore[arg-type]  # fields of it


@pytest.mark.parametrize("ptp", [False, True])
def test_an_answer_to_a_stamp_question_has_its_number_and_the_times_of_the_reflector(ptp: bool) -> None:
    dialect = StampDialect(SSID, 44)
    dialect.question(0, T1 - 5)
    question = dialect.question(1, T1)
    assert decode_question(question, near=T1).sequence == 1 + FIRST_SEQUENCE
    estimate = ErrorEstimate(True, TimeFormat.PTP if ptp else TimeFormat.NTP, 0.5)
    parsed = dialect.parse(answer_to(question, error_estimate=estimate), T1 + 5_000_000)
    times = ReflectedTimes(3, T1 + 2_000_000, T1 + 3_000_000, True, 0.5, 64)
    assert parsed == ParsedAnswer(PayloadKind.OURS, 1, times)


@given(answers, st.integers(0, 3))
def test_the_numbers_of_an_answer_are_those_of_its_fields(answer: StampAnswer, cut: int) -> None:
    octets = encode_answer(replace(answer, tlvs=b""))[: 44 - cut]
    decoded = decode_answer(octets, near=T1)
    sequence, _, bits, ssid, _, sender_sequence, _, sender_bits, ttl = unpack_answer(octets)
    assert (sequence, ssid, sender_sequence, ttl) == (
        decoded.sequence,
        decoded.ssid,
        decoded.sender_sequence,
        decoded.sender_ttl,
    )
    assert (bits, sender_bits) == (decoded.error_estimate.encode(), decoded.sender_error_estimate.encode())


@pytest.mark.parametrize("size", [44, 48, 49, 1_472, 65_507])
def test_a_stamp_question_has_its_size_and_its_padding_must_come_back(size: int) -> None:
    dialect = StampDialect(SSID, size)
    question = dialect.question(0, T1)
    assert len(question) == size
    answer = answer_to(question)
    assert dialect.parse(answer, T1).kind is PayloadKind.OURS
    if size > 44:
        without_flag = answer[:44] + b"\0" + answer[45:]
        assert dialect.parse(without_flag, T1).kind is PayloadKind.OURS
        for damaged in (answer[:-1], answer[:44], answer + b"\0", answer[:44] + b"\x40" + answer[45:]):
            assert dialect.parse(damaged, T1).kind is PayloadKind.CORRUPTED
    else:  # some reflectors append octets
        assert dialect.parse(answer + bytes(20), T1).kind is PayloadKind.OURS


@pytest.mark.parametrize("size", [-1, 0, 43, 45, 47, 65_508])
def test_stamp_has_no_other_sizes(size: int) -> None:
    with pytest.raises(ProbeSizeError, match="44 bytes, or 48 or more"):
        StampDialect(SSID, size)


@pytest.mark.parametrize("size", [37, 65_508])
def test_echo_has_no_other_sizes(size: int) -> None:
    with pytest.raises(PayloadError, match="choose 38 to 65507"):
        EchoDialect(RUN, size)


@pytest.mark.parametrize("behind", [b"", bytes(27), b"\xff" * 30])
def test_an_answer_of_twamp_light_has_no_ssid_and_any_padding(behind: bytes) -> None:
    dialect = StampDialect(SSID, 100)
    answer = answer_to(dialect.question(0, T1), ssid=0, tlvs=behind)
    assert dialect.parse(answer, T1).kind is PayloadKind.OURS
    assert dialect.parse(answer[:41], T1).kind is PayloadKind.OURS
    assert dialect.parse(answer[:40], T1).kind is PayloadKind.NOT_A_PROBE


def test_answers_to_other_runs_and_damaged_ones_are_told_apart() -> None:
    dialect = StampDialect(SSID, 44)
    question = dialect.question(0, T1)

    def kind(**changes: int) -> PayloadKind:
        return dialect.parse(answer_to(question, **changes), T1).kind

    assert kind(ssid=SSID + 1) is PayloadKind.OTHER_RUN
    assert kind(sender_sequence=0) is PayloadKind.OTHER_RUN  # a number that was never sent
    assert kind(sender_sequence=9) is PayloadKind.OTHER_RUN
    assert kind(sender_time=T1 + 1) is PayloadKind.CORRUPTED
    assert kind(sender_time=T1 + 1, ssid=0) is PayloadKind.OTHER_RUN
    assert kind() is PayloadKind.OURS


def test_a_question_that_is_sent_again_replaces_the_first_one() -> None:
    dialect = StampDialect(SSID, 44)
    first, second = dialect.question(0, T1), dialect.question(0, T1 + 1)
    assert [dialect.parse(answer_to(question), T1).kind for question in (first, second)] == [
        PayloadKind.CORRUPTED,
        PayloadKind.OURS,
    ]


def test_an_answer_to_a_question_that_is_forgotten_is_none_of_this_run() -> None:
    dialect = StampDialect(SSID, 44)
    old = answer_to(dialect.question(0, T1))
    recent = answer_to(dialect.question(1, T1))
    dialect.question(REMEMBERED_TIMES, T1)
    assert dialect.parse(old, T1).kind is PayloadKind.OTHER_RUN
    assert dialect.parse(recent, T1).sequence == 1


def test_sequence_numbers_of_32_bits_wrap() -> None:
    """At 20,000 probes a second, they do so after 60 hours."""
    dialect = StampDialect(SSID, 44)
    questions = {number: dialect.question(number, T1 + number) for number in range(2**32 - 5, 2**32 + 5)}
    for number, question in questions.items():
        assert int.from_bytes(question[:4]) == (number + FIRST_SEQUENCE) % 2**32
        assert dialect.parse(answer_to(question), T1).sequence == number


def test_the_claim_of_the_clock_is_in_the_questions_from_then_on() -> None:
    dialect = StampDialect(SSID, 44)
    assert not decode_question(dialect.question(0, T1), near=T1).error_estimate.synchronized
    dialect.claim(ErrorEstimate(True, TimeFormat.NTP, 0.001))
    assert decode_question(dialect.question(1, T1), near=T1).error_estimate.synchronized


@given(st.binary(max_size=200), st.integers(0, 2**63 - 1))
def test_no_datagram_raises(datagram: bytes, wall: int) -> None:
    dialects = (StampDialect(SSID, 44), StampDialect(SSID, 60), EchoDialect(RUN, 64))
    for dialect in dialects:
        dialect.question(0, wall)
        assert dialect.parse(datagram, wall).kind is not PayloadKind.OURS


def test_echo_and_timestamp_answers_are_those_of_their_questions() -> None:
    dialect = EchoDialect(RUN, 64)
    question = dialect.question(8, T1)
    for answer in (question, TimestampFormatter().prefix(0) + question):
        assert dialect.parse(answer, T1) == ParsedAnswer(PayloadKind.OURS, 8)
    assert dialect.parse(EchoDialect(b"another.", 64).question(8, T1), T1).kind is PayloadKind.OTHER_RUN
    assert dialect.parse(question[:-1] + b"x", T1).kind is PayloadKind.CORRUPTED
