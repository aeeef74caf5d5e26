"""Twisted's in-memory reactor, which has no UDP (twisted #9695), with UDP."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import IListeningPort, IReactorUDP, IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from netsvc.wire.address import is_ip

_FIRST_EPHEMERAL_PORT = 49_152  # RFC 6335, section 6
_DATAGRAM_MAX = 65_507  # payload bytes of UDP over IPv4


@implementer(IReactorUDP)
class MemoryReactor(MemoryReactorClock):
    """A ``MemoryReactorClock`` whose datagrams go from port to port.

    What one port sends to ``127.0.0.1`` or ``::1`` and the number of another port arrives there at the next
    ``advance``. What is sent elsewhere is kept in the sending port's ``sent`` and goes nowhere.

    :ivar udp_ports: the open ports, by their numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.udp_ports: dict[int, DatagramPort] = {}

    def listenUDP(
        self, port: int, protocol: DatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> DatagramPort:
        """Open a port.

        :param port: 0 for a free one.
        :raises CannotListenError: for a number that is taken.
        """
        if port in self.udp_ports:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        if not port:
            port = next(n for n in range(_FIRST_EPHEMERAL_PORT, 65_536) if n not in self.udp_ports)
        opened = DatagramPort(self, port, protocol, interface or "0.0.0.0", maxPacketSize)
        opened.startListening()
        return opened


@implementer(IListeningPort, IUDPTransport)
class DatagramPort:
    """One port of a :class:`MemoryReactor`, which is also its protocol's transport.

    :ivar sent: every datagram that was written, with the address it was written to.
    """

    maxThroughput = 256 * 1024

    def __init__(
        self, reactor: MemoryReactor, port: int, protocol: DatagramProtocol, interface: str, max_packet_size: int
    ) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.protocol = protocol
        self._reactor = reactor
        self._port = port
        self._interface = interface
        self._loopback = "::1" if ":" in interface else "127.0.0.1"
        self._max_packet_size = max_packet_size
        self._connected: tuple[str, int] | None = None
        self._listening = False
        self._broadcast = False

    def startListening(self) -> None:
        self._listening = True
        self._reactor.udp_ports[self._port] = self
        self.protocol.makeConnection(self)

    def stopListening(self) -> Deferred[None] | None:
        """Close the port, in the next turn as Twisted's own. Returns None if it is closed already."""
        if not self._listening:
            return None
        self._listening = False
        closed: Deferred[None] = Deferred()
        self._reactor.callLater(0, self._close, closed)
        return closed

    def deliver(self, datagram: bytes, source: tuple[str, int]) -> None:
        """Let ``datagram`` arrive now, from ``source``, an address and a port.

        As on a socket, a connected port takes only what comes from its peer, and what is longer than
        ``maxPacketSize`` is cut short without a word.
        """
        if self._listening and (self._connected is None or self._connected == source):
            self.protocol.datagramReceived(datagram[: self._max_packet_size], source)

    def refuse(self) -> None:
        """Let the answer "nobody listens" arrive now, to a connected port."""
        if self._connected is None:
            raise ValueError("only a connected port hears of a refusal")
        self.protocol.connectionRefused()

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        destination = addr or self._connected
        if destination is None or not is_ip(destination[0]):
            raise ValueError(f"a datagram goes to an IP address, not to {destination}")
        if len(packet) > _DATAGRAM_MAX:
            raise MessageLengthError("message too long")
        self.sent.append((packet, destination))
        host, port = destination
        if host == self._loopback:
            self._reactor.callLater(0, self._carry, packet, port)

    def connect(self, host: str, port: int) -> None:
        if self._connected:
            raise RuntimeError("already connected, reconnecting is not currently supported")
        if not is_ip(host):
            raise ValueError(f"a port is connected to an IP address, not to {host}")
        self._connected = (host, port)

    def getHost(self) -> IPv4Address | IPv6Address:
        kind = IPv6Address if ":" in self._interface else IPv4Address
        return kind("UDP", self._interface, self._port)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        self._broadcast = enabled

    def getBroadcastAllowed(self) -> bool:
        return self._broadcast

    def _carry(self, packet: bytes, port: int) -> None:
        receiver: Any = self._reactor.udp_ports.get(port)
        if receiver is not None:
            receiver.deliver(packet, (self._loopback, self._port))
        elif self._connected:
            self.refuse()

    def _close(self, closed: Deferred[None]) -> None:
        del self._reactor.udp_ports[self._port]
        self.protocol.doStop()
        closed.callback(None)
