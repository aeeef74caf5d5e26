"""The messages of the chat over WebSocket. Tests of clients read the same examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from netsvc.chat.chat_events import Event, Resumed, TopicShown, Verdict
from netsvc.chat.json_events import JSON_FORMAT, decode_event, encode_event
from netsvc.chat.json_messages import (
    ENCODER,
    EVENTS,
    POSITIONS_MAX,
    REQUESTS,
    EntryEvent,
    JsonEvent,
    JsonRequest,
    PongEvent,
    json_schema,
)
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.web_member import WebChatFactory
from tests.connections import terms
from tests.web_clients import TEXT, frames
from tests.web_members import begun, opened

Json = Any

FILE = Path(__file__).parent.parent / "docs" / "reference" / "chat-messages.json"
EXAMPLES: list[Json] = json.loads(FILE.read_text())
REQUESTS_OF_CLIENTS = [each["message"] for each in EXAMPLES if each["direction"] == "request" and "means" in each]
REFUSED = [each["message"] for each in EXAMPLES if "refused" in each]
EVENTS_OF_SERVERS = [each["message"] for each in EXAMPLES if each["direction"] == "event"]


def tags(union: object) -> set[str]:
    """Return the types of the messages in a union."""
    return {each.__struct_config__.tag for each in get_args(union)}


def test_each_example_says_what_it_is() -> None:
    for each in EXAMPLES:
        assert set(each) in ({"direction", "message", "means"}, {"direction", "message", "refused"})
        assert each["direction"] == "request" or "means" in each
        assert (each.get("means") or each["refused"]).isprintable()


def test_there_are_examples_of_every_message() -> None:
    assert {message["type"] for message in REQUESTS_OF_CLIENTS} == tags(JsonRequest)
    assert {message["type"] for message in EVENTS_OF_SERVERS} == tags(JsonEvent)


def test_there_are_examples_with_and_without_each_optional_member() -> None:
    for union, messages in ((JsonRequest, REQUESTS_OF_CLIENTS), (JsonEvent, EVENTS_OF_SERVERS)):
        for kind in get_args(union):
            of_kind = [set(each) for each in messages if each["type"] == kind.__struct_config__.tag]
            for field in msgspec.structs.fields(kind):
                assert any(field.encode_name in members for members in of_kind), (kind, field)
                if not field.required:
                    assert any(field.encode_name not in members for members in of_kind), (kind, field)


@pytest.mark.parametrize("message", REQUESTS_OF_CLIENTS, ids=json.dumps)
def test_a_request_is_decoded_and_encoded_again(message: Json) -> None:
    request = REQUESTS.decode(json.dumps(message))
    assert json.loads(ENCODER.encode(request)) == message


@pytest.mark.parametrize("message", EVENTS_OF_SERVERS, ids=json.dumps)
def test_an_event_is_decoded_and_encoded_again(message: Json) -> None:
    decoded = EVENTS.decode(json.dumps(message))
    assert json.loads(ENCODER.encode(decoded)) == message
    event = decode_event(decoded, {"#dev": "00c0ffee"})
    match event:
        case None:
            assert decoded == PongEvent()
        case ReceivedEntry(entry, own):
            assert entry.epoch == "00c0ffee"
            [sent] = frames(JSON_FORMAT.own_entry(entry) if own else JSON_FORMAT.entry(entry))
            assert json.loads(sent.payload) == message
        case _ if message.get("cause") != "some_new_cause":
            assert encode_event(event) == decoded


def test_a_client_ignores_members_that_it_does_not_know() -> None:
    assert EVENTS.decode('{"type":"pong","new":[1,{"a":2}]}') == PongEvent()


@pytest.mark.parametrize("message", REQUESTS_OF_CLIENTS, ids=json.dumps)
def test_a_server_takes_each_valid_request(message: Json) -> None:
    factory = WebChatFactory(terms(Clock()), rate=0)
    first = message["type"] in ("begin", "resume")
    browser = opened(factory) if first else begun(factory)
    browser.send(message)
    told = [json.loads(each.payload) for each in browser.frames() if each.opcode == TEXT]
    assert not [event for event in told if event.get("cause") == "invalid_message"]


@pytest.mark.parametrize("message", REFUSED, ids=json.dumps)
def test_a_server_refuses_each_invalid_request_and_goes_on(message: Json) -> None:
    factory = WebChatFactory(terms(Clock()), rate=0)
    is_first = isinstance(message, dict) and message.get("type") in ("begin", "resume")
    browser = opened(factory) if is_first else begun(factory)
    browser.send(json.dumps(message))
    [refusal] = browser.events()
    assert (refusal["type"], refusal["cause"]) == ("refused", "invalid_message")
    browser.send({"type": "ping"})
    assert browser.events() == [{"type": "pong"}]


def is_valid(value: Json, schema: Json, definitions: Json) -> bool:
    """Whether a value satisfies a JSON Schema, as far as the schema of the chat goes."""
    known = {"$ref", "anyOf", "enum", "type", "properties", "required", "additionalProperties", "items", "maxItems"}
    known |= {"pattern", "minLength", "maxLength", "minimum", "maximum", "title", "description", "default"}
    assert set(schema) <= known | {"discriminator"}
    if not schema:
        return True
    if "$ref" in schema:
        return is_valid(value, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        return any(is_valid(value, each, definitions) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "null": type(None)}
    if not isinstance(value, kind[schema["type"]]) or (isinstance(value, bool) and schema["type"] == "integer"):
        return False
    match value:
        case dict():
            properties = schema["properties"]
            return (
                set(schema.get("required", ())) <= set(value)
                and (schema.get("additionalProperties", True) or set(value) <= set(properties))
                and all(is_valid(each, properties.get(name, {}), definitions) for name, each in value.items())
            )
        case list():
            is_short = len(value) <= schema.get("maxItems", len(value))
            return is_short and all(is_valid(each, schema["items"], definitions) for each in value)
        case str():
            fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
            return fits and re.search(schema.get("pattern", ""), value) is not None
        case int():
            return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
        case _:
            return True


def is_in_schema(message: Json, direction: str) -> bool:
    """Whether the documented schema allows a message."""
    schema = json_schema()
    return is_valid(message, schema["properties"][direction], schema["$defs"])


def is_decoded(message: Json) -> bool:
    """Whether the server decodes a message of a client."""
    try:
        REQUESTS.decode(json.dumps(message))
    except msgspec.MsgspecError:
        return False
    return True


def test_the_schema_allows_what_the_decoders_allow() -> None:
    for message in REQUESTS_OF_CLIENTS:
        assert is_in_schema(message, "request"), message
    for message in EVENTS_OF_SERVERS:
        assert is_in_schema(message, "event"), message
    for message in REFUSED:
        assert is_in_schema(message, "request") == is_decoded(message), message
    assert sum(not is_decoded(message) for message in REFUSED) > 20


@st.composite
def changed_requests(draw: st.DrawFn) -> Json:
    """A request of the examples, with some members removed, added or changed."""
    message = dict(draw(st.sampled_from(REQUESTS_OF_CLIENTS)))
    values: st.SearchStrategy[Json] = (
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=40) | st.sampled_from([[], {}])
    )
    names = st.sampled_from(["type", "room", "text", "id", "nick", "offset", "count", "before", "only", "new"])
    for name in draw(st.lists(st.sampled_from(sorted(message)), max_size=1)):
        del message[name]
    return {**message, **draw(st.dictionaries(names, values, max_size=2))}


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


@given(any_json | changed_requests())
def test_the_schema_allows_any_value_that_the_server_decodes_and_no_other(message: Json) -> None:
    assert is_in_schema(message, "request") == is_decoded(message)


@given(st.lists(any_json | changed_requests(), max_size=5), st.booleans())
def test_a_server_accepts_or_refuses_any_value(messages: list[Json], is_member: bool) -> None:
    factory = WebChatFactory(terms(Clock()), rate=0)
    browser = begun(factory) if is_member else opened(factory)
    for message in messages:
        browser.send(json.dumps(message))
    assert not browser.transport.aborted
    browser.frames()


def test_a_session_is_continued_in_a_bounded_number_of_rooms() -> None:
    def resume(count: int) -> Json:
        positions = [{"room": f"#r{number}", "epoch": "0", "offset": 0} for number in range(count)]
        return {"type": "resume", "token": "0" * 32, "nick": "ann", "positions": positions}

    assert POSITIONS_MAX == 64
    assert is_decoded(resume(POSITIONS_MAX))
    assert not is_decoded(resume(POSITIONS_MAX + 1))


@pytest.mark.parametrize(
    "text", ["", " ", "{", "[]", "{}", "null", "NaN", '{"type":"ping"}x', '{"type":"ping"', "\x00"]
)
def test_text_that_is_no_message_is_refused(text: str) -> None:
    browser = begun(WebChatFactory(terms(Clock()), rate=0))
    browser.send(text)
    assert [event["cause"] for event in browser.events()] == ["invalid_message"]


number_of_any_size = st.integers() | st.integers(0, 2000).map(lambda digits: 10**digits)


@given(number_of_any_size, number_of_any_size)
def test_no_number_of_a_hostile_server_raises_an_exception(offset: int, time: int) -> None:
    messages = [
        {"type": "entry", "room": "#dev", "offset": offset, "time": time, "kind": "said"},
        {"type": "topic", "room": "#dev", "time": time},
        {"type": "resumed", "room": "#dev", "verdict": "lost", "lost": offset},
        {
            "type": "entries",
            "room": "#dev",
            "review": "history",
            "entries": [{"offset": offset, "time": time, "kind": "said"}],
        },
    ]
    for message in messages:
        try:
            decoded = EVENTS.decode(json.dumps(message))
        except msgspec.MsgspecError:
            continue
        decode_event(decoded, {})


texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)


@given(texts, texts, st.integers(0, 10**9))
def test_an_event_is_the_same_after_it_was_sent(room: str, text: str, milliseconds: int) -> None:
    events: list[Event] = [
        TopicShown(room, text, text, milliseconds / 1000),
        Resumed(room, Verdict.LOST, milliseconds),
    ]
    for event in events:
        sent = ENCODER.encode(encode_event(event))
        assert decode_event(EVENTS.decode(sent), {}) == event


def test_the_time_of_an_entry_is_in_whole_milliseconds() -> None:
    entry = decode_event(EntryEvent("#dev", 1, 1_764_432_000_123, "said", "ann", "x"), {"#dev": "a1"})
    assert isinstance(entry, ReceivedEntry)
    [sent] = frames(JSON_FORMAT.entry(entry.entry))
    assert json.loads(sent.payload)["time"] == 1_764_432_000_123
