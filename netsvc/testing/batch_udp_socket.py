"""The UDP socket of a simulated host for batches of datagrams: what a real socket is to netsvc's own UDP ports."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from ipaddress import ip_address

from twisted.internet.error import CannotListenError

from netsvc.testing.datagram_socket import DatagramSocket
from netsvc.testing.stack import Stack, os_error
from netsvc.wire.datagram import Datagram, SocketAddress
from netsvc.wire.wall_time import wall_nanoseconds


class SimulatedUdpSocket:
    """A bound UDP socket of a host. It tells the destination of each datagram and can send from that address.

    :param stack: the host.
    :param interface: the address to bind to; an empty string for all IPv4 addresses, ``::`` for all.
    :param port: the port; 0 for a free one.
    :param max_size: bytes of the longest datagram; a longer one is truncated.
    :param metadata: whether each datagram carries its time of arrival, TTL and traffic class.
    :param reuse_port: whether other sockets of the host may use the port as well.
    :raises CannotListenError: if the system would refuse.
    """

    def __init__(
        self,
        stack: Stack,
        interface: str,
        port: int,
        max_size: int,
        *,
        metadata: bool = False,
        reuse_port: bool = False,
    ) -> None:
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        self._stack = stack
        self._max_size = max_size
        self._metadata = metadata
        self._socket = DatagramSocket(stack, family)
        try:
            if family == socket.AF_INET6 and not any(":" in address for address in stack.addresses):
                raise os_error(errno.EAFNOSUPPORT)  # a host without an IPv6 address has no IPv6 at all
            if reuse_port:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind((interface or "0.0.0.0", port))
        except OSError as e:
            self._socket.close()
            raise CannotListenError(interface, port, e) from None

    def connect(self, peer: SocketAddress) -> None:
        self._socket.connect(peer)

    def set_traffic_class(self, traffic_class: int) -> None:
        for option in ((socket.IPPROTO_IPV6, socket.IPV6_TCLASS), (socket.IPPROTO_IP, socket.IP_TOS)):
            self._socket.setsockopt(*option, traffic_class)

    def send(self, payload: bytes) -> None:
        self._socket.send(payload)

    def receive_batch(self, maximum: int) -> list[Datagram]:
        batch = []
        for _ in range(maximum):
            try:
                received = self._socket.next_datagram()
            except BlockingIOError:
                break
            destination, source = received.destination, self._socket.as_sockaddr(received.source)
            local = destination if self._stack.is_local(destination) else self._reply_address(source)
            packed_local = None if local is None else ip_address(local).packed
            metadata = (*received.header, wall_nanoseconds(received.wall_time)) if self._metadata else ()
            payload = received.data[: self._max_size]
            batch.append(Datagram(payload, source, packed_local, ip_address(destination).packed, *metadata))
        return batch

    def send_batch(self, datagrams: Iterable[Datagram]) -> list[tuple[Datagram, OSError]]:
        not_sent = []
        for datagram in datagrams:
            try:
                local = None if datagram.local is None else str(ip_address(datagram.local))
                self._socket.send_with(local, datagram.traffic_class, datagram.payload, datagram.peer)
            except OSError as e:
                not_sent.append((datagram, e))
        return not_sent

    def _reply_address(self, source: SocketAddress) -> str | None:
        """Return the address from which a broadcast or multicast datagram is answered; None for IPv6."""
        host = source[0].removeprefix("::ffff:")
        return None if ":" in host else self._stack.source_address(host)

    def transmit_times(self, maximum: int) -> list[tuple[int, int]]:
        return []

    def dropped(self) -> int:
        return self._socket.dropped

    def getsockopt(self, level: int, option: int) -> int:
        return self._socket.getsockopt(level, option)

    def fileno(self) -> int:
        return self._socket.fileno()

    def getsockname(self) -> SocketAddress:
        name: SocketAddress = self._socket.getsockname()
        return name

    def close(self) -> None:
        self._socket.close()
