"""A UDP port for a :class:`~netsvc.net.datagram_protocol.DatagramService`, on any reactor that watches descriptors."""

from __future__ import annotations

import errno
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc.net.datagram_protocol import DATAGRAMS_PER_ITERATION, DatagramService
from netsvc.net.reactors import Reactor, cancel
from netsvc.wire.datagram import Datagram, SocketAddress, UdpSocket
from netsvc.wire.zones import socket_address, zoned_host

#: Seconds after a failed receive until the next one.
RETRY_INTERVAL = 0.1

#: Errors of a receive that tell of an earlier send on a connected socket. They do not last.
_OF_A_SEND = frozenset((errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EMSGSIZE))

#: Reads that found one datagram and no second one in a row, after which the port seldom tries to read a second one at
#: once. The reactor costs as much as several such attempts.
MISSES_MAX = 4

#: From then on it tries so at two reads of fifteen. Their distances differ, so that bursts of one length, eight say, do
#: not end at each attempt.
PROBE_PERIOD, PROBES = 15, (0, 7)

#: Datagrams that are received with one call for each, in a row, until one call receives all that have arrived.
SINGLES_MAX = 4

#: The least that such a call must receive to be worth more than a call for each.
MANY_MIN = 3

#: Reads between two looks at what the system has dropped. A full batch is a reason to look, too. The buffer holds fewer
#: long datagrams than a batch.
READS_PER_COUNT = 16


@implementer(IListeningPort, IReadDescriptor)
class UdpPort:
    """Receives batches of datagrams for a service and sends its replies. It is the service's transport.

    :param reactor: watches the socket.
    :param service: receives the datagrams.
    :param udp_socket: a bound socket, which the port owns from now on.
    :param outlives_errors: whether the port stays open if one of Twisted's own reactors would close it: because the
        socket has an error (ICMP), or because the kernel tells when datagrams were sent.
    """

    log = Logger()

    #: The next receive raises an error of the socket, so netsvc's reactors need not close the port for one. uvloop may
    #: watch it itself.
    reads_its_errors = True

    def __init__(
        self, reactor: Reactor, service: DatagramService, udp_socket: UdpSocket, *, outlives_errors: bool = False
    ) -> None:
        self._outlives_errors = outlives_errors
        self._reactor = reactor
        self._service = service
        self.socket = udp_socket
        self._closed: Deferred[None] = Deferred()
        self._stopping = False
        self._reading = False
        self._reads = 0
        self._misses = 0  # attempts in a row that found no second datagram
        self._many_expected = False
        self._dropped = 0  # by the system, as far as the service was told
        self._retry: IDelayedCall | None = None

    # IListeningPort

    def startListening(self) -> None:
        """Start to receive. If the service cannot start, close the socket, and raise the exception of the service."""
        try:
            self._service.makeConnection(self)  # type: ignore[arg-type]  # it provides what a DatagramService calls
        except BaseException:
            self._stopping = True
            self.socket.close()
            raise
        self.startReading()

    def stopListening(self) -> Deferred[None]:
        """Close the port. The Deferred fires when it is closed: in the next reactor iteration, as Twisted's does."""
        if not self._stopping:
            self._stopping = True
            self.stopReading()
            self._reactor.callLater(0, self.connectionLost, Failure(ConnectionDone()))
        return self._closed

    def getHost(self) -> IPv4Address | IPv6Address:
        host, port, *flow_and_scope = self.socket.getsockname()
        if ":" in host:  # as that of Twisted's TCP ports, the host has the zone
            return IPv6Address("UDP", zoned_host(host, flow_and_scope[1] if flow_and_scope else 0), port)
        return IPv4Address("UDP", host, port)

    # Called by the service

    def connect(self, host: str, port: int) -> None:
        """Receive datagrams from one peer only, an IP address and a port. :meth:`write` sends to it by default.

        :raises OSError: if there is no route to it.
        """
        self.socket.connect(socket_address(host, port))

    def write(self, payload: bytes, peer: SocketAddress | None = None) -> None:
        """Send one datagram.

        :param peer: an IP address and a port, or the peer of a datagram; None for the peer of :meth:`connect`.
        :raises OSError: if the system did not send it.
        """
        if peer is None:
            self.socket.send(payload)
            return
        if len(peer) == 2:
            host, port = peer
            if ":" in self.socket.getsockname()[0] and ":" not in host:
                host = f"::ffff:{host}"
            peer = socket_address(host, port)
        for _, error in self.socket.send_batch([Datagram(payload, peer)]):
            raise error

    def stopReading(self) -> None:
        """Stop receiving."""
        cancel(self._retry)
        self._reading = False
        self._reactor.removeReader(self)

    def startReading(self) -> None:
        """Receive again."""
        cancel(self._retry)
        if not self._stopping:
            self._reading = True
            self._reactor.addReader(self)

    # Called by the reactor

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return type(self._service).__name__

    def doRead(self) -> None:
        left = DATAGRAMS_PER_ITERATION
        self._reads += 1
        received = singles = 0
        # While replies are sent, more has often arrived. To read it now is cheaper than to wait for the reactor, unless
        # there is one datagram at a time.
        while left and self._reading:
            maximum = left if self._many_expected else 1
            try:
                batch = self.socket.receive_batch(maximum)
            except OSError as e:  # such as ENOMEM; the port lives on
                self._service.not_received(e)
                if e.errno in _OF_A_SEND:
                    left -= 1
                    continue
                self.stopReading()  # the reactor would call again at once
                self._retry = self._reactor.callLater(RETRY_INTERVAL, self.startReading)
                return
            if not batch:
                break
            count = len(batch)
            left -= count
            received += count
            try:
                for reply, error in self.socket.send_batch(self._service.batch_received(batch)):
                    self._service.not_sent(reply, error)
            except Exception:  # a fault of the service's; the port stays open
                self.log.failure("{service} failed", service=type(self._service).__name__)
                continue
            if maximum > 1:
                self._many_expected, singles = count >= MANY_MIN, 0
            else:
                singles += 1
                self._many_expected = singles >= SINGLES_MAX
            if received == 1 and self._misses >= MISSES_MAX and self._reads % PROBE_PERIOD not in PROBES:
                break
        self._misses = self._misses + 1 if received <= 1 else 0
        if self.socket.fileno() == -1:  # the service has closed the port
            return
        if not left or self._reads % READS_PER_COUNT == 0:
            self._count_dropped()

    def _count_dropped(self) -> None:
        """Tell the service how many datagrams the system has dropped."""
        dropped = self.socket.dropped()
        if dropped != self._dropped:
            self._service.dropped((dropped - self._dropped) & 0xFFFFFFFF)  # the system counts in 32 bits
            self._dropped = dropped

    def connectionLost(self, reason: Any) -> None:
        """Close the socket, and tell the service.

        Twisted's reactors also call this instead of :meth:`doRead` when the socket has an error, or a time of a
        transmission. A port that ``outlives_errors`` stays open then.
        """
        if self.socket.fileno() == -1:
            return
        if self._outlives_errors and not self._stopping and reason.check(ConnectionDone):
            self.doRead()  # it reads the error
            if self._reading:
                self._reactor.addReader(self)  # the reactor has removed it
            return
        self._stopping = True
        self.stopReading()
        try:
            self._service.doStop()  # it may ask for the error of the socket, as at Twisted's ports
        finally:
            self.socket.close()
            self._closed.callback(None)
