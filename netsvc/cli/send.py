"""``netsvc send``: send one stream, or datagrams."""

from __future__ import annotations

from dataclasses import dataclass, field

import click
from click import UsageError
from twisted.internet import error
from twisted.internet.defer import Deferred

from netsvc.cli.client_tls import ClientTLS
from netsvc.cli.command import CONNECT_TIMEOUT, DEFAULT_HOST, Command, CommandError, PausableSource, sleep
from netsvc.cli.console import INPUT_LINE_MAX, Console, excerpt, is_terminal, notice, standard_streams
from netsvc.cli.outgoing_stream import OutgoingStream, OutgoingTLSStream
from netsvc.cli.parameters import (
    CONTEXT_SETTINGS,
    check_exclusive,
    check_needed,
    client_tls_options,
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
from netsvc.net.error_words import failure_words
from netsvc.net.reactors import Clock, Reactor, cancel
from netsvc.wire.address import HostPort, format_peer
from netsvc.wire.framing import PieceFraming, WholeLineFraming

#: Seconds for the handshake of TLS, without -w.
HANDSHAKE_TIMEOUT = 10.0

#: Seconds to wait for the peer to end its side of the stream.
PEER_END_TIMEOUT = 5.0

#: Seconds to wait for the report that no program receives the datagrams.
REFUSAL_TIMEOUT = 0.2


@dataclass
class Send(Command):
    """The address of a peer, what to send, and how."""

    where: str | None
    text: bytes | None
    unix: str | None
    udp: bool
    tls: bool
    ca: str | None
    cert: str | None
    key: str | None
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
        check_exclusive(("--raw", "--text", self.raw and self.as_text), ("--tls", "--udp", self.tls and self.udp))
        check_needed(
            ("--ca", "--tls", self.ca and not self.tls),
            ("--cert", "--tls", self.cert and not self.tls),
            ("--key", "--cert", self.key and not self.cert),
        )
        if self.unix is not None and self.where is not None:  # the first word is text then
            words = [self.where.encode("utf-8", "surrogateescape"), self.text]
            self.text, self.where = b" ".join(word for word in words if word is not None), None
        self._is_exact = not self.as_text and (self.raw or not is_terminal())
        self._route = Route.chosen(self.ipv4, self.ipv6, self.source, self.source_port, self.timeout or CONNECT_TIMEOUT)
        unix = unix_path(self.where, self.unix)
        if unix is not None and (self.udp or not self._route.is_default):
            raise UsageError("a UNIX socket cannot be combined with -u, -4, -6, -s or -p; leave them out")
        if unix is None and self.where is None:
            raise UsageError("[HOST:]PORT is missing")
        self._peer: Where = unix or self.peer_address(self.where or "", DEFAULT_HOST)

    async def run(self, reactor: Reactor) -> None:
        try:
            if isinstance(self._peer, HostPort) and self.udp:
                await self._send_datagrams(reactor, self._peer)
            else:
                await self._send_stream(reactor)
        except (CommandError, UsageError):
            raise
        except Exception as e:
            raise CommandError(self._route.explain(e, self._peer)) from None

    async def _send_stream(self, reactor: Reactor) -> None:
        stream = await self._connect(reactor)
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

    async def _connect(self, reactor: Reactor) -> OutgoingStream:
        """Connect, with TLS if the user asks for it."""
        if self.tls:
            tls = ClientTLS(self.ca, self.cert, self.key)
            timeout = self.timeout or HANDSHAKE_TIMEOUT
            secured = OutgoingTLSStream(reactor, self.timeout, handshake_timeout=timeout)
            stream: OutgoingStream = await self._route.connect(reactor, self._peer, secured, tls)
        else:
            stream = await self._route.connect(reactor, self._peer, OutgoingStream(reactor, self.timeout))
        return await stream.ready

    async def _wait_for_end(self, clock: Clock, stream: OutgoingStream) -> None:
        await stream.sent
        if self.timeout is not None:  # the peer has to end the stream, too
            await stream.closed
        else:
            deadline = clock.callLater(PEER_END_TIMEOUT, stream.close)
            try:
                await stream.closed
            finally:
                cancel(deadline)
        if self.verbose:
            notice(f"sent {_counted(self._sent, 'byte')}")

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
            notice(f"sent {_counted(datagrams.count, 'datagram')}")


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
        "Send TEXT, or standard input, to [HOST:]PORT. Answers are not printed. "
        "A stream carries the bytes of TEXT, of a file or of a pipe unchanged. With --udp, TEXT is one datagram; "
        "without TEXT, each line of standard input is one. The arrival of a datagram is not confirmed."
    ),
    params=[
        peer_argument(required=False),
        text_argument(),
        unix_option("Send to the UNIX socket at PATH, in place of [HOST:]PORT."),
        udp_option("Send datagrams instead of a stream."),
        *client_tls_options(),
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
