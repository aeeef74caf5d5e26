"""What the page and the WebSocket cost at most, whatever a peer sends."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import pytest
from twisted.internet.task import Clock

from netsvc.chat.web_member import WebChatFactory
from netsvc.limits.admission import Admission
from netsvc.limits.cause import Cause
from netsvc.net.connection_state import ConnectionState
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.web.http_requests import LINES_MAX, HttpRequest, HttpRequests, InvalidRequest
from netsvc.web.static_site import StaticSite, accepts_gzip
from netsvc.web.websocket_messages import MESSAGE_MAX, Fragment, Text, WebSocketMessages
from tests.connections import TCPTransport, connect, lose, taken, terms
from tests.web_clients import CONTINUATION, PING, PONG, TEXT, Frame, answers, frame, frames, request, upgrade
from tests.web_members import Browser, opened


class Peer:
    """A connection in memory whose WebSocket is open.

    :param sends: messages that it sends at once.
    """

    protocol: StreamProtocol
    transport: TCPTransport

    def __init__(self, factory: WebChatFactory, *sends: bytes) -> None:
        self.protocol, self.transport = connect(factory)
        self.protocol.dataReceived(upgrade())
        assert taken(self.transport).startswith(b"HTTP/1.1 101 ")
        self.send(b"".join(frame(TEXT, message) for message in sends))

    def send(self, data: bytes) -> list[Frame]:
        """Send bytes, and return the frames that the server has sent."""
        if data:
            self.protocol.dataReceived(data)
        return frames(taken(self.transport))

    def ask(self, message: bytes) -> list[Any]:
        """Send a message, and return the messages that the server has sent."""
        return [json.loads(each.payload) for each in self.send(frame(TEXT, message)) if each.opcode == TEXT]


def member(clock: Clock) -> Peer:
    """Return a member of a new chat, which has no limit on its rate."""
    return Peer(WebChatFactory(terms(clock), rate=0), b'{"type":"begin"}')


@pytest.mark.parametrize(
    "message",
    [
        b'{"a":' + b"[" * 8_000 + b"]" * 8_000 + b',"type":"ping"}',
        b'{"a":' * 3_000,
        b'{"type":' + b"[" * 16_000,
    ],
)
def test_a_message_that_is_nested_deeply_is_refused_like_every_other(message: bytes) -> None:
    peer = member(Clock())
    [refusal] = peer.ask(message)
    assert refusal == {
        "type": "refused",
        "cause": "invalid_message",
        "text": "the message is not valid: it is nested too deeply",
    }
    assert peer.ask(b'{"type":"ping"}') == [{"type": "pong"}]


def test_a_refusal_quotes_little_of_the_message() -> None:
    [refusal] = member(Clock()).ask(b'{"type":"ping","' + b"k" * 16_000 + b'":1}')
    assert len(json.dumps(refusal)) < 400


def test_at_most_256_frames_that_wait_are_counted_and_each_of_them_once() -> None:
    messages = WebSocketMessages()
    messages.receive(frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 10_000)
    began = time.thread_time()
    for left in range(10_000, -1, -1):
        assert messages.next_message() == Fragment()
        assert messages.waiting() == min(left, 256)
    assert time.thread_time() - began < 2  # it was 25


def test_frames_that_wait_are_counted_right_when_more_arrive() -> None:
    messages = WebSocketMessages()
    piece = frame(TEXT, b"a")
    messages.receive(piece * 3 + piece[:4])
    assert messages.waiting() == 3
    assert messages.next_message() == Text("a")
    messages.receive(piece[4:] + piece)
    assert messages.waiting() == 4
    for waiting in (3, 2, 1, 0):
        assert messages.next_message() == Text("a")
        assert messages.waiting() == waiting
    messages.receive(piece)
    assert messages.next_message() == Text("a")
    assert messages.waiting() == 0


@pytest.mark.parametrize("character", ["x", "\u0101", "\U0001f600"])
def test_a_message_in_fragments_of_one_character_takes_as_much_memory_as_others(character: str) -> None:
    messages, data = WebSocketMessages(), character.encode()
    count = MESSAGE_MAX // len(data)
    first, other = frame(TEXT, data, fin=False), frame(CONTINUATION, data, fin=False)
    tracemalloc.start()
    try:
        for number in range(count):
            messages.receive(other if number else first)
            assert messages.next_message() == Fragment()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 150_000
    messages.receive(frame(CONTINUATION))
    assert messages.next_message() == Text(character * count)


def with_lines(count: int) -> bytes:
    """Return a request whose head has so many lines."""
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:b\r\n" * (count - 3) + b"\r\n"


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_head_of_a_request_has_at_most_100_lines(size: int) -> None:
    def first(stream: bytes) -> HttpRequest | InvalidRequest | None:
        requests = HttpRequests()
        for start in range(0, len(stream), size):
            requests.receive(stream[start : start + size])
            if (message := requests.next_message()) is not None:
                return message
        return None

    assert isinstance(first(with_lines(LINES_MAX)), HttpRequest)
    assert first(with_lines(LINES_MAX + 1)) == InvalidRequest(431, "the head of the request is too long")


def test_a_head_that_trickles_is_searched_once() -> None:
    requests = HttpRequests()
    requests.receive(b"GET / HTTP/1.1\r\n")
    began = time.thread_time()
    for _ in range(16_000):
        requests.receive(b"a")
        assert requests.next_message() is None
        assert requests.waiting() == 0
    assert time.thread_time() - began < 0.5


@pytest.mark.parametrize("header", ["accept-encoding", "if-none-match"])
def test_a_list_of_16000_values_in_a_header_costs_no_more_than_a_short_one(header: str) -> None:
    site = StaticSite({"index.html": b""})
    request = HttpRequest("GET", "/", [(header, "," * 16_000)])
    began = time.thread_time()
    for _ in range(100):
        assert site.answer(request).status == 200
    assert time.thread_time() - began < 0.1  # it was 0.5


def test_the_first_values_of_a_list_count() -> None:
    assert accepts_gzip("a," * 15 + "gzip")
    assert not accepts_gzip("a," * 16 + "gzip")


def limited(clock: Clock, connect_rate: float) -> WebChatFactory:
    """Return a factory with a limit on the rate of connections, of which ten seconds' worth are allowed at once."""
    return WebChatFactory(terms(clock, Admission(connect_rate=connect_rate)))


