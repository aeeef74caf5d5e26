"""Timestamps in datagrams: the server, which cannot be made a weapon, and a client that believes only its server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from netsvc.limits.datagram_guard import Guard
from netsvc.net.counters import Counts
from netsvc.net.datagram_protocol import BoundedDatagramProtocol, ConnectedDatagramProtocol, listen_for, resolve
from netsvc.net.timer import cancel
from netsvc.timestamp.format import Stamper, StampError, is_stamped, parse


class TimestampProtocol(BoundedDatagramProtocol):
    """Answers a datagram with ``[ctime] `` and its bytes, unless its guard refuses it.

    :param clock: a reactor, or a ``Clock`` in a test; its seconds are those since the epoch.
    :param guard: what is answered. Protocols that share a guard share its limits.
    :param counts: where what happens is counted. Protocols may share it, too.
    """

    def __init__(self, clock: IReactorTime, guard: Guard | None = None, counts: Counts | None = None) -> None:
        super().__init__(clock)
        self.guard = Guard() if guard is None else guard
        self.counts = Counts(clock) if counts is None else counts
        self._stamper = Stamper()
        self._own_port = 0

    def startProtocol(self) -> None:
        self._own_port = self.transport.getHost().port

    def received(self, datagram: bytes, host: str, port: int) -> None:
        now = self.clock.seconds()
        counts = self.counts
        counts.received_bytes += len(datagram)
        # A datagram of the service's own shape comes from another timestamp server, or from an echo of this one.
        refusal = (
            "already stamped" if is_stamped(datagram) else self.guard.refusal(datagram, host, port, self._own_port, now)
        )
        if refusal is not None:
            counts.refuse(refusal, host)
            return
        answer = self._stamper.answer(datagram, now)
        try:
            self.transport.write(answer, (host, port))
        except (OSError, error.MessageLengthError) as e:
            # An unreachable peer, a full buffer: nothing that trying again would mend.
            counts.unsent[type(e).__name__] += 1
        else:
            counts.replies += 1
            counts.sent_bytes += len(answer)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a timestamp server answered.

    :param time: the server's local time, to the second and without a zone.
    :param payload: the bytes that were asked.
    :param round_trip: seconds from the first try to the answer.
    :param tries: how often the question was sent.
    """

    time: datetime
    payload: bytes
    round_trip: float
    tries: int


#: Questions that are over and for whose answers a client still looks out, to tell late from foreign.
REMEMBERED = 256


