"""Services that open ports: they listen where a listening string says, and can be stopped and started again."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, DeferredList, execute, maybeDeferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Protocol
from twisted.logger import Logger, LogLevel
from twisted.protocols.policies import WrappingFactory
from twisted.python import context, log
from twisted.python.failure import Failure

from netsvc.errors import ConfigError, ListenError
from netsvc.limits.stream_limits import StreamLimits
from netsvc.net.datagram_protocol import DATAGRAM_MAX, DatagramService
from netsvc.net.error_words import failure_words
from netsvc.net.kernel_buffers import bound_kernel_buffers
from netsvc.net.reactors import Reactor
from netsvc.net.stream_factory import wrapped_log_prefix
from netsvc.net.tcp_keepalive import keep_alive
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import KernelUdpSocket, open_udp_socket
from netsvc.wire.address import HostPort, format_address
from netsvc.wire.datagram import UdpSocket
from netsvc.wire.listening_string import (
    EndpointDescription,
    InheritedSocket,
    ListeningStringError,
    parse_datagram,
    parse_stream,
)

#: Connections that the kernel accepts before this process does. With Twisted's 50, 1,000 connects took 18 s.
BACKLOG = 1024

_NOT_INHERITED = "systemd passed no such socket"
_SOCKET_UNIT = "compare ListenDatagram=, ListenStream= and FileDescriptorName= in the socket unit"
_NO_INTERFACE = ("this host has no such interface", "netsvc lookup lists the interfaces of this host")
_REMEDIES = {
    errno.EADDRINUSE: (
        "already in use",
        "stop the program that uses it (ss -tulpn shows which), or choose another port",
    ),
    errno.EACCES: (
        "permission denied; ports below 1024 are reserved",
        "choose a port above 1023, let systemd open the socket (systemd:domain=INET6:name=NAME), "
        "or start as root with twistd --uid, or with CAP_NET_BIND_SERVICE",
    ),
    errno.EADDRNOTAVAIL: ("this host has no such address", "netsvc lookup lists the addresses of this host"),
    errno.EINVAL: ("invalid argument", "a link-local address needs its interface, as in [fe80::1%eth0]:1314"),
    errno.ENODEV: _NO_INTERFACE,
    socket.EAI_NONAME: _NO_INTERFACE,  # of Twisted, for an address with such a zone
}

#: Kinds of endpoints that pass a connection to the factory itself, not to a wrapper of Twisted's.
_UNWRAPPED = ("tcp", "tcp4", "tcp6", "unix", "systemd")

Opener = Callable[[], Deferred[list[IListeningPort]]]


class Listener(Service):
    """The ports of one listening string. It can be started again after a stop.

    Starting raises :class:`ListenError` if the system refuses a port; then no port is left open.
    ``privilegedStartService`` opens the ports before ``twistd`` gives up root.

    :param setting: the setting that holds the listening string, for error messages and the log.
    :param text: the listening string.
    :param openers: open the ports.
    :param limits: of each connection. They bound what the kernel keeps for it (:mod:`netsvc.net.kernel_buffers`).
    """

    log = Logger()

    def __init__(self, setting: str, text: str, openers: Sequence[Opener], limits: StreamLimits | None = None) -> None:
        self._setting = setting
        self._text = text
        self._openers = openers
        self._limits = StreamLimits() if limits is None else limits
        self.ports: list[IListeningPort] = []
        self._stopped = True
        self._opening: list[Deferred[Any]] = []

    def addresses(self) -> list[IAddress]:
        """Return the local addresses, with the port numbers that the system chose for port 0."""
        return [port.getHost() for port in self.ports]

    def where(self) -> str:
        """Return the local addresses as they would be typed."""
        return ", ".join(map(_format_local, self.addresses()))

    @property
    def is_open(self) -> bool:
        """Whether every port is open. The reactor closes a port whose system calls fail."""
        return bool(self.ports) and all(_is_open(port) for port in self.ports)

    def privilegedStartService(self) -> None:
        super().privilegedStartService()
        self._open()

    def startService(self) -> None:
        if not self._opening:
            self._open()
        super().startService()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        self._stopped = True
        for opening in self._opening:
            opening.cancel()
        self._opening = []
        ports, self.ports = self.ports, []
        return _all(maybeDeferred(port.stopListening) for port in ports)

    def _open(self) -> None:
        self._stopped = False
        for opener in self._openers:
            opened: Deferred[Any] = opener().addCallback(self._opened)
            self._opening.append(opened)
            if isinstance(opened.result if opened.called else None, Failure):
                refusal: list[Failure] = []
                opened.addErrback(refusal.append)
                self.stopService()
                self._refuse(refusal[0])
            opened.addErrback(self._failed_late)

    def _opened(self, ports: list[IListeningPort]) -> None:
        if self._stopped:  # the endpoint was slow and could not be cancelled
            for port in ports:
                port.stopListening()
            return
        self.ports += ports
        for port in ports:
            listening = getattr(port, "socket", None)
            if isinstance(listening, socket.socket) and listening.type == socket.SOCK_STREAM:
                bound_kernel_buffers(listening, self._limits)
            if hasattr(listening, "setsockopt"):
                keep_alive(listening)
        service = f"{self._setting}: " if self._setting else ""
        self.log.info("{service}listening on {where}", service=service, where=self.where())

    def _failed_late(self, failure: Failure) -> None:
        """A slow endpoint has failed: the caller of ``startService`` cannot get the exception any more."""
        if not failure.check(CancelledError):
            self.log.failure("{setting} {text}", failure, setting=self._setting, text=self._text)

    def _refuse(self, failure: Failure) -> None:
        cause = failure.value
        error = cause.socketError if isinstance(cause, CannotListenError) else cause
        if isinstance(error, str):  # of a UNIX socket whose lock is held
            error = OSError(errno.EADDRINUSE, "already in use")
        if not isinstance(error, OSError | OverflowError | CannotListenError):
            failure.raiseException()
        problem = (getattr(error, "strerror", None) or str(error)).lower().rstrip(".")
        remedy = "choose another address"
        if self._text.startswith("unix:"):
            remedy = "choose a path that does not exist yet, in a directory that exists and that you may write to"
        elif isinstance(error, OSError) and error.errno in _REMEDIES:
            problem, remedy = _REMEDIES[error.errno]
        raise ListenError(self._setting, self._text, problem, remedy) from cause


def stream_listener(
    reactor: Reactor,
    setting: str,
    text: str,
    factory: IProtocolFactory,
    limits: StreamLimits | None = None,
    wrap: Callable[[IProtocolFactory], IProtocolFactory] | None = None,
) -> Listener:
    """Return a listener that passes the streams of the listening string ``text`` to ``factory``.

    :param limits: see :class:`Listener`.
    :param wrap: wraps the factory, in TLS for example. Not for ``ssl:`` and ``tls:``, which have TLS of their own.
    :raises ConfigError: for a text that is not a listening string, or that names a file that cannot be read.
    """
    try:
        where = parse_stream(text)
    except ListeningStringError as e:
        raise ConfigError(setting, text or "''", e.problem, e.remedy) from None
    kind = where.kind if isinstance(where, EndpointDescription) else ""
    if wrap is not None and kind not in ("ssl", "tls"):
        factory = wrap(factory)
    if isinstance(where, EndpointDescription):
        endpoint = _endpoint(reactor, setting, where)
        wrapped = factory if kind in _UNWRAPPED else _AbortRefused(factory)
        opener = partial(_listen, endpoint, wrapped, 0 if where.sets_backlog else BACKLOG)
        return Listener(setting, text, [opener], limits)
    open_on = partial(_quietly, reactor.listenTCP, where.port, factory, BACKLOG)
    return Listener(setting, text, [partial(execute, _open_addresses, where, open_on)], limits)


def _is_open(port: Any) -> bool:
    return not hasattr(port, "fileno") or port.fileno() != -1


def _format_local(address: Any) -> str:
    """Return a local address as it would be typed."""
    if isinstance(address, UNIXAddress):
        return f"unix:{os.fsdecode(address.name or b'')}"
    return format_address(address.host, address.port)


class _AbortRefused(WrappingFactory):
    """Aborts a connection that the wrapped factory refuses. Twisted's own wrappers would wrap None instead."""

    noisy = False

    def logPrefix(self) -> str:
        return wrapped_log_prefix(self)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        return _Abort() if protocol is None else protocol


