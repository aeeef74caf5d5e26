"""Connections through a proxy: the PROXY protocol header in front of them names the client behind the proxy."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocolFactory,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from netsvc.limits.cause import Cause
from netsvc.limits.networks import NetworkRules
from netsvc.net.deadline import Deadline
from netsvc.net.stream_factory import wrapped_log_prefix
from netsvc.net.terms import Terms
from netsvc.wire.address import format_host
from netsvc.wire.proxy_header import ProxyHeaderError, ProxyHeaderParser


class ProxyProtocolFactory(WrappingFactory):
    """Reads the PROXY header of connections from a proxy. All other connections go to the wrapped factory directly.

    Twisted's own wrapper closes a connection whose header arrives in two pieces, and tells ``connectionMade`` the
    address of the proxy (twisted #8287).

    :param factory: builds the protocols, for the address of the client.
    :param proxies: the networks of the proxies. A header from any other address is data.
    :param terms: the terms of the service. The header must arrive within the handshake timeout. A connection without a
        header counts as one of ``terms.admission``.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory, proxies: NetworkRules, terms: Terms) -> None:
        super().__init__(factory)
        self.terms = terms
        self._proxies = proxies

    def logPrefix(self) -> str:
        return wrapped_log_prefix(self)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        host = getattr(addr, "host", None)
        if host is None or not self._proxies.allows(host):
            return self.wrappedFactory.buildProtocol(addr)
        if not self.terms.admission.connections.has_room_for_unknown():
            self.terms.counters.refuse(Cause.SERVER_FULL, format_host(host))
            return None
        factory: Any = self
        return ProxyProtocolConnection(factory, Protocol())

    def stopFactory(self) -> None:
        """The port is closed: abort the connections that have sent no header yet."""
        for protocol in tuple(self.protocols):
            protocol.abort_without_header()


@implementer(IHalfCloseableProtocol)
class ProxyProtocolConnection(ProtocolWrapper):
    """A connection from a proxy. It reads the header, then it is the transport of the wrapped protocol."""

    factory: ProxyProtocolFactory
    transport: Any
    wrappedProtocol: Any

    _client: IAddress | None = None
    _deadline: Deadline | None = None
    _parser: ProxyHeaderParser | None = None  # until the header is complete

    def makeConnection(self, transport: Any) -> None:
        directlyProvides(self, providedBy(transport))
        Protocol.makeConnection(self, transport)
        self.factory.registerProtocol(self)
        self._parser = ProxyHeaderParser()
        terms = self.factory.terms
        terms.admission.connections.unknown_opened()
        if terms.limits.handshake_timeout:
            self._deadline = Deadline(
                terms.clock,
                terms.monotonic,
                terms.limits.handshake_timeout,
                lambda: self._refuse(Cause.PROXY_HEADER_TIMEOUT),
            )

    def getPeer(self) -> IAddress:
        """Return the address of the client, or that of the proxy if the header names no client."""
        return self._client or self.transport.getPeer()

    def dataReceived(self, data: bytes) -> None:
        if self._parser is None:
            self.wrappedProtocol.dataReceived(data)
            return
        try:
            header = self._parser.receive(data)
        except ProxyHeaderError as e:
            self._refuse(Cause.PROXY_HEADER_INVALID, str(e))
            return
        if header is not None:
            self._begin(header.source, header.rest)

    def readConnectionLost(self) -> None:
        if self._parser is None and self._half_closes():
            self.wrappedProtocol.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        if self._half_closes():
            self.wrappedProtocol.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._header_done()
        super().connectionLost(reason)

    def abort_without_header(self) -> None:
        """Abort the connection if its header is not complete."""
        if self._parser is not None:
            self.transport.abortConnection()

    def _half_closes(self) -> bool:
        # Ask the class: Twisted's TLS claims to provide the interfaces of its transport, which in turn is this object.
        return IHalfCloseableProtocol.implementedBy(type(self.wrappedProtocol))

    def _header_done(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if self._parser is not None:
            self._parser = None
            self.factory.terms.admission.connections.unknown_closed()

    def _begin(self, client: tuple[str, int] | None, rest: bytes) -> None:
        self._header_done()
        if client is not None:
            kind = IPv6Address if ":" in client[0] else IPv4Address
            self._client = kind("TCP", *client)
        protocol = self.factory.wrappedFactory.buildProtocol(self.getPeer())
        if protocol is None:
            self.transport.abortConnection()
            return
        self.wrappedProtocol = protocol
        protocol.makeConnection(self)
        if rest:
            protocol.dataReceived(rest)

    def _refuse(self, cause: Cause, detail: str = "") -> None:
        self.factory.terms.counters.refuse(cause, format_host(self.transport.getPeer().host), detail)
        self.transport.abortConnection()
