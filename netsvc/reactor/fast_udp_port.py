"""UDP ports that read a bounded number of datagrams per reactor iteration, and check each destination address once.

Where the system has recvmmsg, one call receives many datagrams. Each is sent by a call of its own, so that ``write``
raises the error of its datagram.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from errno import ECONNREFUSED
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.python import log

from netsvc.linux import mmsg
from netsvc.linux.socket_address import ADDRESS_SIZES, unpack_address
from netsvc.wire.bounded_cache import BoundedCache

#: Maximum number of datagrams that a port reads in one reactor iteration.
READS_PER_ITERATION = 64

#: Reads of one datagram until the port tries to read another one at once.
PROBE_INTERVAL = 8

if TYPE_CHECKING:
    _Base = udp.Port
else:
    _Base = object

#: Maximum number of addresses that a port remembers: of senders, and of destinations that are valid.
ADDRESSES_MAX = 4_096


def _sender_of(name: bytes) -> tuple[str, int]:
    host, port, *_ = unpack_address(name)
    return host, port


class _FastUDPMixin(_Base):
    """Replaces the ``doRead`` and ``write`` of Twisted's UDP ports."""

    reactor: Any

    def startListening(self) -> None:
        self._valid_addresses: set[tuple[str, int]] = set()
        self._senders = BoundedCache(_sender_of, ADDRESSES_MAX)
        self._receiver: mmsg.MessageReceiver | None = None
        self._undelivered: deque[tuple[bytes, tuple[str, int]]] = deque()
        self._more_expected = True
        self._read_count = 0
        super().startListening()

    def doRead(self) -> None:
        left = READS_PER_ITERATION
        self._read_count += 1
        # While a datagram is processed, more has often arrived. To read it now is cheaper than to wait for the reactor,
        # unless there is one datagram at a time.
        while left > 0 and self.maxThroughput > 0:
            try:
                received = self._receive(left)
            except OSError as e:
                if e.errno == ECONNREFUSED:
                    if self._connectedAddr:
                        self.protocol.connectionRefused()
                    return
                raise
            if not received:
                self._more_expected = False
                return
            self._undelivered.extend(received)
            self._deliver()
            left -= len(received)
            if len(received) == 1 and not self._more_expected and self._read_count % PROBE_INTERVAL:
                return
            self._more_expected = True
            if self._receiver is None and left < READS_PER_ITERATION - 1:
                self._receive_many_from_now_on()

    def _deliver(self) -> None:
        """Let the protocol receive what was read. A callback may let the reactor iterate, or close the port."""
        undelivered = self._undelivered
        while undelivered and self.maxThroughput > 0:
            data, address = undelivered.popleft()
            try:
                self.protocol.datagramReceived(data, address)
            except BaseException:
                log.err()
        if undelivered:  # the protocol wants no more in this iteration
            self.reactor.callLater(0, self._deliver)

    def _receive(self, maximum: int) -> Sequence[tuple[bytes, tuple[str, int]]]:
        if self._receiver is None:
            try:
                data, address = self.socket.recvfrom(self.maxPacketSize)
            except (BlockingIOError, InterruptedError):
                return ()
            return ((data, address[:2]),)
        payloads, names = self._receiver.receive(self.fileno(), maximum)
        return [(data, self._senders[name]) for data, name in zip(payloads, names, strict=True)]

    def _receive_many_from_now_on(self) -> None:
        """Use recvmmsg. Many ports receive few datagrams, such as that of a DNS query, and need no buffers for it."""
        if mmsg.AVAILABLE:
            with suppress(OSError):  # there is no memory
                name_size = ADDRESS_SIZES[self.addressFamily]
                self._receiver = mmsg.MessageReceiver(READS_PER_ITERATION, self.maxPacketSize, name_size, 0)

    def connectionLost(self, reason: Any = None) -> None:
        self._undelivered.clear()
        self._receiver = None
        super().connectionLost(reason)

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> Any:
        if addr in self._valid_addresses and not self._connectedAddr:
            try:
                return self.socket.sendto(datagram, addr)
            except OSError:
                pass  # Twisted's own write below raises the exception that fits the error
        result: Any = super().write(datagram, addr)
        if addr is not None:
            if len(self._valid_addresses) >= ADDRESSES_MAX:
                self._valid_addresses.clear()
            self._valid_addresses.add(addr)
        return result


class FastUDPPort(_FastUDPMixin, udp.Port):
    """A UDP port."""


class FastMulticastPort(_FastUDPMixin, udp.MulticastPort):
    """A UDP port that can join multicast groups."""
