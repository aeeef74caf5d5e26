"""A client that checks an echo server."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.errors import NetsvcError
from netsvc.net.reactors import Clock, monotonic_of


class EchoError(NetsvcError):
    """The server did not send back the bytes that it received."""


@dataclass(frozen=True, slots=True)
class Echo:
    """The bytes that came back, and the round-trip time in seconds."""

    data: bytes
    round_trip: float


class EchoClient(Protocol):
    """Sends data to an echo server and checks that the same data comes back.

    :param clock: measures the round trips: a reactor, or a ``Clock`` in a test.
    """

    transport: Any

    def __init__(self, clock: Clock) -> None:
        self._monotonic = monotonic_of(clock)
        self._requests: deque[tuple[bytes, float, Deferred[Echo]]] = deque()
        self._received = bytearray()
        self._lost: Failure | None = None

    def ask(self, data: bytes) -> Deferred[Echo]:
        """Send ``data``, at least one byte. Several requests may be open; they are answered in order.

        :return: fires with the :class:`Echo`; fails with :class:`EchoError` if different bytes came back, and with the
            reason of the loss if the connection is lost first. Cancelling it closes the connection, because a stream
            cannot tell a late answer from the next one. There is no timeout: if the server loses its power, TCP does
            not tell. Use ``ask(data).addTimeout(10, reactor)``.
        :raises ValueError: for no data.
        """
        if not data:
            raise ValueError("nothing to echo: a stream carries no empty message")
        if self._lost is not None:
            return fail(self._lost)
        echo: Deferred[Echo] = Deferred(lambda _: self.transport.abortConnection())
        self._requests.append((data, self._monotonic(), echo))
        self.transport.write(data)
        return echo

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while self._requests and len(self._received) >= len(self._requests[0][0]):
            sent, began, echo = self._requests.popleft()
            returned = bytes(self._received[: len(sent)])
            del self._received[: len(sent)]
            if returned == sent:
                self._fire(echo.callback, echo, Echo(returned, self._monotonic() - began))
            else:
                error = EchoError(f"sent {sent[:64]!r}, received {returned[:64]!r}")
                self._fire(echo.errback, echo, error)
                self.transport.abortConnection()
        if self._received and not self._requests:
            self._received.clear()  # it belongs to no request, and nothing bounds it
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        while self._requests:
            _, _, echo = self._requests.popleft()
            self._fire(echo.errback, echo, reason)

    def _fire(self, fire: Callable[[Any], None], echo: Deferred[Echo], result: object) -> None:
        if not echo.called:  # not cancelled
            fire(result)
