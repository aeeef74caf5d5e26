"""Connections that a proxy passes on: who really connected counts, by the header that the proxy puts before them."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from netsvc.limits.admission import Connections
from netsvc.limits.networks import Networks
from netsvc.net.counters import Counts
from netsvc.net.timer import cancel
from netsvc.wire.proxy_header import ProxyError, ProxyReader


class ProxiedFactory(WrappingFactory):
    """Reads the PROXY header of connections from a proxy; all others are the wrapped factory's own.

    Twisted's own wrapper for it closes on a header in two pieces, and tells ``connectionMade`` of the proxy (#8287).

    :param factory: builds the protocols, for the address of who really connected.
    :param proxies: the networks of the proxies. A header from anybody else is data like any other.
    :param clock: a reactor, or a ``Clock`` in a test.
    :param timeout: seconds for the header to arrive; 0 for no limit.
    :param counts: where connections without a header are counted.
    :param connections: all that there are; one that has no header yet is one of them.
    """

    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory,
        proxies: Networks,
        clock: IReactorTime,
        timeout: float,
        counts: Counts,
        connections: Connections | None = None,
    ) -> None:
        super().__init__(factory)
        self.connections = Connections() if connections is None else connections
        self.clock = clock
        self.timeout = timeout
        self.counts = counts
        self._proxies = proxies

    def buildProtocol(self, addr: IAddress | None) -> Any:
        host = getattr(addr, "host", None)
        if host is None or not self._proxies.allows(host):
            return self.wrappedFactory.buildProtocol(addr)
        refusal = self.connections.refusal(None)
        if refusal is not None:
            self.counts.refuse(refusal, host)
            return None
        factory: Any = self
        return Proxied(factory, Protocol())

    def stopFactory(self) -> None:
        """The port is closed: nobody is left who could serve those that still have no header."""
        for protocol in tuple(self.protocols):
            protocol.give_up()


@implementer(IHalfCloseableProtocol)
class Proxied(ProtocolWrapper):
    """A connection from a proxy: at first a header, then the wrapped protocol's, whose transport this is."""

    factory: ProxiedFactory
    transport: Any
    wrappedProtocol: Any

    _peer: IAddress | None = None
    _timer: IDelayedCall | None = None
    _reader: ProxyReader | None = None  # until the header is there

    def makeConnection(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self._reader = ProxyReader()
        self.factory.connections.enter(None)
        if self.factory.timeout:
            self._timer = self.factory.clock.callLater(self.factory.timeout, self._refuse, "no PROXY header in time")

    def getPeer(self) -> IAddress:
        """Return who really connected; the proxy, where it did not say."""
        return self._peer or self.transport.getPeer()

    def dataReceived(self, data: bytes) -> None:
        if self._reader is None:
            self.wrappedProtocol.dataReceived(data)
            return
        try:
            proxied = self._reader.receive(data)
        except ProxyError as e:
            self._refuse(str(e))
            return
        if proxied is not None:
            self._begin(proxied.source, proxied.rest)

    def readConnectionLost(self) -> None:
        if self._reader is None and self._half_closes():
            self.wrappedProtocol.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        if self._half_closes():
            self.wrappedProtocol.writeConnectionLost()

    def _half_closes(self) -> bool:
        # By its class: Twisted's TLS claims to provide whatever its transport does, and asks that in turn.
        return IHalfCloseableProtocol.implementedBy(type(self.wrappedProtocol))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._wait_no_more()
        super().connectionLost(reason)

    def give_up(self) -> None:
        """Close if there is no header yet."""
        if self._reader is not None:
            self.transport.abortConnection()

    def _wait_no_more(self) -> None:
        cancel(self._timer)
        if self._reader is not None:
            self._reader = None
            self.factory.connections.leave(None)

    def _begin(self, source: tuple[str, int] | None, rest: bytes) -> None:
        self._wait_no_more()
        if source is not None:
            kind = IPv6Address if ":" in source[0] else IPv4Address
            self._peer = kind("TCP", *source)
        protocol = self.factory.wrappedFactory.buildProtocol(self.getPeer())
        if protocol is None:
            self.transport.abortConnection()
            return
        self.wrappedProtocol = protocol
        protocol.makeConnection(self)
        if rest:
            protocol.dataReceived(rest)

    def _refuse(self, problem: str) -> None:
        self.factory.counts.refuse(problem, self.transport.getPeer().host)
        self.transport.abortConnection()
