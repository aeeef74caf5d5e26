"""Protocols that record events, so that the scenarios can compare them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.scenarios.environments import Environment


class Observable:
    """Lets a scenario wait for a condition."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Return a Deferred that fires when the condition is true. It is checked after each event of this object."""
        fulfilled: Deferred[None] = Deferred()
        self._waiting.append((condition, fulfilled))
        self._check_conditions()
        return fulfilled

    def _check_conditions(self) -> None:
        for waiting in tuple(self._waiting):
            condition, fulfilled = waiting
            if condition() and waiting in self._waiting:
                self._waiting.remove(waiting)
                fulfilled.callback(None)


class RecordingProtocol(Observable, Protocol):
    """Records its events.

    The events are ``connected``, ``read closed``, ``write closed``, and ``lost`` with the reason. A producer also
    records ``paused``, ``resumed``, ``stopped`` and ``all written``.

    :ivar events: the events in their order.
    :ivar received: all received bytes.
    :ivar lost: fires when the connection is lost.
    """

    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.received = bytearray()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.record("connected")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._check_conditions()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.record(f"lost: {type(reason.value).__name__}")
        self.lost.callback(None)

    def record(self, event: str) -> None:
        """Record an event."""
        self.events.append(event)
        self._check_conditions()

    def happened(self, event: str) -> Deferred[None]:
        """Return a Deferred that fires when the event has happened."""
        return self.until(lambda: event in self.events)

    def has_received(self, size: int) -> Deferred[None]:
        """Return a Deferred that fires when this many bytes have been received."""
        return self.until(lambda: len(self.received) >= size)


@implementer(IHalfCloseableProtocol)
class HalfCloseProtocol(RecordingProtocol):
    """A recording protocol that supports half-close."""

    def readConnectionLost(self) -> None:
        self.record("read closed")

    def writeConnectionLost(self) -> None:
        self.record("write closed")


class Writer(RecordingProtocol):
    """A recording protocol that is a push producer. While it is not paused, it writes blocks, up to ``limit`` bytes."""

    block = b"0123456789abcdef" * 512

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.written = 0
        self._limit = limit
        self._paused = False

    def write_all(self) -> None:
        """Start to write."""
        self.transport.registerProducer(self, True)
        self._write()

    def pauseProducing(self) -> None:
        self._paused = True
        if "paused" not in self.events:
            self.record("paused")

    def resumeProducing(self) -> None:
        self._paused = False
        if "resumed" not in self.events:
            self.record("resumed")
        self._write()

    def stopProducing(self) -> None:
        self.record("stopped")

    def _write(self) -> None:
        while not self._paused and self.written < self._limit:
            self.written += len(self.block)
            self.transport.write(self.block)
        if self.written >= self._limit and "all written" not in self.events:
            self.record("all written")
            self.transport.unregisterProducer()


class RecordingDatagramProtocol(Observable, DatagramProtocol):
    """Records the received datagrams, their sources and its events."""

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
        self._check_conditions()

    def connectionRefused(self) -> None:
        self.events.append("refused")
        self._check_conditions()

    def stopProtocol(self) -> None:
        self.events.append("stopped")
        self._check_conditions()


async def connect_pair(environment: Environment, server: RecordingProtocol, client: RecordingProtocol) -> None:
    """Connect two protocols through a TCP port. The port is closed at the end of the scenario."""
    factory: Factory[Any] = Factory.forProtocol(lambda: server)
    factory.noisy = False
    port = environment.close_at_end(environment.server.listenTCP(0, factory, interface=environment.address))
    await connectProtocol(TCP4ClientEndpoint(environment.client, environment.address, port), client)
    await server.happened("connected")
