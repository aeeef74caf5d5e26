from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.stamp import STAMPSessionReflectorTestUnauthenticated, STAMPTestTLV

from netsvc.stamp.packets import finish_answer, prepare_answer
from netsvc.stamp.tlv_reflection import MAXIMUM_TLVS, ReflectedTlvs, TlvFacts, reflect_tlvs
from netsvc.stamp.tlvs import (
    ClassOfService,
    StampTlv,
    SyncSource,
    TimestampInformation,
    TimestampMethod,
    TlvType,
    decode_class_of_service,
    decode_timestamp_information,
    decode_tlvs,
    encode_tlvs,
    sign_tlvs,
    tlv_bounds,
    tlvs_are_genuine,
)
from tests.stamp_datagrams import ANSWER, KEY, T1

FACTS = TlvFacts(258, 9, traffic_class=0b101110_01, sync_source=SyncSource.NTP)
SIGNED = replace(FACTS, key=KEY)

PADDING = bytes.fromhex("80 01 0003 aabbcc")
TIMESTAMPS = bytes.fromhex("80 03 0004 00000000")
# DSCP1 is 10, that is 001010.
CLASS_OF_SERVICE = bytes.fromhex("80 04 0004 28000000")

tlvs = st.lists(st.builds(StampTlv, st.integers(0, 255), st.binary(max_size=40), st.integers(0, 255)), max_size=6)
#: Areas of TLVs, many of them understood or nearly so, and random octets.
areas = st.one_of(
    st.binary(max_size=100),
    tlvs.map(encode_tlvs),
    st.lists(
        st.builds(StampTlv, st.sampled_from([1, 3, 4, 8, 12]), st.sampled_from([b"", bytes(4), bytes(16)])), max_size=5
    ).map(encode_tlvs),
)
facts = st.builds(
    TlvFacts,
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.one_of(st.none(), st.integers(0, 255)),
    st.sampled_from(SyncSource),
    st.one_of(st.none(), st.just(KEY)),
    st.booleans(),
)


def hmac_tlv(sequence: int, preceding: bytes, flags: int = 0x80, key: bytes = KEY) -> bytes:
    """Make an HMAC TLV by hand."""
    text = sequence.to_bytes(4) + preceding
    return bytes((flags, 8, 0, 16)) + hmac.new(key, text, hashlib.sha256).digest()[:16]


# The format.


def test_a_tlv_is_flags_type_length_and_value() -> None:
    assert encode_tlvs([StampTlv(1, b"\xaa\xbb\xcc")]) == PADDING
    assert decode_tlvs(PADDING + TIMESTAMPS) == [StampTlv(1, b"\xaa\xbb\xcc"), StampTlv(3, bytes(4))]


@given(tlvs)
def test_tlvs_are_read_as_they_were_written(written: list[StampTlv]) -> None:
    assert decode_tlvs(encode_tlvs(written)) == written


@given(st.binary(max_size=200))
def test_any_octets_are_tlvs_and_only_the_last_may_be_cut_off(area: bytes) -> None:
    read = decode_tlvs(area)
    whole = encode_tlvs(read[:-1])
    assert area.startswith(whole)
    assert len(whole) < len(area) or not area


@pytest.mark.parametrize(
    ("rest", "tlv"),
    [
        ("80", StampTlv(0, b"", 0xC0)),
        ("800100", StampTlv(0, b"", 0xC0)),
        ("80010002aa", StampTlv(1, b"\xaa", 0xC0)),
        ("0003ffff", StampTlv(3, b"", 0x40)),
    ],
)
def test_a_tlv_that_is_cut_off_is_marked_as_malformed(rest: str, tlv: StampTlv) -> None:
    assert decode_tlvs(PADDING + bytes.fromhex(rest)) == [StampTlv(1, b"\xaa\xbb\xcc"), tlv]


def test_the_class_of_service_is_that_of_the_figure_of_rfc_8972() -> None:
    # DSCP1 001010, DSCP2 101110, ECN 01, RP 01, reserved.
    value = bytes((0b00101010, 0b1110_01_01, 0, 0))
    assert ClassOfService(0b001010, 0b101110, 1, 1).encode() == value
    assert decode_class_of_service(value) == ClassOfService(0b001010, 0b101110, 1, 1)
    assert decode_class_of_service(value + b"\0") is None


def test_the_timestamp_information_is_that_of_the_figure_of_rfc_8972() -> None:
    information = TimestampInformation(SyncSource.PTP, TimestampMethod.HARDWARE_ASSISTED, SyncSource.FREE_RUNNING, 77)
    assert information.encode() == bytes((2, 1, 5, 77))
    assert decode_timestamp_information(bytes((2, 1, 5, 77))) == information
    assert decode_timestamp_information(b"") is None


@given(st.builds(ClassOfService, *(st.integers(0, top) for top in (63, 63, 3, 3))))
def test_a_class_of_service_is_read_as_it_was_written(value: ClassOfService) -> None:
    assert decode_class_of_service(value.encode()) == value


