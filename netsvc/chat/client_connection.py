"""One connection of a program to a chat, whatever it speaks: requests go out, events come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.chat.chat_events import Event
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.requests import Quit, Request
from netsvc.net.tcp_keepalive import keep_transport_alive

#: Called with each event and each entry. No text contains control characters.
EventReceived: TypeAlias = Callable[[Event | ReceivedEntry], object]

#: The requests with which a connection begins, with the ID of each.
Opening: TypeAlias = Sequence[tuple[Request, str]]


class ClientConnection(Protocol):
    """The connection of one member, on the member's side. A subclass overrides :meth:`send` and ``dataReceived``.

    :ivar closed: fires with None when the connection is closed in order, and fails with the reason otherwise.
    :ivar ignored: how much from the server was neither an event nor an entry.
    :ivar ignored_text: the last of it, which may say why the server closes the connection.
    """

    transport: Any

    def __init__(self) -> None:
        self.closed: Deferred[None] = Deferred()
        self.ignored = 0
        self.ignored_text = ""

    def connectionMade(self) -> None:
        keep_transport_alive(self.transport)

    def send(self, request: Request, message_id: str = "") -> None:
        """Send one request.

        :param message_id: the answer, and the entry if there is one, will name it.
        :raises MessageError: if it cannot be sent.
        """
        raise NotImplementedError

    def quit(self) -> Deferred[None]:
        """Leave the chat. Return :attr:`closed`."""
        self.send(Quit())
        return self.closed

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ConnectionDone):
            self.closed.callback(None)
        else:
            self.closed.errback(reason)
