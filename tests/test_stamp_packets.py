from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated, STAMPSessionSenderTestUnauthenticated

from netsvc.stamp.packets import (
    StampAnswer,
    StampFormatError,
    StampQuestion,
    authenticated_ssid_of,
    decode_answer,
    decode_question,
    encode_answer,
    encode_question,
    finish_answer,
    finish_authenticated_answer,
    is_genuine,
    looks_reflected,
    looks_reflected_authenticated,
    prepare_answer,
    prepare_authenticated_answer,
    ssid_of,
)
from netsvc.stamp.stamp_times import SECOND, ErrorEstimate, TimeFormat, decode_error_estimate, encode_time
from tests.stamp_datagrams import (
    ANSWER,
    KEY,
    QUESTION,
    T1,
    UNSIGNED_ANSWER,
    UNSIGNED_QUESTION,
    answers,
    questions,
)

T2, T3 = T1 + 2_000_000, T1 + 5_000_000
SENDER_ESTIMATE = decode_error_estimate(0x8F84)
ESTIMATE = decode_error_estimate(0x1280)
keys = st.one_of(st.none(), st.binary(min_size=16, max_size=80))


def signed(octets: bytes) -> bytes:
    """Add an HMAC as RFC 8762, section 4.4, says."""
    return octets + hmac.new(KEY, octets, hashlib.sha256).digest()[:16]


def ptp(estimate: ErrorEstimate) -> ErrorEstimate:
    return replace(estimate, time_format=TimeFormat.PTP)


UNAUTHENTICATED_VALUES = (
    StampQuestion(0x102, T1, SENDER_ESTIMATE, 0xABCD),
    StampAnswer(9, T3, ESTIMATE, 0xABCD, T2, 0x102, T1, SENDER_ESTIMATE, 63),
)
AUTHENTICATED_VALUES = (
    StampQuestion(0x102, T1, ptp(SENDER_ESTIMATE), 0xABCD),
    StampAnswer(9, T3, ptp(ESTIMATE), 0xABCD, T2, 0x102, T1, ptp(SENDER_ESTIMATE), 63),
)


def reflect(question: bytes, sequence: int = 9, bits: int = 0x1280, key: bytes | None = None) -> bytes:
    """Answer as the reflector does, without TLVs."""
    if key is None:
        return finish_answer(question, sequence, bits, prepare_answer(question, T2, 63), T3)
    tail = prepare_authenticated_answer(question, T2, 63)
    return finish_authenticated_answer(question, sequence, bits, tail, T3, key)


def test_the_packets_without_authentication_are_those_of_the_figures_of_rfc_8972() -> None:
    question, answer = UNAUTHENTICATED_VALUES
    assert encode_question(question) == QUESTION
    assert encode_answer(answer) == ANSWER
    assert decode_question(QUESTION, near=T1) == question
    assert decode_answer(ANSWER, near=T1) == answer


def test_the_packets_with_authentication_are_those_of_the_figures_of_rfc_8972() -> None:
    question, answer = AUTHENTICATED_VALUES
    assert encode_question(question, KEY) == signed(UNSIGNED_QUESTION)
    assert encode_answer(answer, KEY) == signed(UNSIGNED_ANSWER)
    assert decode_question(signed(UNSIGNED_QUESTION), near=T1, key=KEY) == question
    assert decode_answer(signed(UNSIGNED_ANSWER), near=T1, key=KEY) == answer


def test_the_reflector_answers_with_the_octets_of_the_figures() -> None:
    assert reflect(QUESTION) == ANSWER
    assert reflect(signed(UNSIGNED_QUESTION), key=KEY) == signed(UNSIGNED_ANSWER)


@given(questions, keys)
def test_a_question_is_read_as_it_was_written(question: StampQuestion, key: bytes | None) -> None:
    octets = encode_question(question, key)
    assert decode_question(octets, near=T1, key=key) == rounded(question)
    assert len(octets) == (44 if key is None else 112) + len(question.tlvs)


@given(answers, keys)
def test_an_answer_is_read_as_it_was_written(answer: StampAnswer, key: bytes | None) -> None:
    octets = encode_answer(answer, key)
    assert decode_answer(octets, near=T1, key=key) == rounded(answer)


