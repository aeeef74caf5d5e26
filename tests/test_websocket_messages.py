from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.web.websocket_messages import (
    MESSAGE_MAX,
    Binary,
    CloseReceived,
    Fragment,
    PingReceived,
    PongReceived,
    Text,
    Violation,
    WebSocketMessage,
    WebSocketMessages,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)
from tests.strategies import split, split_places
from tests.web_clients import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close, frame, frames


def received(pieces: Iterable[bytes], *, is_client: bool = False) -> list[WebSocketMessage]:
    """Return the messages in a stream."""
    messages = WebSocketMessages(client=is_client)
    found = []
    for piece in pieces:
        messages.receive(piece)
        while (message := messages.next_message()) is not None:
            found.append(message)
    assert messages.end() is None
    return found


def one(stream: bytes) -> WebSocketMessage:
    """Return the only message in a stream."""
    [message] = received([stream])
    return message


def violation(stream: bytes) -> int:
    """Return the close code of the violation with which a stream ends."""
    last = received([stream + frame(TEXT, b"more")])[-1]
    assert isinstance(last, Violation)
    return last.code


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (frame(TEXT, "hé 收到 😀".encode()), Text("hé 收到 😀")),
        (frame(TEXT), Text("")),
        (frame(BINARY, b"\x00\xff"), Binary(b"\x00\xff")),
        (frame(BINARY), Binary(b"")),
        (frame(PING, b"123"), PingReceived(b"123")),
        (frame(PING), PingReceived(b"")),
        (frame(PING, b"x" * 125), PingReceived(b"x" * 125)),
        (frame(PONG, b"123"), PongReceived()),
        (close(1000), CloseReceived(1000, "")),
        (close(1001, "tab closed é"), CloseReceived(1001, "tab closed é")),
        (close(3000), CloseReceived(3000, "")),
        (close(4999), CloseReceived(4999, "")),
        (frame(CLOSE), CloseReceived(1005, "")),
    ],
)
def test_a_frame_is_the_message_of_its_opcode(stream: bytes, message: WebSocketMessage) -> None:
    assert one(stream) == message


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 1_023, 16_383, 16_384])
def test_a_message_of_any_size_up_to_the_bound_arrives_unmasked(size: int) -> None:
    data = bytes(place % 251 for place in range(size))
    assert one(frame(BINARY, data)) == Binary(data)


def test_fragments_are_one_message_and_control_frames_come_between_them() -> None:
    stream = [
        frame(TEXT, b"one ", fin=False),
        frame(PING, b"?"),
        frame(CONTINUATION, b"", fin=False),
        frame(PONG),
        frame(CONTINUATION, b"two", fin=True),
        frame(BINARY, b"\xff", fin=False),
        frame(CONTINUATION, b"\xfe", fin=True),
        frame(TEXT, b"", fin=False),
        frame(CONTINUATION, b"", fin=True),
    ]
    assert received([b"".join(stream)]) == [
        *(Fragment(), PingReceived(b"?"), Fragment(), PongReceived(), Text("one two")),
        *(Fragment(), Binary(b"\xff\xfe"), Fragment(), Text("")),
    ]


def test_a_close_between_fragments_ends_the_stream() -> None:
    stream = frame(TEXT, b"one ", fin=False) + close(1001) + frame(CONTINUATION, b"two")
    assert received([stream]) == [Fragment(), CloseReceived(1001, "")]


