from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netsvc.chat.messages import (
    PREFIX_MAX,
    Event,
    Help,
    Join,
    Leave,
    ListRooms,
    MessageError,
    Notice,
    Quit,
    Rename,
    Request,
    Said,
    Say,
    Whisper,
    Whispered,
    Who,
    decode_event,
    decode_request,
    encode_event,
    encode_request,
)
from netsvc.wire.text import clean

nicks = st.from_regex(r"[A-Za-z0-9_-]{1,18}x", fullmatch=True)
texts = st.text(max_size=50).map(clean)
requests: st.SearchStrategy[Request] = st.one_of(
    st.builds(Say, texts),
    st.builds(Whisper, nicks, texts.map(lambda text: ("x" + text).rstrip())),
    st.builds(Rename, nicks),
    st.builds(Join, nicks.map(lambda room: "#" + room.lower())),
    st.sampled_from([Leave(), ListRooms(), Who(), Help(), Quit()]),
)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Said, nicks, texts), st.builds(Whispered, nicks, nicks, texts), st.builds(Notice, texts)
)


@given(requests)
def test_an_encoded_request_is_decoded_unchanged(request: Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(events)
def test_an_encoded_event_is_decoded_unchanged(event: Event) -> None:
    assert decode_event(encode_event(event)) == event


@given(st.binary())
def test_any_bytes_are_decoded_or_raise_a_message_error_with_clean_text(line: bytes) -> None:
    for decode in (decode_request, decode_event):
        refusal = ""
        try:
            decode(line)
        except MessageError as e:
            refusal = str(e)
        assert clean(refusal) == refusal


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b"hello", Say("hello")),
        (b"", Say("")),
        (b"//nick", Say("/nick")),
        (b"/nick bob", Rename("bob")),
        (b"/NICK bob ", Rename("bob")),
        (b"/join Dev", Join("#dev")),
        (b"/leave", Leave()),
        (b"/rooms", ListRooms()),
        (b"/who", Who()),
        (b"/msg bob hi there", Whisper("bob", "hi there")),
        (b"/help", Help()),
        (b"/quit and good-bye", Quit()),
        ("收到".encode(), Say("收到")),
        (b"\x1b[2Jboo\x07", Say("[2Jboo")),
    ],
)
def test_typed_lines_are_decoded(line: bytes, request_: Request) -> None:
    assert decode_request(line) == request_


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\xff", "not UTF-8 at byte 0"),
        (b"/dance", "unknown command /dance"),
        (b"/", "unknown command /;"),
        (b"/nick", "a nick is 1 to 24"),
        (b"/nick server", "server is reserved"),
        (b"/join a b", "a room name is"),
        (b"/msg bob", "usage: /msg NICK TEXT"),
        (b"/msg", "usage: /msg NICK TEXT"),
    ],
)
def test_an_invalid_request_is_refused_with_a_reason(line: bytes, reason: str) -> None:
    with pytest.raises(MessageError, match=reason):
        decode_request(line)


@given(nicks, texts)
def test_no_member_can_forge_a_line_of_the_server_or_of_another_member(nick: str, text: str) -> None:
    line = encode_event(Said(nick, text)).decode()
    assert line.startswith(f"<{nick}> ")
    assert decode_event(line.encode()) == Said(nick, text)


def test_the_longest_prefix_has_the_maximum_length() -> None:
    assert len(encode_event(Whispered("x" * 24, "y" * 24, ""))) == PREFIX_MAX


@pytest.mark.parametrize("line", [b"", b"hello", b"*hello", b"<a b> x", b"<> x"])
def test_an_invalid_server_line_is_refused(line: bytes) -> None:
    with pytest.raises(MessageError):
        decode_event(line)


def test_text_from_a_hostile_server_is_cleaned() -> None:
    assert decode_event(b"<bob> \x1b]0;owned\x07") == Said("bob", "]0;owned")
