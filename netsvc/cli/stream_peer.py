"""The peer of a stream, and the route to it: TCP from any address and family, or a UNIX socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from click import UsageError
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IReactorUDP, IReactorUNIX, IStreamClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Protocol
from zope.interface import implementer

from netsvc.cli.client_tls import ClientTLS
from netsvc.cli.command import explain
from netsvc.cli.parameters import address_family
from netsvc.net.datagram_protocol import DATAGRAM_MAX
from netsvc.net.error_words import error_words
from netsvc.net.host_names import resolve
from netsvc.net.reactors import Clock, Reactor
from netsvc.net.server_tls import CertificateError, ServerTLS
from netsvc.wire.address import HostPort

P = TypeVar("P", bound=Protocol)


@dataclass(frozen=True)
class UnixPath:
    """The path of a UNIX socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def description(self) -> str:
        """The listening string."""
        return "unix:" + self.path.replace("\\", "\\\\").replace(":", "\\:")


Where = HostPort | UnixPath


def unix_path(where: str | None, unix: str | None) -> UnixPath | None:
    """Return the UNIX socket that ``unix`` names, or ``where`` as ``unix:PATH``; None if it is another address."""
    if unix is None and where is not None and where.startswith("unix:"):
        unix = where.removeprefix("unix:")
    if unix is None:
        return None
    if not unix:
        raise UsageError("the path is missing; write unix:/path/of/the/socket")
    if len(os.fsencode(unix)) > 107:  # sun_path, unix(7)
        raise UsageError(
            f"{unix[:64]}...: longer than the 107 bytes of the path of a UNIX socket; choose a shorter one"
        )
    return UnixPath(unix)


@dataclass(frozen=True)
class Route:
    """How to reach a peer.

    :param family: the address family; 0 for any.
    :param source: the local address; None for that of the route.
    :param source_port: the local port; 0 for a free one.
    :param timeout: seconds for each attempt to connect.
    """

    family: int
    source: str | None
    source_port: int
    timeout: float

    @classmethod
    def chosen(cls, ipv4: bool, ipv6: bool, source: str | None, source_port: int | None, timeout: float) -> Route:
        """Return the route that the options of a command describe."""
        family = address_family(ipv4, ipv6)
        if source is not None:
            of_source = socket.AF_INET6 if ":" in source else socket.AF_INET
            if family not in (0, of_source):
                raise UsageError(f"--source {source}: an address of the other family; leave out -4 or -6")
            family = of_source
        return cls(family, source, source_port or 0, timeout)

    @property
    def is_default(self) -> bool:
        """Whether the user has chosen nothing but the timeout."""
        return not self.family and self.source is None and not self.source_port

    @property
    def local(self) -> HostPort | None:
        """The local address and port; None if the user has chosen none."""
        return HostPort(self.source, self.source_port) if self.source or self.source_port else None

    async def connect(self, reactor: Reactor, where: Where, protocol: P, tls: ClientTLS | None = None) -> P:
        """Connect ``protocol`` to ``where``.

        :raises UsageError: if a file of ``tls`` cannot be used.
        """
        connected: Awaitable[P] = connectProtocol(self.endpoint(reactor, where, tls), protocol)
        return await connected

    def endpoint(self, reactor: Reactor, where: Where, tls: ClientTLS | None = None) -> IStreamClientEndpoint:
        """Return an endpoint that connects to ``where``.

        :param tls: the TLS of the connection. For a UNIX socket, the certificate is that of localhost.
        :raises UsageError: if one of its files cannot be used.
        """
        if isinstance(where, UnixPath):
            endpoint: IStreamClientEndpoint = UNIXClientEndpoint(
                IReactorUNIX(reactor), where.path, timeout=self.timeout
            )
            host = "localhost"
        else:
            endpoint, host = _RouteEndpoint(reactor, self, where), where.host or ""
        return tls.secured(endpoint, host) if tls else endpoint

    async def open_datagrams(self, reactor: Reactor, where: HostPort, make: Callable[[str], DatagramProtocol]) -> None:
        """Open a UDP port from which ``where`` can be reached.

        :param make: makes the protocol for the address of the peer.
        """
        address = (await resolve(reactor, where.host or "", self.family))[0]
        interface = self.source or ("::" if ":" in address else "")
        IReactorUDP(reactor).listenUDP(self.source_port, make(address), interface=interface, maxPacketSize=DATAGRAM_MAX)

    def explain(self, cause: BaseException, where: Where) -> str:
        """Return one line about a failure at ``where``. A mistake of the program is raised again."""
        if isinstance(where, HostPort):
            return explain(cause, where, self.local)
        number = cause.osError if isinstance(cause, error.ConnectError) else getattr(cause, "errno", None)
        if isinstance(number, int) or isinstance(cause, error.ConnectionRefusedError):
            words = error_words(number) if isinstance(number, int) else "connection refused"
            return f"{where}: {words}; name a socket on which a program listens, and that you may use"
        # The other words fit a UNIX socket as well as an address.
        return explain(cause, HostPort(None, 1)).replace("1: ", f"{where}: ", 1)


@implementer(IStreamClientEndpoint)
@dataclass(frozen=True)
class _RouteEndpoint:
    """Connects to a host by a route. If the user has chosen the family, it tries one address after the other."""

    reactor: Reactor
    route: Route
    where: HostPort

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        hosts = [self.where.host or ""]
        if self.route.family:
            hosts = await resolve(self.reactor, hosts[0], self.route.family)
        bind = (self.route.source or "", self.route.source_port) if self.route.local else None
        failure: Exception | None = None
        for host in hosts:
            tcp = HostnameEndpoint(self.reactor, host, self.where.port, timeout=self.route.timeout, bindAddress=bind)
            connected: Awaitable[IProtocol] = tcp.connect(factory)
            try:
                return await connected
            except error.ConnectError as e:
                failure = e
        raise failure or error.DNSLookupError()


def listening_tls(clock: Clock, certificate: str, key: str | None, client_ca: str | None) -> ServerTLS:
    """Return TLS for the connections that this side accepts. The parameters are those of ``ServerTLS``.

    :raises UsageError: if a file cannot be used.
    """
    try:
        return ServerTLS(clock, certificate, key or "", client_ca or "")
    except CertificateError as e:
        raise UsageError(f"{e.path}: {e}; {e.remedy}") from None
