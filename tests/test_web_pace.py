"""The pace of members of the web: announcements, their rate, requests that take time, peers that do not read."""

from __future__ import annotations

import json

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock

from netsvc.chat.hub import ChatHub
from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.chat.pace import PROBE_TIME
from netsvc.chat.web_member import WebChatFactory
from netsvc.limits.admission import Admission
from netsvc.limits.cause import Cause
from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.net.drain import CHECK_INTERVAL, SILENCE
from netsvc.net.send_queue import OVER_LIMIT_SECONDS
from tests.chat_members import SlowStore
from tests.connections import TCPTransport, connect, lose, taken, terms
from tests.web_clients import CLOSE, PING, PONG, TEXT, Frame, close, frame
from tests.web_members import Browser, Message, begun, join, new_factory, opened, people, say

BEGIN: Message = {"type": "begin"}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> WebChatFactory:
    return new_factory(clock)


# Announcements


def test_a_member_that_takes_its_nick_and_its_room_at_once_is_announced_there_with_that_nick(
    factory: WebChatFactory,
) -> None:
    bob, cy = people(factory, "bob", "cy")
    cy.send(join("#dev"))
    cy.events()
    ann = opened(factory)
    ann.send(BEGIN, {"type": "nick", "nick": "ann"}, join("#dev", only=True))
    assert [(event["kind"], event["nick"]) for event in cy.events()] == [("joined", "ann")]
    assert [event["room"] for event in ann.told("entry")] == ["#dev"]
    assert bob.events() == []


@pytest.mark.parametrize(
    "message", [say(), {"type": "rooms"}, {"type": "away"}, {"type": "whisper", "nick": "bob", "text": "x"}]
)
def test_the_first_other_request_announces_a_member(factory: WebChatFactory, message: Message) -> None:
    [bob] = people(factory, "bob")
    ann = opened(factory)
    ann.send(BEGIN, {"type": "nick", "nick": "ann"})
    assert bob.events() == []
    ann.send({"type": "ping"})
    assert bob.events() == []
    ann.send(message)
    first, *_ = bob.told("entry")
    assert (first["kind"], first["nick"]) == ("joined", "ann")


def test_a_member_that_only_reads_is_announced_after_a_second(clock: Clock, factory: WebChatFactory) -> None:
    [bob] = people(factory, "bob")
    opened(factory).send(BEGIN)
    assert bob.events() == []
    clock.pump([1.0] * 2)
    assert [(event["kind"], event["nick"]) for event in bob.events()] == [("joined", "guest-2")]


def test_a_member_that_leaves_before_it_is_announced_is_not_heard_of(factory: WebChatFactory) -> None:
    [bob] = people(factory, "bob")
    ann = opened(factory)
    ann.send(BEGIN)
    ann.lose(ConnectionLost)
    assert bob.events() == []


# Pace


def limited(clock: Clock, **limits: float) -> tuple[WebChatFactory, Browser, Browser]:
    """Return a front end with the usual limit of the rate, and two members, of whom the first has all its lines."""
    factory = WebChatFactory(terms(clock, line_timeout=0, **limits))
    ann, bob = begun(factory, "ann"), begun(factory, "bob")
    for _ in range(10):
        clock.advance(1.0)
    ann.events()
    bob.events()
    return factory, ann, bob


def test_a_member_may_say_ten_lines_at_once_and_five_in_each_second_and_none_is_lost(clock: Clock) -> None:
    _, ann, bob = limited(clock)
    ann.send(b"".join(frame(TEXT, json.dumps(say(str(number))).encode()) for number in range(30)))
    assert len(bob.events()) == 10
    assert ann.transport.producerState == "paused"
    clock.pump([0.1] * 10)
    assert len(bob.events()) in (4, 5)
    clock.pump([0.1] * 35)
    ann.frames()
    assert ann.transport.producerState == "producing"
    assert sum(len(each) for each in (bob.events(),)) in (15, 16)


