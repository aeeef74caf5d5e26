"""What every datagram socket needs: a bounded turn, and an address for a name."""

from __future__ import annotations

from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHostResolution,
    IListeningPort,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
)
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from netsvc.net.reasons import why_closed
from netsvc.wire.address import is_ip

#: Datagrams that one port takes in one turn of the reactor. Twisted's port counts payload bytes instead, so that
#: a flood of empty datagrams keeps a 10 ms timer waiting for 357 ms, of one-byte datagrams for 1,024 ms.
DATAGRAMS_A_TURN = 64

#: Longer than any datagram: what a port is to read that must not cut one short.
DATAGRAM_MAX = 65_536


class BoundedDatagramProtocol(DatagramProtocol):
    """Takes a bounded number of datagrams in one turn of the reactor. A subclass takes :meth:`received`.

    :param clock: a reactor, or a ``Clock`` in a test.
    """

    noisy = False
    transport: Any

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._left = DATAGRAMS_A_TURN
        self._next_turn: IDelayedCall | None = None

    def received(self, datagram: bytes, host: str, port: int) -> None:
        """Take one datagram."""
        raise NotImplementedError

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._left -= 1
        if self._left <= 0 and self._next_turn is None:
            # The loop in Twisted's udp.Port.doRead looks at this number before each datagram.
            self.transport.maxThroughput = 0
            self._next_turn = self.clock.callLater(0, self._begin_turn)
        self.received(datagram, addr[0], addr[1])

    def pauseProducing(self) -> None:
        """Take nothing more for now; what comes then is dropped by the system, as datagrams are."""
        self.transport.stopReading()

    def resumeProducing(self) -> None:
        """Take datagrams again."""
        self.transport.startReading()

    def stopProtocol(self) -> None:
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._begin_turn()

    def _begin_turn(self) -> None:
        self._next_turn = None
        self._left = DATAGRAMS_A_TURN
        if self.transport is not None:
            vars(self.transport).pop("maxThroughput", None)


class ConnectedDatagramProtocol(DatagramProtocol):
    """Talks with one peer: the system drops what others send, and says when nobody listens there.

    A subclass takes :meth:`closed`.

    :param host: the peer's IPv4 or IPv6 address.
    :param port: the peer's port.
    """

    noisy = False
    transport: Any

    def __init__(self, host: str, port: int) -> None:
        self.peer = (host, port)

    def closed(self, reason: Exception) -> None:
        """Nobody listens, or the port was closed."""
        raise NotImplementedError

    def startProtocol(self) -> None:
        self._port = self.transport
        self._port.connect(*self.peer)

    def connectionRefused(self) -> None:
        self.closed(error.ConnectionRefusedError())

    def stopProtocol(self) -> None:
        self.closed(why_closed(self._port))


def listen_for(reactor: Any, protocol: DatagramProtocol, host: str) -> IListeningPort:
    """Open a port of ``protocol``'s own from which the address ``host``, IPv4 or IPv6, can be reached."""
    port: IListeningPort = reactor.listenUDP(
        0, protocol, interface="::" if ":" in host else "", maxPacketSize=DATAGRAM_MAX
    )
    return port


def resolve(reactor: IReactorPluggableNameResolver, host: str) -> Deferred[list[str]]:
    """Find the addresses of ``host``, which may be one itself, in the resolver's order.

    :return: fires with at least one address; fails with ``DNSLookupError`` when there is none.
    """
    if is_ip(host):
        found: Deferred[list[str]] = Deferred()
        found.callback([host])
        return found
    receiver = _Addresses(host)
    reactor.nameResolver.resolveHostName(receiver, host, transportSemantics="UDP")
    return receiver.found


@implementer(IResolutionReceiver)
class _Addresses:
    def __init__(self, host: str) -> None:
        self.found: Deferred[list[str]] = Deferred()
        self._host = host
        self._addresses: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing to keep: a look-up cannot be cancelled."""

    def addressResolved(self, address: IAddress) -> None:
        host: str = address.host  # type: ignore[attr-defined]  # IPv4Address or IPv6Address, as was asked
        if host not in self._addresses:
            self._addresses.append(host)

    def resolutionComplete(self) -> None:
        if self._addresses:
            self.found.callback(self._addresses)
        else:
            self.found.errback(error.DNSLookupError(f"no address for {self._host}"))
