"""The peer of a stream, and the connection to it: TCP from any address, TLS with or without a certificate, or UNIX."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from click import UsageError
from OpenSSL import crypto
from twisted.internet import error
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IReactorUDP, IReactorUNIX, IStreamClientEndpoint
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.ssl import (
    Certificate,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)

from netsvc.cli.command import explain
from netsvc.cli.error_words import error_words, failure_words
from netsvc.cli.parameters import address_family
from netsvc.net.datagram_protocol import DATAGRAM_MAX
from netsvc.net.host_names import resolve
from netsvc.net.reactors import Reactor
from netsvc.wire.address import HostPort
from netsvc.wire.zones import without_zone

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

    async def connect(
        self, reactor: Reactor, where: Where, protocol: P, secure: Callable[[Any], IStreamClientEndpoint] | None = None
    ) -> P:
        """Connect ``protocol`` to ``where``. Try one address after the other if the user has chosen the family.

        :param secure: adds TLS to an endpoint.
        """
        if isinstance(where, UnixPath):
            unix = UNIXClientEndpoint(IReactorUNIX(reactor), where.path, timeout=self.timeout)
            return await _connected(secure(unix) if secure else unix, protocol)
        hosts = [where.host or ""]
        if self.family:
            hosts = await resolve(reactor, hosts[0], self.family)
        bind = (self.source or "", self.source_port) if self.local else None
        failure: Exception | None = None
        for host in hosts:
            tcp = HostnameEndpoint(reactor, host, where.port, timeout=self.timeout, bindAddress=bind)
            try:
                return await _connected(secure(tcp) if secure else tcp, protocol)
            except error.ConnectError as e:
                failure = e
        raise failure or error.DNSLookupError()

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


async def _connected(endpoint: IStreamClientEndpoint, protocol: P) -> P:
    connected: Awaitable[P] = connectProtocol(endpoint, protocol)
    return await connected


@dataclass(frozen=True)
class ClientTLS:
    """TLS for a connection that this side opens.

    :param ca: path of a PEM file with the authority to trust in place of those of the system.
    :param certificate: path of a PEM file with this side's certificate, followed by its chain.
    :param key: path of its key, which may be in the same file.
    """

    ca: str | None
    certificate: str | None
    key: str | None

    def endpoint(self, host: str) -> Callable[[Any], IStreamClientEndpoint]:
        """Return a function that adds TLS with the server ``host`` to an endpoint.

        :raises UsageError: if a file cannot be used.
        """
        trust = trustRootFromCertificates(_certificates("--ca", self.ca)) if self.ca else platformTrust()
        own, extra = None, {}
        if self.certificate:
            chain = _certificates("--cert", self.certificate)
            path = self.key or self.certificate
            try:
                key = KeyPair.load(_content("--key", path), crypto.FILETYPE_PEM)
                own = PrivateCertificate.fromCertificateAndKeyPair(chain[0], key)
            except (crypto.Error, ValueError):
                raise UsageError(
                    f"--key {path}: no PEM key without a passphrase that belongs to {self.certificate}; name its key"
                ) from None
            extra = {"extraCertChain": [one.original for one in chain[1:]]} if chain[1:] else {}
        name = without_zone(host)  # no certificate contains a zone
        options = optionsForClientTLS(name, trust, own, extraCertificateOptions=extra)
        return lambda endpoint: wrapClientTLS(options, endpoint)


def _content(flag: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1_048_576)
    except OSError as e:
        problem = failure_words(e)
        raise UsageError(f"{flag} {path}: {problem}; name a PEM file that can be read") from None


def _certificates(flag: str, path: str) -> list[Certificate]:
    end = b"-----END CERTIFICATE-----"
    pieces = [piece + end for piece in _content(flag, path).split(end)[:-1]]
    try:
        found = [Certificate.loadPEM(piece[piece.index(b"-----BEGIN CERTIFICATE-----") :]) for piece in pieces]
    except (crypto.Error, ValueError):
        found = []
    if not found:
        raise UsageError(f"{flag} {path}: the file contains no PEM certificate; name one that does")
    return found
