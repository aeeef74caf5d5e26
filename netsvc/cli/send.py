"""``netsvc send``: one stream, or datagrams, out."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from zope.interface import implementer

from netsvc.cli.command import CONNECT_TIMEOUT, Command, CommandError, Flow, explain, sleep
from netsvc.cli.console import Console, notice, opened
from netsvc.net.datagram_protocol import ConnectedDatagramProtocol, listen_for, resolve
from netsvc.net.reasons import pending_error
from netsvc.net.timer import cancel
from netsvc.wire.address import HostPort
from netsvc.wire.framing import PieceFraming

#: Seconds to wait for the peer's end of the stream.
END_TIMEOUT = 5.0

#: Seconds to wait for the word that nobody listens for datagrams.
REFUSAL_TIMEOUT = 0.2


class Send(Command):
    """Send TEXT, or standard input, to HOST:PORT; what is answered is not shown."""

    synopsis = "[options] HOST:PORT [TEXT...]"
    longdesc = (
        "A stream carries TEXT, or the bytes of standard input, as they are. With --udp TEXT is one datagram, "
        "and without TEXT each line of standard input is one. Nobody confirms a datagram."
    )
    optFlags = [["udp", "u", "datagrams instead of a stream"]]  # noqa: RUF012  Twisted's own convention
    where: HostPort

    def parseArgs(self, where: str = "", *text: str) -> None:
        if not where:
            raise UsageError("HOST:PORT is missing")
        self.where = self.address(where)
        self["text"] = " ".join(text).encode("utf-8", "surrogateescape") if text else None

    async def run(self, reactor: Any) -> None:
        try:
            if self["udp"]:
                await self._send_datagrams(reactor)
            else:
                await self._send_stream(reactor)
        except Exception as e:
            raise CommandError(explain(e, self.where)) from None

    async def _send_stream(self, reactor: Any) -> None:
        endpoint = HostnameEndpoint(reactor, self.where.host or "", self.where.port, timeout=CONNECT_TIMEOUT)
        stream = await connectProtocol(endpoint, _Outgoing(reactor))
        if self["text"] is not None:
            stream.transport.write(self["text"])
            stream.end()
            await self._ended(reactor, stream)
            return
        console = Console(stream.transport.write, stream.end, PieceFraming())
        async with opened(reactor, console):
            stream.throttle(Flow(console.transport))
            await self._ended(reactor, stream)

    async def _ended(self, reactor: Any, stream: _Outgoing) -> None:
        await stream.sent
        deadline = reactor.callLater(END_TIMEOUT, stream.transport.loseConnection)
        try:
            await stream.lost
        finally:
            cancel(deadline)

    async def _send_datagrams(self, reactor: Any) -> None:
        address = (await resolve(reactor, self.where.host or ""))[0]
        socket = _OutgoingDatagrams(address, self.where.port)
        listen_for(reactor, socket, address)
        if self["text"] is not None:
            socket.send(self["text"])
        else:
            ended: Deferred[None] = Deferred()
            console = Console(socket.send, lambda: ended.callback(None))
            async with opened(reactor, console):
                await ended
        await sleep(reactor, REFUSAL_TIMEOUT)
        if socket.failure is not None:
            raise socket.failure


@implementer(IHalfCloseableProtocol)
class _Outgoing(Protocol):
    """Sends, half-closes, and waits for the peer's end.

    :ivar sent: fires when everything is handed to the system; fails when the connection was lost before.
    :ivar lost: fires when the connection ended after that; fails when the peer reset it.
    """

    transport: Any

    def __init__(self, reactor: Any) -> None:
        self.sent: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()
        self._reactor = reactor
        self._ended = False
        self._reset = False

    def throttle(self, source: Flow) -> None:
        self.transport.registerProducer(source, True)

    def end(self) -> None:
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        """The peer has said all; what is to be sent is sent all the same."""
        self._ended = True
        if pending_error(self.transport):
            self._reset = True
            self.transport.abortConnection()
        elif self.sent.called:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self.sent.callback(None)
        if self._ended:  # before it was sent all: a peer that does not listen any more says so within a moment
            self._reactor.callLater(REFUSAL_TIMEOUT, self._leave)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._reset:
            reason = Failure(error.ConnectionLost())
        waiting = self.lost if self.sent.called else self.sent
        waiting.callback(None if self.sent.called and reason.check(error.ConnectionDone) else reason)

    def _leave(self) -> None:
        self._reset = pending_error(self.transport) is not None
        self.transport.loseConnection()


class _OutgoingDatagrams(ConnectedDatagramProtocol):
    """Sends, and keeps why that failed, if it did."""

    failure: Exception | None = None

    def send(self, datagram: bytes) -> None:
        """Send one datagram, or say why not."""
        if self.transport is None:  # closed by the system, when nobody listens
            notice(f"not sent: {datagram.decode('utf-8', 'replace')[:64]}")
            return
        try:
            self.transport.write(datagram)
        except error.MessageLengthError:
            notice(f"not sent: {len(datagram):,} bytes are too long for a datagram")
            self.failure = error.MessageLengthError()
        except OSError as e:
            notice(f"not sent: {datagram.decode('utf-8', 'replace')[:64]}: {(e.strerror or str(e)).lower()}")
            self.failure = e

    def closed(self, reason: Exception) -> None:
        self.failure = reason
