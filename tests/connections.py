"""Connections for tests of protocols: a protocol on a transport in memory, with its clock."""

from __future__ import annotations

from typing import Any

from twisted.internet import task
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableDescriptor, ITCPTransport
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.limits.admission import Admission
from netsvc.limits.stream_limits import StreamLimits
from netsvc.net.reactors import Clock
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.net.terms import Terms


class IterationClock(task.Clock):
    """A clock on which a reactor iteration takes time."""

    def iterate(self, seconds: float = 0.0) -> None:
        """Let time pass, then make the calls that are due. Those that they schedule wait for the next iteration."""
        self.rightNow += seconds
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


@implementer(ITCPTransport, IHalfCloseableDescriptor)
class TCPTransport(StringTransport):
    """A ``StringTransport`` that can half-close, and that counts the bytes which wait for a peer that does not read.

    :ivar reads: whether the peer reads. While it does not, written bytes wait. Above 64 KiB the producer is paused, as
        in Twisted's own transports.
    """

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.1", 40_000), lenient=True)
        self.reads = True
        self.waiting = 0
        self.write_closed = False
        self.no_delay = False
        self.aborted = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if not self.reads:
            self.waiting += len(data)
            if self.waiting > 65_536 and self.producer is not None:
                self.producer.pauseProducing()

    def read_all(self) -> None:
        """Let the peer read what waits for it, and what follows."""
        self.waiting = 0
        self.reads = True
        if self.producer is not None:
            self.producer.resumeProducing()

    def loseWriteConnection(self) -> None:
        self.write_closed = True

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()

    def getTcpNoDelay(self) -> bool:
        return self.no_delay

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def readConnectionLost(self, reason: Failure) -> None: ...

    def writeConnectionLost(self, reason: Failure) -> None: ...


def terms(clock: Clock, admission: Admission | None = None, /, **limits: Any) -> Terms:
    """Return the terms of a service that accepts every connection, with the default limits except those given."""
    return Terms.on(clock, limits=StreamLimits(**limits), admission=admission or Admission.unlimited())


def connect(
    factory: StreamFactory, host: str = "192.0.2.1", transport: TCPTransport | None = None
) -> tuple[StreamProtocol, TCPTransport]:
    """Return a new connection of ``factory``, from ``host``."""
    protocol = factory.buildProtocol(IPv4Address("TCP", host, 40_000))
    assert isinstance(protocol, StreamProtocol)
    return protocol, attach(protocol, transport)


def attach(protocol: Protocol, transport: TCPTransport | None = None) -> TCPTransport:
    """Connect ``protocol`` and return its transport."""
    transport = transport or TCPTransport()
    protocol.makeConnection(transport)
    return transport


def lose(protocol: Protocol, reason: type[Exception] = ConnectionDone) -> None:
    """End the connection of ``protocol``."""
    protocol.connectionLost(Failure(reason()))


def taken(transport: StringTransport) -> bytes:
    """Return what was written since the last call."""
    written: bytes = transport.value()
    transport.clear()
    return written
