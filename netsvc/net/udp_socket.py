"""UDP sockets that receive and send datagrams in batches, and tell to which local address each datagram was sent.

The interface is :class:`~netsvc.wire.datagram.UdpSocket`. :class:`KernelUdpSocket` is a real socket. Hosts of the
simulated network have an implementation of their own.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from twisted.internet.error import CannotListenError

from netsvc.linux import mmsg
from netsvc.linux.kernel_time import KERNEL_TIME, KERNEL_TIME_SPACE, nanoseconds
from netsvc.linux.mmsg import ControlMessages
from netsvc.linux.transmit_times import TRANSMIT_TIMES_SPACE, TransmitTimes
from netsvc.net.udp_batches import BATCH_MAX, MAX_LOCAL_ADDRESSES, DatagramBatches
from netsvc.wire.datagram import Datagram, SocketAddress, UdpSocket
from netsvc.wire.zones import socket_address

#: Whether the system tells to which address a datagram was sent, in the way that is implemented here.
TELLS_LOCAL_ADDRESS = sys.platform == "linux"

# Linux's numbers, from <linux/in.h> and <asm-generic/socket.h>. Python 3.11 does not name them.
_IP_PKTINFO = 8
_IP_RECVTTL = 12
_IP_RECVTOS = 13
_SO_MEMINFO = 55
_MEMINFO, _MEMINFO_DROPS = struct.Struct("@9I"), 8  # the SK_MEMINFO_ numbers of <linux/sock_diag.h>

_WILDCARDS = ("", "0.0.0.0", "::")
_LINK_LOCAL = b"\xfe\x80"
_MULTICAST = b"\xff"
_PKTINFO_4 = (socket.IPPROTO_IP, _IP_PKTINFO)
_PKTINFO_6 = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
_IPV4_MAPPED = b"\0" * 10 + b"\xff\xff"
_LOCAL_ADDRESS_SPACE = socket.CMSG_SPACE(20) + socket.CMSG_SPACE(12)  # struct in6_pktinfo and struct in_pktinfo
_METADATA_SPACE = KERNEL_TIME_SPACE + 2 * socket.CMSG_SPACE(4)  # a struct timespec and two integers

#: The most datagrams that are sent with one call for each. For more, one call for all of them costs less. By itself, it
#: does so from seven on. But the first replies leave later then, and with eight in flight so do the next requests.
SINGLE_SENDS_MAX = 8

_NEW_TUPLE: Callable[..., Any] = tuple.__new__

_Ancillary = Sequence[tuple[int, int, bytes]]


@runtime_checkable
class OpensUdpSockets(Protocol):
    """A reactor with UDP sockets of its own: that of a simulated host, or one whose ports are shared."""

    def open_udp_socket(
        self, interface: str, port: int, max_size: int, *, metadata: bool = False, reuse_port: bool = False
    ) -> UdpSocket:
        """Open a socket. The parameters are those of :func:`open_udp_socket`."""


def open_udp_socket(
    reactor: object,
    interface: str,
    port: int,
    max_size: int,
    *,
    metadata: bool = False,
    reuse_port: bool = False,
    transmit_times: bool = False,
    receive_buffer: int = 0,
) -> UdpSocket:
    """Open a UDP socket for ``reactor``.

    :param interface: the local IP address, with its zone if it is a link-local one; ``0.0.0.0`` or an empty string for
        all IPv4 addresses, ``::`` for all.
    :param port: the port; 0 for a free one.
    :param max_size: bytes of the longest datagram; a longer one is truncated.
    :param metadata: whether each datagram carries its kernel time, TTL and traffic class (Linux).
    :param reuse_port: whether other processes of the same user may open the port as well (SO_REUSEPORT).
    :param transmit_times: whether the socket tells when datagrams were sent. It does so on Linux only, and not on a
        simulated host.
    :param receive_buffer: bytes that the system may keep until they are received, if it allows as many; 0 for its
        default. Linux counts 768 bytes for a short datagram, and so 277 of them fill its usual 212,992.
    :raises CannotListenError: if the system refuses.
    """
    if isinstance(reactor, OpensUdpSockets):
        return reactor.open_udp_socket(interface, port, max_size, metadata=metadata, reuse_port=reuse_port)
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    try:
        bound = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as e:
        raise CannotListenError(interface, port, e) from None
    try:
        if reuse_port:  # not SO_REUSEADDR as well: with it, any user could take over the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if receive_buffer:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if interface == "::":  # whatever the system's default is
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(socket_address(interface or "0.0.0.0", port))
    except OSError as e:
        bound.close()
        raise CannotListenError(interface, port, e) from None
    return KernelUdpSocket(bound, max_size, metadata=metadata, transmit_times=transmit_times)


class KernelUdpSocket:
    """A real socket.

    A reply that is sent without a local address leaves from the one that the route to the peer suggests. On a host with
    several addresses, a client that asked another one does not accept it. So a socket that is bound to all addresses
    asks for the local address of each datagram (IP_PKTINFO, ip(7); IPV6_PKTINFO, RFC 3542) and replies from it.

    :param bound: a bound socket. This object owns it from now on.
    :param max_size: bytes of the longest datagram; a longer one is truncated.
    :param metadata: whether each datagram carries its kernel time, TTL and traffic class (Linux).
    :param batches: whether one system call receives or sends many datagrams (Linux).
    :param transmit_times: whether the kernel notes when each datagram is sent (Linux). They must be read.
    """

    def __init__(
        self,
        bound: socket.socket,
        max_size: int,
        *,
        metadata: bool = False,
        batches: bool = mmsg.AVAILABLE,
        transmit_times: bool = False,
    ) -> None:
        bound.setblocking(False)
        self._socket = bound
        self._max_size = max_size
        self._ipv6 = bound.family == socket.AF_INET6
        self._space = 0
        self._ancillary: dict[bytes, _Ancillary] = {}  # by local address
        self._parse: Callable[[_Ancillary], tuple[Any, ...]] = _nothing
        if TELLS_LOCAL_ADDRESS and (metadata or bound.getsockname()[0] in _WILDCARDS):
            self._ask_for_local_address()
        if TELLS_LOCAL_ADDRESS and metadata:
            self._ask_for_metadata()
        self._transmit_times: TransmitTimes | None = None
        self._known_transmit_times: list[tuple[int, int]] = []
        if transmit_times and sys.platform == "linux":
            with suppress(OSError):
                self._transmit_times = TransmitTimes(bound)
                self._space += TRANSMIT_TIMES_SPACE
        # Datagrams of one peer to one local address have the same ancillary data, except for the time.
        self._last_ancillary: _Ancillary = []
        self._last_fields = self._parse([])
        self._batches: DatagramBatches | None = None
        if batches:
            source = _pktinfo_6 if self._ipv6 else _pktinfo_4
            self._batches = DatagramBatches(bound, max_size, self._space, self._parse, source, timed=metadata)

    def connect(self, peer: SocketAddress) -> None:
        self._socket.connect(peer)

    def set_traffic_class(self, traffic_class: int) -> None:
        if self._ipv6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, traffic_class)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, traffic_class)

    def send(self, payload: bytes) -> None:
        self._socket.send(payload)

    def receive_batch(self, maximum: int) -> list[Datagram]:
        if maximum == 1:  # Python's own call takes two thirds of the time of one by ctypes
            batch = self._receive_one()
        else:
            batch = self._receive_each(maximum) if self._batches is None else self._batches.receive(maximum)
        if not batch and self._transmit_times is not None:  # else the socket would stay readable
            self._known_transmit_times += self._transmit_times.read()
        return batch

    def _receive_one(self) -> list[Datagram]:
        try:
            payload, ancillary, _flags, peer = self._socket.recvmsg(self._max_size, self._space)
        except (BlockingIOError, InterruptedError):
            return []
        kernel_time = None
        if ancillary and ancillary[0][:2] == KERNEL_TIME:
            kernel_time = nanoseconds(ancillary.pop(0)[2])
        if ancillary != self._last_ancillary:
            self._last_fields = self._parse(ancillary)
            self._last_ancillary = ancillary
        # As Datagram(...) does, in half of its time: 0.1 us.
        return [_NEW_TUPLE(Datagram, (payload, peer, *self._last_fields, kernel_time))]

    def _receive_each(self, maximum: int) -> list[Datagram]:
        batch: list[Datagram] = []
        while len(batch) < maximum:
            try:
                received = self._receive_one()
            except OSError:
                if not batch:
                    raise
                break  # what has arrived comes first; an error that lasts is raised next time
            if not received:
                break
            batch += received
        return batch

    def send_batch(self, datagrams: Iterable[Datagram]) -> list[tuple[Datagram, OSError]]:
        batches = self._batches
        if batches is None or not isinstance(datagrams, list) or len(datagrams) <= SINGLE_SENDS_MAX:
            return self._send_each(datagrams)
        failed = []
        for start in range(0, len(datagrams), BATCH_MAX):
            failed += batches.send(datagrams[start : start + BATCH_MAX])
        # Another attempt gets the error, or sends from another address what cannot leave from the one that was asked.
        return self._send_each(failed)

    def _send_each(self, datagrams: Iterable[Datagram]) -> list[tuple[Datagram, OSError]]:
        send, known = self._socket.sendmsg, self._ancillary
        errors = []
        for datagram in datagrams:
            payload, peer, local, _, _, traffic_class, _ = datagram
            ancillary = (known.get(local) or self._ancillary_for(local)) if local else ()
            if traffic_class is not None:
                ancillary = [*ancillary, _traffic_class_message(peer, traffic_class)]
            try:
                send((payload,), ancillary, 0, peer)
            except OSError as e:
                error = self._send_from_any_address(payload, peer) if local else e
                if error is not None:
                    errors.append((datagram, error))
        return errors

    def transmit_times(self, maximum: int) -> list[tuple[int, int]]:
        known, self._known_transmit_times = self._known_transmit_times, []
        return known if self._transmit_times is None else known + self._transmit_times.read(maximum)

    def dropped(self) -> int:
        # Unlike SO_RXQ_OVFL, which comes with each datagram, this costs nothing until it is asked for.
        if sys.platform != "linux":
            return 0
        try:
            info = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        except OSError:  # before Linux 4.12
            return 0
        return int(_MEMINFO.unpack(info.ljust(_MEMINFO.size, b"\0"))[_MEMINFO_DROPS])

    def getsockopt(self, level: int, option: int) -> int:
        return self._socket.getsockopt(level, option)

    def fileno(self) -> int:
        return self._socket.fileno()

    def getsockname(self) -> SocketAddress:
        name: SocketAddress = self._socket.getsockname()
        return name

    def close(self) -> None:
        self._socket.close()

    def _ancillary_for(self, local: bytes) -> _Ancillary:
        """Return the ancillary data that makes a datagram leave from ``local``. Keep it: a host has few addresses."""
        if len(self._ancillary) >= MAX_LOCAL_ADDRESSES:
            self._ancillary.clear()
        ancillary = self._ancillary[local] = _pktinfo_6(local) if self._ipv6 else _pktinfo_4(local)
        return ancillary

    def _send_from_any_address(self, payload: bytes, peer: SocketAddress) -> OSError | None:
        """Send without a local address: a reply cannot be sent from that of a multicast group, for example."""
        try:
            self._socket.sendto(payload, peer)
        except OSError as e:
            return e
        return None

    def _ask_for_local_address(self) -> None:
        self._space += _LOCAL_ADDRESS_SPACE
        if self._ipv6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            self._parse = _addresses_6
        else:
            self._parse = _addresses_4
        # A socket for both families needs it too: IPV6_PKTINFO tells only where an IPv4 datagram was sent to.
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def _ask_for_metadata(self) -> None:
        self._space += _METADATA_SPACE
        self._parse = _with_metadata
        self._socket.setsockopt(*KERNEL_TIME, 1)
        # A socket for both families reports the TTL and the TOS of IPv4 by the options of IPv4.
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
        if self._ipv6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)


# The fields of Datagram behind the peer, without the kernel time, from the ancillary data of a datagram.


def _nothing(_ancillary: _Ancillary) -> tuple[Any, ...]:
    return None, None, None, None


def _addresses_4(ancillary: _Ancillary) -> tuple[Any, ...]:
    data = ancillary[0][2] if ancillary and ancillary[0][:2] == _PKTINFO_4 else _data_of(_PKTINFO_4, ancillary)
    if data is None:
        return _nothing(ancillary)
    return data[4:8], data[8:12], None, None  # ipi_spec_dst and ipi_addr of struct in_pktinfo


def _addresses_6(ancillary: _Ancillary) -> tuple[Any, ...]:
    data = ancillary[0][2] if ancillary and ancillary[0][:2] == _PKTINFO_6 else _data_of(_PKTINFO_6, ancillary)
    if data is None:
        return _nothing(ancillary)
    destination = data[:16]
    if destination.startswith(_IPV4_MAPPED):
        usual = len(ancillary) > 1 and ancillary[1][:2] == _PKTINFO_4
        of_ipv4 = ancillary[1][2] if usual else _data_of(_PKTINFO_4, ancillary)
        local = destination if of_ipv4 is None else _IPV4_MAPPED + of_ipv4[4:8]
        return local, destination, None, None
    if destination.startswith(_MULTICAST):
        return None, destination, None, None
    # A link-local address has no meaning without its interface. A reply from any other may leave by any interface.
    return (data if data.startswith(_LINK_LOCAL) else destination), destination, None, None


def _data_of(kind: tuple[int, int], ancillary: _Ancillary) -> bytes | None:
    """Return the data of one kind. An inherited socket may have asked for other kinds as well."""
    return next((data for level, number, data in ancillary if (level, number) == kind), None)


def _with_metadata(ancillary: _Ancillary) -> tuple[Any, ...]:
    ttl = traffic_class = None
    if any(level == socket.IPPROTO_IPV6 for level, _, _ in ancillary):
        local, destination = _addresses_6(ancillary)[:2]
    else:
        local, destination = _addresses_4(ancillary)[:2]
    for level, number, data in ancillary:
        match level, number:
            case (socket.IPPROTO_IP, socket.IP_TTL) | (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT):
                [ttl] = struct.unpack("i", data)
            case (socket.IPPROTO_IP, socket.IP_TOS) | (socket.IPPROTO_IPV6, socket.IPV6_TCLASS):
                traffic_class = data[0] if len(data) == 1 else struct.unpack("i", data)[0]
    return local, destination, ttl, traffic_class


def _traffic_class_message(peer: SocketAddress, traffic_class: int) -> tuple[int, int, bytes]:
    """Return the ancillary data that gives a datagram a traffic class. IPv4 has its own, on an IPv6 socket too."""
    is_ipv6 = ":" in peer[0] and not peer[0].startswith("::ffff:")
    kind = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if is_ipv6 else (socket.IPPROTO_IP, socket.IP_TOS)
    return (*kind, struct.pack("@i", traffic_class))


def _pktinfo_4(local: bytes) -> ControlMessages:
    return [(socket.IPPROTO_IP, _IP_PKTINFO, b"\0\0\0\0" + local + b"\0\0\0\0")]


def _pktinfo_6(local: bytes) -> ControlMessages:
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, local if len(local) > 16 else local + b"\0\0\0\0")]
