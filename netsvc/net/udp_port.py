"""UDP ports on every address of a host, whose answers leave from the address that was asked.

What answers with ``sendto`` alone leaves it to the system, which goes by the route to the peer: on a host with several
addresses a client that asked one of them is answered by another, and does not believe it. The system tells the address
of each datagram (IP_PKTINFO, ip(7); IPV6_PKTINFO, RFC 3542), and takes it back with the answer.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet import udp
from twisted.internet.interfaces import IListeningPort
from twisted.internet.posixbase import PosixReactorBase
from twisted.internet.protocol import DatagramProtocol
from twisted.python import log

from netsvc.net.datagram_protocol import DATAGRAMS_A_TURN

#: Whether the system tells, in the way that is known here.
POSSIBLE = sys.platform == "linux"

_IP_PKTINFO = 8  # of Linux; Python names it from 3.14 on
_EVERY = ("", "0.0.0.0", "::")
_SPACE = socket.CMSG_SPACE(20)  # for the longer of the two: struct in6_pktinfo
_LINK_LOCAL = b"\xfe\x80"

_Ancillary = list[tuple[int, int, bytes]]


def listen_to_ask(
    reactor: Any, port: int, protocol: DatagramProtocol, interface: str, max_packet: int
) -> IListeningPort:
    """Listen as ``reactor.listenUDP`` does; where it is on every address, answers leave from the one that was asked.

    :raises CannotListenError: as ``listenUDP`` does.
    """
    if interface in _EVERY and _reads_sockets(reactor):
        opened = AnsweringPort(port, protocol, interface, max_packet, reactor)
        opened.startListening()
        return opened
    return reactor.listenUDP(port, protocol, interface, max_packet)  # type: ignore[no-any-return]


def adopt_to_ask(reactor: Any, bound: socket.socket, protocol: DatagramProtocol, max_packet: int) -> IListeningPort:
    """Listen on a copy of ``bound``, a socket that does not block, likewise."""
    if bound.getsockname()[0] in _EVERY and _reads_sockets(reactor):
        opened = AnsweringPort._fromListeningDescriptor(reactor, bound.fileno(), bound.family, protocol, max_packet)
        opened.startListening()
        return opened  # type: ignore[no-any-return]
    adopted: IListeningPort = reactor.adoptDatagramPort(bound.fileno(), bound.family, protocol, max_packet)
    return adopted


def _reads_sockets(reactor: Any) -> bool:
    """Whether a reactor reads real sockets, as one in a test does not."""
    return POSSIBLE and isinstance(reactor, PosixReactorBase)


class AnsweringPort(udp.Port):
    """A UDP port on every address. What its protocol writes to a peer, while it is given a datagram of that peer's,
    leaves from the address to which the datagram came; all else leaves from where the system likes.

    It is as lean as the port of netsvc's own reactors: recvmsg instead of recvfrom costs 1 us.
    """

    _asked: tuple[Any, _Ancillary] | None = None  # who is being listened to, and from where to answer

    def startListening(self) -> None:
        self._bindSocket()
        if self.addressFamily == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            self.socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        self._connectToProtocol()

    def doRead(self) -> None:
        receive, size = self.socket.recvmsg, self.maxPacketSize
        received = self.protocol.datagramReceived
        answers = _answers_6 if self.addressFamily == socket.AF_INET6 else _answers_4
        for _ in range(DATAGRAMS_A_TURN):
            if self.maxThroughput <= 0:  # closed, or a protocol wants no more this turn
                return
            try:
                data, ancillary, _, address = receive(size, _SPACE)
            except (BlockingIOError, InterruptedError):
                return
            self._asked = address, answers(ancillary)
            try:
                received(data, address[:2])
            except BaseException:
                log.err()
            finally:
                self._asked = None

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> Any:
        if self._asked is not None and self._asked[0][:2] == addr:
            peer, source = self._asked
            try:
                return self.socket.sendmsg((datagram,), source, 0, peer)
            except OSError:
                pass  # an address that cannot be answered from, a group's say; or what the long way tells apart
        return super().write(datagram, addr)


def _answers_4(ancillary: _Ancillary) -> _Ancillary:
    """Return what makes an answer leave from where a datagram came to, by whichever interface it goes."""
    if not ancillary:
        return []
    level, kind, data = ancillary[0]
    return [(level, kind, b"\0\0\0\0" + data[4:8] + b"\0\0\0\0")]  # struct in_pktinfo: only ipi_spec_dst


def _answers_6(ancillary: _Ancillary) -> _Ancillary:
    if not ancillary:
        return []
    level, kind, data = ancillary[0]
    # An address of a link means nothing without its interface; any other is answered by whichever one.
    return [(level, kind, data if data.startswith(_LINK_LOCAL) else data[:16] + b"\0\0\0\0")]