def test_no_line_of_a_member_above_its_rate_is_lost_or_out_of_order(clock: Clock) -> None:
    _, ann, bob = limited(clock)
    ann.send(b"".join(frame(TEXT, json.dumps(say(str(number), id=f"m{number}")).encode()) for number in range(40)))
    clock.pump([0.21] * 40)
    assert [event["text"] for event in bob.events()] == [str(number) for number in range(40)]
    assert [event["id"] for event in ann.told("entry")] == [f"m{number}" for number in range(40)]


def test_a_member_whose_lines_wait_is_told_how_many_and_for_how_long(clock: Clock) -> None:
    _, ann, _ = limited(clock)
    ann.send(b"".join(frame(TEXT, json.dumps(say(str(number))).encode()) for number in range(200)))
    assert ann.told("notice") == [{"type": "notice", "text": "190 lines wait; the last is sent in 38 s"}]
    clock.pump([0.1] * 10)
    assert ann.told("notice") == []


def count_in_ten_seconds(clock: Clock, ann: Browser, sent: bytes) -> int:
    """Return how many more answers a member gets in ten seconds if it sends as much as it can."""
    ann.send(sent)
    ann.frames()
    clock.pump([0.1] * 100)
    return len([each for each in ann.frames() if b"notice" not in each.payload and each.opcode != PING])


@pytest.mark.parametrize("ends", [close(1001), b""])
def test_lines_that_were_read_are_said_at_the_usual_rate_after_the_end_of_a_connection(
    clock: Clock, ends: bytes
) -> None:
    factory, ann, bob = limited(clock)
    ann.send(b"".join(frame(TEXT, json.dumps(say(str(number))).encode()) for number in range(30)) + ends)
    ann.lose(ConnectionLost)
    assert len(bob.events()) == 10
    clock.pump([0.1] * 50)
    told = bob.events()
    assert [event["text"] for event in told] == [*(str(number) for number in range(10, 30)), "left"]
    assert factory.connections == {bob.protocol}
    assert factory.terms.counters.dropped_lines == 0


def test_lines_of_a_displaced_member_that_wait_are_counted(clock: Clock) -> None:
    factory = WebChatFactory(terms(clock, Admission(ConnectionCounter(2), connect_rate=0)), burst=1)
    ann, _ = begun(factory, "ann"), begun(factory, "bob")
    ann.send(frame(TEXT, json.dumps(say()).encode()) * 50)
    Browser(factory, "198.51.100.1")
    assert ann.transport.disconnecting
    assert factory.terms.counters.dropped_lines > 40


@pytest.mark.parametrize(
    ("sent", "count"),
    [
        (frame(TEXT, json.dumps(say()).encode()), 50),
        (frame(TEXT, b"{}"), 50),  # refused
        (frame(TEXT, json.dumps(say(" ")).encode()), 50),  # refused as well, by what it means
        (frame(TEXT, json.dumps(join("#lobby")).encode()), 50),
        (frame(TEXT, b'{"type":"rooms"}'), 50),
        (frame(TEXT, b'{"type":"ping"}'), 200),
        (frame(PING), 200),
        (frame(TEXT, b'{"type":"search","room":"#lobby","words":"x"}'), 10),
        (frame(TEXT, b'{"type":"search","room":"#lobby","words":"a b c d e f g h i"}'), 50),
    ],
)
def test_everything_that_a_member_sends_counts_as_lines(clock: Clock, sent: bytes, count: int) -> None:
    _, ann, _ = limited(clock)
    assert count - 2 <= count_in_ten_seconds(clock, ann, sent * 500) <= count + 2


def test_frames_that_complete_no_message_count_as_lines_in_part(clock: Clock) -> None:
    _, ann, bob = limited(clock)
    line = json.dumps(say("x" * 1_000)).encode()
    pieces = [line[place : place + 1] for place in range(len(line))]
    stream = b"".join(
        frame(0 if number else TEXT, piece, fin=number == len(pieces) - 1) for number, piece in enumerate(pieces)
    )
    ann.send(stream)
    clock.pump([1.0] * 40)
    assert [each for each in bob.frames() if each.opcode == TEXT] == []
    clock.pump([1.0] * 20)
    assert len([each for each in bob.frames() if each.opcode == TEXT]) == 1


