"""Twisted's own ports and connections, on the sockets of a simulated host.

Tests therefore run Twisted's real code: its buffers, producers, half-close and reasons of connection loss. Only the
kernel is simulated.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.internet import error, tcp, udp, unix
from twisted.internet.base import BaseConnector
from twisted.python import log

from netsvc.testing.datagram_socket import DatagramSocket
from netsvc.testing.stack import Stack, os_error
from netsvc.testing.stream_socket import StreamSocket


class _SimulatedSocketMixin:
    """Creates the socket of a transport on the simulated stack of its reactor."""

    reactor: Any
    addressFamily: Any
    socketType: Any

    def createInternetSocket(self) -> Any:
        stack: Stack = self.reactor.stack
        if self.addressFamily == socket.AF_INET6 and not any(":" in address for address in stack.addresses):
            raise os_error(errno.EAFNOSUPPORT)  # a host without an IPv6 address does not support IPv6
        socket_class = StreamSocket if self.socketType == socket.SOCK_STREAM else DatagramSocket
        return socket_class(stack, self.addressFamily)


class _VirtualTimeTLSMixin:
    """Makes ``startTLS`` use the clock of the host. Twisted uses the global reactor's clock."""

    reactor: Any
    protocol: Any

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        super().startTLS(contextFactory, normal)  # type: ignore[misc]  # of Connection
        self.protocol._aggregator._clock = self.reactor


class TCPServer(_VirtualTimeTLSMixin, tcp.Server):
    """A TCP connection on the side of the server."""


class TCPPort(_SimulatedSocketMixin, tcp.Port):
    """A TCP port."""

    transport = TCPServer
    _reuseAddress: bool
    _reusePort: bool

    def createInternetSocket(self) -> Any:
        opened = super().createInternetSocket()
        if self._reuseAddress:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._reusePort:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return opened


class TCPClient(_SimulatedSocketMixin, _VirtualTimeTLSMixin, tcp.Client):
    """A TCP connection on the side of the client."""

    def __init__(self, host: str, port: int, bindAddress: Any, connector: Any, reactor: Any) -> None:
        self.reactor = reactor  # the base class sets it too late: after it has created the socket
        super().__init__(host, port, bindAddress, connector, reactor)


class TCPConnector(tcp.Connector):
    """Creates the client side of a TCP connection."""

    def _makeTransport(self) -> Any:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


class UDPPort(_SimulatedSocketMixin, udp.Port):
    """A UDP port."""


class SimulatedMulticastPort(_SimulatedSocketMixin, udp.MulticastPort):
    """A UDP port that can join multicast groups."""

    def createInternetSocket(self) -> Any:
        opened = super().createInternetSocket()
        if self.listenMultiple:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return opened


class UNIXPort(_SimulatedSocketMixin, unix.Port):
    """A UNIX port. Its path belongs to the simulated host; no file is created."""

    def startListening(self) -> None:
        path = os.fsdecode(self._bindPath)
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {path!r}")
        if self.wantPID and path in self.reactor.stack.paths:
            raise error.CannotListenError(None, self._bindPath, "Cannot acquire lock")
        assert self.factory is not None
        self.factory.doStart()
        opened = self.createInternetSocket()
        try:
            opened.bind(path)
        except OSError as e:
            opened.close()
            raise error.CannotListenError(None, self._bindPath, e) from e
        opened.listen(self.backlog)
        self.connected = True
        self.socket = opened
        self.fileno = opened.fileno  # type: ignore[method-assign]  # as Twisted's own port does
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)


class UNIXClient(_SimulatedSocketMixin, unix.Client):
    """A UNIX connection on the side of the client."""

    def __init__(self, path: str | bytes, connector: BaseConnector, reactor: Any) -> None:
        self.reactor = reactor
        super().__init__(os.fsencode(path), connector, reactor)


class UNIXConnector(unix.Connector):
    """Creates the client side of a UNIX connection."""

    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor)
