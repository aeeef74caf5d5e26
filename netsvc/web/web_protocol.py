"""One connection of a browser: it asks for the files of a page, and may then become a WebSocket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Protocol as Interface
from typing import TypeAlias

from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.net.connection_state import SENDING
from netsvc.net.message_protocol import MessageProtocol
from netsvc.net.stream_protocol import ConnectionOwner, StreamProtocol
from netsvc.web.http_requests import Headers, HttpRequest, HttpRequests, HttpResponse, InvalidRequest
from netsvc.web.request_origin import forwarded_host, is_allowed_origin
from netsvc.web.static_site import StaticSite, text_response
from netsvc.web.websocket_messages import (
    MESSAGE_MAX,
    Binary,
    CloseReceived,
    Fragment,
    PingReceived,
    PongReceived,
    Text,
    Violation,
    WebSocketMessage,
    WebSocketMessages,
    close_frame,
    pong_frame,
)

#: Seconds without a complete request after which a connection that is no WebSocket is closed.
REQUEST_TIMEOUT = 10.0

#: The same after an answer. A browser opens six connections for a page, and many browsers may share an address.
NEXT_REQUEST_TIMEOUT = 2.0

#: As how many messages a request counts for the bound per reactor iteration. It takes 80 us.
REQUEST_WEIGHT = 8

#: Bytes of a head or of a message that count as one more. 15 KB take 200 us.
BYTES_PER_MESSAGE = 256

WebMessage: TypeAlias = HttpRequest | InvalidRequest | WebSocketMessage

#: The close codes that say why (RFC 6455, section 7.4.1, and the registry of IANA).
NORMAL, GOING_AWAY, UNSUPPORTED, POLICY, TRY_AGAIN_LATER = 1000, 1001, 1003, 1008, 1013

_CLOSE_CODES = {Cause.DISPLACED: TRY_AGAIN_LATER, Cause.IDLE_TIMEOUT: GOING_AWAY, Cause.LINE_TIMEOUT: POLICY}

#: The HTTP status that a refused peer gets, if it is not 403.
_STATUS = {
    Cause.SERVER_FULL: 503,
    Cause.TOO_MANY_PER_HOST: 429,
    Cause.TOO_MANY_PER_NETWORK: 429,
    Cause.CONNECT_RATE: 429,
    Cause.REQUEST_RATE: 429,
}


@dataclass(frozen=True, slots=True)
class WebTerms:
    """The settings of a service in a browser.

    :param site: the files of the page.
    :param socket: the name of the WebSocket, beside the page.
    :param subprotocol: of the WebSocket.
    :param origins: the origins of the pages that may open it; without any, those on the host and port of the server.
    :param proxies: the reverse proxies that name the client in ``X-Forwarded-For``; None without one.
    :param message_max: bytes of the longest message.
    """

    site: StaticSite
    socket: str
    subprotocol: str
    origins: Sequence[str] = ()
    proxies: NetworkRules | None = None
    message_max: int = MESSAGE_MAX

    def names_client(self, host: str | None) -> bool:
        """Whether a peer is a reverse proxy."""
        return self.proxies is not None and host is not None and self.proxies.allows(host)


class WebOwner(ConnectionOwner, Interface):
    """The factory of such connections."""

    web: WebTerms

    def recount(self, connection: StreamProtocol, host: str | None) -> Cause | None:
        """Count a connection for another host. Return why that is refused, if it is."""


class WebProtocol(MessageProtocol[WebMessage]):
    """A connection that serves the files of a page, until it is upgraded to a WebSocket.

    A subclass overrides :meth:`text_received`, and where it needs them :meth:`upgraded`, :meth:`binary_received` and
    :meth:`frame_received`. It sends whole frames, and closes with :meth:`close`.

    The connection is read, bounded and closed as every other one of netsvc. ``twisted.web`` would keep what a peer does
    not read without a bound, and its WebSocket takes any origin, has neither a bound on messages nor a ping, and
    knows no deadline.

    :ivar is_upgraded: whether it is a WebSocket now.
    """

    factory: WebOwner
    is_upgraded = False
    message_weight = REQUEST_WEIGHT
    _is_first = True  # whether no request was answered yet
    _close_code: int | None = NORMAL  # None if the closing frame was sent
    _close_reason = ""
    _fragments_since: float | None = None  # when the first fragment of the message arrived; None without one

    def __init__(self) -> None:
        super().__init__(HttpRequests())

    # Overridden by a subclass

    def upgraded(self) -> None:
        """The connection is a WebSocket from now on."""

    def text_received(self, text: str) -> None:
        """Process a message."""
        raise NotImplementedError

    def binary_received(self, data: bytes) -> None:
        """Process a message of bytes. By default, it is refused."""
        self.close(UNSUPPORTED, "messages are text")

    def frame_received(self) -> None:
        """The peer sent a frame that completes no message."""

    # Called by a subclass

    def count_request(self, cost: float = 1.0) -> bool:
        """Count a request, or what costs as much. Return whether the rate of its host allows it.

        :param cost: how many requests it counts as.
        """
        allowed = self.terms.admission.check_request(self.host, self.terms.monotonic(), cost)
        if not allowed:
            self.terms.counters.refuse(Cause.REQUEST_RATE, self.peer)
        return allowed

    def close(self, code: int, reason: str = "", cause: Cause | None = None) -> None:
        """Send what is queued, close the WebSocket, and say why.

        :param cause: counts the connection as disconnected for this cause.
        """
        self._close_code, self._close_reason = code, reason
        self.finish(cause)

    # Called by the base class

    @property
    def peer(self) -> str:
        """The peer's address; behind a reverse proxy, that of the client."""
        return self._peer_for(self.host)

    @property
    def checks_idle(self) -> bool:
        return True

    def idle(self, seconds: float) -> None:
        if not self.is_upgraded:
            waits_for_next = not self._is_first and not self.framing.has_partial()
            if seconds >= (NEXT_REQUEST_TIMEOUT if waits_for_next else REQUEST_TIMEOUT):
                self.finish(Cause.REQUEST_TIMEOUT if self.framing.has_partial() else Cause.IDLE_TIMEOUT)
        elif self.terms.limits.idle_timeout:
            super().idle(seconds)

    def check_idle(self, now: float) -> bool:
        limit, since = self.terms.limits.line_timeout, self._fragments_since
        is_late = since is not None and 0 < limit <= now - since
        if is_late and self.accepts_input and not self.has_unprocessed_input:
            # Each fragment is activity. It does not extend the bound.
            self.finish(Cause.LINE_TIMEOUT)
            return True
        return super().check_idle(now)

    def message_received(self, message: WebMessage) -> None:
        self.message_weight = 1 if self.is_upgraded else REQUEST_WEIGHT
        match message:
            case Text(text):
                self.message_weight += len(text) // BYTES_PER_MESSAGE
                self._fragments_since = None
                self.text_received(text)
            case HttpRequest():
                self._answer(message)
            case InvalidRequest(status, text):
                self.terms.counters.refuse(Cause.INVALID_REQUEST, self.peer)
                self._respond(text_response(status, text))
            case Binary(data):
                self._fragments_since = None
                self.binary_received(data)
            case PingReceived(payload):
                self.frame_received()
                self.send(pong_frame(payload))
            case Fragment():
                if self._fragments_since is None:
                    self._fragments_since = self.terms.monotonic()
                self.frame_received()
            case PongReceived():
                self.frame_received()
            case CloseReceived(code, _):
                self.close(code)
            case Violation(code, reason):
                self.terms.counters.refuse(Cause.WEBSOCKET_VIOLATION, self.peer)
                self.close(code, reason)

    def lost(self) -> None:
        if self.is_upgraded:
            super().lost()
        else:
            self.finish()  # nobody would read the answers

    def displaced(self) -> None:
        """A browser reads no line of text. The closing frame says it."""

    def end_drain(self) -> None:
        self.close(GOING_AWAY, "the server stops")

    def finish(self, cause: Cause | None = None) -> None:
        if self.is_upgraded and self._close_code is not None and self.state in SENDING:
            code, self._close_code = self._close_code, None
            if cause is not None and code == NORMAL:
                code = _CLOSE_CODES.get(cause, NORMAL)
            reason = self._close_reason or ("" if cause is None else cause.sentence)
            self.send(close_frame(code, reason))
        super().finish(cause)

    # Internal

    def _answer(self, request: HttpRequest) -> None:
        self.message_weight += sum(len(value) for _, value in request.headers) // BYTES_PER_MESSAGE
        web = self.factory.web
        refusal = self._refusal(request)
        if refusal is not None:
            self._respond(refusal_response(refusal), close=refusal is Cause.REQUEST_RATE)
        elif request.path != web.site.path + web.socket:
            self._respond(web.site.answer(request))
        elif not request.wants_upgrade:
            self._respond(text_response(426, "this is a WebSocket", [("upgrade", "websocket")]))
        else:
            self._upgrade(request)

    def _refusal(self, request: HttpRequest) -> Cause | None:
        """Count a request through a reverse proxy for the client. Return why it is refused, if it is."""
        web = self.factory.web
        counted, self._is_first = (None if self._is_first else self.host), False
        if web.proxies is not None and self._is_through_proxy():
            host = forwarded_host(request.header("x-forwarded-for"), web.proxies, self.transport.getPeer().host)
            refusal = self.factory.recount(self, host)
            if refusal is not None:
                self.terms.counters.refuse(refusal, self._peer_for(host))
                return refusal
        # The first request of a host on a connection is counted with the connection.
        if counted is not None and counted == self.host and not self.count_request():
            return Cause.REQUEST_RATE
        is_socket = request.path == web.site.path + web.socket
        if is_socket and not is_allowed_origin(request.header("origin"), request.header("host"), web.origins):
            self.terms.counters.refuse(Cause.ORIGIN, self.peer, "a proxy must pass on the Host header; --web-origin")
            return Cause.ORIGIN
        return None

    def _is_through_proxy(self) -> bool:
        return self.factory.web.names_client(getattr(self.transport.getPeer(), "host", None))

    def _peer_for(self, host: str | None) -> str:
        """Return the peer's address; behind a reverse proxy, with that of a client."""
        peer = super().peer
        is_named = host not in (None, self.transport.getPeer().host) if self._is_through_proxy() else False
        return f"{host} (through {peer})" if is_named else peer

    def _respond(self, response: HttpResponse, *, close: bool = False) -> None:
        assert isinstance(self.framing, HttpRequests)
        date: Headers = [("date", formatdate(self.terms.wall(), usegmt=True))]
        dated = HttpResponse(response.status, [*date, *response.headers], response.body)
        data, stays_open = self.framing.respond(dated, close=close or self.factory.draining)
        if data:
            self.send(data)
        if not stays_open:
            self.finish()

    def _upgrade(self, request: HttpRequest) -> None:
        assert isinstance(self.framing, HttpRequests)
        web = self.factory.web
        switched = self.framing.upgrade(request, web.subprotocol)
        if isinstance(switched, InvalidRequest):
            self.terms.counters.refuse(Cause.INVALID_REQUEST, self.peer)
            hint = [("sec-websocket-version", "13")] if switched.status == 426 else []
            self._respond(text_response(switched.status, switched.text, hint))
            return
        answer, rest = switched
        self.send(answer)
        self.framing = WebSocketMessages(message_max=web.message_max)
        self.framing.receive(rest)
        self.is_upgraded = True
        self.message_weight = 1
        if self.terms.log_connections:
            self.log.info("{service}: {peer} opened a WebSocket", service=self.service, peer=self.peer)
        self.upgraded()


def refusal_response(cause: Cause) -> HttpResponse:
    """Return the answer to a peer that is refused."""
    return text_response(_STATUS.get(cause, 403), cause.sentence)


def refusal_bytes(cause: Cause) -> bytes:
    """Return the answer to a peer that is refused before it has asked for anything."""
    response = refusal_response(cause)
    requests = HttpRequests()
    return requests.respond(response, close=True)[0]
