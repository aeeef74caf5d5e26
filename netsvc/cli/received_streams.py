"""The streams that ``netsvc receive`` accepts: lines of text from all of them, or one whole stream after the other."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet import error, protocol
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, IHandshakeListener, INegotiated
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.limits.cause import Cause
from netsvc.net.large_pieces import PIECE_MAX, use_large_pieces
from netsvc.net.reactors import Clock, cancel
from netsvc.net.socket_errors import pending_error
from netsvc.net.stream_factory import RefusalProtocol
from netsvc.wire.address import format_host, format_peer
from netsvc.wire.framing import LineFraming, messages_in

#: Bytes of the longest line that is printed, with its line end.
RECEIVE_LINE_MAX = 65_536

#: Concurrent connections, in all and of one host.
MAX_CONNECTIONS = 256
MAX_PER_HOST = 128

#: Bytes that are read at once of a stream in lines, and of a whole stream before its turn. 200 peers that send as much
#: as they can then cost a few MiB.
LINE_PIECE_MAX = 16_384
WAITING_PIECE_MAX = 4_096

#: Seconds for the handshake of TLS.
HANDSHAKE_TIMEOUT = 10.0

#: Seconds between two notices that connections were refused.
REFUSAL_NOTICE_INTERVAL = 10.0


class StreamSink(Protocol):
    """Takes what is received."""

    def notice(self, line: str) -> None:
        """Print one line to standard error."""

    def bytes_received(self, data: bytes, sender: str) -> None:
        """Take bytes of a whole stream."""

    def text_received(self, data: bytes, sender: str) -> None:
        """Take one line."""

    def message_ended(self) -> None:
        """A whole stream has ended."""

    def stream_lost(self, sender: str) -> None:
        """A stream was lost before its end."""


class ReceivedStreams(protocol.Factory):
    """Makes the connections, bounds their number, and pauses and resumes all of them together.

    :param receiver: the class of the connections.
    :param maximum: of all connections.
    :param max_per_host: of the connections of one host.
    """

    noisy = False

    def __init__(
        self,
        clock: Clock,
        sink: StreamSink,
        receiver: Callable[[ReceivedStreams], ReceivedStream],
        maximum: int,
        max_per_host: int,
    ) -> None:
        self.clock = clock
        self.sink = sink
        self.paused = False
        self.turns: deque[WholeReceiver] = deque()  # those that have sent something, in that order
        self._receiver = receiver
        self._maximum = maximum
        self._max_per_host = max_per_host
        self._connections: set[ReceivedStream] = set()
        self._hosts: Counter[str | None] = Counter()
        self._silent_until = -REFUSAL_NOTICE_INTERVAL

    def buildProtocol(self, addr: IAddress | None) -> protocol.Protocol:
        host = getattr(addr, "host", None)
        if len(self._connections) >= self._maximum:
            return self._refuse(Cause.SERVER_FULL, host)
        if host is not None and self._hosts[host] >= self._max_per_host:
            return self._refuse(Cause.TOO_MANY_PER_HOST, host)
        return self._receiver(self)

    def opened(self, connection: ReceivedStream, host: str | None) -> None:
        """Count a connection."""
        self._connections.add(connection)
        self._hosts[host] += 1
        if self.paused:
            connection.transport.pauseProducing()

    def closed(self, connection: ReceivedStream, host: str | None) -> None:
        """Count a connection no longer."""
        self._connections.discard(connection)
        self._hosts[host] -= 1
        if not self._hosts[host]:
            del self._hosts[host]

    def close(self) -> None:
        """Close all connections. One that was read to its end is not reset."""
        for connection in list(self._connections):
            connection.transport.loseConnection()

    def pauseProducing(self) -> None:
        self.paused = True
        for connection in self._connections:
            connection.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        for connection in list(self._connections):
            connection.resume()

    def _refuse(self, cause: Cause, host: str | None) -> protocol.Protocol:
        now = self.clock.seconds()
        if now >= self._silent_until:
            self._silent_until = now + REFUSAL_NOTICE_INTERVAL
            self.sink.notice(f"refused {format_host(host) if host else 'a UNIX socket'}: {cause.sentence}")
        return RefusalProtocol(cause.sentence.encode("ascii") + b"\n")


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class ReceivedStream(protocol.Protocol):
    """One connection. Over TLS, it is a stream after the handshake."""

    transport: Any
    piece_max = LINE_PIECE_MAX

    def __init__(self, streams: ReceivedStreams) -> None:
        self.streams = streams
        self.sender = ""
        self._ended = False
        self._host: str | None = None
        self._handshake: Any = None  # the deadline, until the handshake is complete

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        self._host = getattr(peer, "host", None)
        self.sender = format_peer(peer)
        use_large_pieces(self.transport, self.piece_max)
        if INegotiated.providedBy(self.transport):
            self._handshake = self.streams.clock.callLater(HANDSHAKE_TIMEOUT, self.transport.abortConnection)
        self.streams.opened(self, self._host)

    def handshakeCompleted(self) -> None:
        cancel(self._handshake)
        self._handshake = None

    def resume(self) -> None:
        """Read again, unless the connection is paused for a reason of its own."""
        self.transport.resumeProducing()

    def readConnectionLost(self) -> None:
        self._ended = pending_error(self.transport) is None
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """This side sends no data."""

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        self.streams.closed(self, self._host)
        if self._handshake is not None:
            cancel(self._handshake)
            self.streams.sink.notice(
                f"from {self.sender}: the TLS handshake failed; a sender needs TLS, and has to trust the certificate"
            )
            return
        self.stream_ended(whole=self._ended or reason.check(error.ConnectionDone) is not None)

    def stream_ended(self, *, whole: bool) -> None:
        """The stream has ended.

        :param whole: whether the peer has ended it.
        """
        raise NotImplementedError


class LineReceiver(ReceivedStream):
    """Lines of text."""

    def __init__(self, streams: ReceivedStreams) -> None:
        super().__init__(streams)
        self._framing = LineFraming(RECEIVE_LINE_MAX)

    def dataReceived(self, data: bytes) -> None:
        for line in messages_in(self._framing, data, self._report_dropped_line):
            self.streams.sink.text_received(line, self.sender)

    def stream_ended(self, *, whole: bool) -> None:
        rest = self._framing.end()
        if rest is not None:
            self.streams.sink.text_received(rest, self.sender)

    def _report_dropped_line(self, reason: str) -> None:
        self.streams.sink.notice(f"from {self.sender}: {reason}; the line was dropped")


class WholeReceiver(ReceivedStream):
    """A whole stream. It is written when all streams that began before it have ended. Until then it is not read."""

    piece_max = WAITING_PIECE_MAX

    def __init__(self, streams: ReceivedStreams) -> None:
        super().__init__(streams)
        self._first = b""
        self._whole: bool | None = None

    def resume(self) -> None:
        if not self._first:
            super().resume()

    def dataReceived(self, data: bytes) -> None:
        turns = self.streams.turns
        if self not in turns:
            turns.append(self)
        if turns[0] is self:
            if self.transport is not None:
                use_large_pieces(self.transport, PIECE_MAX)
            self.streams.sink.bytes_received(data, self.sender)
        else:
            self._first += data
            self.transport.pauseProducing()

    def stream_ended(self, *, whole: bool) -> None:
        self._whole = whole
        if self not in self.streams.turns:
            self._report()
        elif self.streams.turns[0] is self:
            self._give_turn()

    def _give_turn(self) -> None:
        """Report the end, and let the next stream be written, and those that have ended meanwhile."""
        turns = self.streams.turns
        self._report()
        turns.popleft()
        while turns:
            following = turns[0]
            first, following._first = following._first, b""
            following.streams.sink.bytes_received(first, following.sender)
            if following._whole is None:
                if not self.streams.paused:
                    following.resume()
                return
            following._report()
            turns.popleft()

    def _report(self) -> None:
        if self._whole:
            self.streams.sink.message_ended()
        else:
            self.streams.sink.stream_lost(self.sender)
