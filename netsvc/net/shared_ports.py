"""Ports that several processes share. The kernel distributes connections and datagrams (SO_REUSEPORT, socket(7))."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.tcp import makeBinding

from netsvc.net.listening import BACKLOG
from netsvc.net.reactors import Reactor
from netsvc.net.udp_socket import open_udp_socket
from netsvc.wire.datagram import UdpSocket


class SharedPorts:
    """A reactor whose ports other processes of the same user may open as well. Everything else is the reactor's own.

    Only a process that opens the port in the same way and under the same user id can join. For every other process the
    port is in use.

    :param reactor: opens the ports.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor: Any = reactor  # listenSSL is not one of every reactor's

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: IProtocolFactory, backlog: int = BACKLOG, interface: str = ""
    ) -> IListeningPort:
        shared = makeBinding(interface, port, reuseAddress=True, reusePort=True)
        opened: IListeningPort = self._reactor.listenTCP(shared, factory, backlog, interface)
        return opened

    def listenSSL(
        self, port: int, factory: IProtocolFactory, contextFactory: Any, backlog: int = BACKLOG, interface: str = ""
    ) -> IListeningPort:
        shared = makeBinding(interface, port, reuseAddress=True, reusePort=True)
        opened: IListeningPort = self._reactor.listenSSL(shared, factory, contextFactory, backlog, interface)
        return opened

    def open_udp_socket(
        self, interface: str, port: int, max_size: int, *, metadata: bool = False, reuse_port: bool = False
    ) -> UdpSocket:
        """Open a socket that is shared, whatever ``reuse_port`` is."""
        return open_udp_socket(self._reactor, interface, port, max_size, metadata=metadata, reuse_port=True)
