"""UDP ports that take a bounded number of datagrams in a turn, and check an address once."""

from __future__ import annotations

import socket
from errno import ECONNREFUSED
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.python import log

#: Datagrams that a port takes in one turn of the reactor.
DATAGRAMS_A_TURN = 64

if TYPE_CHECKING:
    _Base = udp.Port
else:
    _Base = object

#: Addresses that are remembered to be good.
REMEMBERED = 4_096


class _Lean(_Base):
    """What is lean about a UDP port."""

    def startListening(self) -> None:
        self._good: set[tuple[str, int]] = set()
        super().startListening()

    def doRead(self) -> None:
        receive, size = self.socket.recvfrom, self.maxPacketSize
        received = self.protocol.datagramReceived
        ipv6 = self.addressFamily == socket.AF_INET6
        for _ in range(DATAGRAMS_A_TURN):
            if self.maxThroughput <= 0:  # closed, or a protocol wants no more this turn
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
                received(data, address[:2] if ipv6 else address)
            except BaseException:
                log.err()

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> Any:
        if addr in self._good and not self._connectedAddr:
            try:
                return self.socket.sendto(datagram, addr)
            except OSError:
                pass  # which the long way tells from each other
        result: Any = super().write(datagram, addr)
        if addr is not None:
            if len(self._good) >= REMEMBERED:
                self._good.clear()
            self._good.add(addr)
        return result


class DatagramPort(_Lean, udp.Port):
    """A UDP port."""


class MulticastPort(_Lean, udp.MulticastPort):
    """A UDP port that can join groups."""
