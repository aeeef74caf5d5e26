"""The timestamp client. It accepts answers from its server only, and only to open requests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall

from netsvc.net.datagram_protocol import ConnectedDatagramProtocol, listen_for
from netsvc.net.host_names import resolve
from netsvc.net.reactors import Clock, Reactor, cancel, monotonic_of
from netsvc.timestamp.format import TimestampFormatError, parse_timestamp_reply


@dataclass(frozen=True, slots=True)
class TimestampAnswer:
    """The answer of a timestamp server.

    :param time: the server's local time, to the second and without a zone.
    :param payload: the bytes of the request.
    :param round_trip: seconds from the first try to the answer.
    :param tries: how often the request was sent.
    """

    time: datetime
    payload: bytes
    round_trip: float
    tries: int


#: Closed requests that a client remembers, to tell a late answer from a foreign one.
REMEMBERED_REQUESTS = 256


class TimestampClient(ConnectedDatagramProtocol):
    """Sends requests to one timestamp server.

    It accepts an answer from that server to an open request, and no other datagram. Pass it to ``listenUDP`` with port
    0 and an interface of the server's family: ``""`` or ``"::"``.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param host: the server's IPv4 or IPv6 address. :func:`ask_timestamp` accepts host names as well.
    :param port: the server's port.
    :param timeout: seconds to wait for each try.
    :param tries: how often a request is sent before it fails.
    :ivar sent: datagrams that were sent.
    :ivar lost: those of them that belong to closed requests and were not answered so far.
    :ivar late: answers that arrived after their request had failed or was cancelled.
    :ivar duplicates: answers beyond one for each datagram that was sent.
    :ivar ignored: datagrams that answer no request of this client. It remembers the last 256 closed requests.
    """

    def __init__(self, clock: Clock, host: str, port: int, timeout: float = 1.0, tries: int = 3) -> None:
        super().__init__(host, port)
        self.sent = self.lost = self.late = self.duplicates = self.ignored = 0
        self._clock = clock
        self._monotonic = monotonic_of(clock)
        self._timeout = timeout
        self._tries = tries
        self._open: dict[bytes, _Request] = {}
        self._closed: dict[bytes, _Request] = {}  # closed requests, the oldest first

    def ask(self, payload: bytes) -> Deferred[TimestampAnswer]:
        """Send ``payload``, and again after each timeout. Requests with different payloads may be open at a time.

        :return: fires with the :class:`TimestampAnswer`; fails with ``TimeoutError`` after the last try, and with
            ``ConnectionRefusedError`` if no program listens there. Cancelling it closes the request.
        :raises ValueError: for a payload whose request is still open: the answers would look the same.
        """
        if self.transport is None:
            return fail(error.ConnectionDone())
        if payload in self._open:
            raise ValueError("a request with this payload is already open; the answers would look the same")
        request = _Request(payload, self._monotonic(), Deferred(partial(self._cancelled, payload)))
        self._open[payload] = request
        self._send(request)
        return request.answer

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        try:
            reply = parse_timestamp_reply(datagram)
        except TimestampFormatError:
            self.ignored += 1
            return
        if (addr[0], addr[1]) != (self.peer[0].partition("%")[0], self.peer[1]):
            self.ignored += 1
            return
        request = self._open.get(reply.payload)
        if request is None:
            self._count_extra(reply.payload)
            return
        request.answers = 1
        self._close(reply.payload)
        round_trip = self._monotonic() - request.began
        request.answer.callback(TimestampAnswer(reply.time, reply.payload, round_trip, request.tries))

    def closed(self, reason: Exception) -> None:
        for payload in tuple(self._open):
            request = self._close(payload)
            if request is not None:
                request.answer.errback(reason)

    def _send(self, request: _Request) -> None:
        if request.tries == self._tries:
            self._close(request.payload)
            request.answer.errback(error.TimeoutError())
            return
        request.retry = self._clock.callLater(self._timeout, self._send, request)
        request.tries += 1
        self.sent += 1
        try:
            self.transport.write(request.payload)
        except (OSError, error.MessageLengthError) as e:
            request.tries -= 1
            self.sent -= 1
            if self._close(request.payload):
                request.answer.errback(e)

    def _cancelled(self, payload: bytes, answer: Deferred[TimestampAnswer]) -> None:
        """The caller cancelled the request."""
        self._close(payload)

    def _close(self, payload: bytes) -> _Request | None:
        request = self._open.pop(payload, None)
        if request is not None:
            cancel(request.retry)
            self.lost += request.tries - request.answers
            self._closed.pop(payload, None)
            self._closed[payload] = request
            if len(self._closed) > REMEMBERED_REQUESTS:
                del self._closed[next(iter(self._closed))]
        return request

    def _count_extra(self, payload: bytes) -> None:
        """Count an answer to a closed request, or to a request that is not this client's."""
        request = self._closed.get(payload)
        if request is None:
            self.ignored += 1
        elif request.answers >= request.tries:
            self.duplicates += 1
        else:
            self.late += request.answers == 0
            request.answers += 1
            self.lost -= 1


@dataclass(slots=True)
class _Request:
    payload: bytes
    began: float
    answer: Deferred[TimestampAnswer]
    tries: int = 0
    answers: int = 0  # without duplicates
    retry: IDelayedCall | None = None


async def ask_timestamp(
    reactor: Reactor, host: str, port: int, payload: bytes = b"", *, timeout: float = 1.0, tries: int = 3
) -> TimestampAnswer:
    """Ask the timestamp server at ``host``, a host name or an IP address, from a port of its own.

    If a name has several addresses, they are asked one after another until one answers.

    :param reactor: provides UDP, time and name resolution.
    :raises DNSLookupError: there is no such host. These exceptions are those of ``twisted.internet.error``.
    :raises ConnectionRefusedError: no program listens there.
    :raises TimeoutError: no answer arrived.
    :raises MessageLengthError: the payload is too long for a datagram.
    """
    *others, last = await resolve(reactor, host)
    for address in others:
        try:
            return await _ask(reactor, TimestampClient(reactor, address, port, timeout, tries), payload)
        except (OSError, error.ConnectionRefusedError, error.TimeoutError):
            continue
    return await _ask(reactor, TimestampClient(reactor, last, port, timeout, tries), payload)


async def _ask(reactor: Reactor, client: TimestampClient, payload: bytes) -> TimestampAnswer:
    listening = listen_for(reactor, client, client.peer[0])
    try:
        return await client.ask(payload)
    finally:
        await maybeDeferred(listening.stopListening)  # which returns None if the system closed it
