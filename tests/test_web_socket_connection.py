"""The connection of a program to a chat over WebSocket, against servers that are wrong or hostile."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost

from netsvc.chat.chat_events import Event, MemberList, NickSet, Notice, RoomEntered, SessionToken
from netsvc.chat.entries import EntryKind, Position
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Help, Join, Positions, Quit, Request, Resume, Say, Whisper, Who
from netsvc.chat.web_socket_connection import (
    WebSocketChatConnection,
    WebSocketRefusedError,
    parse_web_socket_url,
)
from netsvc.web.websocket_messages import (
    CloseReceived,
    PongReceived,
    Text,
    WebSocketMessages,
    close_frame,
    ping_frame,
    text_frame,
)
from tests.connections import TCPTransport, attach, lose, taken

URL = "ws://chat.example.org:8080/chat/ws?x=1"


def answer_to(handshake: bytes, *headers: str) -> bytes:
    """Return the answer of a server that accepts."""
    [key] = [line.split(b": ")[1] for line in handshake.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept}", *(headers or ["Sec-WebSocket-Protocol: chat.v1.netsvc"])]
    return "\r\n".join([*lines, "", ""]).encode()


class Server:
    """The server's side of one connection."""

    def __init__(self, *opening: tuple[Request, str]) -> None:
        self.events: list[Event | ReceivedEntry] = []
        options: Any = {"opening": opening} if opening else {}
        self.connection = WebSocketChatConnection(URL, self.events.append, **options)
        self.transport: TCPTransport = attach(self.connection)
        self.handshake = taken(self.transport)
        self._messages = WebSocketMessages()

    def accept(self) -> list[Any]:
        """Accept the WebSocket. Return the first messages of the client."""
        self.connection.dataReceived(answer_to(self.handshake))
        return self.received()

    def received(self) -> list[Any]:
        """Return what the client has sent since the last call: JSON, and other messages as they are."""
        self._messages.receive(taken(self.transport))
        messages: list[Any] = []
        while (message := self._messages.next_message()) is not None:
            messages.append(json.loads(message.text) if isinstance(message, Text) else message)
        return messages

    def send(self, **message: Any) -> None:
        """Send one message."""
        self.connection.dataReceived(text_frame(json.dumps(message)))

    def failure(self) -> BaseException:
        """Return why the connection has failed."""
        failures: list[object] = []
        self.connection.closed.addErrback(lambda failure: failures.append(failure.value))
        [failure] = failures
        assert isinstance(failure, BaseException)
        return failure


def test_the_handshake_names_the_server_the_path_and_the_subprotocol() -> None:
    head = Server().handshake.decode()
    assert head.startswith("GET /chat/ws?x=1 HTTP/1.1\r\n")
    assert "\r\nHost: chat.example.org:8080\r\n" in head
    assert "\r\nSec-WebSocket-Protocol: chat.v1.netsvc\r\n" in head


@pytest.mark.parametrize("url", ["http://host/ws", "ws://", "host/ws", "ws://me@host/ws", "ws://host/\N{SNOWMAN}", ""])
def test_a_url_of_no_websocket_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValueError, match="write ws://HOST:PORT/ws"):
        parse_web_socket_url(url)


def test_a_url_without_a_path_asks_for_the_root() -> None:
    assert parse_web_socket_url("wss://chat.example.org") == ("chat.example.org", "/")


def test_a_connection_begins_a_session_or_resumes_one() -> None:
    assert Server().accept() == [{"type": "begin"}]
    opening = ((Positions(on=True), ""), (Resume("0" * 32, "ann", "#dev", Position("ab", 7)), ""))
    position = {"room": "#dev", "epoch": "ab", "offset": 7}
    resume = {"type": "resume", "token": "0" * 32, "nick": "ann", "positions": [position]}
    assert Server(*opening).accept() == [resume]


@pytest.mark.parametrize("size", [1, 7])
def test_an_answer_in_pieces_and_what_follows_it_is_read(size: int) -> None:
    server = Server()
    stream = answer_to(server.handshake) + text_frame('{"type":"notice","text":"hi"}')
    for start in range(0, len(stream), size):
        server.connection.dataReceived(stream[start : start + size])
    assert server.events == [Notice("hi")]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9\r\n\r\nslow \x1bit\n", "the server refuses: slow it"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "the server refuses: HTTP status 403"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "the server refuses: HTTP status 200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<!doctype html>", "the server refuses: HTTP status 200"),
        (b"* welcome, you are guest-1\n\r\n\r\n", "the server does not speak WebSocket"),
        (b"x" * 20_000, "the server does not speak WebSocket"),
        (
            b"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "the server does not speak WebSocket",
        ),
        (b"\x16\x03\x01\r\n\r\n", "the server does not speak WebSocket"),
    ],
)
def test_a_server_that_refuses_or_is_another_one_is_told_in_words(answer: bytes, reason: str) -> None:
    server = Server()
    server.connection.dataReceived(answer)
    assert server.transport.aborted
    lose(server.connection, ConnectionDone)
    failure = server.failure()
    assert isinstance(failure, WebSocketRefusedError)
    assert str(failure) == reason