def test_members_of_one_host_share_the_rate_whatever_they_speak(clock: Clock) -> None:
    service = terms(clock, line_timeout=0, idle_timeout=0)
    hub = ChatHub(service, total=0)
    web, lines = WebChatFactory(service, hub), ChatFactory(service, hub)
    bob = begun(web, "bob")
    browsers = [begun(web, host="198.51.100.1") for _ in range(8)]
    netcats = [connect(lines, "198.51.100.1")[0] for _ in range(8)]
    assert web.cost("198.51.100.1") == lines.cost("198.51.100.1") == 2.0
    bob.events()
    for browser in browsers:
        browser.send(frame(TEXT, json.dumps(say("web")).encode()) * 100)
    for netcat in netcats:
        netcat.dataReceived(b"lines\n" * 100)
    clock.pump([0.1] * 100)
    said = [event["text"] for event in bob.told("entry") if event["kind"] == "said"]
    assert 400 <= len(said) <= 440
    assert 0.4 < said.count("web") / len(said) < 0.6
    web.drain(0)
    lines.drain(0)
    clock.pump([SILENCE, *[0.0] * 100])
    for member in (bob, *browsers):
        member.lose()
    for netcat in netcats:
        lose(netcat)
    assert hub.members_of_host("198.51.100.1") == 0


# Waiting


def test_the_requests_of_a_member_are_served_one_after_another(clock: Clock) -> None:
    store = SlowStore()
    hub = ChatHub(terms(clock), store, total=0)
    factory = new_factory(clock, hub)
    ann, bob = people(factory, "ann", "bob")
    store.is_slow = True
    ann.send(say("one", id="m1"), say("two", id="m2"), {"type": "ping"})
    assert ann.events() == []
    assert ann.transport.producerState == "paused"
    store.unconfirm()
    assert ann.events() == [{"type": "not-confirmed", "id": "m1"}]
    store.answer(1)
    entry, confirmed = ann.events()
    assert (entry["id"], confirmed) == ("m1", {"type": "confirmed", "id": "m1"})
    store.refuse()
    failed, pong = ann.events()
    assert (failed["cause"], failed["id"], failed["text"]) == ("store_failed", "m2", "not sent: the disk is full")
    assert pong == {"type": "pong"}
    assert [event["text"] for event in bob.events()] == ["one"]


def test_a_member_whose_request_took_minutes_is_asked_before_it_is_given_up(clock: Clock) -> None:
    store = SlowStore()
    hub = ChatHub(terms(clock), store, total=0)
    factory = new_factory(clock, hub, idle_timeout=0)
    [ann] = people(factory, "ann")
    store.is_slow = True
    ann.send(say("one", id="m1"))
    clock.pump([1.0] * 300)
    assert ann.frames() == []
    store.answer()
    assert len(ann.events()) == 1
    clock.pump([1.0] * 3)
    assert ann.frames() == [Frame(PING, b"")]
    ann.send(frame(PONG))
    clock.pump([1.0] * int(PROBE_TIME))
    assert not ann.transport.aborted


def test_a_member_that_begins_while_the_store_is_slow_is_served_when_it_answers(clock: Clock) -> None:
    store = SlowStore()
    factory = new_factory(clock, ChatHub(terms(clock), store, total=0))
    ann = opened(factory)
    store.is_slow = True
    ann.send(BEGIN, say("one", id="m1"))
    assert [event["type"] for event in ann.events()] == ["welcome", "session"]
    store.answer()
    assert [event["type"] for event in ann.events()] == ["room", "entry", "entry"]


def test_a_member_that_does_not_read_is_disconnected_and_does_not_delay_the_others(
    clock: Clock, factory: WebChatFactory
) -> None:
    ann, bob, cy = people(factory, "ann", "bob", "cy")
    bob.transport.reads = False
    for number in range(300):
        ann.send(say("x" * 1_000, id=f"m{number}"))
    clock.advance(OVER_LIMIT_SECONDS)
    ann.send(say("one more"))
    assert bob.transport.aborted
    assert len(bob.transport.value()) < 67 * 1024
    assert len(cy.told("entry")) == 301
    assert factory.terms.counters.disconnected == {Cause.SEND_QUEUE_FULL: 1}
    bob.lose(ConnectionLost)
    assert [event["kind"] for event in cy.events()] == ["left"]