def test_a_character_may_be_divided_among_fragments() -> None:
    smile = "😀".encode()
    stream = b"".join(
        frame(TEXT if place == 0 else CONTINUATION, bytes([byte]), fin=place == 3) for place, byte in enumerate(smile)
    )
    assert received([stream])[-1] == Text("😀")


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (frame(3, b"x"), 1002),
        (frame(7), 1002),
        (frame(11), 1002),
        (frame(15), 1002),
        *((frame(TEXT, b"x", reserved=bits), 1002) for bits in (1, 2, 4)),
        (frame(PING, reserved=4), 1002),
        (frame(TEXT, b"x", is_masked=False), 1002),
        (frame(PING, is_masked=False), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(CLOSE, b"", fin=False), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(CLOSE, b"x" * 126), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"x") + frame(CONTINUATION, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(TEXT, b"x"), 1002),
        (frame(TEXT, b"x", fin=False) + frame(BINARY, b"x"), 1002),
        (b"\x81\xfe\x00\x01" + bytes(5), 1002),  # a length of 2 bytes where 1 suffices
        (b"\x81\xff" + (126).to_bytes(8) + bytes(130), 1002),  # of 8 bytes where 2 suffice
        (frame(CLOSE, b"x"), 1002),
        *((close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2_000, 2_999, 5_000, 65_535)),
    ],
)
def test_what_the_protocol_forbids_is_a_violation_and_nothing_follows(stream: bytes, code: int) -> None:
    assert violation(stream) == code


@pytest.mark.parametrize(
    "text",
    [
        *(b"\xff", b"\x80", b"a\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"),
        "é".encode("latin-1"),
    ],
)
def test_text_that_is_not_utf_8_is_a_violation(text: bytes) -> None:
    assert violation(frame(TEXT, text)) == 1007
    assert violation(frame(TEXT, text[:1], fin=False) + frame(CONTINUATION, text[1:])) == 1007


def test_text_is_refused_at_the_fragment_in_which_it_stops_to_be_utf_8() -> None:
    assert violation(frame(TEXT, b"ok \xc3", fin=False) + frame(CONTINUATION, b"(", fin=False)) == 1007


def test_a_reason_that_is_not_utf_8_is_a_violation() -> None:
    assert violation(frame(CLOSE, b"\x03\xe8\xff")) == 1007


def test_bytes_of_a_binary_message_need_not_be_text() -> None:
    assert received([frame(BINARY, b"\xff", fin=False) + frame(CONTINUATION, b"\x80")])[-1] == Binary(b"\xff\x80")


TOO_BIG = Violation(1009, "at most 16,384 bytes")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_16384_bytes_is_accepted_and_a_longer_one_is_refused(opcode: int) -> None:
    assert MESSAGE_MAX == 16_384
    assert isinstance(one(frame(opcode, b"x" * 16_384)), Text | Binary)
    assert received([frame(opcode, b"x" * 16_385) + frame(TEXT, b"more")]) == [TOO_BIG]


def test_the_bound_counts_bytes_and_not_characters() -> None:
    assert one(frame(TEXT, "é".encode() * 8_192)) == Text("é" * 8_192)
    assert one(frame(TEXT, "é".encode() * 8_192 + b"x")) == TOO_BIG


@pytest.mark.parametrize("length", [16_385, 65_536, 2**31, 2**62])
def test_a_frame_that_is_too_long_is_refused_by_its_header(length: int) -> None:
    messages = WebSocketMessages()
    messages.receive(frame(TEXT, b"", length=length))
    assert messages.next_message() == TOO_BIG
    messages.receive(b"x" * 65_536)
    assert messages.next_message() is None
    assert not messages.has_partial()


@pytest.mark.parametrize("size", [1, 100, 125, 126, 1_000, 16_384])
def test_the_bound_is_on_the_sum_of_the_fragments(size: int) -> None:
    def fragments(total: int) -> Iterable[bytes]:
        for start in range(0, total, size):
            yield frame(CONTINUATION if start else TEXT, b"x" * min(size, total - start), fin=start + size >= total)

    assert received(fragments(16_384))[-1] == Text("x" * 16_384)
    assert received(fragments(16_385))[-1] == TOO_BIG


def test_the_bound_is_on_the_sum_of_fragments_that_divide_characters() -> None:
    def fragments(text: bytes) -> Iterable[bytes]:
        for place in range(len(text)):
            yield frame(CONTINUATION if place else TEXT, text[place : place + 1], fin=place == len(text) - 1)

    assert received(fragments("é".encode() * 8_192))[-1] == Text("é" * 8_192)
    assert received(fragments("é".encode() * 8_192 + b"x"))[-1] == TOO_BIG


