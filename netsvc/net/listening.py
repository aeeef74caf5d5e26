"""Listening as people write it (``1314``, ``127.0.0.1:1314``, ``ssl:...``), on ports that close and open again."""

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
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred, DeferredList, execute, maybeDeferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure

from netsvc.errors import ConfigError, ListenError
from netsvc.net.datagram_protocol import DATAGRAM_MAX
from netsvc.net.udp_port import adopt_to_ask, listen_to_ask
from netsvc.wire.address import AddressError, HostPort, is_ip, parse_address, show

#: Connections that the kernel accepts for us while we are busy. With Twisted's 50, 1,000 connects took 18 s.
BACKLOG = 1024

_FORMS = "write PORT, ADDRESS:PORT, [IPV6]:PORT, or a Twisted endpoint description"
_DATAGRAM_FORMS = "write PORT, ADDRESS:PORT, [IPV6]:PORT, udp:PORT:interface=ADDRESS, or systemd:domain=INET6:name=NAME"
_NOT_INHERITED = "systemd handed over no such socket"
_SOCKET_UNIT = "compare ListenDatagram=, ListenStream= and FileDescriptorName= in the socket unit"
_REMEDIES = {
    errno.EADDRINUSE: (
        "in use already",
        "stop the program that has it (ss -tulpn shows which), or choose another",
    ),
    errno.EACCES: (
        "permission denied; ports below 1024 are reserved",
        "choose a port above 1023, let systemd open the socket (systemd:domain=INET6:name=NAME), "
        "or start as root with twistd --uid, or with CAP_NET_BIND_SERVICE",
    ),
    errno.EADDRNOTAVAIL: ("this host has no such address", "netsvc lookup lists the addresses it has"),
}

#: Kinds of endpoints that give a connection to the factory itself, and to no wrapper of Twisted's.
_BARE = ("tcp", "tcp4", "tcp6", "unix", "systemd")

#: Where descriptions have their backlog if they do not name it; systemd's sockets have had it since they opened.
_BACKLOG_AT = {"tcp": 3, "tcp4": 3, "tcp6": 3, "unix": 3, "tls": 3, "ssl": 6, "systemd": 0}

Opener = Callable[[], Deferred[list[IListeningPort]]]


