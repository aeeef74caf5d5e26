from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.probe.probe_payload import (
    MAGIC,
    PROBE_SIZE_MAX,
    PROBE_SIZE_MIN,
    ParsedPayload,
    PayloadError,
    PayloadKind,
    ProbePayload,
)
from netsvc.timestamp.format import TimestampFormatter

RUN = b"12345678"

runs = st.binary(min_size=8, max_size=8)
sequences = st.integers(0, 2**64 - 1)
sents = st.integers(-(2**63), 2**63 - 1)
sizes = st.integers(PROBE_SIZE_MIN, 2000)
prefixes = st.sampled_from([b"", TimestampFormatter().prefix(1_780_000_000.0)])


@given(runs, sequences, sents, sizes, prefixes)
def test_an_answer_of_an_echo_or_a_timestamp_responder_is_recognised(
    run: bytes, sequence: int, sent: int, size: int, prefix: bytes
) -> None:
    payload = ProbePayload(run, size)
    datagram = payload.encode(sequence, sent)
    assert len(datagram) == size
    assert payload.parse(prefix + datagram) == ParsedPayload(PayloadKind.OURS, sequence, sent)


@given(sequences, sents, sizes, prefixes)
def test_a_probe_of_another_run_is_told_apart(sequence: int, sent: int, size: int, prefix: bytes) -> None:
    datagram = prefix + ProbePayload(b"87654321", size).encode(sequence, sent)
    assert ProbePayload(RUN, size).parse(datagram) == ParsedPayload(PayloadKind.OTHER_RUN, sequence, sent)


@given(sizes, st.data())
def test_one_altered_byte_anywhere_is_corruption(size: int, data: st.DataObject) -> None:
    payload = ProbePayload(RUN, size)
    datagram = bytearray(payload.encode(5, 6))
    datagram[data.draw(st.integers(0, size - 1))] ^= data.draw(st.integers(1, 255))
    assert payload.parse(bytes(datagram)).kind is PayloadKind.CORRUPTED


@given(sizes, st.integers(1, 30))
def test_a_cut_or_extended_probe_is_corruption(size: int, number: int) -> None:
    payload = ProbePayload(RUN, size)
    datagram = payload.encode(5, 6)
    assert payload.parse(datagram + bytes(number)).kind is PayloadKind.CORRUPTED
    shorter = datagram[: max(16, size - number)]
    assert payload.parse(shorter).kind is PayloadKind.CORRUPTED


@given(st.binary(max_size=200).filter(lambda datagram: MAGIC not in datagram and RUN not in datagram))
def test_any_other_datagram_is_not_a_probe(datagram: bytes) -> None:
    assert ProbePayload(RUN).parse(datagram).kind is PayloadKind.NOT_A_PROBE


@pytest.mark.parametrize("size", [PROBE_SIZE_MIN - 1, PROBE_SIZE_MAX + 1])
def test_a_size_that_no_datagram_has_is_refused(size: int) -> None:
    with pytest.raises(PayloadError, match=f"a size of {size} bytes: choose 38 to 65507"):
        ProbePayload(RUN, size)


def test_the_largest_datagram_of_udp_can_be_sent() -> None:
    payload = ProbePayload(RUN, PROBE_SIZE_MAX)
    assert payload.parse(payload.encode(1, 2)).kind is PayloadKind.OURS


def test_a_run_has_eight_bytes() -> None:
    with pytest.raises(PayloadError, match="a run of 3 bytes"):
        ProbePayload(b"run")
