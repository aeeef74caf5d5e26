"""TCP connections that write and read with fewer steps than Twisted's own."""

from __future__ import annotations

from errno import EWOULDBLOCK
from typing import TYPE_CHECKING, Any

from twisted.internet import main, tcp

from netsvc.reactor.lean_tls import is_stock_tls

if TYPE_CHECKING:
    _Base = tcp.Connection
else:
    _Base = object


class FastConnection(_Base):
    """Replaces the methods that write and read where nothing special is to be done.

    Producers that are to be paused or resumed, closing, TLS, errors and large data stay Twisted's code.

    :ivar has_unread: whether bytes have come while reading was paused, and the connection has not read since.
    """

    reactor: Any
    has_unread = False

    def stopReading(self) -> None:
        if self.connected and "doRead" not in self.__dict__:
            self.reactor.pause_reader(self)
        else:
            super().stopReading()

    def write(self, data: bytes) -> None:
        if (
            type(data) is not bytes
            or not data
            or (self.producer is not None and not self._leaves_producer_alone(len(data)))
            or not self.connected
            or self._writeDisconnected
            or self.TLS
        ):
            super().write(data)
            return
        self._tempDataBuffer.append(data)
        self._tempDataLen += len(data)
        reactor = self.reactor
        if self not in reactor.unflushed:
            reactor.flush_soon(self)

    def _leaves_producer_alone(self, size: int) -> bool:
        """Return whether the producer is not to be paused when this many bytes more are unsent."""
        return self.streamingProducer and len(self.dataBuffer) + self._tempDataLen + size <= self.bufferSize

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        super().startTLS(ctx, normal)
        if is_stock_tls(self.protocol):
            self.reactor.make_tls_lean(self.protocol)

    def send_unsent(self) -> bool:
        """Send the written bytes, if that is all there is to do.

        :return: False if ``doWrite`` has to do it, or the rest of it.
        """
        unsent = self._tempDataBuffer
        attributes = self.__dict__
        if (
            len(unsent) != 1
            or self.dataBuffer
            or (self.producer is not None and (self.producerPaused or not self.streamingProducer))
            or self.disconnecting
            or self._writeDisconnecting
            or "doWrite" in attributes  # the application has replaced one of them
            or "writeSomeData" in attributes
        ):
            return False
        data = unsent[0]
        try:
            sent = self.socket.send(data)
        except OSError:
            return False  # doWrite gets the error as well
        unsent.clear()
        self._tempDataLen = 0
        if sent < len(data):
            self.dataBuffer, self.offset = data, sent
            return False
        return True

    def doRead(self) -> Any:
        if self.reactor.paused and self.reactor.ignores_read_of(self):
            return None
        self.has_unread = False
        try:
            data = self.socket.recv(self.bufferSize)
        except OSError as e:
            return None if e.errno == EWOULDBLOCK else main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None


class FastServer(FastConnection, tcp.Server):
    """A TCP connection on the side of the server."""


class FastClient(FastConnection, tcp.Client):
    """A TCP connection on the side of the client."""


class FastConnector(tcp.Connector):
    """Creates the client side of a TCP connection."""

    def _makeTransport(self) -> Any:
        return FastClient(self.host, self.port, self.bindAddress, self, self.reactor)
