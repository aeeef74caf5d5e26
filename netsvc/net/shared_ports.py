"""Ports that several processes share; the kernel deals out what comes (SO_REUSEPORT, socket(7))."""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.tcp import makeBinding

from netsvc.net.datagram_protocol import DATAGRAM_MAX
from netsvc.net.listening import BACKLOG
from netsvc.net.udp_port import adopt_to_ask

#: Whether the kernel deals out what comes. Others that know the option give all of it to one of the sockets.
POSSIBLE = sys.platform == "linux"


class SharedPorts:
    """A reactor whose ports other processes of the same user may open as well; all else is the reactor's own.

    Only a process that asks for it in the same way, under the same user id, can join; anybody else still finds the
    port in use.

    :param reactor: what listens; for datagrams it has to be an ``IReactorSocket``.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

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

    def listenUDP(
        self, port: int, protocol: DatagramProtocol, interface: str = "", maxPacketSize: int = DATAGRAM_MAX
    ) -> IListeningPort:
        # Not listenMulticast(listenMultiple=True): it sets SO_REUSEADDR too, with which any user may take it over.
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        try:
            shared = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as e:
            raise CannotListenError(interface, port, e) from None
        with shared:
            shared.setblocking(False)
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                shared.bind(socket.getaddrinfo(interface or "0.0.0.0", port, family, socket.SOCK_DGRAM)[0][4])
            except OSError as e:
                raise CannotListenError(interface, port, e) from None
            return adopt_to_ask(self._reactor, shared, protocol, maxPacketSize)