@given(tlvs)
def test_scapy_reads_and_writes_the_same_tlvs(written: list[StampTlv]) -> None:
    area = encode_tlvs(written)
    packet = STAMPSessionReflectorTestUnauthenticated(ANSWER + area)
    read = [StampTlv(tlv.type, tlv.value, int(tlv.flags)) for tlv in packet.tlv_objects]
    assert read == written
    octets = b"".join(
        bytes(STAMPTestTLV(flags=tlv.flags, type=tlv.type, len=len(tlv.value), value=tlv.value)) for tlv in written
    )
    assert octets == area


def test_the_hmac_covers_the_sequence_number_and_the_tlvs_before_it() -> None:
    area = sign_tlvs(PADDING + TIMESTAMPS, 258, KEY)
    assert area == PADDING + TIMESTAMPS + hmac_tlv(258, PADDING + TIMESTAMPS)
    assert tlvs_are_genuine(area, 258, KEY)
    assert tlvs_are_genuine(area + PADDING, 258, KEY)
    assert not tlvs_are_genuine(area, 259, KEY)
    assert not tlvs_are_genuine(area, 258, KEY[1:])
    assert not tlvs_are_genuine(PADDING, 258, KEY)
    assert not tlvs_are_genuine(area[:-1], 258, KEY)
    assert not tlvs_are_genuine(area + TIMESTAMPS, 258, KEY)


# The answer.


def test_padding_returns_as_it_came_without_the_u_flag() -> None:
    assert reflect_tlvs(PADDING * 2, FACTS) == ReflectedTlvs(b"\x00" + PADDING[1:] + b"\x00" + PADDING[1:])


def test_timestamp_information_is_filled_in() -> None:
    assert reflect_tlvs(TIMESTAMPS, FACTS).area == bytes.fromhex("00 03 0004 01020102")
    free = replace(FACTS, sync_source=SyncSource.FREE_RUNNING)
    assert reflect_tlvs(TIMESTAMPS, free).area == bytes.fromhex("00 03 0004 05020502")


def test_the_class_of_service_tells_the_dscp_that_arrived_and_sets_that_of_the_answer() -> None:
    # DSCP1 001010, DSCP2 101110, ECN 01, RP 00.
    assert reflect_tlvs(CLASS_OF_SERVICE, FACTS) == ReflectedTlvs(bytes.fromhex("00 04 0004 2ae40000"), 10)


def test_a_class_of_service_cannot_be_told_if_the_traffic_class_is_unknown() -> None:
    answer = reflect_tlvs(CLASS_OF_SERVICE + TIMESTAMPS, replace(FACTS, traffic_class=None))
    assert answer == ReflectedTlvs(CLASS_OF_SERVICE + bytes.fromhex("00 03 0004 01020102"))


def test_a_second_dscp_is_reported_as_not_used() -> None:
    other = bytes.fromhex("80 04 0004 00000000")
    answer = reflect_tlvs(CLASS_OF_SERVICE + other + CLASS_OF_SERVICE, FACTS)
    first, second, third = (decode_class_of_service(tlv.value) for tlv in decode_tlvs(answer.area))
    assert answer.dscp == 10
    assert first == third == ClassOfService(10, 46, 1, 0)
    assert second == ClassOfService(0, 46, 1, 1)


@pytest.mark.parametrize("kind", [0, 2, 5, 6, 7, 9, 10, 11, 12, 13, 127, 252, 255])
@pytest.mark.parametrize("flags", [0x00, 0x80, 0xFF])
def test_a_type_that_is_not_understood_returns_with_the_u_flag_and_untouched(kind: int, flags: int) -> None:
    value = bytes.fromhex("ffff ffff 00000001 0102")
    answer = reflect_tlvs(encode_tlvs([StampTlv(kind, value, flags), StampTlv(1)]), FACTS)
    assert decode_tlvs(answer.area) == [StampTlv(kind, value, 0x80), StampTlv(1, b"", 0)]


@pytest.mark.parametrize(
    ("malformed", "flags"),
    [
        # The length is not that of the type.
        ("80 03 0000", 0x40),
        ("80 03 0005 0000000000", 0x40),
        ("80 04 0003 000000", 0x40),
        # The rest is shorter than the TLV.
        ("80 01 00ff aabb", 0x40),
        ("80 03 00ff aabb", 0x40),
        ("80 0c 00ff aabb", 0xC0),
    ],
)
def test_a_malformed_tlv_is_marked_and_the_rest_is_copied(malformed: str, flags: int) -> None:
    rest = bytes.fromhex(malformed) + TIMESTAMPS
    answer = reflect_tlvs(TIMESTAMPS + rest, FACTS).area
    assert answer == bytes.fromhex("00 03 0004 01020102") + bytes((flags,)) + rest[1:]


