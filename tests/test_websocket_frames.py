"""What a WebSocket peer may send, over a connection in memory."""

from __future__ import annotations

from twisted.internet.task import Clock
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event

from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.web.static_site import StaticSite
from netsvc.web.web_protocol import UNSUPPORTED, WebProtocol, WebTerms
from tests.autobahn import EchoFactory
from tests.connections import connect, taken, terms

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class TextProtocol(WebProtocol):
    """Takes messages of text."""


class TextFactory(StreamFactory):
    web = WebTerms(StaticSite({"index.html": b""}), "ws", "text")

    def build_connection(self) -> StreamProtocol:
        return TextProtocol()


class Client:
    """A WebSocket client of a connection in memory."""

    def __init__(self, factory: StreamFactory) -> None:
        self._protocol, self.transport = connect(factory)
        self._protocol.dataReceived(UPGRADE)
        self.frames = Connection(ConnectionType.CLIENT)
        head, _, rest = taken(self.transport).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        self.frames.receive_data(rest)

    def send(self, event: Event) -> list[Event]:
        """Send a frame, and return what the server sends."""
        self._protocol.dataReceived(self.frames.send(event))
        self.frames.receive_data(taken(self.transport))
        return list(self.frames.events())


def test_a_message_of_bytes_is_refused_unless_the_protocol_takes_it() -> None:
    [closing] = Client(TextFactory(terms(Clock()))).send(BytesMessage(b"\xff"))
    assert closing == CloseConnection(UNSUPPORTED, "messages are text")


def test_a_protocol_that_takes_messages_of_bytes_gets_them() -> None:
    assert Client(EchoFactory(terms(Clock()))).send(BytesMessage(b"\xff")) == [BytesMessage(b"\xff")]