def test_control_frames_do_not_count_for_the_message_that_they_interrupt() -> None:
    stream = [
        frame(TEXT, b"x" * 16_384, fin=False),
        *([frame(PING, b"x" * 125)] * 200),
        frame(CONTINUATION),
    ]
    assert received(stream)[-1] == Text("x" * 16_384)


def test_each_message_has_the_same_bound() -> None:
    assert received([frame(TEXT, b"x" * 10_000)] * 3) == [Text("x" * 10_000)] * 3


def test_another_bound_may_be_given() -> None:
    messages = WebSocketMessages(message_max=10)
    messages.receive(frame(TEXT, b"0123456789") + frame(TEXT, b"0123456789a"))
    assert messages.next_message() == Text("0123456789")
    assert messages.next_message() == Violation(1009, "at most 10 bytes")


def test_a_fragment_that_makes_a_message_too_long_is_refused_by_its_header() -> None:
    stream = frame(TEXT, b"x" * 10_000, fin=False) + frame(CONTINUATION, length=6_385)
    assert received([stream]) == [Fragment(), TOO_BIG]


def test_fragments_may_be_empty() -> None:
    messages = WebSocketMessages()
    messages.receive(frame(TEXT, b"x", fin=False))
    assert messages.next_message() == Fragment()
    for _ in range(1_000):
        messages.receive(frame(CONTINUATION, fin=False))
        assert messages.next_message() == Fragment()
    messages.receive(frame(CONTINUATION, b"y"))
    assert messages.next_message() == Text("xy")


def test_frames_that_were_not_returned_yet_are_waiting() -> None:
    messages = WebSocketMessages()
    assert messages.waiting() == 0
    messages.receive(frame(TEXT, b"a") + frame(PING) + frame(TEXT, b"b" * 300) + frame(TEXT, b"cut")[:-1])
    assert messages.waiting() == 3
    messages.next_message()
    assert messages.waiting() == 2
    messages.next_message()
    messages.next_message()
    assert messages.waiting() == 0
    assert messages.next_message() is None
    messages.receive(frame(TEXT, b"cut")[-1:])
    assert messages.waiting() == 1


def test_nothing_waits_after_the_peer_has_closed() -> None:
    messages = WebSocketMessages()
    messages.receive(close(1000) + frame(TEXT, b"a"))
    messages.next_message()
    assert messages.waiting() == 0
    assert not messages.has_partial()


@pytest.mark.parametrize(
    ("stream", "is_partial"),
    [
        (b"", False),
        (frame(TEXT, b"a"), False),
        (frame(TEXT, b"a")[:1], True),
        (frame(TEXT, b"a")[:-1], True),
        (frame(TEXT, b"a", fin=False), True),
        (frame(TEXT, b"", fin=False), True),
        (frame(TEXT, "é".encode()[:1], fin=False), True),
        (frame(TEXT, b"a", fin=False) + frame(PING), True),
        (frame(TEXT, b"a", fin=False) + frame(CONTINUATION), False),
        (frame(TEXT, b"a") + frame(PING)[:3], True),
    ],
)
def test_a_message_that_has_begun_and_not_ended_is_partial(stream: bytes, is_partial: bool) -> None:
    messages = WebSocketMessages()
    messages.receive(stream)
    while messages.next_message() is not None:
        pass
    assert messages.has_partial() == is_partial


def test_a_client_reads_frames_without_masks_and_refuses_others() -> None:
    stream = b"".join(frame(*each, is_masked=False) for each in ((TEXT, b"a"), (PING, b"b"), (CLOSE, b"\x03\xe8")))
    assert received([stream], is_client=True) == [Text("a"), PingReceived(b"b"), CloseReceived(1000, "")]
    [refused] = received([frame(TEXT, b"a")], is_client=True)
    assert isinstance(refused, Violation)
    assert refused.code == 1002


