"""TCP connections that write and read with fewer steps than Twisted's own."""

from __future__ import annotations

from errno import ENOBUFS, EWOULDBLOCK
from typing import TYPE_CHECKING, Any

from twisted.internet import main, tcp

if TYPE_CHECKING:
    _Base = tcp.Connection
else:
    _Base = object


class FastConnection(_Base):
    """Replaces the methods that write and read where nothing special is to be done.

    Producers, closing, TLS, errors and large data stay Twisted's code.
    """

    reactor: Any

    def stopReading(self) -> None:
        if self.connected:
            self.reactor.pause_reader(self)
        else:
            super().stopReading()

    def write(self, data: bytes) -> None:
        if (
            type(data) is not bytes
            or not data
            or self.producer is not None
            or not self.connected
            or self._writeDisconnected
            or self.TLS
        ):
            super().write(data)
            return
        self._tempDataBuffer.append(data)
        self._tempDataLen += len(data)
        self.startWriting()

    def doWrite(self) -> Any:
        unsent = self._tempDataBuffer
        if (
            len(unsent) != 1
            or self.dataBuffer
            or self.producer is not None
            or self.disconnecting
            or self._writeDisconnecting
        ):
            return super().doWrite()
        data = unsent[0]
        sent = self.writeSomeData(data)
        if type(sent) is not int or sent < 0:
            return sent
        unsent.clear()
        self._tempDataLen = 0
        if sent < len(data):
            self.dataBuffer, self.offset = data, sent
        else:
            self.stopWriting()
        return None

    def writeSomeData(self, data: bytes) -> Any:
        if len(data) > self.SEND_LIMIT:
            return super().writeSomeData(data)
        try:
            return self.socket.send(data)
        except OSError as e:
            return 0 if e.errno in (EWOULDBLOCK, ENOBUFS) else main.CONNECTION_LOST

    def doRead(self) -> Any:
        if self.reactor.paused and self.reactor.ignores_read_of(self):
            return None
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