def rounded(packet: Any) -> Any:
    """Return the packet with error estimates that can be written."""
    estimates = [name for name in ("error_estimate", "sender_error_estimate") if hasattr(packet, name)]
    return replace(packet, **{name: decode_error_estimate(getattr(packet, name).encode()) for name in estimates})


@given(questions, st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 0xBFFF), keys)
def test_the_reflector_answers_each_question_in_its_format(
    question: StampQuestion, sequence: int, ttl: int, bits: int, key: bytes | None
) -> None:
    question = replace(rounded(question), tlvs=b"")
    asked = encode_question(question, key)
    bits &= 0xBFFF  # the Z bit is the question's
    if key is None:
        octets = finish_answer(asked, sequence, bits, prepare_answer(asked, T2, ttl), T3)
    else:
        tail = prepare_authenticated_answer(asked, T2, ttl)
        octets = finish_authenticated_answer(asked, sequence, bits, tail, T3, key)
    estimate = replace(decode_error_estimate(bits), time_format=question.error_estimate.time_format)
    assert decode_answer(octets, near=T1, key=key) == StampAnswer(
        sequence, T3, estimate, question.ssid, T2, question.sequence, question.time, question.error_estimate, ttl
    )
    assert len(octets) == len(asked)


@given(st.binary(min_size=14, max_size=43))
def test_octets_that_a_question_of_twamp_lacks_are_zeros(question: bytes) -> None:
    filled = question + bytes(44 - len(question))
    assert decode_question(question, near=T1) == decode_question(filled, near=T1)
    assert reflect(question) == reflect(filled)
    assert len(reflect(question)) == 44


@given(st.binary(max_size=200), st.one_of(st.none(), st.just(KEY)))
def test_any_octets_are_read_or_refused_with_one_exception(datagram: bytes, key: bytes | None) -> None:
    for decode in (decode_question, decode_answer):
        try:
            decode(datagram, near=T1, key=key)
        except StampFormatError:
            assert key is not None or len(datagram) < 41
        else:
            assert key is None


@pytest.mark.parametrize(
    ("decode", "length", "key"),
    [(decode_question, 14, None), (decode_answer, 41, None), (decode_question, 112, KEY), (decode_answer, 112, KEY)],
)
def test_a_datagram_that_is_too_short_is_refused_with_its_length(
    decode: Callable[..., object], length: int, key: bytes | None
) -> None:
    octets = signed(UNSIGNED_QUESTION)
    decode(octets[:length], near=T1, key=key)
    expected = f"the datagram has {length - 1} octets, and a packet has {length} or more"
    with pytest.raises(StampFormatError, match=expected):
        decode(octets[: length - 1], near=T1, key=key)


