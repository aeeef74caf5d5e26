from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from netsvc.chat.attendance import NICK_KEPT
from netsvc.chat.hub import ChatHub
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.web_member import WebChatFactory
from netsvc.limits.cause import Cause
from tests.chat_members import SlowStore
from tests.connections import terms
from tests.strategies import split, split_places
from tests.web_clients import CLOSE, TEXT, Frame, close, frame
from tests.web_members import Browser, Message, asked, begun, join, new_factory, opened, people, refusal, say

BEGIN: Message = {"type": "begin"}
QUIT: Message = {"type": "quit"}
T32 = "0123456789abcdef" * 2


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> WebChatFactory:
    return new_factory(clock)


def session(member: Browser, *requests: Message) -> tuple[str, dict[str, Message]]:
    """Begin a session. Return its token, and the rooms in which the member is then."""
    events = asked(member, BEGIN, *requests)
    [token] = [event["token"] for event in events if event["type"] == "session"]
    return token, {event["room"]: event for event in events if event["type"] == "room"}


def resume(token: str, nick: str = "ann", *positions: tuple[str, str, int], **more: object) -> Message:
    listed = [{"room": room, "epoch": epoch, "offset": offset} for room, epoch, offset in positions]
    return {"type": "resume", "token": token, "nick": nick, "positions": listed, **more}


# Sessions


def test_a_new_member_is_welcomed_with_its_nick_its_token_and_its_room(factory: WebChatFactory) -> None:
    welcome, token, room = asked(opened(factory), BEGIN)
    assert welcome == {"type": "welcome", "nick": "guest-1"}
    assert token["type"] == "session"
    assert len(token["token"]) == 32
    assert room == {"type": "room", "room": "#lobby", "epoch": room["epoch"], "offset": 0, "count": 1, "members": []}


@pytest.mark.parametrize(
    "request_",
    [say(id="m1"), join("#dev", id="m1"), {"type": "nick", "nick": "ann", "id": "m1"}, {"type": "rooms"}, QUIT],
)
def test_a_session_is_begun_or_resumed_before_anything_else(factory: WebChatFactory, request_: Message) -> None:
    browser = opened(factory)
    told = refusal(browser, request_)
    assert told.get("id", "") == request_.get("id", "")
    assert told["text"] == "begin or resume a session first"
    assert asked(browser, {"type": "ping"}) == [{"type": "pong"}]
    assert len(factory.hub) == 0
    assert asked(browser, BEGIN)[0]["type"] == "welcome"


def test_a_session_is_begun_once(factory: WebChatFactory) -> None:
    [ann] = people(factory, "ann")
    for request_ in (BEGIN, resume(T32, id="r1")):
        told = refusal(ann, request_)
        assert told["text"] == "the session has begun already"
        assert told.get("id") == request_.get("id")


def test_a_session_whose_nick_is_not_valid_is_not_continued_and_another_try_is(factory: WebChatFactory) -> None:
    browser = opened(factory)
    assert refusal(browser, resume(T32, "server", id="r1"))["id"] == "r1"
    assert refusal(browser, resume(T32, "ann", ("#", "0", 0)))["cause"] == "invalid_message"
    assert asked(browser, resume(T32, "ann")) == [{"type": "session", "token": T32}, {"type": "nick", "nick": "ann"}]


def test_a_session_is_continued_in_all_its_rooms(factory: WebChatFactory) -> None:
    bob, ann = begun(factory, "bob"), opened(factory)
    bob.send(join("#dev"), join("#tea"))
    token, rooms = session(ann, {"type": "nick", "nick": "ann"}, join("#dev"), join("#tea"))
    bob.send(say("one", "#dev"), say("two", "#tea"), say("three", "#dev"))
    ends = {room: event["offset"] for room, event in rooms.items()}
    ends |= {event["room"]: event["offset"] for event in ann.told("entry")}
    ann.lose(ConnectionLost)
    bob.send(say("missed", "#dev"), say("missed as well", "#tea"))
    bob.events()
    positions = [(room, each["epoch"], ends[room]) for room, each in rooms.items()]
    told = asked(opened(factory), resume(token, "ann", *positions))
    assert told[:2] == [{"type": "session", "token": token}, {"type": "nick", "nick": "ann"}]
    kinds = [(event["type"], event["room"], event.get("verdict") or event.get("text", "")) for event in told[2:]]
    assert [each for each in kinds if each[1] == "#dev"] == [
        ("room", "#dev", ""),
        ("resumed", "#dev", "recovered"),
        ("entry", "#dev", "left"),
        ("entry", "#dev", "missed"),
        ("entry", "#dev", ""),  # it joined again
    ]
    assert ("resumed", "#tea", "recovered") in kinds
    assert ("entry", "#tea", "missed as well") in kinds
    assert ("resumed", "#lobby", "recovered") in kinds
    assert factory.hub.members("#dev") == ["bob", "ann"]


