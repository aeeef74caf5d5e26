"""UDP ports that read a bounded number of datagrams per reactor iteration, and check each destination address once."""

from __future__ import annotations

import socket
from errno import ECONNREFUSED
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.python import log

#: Maximum number of datagrams that a port reads in one reactor iteration.
READS_PER_ITERATION = 64

if TYPE_CHECKING:
    _Base = udp.Port
else:
    _Base = object

#: Maximum number of destination addresses that a port remembers as valid.
VALID_ADDRESSES_MAX = 4_096


class _FastUDPMixin(_Base):
    """Replaces the ``doRead`` and ``write`` of Twisted's UDP ports."""

    def startListening(self) -> None:
        self._valid_addresses: set[tuple[str, int]] = set()
        super().startListening()

    def doRead(self) -> None:
        receive, size = self.socket.recvfrom, self.maxPacketSize
        datagram_received = self.protocol.datagramReceived
        ipv6 = self.addressFamily == socket.AF_INET6
        for _ in range(READS_PER_ITERATION):
            if self.maxThroughput <= 0:  # the port is closed, or a protocol wants no more datagrams in this iteration
                return
            try:
                data, address = receive(size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as e:
                if e.errno == ECONNREFUSED:
                    if self._connectedAddr:
                        self.protocol.connectionRefused()
                    return
                raise
            try:
                datagram_received(data, address[:2] if ipv6 else address)
            except BaseException:
                log.err()

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> Any:
        if addr in self._valid_addresses and not self._connectedAddr:
            try:
                return self.socket.sendto(datagram, addr)
            except OSError:
                pass  # Twisted's own write below raises the exception that fits the error
        result: Any = super().write(datagram, addr)
        if addr is not None:
            if len(self._valid_addresses) >= VALID_ADDRESSES_MAX:
                self._valid_addresses.clear()
            self._valid_addresses.add(addr)
        return result


class FastUDPPort(_FastUDPMixin, udp.Port):
    """A UDP port."""


class FastMulticastPort(_FastUDPMixin, udp.MulticastPort):
    """A UDP port that can join multicast groups."""
