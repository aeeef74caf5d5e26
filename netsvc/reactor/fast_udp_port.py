"""UDP ports that read a bounded number of datagrams per reactor iteration, and check each destination address once.

Where the system has recvmmsg, one call receives many datagrams. Each is sent by a call of its own, so that ``write``
raises the error of its datagram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from errno import ECONNREFUSED
from typing import TYPE_CHECKING, Any

from twisted.internet import udp
from twisted.python import log

from netsvc.linux import mmsg
from netsvc.linux.socket_address import unpack_address

#: Maximum number of datagrams that a port reads in one reactor iteration.
READS_PER_ITERATION = 64

#: Reads of one datagram until the port tries to read another one at once.
PROBE_INTERVAL = 8

if TYPE_CHECKING:
    _Base = udp.Port
else:
    _Base = object

#: Maximum number of addresses that a port remembers: of sources, and of destinations that are valid.
ADDRESSES_MAX = 4_096

_Received = Iterable[tuple[bytes, tuple[str, int]]]


class _FastUDPMixin(_Base):
    """Replaces the ``doRead`` and ``write`` of Twisted's UDP ports."""

    def startListening(self) -> None:
        self._valid_addresses: set[tuple[str, int]] = set()
        self._sources: dict[bytes, tuple[str, int]] = {}
        self._more_expected = True
        self._read_count = 0
        super().startListening()
        self._receive: Callable[[int], _Received] = self._receive_one
        if mmsg.AVAILABLE:
            self._receiver = mmsg.MessageReceiver(READS_PER_ITERATION, self.maxPacketSize, 0)
            self._receive = self._receive_many

    def doRead(self) -> None:
        datagram_received = self.protocol.datagramReceived
        left = READS_PER_ITERATION
        self._read_count += 1
        # While a datagram is processed, more has often arrived. To read it now is cheaper than to wait for the reactor,
        # unless there is one datagram at a time.
        while left > 0 and self.maxThroughput > 0 and self.fileno() != -1:
            try:
                received = self._receive(left)
            except OSError as e:
                if e.errno == ECONNREFUSED:
                    if self._connectedAddr:
                        self.protocol.connectionRefused()
                    return
                raise
            count = 0
            for data, address in received:
                count += 1
                try:
                    datagram_received(data, address)
                except BaseException:
                    log.err()
            if not count:
                self._more_expected = False
                return
            if count == 1 and not self._more_expected and self._read_count % PROBE_INTERVAL:
                return
            self._more_expected = True
            left -= count

    def _receive_many(self, maximum: int) -> _Received:
        payloads, names, _ = self._receiver.receive(self.fileno(), maximum)
        sources = self._sources
        return [(data, sources.get(name) or self._source(name)) for data, name in zip(payloads, names, strict=True)]

    def _source(self, name: bytes) -> tuple[str, int]:
        if len(self._sources) >= ADDRESSES_MAX:
            self._sources.clear()
        host, port, *_ = unpack_address(name)
        source = self._sources[name] = host, port
        return source

    def _receive_one(self, _maximum: int) -> _Received:
        try:
            data, address = self.socket.recvfrom(self.maxPacketSize)
        except (BlockingIOError, InterruptedError):
            return ()
        return ((data, address[:2]),)

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