def test_a_client_reads_what_a_server_writes() -> None:
    long = "é" * 8_000
    stream = text_frame("hé") + text_frame(long.encode()) + ping_frame() + pong_frame(b"x") + close_frame(1001, "bye")
    assert received([stream], is_client=True) == [
        *(Text("hé"), Text(long), PingReceived(b""), PongReceived(), CloseReceived(1001, "bye"))
    ]


def test_frames_of_a_server_are_whole_and_without_masks() -> None:
    long = "x" * 70_000
    assert frames(text_frame("a") + text_frame(long) + ping_frame() + pong_frame(b"?")) == [
        *(Frame(TEXT, b"a"), Frame(TEXT, long.encode()), Frame(PING, b""), Frame(PONG, b"?"))
    ]


def test_a_closing_frame_has_a_code_and_as_much_of_the_reason_as_fits() -> None:
    assert frames(close_frame(1008, "why")) == [Frame(CLOSE, b"\x03\xf0why")]
    assert frames(close_frame(1000)) == [Frame(CLOSE, b"\x03\xe8")]
    assert frames(close_frame(1005)) == [Frame(CLOSE, b"")]
    [long] = frames(close_frame(1008, "é" * 100))
    assert long.payload == b"\x03\xf0" + "é".encode() * 61


@given(st.integers(0, 65_535), st.text(max_size=40))
def test_a_close_code_that_is_accepted_can_be_sent_back(code: int, reason: str) -> None:
    message = one(close(code, reason))
    if isinstance(message, CloseReceived):
        [echoed] = frames(close_frame(message.code))
        assert echoed == Frame(CLOSE, code.to_bytes(2))


STREAM = b"".join(
    [
        frame(TEXT, "hé 收到".encode()),
        frame(TEXT, "😀 ".encode()[:2], fin=False),
        frame(PING, b"ping"),
        frame(CONTINUATION, "😀 ".encode()[2:]),
        frame(BINARY, bytes(range(256))),
        frame(PONG),
        frame(TEXT, b"x" * 3_000),
        close(4_000, "bye"),
    ]
)


@given(split_places)
def test_how_the_network_splits_the_frames_does_not_matter(places: list[int]) -> None:
    assert received(split(STREAM, places)) == received([STREAM])


@st.composite
def any_frame(draw: st.DrawFn) -> bytes:
    """A frame, of which anything may be wrong."""
    return frame(
        draw(st.integers(0, 15) | st.sampled_from([TEXT, CONTINUATION])),
        draw(st.binary(max_size=130) | st.text(max_size=20).map(str.encode)),
        fin=draw(st.booleans()),
        is_masked=draw(st.sampled_from([True, True, True, False])),
        reserved=draw(st.sampled_from([0, 0, 0, 1, 4])),
        length=draw(st.sampled_from([-1, -1, -1, 0, 5, 126, 16_385, 70_000, 2**63])),
    )


@given(st.lists(st.binary(max_size=40) | any_frame(), max_size=12), split_places, st.booleans())
def test_no_bytes_of_a_peer_raise_an_exception_and_their_split_does_not_matter(
    pieces: list[bytes], places: list[int], is_client: bool
) -> None:
    stream = b"".join(pieces)
    found = received([stream], is_client=is_client)
    assert found == received(split(stream, places), is_client=is_client)
    ends = [message for message in found if isinstance(message, CloseReceived | Violation)]
    assert ends in ([], found[-1:])


@given(st.lists(st.text(max_size=60), max_size=8), st.randoms(use_true_random=False))
def test_texts_arrive_however_they_are_divided_into_fragments(texts: list[str], random: Random) -> None:
    stream = b""
    for text in texts:
        data = text.encode()
        places = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(4)))
        bounds = [0, *places, len(data)]
        for number, (start, end) in enumerate(pairwise(bounds)):
            stream += frame(CONTINUATION if number else TEXT, data[start:end], fin=number == len(places))
    assert [message for message in received([stream]) if isinstance(message, Text)] == [Text(text) for text in texts]