class TimestampClient(ConnectedDatagramProtocol):
    """Asks one timestamp server.

    Only an answer from that server, to a question that is open, is taken. Give it to ``listenUDP`` with port 0 and an
    interface of the server's family: "" or "::".

    :param clock: a reactor, or a ``Clock`` in a test.
    :param host: the server's IPv4 or IPv6 address; :func:`ask_timestamp` takes names too.
    :param port: the server's port.
    :param timeout: seconds to wait for each try.
    :param tries: how often a question is sent before it fails.
    :ivar sent: datagrams that were sent.
    :ivar lost: those of them, of questions that are over, for which no answer has come so far.
    :ivar late: answers that came after their question had failed or was cancelled.
    :ivar doubled: answers beyond one for each datagram that was sent.
    :ivar ignored: datagrams that were no answer to a question of this client, as far as it remembers: it does so for
        the last 256 that are over.
    """

    def __init__(self, clock: IReactorTime, host: str, port: int, timeout: float = 1.0, tries: int = 3) -> None:
        super().__init__(host, port)
        self.sent = self.lost = self.late = self.doubled = self.ignored = 0
        self._clock = clock
        self._timeout = timeout
        self._tries = tries
        self._open: dict[bytes, _Question] = {}
        self._over: dict[bytes, _Question] = {}  # the oldest first

    def ask(self, payload: bytes) -> Deferred[Answer]:
        """Send ``payload``, again after each timeout. Questions that differ may be open at the same time.

        :return: fires with the :class:`Answer`; fails with ``TimeoutError`` after the last try and with
            ``ConnectionRefusedError`` when nobody listens there. Cancelling forgets the question.
        :raises ValueError: for a payload whose question is still open: the answers would look the same.
        """
        if self.transport is None:
            return fail(error.ConnectionDone())
        if payload in self._open:
            raise ValueError("that question is open already; its answers could not be told apart")
        question = _Question(payload, self._clock.seconds(), Deferred(partial(self._forget, payload)))
        self._open[payload] = question
        self._send(question)
        return question.answer

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        try:
            stamped = parse(datagram)
        except StampError:
            self.ignored += 1
            return
        if (addr[0], addr[1]) != (self.peer[0].partition("%")[0], self.peer[1]):
            self.ignored += 1
            return
        question = self._open.get(stamped.payload)
        if question is None:
            self._count(stamped.payload)
            return
        question.answers = 1
        self._close(stamped.payload)
        round_trip = self._clock.seconds() - question.asked
        question.answer.callback(Answer(stamped.time, stamped.payload, round_trip, question.tries))

    def closed(self, reason: Exception) -> None:
        for payload in tuple(self._open):
            question = self._close(payload)
            if question is not None:
                question.answer.errback(reason)

    def _send(self, question: _Question) -> None:
        if question.tries == self._tries:
            self._close(question.payload)
            question.answer.errback(error.TimeoutError())
            return
        question.retry = self._clock.callLater(self._timeout, self._send, question)
        question.tries += 1
        self.sent += 1
        try:
            self.transport.write(question.payload)
        except (OSError, error.MessageLengthError) as e:
            question.tries -= 1
            self.sent -= 1
            if self._close(question.payload):
                question.answer.errback(e)

    def _forget(self, payload: bytes, answer: Deferred[Answer]) -> None:
        """The question was cancelled."""
        self._close(payload)

    def _close(self, payload: bytes) -> _Question | None:
        question = self._open.pop(payload, None)
        if question is not None:
            cancel(question.retry)
            self.lost += question.tries - question.answers
            self._over.pop(payload, None)
            self._over[payload] = question
            if len(self._over) > REMEMBERED:
                del self._over[next(iter(self._over))]
        return question

    def _count(self, payload: bytes) -> None:
        """Count an answer to a question that is over, or is none of this client's."""
        question = self._over.get(payload)
        if question is None:
            self.ignored += 1
        elif question.answers >= question.tries:
            self.doubled += 1
        else:
            self.late += question.answers == 0
            question.answers += 1
            self.lost -= 1


@dataclass(slots=True)
class _Question:
    payload: bytes
    asked: float
    answer: Deferred[Answer]
    tries: int = 0
    answers: int = 0  # of datagrams, without doubled ones
    retry: IDelayedCall | None = None


async def ask_timestamp(
    reactor: Any, host: str, port: int, payload: bytes = b"", *, timeout: float = 1.0, tries: int = 3
) -> Answer:
    """Ask the timestamp server at ``host``, a name or an address, from a port of its own.

    The addresses of a name are asked one after another until one answers.

    :param reactor: provides UDP, time and name resolution.
    :raises DNSLookupError: the host is not known.
    :raises ConnectionRefusedError: nobody listens there.
    :raises TimeoutError: no answer came.
    :raises MessageLengthError: no datagram is so long.
    """
    *others, last = await resolve(reactor, host)
    for address in others:
        try:
            return await _ask(reactor, TimestampClient(reactor, address, port, timeout, tries), payload)
        except (OSError, error.ConnectionRefusedError, error.TimeoutError):
            continue
    return await _ask(reactor, TimestampClient(reactor, last, port, timeout, tries), payload)


async def _ask(reactor: Any, client: TimestampClient, payload: bytes) -> Answer:
    listening = listen_for(reactor, client, client.peer[0])
    try:
        return await client.ask(payload)
    finally:
        await maybeDeferred(listening.stopListening)  # which returns None if the system closed it
