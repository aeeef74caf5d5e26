"""Protocols that write down what happens to them, for scenarios to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.scenarios.worlds import World


class Watched:
    """Fires when what it is asked about has come about."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Fire when the condition holds, which is looked at whenever something happens here."""
        came: Deferred[None] = Deferred()
        self._waiting.append((condition, came))
        self._look()
        return came

    def _look(self) -> None:
        for waiting in tuple(self._waiting):
            condition, came = waiting
            if condition() and waiting in self._waiting:
                self._waiting.remove(waiting)
                came.callback(None)


class Actor(Watched, Protocol):
    """Writes down what happens: ``made``, ``ended`` and ``closed`` (half-closes), ``paused``, ``resumed`` and ``lost``
    with the reason.

    :ivar events: what happened, in order.
    :ivar received: all bytes that came.
    :ivar lost: fires when the connection is lost.
    """

    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.received = bytearray()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.note("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.note(f"lost: {type(reason.value).__name__}")
        self.lost.callback(None)

    def note(self, event: str) -> None:
        """Write down an event."""
        self.events.append(event)
        self._look()

    def happened(self, event: str) -> Deferred[None]:
        """Fire when an event has happened."""
        return self.until(lambda: event in self.events)

    def got(self, size: int) -> Deferred[None]:
        """Fire when so many bytes have come."""
        return self.until(lambda: len(self.received) >= size)


@implementer(IHalfCloseableProtocol)
class HalfActor(Actor):
    """An actor that can half-close."""

    def readConnectionLost(self) -> None:
        self.note("ended")

    def writeConnectionLost(self) -> None:
        self.note("closed")


class Writer(Actor):
    """An actor that is its transport's producer, and writes blocks as long as it is not paused, up to ``limit``."""

    block = b"0123456789abcdef" * 512

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.written = 0
        self._limit = limit
        self._paused = False

    def write_all(self) -> None:
        """Begin to write."""
        self.transport.registerProducer(self, True)
        self._write()

    def pauseProducing(self) -> None:
        self._paused = True
        if "paused" not in self.events:
            self.note("paused")

    def resumeProducing(self) -> None:
        self._paused = False
        if "resumed" not in self.events:
            self.note("resumed")
        self._write()

    def stopProducing(self) -> None:
        self.note("stopped")

    def _write(self) -> None:
        while not self._paused and self.written < self._limit:
            self.written += len(self.block)
            self.transport.write(self.block)
        if self.written >= self._limit and "all written" not in self.events:
            self.note("all written")
            self.transport.unregisterProducer()


class Datagrams(Watched, DatagramProtocol):
    """Writes down the datagrams that come, and what else happens."""

    transport: Any
    noisy = False

    def __init__(self) -> None:
        super().__init__()
        self.received: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self.events: list[str] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.received.append(datagram)
        self.sources.append(addr)
        self._look()

    def connectionRefused(self) -> None:
        self.events.append("refused")
        self._look()

    def stopProtocol(self) -> None:
        self.events.append("stopped")
        self._look()


async def connected(world: World, server: Actor, client: Actor) -> None:
    """Connect two actors, by a port that is closed at the end."""
    factory: Factory[Any] = Factory.forProtocol(lambda: server)
    factory.noisy = False
    port = world.listens(world.server.listenTCP(0, factory, interface=world.address))
    await connectProtocol(TCP4ClientEndpoint(world.client, world.address, port), client)
    await server.happened("made")
