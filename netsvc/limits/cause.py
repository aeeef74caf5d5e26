"""The causes of refusals and disconnects: a stable label for metrics and programs, a sentence for people."""

from __future__ import annotations

from enum import Enum


class Cause(Enum):
    """Why something was refused, or why a connection was ended.

    The wording of a sentence may change; a label does not.

    :ivar label: the stable name, such as ``send_queue_full``, in the metrics and in :class:`~netsvc.Counters`.
    :ivar sentence: what the log says, and what a refused peer is told.
    """

    # Connections that are refused
    NOT_ALLOWED = "not_allowed", "the address is not allowed"
    SERVER_FULL = "server_full", "server full"
    TOO_MANY_PER_HOST = "too_many_per_host", "too many connections from one host"
    TOO_MANY_PER_NETWORK = "too_many_per_network", "too many connections from one network"
    CONNECT_RATE = "connect_rate", "too many new connections per second from one host or network"
    PROXY_HEADER_INVALID = "proxy_header_invalid", "invalid PROXY header"
    PROXY_HEADER_TIMEOUT = "proxy_header_timeout", "no PROXY header in time"
    HANDSHAKE_FAILED = "handshake_failed", "the TLS handshake failed"

    # Datagrams that are not answered
    DATAGRAM_TOO_LONG = "datagram_too_long", "the datagram is too long"
    PRIVILEGED_PORT = "privileged_port", "sent from a privileged port"
    OWN_PORT = "own_port", "sent from the service's own port number"
    SENT_TO_GROUP = "sent_to_group", "sent to a broadcast or multicast address"
    OWN_REPLY = "own_reply", "the datagram is a reply of this service"
    STAMP_INVALID = "stamp_invalid", "the datagram is no STAMP test packet"
    STAMP_HMAC = "stamp_hmac", "the HMAC of the STAMP test packet is wrong, or there is none"
    DATAGRAM_RATE = "datagram_rate", "too many datagrams per second"

    # Messages and requests that are refused; the connection stays open
    LINE_TOO_LONG = "line_too_long", "line too long"
    INVALID_MESSAGE = "invalid_message", "the line is not a valid message"
    NICK_TAKEN = "nick_taken", "the nick is taken"
    NO_SUCH_NICK = "no_such_nick", "no member has this nick"
    TOO_MANY_ROOMS = "too_many_rooms", "too many rooms"
    NOT_IN_ROOM = "not_in_room", "the member is not in the room"
    ALREADY_IN_ROOM = "already_in_room", "the member is already in the room"
    INVITE_ONLY = "invite_only", "the room is open to invited members only"
    MODERATED = "moderated", "only operators may speak in the room"
    NOT_ERASABLE = "not_erasable", "the member cannot erase this"
    STORE_FAILED = "store_failed", "the store of the chat failed"
    HOST_NAME = "host_name", "the Host header names another server"
    ORIGIN = "origin", "pages of this origin may not open a WebSocket here"
    REQUEST_RATE = "request_rate", "too many requests per second from one host or network"
    INVALID_REQUEST = "invalid_request", "the HTTP request is not valid"
    WEBSOCKET_VIOLATION = "websocket_violation", "the peer broke the WebSocket protocol"

    # Connections that are ended because of what the peer does or fails to do
    SEND_QUEUE_FULL = "send_queue_full", "the send queue is full"
    STALL_TIMEOUT = "stall_timeout", "the peer did not read in time"
    CLOSE_TIMEOUT = "close_timeout", "closing made no progress in time"
    DRAIN_TIMEOUT = "drain_timeout", "not finished when the server stopped"
    HANDSHAKE_TIMEOUT = "handshake_timeout", "no complete TLS handshake in time"
    LINE_TIMEOUT = "line_timeout", "line not ended in time"
    IDLE_TIMEOUT = "idle_timeout", "idle for too long"
    DISPLACED = "displaced", "the server is full, and another host gets the place"
    PING_TIMEOUT = "ping_timeout", "no answer to a ping in time"
    REQUEST_TIMEOUT = "request_timeout", "the HTTP request took too long"

    def __init__(self, label: str, sentence: str) -> None:
        self.label = label
        self.sentence = sentence

    # Enum's own hash is a call of a Python function. Refusals are counted for each datagram of a flood.
    __hash__ = object.__hash__
