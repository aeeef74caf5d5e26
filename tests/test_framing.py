from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.wire.framing import Framing, FramingError, LineFraming, PieceFraming, RawFraming
from tests.strategies import split, split_places

lines = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").rstrip(b"\r")), max_size=20)


def read(framing: Framing, pieces: list[bytes]) -> list[bytes | str]:
    """Return the messages that ``framing`` reads from ``pieces`` of a stream, and its refusals as strings."""
    messages: list[bytes | str] = []
    for piece in pieces:
        framing.receive(piece)
        while True:
            try:
                message = framing.next_message()
            except FramingError as e:
                messages.append(str(e))
                continue
            if message is None:
                break
            messages.append(message)
    rest = framing.end()
    return messages if rest is None else [*messages, rest]


@given(lines, st.sampled_from([b"\n", b"\r\n"]), split_places)
def test_lines_are_read_correctly_at_every_split(sent: list[bytes], end: bytes, places: list[int]) -> None:
    stream = b"".join(line + end for line in sent)
    assert read(LineFraming(), split(stream, places)) == sent


@given(st.binary(max_size=400), split_places)
def test_the_split_does_not_matter_for_any_bytes(stream: bytes, places: list[int]) -> None:
    assert read(LineFraming(16), split(stream, places)) == read(LineFraming(16), [stream] if stream else [])


@given(lines)
def test_an_encoded_line_is_read_back(sent: list[bytes]) -> None:
    framing = LineFraming()
    assert read(LineFraming(), [framing.encode(line) for line in sent]) == sent


def test_a_line_of_the_maximum_length_is_read_and_a_longer_one_is_refused_once() -> None:
    assert read(LineFraming(8), [b"1234567\n"]) == [b"1234567"]
    assert read(LineFraming(8), [b"12345678\nnext\n"]) == ["line too long: at most 8 bytes with its line end", b"next"]


def test_an_endless_line_is_refused_when_it_is_too_long_and_is_not_buffered() -> None:
    framing = LineFraming(1024)
    refusals = 0
    for _ in range(1000):
        framing.receive(b"x" * 1024)
        try:
            assert framing.next_message() is None
        except FramingError:
            refusals += 1
            assert framing.next_message() is None
        assert len(framing._buffer) <= 1024
    assert refusals == 1
    assert read(framing, [b"\nnext\n"]) == [b"next"]


def test_the_end_of_the_stream_ends_a_line() -> None:
    assert read(LineFraming(), [b"a\nb"]) == [b"a", b"b"]
    assert read(LineFraming(), [b"a\n"]) == [b"a"]


def test_the_end_of_the_stream_does_not_revive_a_refused_line() -> None:
    assert read(LineFraming(4), [b"12345", b"67"]) == ["line too long: at most 4 bytes with its line end"]


def test_a_carriage_return_inside_a_line_is_part_of_it() -> None:
    assert read(LineFraming(), [b"a\rb\r\r\n"]) == [b"a\rb\r"]


@given(st.text(), split_places)
def test_raw_pieces_contain_whole_characters(text: str, places: list[int]) -> None:
    messages = read(RawFraming(), split(text.encode(), places))
    assert "".join(message.decode() for message in messages if isinstance(message, bytes)) == text


@given(st.binary(), split_places)
def test_raw_pieces_lose_no_byte(data: bytes, places: list[int]) -> None:
    messages = read(RawFraming(), split(data, places))
    assert b"".join(message for message in messages if isinstance(message, bytes)) == data


@pytest.mark.parametrize("framing", [RawFraming, PieceFraming])
def test_each_piece_is_a_message_and_is_encoded_unchanged(framing: type[Framing]) -> None:
    assert read(framing(), [b"one", b"two"]) == [b"one", b"two"]
    assert framing().encode(b"one") == b"one"


def test_an_incomplete_character_is_returned_at_the_end_of_the_stream() -> None:
    assert read(RawFraming(), ["é".encode()[:1]]) == ["é".encode()[:1]]
