"""Twisted's own ports and connections, on the sockets of a simulated host.

What is under test with them is Twisted's real code: its buffers, producers, half-close and reasons. Only what the
kernel does is simulated.
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
from netsvc.testing.stack import Stack, fail
from netsvc.testing.stream_socket import StreamSocket


class _OnStack:
    """Creates its socket on the stack of its reactor's host."""

    reactor: Any
    addressFamily: Any
    socketType: Any

    def createInternetSocket(self) -> Any:
        stack: Stack = self.reactor.stack
        if self.addressFamily == socket.AF_INET6 and not any(":" in address for address in stack.addresses):
            raise fail(errno.EAFNOSUPPORT)  # a host without an IPv6 address has no IPv6 at all
        opened = StreamSocket if self.socketType == socket.SOCK_STREAM else DatagramSocket
        return opened(stack, self.addressFamily)


class _TLSInVirtualTime:
    """Lets TLS that is started on a connection tell the time by its host's clock; Twisted takes the global one."""

    reactor: Any
    protocol: Any

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        super().startTLS(contextFactory, normal)  # type: ignore[misc]  # of Connection
        self.protocol._aggregator._clock = self.reactor


class TCPServer(_TLSInVirtualTime, tcp.Server):
    """A TCP connection, from the side that accepted it."""


class TCPPort(_OnStack, tcp.Port):
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


class TCPClient(_OnStack, _TLSInVirtualTime, tcp.Client):
    """A TCP connection, from the side that made it."""

    def __init__(self, host: str, port: int, bindAddress: Any, connector: Any, reactor: Any) -> None:
        self.reactor = reactor  # which the base class sets only after it has asked for a socket
        super().__init__(host, port, bindAddress, connector, reactor)


class TCPConnector(tcp.Connector):
    """Makes a TCP connection."""

    def _makeTransport(self) -> Any:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


class UDPPort(_OnStack, udp.Port):
    """A UDP port."""


class MulticastPort(_OnStack, udp.MulticastPort):
    """A UDP port that can join groups."""

    def createInternetSocket(self) -> Any:
        opened = super().createInternetSocket()
        if self.listenMultiple:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        return opened


class UNIXPort(_OnStack, unix.Port):
    """A UNIX port, whose path is one of its host's and of no file system."""

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
        self.fileno = opened.fileno  # type: ignore[method-assign]  # as Twisted's own do
        self.numberAccepts = 100
        self.startReading()

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)


class UNIXClient(_OnStack, unix.Client):
    """A UNIX connection, from the side that made it."""

    def __init__(self, path: str | bytes, connector: BaseConnector, reactor: Any) -> None:
        self.reactor = reactor
        super().__init__(os.fsencode(path), connector, reactor)


class UNIXConnector(unix.Connector):
    """Makes a UNIX connection."""

    def _makeTransport(self) -> Any:
        return UNIXClient(self.address, self, self.reactor)
