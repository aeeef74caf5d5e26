"""Protocols for datagrams: servers, which receive batches, and clients, which talk to one peer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet import error
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReactorUDP
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger

from netsvc.net.reactors import Clock, Reactor
from netsvc.net.socket_errors import close_reason
from netsvc.wire.datagram import Datagram
from netsvc.wire.zones import socket_address

#: Datagrams that one port receives per reactor iteration. Twisted's port counts payload bytes instead: a flood of empty
#: datagrams then delays a 10 ms timer by 357 ms, and one of one-byte datagrams by 1,024 ms.
DATAGRAMS_PER_ITERATION = 64

#: Bytes; no datagram is longer. For ports that must receive every datagram whole.
DATAGRAM_MAX = 65_536


class DatagramService(DatagramProtocol):
    """Receives datagrams in batches. A subclass overrides :meth:`batch_received`, or :meth:`received` for each one.

    netsvc's own UDP ports (:mod:`netsvc.net.udp_port`) give it batches. With ``reactor.listenUDP`` it receives a
    bounded number of datagrams per reactor iteration as well.

    :param clock: a reactor, or a ``Clock`` in a test.
    """

    log = Logger()
    noisy = False
    transport: Any

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._remaining = DATAGRAMS_PER_ITERATION
        self._next_iteration: IDelayedCall | None = None

    def batch_received(self, batch: Sequence[Datagram]) -> Iterable[Datagram]:
        """Process datagrams and return the replies. By default, call :meth:`received` for each and reply to none.

        A list of replies is sent when it is complete, by one system call if it is long. Of an iterator, each reply is
        sent before the next one is asked for.

        An exception of :meth:`received` is logged, and the other datagrams are processed. An override that raises loses
        the batch.
        """
        for datagram in batch:
            try:
                self.received(datagram)
            except Exception:  # a fault of the service's; it must not hurt other peers
                self.log.failure("{service} failed", service=type(self).__name__)
        return ()

    def received(self, datagram: Datagram) -> None:
        """Process one datagram."""
        raise NotImplementedError

    def not_received(self, failure: OSError) -> None:
        """The system failed to return a datagram. The port tries again after 100 ms. By default, log it."""
        self.log.error("{service}: a receive failed: {failure}", service=type(self).__name__, failure=failure)

    def dropped(self, count: int) -> None:
        """The system has dropped ``count`` more datagrams, because its buffer was full. By default, log nothing."""

    def not_sent(self, reply: Datagram, failure: Exception) -> None:
        """The system did not send a reply. ``failure`` is an ``OSError`` or Twisted's ``MessageLengthError``."""

    def pauseProducing(self) -> None:
        """Stop receiving. The system drops what arrives meanwhile and does not fit in its buffer."""
        if self.transport is not None:  # the port may be closed already
            self.transport.stopReading()

    def resumeProducing(self) -> None:
        """Receive again."""
        if self.transport is not None:
            self.transport.startReading()

    # Called by the port of reactor.listenUDP

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._remaining -= 1
        if self._remaining <= 0 and self._next_iteration is None:
            # The loop in Twisted's udp.Port.doRead checks this number before each datagram.
            self.transport.maxThroughput = 0
            self._next_iteration = self.clock.callLater(0, self._begin_iteration)
        for reply in self.batch_received([Datagram(datagram, addr)]):
            try:
                self.transport.write(reply.payload, reply.peer)
            except (OSError, error.MessageLengthError) as e:
                self.not_sent(reply, e)

    def stopProtocol(self) -> None:
        if self._next_iteration is not None:
            self._next_iteration.cancel()
            self._begin_iteration()

    def _begin_iteration(self) -> None:
        self._next_iteration = None
        self._remaining = DATAGRAMS_PER_ITERATION
        if self.transport is not None:
            vars(self.transport).pop("maxThroughput", None)


class ConnectedDatagramProtocol(DatagramProtocol):
    """Talks to one peer. The system drops datagrams from other sources, and reports when no program listens there.

    A subclass overrides :meth:`closed`.

    :param host: the peer's IPv4 or IPv6 address.
    :param port: the peer's port.
    """

    noisy = False
    transport: Any

    def __init__(self, host: str, port: int) -> None:
        self.peer = (host, port)

    def closed(self, reason: Exception) -> None:
        """The port was closed, or no program listens at the peer's port."""
        raise NotImplementedError

    def startProtocol(self) -> None:
        self._port = self.transport
        connect_port(self._port, *self.peer)

    def connectionRefused(self) -> None:
        self.closed(error.ConnectionRefusedError())

    def stopProtocol(self) -> None:
        self.closed(close_reason(self._port))


def connect_port(port: Any, host: str, number: int) -> None:
    """Connect a UDP port, of Twisted's or of netsvc's own, to an IPv4 or IPv6 address, which may have a zone.

    :raises OSError: if there is no route, or no such zone.
    """
    if "%" in host:
        # Twisted drops the zone. The system keeps the interface that the socket was connected on before.
        port.socket.connect(socket_address(host, number))
    port.connect(host, number)


def listen_for(reactor: Reactor, protocol: DatagramProtocol, host: str) -> IListeningPort:
    """Open a UDP port for ``protocol``, from which the IPv4 or IPv6 address ``host`` can be reached."""
    interface = "::" if ":" in host else ""
    port: IListeningPort = IReactorUDP(reactor).listenUDP(0, protocol, interface=interface, maxPacketSize=DATAGRAM_MAX)
    return port
