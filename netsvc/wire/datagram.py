"""A datagram as a value, and the interface of the sockets that carry it in batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

#: An IP address and a port, and for IPv6 the flow and the scope, as Python's sockets give it.
SocketAddress = tuple[Any, ...]


class Datagram(NamedTuple):
    """A datagram that was received, or that is to be sent.

    :ivar payload: its bytes.
    :ivar peer: the source of a received datagram, the destination of one to be sent: an address and a port.
    :ivar local: the address of this host to reply from, or to send from: 4 or 16 bytes of an IP address, and for a
        link-local address its interface. A reply takes it over as it is. None if the socket is bound to one address, if
        the system does not tell, or if there is no such address (IPv6 multicast).
    :ivar destination: the address that a received datagram was sent to, 4 or 16 bytes. It differs from ``local`` for
        broadcast and multicast. None if the socket is bound to one address, or if the system does not tell.
    :ivar ttl: its time to live or hop limit on arrival; None unless asked for.
    :ivar traffic_class: its differentiated services code point times 4 plus its ECN bits (RFC 2474, RFC 3168), 0 to
        255. For a received datagram None unless asked for, for one to be sent None for that of the socket.
    :ivar kernel_time: when the kernel received it, in nanoseconds since the epoch; None unless asked for.
    """

    payload: bytes
    peer: SocketAddress
    local: bytes | None = None
    destination: bytes | None = None
    ttl: int | None = None
    traffic_class: int | None = None
    kernel_time: int | None = None

    @property
    def sent_to_group(self) -> bool:
        """Whether it was sent to a broadcast or multicast address, as far as the system tells."""
        return self.destination is not None and (self.local is None or self.local[:16] != self.destination)


class UdpSocket(Protocol):
    """A bound UDP socket that does not block."""

    def connect(self, peer: SocketAddress) -> None:
        """Receive datagrams of ``peer`` only. :meth:`send` sends to it, and its refusals are errors of the socket.

        :raises OSError: if there is no route to it.
        """

    def set_traffic_class(self, traffic_class: int) -> None:
        """Send datagrams with a DSCP and ECN bits, 0 to 255, unless they have their own."""

    def send(self, payload: bytes) -> None:
        """Send one datagram to the peer of :meth:`connect`.

        :raises OSError: if the system did not send it, or to report that an earlier one was refused.
        """

    def receive_batch(self, maximum: int) -> list[Datagram]:
        """Return the datagrams that have arrived, at most ``maximum``; an empty list if there is none.

        :raises OSError: if the system fails. The socket may work again later.
        """

    def send_batch(self, datagrams: Iterable[Datagram]) -> list[tuple[Datagram, OSError]]:
        """Send datagrams. Return those that the system did not send, each with its error.

        A list may be sent by one system call. Of an iterator, each datagram is sent before the next one is asked for.
        """

    def transmit_times(self, maximum: int) -> list[tuple[int, int]]:
        """Return when datagrams were sent, as far as it is known by now and was not returned before.

        :param maximum: how many times to ask the system for.
        :return: the number of the datagram, counted from 0 since the socket was opened, modulo 2**32, and nanoseconds
            since the epoch. Datagrams that the system did not send have no number. The list is empty if the socket was
            not opened for it, or if the system does not tell.
        """

    def dropped(self) -> int:
        """Return how many datagrams the system has dropped because its buffer was full; 0 if it does not tell."""

    def getsockopt(self, level: int, option: int) -> int:
        """Return a number that the system keeps for the socket, such as SO_ERROR."""

    def fileno(self) -> int:
        """Return the descriptor to wait for; -1 after :meth:`close`."""

    def getsockname(self) -> SocketAddress:
        """Return the local address and port."""

    def close(self) -> None:
        """Close it."""
