"""TCP connections whose sockets uvloop reads when they are active.

At first, the reactor's own epoll watches a connection. At its sixth read (``hand_over_at``), the connection
is handed over: uvloop reads the socket from then on, and a :class:`LoopReader` passes the bytes to the protocol. That
costs half of what a read by way of the reactor's epoll costs. Twisted's transport still writes. If the socket does not
take all bytes, the reactor's epoll watches it for write events, as it does for other connections.

A short connection is not handed over, because that costs more than it saves. A TLS handshake with one echo, for
example, takes eight reads and writes; handing it over would make it 8 % slower.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from contextlib import suppress
from select import EPOLLIN
from typing import Any

from twisted.internet import main, tcp
from twisted.python import log

from netsvc.reactor.connection import FastConnection
from netsvc.reactor.log_context import LogContext
from netsvc.reactor.tcp_port import BoundedPort


class LoopReader:
    """The protocol that the event loop uses for a connection. The loop only reads.

    :meth:`data_received` is the hot path.

    :param connection: Twisted's transport.
    :ivar reading: whether the connection wants to read.
    :ivar no_delay: the socket option TCP_NODELAY. uvloop sets it, and it is then restored.
    """

    __slots__ = ("_connection", "_ended", "_log_context", "_reactor", "_read_max", "_transport", "no_delay", "reading")

    def __init__(self, connection: NativeConnection) -> None:
        self._connection = connection
        self._reactor = connection.reactor
        self._transport: Any = None  # of the loop; None until the loop has created it
        self._log_context = LogContext(connection, self._reactor.log_context)
        self._read_max: int = connection.bufferSize
        self._ended = False  # whether the peer has ended its stream while reading was paused
        self.reading = True
        self.no_delay = bool(connection.getTcpNoDelay())

    # The methods that the loop calls

    def connection_made(self, transport: Any) -> None:
        if self._connection.loop_reader is not self:  # the connection was lost or taken back meanwhile
            transport.abort()
            return
        self._transport = transport
        if not self.no_delay:
            self._connection.setTcpNoDelay(False)
        if not self.reading:
            self._reactor.call_soon(self._pause)

    def _pause(self) -> None:
        """Pause reading. In connection_made this has no effect, because the loop starts to read afterwards."""
        if not self.reading and self._connection.loop_reader is self:
            self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        if not self.reading or connection.undelivered or len(data) > self._read_max:
            connection.undelivered = bytes(connection.undelivered) + data if connection.undelivered else data
            self._deliver()
            return
        reactor = self._reactor
        contexts = reactor.log_contexts
        contexts.append(self._log_context)
        scheduled, reactor.flush_is_scheduled = reactor.flush_is_scheduled, True  # this method does it
        try:
            # Read both attributes each time, because each of them may have been replaced.
            connection.protocol.dataReceived(data)
        except BaseException as e:
            log.err()
            self._disconnect(e)
        contexts.pop()
        reactor.flush_is_scheduled = scheduled
        if reactor.unflushed or reactor.unencrypted:
            if reactor.last_read is self:
                reactor.flush_all()
            else:  # several connections are active: each send would wake its peer, and that costs more than the send
                reactor.last_read = self
                if not scheduled:
                    reactor.schedule_flush()

    def eof_received(self) -> bool:
        if self.reading and not self._connection.undelivered:
            self._disconnect(main.CONNECTION_DONE, reading=True)
        else:
            self._ended = True
        return True  # keeps the other direction open

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection.loop_reader is self:
            self._disconnect(main.CONNECTION_LOST)

    # The loop calls these if it has unsent bytes, and here it never has any.

    def pause_writing(self) -> None:
        pass

    def resume_writing(self) -> None:
        pass

    # The methods that Twisted's transport calls

    def start_reading(self) -> None:
        if self.reading:
            return
        self.reading = True
        if self._connection.undelivered or self._ended:
            self._reactor.call_soon(self._deliver)
        if self._transport is not None:
            self._transport.resume_reading()

    def stop_reading(self) -> None:
        if self.reading:
            self.reading = False
            if self._transport is not None:
                self._transport.pause_reading()

    def release(self) -> None:
        """Let the loop close its descriptor of the connection, now or as soon as it has created its transport."""
        self.reading = False
        if self._transport is not None:
            self._transport.abort()

    def _deliver(self) -> None:
        """Let the protocol receive the undelivered bytes, in pieces as large as those that Twisted reads.

        A protocol that searches its whole buffer for each line would otherwise take four times as long for the pieces
        of 256,000 bytes that uvloop reads.
        """
        self._call(self._deliver_pieces)
        if self.reading and self._ended and not self._connection.undelivered:
            self._ended = False
            self.eof_received()

    def _deliver_pieces(self) -> None:
        connection = self._connection
        while self.reading and connection.undelivered:
            try:
                connection.protocol.dataReceived(connection.next_piece())
            except BaseException as e:
                log.err()
                connection.undelivered = b""
                self._disconnect(e)

    def _disconnect(self, reason: Any, reading: bool = False) -> None:
        """Let the reactor close the connection, or half-close it if the loop has read its end."""
        self._call(self._reactor._disconnectSelectable, self._connection, reason, reading)

    def _call(self, call: Any, *args: Any) -> None:
        """Call a function with this connection's log context. Log the exceptions that it raises."""
        contexts = self._reactor.log_contexts
        contexts.append(self._log_context)
        try:
            call(*args)
        except BaseException:
            log.err()
        finally:
            contexts.pop()


