from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.check.udp_question import TOKEN_SIZE, question_for

TOKEN = bytes(range(1, TOKEN_SIZE + 1))
PORTS = (53, 123, 862, 520)


def test_the_question_to_a_name_server_is_a_query_of_rfc_1035() -> None:
    query = question_for(53).datagram(TOKEN)
    number, flags, *counts = struct.unpack_from("!6H", query)
    assert (number, flags, counts) == (0x0102, 0x0100, [1, 0, 0, 0])
    assert query[12:] == b"\0" + struct.pack("!2H", 6, 1)  # the root, SOA, IN


def test_the_question_to_a_time_server_is_a_client_packet_of_ntp() -> None:
    packet = question_for(123).datagram(TOKEN)
    assert len(packet) == 48
    assert (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7) == (0, 4, 3)  # leap, version, mode
    assert packet[40:] == TOKEN


def test_the_question_to_a_reflector_is_a_sender_packet_of_stamp() -> None:
    packet = question_for(862).datagram(TOKEN)
    assert len(packet) == 44
    assert packet[12:14] != b"\0\0"  # the error estimate, which is never 0


ANSWERS = {
    53: b"\1\2\x81\x80" + bytes(8),
    123: b"\x24" + bytes(23) + TOKEN + bytes(16),
    862: bytes(24) + TOKEN[:4] + bytes(16),
    520: b"[Sat Nov 21 00:33:33 2026] netsvc check 0102030405060708",
}


@pytest.mark.parametrize("port", PORTS)
def test_an_answer_is_known_by_its_token(port: int) -> None:
    question = question_for(port)
    assert question.answers(TOKEN, ANSWERS[port])
    assert not question.answers(bytes(TOKEN_SIZE), ANSWERS[port])


def test_an_echo_is_an_answer_to_the_default_question() -> None:
    question = question_for(7)
    assert question.answers(TOKEN, question.datagram(TOKEN))


@given(st.binary(max_size=100), st.sampled_from(PORTS))
def test_any_datagram_may_come_back(datagram: bytes, port: int) -> None:
    assert question_for(port).answers(TOKEN, datagram) in (True, False)


@pytest.mark.parametrize("port", PORTS)
def test_two_tokens_make_two_questions(port: int) -> None:
    question = question_for(port)
    assert question.datagram(TOKEN) != question.datagram(bytes(TOKEN_SIZE))