def test_a_websocket_of_something_else_is_refused() -> None:
    server = Server()
    server.connection.dataReceived(answer_to(server.handshake, "X-Other: 1"))
    lose(server.connection, ConnectionDone)
    assert str(server.failure()) == "the WebSocket is not that of a netsvc chat"


def test_a_server_that_closes_without_an_answer_is_told_in_words() -> None:
    server = Server()
    lose(server.connection, ConnectionDone)
    assert str(server.failure()) == "the server closed the connection"


def test_a_lost_connection_fails_with_the_reason() -> None:
    server = Server()
    server.accept()
    lose(server.connection, ConnectionLost)
    assert isinstance(server.failure(), ConnectionLost)


def test_a_ping_is_answered_and_a_closing_frame_ends_the_connection_in_order() -> None:
    server = Server()
    server.accept()
    server.connection.dataReceived(ping_frame())
    assert server.received() == [PongReceived()]
    server.connection.dataReceived(close_frame(1001, "the server stops"))
    assert server.received() == [CloseReceived(1001, "")]
    lose(server.connection, ConnectionDone)
    assert server.connection.closed.called


@pytest.mark.parametrize("data", [b"\x81\x85abcd hello", b"\xf1\x00", b"\x81\x02\xff\xff", b"\x81\x7f" + b"\x7f" * 8])
def test_a_server_that_breaks_the_protocol_is_disconnected(data: bytes) -> None:
    server = Server()
    server.accept()
    server.connection.dataReceived(data)
    assert server.transport.aborted
    lose(server.connection, ConnectionDone)


def test_messages_that_are_no_events_are_counted_and_ignored() -> None:
    server = Server()
    server.accept()
    nested = '{"type":"pong","x":' + "[" * 8_000 + "]" * 8_000 + "}"
    for text in ("{}", "[]", "nonsense", '{"type":"later","x":1}', '{"type":"nick","nick":7}', "\x00", nested):
        server.connection.dataReceived(text_frame(text))
    server.connection.dataReceived(b"\x82\x01x")  # binary
    assert server.events == []
    assert server.connection.ignored == 8


def test_no_text_of_a_server_controls_a_terminal() -> None:
    server = Server()
    server.accept()
    server.send(type="notice", text="\x1b[2J\u202ex")
    server.send(type="session", token="a\nb")
    assert server.events == [Notice("[2Jx"), SessionToken("a b")]


def test_an_entry_of_another_room_than_the_current_one_is_ignored() -> None:
    server = Server()
    server.accept()
    server.send(type="room", room="#dev", epoch="ab", offset=3, count=1, members=[])
    entry = {"type": "entry", "offset": 4, "time": 1500, "kind": "said", "nick": "ann", "text": "hi"}
    server.send(room="#lobby", **entry)
    server.send(room="#dev", **entry, own=True, id="7")
    [_, received] = server.events
    assert isinstance(received, ReceivedEntry)
    assert received.is_own
    assert received.entry.position == Position("ab", 4)
    assert (received.entry.kind, received.entry.time, received.entry.message_id) == (EntryKind.SAID, 1.5, "7")


def test_the_nick_follows_from_the_welcome() -> None:
    server = Server()
    server.accept()
    server.send(type="welcome", nick="guest-1")
    assert server.events == [NickSet("guest-1")]


def test_the_position_in_a_room_follows_from_its_entries_when_it_is_asked_for() -> None:
    server = Server()
    server.accept()
    server.send(type="room", room="#dev", epoch="ab", offset=3, count=2, members=["bob"])
    server.send(type="entry", room="#dev", offset=4, time=0, kind="said", nick="bob", text="hi")
    server.events.clear()
    server.connection.send(Who())
    server.connection.send(Positions(on=True))
    assert server.received() == [{"type": "members", "room": "#dev"}] * 2
    for _ in range(2):
        server.send(type="members", room="#dev", count=2, nicks=["ann", "bob"])
    listed, entered = server.events
    assert listed == MemberList("#dev", 2, ("ann", "bob"))
    assert entered == RoomEntered("#dev", Position("ab", 4), 2, ("ann", "bob"))


@pytest.mark.parametrize(
    "request_", [Say("two\nlines"), Say("x" * 1024), Whisper("ann", "x\n/quit"), Say("\ud800"), Help()]
)
def test_a_connection_sends_nothing_that_is_not_one_line_or_has_no_message(request_: Request) -> None:
    server = Server()
    server.accept()
    with pytest.raises(MessageError):
        server.connection.send(request_)
    assert server.received() == []


def test_nothing_is_sent_before_the_websocket_is_open_or_after_it_is_closed() -> None:
    server = Server()
    with pytest.raises(MessageError, match="not open"):
        server.connection.send(Join("#dev"))
    server.accept()
    closed = server.connection.quit()
    assert server.received() == [{"type": "quit"}]
    lose(server.connection, ConnectionDone)
    assert closed.called
    with pytest.raises(MessageError, match="not open"):
        server.connection.send(Quit())


def test_a_connection_that_the_client_closes_says_so() -> None:
    server = Server()
    server.accept()
    server.connection.close()
    assert server.received() == [CloseReceived(1000, "")]
    assert server.transport.disconnecting