class Listener(Service):
    """The ports of one listening string. It can be started again after it stopped.

    Starting raises :class:`ListenError` if the system refuses a port; then none of them is left open.
    ``privilegedStartService`` opens the ports before ``twistd`` gives up root.

    :param setting: the setting that asked for it, for error messages.
    :param text: the listening string, likewise.
    :param openers: open the ports.
    :param send_buffer: bytes that the kernel may queue for each connection, which is doubled by Linux; 0 leaves
        it to the kernel, which queues some 2 MiB for a peer that does not read before anybody notices.
    """

    log = Logger()

    def __init__(self, setting: str, text: str, openers: Sequence[Opener], send_buffer: int = 0) -> None:
        self._setting = setting
        self._text = text
        self._openers = openers
        self._send_buffer = send_buffer
        self._ports: list[IListeningPort] = []
        self._stopped = True
        self._opening: list[Deferred[Any]] = []

    def addresses(self) -> list[IAddress]:
        """Return where it listens now, with the port numbers that the system chose for 0."""
        return [port.getHost() for port in self._ports]

    def where(self) -> str:
        """Return where it listens now, as it would be typed."""
        return ", ".join(
            show(at.host, at.port) if isinstance(at, IPv4Address | IPv6Address) else str(at) for at in self.addresses()
        )

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
        ports, self._ports = self._ports, []
        return _all(maybeDeferred(port.stopListening) for port in ports)

    def _open(self) -> None:
        self._stopped = False
        for opener in self._openers:
            opened = opener().addCallback(self._opened)
            self._opening.append(opened)
            if isinstance(opened.result if opened.called else None, Failure):
                refusal: list[Failure] = []
                opened.addErrback(refusal.append)
                self.stopService()
                self._refuse(refusal[0])
            opened.addErrback(self._failed_late)

    def _opened(self, ports: list[IListeningPort]) -> None:
        if self._stopped:  # an endpoint that took its time and cannot be cancelled
            for port in ports:
                port.stopListening()
            return
        self._ports += ports
        for port in ports:
            listening = getattr(port, "socket", None)
            if self._send_buffer and listening is not None:  # accepted connections inherit it
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer)
        self.log.info(
            "{setting} {text}: listening on {where}",
            setting=self._setting,
            text=self._text,
            where=self.where(),
        )

    def _failed_late(self, failure: Failure) -> None:
        """An endpoint that took its time has failed: too late for anybody's exception."""
        if not failure.check(CancelledError):
            self.log.failure("{setting} {text}", failure, setting=self._setting, text=self._text)

    def _refuse(self, failure: Failure) -> None:
        cause = failure.value
        error = cause.socketError if isinstance(cause, CannotListenError) else cause
        if isinstance(error, str):  # of a UNIX socket: its lock is held
            error = OSError(errno.EADDRINUSE, "in use already")
        if not isinstance(error, OSError | OverflowError | CannotListenError):
            failure.raiseException()
        problem = (getattr(error, "strerror", None) or str(error)).lower().rstrip(".")
        remedy = "choose another address"
        if self._text.startswith("unix:"):
            remedy = "choose a path in a directory that exists and may be written to, where nothing else is"
        elif isinstance(error, OSError) and error.errno in _REMEDIES:
            problem, remedy = _REMEDIES[error.errno]
        raise ListenError(self._setting, self._text, problem, remedy) from cause


def stream_listener(
    reactor: Any,
    setting: str,
    text: str,
    factory: IProtocolFactory,
    send_buffer: int = 0,
    wrap: Callable[[IProtocolFactory], IProtocolFactory] | None = None,
) -> Listener:
    """Return what listens for ``factory`` on the streams that ``text`` describes.

    :param send_buffer: see :class:`Listener`.
    :param wrap: puts something before the factory, TLS say; ``ssl:`` and ``tls:`` speak for themselves.
    :raises ConfigError: for a text that describes none, a key file that cannot be read included.
    """
    where = _address(setting, text)
    kind = text.partition(":")[0] if where is None else ""
    if wrap is not None and kind not in ("ssl", "tls"):
        factory = wrap(factory)
    if where is None:
        endpoint = _endpoint(reactor, setting, text)
        never_none = factory if kind in _BARE else _NeverNone(factory)
        opener = partial(_listen, endpoint, never_none, 0 if _says_backlog(text) else BACKLOG)
        return Listener(setting, text, [opener], send_buffer)
    open_on = partial(reactor.listenTCP, where.port, factory, BACKLOG)
    return Listener(setting, text, [partial(execute, _open_at, where, open_on)], send_buffer)


