"""``netsvc send``: send one stream, or datagrams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import click
from click import UsageError
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.cli.command import CONNECT_TIMEOUT, Command, CommandError, PausableSource, sleep
from netsvc.cli.console import INPUT_LINE_MAX, Console, excerpt, is_terminal, notice, standard_streams
from netsvc.cli.error_words import failure_words
from netsvc.cli.parameters import (
    CONTEXT_SETTINGS,
    exactness_options,
    family_options,
    peer_argument,
    source_options,
    text_argument,
    udp_option,
    unix_option,
    verbose_option,
    wait_option,
)
from netsvc.cli.stream_peer import Route, Where, unix_path
from netsvc.net.datagram_protocol import ConnectedDatagramProtocol
from netsvc.net.reactors import Clock, Reactor, cancel
from netsvc.net.socket_errors import pending_error
from netsvc.wire.address import HostPort, format_peer
from netsvc.wire.framing import PieceFraming, WholeLineFraming

#: Seconds to wait for the peer to end its side of the stream.
PEER_END_TIMEOUT = 5.0

#: Seconds to wait for a reset, or for the report that no program receives the datagrams.
REFUSAL_TIMEOUT = 0.2


@dataclass
class Send(Command):
    """The address of a peer, what to send, and how."""

    where: str | None
    text: bytes | None
    unix: str | None
    udp: bool
    as_text: bool
    raw: bool
    ipv4: bool
    ipv6: bool
    source: str | None
    source_port: int | None
    timeout: float | None
    verbose: bool

    _sent: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.as_text and self.raw:
            raise UsageError("--raw cannot be combined with --text; leave out one of them")
        if self.unix is not None and self.where is not None:  # the first word is text then
            words = [self.where.encode("utf-8", "surrogateescape"), self.text]
            self.text, self.where = b" ".join(word for word in words if word is not None), None
        self._is_exact = not self.as_text and (self.raw or not is_terminal())
        self._route = Route.chosen(self.ipv4, self.ipv6, self.source, self.source_port, self.timeout or CONNECT_TIMEOUT)
        unix = unix_path(self.where, self.unix)
        if unix is not None and (self.udp or not self._route.is_default):
            raise UsageError("a UNIX socket cannot be combined with -u, -4, -6, -s or -p; leave them out")
        if unix is None and self.where is None:
            raise UsageError("HOST:PORT is missing")
        self._peer: Where = unix or self.peer_address(self.where or "")

    async def run(self, reactor: Reactor) -> None:
        try:
            if isinstance(self._peer, HostPort) and self.udp:
                await self._send_datagrams(reactor, self._peer)
            else:
                await self._send_stream(reactor)
        except CommandError:
            raise
        except Exception as e:
            raise CommandError(self._route.explain(e, self._peer)) from None

    async def _send_stream(self, reactor: Reactor) -> None:
        stream = await self._route.connect(reactor, self._peer, _OutgoingStream(reactor, self.timeout))
        if self.verbose:
            transport = stream.transport
            notice(f"sending to {format_peer(transport.getPeer())} from {format_peer(transport.getHost())}")
        if self.text is not None:
            self._sent = len(self.text)
            stream.write(self.text)
            stream.end()
            await self._wait_for_end(reactor, stream)
            return

        def write(data: bytes) -> None:
            data = data if self._is_exact else data + b"\n"
            self._sent += len(data)
            stream.write(data)

        console = Console(write, stream.end, PieceFraming() if self._is_exact else None)
        async with standard_streams(reactor, console):
            if not is_terminal():
                console.show_progress(reactor, lambda: self._sent)
            stream.register_producer(PausableSource(console.source))
            await self._wait_for_end(reactor, stream)

    async def _wait_for_end(self, clock: Clock, stream: _OutgoingStream) -> None:
        await stream.sent
        if self.timeout is not None:  # the peer has to end the stream, too
            await stream.closed
        else:
            deadline = clock.callLater(PEER_END_TIMEOUT, stream.transport.loseConnection)
            try:
                await stream.closed
            finally:
                cancel(deadline)
        if self.verbose:
            notice(f"sent {self._sent:,} bytes")

    async def _send_datagrams(self, reactor: Reactor, peer: HostPort) -> None:
        made: list[_OutgoingDatagrams] = []

        def make(address: str) -> _OutgoingDatagrams:
            made.append(_OutgoingDatagrams(address, peer.port))
            return made[0]

        await self._route.open_datagrams(reactor, peer, make)
        [datagrams] = made
        if self.text is not None:
            datagrams.send(self.text)
        else:
            input_ended: Deferred[None] = Deferred()
            whole = WholeLineFraming(INPUT_LINE_MAX) if self._is_exact else None
            console = Console(datagrams.send, lambda: input_ended.callback(None), whole)
            async with standard_streams(reactor, console):
                await input_ended
        await sleep(reactor, REFUSAL_TIMEOUT)
        if datagrams.failure is not None:
            raise datagrams.failure
        if self.verbose:
            notice(f"sent {datagrams.count:,} datagrams")


@implementer(IHalfCloseableProtocol)
class _OutgoingStream(Protocol):
    """Sends, half-closes, and waits for the end of the peer.

    :param stall_timeout: seconds after which the stream fails if the peer takes nothing of what is queued, or does not
        end it after the last byte; None for no limit.
    :ivar sent: fires when the system has accepted everything; fails if the connection was lost before.
    :ivar closed: fires when the connection was closed after that; fails if the peer reset it.
    """

    transport: Any

    def __init__(self, clock: Clock, stall_timeout: float | None = None) -> None:
        self.sent: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self._clock = clock
        self._stall_timeout = stall_timeout
        self._stall: Any = None
        self._producer: IPushProducer | None = None
        self._peer_ended_input = False
        self._failure: Exception | None = None

    def register_producer(self, producer: IPushProducer) -> None:
        """Pause ``producer``, the source of what is sent, while the peer does not read."""
        self._producer = producer
        self.transport.registerProducer(self, True)

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        self.transport.write(data)

    def end(self) -> None:
        """End the stream when everything is sent."""
        self._producer = None
        self.transport.unregisterProducer()
        self.transport.loseWriteConnection()
        self._watch()

    # The producer of the transport

    def pauseProducing(self) -> None:
        self._watch()
        if self._producer is not None:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        cancel(self._stall)
        if self._producer is not None:
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        """The connection is closed."""

    # Called by Twisted

    def readConnectionLost(self) -> None:
        """The peer has ended its input. The rest of the stream is sent all the same."""
        self._peer_ended_input = True
        if pending_error(self.transport):
            self._fail(error.ConnectionLost())
        elif self.sent.called:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self._watch()
        self.sent.callback(None)
        if self._peer_ended_input:  # if the peer had closed the connection, it now answers with a reset
            self._clock.callLater(REFUSAL_TIMEOUT, self._close_unless_reset)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        cancel(self._stall)
        if self._failure is not None:
            reason = Failure(self._failure)
        waiting = self.closed if self.sent.called else self.sent
        waiting.callback(None if self.sent.called and reason.check(error.ConnectionDone) else reason)

    # The rest is private

    def _watch(self) -> None:
        """Fail if nothing happens for some time."""
        cancel(self._stall)
        if self._stall_timeout is not None:
            self._stall = self._clock.callLater(self._stall_timeout, self._fail, error.TimeoutError())

    def _fail(self, reason: Exception) -> None:
        self._failure = reason
        self.transport.abortConnection()

    def _close_unless_reset(self) -> None:
        if pending_error(self.transport) is not None:
            self._failure = error.ConnectionLost()
        self.transport.loseConnection()


class _OutgoingDatagrams(ConnectedDatagramProtocol):
    """Sends datagrams.

    :ivar count: how many were sent.
    :ivar failure: the reason for the last failure, if there was one.
    """

    failure: Exception | None = None
    count = 0

    def send(self, datagram: bytes) -> None:
        """Send one datagram. If that fails, print a notice."""
        if self.transport is None:
            notice(f"not sent: {excerpt(datagram)}: the system has closed the port")
            return
        try:
            self.transport.write(datagram)
            self.count += 1
        except error.MessageLengthError as e:
            notice(f"not sent: {len(datagram):,} bytes are too long for a datagram")
            self.failure = e
        except OSError as e:
            notice(f"not sent: {excerpt(datagram)}: {failure_words(e)}")
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
        "A stream carries the bytes of TEXT, of a file or of a pipe unchanged. With --udp, TEXT is one datagram; "
        "without TEXT, each line of standard input is one. The arrival of a datagram is not confirmed."
    ),
    params=[
        peer_argument("HOST:PORT", required=False),
        text_argument(),
        unix_option("Send to the UNIX socket at PATH, in place of HOST:PORT."),
        udp_option("Send datagrams instead of a stream."),
        *exactness_options(),
        *family_options(),
        *source_options(),
        wait_option(
            None,
            "Seconds after which it is an error that the peer does not accept the connection, takes nothing, or does "
            "not end the stream after the last byte.",
        ),
        verbose_option("Say more about the connection."),
    ],
)