@pytest.mark.parametrize("rest", ["80", "00", "80 03", "80 03 00"])
def test_a_rest_without_room_for_a_tlv_is_marked_as_malformed(rest: str) -> None:
    octets = bytes.fromhex(rest)
    assert reflect_tlvs(PADDING + octets, FACTS).area == b"\x00" + PADDING[1:] + b"\xc0" + octets[1:]


@given(st.integers(0, 2000))
def test_zeros_are_the_padding_of_twamp_and_return_untouched(number: int) -> None:
    assert reflect_tlvs(bytes(number), FACTS) == ReflectedTlvs(bytes(number))


def test_too_many_tlvs_are_copied_unseen() -> None:
    most = TIMESTAMPS * MAXIMUM_TLVS
    assert reflect_tlvs(most, FACTS).area == bytes.fromhex("00 03 0004 01020102") * MAXIMUM_TLVS
    assert reflect_tlvs(most + PADDING, FACTS) == ReflectedTlvs(most + PADDING)


def test_a_right_hmac_is_renewed_for_the_answer() -> None:
    area = TIMESTAMPS + hmac_tlv(258, TIMESTAMPS) + PADDING
    filled = bytes.fromhex("00 03 0004 01020102")
    for authenticated in (False, True):
        answer = reflect_tlvs(area, replace(SIGNED, authenticated=authenticated)).area
        assert answer == filled + hmac_tlv(9, filled, flags=0) + b"\x00" + PADDING[1:]
        assert tlvs_are_genuine(answer, 9, KEY)


def test_the_hmac_is_renewed_behind_a_malformed_tlv_too() -> None:
    malformed = bytes.fromhex("80 03 0000")
    answer = reflect_tlvs(malformed + hmac_tlv(258, malformed), SIGNED).area
    marked = bytes.fromhex("40 03 0000")
    assert answer == marked + hmac_tlv(9, marked, flags=0)


WRONG_KEY = TIMESTAMPS + hmac_tlv(258, TIMESTAMPS, key=KEY[::-1])
NOT_LAST = hmac_tlv(258, b"") + TIMESTAMPS
TWICE = hmac_tlv(258, b"") + hmac_tlv(258, hmac_tlv(258, b""))
WRONG_LENGTH = TIMESTAMPS + bytes.fromhex("80 08 000f") + bytes(15)
CUT_OFF = TIMESTAMPS + hmac_tlv(258, TIMESTAMPS)[:-1]


@pytest.mark.parametrize("area", [WRONG_KEY, NOT_LAST, TWICE, WRONG_LENGTH, CUT_OFF])
def test_tlvs_whose_hmac_fails_are_copied_with_the_i_flag(area: bytes) -> None:
    answer = reflect_tlvs(area, SIGNED)
    marked = bytearray(area)
    for start, _ in tlv_bounds(area):
        marked[start] |= 0x20
    assert answer == ReflectedTlvs(bytes(marked))


def test_an_hmac_without_a_key_fails() -> None:
    area = TIMESTAMPS + hmac_tlv(258, TIMESTAMPS)
    assert [tlv.flags for tlv in decode_tlvs(reflect_tlvs(area, FACTS).area)] == [0xA0, 0xA0]


def test_the_authenticated_mode_needs_an_hmac_unless_the_only_tlv_is_padding() -> None:
    authenticated = replace(SIGNED, authenticated=True)
    assert [tlv.flags for tlv in decode_tlvs(reflect_tlvs(PADDING * 2, authenticated).area)] == [0xA0, 0xA0]
    assert reflect_tlvs(TIMESTAMPS, authenticated).area == b"\xa0" + TIMESTAMPS[1:]
    assert reflect_tlvs(PADDING, authenticated).area == b"\x00" + PADDING[1:]
    assert reflect_tlvs(b"", authenticated).area == b""


@given(areas, facts)
def test_the_answer_has_as_many_octets_and_the_same_types_and_lengths(area: bytes, known: TlvFacts) -> None:
    answer = reflect_tlvs(area, known)
    assert len(answer.area) == len(area)
    shapes = [[(tlv.type, len(tlv.value)) for tlv in decode_tlvs(octets)] for octets in (area, answer.area)]
    assert shapes[0] == shapes[1]
    assert answer.dscp is None or 0 <= answer.dscp < 64


@given(tlvs, facts)
def test_what_a_sender_signs_the_reflector_signs_again(written: list[StampTlv], known: TlvFacts) -> None:
    area = encode_tlvs([tlv for tlv in written if tlv.type != TlvType.HMAC])
    known = replace(known, key=KEY)
    answer = reflect_tlvs(sign_tlvs(area, known.question_sequence, KEY), known)
    assert tlvs_are_genuine(answer.area, known.answer_sequence, KEY)


@given(st.binary(min_size=14, max_size=200), facts)
def test_an_answer_is_never_longer_than_44_octets_or_its_question(question: bytes, known: TlvFacts) -> None:
    tail = prepare_answer(question, T1, 64) + reflect_tlvs(question[44:], known).area
    answer = finish_answer(question, known.answer_sequence, 1, tail, T1)
    assert len(answer) == max(44, len(question))