class _NeverNone(WrappingFactory):
    """Closes whom the wrapped factory refuses. Twisted's own wrappers would make a connection of nothing instead."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.wrappedFactory.buildProtocol(addr)
        return _Refused() if protocol is None else protocol


class _Refused(Protocol):
    """Closes at once."""

    transport: Any

    def connectionMade(self) -> None:
        self.transport.abortConnection()


def datagram_listener(
    reactor: Any, setting: str, text: str, protocol: Callable[[], DatagramProtocol], max_size: int = 0
) -> Listener:
    """Return what listens with one protocol for each datagram port that ``text`` describes.

    :param max_size: bytes of the longest datagram that is of interest; 0 for all. Of a longer one, one byte more
        than this is delivered, so that the protocol can tell.
    :raises ConfigError: for a text that describes none.
    """
    packet = max_size + 1 if max_size else DATAGRAM_MAX
    kind, _, rest = text.partition(":")
    if kind == "systemd":
        inherited = _inherited_datagram_socket(setting, text, rest)
        return Listener(setting, text, [partial(execute, _adopt, reactor, inherited, protocol(), packet)])
    where = _described_port(setting, text, rest) if kind == "udp" else _address(setting, text)
    if where is None:
        raise ConfigError(setting, text, f"{kind!r} is neither an address nor udp nor systemd", _DATAGRAM_FORMS)
    number = where.port

    def open_on(interface: str) -> IListeningPort:
        return listen_to_ask(reactor, number, protocol(), interface, packet)

    return Listener(setting, text, [partial(execute, _open_at, where, open_on)])


def _says_backlog(text: str) -> bool:
    """Whether a listening string says itself how many connections may wait."""
    fields = _fields(text)
    unnamed = [value for name, value in fields if not name]
    return any(name == "backlog" for name, _ in fields) or len(unnamed) > _BACKLOG_AT.get(unnamed[0], len(unnamed))


def _all(deferreds: Iterable[Deferred[Any]]) -> Deferred[None]:
    gathered: Deferred[None] = DeferredList(list(deferreds), consumeErrors=True).addCallback(lambda _: None)
    return gathered


def _address(setting: str, text: str) -> HostPort | None:
    """Return the address that ``text`` is, or None where it may be a description of something else."""
    try:
        where = parse_address(text)
    except AddressError as e:
        if re.match(r"[a-z]\w*:", text):
            return None
        raise ConfigError(setting, text or "''", str(e), _FORMS) from None
    return where if where.host is None or is_ip(where.host) else None


def _open_at(where: HostPort, open_on: Callable[[str], IListeningPort]) -> list[IListeningPort]:
    """Open the address that was asked for, or all of the host, IPv4 and IPv6."""
    if where.host is not None:
        return [open_on(where.host)]
    try:
        port = open_on("::")
    except CannotListenError as e:
        if getattr(e.socketError, "errno", 0) not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return [open_on("0.0.0.0")]  # a host without IPv6
    # As a rule a socket on :: takes IPv4 as well. Port 0 would become two different ports.
    handle = getattr(port, "socket", None)
    if handle is None or not where.port or not handle.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return [port]
    try:
        return [port, open_on("0.0.0.0")]
    except CannotListenError:
        port.stopListening()
        raise


def _endpoint(reactor: Any, setting: str, text: str) -> IStreamServerEndpoint:
    match _fields(text):
        case [("", "unix"), ("", "") | ("mode" | "backlog" | "lockfile", _), *_] | [("", "unix")]:
            raise ConfigError(setting, text, "the path is missing", "write unix:/path/of/the/socket")
        case [("", "haproxy"), *_]:
            problem = "Twisted's own believes anybody's header, and closes on one in two pieces"
            raise ConfigError(
                setting, text, problem, "leave haproxy: out; --tcp and --chat take such headers with --proxy-from"
            )
        case [("", "tls"), ("", directory), *_] if not any(Path(directory).glob("*.pem")):
            # Twisted would listen, and fail every handshake.
            problem = f"no file {directory}/*.pem"
            raise ConfigError(setting, text, problem, "name a directory with a key and certificate, HOST.pem")
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, text)
    except OSError as e:
        problem = f"cannot read {e.filename!r}: {(e.strerror or str(e)).lower()}"
        raise ConfigError(setting, text, problem, "name a file that exists and may be read") from e
    except (KeyError, IndexError) as e:
        raise ConfigError(setting, text, _NOT_INHERITED, _SOCKET_UNIT) from e
    except Exception as e:
        # Whatever else the parser of an endpoint raises, in Twisted or a plugin, is about this description.
        problem, remedy = str(e).partition("\n")[0] or type(e).__name__, _FORMS
        if unknown := re.fullmatch("Unknown endpoint type: (.*)", problem):
            problem = f"{unknown[1]} is neither an IP address nor a kind of endpoint"
        elif type(e).__module__.startswith("OpenSSL"):
            problem, remedy = "OpenSSL cannot use the key or certificate", "name PEM files that belong together"
        problem = re.sub(r"^_?\w+\(\) ", "", problem)
        raise ConfigError(setting, text, problem, remedy) from e
    return endpoint


def _listen(endpoint: IStreamServerEndpoint, factory: IProtocolFactory, backlog: int) -> Deferred[list[IListeningPort]]:
    """Open an endpoint's port. No backlog: its own."""
    if isinstance(endpoint, AdoptedStreamServerEndpoint):
        # It closes systemd's descriptor once it has its copy; without one more the next start finds nothing.
        endpoint = AdoptedStreamServerEndpoint(endpoint.reactor, os.dup(endpoint.fileno), endpoint.addressFamily)

    def opened(port: IListeningPort) -> list[IListeningPort]:
        listening = getattr(port, "socket", None)
        if backlog and isinstance(listening, socket.socket):
            listening.listen(backlog)  # once more, which changes the 50 that Twisted's endpoints ask for
        return [port]

    return maybeDeferred(endpoint.listen, factory).addCallback(opened)


