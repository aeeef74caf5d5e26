"""The HTTP requests in a stream, one after another. h11 parses them, and checks the answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

import h11
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

#: Bytes of the longest head of a request. A browser sends the cookies of all sites on the same host.
HEAD_MAX = 16_384

#: Lines of the longest head. A browser sends 20.
LINES_MAX = 100

#: The state in which the client waits for the answer to its request to upgrade.
_MIGHT_SWITCH = h11.MIGHT_SWITCH_PROTOCOL  # type: ignore[attr-defined]  # public in its documentation

#: The first byte of a request is a letter.
_FIRST_BYTE_MIN = 0x21

_END_OF_HEAD = re.compile(rb"\n\r?\n")

Headers: TypeAlias = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without a body.

    :ivar target: the path, and the query if there is one.
    :ivar headers: names are in lower case.
    :ivar wants_upgrade: whether it asks for another protocol.
    """

    method: str
    target: str
    headers: Headers
    wants_upgrade: bool = False

    @property
    def path(self) -> str:
        """The target without the query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str:
        """Return the values of a header, with commas between them; empty without one."""
        return ", ".join(value for known, value in self.headers if known == name)


@dataclass(frozen=True, slots=True)
class InvalidRequest:
    """A request that cannot be answered as such. Nothing follows.

    :ivar status: the HTTP status that says so.
    :ivar text: one line for the peer.
    """

    status: int
    text: str


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer.

    :ivar body: for ``HEAD``, it is not sent.
    """

    status: int
    headers: Headers
    body: bytes = b""


class HttpRequests:
    """Finds the requests in the stream of a client. After each, :meth:`respond` before the next one is read.

    A head is given to h11 when it is complete and known to be short. h11 itself accepts a head of any size if it
    arrives in one piece, and takes 3.4 ms for one of 16 KiB that has 3,000 lines.
    """

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER)
        self._buffer = bytearray()
        self._searched = 0  # where the search for the end of the head goes on
        self._request: h11.Request | None = None
        self._is_over = False

    def receive(self, data: bytes) -> None:
        """Accept the bytes that one read returned."""
        if not self._is_over:
            self._buffer += data

    def next_message(self) -> HttpRequest | InvalidRequest | None:
        """Return the next request; None if more bytes must arrive first, or the one before is not answered."""
        if self._is_over or self._request is not None:
            return None
        if self._buffer and self._buffer[0] < _FIRST_BYTE_MIN:  # such as TLS, whose head would not end
            return self._malformed()
        size = self._head_size()
        if size is None:
            return self._too_long() if len(self._buffer) > HEAD_MAX else None
        head = bytes(self._buffer[:size])
        if size > HEAD_MAX or head.count(b"\n") > LINES_MAX:
            return self._too_long()
        del self._buffer[:size]
        self._searched = 0
        connection = self._connection
        connection.receive_data(head)
        try:
            request = connection.next_event()
            assert isinstance(request, h11.Request)
            self._request = request
            if _has_body(request):
                return self._invalid(413, "no request has a body here")
            connection.next_event()  # the end of the message
        except h11.RemoteProtocolError as e:
            return self._malformed(e.error_status_hint)
        return self._complete(request)

    def waiting(self) -> int:
        """Return 1 if there is a request that was not returned yet."""
        return int(self._head_size() is not None)

    def has_partial(self) -> bool:
        """Whether a request has begun and has not ended."""
        return bool(self._buffer)

    def end(self) -> HttpRequest | InvalidRequest | None:
        """Return None: the end of the stream completes no request."""
        return None

    def respond(self, response: HttpResponse, *, close: bool = False) -> tuple[bytes, bool]:
        """Return the bytes of the answer to the last request, and whether the connection stays open for another one.

        :param close: end the connection in any case.
        """
        headers = [*response.headers]
        if response.status != HTTPStatus.NOT_MODIFIED:  # its length would be that of the body that is not sent
            headers.append(("content-length", str(len(response.body))))
        if close or self._is_over or self._connection.their_state is _MIGHT_SWITCH:
            headers.append(("connection", "close"))
        connection = self._connection
        if self._is_over and connection.our_state is not h11.SEND_RESPONSE and connection.our_state is not h11.IDLE:
            return b"", False
        reason = HTTPStatus(response.status).phrase.encode("ascii")
        head = h11.Response(status_code=response.status, headers=_encoded(headers), reason=reason)
        sent = connection.send(head) or b""
        if self._request is None or self._request.method != b"HEAD":
            sent += connection.send(h11.Data(data=response.body)) or b""
        sent += connection.send(h11.EndOfMessage()) or b""
        stays_open = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        self._request = None
        if stays_open:
            connection.start_next_cycle()
        else:
            self._end()
        return sent, stays_open

    def upgrade(self, request: HttpRequest, subprotocol: str) -> tuple[bytes, bytes] | InvalidRequest:
        """Switch to WebSocket.

        :param subprotocol: named in the answer if the client offers it.
        :return: the bytes of the answer, and those that the client has sent after its request; or what is wrong with
            the request.
        """
        if request.method != "GET":
            return InvalidRequest(400, "the method for WebSocket is GET")
        # wsproto would decode the host as an international name, which can take 0.1 s. The result is not used.
        headers = [(name, "localhost" if name == "host" else value) for name, value in request.headers]
        handshake = H11Handshake(ConnectionType.SERVER)
        try:
            handshake.initiate_upgrade_connection(_encoded(headers), request.target)
            asked = next(handshake.events())
        except RemoteProtocolError as e:
            hint = e.event_hint
            return InvalidRequest(getattr(hint, "status_code", 400), str(e))
        except (h11.ProtocolError, ValueError):  # among them UnicodeError
            return InvalidRequest(400, "the request for WebSocket is malformed")
        offered: list[str] = getattr(asked, "subprotocols", [])
        if offered and subprotocol not in offered:
            return InvalidRequest(400, f"the subprotocol is {subprotocol}")
        answer = handshake.send(AcceptConnection(subprotocol=subprotocol if offered else None))
        rest = bytes(self._buffer)
        self._end()
        return answer, rest

    def _head_size(self) -> int | None:
        """Return the bytes of the head at the start of the buffer; None if it is not complete."""
        end = _END_OF_HEAD.search(self._buffer, self._searched)
        if end is None:
            self._searched = max(0, len(self._buffer) - 2)
            return None
        return end.end()

    def _complete(self, request: h11.Request) -> HttpRequest:
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers)
        # RFC 9110, section 7.8: a server ignores an upgrade of HTTP/1.0.
        upgrades = self._connection.their_state is _MIGHT_SWITCH and request.http_version >= b"1.1"
        return HttpRequest(request.method.decode("latin-1"), request.target.decode("latin-1"), headers, upgrades)

    def _too_long(self) -> InvalidRequest:
        return self._invalid(431, "the head of the request is too long")

    def _malformed(self, status: int = 400) -> InvalidRequest:
        # The error of h11 quotes the peer, so it is not passed on.
        return self._invalid(status, "this is no HTTP/1.1 request")

    def _invalid(self, status: int, text: str) -> InvalidRequest:
        self._end()
        return InvalidRequest(status, text)

    def _end(self) -> None:
        """Read nothing more."""
        self._is_over = True
        self._buffer.clear()
        self._searched = 0


def _has_body(request: h11.Request) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in request.headers
    )


def _encoded(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