def statuses(factory: WebChatFactory, stream: bytes, host: str = "192.0.2.1") -> list[int]:
    """Return the statuses of the answers to what is sent on a new connection."""
    protocol, transport = connect(factory, host)
    protocol.dataReceived(stream)
    assert isinstance(factory.terms.clock, Clock)
    factory.terms.clock.advance(0)
    return [each.status for each in answers(taken(transport))]


def test_a_host_may_send_as_many_further_requests_as_it_may_open_connections() -> None:
    clock = Clock()
    factory = limited(clock, connect_rate=6)
    assert statuses(factory, request() * 31) == [200] * 31
    assert statuses(factory, request() * 40) == [200] * 31 + [429]
    assert factory.terms.counters.refused[Cause.REQUEST_RATE] == 1
    assert statuses(factory, request()) == [200]  # the first one counts with its connection
    assert statuses(factory, request() * 2, "198.51.100.1") == [200, 200]
    clock.advance(1)
    assert statuses(factory, request() * 9) == [200] * 7 + [429]


def test_a_page_of_some_files_is_served_even_at_a_low_rate() -> None:
    assert statuses(limited(Clock(), connect_rate=0.1), request() * 60) == [200] * 51 + [429]


def test_a_connection_whose_host_asks_too_much_is_closed() -> None:
    clock = Clock()
    protocol, transport = connect(limited(clock, connect_rate=0.1))
    protocol.dataReceived(request() * 60)
    clock.advance(0)
    *_, last = answers(taken(transport))
    assert last.headers["connection"] == "close"
    assert transport.write_closed


@pytest.mark.parametrize("sent", [frame(PING), frame(TEXT, fin=False), frame(TEXT, b'{"type":"ping"}')])
def test_what_a_peer_without_a_session_sends_counts_as_requests(sent: bytes) -> None:
    peer = Peer(limited(Clock(), connect_rate=0.1))
    assert all(each.opcode in (PONG, TEXT) for each in peer.send(sent + frame(PING) * 40))
    last = peer.send(frame(PING) * 20)[-1]
    assert (last.close_code, last.payload[2:]) == (1008, b"too many requests per second from one host or network")