def _adopt(reactor: Any, inherited: socket.socket, protocol: DatagramProtocol, packet: int) -> list[IListeningPort]:
    """Listen on a copy of a socket, which stays open for the next start."""
    return [adopt_to_ask(reactor, inherited, protocol, packet)]


def _fields(description: str) -> list[tuple[str, str]]:
    """Split ``a:b=c`` into [("", "a"), ("b", "c")]; a backslash takes a colon's meaning away, as in Twisted's own."""
    parts = [part.replace("\\", "") for part in re.split(r"(?<!\\):", description)]
    return [("", part) if "=" not in part else (part.partition("=")[0], part.partition("=")[2]) for part in parts]


def _described_port(setting: str, text: str, description: str) -> HostPort:
    """Parse what follows ``udp:``, that is ``PORT`` or ``PORT:interface=ADDRESS``."""
    match _fields(description):
        case [("", port)]:
            where = _address(setting, port)
        case [("", port), ("interface", host)] if is_ip(host):
            where = _address(setting, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        case _:
            where = None
    if where is None:
        raise ConfigError(setting, text, "not a description of a datagram port", _DATAGRAM_FORMS)
    return where


def _inherited_datagram_socket(setting: str, text: str, description: str) -> socket.socket:
    """Return the datagram socket that systemd handed over and that ``domain=INET6:name=NAME`` names.

    Importing ``twisted.internet.endpoints`` has by now consumed LISTEN_FDS and LISTEN_PID; the names stay. The
    first descriptor is 3 (sd_listen_fds(3)).
    """
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    match _fields(description):
        case [("domain", domain), ("name", name)] if domain in ("INET", "INET6"):
            index = names.index(name) if name in names else None
        case [("domain", domain), ("index", number)] if domain in ("INET", "INET6") and number.isdecimal():
            index = int(number) if int(number) < len(names) else None
        case _:
            raise ConfigError(setting, text, "not a description of an inherited socket", _DATAGRAM_FORMS)
    if index is None or not names[index]:
        raise ConfigError(setting, text, _NOT_INHERITED, _SOCKET_UNIT)
    try:
        inherited = socket.socket(fileno=os.dup(3 + index))
    except OSError as e:
        raise ConfigError(setting, text, _NOT_INHERITED, _SOCKET_UNIT) from e
    family = socket.AF_INET if domain == "INET" else socket.AF_INET6
    if inherited.type != socket.SOCK_DGRAM or inherited.family != family:
        inherited.close()
        raise ConfigError(setting, text, f"the socket is not a datagram socket of {domain}", _SOCKET_UNIT)
    inherited.setblocking(False)  # systemd's is blocking, and would stop the reactor
    return inherited