@given(st.integers(0, 112 * 8 - 1))
def test_each_wrong_bit_of_an_authenticated_packet_is_noticed(bit: int) -> None:
    wrong = bytearray(signed(UNSIGNED_QUESTION))
    wrong[bit // 8] ^= 1 << bit % 8
    assert is_genuine(signed(UNSIGNED_QUESTION), KEY)
    assert not is_genuine(bytes(wrong), KEY)
    with pytest.raises(StampFormatError, match="the HMAC is wrong"):
        decode_question(bytes(wrong), near=T1, key=KEY)


def test_the_hmac_does_not_cover_the_tlvs() -> None:
    octets = signed(UNSIGNED_QUESTION) + b"\x80\x01\x00\x00"
    assert is_genuine(octets, KEY)
    assert decode_question(octets, near=T1, key=KEY).tlvs == b"\x80\x01\x00\x00"
    assert not is_genuine(octets, KEY[1:])


def test_the_ssid_is_found_in_each_mode() -> None:
    assert ssid_of(QUESTION) == ssid_of(QUESTION + b"\x80\x01\x00\x00") == ssid_of(QUESTION[:20]) == 0xABCD
    assert authenticated_ssid_of(signed(UNSIGNED_QUESTION)) == 0xABCD


def test_random_padding_of_twamp_is_no_ssid() -> None:
    for padding in (QUESTION[14:16] + b"\1", QUESTION[14:43] + b"\1", b"", b"\1"):
        assert ssid_of(QUESTION[:14] + padding) == 0


@pytest.mark.parametrize("away", [-3600, 0, 3600])
@pytest.mark.parametrize("now", [T1, 2_085_978_496 * SECOND + 5, 2**32 * SECOND + 5])  # with the wraps of 2036 and 2106
@pytest.mark.parametrize("time_format", list(TimeFormat))
def test_a_datagram_with_a_time_of_about_now_as_t2_is_an_answer(away: int, now: int, time_format: TimeFormat) -> None:
    time = encode_time(now + away * SECOND, time_format)
    assert looks_reflected(QUESTION[:16] + time + QUESTION[24:], now)
    assert looks_reflected_authenticated(UNSIGNED_QUESTION[:32] + time + UNSIGNED_QUESTION[40:] + bytes(16), now)


@given(questions, keys)
def test_each_answer_of_a_reflector_looks_reflected(question: StampQuestion, key: bytes | None) -> None:
    octets = encode_question(question, key)
    looks = looks_reflected if key is None else looks_reflected_authenticated
    assert not looks(octets, T1)
    assert looks(reflect(octets, key=key), T1)


def test_padding_of_twamp_does_not_look_reflected() -> None:
    for padding in (b"\xff" * 30, b"\1" * 30, ANSWER[14:40]):
        assert not looks_reflected(QUESTION[:14] + padding, T1)
    two_hours_ago = encode_time(T1 - 7200 * SECOND, TimeFormat.NTP)
    assert not looks_reflected(QUESTION[:16] + two_hours_ago + QUESTION[24:], T1)


@given(st.binary(min_size=14, max_size=100), st.integers(0, 2**63))
def test_any_octets_look_reflected_or_not(question: bytes, now: int) -> None:
    assert looks_reflected(question, now) in (False, True)


# scapy reads and writes times as integers of 64 bits. It knows the unauthenticated mode only.


def of_scapy(packet: Any) -> dict[str, Any]:
    """Return the fields of a packet of scapy under the names of netsvc."""
    fields = dict(packet.fields)
    for name in ("err_estimate", "err_estimate_sender"):
        if name in fields:
            bits = fields.pop(name)
            fields[name] = bits.S << 15 | bits.Z << 14 | bits.scale << 8 | bits.multiplier
    return fields


def as_integer(time: int, estimate: ErrorEstimate) -> int:
    return int.from_bytes(encode_time(time, estimate.time_format))


@given(questions)
def test_scapy_reads_our_questions_and_writes_the_same(question: StampQuestion) -> None:
    question = replace(question, tlvs=b"")
    packet = STAMPSessionSenderTestUnauthenticated(encode_question(question))
    assert of_scapy(packet) == {
        "seq": question.sequence,
        "ts": as_integer(question.time, question.error_estimate),
        "err_estimate": question.error_estimate.encode(),
        "ssid": question.ssid,
        "mbz": 0,
        "tlv_objects": [],
    }
    packet.clear_cache()
    packet.raw_packet_cache = None
    assert decode_question(bytes(packet), near=T1) == rounded(question)


@given(answers)
def test_scapy_reads_our_answers_and_writes_the_same(answer: StampAnswer) -> None:
    answer = replace(answer, tlvs=b"")
    packet = STAMPSessionReflectorTestUnauthenticated(encode_answer(answer))
    assert of_scapy(packet) == {
        "seq": answer.sequence,
        "ts": as_integer(answer.transmit_time, answer.error_estimate),
        "err_estimate": answer.error_estimate.encode(),
        "ssid": answer.ssid,
        "ts_rx": as_integer(answer.receive_time, answer.error_estimate),
        "seq_sender": answer.sender_sequence,
        "ts_sender": as_integer(answer.sender_time, answer.sender_error_estimate),
        "err_estimate_sender": answer.sender_error_estimate.encode(),
        "mbz1": 0,
        "ttl_sender": answer.sender_ttl,
        "mbz2": 0,
        "tlv_objects": [],
    }
    packet.clear_cache()
    assert decode_answer(bytes(packet), near=T1) == rounded(answer)
