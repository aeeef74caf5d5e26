"""What the page and the WebSocket cost at most, whatever a peer sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from netsvc.chat.web_member import WebChatFactory
from netsvc.net.stream_protocol import StreamProtocol
from tests.connections import TCPTransport, connect, taken, terms
from tests.web_clients import TEXT, Frame, frame, frames, upgrade


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