class _Abort(Protocol):
    """Aborts at once."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.abortConnection()


def datagram_listener(
    reactor: Reactor,
    setting: str,
    text: str,
    service: Callable[[], DatagramService],
    max_size: int = 0,
    *,
    metadata: bool = False,
) -> Listener:
    """Return a listener with one service for each datagram port of the listening string ``text``.

    :param service: makes a service for each port.
    :param max_size: bytes of the longest datagram that the service processes; 0 for all. Of a longer one the service
        gets one byte more than this, so that it can tell.
    :param metadata: whether each datagram carries its kernel time, TTL and traffic class (Linux).
    :raises ConfigError: for a text that is not a listening string.
    """
    try:
        where = parse_datagram(text)
    except ListeningStringError as e:
        raise ConfigError(setting, text or "''", e.problem, e.remedy) from None
    size = max_size + 1 if max_size else DATAGRAM_MAX

    def listen(udp_socket: UdpSocket) -> IListeningPort:
        port = UdpPort(reactor, service(), udp_socket)
        port.startListening()
        return port

    if isinstance(where, InheritedSocket):
        inherited = _inherited_socket(setting, text, where)
        # A copy: the inherited socket itself stays open for the next start.
        opener = partial(execute, lambda: [listen(KernelUdpSocket(inherited.dup(), size, metadata=metadata))])
    else:
        number = where.port

        def open_on(address: str) -> IListeningPort:
            return listen(open_udp_socket(reactor, address, number, size, metadata=metadata))

        opener = partial(execute, _open_addresses, where, open_on)
    return Listener(setting, text, [opener])


def _quietly(open_port: Callable[..., IListeningPort], *args: Any) -> IListeningPort:
    """Open a port of Twisted's, whose own log line goes to the debug level: :class:`Listener` logs the address."""
    quiet = {log.ILogContext: {"isError": 0, "system": "-", "log_level": LogLevel.debug}}
    port: IListeningPort = context.call(quiet, open_port, *args)
    return port


