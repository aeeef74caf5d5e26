"""``netsvc receive``: prints what arrives, and from whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.python.usage import UsageError
from zope.interface import implementer

from netsvc.cli.command import Command, CommandError, Flow, explain
from netsvc.cli.console import Console, notice, opened
from netsvc.errors import ConfigError, ListenError
from netsvc.net.datagram_protocol import BoundedDatagramProtocol
from netsvc.net.listening import datagram_listener, stream_listener
from netsvc.wire.address import parse_address, peer_text, show
from netsvc.wire.framing import LineFraming, read

#: The longest line of a stream that is printed as one, in bytes.
LINE_MAX = 1_048_576


class Receive(Command):
    """Print what arrives at [HOST:]PORT on standard output, and who sent it on standard error. Answers nothing."""

    synopsis = "[options] [HOST:]PORT"
    longdesc = "Ends after --count messages, at a --bye word if there is one, or at Ctrl-C."
    optFlags = [["udp", "u", "datagrams instead of lines on streams"]]  # noqa: RUF012  Twisted's own convention
    optParameters = [["count", None, None, "end after so many datagrams or lines"]]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self["bye"] = []

    def opt_bye(self, word: str) -> None:
        """a word, in any case, with which anybody may end this; may be repeated"""
        self["bye"].append(word.casefold())

    def parseArgs(self, where: str = "", *rest: str) -> None:
        if not where or rest:
            raise UsageError("one [HOST:]PORT is wanted")
        self["where"] = where

    def postOptions(self) -> None:
        if self["count"] is not None:
            self["count"] = self.number("count", int)

    async def run(self, reactor: Any) -> None:
        self._left = self["count"]
        self._done: Deferred[None] = Deferred()
        self._console = Console(lambda _: None, lambda: None)
        self._sender = ""
        try:
            where = await self.listening(reactor, self["where"])
            source: _Datagrams | _Streams
            if self["udp"]:
                source = datagrams = _Datagrams(reactor, self._receive)
                listener = datagram_listener(reactor, "receive", where, lambda: datagrams)
            else:
                source = streams = _Streams(self._receive)
                listener = stream_listener(reactor, "receive", where, streams)
            async with opened(reactor, self._console):
                self._console.pause()
                self._console.unread.addCallback(lambda _: self._end())
                self._console.throttle(Flow(source))
                listener.startService()
                notice(f"waiting on {listener.where()}")
                await self._done
        except ConfigError as e:
            raise UsageError(str(e)) from None
        except ListenError as e:
            raise CommandError(str(e)) from None
        except (OSError, error.DNSLookupError) as e:
            raise CommandError(explain(e, parse_address(self["where"]))) from None

    def _receive(self, message: bytes, sender: str) -> None:
        if self._done.called:
            return
        if sender != self._sender:
            self._sender = sender
            notice(f"from {sender}")
        text = message.decode("utf-8", "replace")
        self._console.show(text)
        if self._left is not None:
            self._left -= 1
        if self._left == 0 or text.strip().casefold() in self["bye"]:
            self._end()

    def _end(self) -> None:
        if not self._done.called:
            self._done.callback(None)


class _Datagrams(BoundedDatagramProtocol):
    def __init__(self, reactor: Any, receive: Callable[[bytes, str], None]) -> None:
        super().__init__(reactor)
        self._receive = receive

    def received(self, datagram: bytes, host: str, port: int) -> None:
        self._receive(datagram, show(host, port))


class _Streams(Factory):
    noisy = False

    def __init__(self, receive: Callable[[bytes, str], None]) -> None:
        self.receive = receive
        self.connections: set[_Lines] = set()
        self.paused = False

    def buildProtocol(self, addr: IAddress | None) -> _Lines:
        return _Lines(self)

    def pauseProducing(self) -> None:
        self.paused = True
        for connection in self.connections:
            connection.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.paused = False
        for connection in self.connections:
            connection.transport.resumeProducing()


@implementer(IHalfCloseableProtocol)
class _Lines(Protocol):
    transport: Any

    def __init__(self, streams: _Streams) -> None:
        self._streams = streams
        self._receive = streams.receive
        self._framing = LineFraming(LINE_MAX)

    def connectionMade(self) -> None:
        self._streams.connections.add(self)
        if self._streams.paused:
            self.transport.pauseProducing()
        self._sender = peer_text(self.transport.getPeer())

    def dataReceived(self, data: bytes) -> None:
        for line in read(self._framing, data, self._refused):
            self._receive(line, self._sender)

    def _refused(self, why: str) -> None:
        notice(f"from {self._sender}: {why}; it was left out")

    def readConnectionLost(self) -> None:
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing is ever written."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._streams.connections.discard(self)
        rest = self._framing.end()
        if rest is not None:
            self._receive(rest, self._sender)
