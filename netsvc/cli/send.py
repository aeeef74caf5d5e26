"""``netsvc send``: send one stream, or datagrams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.cli.command import CONNECT_TIMEOUT, Command, CommandError, PausableSource, explain, sleep
from netsvc.cli.console import Console, excerpt, notice, standard_streams
from netsvc.cli.parameters import CONTEXT_SETTINGS, text_argument, udp_option
from netsvc.net.datagram_protocol import ConnectedDatagramProtocol, listen_for
from netsvc.net.host_names import resolve
from netsvc.net.reactors import Clock, Reactor, cancel
from netsvc.net.socket_errors import pending_error
from netsvc.wire.framing import PieceFraming

#: Seconds to wait for the peer to end its side of the stream.
PEER_END_TIMEOUT = 5.0

#: Seconds to wait for a reset, or for the report that no program receives the datagrams.
REFUSAL_TIMEOUT = 0.2


@dataclass
class Send(Command):
    """The address of a peer, and what to send."""

    where: str
    text: bytes | None
    udp: bool

    def __post_init__(self) -> None:
        self._peer = self.peer_address(self.where)

    async def run(self, reactor: Reactor) -> None:
        try:
            if self.udp:
                await self._send_datagrams(reactor)
            else:
                await self._send_stream(reactor)
        except Exception as e:
            raise CommandError(explain(e, self._peer)) from None

    async def _send_stream(self, reactor: Reactor) -> None:
        endpoint = HostnameEndpoint(reactor, self._peer.host or "", self._peer.port, timeout=CONNECT_TIMEOUT)
        stream = await connectProtocol(endpoint, _OutgoingStream(reactor))
        if self.text is not None:
            stream.transport.write(self.text)
            stream.end()
            await self._wait_for_end(reactor, stream)
            return
        console = Console(stream.transport.write, stream.end, PieceFraming())
        async with standard_streams(reactor, console):
            stream.register_producer(PausableSource(console.transport))
            await self._wait_for_end(reactor, stream)

    async def _wait_for_end(self, clock: Clock, stream: _OutgoingStream) -> None:
        await stream.sent
        deadline = clock.callLater(PEER_END_TIMEOUT, stream.transport.loseConnection)
        try:
            await stream.closed
        finally:
            cancel(deadline)

    async def _send_datagrams(self, reactor: Reactor) -> None:
        address = (await resolve(reactor, self._peer.host or ""))[0]
        datagrams = _OutgoingDatagrams(address, self._peer.port)
        listen_for(reactor, datagrams, address)
        if self.text is not None:
            datagrams.send(self.text)
        else:
            input_ended: Deferred[None] = Deferred()
            console = Console(datagrams.send, lambda: input_ended.callback(None))
            async with standard_streams(reactor, console):
                await input_ended
        await sleep(reactor, REFUSAL_TIMEOUT)
        if datagrams.failure is not None:
            raise datagrams.failure


@implementer(IHalfCloseableProtocol)
class _OutgoingStream(Protocol):
    """Sends, half-closes, and waits for the end of the peer.

    :ivar sent: fires when the system has accepted everything; fails if the connection was lost before.
    :ivar closed: fires when the connection was closed after that; fails if the peer reset it.
    """

    transport: Any

    def __init__(self, clock: Clock) -> None:
        self.sent: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._clock = clock
        self._peer_ended_input = False
        self._was_reset = False

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause ``producer``, the source of what is sent, while the peer does not read."""
        self.transport.registerProducer(producer, True)

    def end(self) -> None:
        """End the stream when everything is sent."""
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        """The peer has ended its input. The rest of the stream is sent all the same."""
        self._peer_ended_input = True
        if pending_error(self.transport):
            self._was_reset = True
            self.transport.abortConnection()
        elif self.sent.called:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self.sent.callback(None)
        if self._peer_ended_input:  # if the peer had closed the connection, it now answers with a reset
            self._clock.callLater(REFUSAL_TIMEOUT, self._close_unless_reset)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._was_reset:
            reason = Failure(error.ConnectionLost())
        waiting = self.closed if self.sent.called else self.sent
        waiting.callback(None if self.sent.called and reason.check(error.ConnectionDone) else reason)

    def _close_unless_reset(self) -> None:
        self._was_reset = pending_error(self.transport) is not None
        self.transport.loseConnection()


class _OutgoingDatagrams(ConnectedDatagramProtocol):
    """Sends datagrams.

    :ivar failure: the reason for the last failure, if there was one.
    """

    failure: Exception | None = None

    def send(self, datagram: bytes) -> None:
        """Send one datagram. If that fails, print a notice."""
        if self.transport is None:
            notice(f"not sent: {excerpt(datagram)}: the system has closed the port")
            return
        try:
            self.transport.write(datagram)
        except error.MessageLengthError as e:
            notice(f"not sent: {len(datagram):,} bytes are too long for a datagram")
            self.failure = e
        except OSError as e:
            notice(f"not sent: {excerpt(datagram)}: {(e.strerror or str(e)).lower()}")
            self.failure = e

    def closed(self, reason: Exception) -> None:
        self.failure = reason


COMMAND = click.Command(
    "send",
    callback=Send,
    context_settings=CONTEXT_SETTINGS,
    short_help="Send text or standard input to a peer.",
    help=(
        "Send TEXT, or standard input, to HOST:PORT. Answers are not printed. "
        "A stream carries the bytes of TEXT or of standard input unchanged. With --udp, TEXT is one datagram; "
        "without TEXT, each line of standard input is one. The arrival of a datagram is not confirmed."
    ),
    params=[
        click.Argument(["where"], metavar="HOST:PORT"),
        text_argument(),
        udp_option("Send datagrams instead of a stream."),
    ],
)