class NativeConnection(FastConnection):
    """Lets a TCP transport of Twisted be handed over to the event loop.

    :ivar loop_reader: the loop's protocol for this connection; None as long as the reactor's own epoll watches it.
    :ivar undelivered: bytes that the loop has read, but the protocol has not received.
    :ivar reads: the number of reads before the handover.
    """

    reactor: Any
    loop_reader: LoopReader | None = None
    undelivered: bytes | memoryview = b""
    reads = 0

    def doRead(self) -> Any:
        if self.undelivered:  # the connection was taken back
            return self._read_undelivered()
        self.reads += 1
        if self.reads == self.reactor.hand_over_at:
            self.reactor.hand_over_soon(self)
        return super().doRead()

    def hand_over(self) -> None:
        """Hand the socket over to the loop, if the connection is still open and reading."""
        if not self.connected or self.disconnecting or self._aborting or self.loop_reader is not None:
            return
        reactor = self.reactor
        if self.fileno() not in reactor._reads or self in reactor.paused or self.undelivered or reactor.iterating:
            self.reads = 0  # try again later
            return
        if "doRead" in vars(self):  # the application has replaced it, and the loop would not call it
            return
        try:
            reader = LoopReader(self)
        except Exception as e:
            self._hand_over_failed(e)
            return
        reactor.removeReader(self)
        self.loop_reader = reader
        reactor.native_connections.add(self)
        mine = self.socket
        # The loop detaches the socket object that it gets. So it gets one of its own, with the same descriptor.
        its_own = socket.socket(mine.family, mine.type, mine.proto, fileno=mine.fileno())

        def handed_over(connected: asyncio.Task[Any]) -> None:
            error = None if connected.cancelled() else connected.exception()
            if error is not None:
                self._hand_over_failed(error)
                its_own.close()

        connected = reactor.loop.create_task(reactor.loop.connect_accepted_socket(lambda: reader, its_own))
        connected.add_done_callback(handed_over)

    def _hand_over_failed(self, error: BaseException) -> None:
        if not isinstance(error, OSError):
            log.err(error)
        if self.connected:
            self.reactor._disconnectSelectable(self, error, False)

    def take_back(self) -> None:
        """Let the reactor's epoll watch the connection again.

        If there is no free descriptor for that, the connection stays with the loop.
        """
        reader = self.loop_reader
        if reader is None:
            return
        try:
            descriptor = os.dup(self.fileno())  # the loop closes its own
        except OSError:
            log.err(None, "A connection does not take part in an iteration within a callback")
            return
        reactor = self.reactor
        reading, blocked = reader.reading, self.fileno() in reactor._writes
        if blocked:
            reactor.removeWriter(self)
        self._release(reader)
        mine = self.socket  # the same object, because the application may hold it
        mine.detach()
        socket.socket.__init__(mine, mine.family, mine.type, mine.proto, fileno=descriptor)
        mine.setblocking(False)  # whatever socket.setdefaulttimeout says
        self.reads = 0
        if blocked:
            reactor.addWriter(self)
        if reading:
            self.startReading()

    def next_piece(self) -> bytes:
        """Remove as many bytes from ``undelivered`` as Twisted reads at once. Returns them."""
        view = memoryview(self.undelivered)
        self.undelivered = view[self.bufferSize :]
        return bytes(view[: self.bufferSize])

    def _read_undelivered(self) -> Any:
        """Let the protocol receive the next piece of the undelivered bytes, unless reading is paused."""
        if self.reactor.ignores_read_of(self):
            return None
        piece = self.next_piece()
        if self.undelivered:
            self.reactor.callFromThread(self._become_readable)
        return self._dataReceived(piece)

    def _become_readable(self) -> None:
        """Do what the reactor does if the socket is readable."""
        if self.undelivered and self.connected and self.fileno() in self.reactor._reads:
            self.reactor._doReadOrWrite(self, self.fileno(), EPOLLIN)

    def _release(self, reader: LoopReader) -> None:
        self.loop_reader = None
        self.reactor.forget(self, reader)
        reader.release()

    def startReading(self) -> None:
        if self.loop_reader is not None:
            self.loop_reader.start_reading()
            return
        super().startReading()
        if self.undelivered:
            self.reactor.callFromThread(self._become_readable)
        if self.reads == self.reactor.hand_over_at:  # hand_over_at is 0: before the first read
            self.reactor.hand_over_soon(self)

    def stopReading(self) -> None:
        if self.loop_reader is not None:
            self.loop_reader.stop_reading()
        else:
            super().stopReading()

    def setTcpNoDelay(self, enabled: bool) -> None:
        super().setTcpNoDelay(enabled)
        if self.loop_reader is not None:
            self.loop_reader.no_delay = enabled

    def _closeSocket(self, orderly: bool) -> None:
        reader = self.loop_reader
        if reader is None:
            super()._closeSocket(orderly)
            return
        with suppress(OSError):  # the connection is closed already
            if orderly:
                self.socket.shutdown(socket.SHUT_RDWR)
            else:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._release(reader)
        self.socket.detach()  # the loop closes the descriptor


class NativeServer(NativeConnection, tcp.Server):
    """A TCP connection on the side of the server."""


class NativePort(BoundedPort):
    """A TCP port whose connections can be handed over to the event loop."""

    transport = NativeServer


class NativeClient(NativeConnection, tcp.Client):
    """A TCP connection on the side of the client."""


class NativeConnector(tcp.Connector):
    """Creates the client side of a TCP connection."""

    def _makeTransport(self) -> Any:
        return NativeClient(self.host, self.port, self.bindAddress, self, self.reactor)
