"""One connection of a program to a chat over WebSocket: it sends requests and receives events."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection
from wsproto.events import Request as HandshakeRequest
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from netsvc.chat.chat_connection import BEGIN_SESSION, request_line
from netsvc.chat.chat_events import NickSet, RoomEntered, Welcome
from netsvc.chat.client_connection import ClientConnection, EventReceived, Opening
from netsvc.chat.entries import Position
from netsvc.chat.json_events import decode_event
from netsvc.chat.json_messages import ENCODER, EVENTS, SUBPROTOCOL, MembersEvent, MembersRequest
from netsvc.chat.json_requests import encode_json_request
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Positions, Request, Resume, Who
from netsvc.errors import NetsvcError
from netsvc.web.http_requests import HEAD_MAX
from netsvc.web.websocket_messages import (
    Binary,
    CloseReceived,
    PingReceived,
    Text,
    Violation,
    WebSocketMessages,
    client_close_frame,
    client_pong_frame,
    client_text_frame,
)
from netsvc.wire.text import clean

#: Bytes of the longest message of a server: 1,000 old entries of 2 KiB.
MESSAGE_MAX = 4 * 1024 * 1024

#: Bytes of the longest text of a refusal that is kept.
_REFUSAL_MAX = 200


class WebSocketRefusedError(NetsvcError):
    """The server does not open the WebSocket. The text says why."""


class WebSocketChatConnection(ClientConnection):
    """The connection of one member, on the member's side, over WebSocket.

    The member is in one room at a time, as with lines, so that a client can use either.

    :param url: of the WebSocket: ``ws://chat.example.org:8080/ws``. It names the server; the endpoint leads to it.
    :param event_received: called with each event and each entry of the room. No text contains control characters.
    :param opening: what it sends first, with the ID of each request: that it begins a session, or that it resumes.
    :ivar ignored: the number of messages from the server that are no events.
    :raises ValueError: if it is not the URL of a WebSocket.
    """

    def __init__(
        self,
        url: str,
        event_received: EventReceived,
        opening: Opening = BEGIN_SESSION,
    ) -> None:
        super().__init__()
        self._host, self._target = parse_web_socket_url(url)
        self._event_received = event_received
        # A session that is resumed was begun before.
        is_resumed = any(isinstance(request, Resume) for request, _ in opening)
        self._opening = [each for each in opening if not (is_resumed and isinstance(each[0], Positions))]
        self._handshake: H11Handshake | None = H11Handshake(ConnectionType.CLIENT)
        self._head = bytearray()  # of the server's answer, until it is complete
        self._refusal: WebSocketRefusedError | None = None
        self._messages = WebSocketMessages(client=True, message_max=MESSAGE_MAX)
        self._room = ""
        self._ends: dict[str, Position] = {}  # of the rooms: the last entry that was received
        self._asked: list[bool] = []  # for each unanswered request for the members: whether it asks for the position

    def connectionMade(self) -> None:
        super().connectionMade()
        assert self._handshake is not None
        request = HandshakeRequest(host=self._host, target=self._target, subprotocols=[SUBPROTOCOL])
        self.transport.write(self._handshake.send(request))

    def send(self, request: Request, message_id: str = "") -> None:
        """Send one request.

        :param message_id: the answer, and the entry if there is one, will name it.
        :raises MessageError: if there is no such request, if the text contains a line end or half of a surrogate pair,
            if it is too long for a line, or if the WebSocket is not open.
        """
        if self.closed.called or self._handshake is not None:
            raise MessageError("the connection is not open")
        request_line(request, message_id)  # raises for what is no line
        if isinstance(request, Positions) and request.on and self._room:
            # With lines, the answer is where the member is. Here it follows from the entries and the list of members.
            self._asked.append(True)
            self._write(ENCODER.encode(MembersRequest(self._room)))
            return
        if isinstance(request, Who):
            self._asked.append(False)
        self._write(ENCODER.encode(encode_json_request(request, message_id, self._room)))

    def close(self) -> None:
        if self._handshake is None:
            self.transport.write(client_close_frame(1000))
        super().close()

    def dataReceived(self, data: bytes) -> None:
        if self._handshake is not None:
            data = self._answered(self._handshake, data)
        self._messages.receive(data)
        while (message := self._messages.next_message()) is not None:
            match message:
                case Text(text):
                    self._message_received(text)
                case PingReceived(payload):
                    self.transport.write(client_pong_frame(payload))
                case CloseReceived(code, _):
                    self.transport.write(client_close_frame(code))
                    self.transport.loseConnection()
                case Violation(code, _):
                    self.transport.write(client_close_frame(code))
                    self.transport.abortConnection()
                case Binary():
                    self.ignored += 1

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._refusal is not None:
            reason = Failure(self._refusal)
        elif self._handshake is not None and reason.check(ConnectionDone):
            reason = Failure(WebSocketRefusedError("the server closed the connection"))
        super().connectionLost(reason)

    # Internal

    def _write(self, message: bytes) -> None:
        self.transport.write(client_text_frame(message))

    def _answered(self, handshake: H11Handshake, data: bytes) -> bytes:
        """Process the answer of the server to the request for a WebSocket. Return what follows it."""
        self._head += data
        end = self._head.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._head) > HEAD_MAX:
                self._refuse("the server does not speak WebSocket")
            return b""
        head, rest = bytes(self._head[:end]), bytes(self._head[end:])
        self._head.clear()
        try:
            handshake.receive_data(head)
            answer = next(handshake.events())
        except (RemoteProtocolError, ValueError, StopIteration):
            answer = None
        match answer:
            case AcceptConnection(subprotocol=accepted) if accepted == SUBPROTOCOL:
                self._handshake = None
                for request, message_id in self._opening:
                    self.send(request, message_id)
                return rest
            case AcceptConnection():
                self._refuse("the WebSocket is not that of a netsvc chat")
            case RejectConnection(status_code=status):
                is_page = rest.lstrip().startswith(b"<")  # whose first line says nothing
                said = "" if is_page else rest.decode("utf-8", "replace").partition("\n")[0][:_REFUSAL_MAX]
                self._refuse(f"the server refuses: {clean(said) or f'HTTP status {status}'}")
            case _:
                self._refuse("the server does not speak WebSocket")
        return b""

    def _refuse(self, text: str) -> None:
        self._refusal = WebSocketRefusedError(text)
        self.transport.abortConnection()

    def _message_received(self, text: str) -> None:
        try:
            message = EVENTS.decode(text)
        except (msgspec.MsgspecError, RecursionError):  # the latter if it is nested deeply
            self.ignored += 1
            return
        epochs = {room: position.epoch for room, position in self._ends.items()}
        event = decode_event(message, epochs)
        match event:
            case None:
                return
            case RoomEntered(room, position):
                self._room = room
                self._ends = {room: position}
            case ReceivedEntry(entry):
                if entry.room != self._room:
                    return
                self._ends[self._room] = entry.position
            case Welcome(nick):
                event = NickSet(nick)
            case _:
                if isinstance(message, MembersEvent) and self._asked and self._asked.pop(0):
                    position = self._ends[self._room]
                    event = RoomEntered(message.room, position, message.count, tuple(message.nicks))
        self._event_received(event)


def parse_web_socket_url(url: str) -> tuple[str, str]:
    """Return the value of the Host header, and the target of the request.

    :raises ValueError: if it is not the URL of a WebSocket.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.username or not url.isascii():
        raise ValueError(f"{url!r} is not the URL of a WebSocket; write ws://HOST:PORT/ws")
    query = f"?{parts.query}" if parts.query else ""
    return parts.netloc, f"{parts.path or '/'}{query}"