def _all(deferreds: Iterable[Deferred[Any]]) -> Deferred[None]:
    gathered: Deferred[None] = DeferredList(list(deferreds), consumeErrors=True).addCallback(lambda _: None)
    return gathered


def _open_addresses(where: HostPort, open_on: Callable[[str], IListeningPort]) -> list[IListeningPort]:
    """Open the address that is named, or all addresses of the host, IPv4 and IPv6."""
    if where.host is not None:
        return [open_on(where.host)]
    try:
        port = open_on("::")
    except CannotListenError as e:
        if getattr(e.socketError, "errno", 0) not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return [open_on("0.0.0.0")]  # a host without IPv6
    # Usually a socket on :: accepts IPv4 as well. If it does not, port 0 would become two different ports.
    handle: Any = getattr(port, "socket", None)
    get_option = getattr(handle, "getsockopt", None)
    if get_option is None or not where.port or not get_option(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return [port]
    try:
        return [port, open_on("0.0.0.0")]
    except CannotListenError:
        port.stopListening()
        raise


def _endpoint(reactor: Reactor, setting: str, where: EndpointDescription) -> IStreamServerEndpoint:
    text = where.text
    if where.directory is not None and not any(Path(where.directory).glob("*.pem")):
        # Twisted would listen, and every handshake would fail.
        problem = f"no file {where.directory}/*.pem"
        raise ConfigError(setting, text, problem, "name a directory with a key and certificate, HOST.pem")
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, text)
    except OSError as e:
        problem = f"cannot read {e.filename!r}: {failure_words(e)}"
        raise ConfigError(setting, text, problem, "name a file that exists and that you may read") from e
    except (KeyError, IndexError) as e:
        raise ConfigError(setting, text, _NOT_INHERITED, _SOCKET_UNIT) from e
    except Exception as e:
        # Any other exception of an endpoint's parser, in Twisted or in a plugin, is about this description.
        problem, remedy = str(e).partition("\n")[0] or type(e).__name__, "compare Twisted's documentation of endpoints"
        if unknown := re.fullmatch("Unknown endpoint type: (.*)", problem):
            problem = f"{unknown[1]} is neither an IP address nor a kind of endpoint"
            remedy = "write PORT, ADDRESS:PORT, [IPV6]:PORT, or a Twisted endpoint description"
        elif type(e).__module__.startswith("OpenSSL"):
            problem, remedy = "OpenSSL cannot use the key or certificate", "name PEM files that belong together"
        problem = re.sub(r"^_?\w+\(\) ", "", problem)
        raise ConfigError(setting, text, problem, remedy) from e
    return endpoint


def _listen(endpoint: IStreamServerEndpoint, factory: IProtocolFactory, backlog: int) -> Deferred[list[IListeningPort]]:
    """Open the port of an endpoint. A backlog of 0 leaves the endpoint's own."""
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        # It closes systemd's descriptor once it has its copy. Without one more copy the next start finds nothing.
        endpoint = AdoptedStreamServerEndpoint(endpoint.reactor, os.dup(endpoint.fileno), endpoint.addressFamily)

    def opened(port: IListeningPort) -> list[IListeningPort]:
        listening = getattr(port, "socket", None)
        if backlog and isinstance(listening, socket.socket):
            listening.listen(backlog)  # again: this changes the 50 of Twisted's endpoints
        return [port]

    return maybeDeferred(endpoint.listen, factory).addCallback(opened)


def _inherited_socket(setting: str, text: str, where: InheritedSocket) -> socket.socket:
    """Return a copy of the datagram socket that systemd passed to this process.

    The import of ``twisted.internet.endpoints`` has by now consumed LISTEN_FDS and LISTEN_PID; the names are left. The
    first descriptor is 3 (sd_listen_fds(3)).
    """
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    index = where.index if where.name is None else (names.index(where.name) if where.name in names else None)
    if index is None or index >= len(names) or not names[index]:
        raise ConfigError(setting, text, _NOT_INHERITED, _SOCKET_UNIT)
    try:
        inherited = socket.socket(fileno=os.dup(3 + index))
    except OSError as e:
        raise ConfigError(setting, text, _NOT_INHERITED, _SOCKET_UNIT) from e
    family = socket.AF_INET if where.domain == "INET" else socket.AF_INET6
    if inherited.type != socket.SOCK_DGRAM or inherited.family != family:
        inherited.close()
        raise ConfigError(setting, text, f"the socket is not a datagram socket of {where.domain}", _SOCKET_UNIT)
    return inherited
