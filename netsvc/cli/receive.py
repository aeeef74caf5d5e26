"""``netsvc receive``: write what arrives, and name the senders."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import click
from click import UsageError
from twisted.internet import error
from twisted.internet.defer import Deferred

from netsvc.cli.command import Command, CommandError, PausableSource, explain
from netsvc.cli.console import Console, standard_streams
from netsvc.cli.parameters import (
    CONTEXT_SETTINGS,
    PositiveNumber,
    check_exclusive,
    check_needed,
    exactness_options,
    peer_argument,
    server_tls_options,
    udp_option,
    unix_option,
)
from netsvc.cli.received_streams import MAX_CONNECTIONS, MAX_PER_HOST, LineReceiver, ReceivedStreams, WholeReceiver
from netsvc.cli.stream_peer import listening_tls, unix_path
from netsvc.errors import ConfigError, ListenError
from netsvc.net.datagram_protocol import DatagramService
from netsvc.net.listening import Listener, datagram_listener, stream_listener
from netsvc.net.reactors import Clock, Reactor
from netsvc.wire.address import format_socket_address, parse_address
from netsvc.wire.datagram import Datagram


@dataclass
class Receive(Command):
    """Where to receive, where to write, and when to end."""

    where: str | None
    unix: str | None
    udp: bool
    output: str | None
    as_text: bool
    raw: bool
    count: int | None
    max_bytes: int | None
    max_connections: int
    max_per_host: int
    tls_cert: str | None
    tls_key: str | None
    client_ca: str | None
    bye: tuple[str, ...]

    _written: int = field(init=False, default=0)
    _last_sender: str = field(init=False, default="")
    _failure: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        check_exclusive(
            ("--raw", "--text", self.raw and self.as_text),
            ("--raw", "--bye", self.raw and self.bye),
            ("--udp", "--unix", self.udp and self.unix is not None),
            ("--tls-cert", "--udp", self.tls_cert and self.udp),
        )
        check_needed(
            ("--tls-key", "--tls-cert", self.tls_key and not self.tls_cert),
            ("--client-ca", "--tls-cert", self.client_ca and not self.tls_cert),
        )
        if self.where is not None and self.unix is not None:
            raise UsageError(f"unexpected argument {self.where}, because --unix names the socket")
        self._unix = unix_path(self.where, self.unix) if self.unix is not None else None
        if self._unix is None and self.where is None:
            raise UsageError("[HOST:]PORT is missing")
        self._to_terminal = self.output is None and os.isatty(1)
        self._is_exact = not self.as_text and not self.bye and (self.raw or not self._to_terminal)

    async def run(self, reactor: Reactor) -> None:
        self._left = self.count
        self._done: Deferred[None] = Deferred()
        self._console = Console(lambda _: None, lambda: None, path=self.output)
        name = self.where or ""
        try:
            where = self._unix.description if self._unix else await self.listening_string(reactor, name)
            source, listener = self._open_source(reactor, where)
            async with standard_streams(reactor, self._console):
                self._console.pause_input()
                self._console.output_closed.addCallback(lambda _: self._end())
                self._console.register_producer(PausableSource(source))
                if not self._to_terminal:
                    self._console.show_progress(reactor, lambda: self._written)
                listener.startService()
                self._console.notice(f"waiting on {listener.where()}")
                try:
                    await self._done
                finally:
                    listener.stopService()
                    if isinstance(source, ReceivedStreams):
                        source.close()
        except ConfigError as e:
            raise UsageError(str(e)) from None
        except ListenError as e:
            raise CommandError(str(e)) from None
        except (OSError, error.DNSLookupError) as e:
            raise CommandError(explain(e, parse_address(name))) from None
        if self._failure is not None:
            raise CommandError(self._failure)

    def _open_source(self, reactor: Reactor, where: str) -> tuple[_DatagramReceiver | ReceivedStreams, Listener]:
        if self.udp:
            datagrams = _DatagramReceiver(reactor, self._datagram_received)
            return datagrams, datagram_listener(reactor, "", where, lambda: datagrams)
        receiver = WholeReceiver if self._is_exact else LineReceiver
        streams = ReceivedStreams(reactor, self, receiver, self.max_connections, self.max_per_host)
        wrap = None
        if self.tls_cert:
            wrap = listening_tls(reactor, self.tls_cert, self.tls_key, self.client_ca).wrap
        return streams, stream_listener(reactor, "", where, streams, wrap=wrap)

    # Called by the connections

    def notice(self, line: str) -> None:
        """Print one line to standard error, behind what was received before."""
        self._console.notice(line)

    def bytes_received(self, data: bytes, sender: str) -> None:
        """Write bytes unchanged."""
        if not self._done.called:
            self._name_sender(sender)
            self._write(data)

    def text_received(self, data: bytes, sender: str) -> None:
        """Write a line of text. It counts as one message."""
        if self._done.called:
            return
        self._name_sender(sender)
        text = data.decode("utf-8", "replace")
        self._write(self._console.text_as_bytes(text))
        self.message_ended()
        if text.strip().casefold() in map(str.casefold, self.bye):
            self._end()

    def message_ended(self) -> None:
        """Count a datagram, a line or a whole connection."""
        if self._left is not None and not self._done.called:
            self._left -= 1
            if not self._left:
                self._end()

    def stream_lost(self, sender: str) -> None:
        """A connection was lost before its end. It counts, and the exit status says so."""
        if not self._done.called:
            self._failure = f"from {sender}: connection lost; what was received of it is not whole"
            if self._left != 1:
                self.notice(self._failure)
                self._failure = ""
            self.message_ended()

    # The rest is private

    def _datagram_received(self, payload: bytes, sender: str) -> None:
        if not self._is_exact:
            self.text_received(payload, sender)
        elif not self._done.called:
            self.bytes_received(payload, sender)
            self.message_ended()

    def _name_sender(self, sender: str) -> None:
        if sender != self._last_sender:
            self._last_sender = sender
            self.notice(f"from {sender}")

    def _write(self, data: bytes) -> None:
        left = len(data) if self.max_bytes is None else self.max_bytes - self._written
        self._written += min(left, len(data))
        self._console.write(data[:left])
        if left < len(data):
            self._failure = f"more than {self.max_bytes:,} bytes have arrived; the rest is lost (--max-bytes)"
            self._end()

    def _end(self) -> None:
        if not self._done.called:
            self._done.callback(None)


class _DatagramReceiver(DatagramService):
    def __init__(self, clock: Clock, datagram_received: Callable[[bytes, str], None]) -> None:
        super().__init__(clock)
        self._datagram_received = datagram_received

    def received(self, datagram: Datagram) -> None:
        self._datagram_received(datagram.payload, format_socket_address(datagram.peer))


COMMAND = click.Command(
    "receive",
    callback=Receive,
    context_settings=CONTEXT_SETTINGS,
    short_help="Write what arrives at a port.",
    help=(
        "Write what arrives at [HOST:]PORT, and name the senders on standard error. Answer nothing. "
        "PORT alone listens on every address of this host. To a file or pipe, bytes are written unchanged, one "
        "connection after the other; to a terminal, lines of text are printed without unsafe characters. "
        "The command ends after --count messages, at a --bye word, or at Ctrl-C."
    ),
    params=[
        peer_argument(required=False),
        unix_option("Listen on the UNIX socket at PATH, in place of [HOST:]PORT."),
        udp_option("Receive datagrams instead of streams."),
        *server_tls_options("Receive over TLS, with the certificate in this PEM file."),
        click.Option(
            ["-o", "--output"],
            type=click.Path(),
            metavar="FILE",
            help="Write to this file instead of standard output.",
        ),
        *exactness_options(),
        click.Option(
            ["--count"],
            type=PositiveNumber(int),
            metavar="N",
            help="End after this number of datagrams, of whole connections, or in text of lines.",
        ),
        click.Option(
            ["--max-bytes"],
            type=PositiveNumber(int),
            metavar="N",
            help="Write at most this number of bytes. If more arrive, that is an error.",
        ),
        click.Option(
            ["--max-connections"],
            type=PositiveNumber(int),
            default=MAX_CONNECTIONS,
            show_default=True,
            metavar="N",
            help="Maximum number of concurrent connections.",
        ),
        click.Option(
            ["--max-per-host"],
            type=PositiveNumber(int),
            default=MAX_PER_HOST,
            show_default=True,
            metavar="N",
            help="Maximum number of concurrent connections of one host.",
        ),
        click.Option(
            ["--bye"],
            multiple=True,
            metavar="WORD",
            help="End when any sender sends this word, in upper or lower case. May be repeated. Implies --text.",
        ),
    ],
)
