"""``netsvc receive``: print the messages that arrive, and their senders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click
from click import UsageError
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.cli.command import Command, CommandError, PausableSource, explain
from netsvc.cli.console import Console, notice, standard_streams
from netsvc.cli.parameters import CONTEXT_SETTINGS, PositiveNumber, peer_argument, udp_option
from netsvc.errors import ConfigError, ListenError
from netsvc.net.datagram_protocol import DatagramService
from netsvc.net.listening import Listener, datagram_listener, stream_listener
from netsvc.net.reactors import Clock, Reactor
from netsvc.wire.address import format_address, format_peer, parse_address
from netsvc.wire.datagram import Datagram
from netsvc.wire.framing import LineFraming, messages_in

#: Bytes of the longest line of a stream that is printed, with its line end.
RECEIVE_LINE_MAX = 1_048_576


@dataclass
class Receive(Command):
    """Where to receive, and when to end."""

    where: str
    udp: bool
    count: int | None
    bye: tuple[str, ...]

    async def run(self, reactor: Reactor) -> None:
        self._messages_left = self.count
        self._done: Deferred[None] = Deferred()
        self._console = Console(lambda _: None, lambda: None)
        self._last_sender = ""
        try:
            where = await self.listening_string(reactor, self.where)
            source, listener = self._open_source(reactor, where)
            async with standard_streams(reactor, self._console):
                self._console.pause_input()
                self._console.output_closed.addCallback(lambda _: self._end())
                self._console.register_producer(PausableSource(source))
                listener.startService()
                notice(f"waiting on {listener.where()}")
                await self._done
        except ConfigError as e:
            raise UsageError(str(e)) from None
        except ListenError as e:
            raise CommandError(str(e)) from None
        except (OSError, error.DNSLookupError) as e:
            raise CommandError(explain(e, parse_address(self.where))) from None

    def _open_source(self, reactor: Reactor, where: str) -> tuple[_DatagramReceiver | _StreamReceiver, Listener]:
        if self.udp:
            datagrams = _DatagramReceiver(reactor, self._message_received)
            return datagrams, datagram_listener(reactor, "", where, lambda: datagrams)
        streams = _StreamReceiver(self._message_received)
        return streams, stream_listener(reactor, "", where, streams)

    def _message_received(self, message: bytes, sender: str) -> None:
        if self._done.called:
            return
        if sender != self._last_sender:
            self._last_sender = sender
            notice(f"from {sender}")
        text = message.decode("utf-8", "replace")
        self._console.print_text(text)
        if self._messages_left is not None:
            self._messages_left -= 1
        if self._messages_left == 0 or text.strip().casefold() in map(str.casefold, self.bye):
            self._end()

    def _end(self) -> None:
        if not self._done.called:
            self._done.callback(None)


class _DatagramReceiver(DatagramService):
    def __init__(self, clock: Clock, message_received: Callable[[bytes, str], None]) -> None:
        super().__init__(clock)
        self._message_received = message_received

    def received(self, datagram: Datagram) -> None:
        host, port = datagram.peer[:2]
        self._message_received(datagram.payload, format_address(host, port))


class _StreamReceiver(Factory):
    """Makes the connections, and pauses and resumes all of them together."""

    noisy = False

    def __init__(self, message_received: Callable[[bytes, str], None]) -> None:
        self.message_received = message_received
        self.connections: set[_LineReceiver] = set()
        self.paused = False

    def buildProtocol(self, addr: IAddress | None) -> _LineReceiver:
        return _LineReceiver(self)

    def pauseProducing(self) -> None:
        self.paused = True
        for connection in self.connections:
            connection.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        for connection in self.connections:
            connection.transport.resumeProducing()


@implementer(IHalfCloseableProtocol)
class _LineReceiver(Protocol):
    transport: Any

    def __init__(self, streams: _StreamReceiver) -> None:
        self._streams = streams
        self._framing = LineFraming(RECEIVE_LINE_MAX)

    def connectionMade(self) -> None:
        self._streams.connections.add(self)
        if self._streams.paused:
            self.transport.pauseProducing()
        self._sender = format_peer(self.transport.getPeer())

    def dataReceived(self, data: bytes) -> None:
        for line in messages_in(self._framing, data, self._report_dropped_line):
            self._streams.message_received(line, self._sender)

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """This side sends no data."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._streams.connections.discard(self)
        rest = self._framing.end()
        if rest is not None:
            self._streams.message_received(rest, self._sender)

    def _report_dropped_line(self, reason: str) -> None:
        notice(f"from {self._sender}: {reason}; the line was dropped")


COMMAND = click.Command(
    "receive",
    callback=Receive,
    context_settings=CONTEXT_SETTINGS,
    short_help="Print the messages that arrive at a port.",
    help=(
        "Print the messages that arrive at [HOST:]PORT, and their senders to standard error. Answer nothing. "
        "PORT alone listens on every address of this host. The command ends after --count messages, at a --bye word, "
        "or at Ctrl-C."
    ),
    params=[
        peer_argument(),
        udp_option("Receive datagrams instead of lines on streams."),
        click.Option(["--count"], type=PositiveNumber(int), metavar="N", help="End after this number of messages."),
        click.Option(
            ["--bye"],
            multiple=True,
            metavar="WORD",
            help="End when any sender sends this word, in upper or lower case. May be repeated.",
        ),
    ],
)