def test_a_session_is_told_what_is_lost_and_what_is_unknown(clock: Clock) -> None:
    service = terms(clock)
    hub = ChatHub(service, MemoryStore(clock.seconds, entries_max=3), total=0)
    factory = new_factory(clock, hub)
    bob, ann = begun(factory, "bob"), opened(factory)
    bob.send(join("#dev"))
    token, rooms = session(ann, {"type": "nick", "nick": "ann"}, join("#dev"))
    ann.lose(ConnectionLost)
    bob.send(*(say(str(number), "#dev") for number in range(9)))
    told = asked(
        opened(factory),
        resume(token, "ann", ("#dev", rooms["#dev"]["epoch"], rooms["#dev"]["offset"]), ("#lobby", "0", 7)),
    )
    [lost] = [event for event in told if event["type"] == "resumed" and event["room"] == "#dev"]
    last = [event["offset"] for event in told if event["type"] == "entry" and event["room"] == "#dev"]
    assert lost["verdict"] == "lost"
    assert rooms["#dev"]["offset"] + lost["lost"] + 1 == last[0]
    assert {"type": "resumed", "room": "#lobby", "verdict": "unknown"} in told


def test_a_line_that_is_sent_again_after_a_resume_is_acknowledged_and_said_once(factory: WebChatFactory) -> None:
    bob, ann = begun(factory, "bob"), opened(factory)
    token, rooms = session(ann)
    ann.send(say("once", id="m1"))
    ann.lose(ConnectionLost)
    again = opened(factory)
    position = ("#lobby", rooms["#lobby"]["epoch"], rooms["#lobby"]["offset"])
    told = asked(again, resume(token, "ann", position), say("once", id="m1"), say("new", id="m2"))
    own = [(event.get("id"), event["text"]) for event in told if event.get("own") and event["kind"] == "said"]
    assert own == [("m1", "once"), ("m1", "once"), ("m2", "new")]
    assert [event["text"] for event in bob.told("entry") if event["kind"] == "said"] == ["once", "new"]


def test_a_member_that_resumes_replaces_its_earlier_connection_and_nobody_notices(factory: WebChatFactory) -> None:
    bob, ann = begun(factory, "bob"), opened(factory)
    token, rooms = session(ann, {"type": "nick", "nick": "ann"}, {"type": "rooms"})
    bob.events()
    ann.frames()
    again = opened(factory)
    again.send(resume(token, "ann", ("#lobby", rooms["#lobby"]["epoch"], rooms["#lobby"]["offset"])))
    replaced, closing = ann.frames()
    assert json.loads(replaced.payload) == {"type": "replaced"}
    assert closing == Frame(CLOSE, b"\x03\xe8")
    assert ann.transport.write_closed
    assert bob.events() == []
    again.send(say("still me"))
    [entry] = bob.events()
    assert (entry["nick"], entry["text"]) == ("ann", "still me")