def test_a_member_that_reads_too_late_is_disconnected_at_the_stall_timeout(
    clock: Clock, factory: WebChatFactory
) -> None:
    ann, bob = people(factory, "ann", "bob")
    bob.transport.reads = False
    for _ in range(80):
        ann.send(say("x" * 1_000))
    bob.send(say("not read"))
    clock.advance(9.9)
    assert not bob.transport.aborted
    clock.advance(0.2)
    assert bob.transport.aborted
    assert factory.terms.counters.disconnected == {Cause.STALL_TIMEOUT: 1}


def test_a_member_that_reads_again_in_time_gets_everything(clock: Clock, factory: WebChatFactory) -> None:
    ann, bob = people(factory, "ann", "bob")
    bob.transport.reads = False
    for number in range(150):
        ann.send(say(f"{number} " + "x" * 1_000))
    bob.send(say("waits"), frame(PING, b"?"))
    clock.advance(5.0)
    bob.transport.read_all()
    received = bob.frames()
    assert len([each for each in received if each.opcode == TEXT]) == 151
    assert received[-1] == Frame(PONG, b"?")


def test_a_long_history_does_not_disconnect_a_member_that_reads(clock: Clock, factory: WebChatFactory) -> None:
    [ann] = people(factory, "ann")
    for _ in range(100):
        ann.send(say('"' * 1_023))
    ann.events()
    ann.transport.reads = False
    ann.send({"type": "history", "room": "#lobby", "count": 100})
    clock.advance(OVER_LIMIT_SECONDS)
    ann.send(frame(PING))
    ann.transport.read_all()
    clock.advance(1.0)
    assert not ann.transport.aborted
    assert len(json.loads(ann.frames()[0].payload)["entries"]) == 100


# Both front ends


def netcat(factory: ChatFactory, nick: str) -> tuple[ChatProtocol, TCPTransport]:
    protocol, transport = connect(factory)
    assert isinstance(protocol, ChatProtocol)
    protocol.dataReceived(b"/nick %s\n/who\n" % nick.encode())
    taken(transport)
    return protocol, transport


def test_members_of_both_front_ends_share_the_rooms(clock: Clock, factory: WebChatFactory) -> None:
    lines = ChatFactory(factory.terms, factory.hub, rate=0)
    ann = begun(factory, "ann")
    bob, to_bob = netcat(lines, "bob")
    assert [(event["kind"], event["nick"]) for event in ann.events()] == [("joined", "bob")]
    ann.send(say("from the web"), say("waves", action=True), {"type": "whisper", "nick": "bob", "text": "psst"})
    assert taken(to_bob) == b"<ann> from the web\n<ann *> waves\n<ann -> bob> psst\n"
    bob.dataReceived(b"from netcat\n/msg ann psst\n/topic tea\n/nick bob2\n/quit\n")
    told = [event for event in ann.events() if not event.get("own")]
    assert [
        (event.get("kind") or event["type"], event.get("text")) for event in told if event.get("sender") != "ann"
    ] == [*(("said", "from netcat"), ("whisper", "psst"), ("topic", "tea"), ("renamed", "bob2"), ("left", "left"))]
    lose(bob)


# The end


def test_what_members_sent_before_the_stop_is_delivered_and_they_are_told(clock: Clock) -> None:
    factory, ann, bob = limited(clock)
    ann.send(frame(TEXT, json.dumps(say("x")).encode()) * 30)
    stopped = factory.drain(5.0)
    clock.pump([0.0] * 5 + [SILENCE] + [CHECK_INTERVAL] * 5)
    received = bob.frames()
    assert len(received) == 32
    assert json.loads(received[-2].payload) == {"type": "notice", "text": "the server stops; bye"}
    assert received[-1] == Frame(CLOSE, b"\x03\xe9the server stops")
    assert ann.closed().close_code == 1001
    ann.lose()
    bob.lose()
    assert stopped.called
    assert not clock.getDelayedCalls()