def test_what_a_member_sends_waits_and_does_not_count_as_connections() -> None:
    clock = Clock()
    peer = Peer(limited(clock, connect_rate=0.2), b'{"type":"begin"}')

    def pongs(sent: bytes) -> int:
        return sum(each.opcode == PONG for each in peer.send(sent))

    at_once = pongs(frame(PING) * 8)
    assert at_once < 8
    clock.advance(2)
    assert at_once + pongs(b"") == 8


def test_most_of_500_connections_that_send_many_requests_get_one_answer_in_an_iteration() -> None:
    factory = WebChatFactory(terms(Clock()))
    opened = [connect(factory) for _ in range(500)]
    for protocol, _ in opened:
        protocol.dataReceived(request("/x") * 20)
    assert 500 <= sum(len(answers(taken(transport))) for _, transport in opened) < 700


def test_one_request_with_a_long_head_is_answered_in_an_iteration() -> None:
    protocol, transport = connect(WebChatFactory(terms(Clock())))
    protocol.dataReceived(request(cookie="c" * 15_000) * 4)
    assert len(answers(taken(transport))) == 1


def test_a_connection_that_is_lost_does_not_answer_the_requests_that_wait() -> None:
    protocol, _ = connect(WebChatFactory(terms(Clock())))
    protocol.dataReceived(request() * 20)
    assert protocol.has_unprocessed_input
    lose(protocol)
    assert protocol.state is ConnectionState.CLOSED


def test_a_message_in_fragments_must_end_30_seconds_after_the_first_one() -> None:
    clock = Clock()
    peer = member(clock)
    assert peer.send(frame(TEXT, b"a", fin=False)) == []
    for _ in range(29):
        clock.advance(1)
        assert peer.send(frame(CONTINUATION, fin=False) + frame(PING))[-1] == Frame(PONG, b"")
    clock.advance(2)
    [last] = peer.send(b"")
    assert (last.close_code, last.payload[2:]) == (1008, b"line not ended in time")


def test_each_message_in_fragments_has_its_own_30_seconds() -> None:
    clock = Clock()
    peer = member(clock)
    for _ in range(5):
        peer.send(frame(TEXT, b'{"type":', fin=False))
        clock.advance(20)
        assert peer.send(frame(CONTINUATION, b'"ping"}'))[-1].payload == b'{"type":"pong"}'


def test_one_long_message_is_processed_in_an_iteration() -> None:
    peer = Peer(WebChatFactory(terms(Clock())))
    assert len(peer.send(frame(TEXT, b" " * 16_384) * 4)) == 1


def resume(factory: WebChatFactory, rooms: int) -> Browser:
    """Return a browser that asked to resume in rooms."""
    browser = opened(factory)
    positions = [{"room": f"#r{number}", "epoch": "0", "offset": 0} for number in range(rooms)]
    browser.send({"type": "resume", "token": "0" * 32, "nick": "ann", "positions": positions})
    return browser


def test_a_host_may_begin_as_many_sessions_as_with_netcat() -> None:
    factory = WebChatFactory(terms(Clock(), Admission(connect_rate=20)))
    browsers = [opened(factory) for _ in range(51)]
    for browser in browsers:
        browser.send({"type": "begin"})
    assert [len(browser.told("session")) for browser in browsers[:-1]] == [1] * 50
    assert browsers[-1].closed().close_code == 1008


def test_each_room_in_which_a_session_is_resumed_counts_as_a_request() -> None:
    clock = Clock()
    factory = limited(clock, connect_rate=5)
    assert len(resume(factory, 64).told("resumed")) == 64
    assert resume(factory, 2).closed().close_code == 1008
    clock.advance(20)
    assert len(resume(factory, 2).told("resumed")) == 2


def test_a_change_of_the_nick_counts_as_a_line_for_each_room() -> None:
    clock = Clock()
    factory = limited(clock, connect_rate=0)
    ann = resume(factory, 11)
    clock.advance(2)
    ann.events()
    ann.send({"type": "nick", "nick": "anna"}, {"type": "ping"})
    assert ann.told("pong") == []
    clock.advance(1)
    assert len(ann.told("pong")) == 1