def test_a_member_that_quits_frees_its_nick_and_is_closed(factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob")
    ann.send(QUIT, say("ignored"))
    assert ann.frames() == [Frame(CLOSE, b"\x03\xe8")]
    assert ann.transport.write_closed
    [left] = bob.events()
    assert (left["kind"], left["nick"]) == ("left", "ann")
    assert asked(bob, {"type": "nick", "nick": "ann"})[0] == {"type": "nick", "nick": "ann"}
    ann.lose()
    assert bob.events() == []


@pytest.mark.parametrize("ends", ["lost", "closed", "half-closed"])
def test_the_nick_of_a_member_whose_connection_ends_is_kept_for_two_minutes(
    clock: Clock, factory: WebChatFactory, ends: str
) -> None:
    ann, bob = people(factory, "ann", "bob")
    if ends == "lost":
        ann.lose(ConnectionLost)
    elif ends == "closed":
        ann.send(close(1001))
    else:
        ann.protocol.readConnectionLost()
    [left] = bob.events()
    assert (left["kind"], left["nick"]) == ("left", "ann")
    told = refusal(bob, {"type": "nick", "nick": "ann", "id": "n1"})
    assert (told["cause"], told["id"]) == ("nick_taken", "n1")
    clock.advance(NICK_KEPT + 1)
    assert asked(bob, {"type": "nick", "nick": "ann"})[-1]["text"] == "ann"


# Requests


def test_what_a_member_says_is_told_to_all_and_acknowledged_to_itself(clock: Clock, factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob")
    clock.advance(1.2345)
    [own] = asked(ann, say("hé 收到 😀", id="m1"))
    [told] = bob.events()
    assert told == {
        "type": "entry",
        "room": "#lobby",
        "offset": own["offset"],
        "time": 1234,
        "kind": "said",
        "nick": "ann",
        "text": "hé 收到 😀",
    }
    assert own == {**told, "own": True, "id": "m1"}
    [action] = asked(ann, say("waves", action=True))
    assert (action["kind"], action["offset"], action["own"], "id" in action) == (
        "action",
        own["offset"] + 1,
        True,
        False,
    )


def test_a_member_says_things_in_several_rooms_at_once(factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob", room="#dev")
    ann.send(join("#tea"))
    ann.events()
    told = asked(ann, say("a", "#dev"), say("b", "#tea"), say("c"))
    assert [(event["room"], event["text"]) for event in told] == [("#dev", "a"), ("#tea", "b"), ("#lobby", "c")]
    assert [(event["room"], event["text"]) for event in bob.events()] == [("#dev", "a"), ("#lobby", "c")]
    assert factory.hub.rooms_of(ann.protocol) == ["#lobby", "#dev", "#tea"]


def test_a_room_is_named_with_or_without_its_sign_and_in_any_case(factory: WebChatFactory) -> None:
    [ann] = people(factory, "ann")
    room, joined = asked(ann, join("Dev"))
    assert room["room"] == joined["room"] == "#dev"
    assert [event["text"] for event in asked(ann, say("a", "dev"), say("b", "#DEV"))] == ["a", "b"]


def test_a_member_that_joins_is_told_the_room_its_topic_and_what_was_said(
    clock: Clock, factory: WebChatFactory
) -> None:
    clock.advance(1.5)
    ann, bob = people(factory, "ann", "bob")
    ann.send(
        join("#dev"),
        {"type": "topic", "room": "#dev", "text": "tea"},
        say("one", "#dev"),
        say("w", "#dev", action=True),
    )
    room, topic, replay, joined = asked(bob, join("#dev", id="j1"))
    assert room == {"type": "room", "room": "#dev", "epoch": room["epoch"], "offset": 4, "count": 2, "members": ["ann"]}
    assert topic == {"type": "topic", "room": "#dev", "text": "tea", "nick": "ann", "time": 1_500}
    assert (replay["type"], replay["review"]) == ("entries", "replay")
    assert [(entry["offset"], entry["kind"], entry["text"]) for entry in replay["entries"]] == [
        (2, "topic", "tea"),
        (3, "said", "one"),
        (4, "action", "w"),
    ]
    assert joined == {
        **{"type": "entry", "room": "#dev", "offset": 5, "time": 1_500, "kind": "joined", "nick": "bob", "own": True}
    }
    assert ann.events()[-1] == {key: value for key, value in joined.items() if key != "own"}


def test_a_member_may_leave_all_other_rooms_for_one(factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob", room="#dev")
    told = asked(ann, join("#tea", only=True))
    assert [event["type"] for event in told] == ["room", "entry"]
    assert factory.hub.rooms_of(ann.protocol) == ["#tea"]
    assert {(event["room"], event["kind"], event["text"]) for event in bob.events()} == {
        ("#lobby", "left", "moved to #tea"),
        ("#dev", "left", "moved to #tea"),
    }
    assert refusal(ann, say("x", "#dev", id="m1"))["cause"] == "not_in_room"
    assert ann.protocol.is_in_room
    ann.send({"type": "part", "room": "#tea"})
    assert not ann.protocol.is_in_room


def test_a_member_that_leaves_a_room_is_told_and_hears_nothing_more_of_it(factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob", room="#dev")
    assert asked(ann, {"type": "part", "room": "dev", "id": "p1"}) == [{"type": "left", "room": "#dev"}]
    [left] = bob.events()
    assert (left["kind"], left["text"]) == ("left", "left")
    bob.send(say("x", "#dev"))
    assert ann.events() == []
    assert asked(ann, {"type": "part", "room": "#lobby"}) == [{"type": "left", "room": "#lobby"}]
    assert refusal(ann, say(id="m1"))["id"] == "m1"
    assert [event["type"] for event in asked(ann, join("#dev"))] == ["room", "entries", "entry"]


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        (say("x", "#dev"), "not_in_room"),
        ({"type": "part", "room": "#dev"}, "not_in_room"),
        ({"type": "topic", "room": "#dev", "text": "x"}, "not_in_room"),
        ({"type": "erase", "room": "#dev"}, "not_in_room"),
        (join("#lobby"), "already_in_room"),
        ({"type": "nick", "nick": "bob"}, "nick_taken"),
        ({"type": "nick", "nick": "B0b"}, "nick_taken"),
        ({"type": "nick", "nick": "ann"}, "nick_taken"),
        ({"type": "nick", "nick": "a b"}, "invalid_message"),
        ({"type": "whisper", "nick": "nobody-1", "text": "x"}, "no_such_nick"),
        ({"type": "whisper", "nick": "server", "text": "x"}, "invalid_message"),
        ({"type": "erase", "room": "#lobby", "offset": 1}, "not_erasable"),
        ({"type": "erase", "room": "#lobby", "offset": 10**17}, "not_erasable"),
        ({"type": "erase", "room": "#lobby"}, "not_erasable"),
        (say(" "), "invalid_message"),
        (say("x", "a b"), "invalid_message"),
        (say("x", "r" * 65), "invalid_message"),
        (say("x", action=1), "invalid_message"),
        ({"type": "dance"}, "invalid_message"),
    ],
)
def test_a_refusal_names_its_cause_and_the_id_of_the_request(
    factory: WebChatFactory, request_: Message, cause: str
) -> None:
    ann, bob = people(factory, "ann", "bob")
    told = refusal(ann, {**request_, "id": "x-1"})
    assert (told["cause"], told["id"]) == (cause, "x-1")
    assert told["text"]
    assert bob.events() == []
    assert factory.terms.counters.refused == {next(each for each in Cause if each.label == cause): 1}


@pytest.mark.parametrize("text", ['{"id":"x-1"', '{"type":"say","id":"x 1"}', '{"type":"say","id":7}', '["id"]', "7"])
def test_a_message_whose_id_cannot_be_read_is_refused_without_one(factory: WebChatFactory, text: str) -> None:
    [ann] = people(factory, "ann")
    assert "id" not in refusal(ann, text)


def test_a_private_message_is_told_to_both_and_its_id_to_its_sender_only(factory: WebChatFactory) -> None:
    ann, bob, cy = people(factory, "ann", "bob", "cy")
    whisper = {"type": "whisper", "nick": "BOB", "text": "psst"}
    told = {"type": "whisper", "sender": "ann", "recipient": "bob", "text": "psst"}
    assert asked(ann, {**whisper, "id": "w1"}, whisper) == [{**told, "id": "w1"}, told]
    assert bob.events() == [told, told]
    assert cy.events() == []
    bob.send({"type": "away", "text": "at lunch"})
    assert asked(ann, whisper)[1:] == [{"type": "recipient-away", "nick": "bob", "text": "at lunch"}]


def test_a_member_is_told_that_it_is_away_and_back(factory: WebChatFactory) -> None:
    [ann] = people(factory, "ann")
    told = asked(ann, {"type": "away", "text": " at lunch "}, {"type": "away"}, {"type": "away", "text": " "})
    assert told == [{"type": "away", "text": "at lunch"}, {"type": "away"}, {"type": "away"}]


def test_a_nick_is_changed_for_all_to_see(factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob")
    nick, own = asked(ann, {"type": "nick", "nick": "Ann_2", "id": "n1"})
    assert nick == {"type": "nick", "nick": "Ann_2"}
    [renamed] = bob.events()
    assert (renamed["kind"], renamed["nick"], renamed["text"]) == ("renamed", "ann", "Ann_2")
    assert own == {**renamed, "own": True}


def test_a_topic_is_set_shown_and_removed(clock: Clock, factory: WebChatFactory) -> None:
    clock.advance(1.5)
    ann, bob = people(factory, "ann", "bob")
    topic = {"type": "topic", "room": "#lobby", "text": " Friday\u200b ", "id": "t1"}
    [own] = asked(ann, topic)
    assert (own["kind"], own["text"], own["id"]) == ("topic", "Friday", "t1")
    assert bob.events()[0]["text"] == "Friday"
    shown = {"type": "topic", "room": "#lobby", "text": "Friday", "nick": "ann", "time": 1_500}
    assert asked(bob, {"type": "show-topic", "room": "#lobby"}) == [shown]
    [removed] = asked(ann, {**topic, "text": " ", "id": ""})
    assert (removed["kind"], "text" in removed) == ("topic", False)
    assert asked(ann, {"type": "show-topic", "room": "#lobby"}) == [{"type": "topic", "room": "#lobby"}]


def test_rooms_and_members_are_listed(factory: WebChatFactory) -> None:
    ann, _ = people(factory, "ann", "bob")
    ann.send(join("#dev"))
    ann.events()
    assert asked(ann, {"type": "members", "room": "lobby"}, {"type": "rooms"}) == [
        {"type": "members", "room": "#lobby", "count": 2, "nicks": ["ann", "bob"]},
        {"type": "rooms", "count": 2, "rooms": [{"room": "#lobby", "members": 2}, {"room": "#dev", "members": 1}]},
    ]


def history(member: Browser, **more: object) -> list[tuple[int, str]]:
    """Return the offsets and the texts of a history."""
    [event] = asked(member, {"type": "history", "room": "#lobby", **more})
    assert (event["type"], event["review"], event["room"]) == ("entries", "history", "#lobby")
    return [(entry["offset"], entry["text"]) for entry in event["entries"]]


def test_a_history_ends_before_any_entry(factory: WebChatFactory) -> None:
    [ann] = people(factory, "ann")
    said = [(event["offset"], event["text"]) for event in asked(ann, *(say(str(number)) for number in range(120)))]
    assert len(said) == 120
    assert history(ann) == said[-50:]
    assert history(ann, count=100) == said[-100:]
    assert history(ann, count=3, before=said[10][0]) == said[7:10]
    assert history(ann, before=said[2][0]) == said[:2]
    assert history(ann, before=said[0][0]) == history(ann, before=1) == history(ann, before=0) == []
    assert history(ann, count=1, before=10**17) == said[-1:]
    assert refusal(ann, {"type": "history", "room": "#dev"})["cause"] == "not_in_room"


def test_a_search_finds_what_has_all_the_words(clock: Clock, factory: WebChatFactory) -> None:
    [ann] = people(factory, "ann")
    ann.send(say("deploy on Friday"), say("deploy on Monday"), say("nothing on Friday"))
    ann.events()
    assert asked(ann, {"type": "search", "room": "#lobby", "words": "FRIDAY depl"}) == []
    clock.advance(0)
    [found] = ann.events()
    assert (found["type"], found["review"]) == ("entries", "search")
    assert [entry["text"] for entry in found["entries"]] == ["deploy on Friday"]


def test_a_member_erases_its_own_entries_only(factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob")
    first, second = asked(ann, say("first"), say("second"))
    bob.events()
    erase = {"type": "erase", "room": "#lobby"}
    assert refusal(bob, {**erase, "offset": first["offset"], "id": "e1"})["id"] == "e1"
    [own] = asked(ann, {**erase, "offset": first["offset"], "id": "e1"})
    [told] = bob.events()
    assert own == {**told, "own": True, "id": "e1"}
    assert (told["kind"], told["nick"], told["text"]) == ("erased", "ann", str(first["offset"]))
    assert asked(ann, erase)[0]["text"] == str(second["offset"])
    assert history(ann) == []
    assert refusal(ann, erase)["cause"] == "not_erasable"


# Text


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("\x1b[2J\u202eevil\u200b\x9b\x07", "[2Jevil"),
        ("a\tb\x0bc\x85d\u2028e", "a b c d e"),
        (" two  spaces ", " two  spaces "),
        ("\U000e0041tag", "tag"),
        ('<b>"quoted"</b> & \\', '<b>"quoted"</b> & \\'),
        ("/nick bob", "/nick bob"),
        ("👩‍💻 e\u0301", "👩‍💻 e\u0301"),
    ],
)
def test_what_is_unsafe_is_removed_from_a_text(factory: WebChatFactory, sent: str, said: str) -> None:
    ann, bob = people(factory, "ann", "bob")
    assert asked(ann, say(sent, id="m1"))[0]["text"] == said
    assert bob.events()[0]["text"] == said
    ann.send({"type": "whisper", "nick": "bob", "text": sent})
    assert bob.events()[0]["text"] == said


def with_text(text: str) -> list[Message]:
    """Return a request of each kind that has a text."""
    return [
        say(text),
        say(text, action=True),
        {"type": "whisper", "nick": "bob", "text": text},
        {"type": "topic", "room": "#lobby", "text": text},
        {"type": "away", "text": text},
    ]


@pytest.mark.parametrize("text", ["x" * 1_023, "é" * 511 + "x", "😀" * 255 + "abc"])
def test_a_text_has_at_most_1023_bytes(factory: WebChatFactory, text: str) -> None:
    ann, bob = people(factory, "ann", "bob")
    for request_ in with_text(text):
        assert asked(ann, request_)[0].get("text") == text
    for request_ in with_text(text + "x"):
        assert refusal(ann, request_)["text"] == "too long: 1,024 of at most 1,023 bytes"
    assert len(bob.events()) == 4


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\n", "a\r\nb"])
def test_a_text_is_one_line(factory: WebChatFactory, text: str) -> None:
    ann, bob = people(factory, "ann", "bob")
    for request_ in [*with_text(text), {"type": "search", "room": "#lobby", "words": text}]:
        assert refusal(ann, request_)["text"] == "a message is one line"
    assert bob.events() == []


@pytest.mark.parametrize("text", ["", " ", "\t", "\u200b", "\x1b", "\u2800", "\u0301", "\u202e \u2066"])
def test_a_text_of_which_nothing_is_visible_is_not_said(factory: WebChatFactory, text: str) -> None:
    ann, bob = people(factory, "ann", "bob")
    for request_ in with_text(text)[:3]:
        assert refusal(ann, {**request_, "id": "m1"}) == {
            **{"type": "refused", "cause": "invalid_message", "text": "the text is empty", "id": "m1"}
        }
    assert bob.events() == []


@given(st.text(max_size=300))
def test_no_text_of_a_member_controls_what_another_one_sees(text: str) -> None:
    factory = new_factory(Clock())
    ann, bob = people(factory, "ann", "bob")
    ann.send(*with_text(text), {"type": "nick", "nick": text[:64] or "x"}, join(text[:64] or "x"))
    for event in ann.events() + bob.events():
        if event["type"] != "refused":
            assert "\n" not in json.dumps(event, ensure_ascii=False)
            assert not any("\x7f" <= character < "\xa0" for character in event.get("text", ""))
            assert all(ord(character) >= 32 for character in event.get("text", ""))


# All of it


STREAM = b"".join(
    frame(TEXT, message.encode() if isinstance(message, str) else json.dumps(message).encode())
    for message in (
        *(BEGIN, {"type": "nick", "nick": "bob"}, join("#dev"), say("hi 收到"), "nonsense", say("x", "#dev", id="m1")),
        *({"type": "whisper", "nick": "ann", "text": "psst", "id": "w1"}, {"type": "ping"}, {"type": "rooms"}, QUIT),
    )
)


@given(split_places)
def test_how_the_network_splits_the_messages_of_a_member_does_not_matter(places: list[int]) -> None:
    def received(pieces: list[bytes]) -> tuple[list[Frame], list[Message]]:
        factory = new_factory(Clock())
        ann, bob = begun(factory, "ann"), opened(factory)
        for piece in pieces:
            bob.send(piece)
        return [
            each for each in bob.frames() if b"token" not in each.payload and b"epoch" not in each.payload
        ], ann.events()

    assert received(split(STREAM, places)) == received([STREAM])


class Page:
    """What a page keeps of its session: where it is, and what is not acknowledged. It checks what it is told."""

    def __init__(self, factory: WebChatFactory) -> None:
        self.factory = factory
        self.token = ""
        self.ends: dict[str, tuple[str, int]] = {}
        self.pending: dict[str, Message] = {}
        self.number = 0
        self.connect()

    def connect(self) -> None:
        self.browser = opened(self.factory)
        positions = ((room, *end) for room, end in self.ends.items())
        self.browser.send(resume(self.token, "ann", *positions) if self.token else BEGIN, *self.pending.values())

    def do(self, deed: str, what: str) -> None:
        self.number += 1
        message_id = f"m{self.number}"
        match deed:
            case "say" | "topic":
                self.pending[message_id] = {"type": deed, "room": what, "text": message_id, "id": message_id}
                self.browser.send(self.pending[message_id])
            case "join" | "part" | "erase":
                self.browser.send({"type": deed, "room": what, "id": message_id})
            case "nick":
                self.browser.send({"type": "nick", "nick": what})
            case "lose":
                self.read()
                self.browser.lose(ConnectionLost)
                self.connect()
            case "replace":
                self.read()
                self.connect()
        self.read()

    def read(self) -> None:
        for event in self.browser.events():
            match event:
                case {"type": "session", "token": token}:
                    self.token = token
                case {"type": "room", "room": room, "epoch": epoch, "offset": offset}:
                    self.ends[room] = (epoch, offset)
                case {"type": "left", "room": room}:
                    del self.ends[room]
                case {"type": "resumed", "verdict": verdict}:
                    assert verdict in ("recovered", "unknown")  # a log in which nothing was said ends with its room
                case {"type": "entry", "room": room, "offset": offset}:
                    epoch, before = self.ends[room]
                    assert offset <= before + 1, "there is a gap"
                    assert offset > before or event["own"], "an entry came twice"  # it acknowledges the second try
                    self.ends[room] = (epoch, max(before, offset))
                    self.pending.pop(event.get("id", ""), None)
                case {"type": "refused"}:
                    assert event["cause"] != "invalid_message", event
                    self.pending.pop(event.get("id", ""), None)


rooms = st.sampled_from(["#lobby", "#dev"])
deeds = st.one_of(
    st.tuples(st.sampled_from(["say", "say", "join", "part", "topic", "erase"]), rooms),
    st.tuples(st.just("nick"), st.sampled_from(["ann", "bob", "cy"])),
    st.tuples(st.sampled_from(["lose", "replace"]), st.just("")),
)
steps = st.one_of(
    st.tuples(st.integers(0, 2), deeds),
    st.tuples(st.just("slow"), st.booleans()),
    st.tuples(st.just("answer"), st.integers(1, 3)),
    st.tuples(st.just("advance"), st.integers(0, 3)),
)


@given(st.lists(steps, max_size=40))
def test_rooms_have_no_gaps_and_all_that_is_said_is_acknowledged_however_slow_the_store_is(
    steps: list[tuple[object, object]],
) -> None:
    clock, store = Clock(), SlowStore()
    hub = ChatHub(terms(clock), store, total=0)
    factory = new_factory(clock, hub, idle_timeout=0)
    pages = [Page(factory) for _ in range(3)]
    for step in steps:
        match step:
            case ("slow", bool(is_slow)):
                store.is_slow = is_slow
                store.answer(0 if is_slow else 1_000)
            case ("answer", int(count)):
                store.answer(count)
            case ("advance", int(seconds)):
                clock.advance(seconds)
            case (int(number), (str(deed), str(what))):
                pages[number].do(deed, what)
    store.is_slow = False
    store.answer()
    for page in pages:
        page.read()
        assert not page.pending
        assert sorted(page.ends) == sorted(hub.rooms_of(page.browser.protocol))


def test_a_member_is_in_at_most_64_rooms() -> None:
    clock = Clock()
    factory = WebChatFactory(terms(clock), rate=0)
    browser = opened(factory)
    browser.send({"type": "begin"}, *({"type": "join", "room": f"r{number}"} for number in range(63)))
    clock.pump([0.0] * 20)
    assert len(browser.told("room")) == 64
    browser.send({"type": "join", "room": "one-more", "id": "x"})
    [refused] = browser.told("refused")
    assert (refused["text"], refused["id"]) == ("you are in 64 rooms; leave one first", "x")


def test_the_page_weighs_at_most_60_kib_as_it_is_transferred() -> None:
    _, compressed = WebChatFactory(terms(Clock())).web.site.weight
    assert compressed <= 60 * 1024
