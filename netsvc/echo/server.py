"""Echo (RFC 862) and acknowledgement on streams, and the client that checks an echo."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.echo.reply_template import ReplyTemplate
from netsvc.net.counters import Counts
from netsvc.net.door import Door
from netsvc.net.message_protocol import MessageProtocol
from netsvc.net.stream_protocol import DEFAULT_LIMITS, Limits, StreamFactory, StreamProtocol
from netsvc.wire.framing import Framing, LineFraming, RawFraming

#: The framings by the names that ``--framing`` takes.
FRAMINGS: dict[str, Callable[[], Framing]] = {"raw": RawFraming, "line": LineFraming}


class EchoProtocol(StreamProtocol):
    """Sends the bytes back as they came."""

    def dataReceived(self, data: bytes) -> None:
        self.heard = True
        self.factory.counts.received_bytes += len(data)
        self.send(data)


class EchoFactory(StreamFactory):
    """Echoes every connection.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param limits: what each connection may cost.
    :param door: who may connect; by default anybody.
    :param counts: where what happens is counted.
    """

    def connection(self) -> EchoProtocol:
        return EchoProtocol()


class AcknowledgeProtocol(MessageProtocol):
    """Answers each message with a template, filled in."""

    factory: AcknowledgeFactory

    def messageReceived(self, message: bytes) -> None:
        answer = self.factory.reply.render(message, self.peer, self.factory.clock.seconds())
        self.send(self.framing.encode(answer))

    def refused(self, why: str) -> None:
        self.send(self.framing.encode(why.encode("ascii")))


class AcknowledgeFactory(StreamFactory):
    """Acknowledges every message on every connection.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param reply: what is sent for each message.
    :param framing: ``raw``: a message is a piece that arrived, and the answer is sent as it is; ``line``: a
        message is a line of at most 1,024 bytes, and the answer a line.
    :param limits: what each connection may cost.
    :param door: who may connect; by default anybody.
    :param counts: where what happens is counted.
    """

    def __init__(
        self,
        clock: IReactorTime,
        reply: ReplyTemplate,
        framing: str = "raw",
        limits: Limits = DEFAULT_LIMITS,
        door: Door | None = None,
        counts: Counts | None = None,
    ) -> None:
        super().__init__(clock, limits, door, counts)
        self.reply = reply
        self._framing = FRAMINGS[framing]

    def connection(self) -> AcknowledgeProtocol:
        return AcknowledgeProtocol(self._framing())


class EchoError(Exception):
    """The peer did not send back what it was sent."""


@dataclass(frozen=True, slots=True)
class Echo:
    """What came back, and the seconds it took."""

    data: bytes
    round_trip: float


class EchoClient(Protocol):
    """Asks an echo server and checks that what comes back is what was sent.

    :param clock: measures the round trips: a reactor, or a ``Clock`` in a test.
    """

    transport: Any

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._questions: deque[tuple[bytes, float, Deferred[Echo]]] = deque()
        self._received = bytearray()
        self._lost: Failure | None = None

    def ask(self, data: bytes) -> Deferred[Echo]:
        """Send ``data``, at least one byte. Several may be under way; they come back in order.

        :return: fires with the :class:`Echo`; fails with :class:`EchoError` when something else came back, and
            with the reason of the loss when the connection is lost before. Cancelling closes the connection,
            because a stream cannot tell a late answer from the next one.
        """
        if not data:
            raise ValueError("nothing to echo: a stream carries no empty message")
        if self._lost is not None:
            return fail(self._lost)
        answer: Deferred[Echo] = Deferred(lambda _: self.transport.abortConnection())
        self._questions.append((data, self._clock.seconds(), answer))
        self.transport.write(data)
        return answer

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        while self._questions and len(self._received) >= len(self._questions[0][0]):
            question, asked, answer = self._questions.popleft()
            came = bytes(self._received[: len(question)])
            del self._received[: len(question)]
            if came == question:
                self._fire(answer.callback, answer, Echo(came, self._clock.seconds() - asked))
            else:
                error = EchoError(f"sent {question[:64]!r}, came back {came[:64]!r}")
                self._fire(answer.errback, answer, error)
                self.transport.abortConnection()
        if self._received and not self._questions:
            self._received.clear()  # nobody asked for it, and nothing bounds it
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = reason
        while self._questions:
            _, _, answer = self._questions.popleft()
            self._fire(answer.errback, answer, reason)

    def _fire(self, fire: Callable[[Any], None], answer: Deferred[Echo], result: object) -> None:
        if not answer.called:  # not cancelled
            fire(result)
