"""TCP connections that are handed over to uvloop when they are active.

At first, Twisted handles a connection, and the reactor's epoll watches it. At its twelfth read or write
(``hand_over_at``), the connection is handed over: uvloop gets the socket, and a :class:`LoopProtocol` becomes uvloop's
protocol for it. From then on, uvloop reads the socket. Written bytes go to uvloop's transport, once after each read or
once per iteration of the loop.

A short connection is not handed over, because that costs more than it saves. A TLS handshake with one echo, for
example, takes eight reads and writes; handing it over would make it 8 % slower.

Closing, half-closing, producers and the reasons of connection loss stay the code of
``twisted.internet.abstract.FileDescriptor``. Only its ``doWrite`` is replaced.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from select import EPOLLIN
from typing import Any

from twisted.internet import main, tcp
from twisted.python import log

from netsvc.reactor.connection import FastConnection
from netsvc.reactor.tcp_port import BoundedPort


class LoopProtocol:
    """The protocol that the event loop uses for a connection.

    :meth:`data_received`, :meth:`write` and :meth:`flush` are the hot path. They are methods of a class with slots
    because an echo then costs 5.7 us of CPU time; as methods of Twisted's transport they cost 6.3 us.

    :param connection: Twisted's transport.
    :ivar transport: the transport of the loop; None until the loop has created it.
    :ivar reading: whether the connection wants to read.
    :ivar writing: whether there are unsent bytes, or an action that follows when all bytes are sent.
    :ivar blocked: whether the loop has unsent bytes, or has not created its transport yet.
    :ivar slow_path: whether each write must call Twisted's own ``write``, because of a pull producer or TLS, or because
        the connection is closed, half-closed, or taken back.
    :ivar has_push_producer: whether there is a push producer, which may have to be paused.
    :ivar no_delay: the socket option TCP_NODELAY before the handover.
    :ivar undelivered: bytes that the loop has read, but the protocol has not received: reading was paused.
    """

    __slots__ = (
        "_context",
        "_contexts",
        "_ended",
        "_in_data_received",
        "_in_loop",
        "_read_max",
        "_unsent",
        "blocked",
        "connection",
        "has_push_producer",
        "no_delay",
        "reactor",
        "reading",
        "slow_path",
        "transport",
        "undelivered",
        "writing",
    )

    def __init__(self, connection: NativeConnection) -> None:
        self.connection = connection
        self.reactor = connection.reactor
        self.transport: Any = None
        self.reading = True
        self.writing = False
        self.blocked = True
        self.slow_path = False
        self.has_push_producer = False
        self.undelivered: bytes | memoryview = b""
        self._contexts = self.reactor.log_contexts
        self._context = self.reactor.log_context
        self._read_max: int = connection.bufferSize
        self._unsent: list[bytes] = connection._tempDataBuffer
        self._in_loop = b""  # what the loop was given last, if it could not send all of it
        self._in_data_received = False
        self.no_delay = True
        self._ended = False  # whether the peer has ended its stream while reading was paused

    # The methods that the loop calls

    def connection_made(self, transport: Any) -> None:
        if self.connection.native is not self:  # the connection was lost or taken back meanwhile
            transport.abort()
            return
        transport.set_write_buffer_limits(0, 0)  # so that the loop calls pause_writing for every unsent byte
        self.transport = transport
        self.blocked = False
        if not self.no_delay:
            self.connection.setTcpNoDelay(False)  # uvloop sets this option
        if not self.reading:
            self.reactor.call_soon(self._pause)
        if self.writing:
            self.reactor.flush_soon(self)

    def _pause(self) -> None:
        """Pause reading. In connection_made this has no effect, because the loop starts to read afterwards."""
        if not self.reading and self.connection.native is self:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if not self.reading or self.undelivered or len(data) > self._read_max:
            self.undelivered = bytes(self.undelivered) + data if self.undelivered else data
            self._deliver()
            return
        connection = self.connection
        context = self._context
        context.selectable = connection
        contexts = self._contexts
        contexts.append(context)
        self._in_data_received = True
        try:
            # Read both attributes each time, because each of them may have been replaced.
            connection.protocol.dataReceived(data)
        except BaseException as e:
            self._in_data_received = False
            log.err()
            contexts.pop()
            self._disconnect(e, True)
            return
        self._in_data_received = False
        contexts.pop()
        if self.writing:
            reactor = self.reactor
            if reactor.last_read is self:
                self.flush()
            else:  # several connections are active: each send would wake its peer, and that costs more than the send
                reactor.last_read = self
                reactor.flush_soon(self)

    def eof_received(self) -> bool:
        if self.reading and not self.undelivered:
            self._disconnect(main.CONNECTION_DONE, True)
        else:
            self._ended = True
        return True  # keeps the other direction open

    def connection_lost(self, exc: Exception | None) -> None:
        connection = self.connection
        if connection.native is self and not connection._aborting:
            self._disconnect(main.CONNECTION_LOST, False)

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        if self.connection.native is not self or self.connection._aborting:
            return
        self.blocked = False
        self._in_loop = b""
        if self.writing:
            self._call_in_context(self.flush)

    # The methods that Twisted's transport calls

    def write(self, data: bytes) -> None:
        """Replace the ``write`` method of the connection."""
        if self.slow_path or type(data) is not bytes:
            type(self.connection).write(self.connection, data)
        elif data:
            self._unsent.append(data)
            if self.has_push_producer:
                connection = self.connection
                connection._tempDataLen += len(data)
                if self.blocked or connection._tempDataLen > connection.bufferSize:
                    connection._maybePauseProducer()
            if not self.writing:
                self.start_writing()

    def start_writing(self) -> None:
        """Schedule a flush: after the present read, or at the end of the iteration."""
        self.writing = True
        if not self._in_data_received and not self.blocked:
            self.reactor.flush_soon(self)

    def start_reading(self) -> None:
        if self.reading:
            return
        self.reading = True
        if self.undelivered or self._ended:
            self.reactor.call_soon(self._deliver)
        if self.transport is not None:
            self.transport.resume_reading()

    def stop_reading(self) -> None:
        if self.reading:
            self.reading = False
            if self.transport is not None:
                self.transport.pause_reading()

    def flush(self) -> None:
        """Pass the written bytes to the loop. If all bytes are sent, do what follows (``_finish``)."""
        if self.blocked or not self.writing:
            return
        unsent = self._unsent
        if unsent:
            if len(unsent) == 1:
                data = unsent.pop()
            else:
                data = b"".join(unsent)
                unsent.clear()
            self.transport.write(data)
            self.connection._tempDataLen = 0
            if self.blocked:
                self._in_loop = data
                return
        self.writing = False
        connection = self.connection
        if (
            self.slow_path
            or connection.disconnecting
            or connection._writeDisconnecting
            or (self.has_push_producer and connection.producerPaused)
        ):
            self._finish()

    def close(self, orderly: bool, opened: socket.socket) -> None:
        """Close the connection. The loop has no unsent bytes, or drops them."""
        try:
            if orderly:
                opened.shutdown(socket.SHUT_RDWR)
            else:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # the connection is closed already
        self._release()

    def give_back(self) -> bytes:
        """Let the loop close its descriptor of the connection. Return the bytes that the loop has not sent."""
        unsent = self._in_loop[len(self._in_loop) - self.unsent_in_loop() :]
        self._release()
        return unsent

    def unsent_in_loop(self) -> int:
        """Return the number of bytes that the loop has not sent yet."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def _release(self) -> None:
        self.slow_path = self.blocked = True
        self.reading = self.writing = False
        if self.transport is not None:
            self.transport.abort()

    def _deliver(self) -> None:
        """Let the protocol receive the undelivered bytes, in pieces as large as those that Twisted reads.

        A protocol that searches its whole buffer for each line would otherwise take four times as long for the pieces
        of 256,000 bytes that uvloop reads.
        """
        if self.reading and self.undelivered:
            self._in_data_received = True
            self._call_in_context(self._deliver_pieces)
            self._in_data_received = False
            if self.writing:
                self.reactor.flush_soon(self)
        if self.reading and self._ended and not self.undelivered:
            self._ended = False
            self.eof_received()

    def _deliver_pieces(self) -> None:
        while self.reading and self.undelivered:
            view = memoryview(self.undelivered)
            data, self.undelivered = bytes(view[: self._read_max]), view[self._read_max :]
            try:
                self.connection.protocol.dataReceived(data)
            except BaseException as e:
                log.err()
                self.undelivered = b""
                self.reactor._disconnectSelectable(self.connection, e, True)

    def _finish(self) -> None:
        """All bytes are sent: resume the producer, close or half-close, as the end of FileDescriptor.doWrite does."""
        connection: Any = self.connection
        if connection._aborting or connection.disconnected:
            return
        reason: Any = None
        try:
            if connection.producer is not None and (not connection.streamingProducer or connection.producerPaused):
                connection.producerPaused = False
                connection.producer.resumeProducing()
            elif connection.disconnecting:
                reason = connection._postLoseConnection()
            elif connection._writeDisconnecting:
                connection._writeDisconnected = True
                reason = connection._closeWriteConnection()
        except BaseException as e:
            log.err()
            reason = e
        if reason:
            self._disconnect(reason, False)

    def _disconnect(self, reason: Any, reading: bool) -> None:
        """Let the reactor close the connection, or half-close it."""
        self._call_in_context(self.reactor._disconnectSelectable, self.connection, reason, reading)

    def _call_in_context(self, call: Any, *args: Any) -> None:
        """Call a function with this connection's log context. Log the exceptions that it raises."""
        context = self._context
        before, context.selectable = context.selectable, self.connection
        self._contexts.append(context)
        try:
            call(*args)
        except BaseException:
            log.err()
        finally:
            self._contexts.pop()
            context.selectable = before


#: Attributes of a transport that the loop would not use. If an application has replaced one of them, it wants Twisted's
#: own reads and writes, and the connection is not handed over.
_READS_AND_WRITES = frozenset({"doRead", "doWrite", "writeSomeData", "_dataReceived"})


class NativeConnection(FastConnection):
    """Lets a TCP transport of Twisted be handed over to the event loop.

    :ivar native: the loop's protocol for this connection; None as long as Twisted handles it.
    """

    reactor: Any
    native: LoopProtocol | None = None
    _io_count = 0  # reads and writes before the handover
    _undelivered = b""  # bytes that the loop had read before the connection was taken back

    def doRead(self) -> Any:
        if self._undelivered:
            return self._deliver_one_piece()
        self._count_io()
        return super().doRead()

    def doWrite(self) -> Any:
        self._count_io()
        return super().doWrite()

    def _count_io(self) -> None:
        self._io_count += 1
        if self._io_count == self.reactor.hand_over_at:
            self.reactor.hand_over_soon(self)

    def hand_over(self) -> None:
        """Hand the socket over to the loop, if the connection is still open and reading."""
        if not self.connected or self.disconnecting or self._aborting or self.native is not None:
            return
        reactor = self.reactor
        number = self.fileno()
        reading = number in reactor._reads and self not in reactor.paused
        if self._writeDisconnecting or not reading or self._undelivered or reactor.iterating:
            self._io_count = 0  # try again later
            return
        if not _READS_AND_WRITES.isdisjoint(vars(self)):
            return
        writes = number in reactor._writes or self in reactor.unflushed
        reactor.removeReader(self)
        reactor.removeWriter(self)
        if self.dataBuffer:
            self._tempDataBuffer.insert(0, self.dataBuffer[self.offset :])
            self.dataBuffer, self.offset = b"", 0
        native = self.native = LoopProtocol(self)
        native.writing = writes
        self._update_write_mode()
        reactor.native_connections.add(self)
        try:
            native.no_delay = self.getTcpNoDelay()
        except Exception as e:
            self._hand_over_failed(e)
            return
        connected = reactor.loop.create_task(reactor.loop.connect_accepted_socket(lambda: native, self.socket))
        connected.add_done_callback(self._handed_over)
        if not self.TLS and "write" not in vars(self):
            self.write = native.write  # type: ignore[method-assign]

    def _handed_over(self, connected: asyncio.Task[Any]) -> None:
        error = None if connected.cancelled() else connected.exception()
        if error is not None:
            self._hand_over_failed(error)

    def _hand_over_failed(self, error: BaseException) -> None:
        if not isinstance(error, OSError):
            log.err(error)
        if self.native is not None:
            self.native._disconnect(error, False)

    def take_back(self) -> None:
        """Let Twisted handle the connection again.

        If there is no free descriptor for that, the connection stays with the loop.
        """
        native = self.native
        if native is None:
            return
        try:
            descriptor = os.dup(self.fileno())  # the loop closes its own
        except OSError:
            return
        reading, writing, undelivered = native.reading, native.writing or native.blocked, bytes(native.undelivered)
        self._forget(native)
        self.dataBuffer, self.offset = native.give_back(), 0
        self._tempDataLen = sum(map(len, self._tempDataBuffer))
        self.socket = socket.socket(fileno=descriptor)
        self.fileno = self.socket.fileno
        self._io_count = 0
        if reading:
            self.startReading()
        if writing and (self.dataBuffer or self._tempDataLen or native.transport is not None):
            self.startWriting()
        self._undelivered = undelivered
        if undelivered and reading:
            self.reactor.callFromThread(self._read_undelivered)

    def _read_undelivered(self) -> None:
        if self._undelivered and self.connected and self.fileno() in self.reactor._reads:
            self.reactor._doReadOrWrite(self, self.fileno(), EPOLLIN)

    def _deliver_one_piece(self) -> Any:
        """Let the protocol receive as many undelivered bytes as Twisted would read, unless reading is paused."""
        if self.reactor.ignores_read_of(self):
            return None
        data, self._undelivered = self._undelivered[: self.bufferSize], self._undelivered[self.bufferSize :]
        if self._undelivered:
            self.reactor.callFromThread(self._read_undelivered)
        return self._dataReceived(data)

    def _forget(self, native: LoopProtocol) -> None:
        """Forget the loop's protocol, and the write method if it is the loop's: an application may have replaced it."""
        self.native = None
        self.reactor.native_connections.discard(self)
        self._remove_native_write(native)

    def _remove_native_write(self, native: LoopProtocol) -> None:
        if vars(self).get("write") == native.write:
            del self.write

    def _update_write_mode(self) -> None:
        """Update ``slow_path`` and ``has_push_producer`` of the loop's protocol."""
        if self.native is not None:
            pull_producer = self.producer is not None and not self.streamingProducer
            self.native.slow_path = pull_producer or self.TLS or not self.connected or self._writeDisconnected
            self.native.has_push_producer = self.producer is not None and not pull_producer
            self._tempDataLen = sum(map(len, self._tempDataBuffer))  # write() counts it only if there is a producer

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        if self.native is not None:
            self._remove_native_write(self.native)  # from now on, write() encrypts
        super().startTLS(ctx, normal)
        self._update_write_mode()  # the protocol may have kept a reference to the replaced write method

    def startReading(self) -> None:
        if self.native is not None:
            self.native.start_reading()
            return
        super().startReading()
        if self._undelivered:
            self.reactor.callFromThread(self._read_undelivered)
        if self._io_count == self.reactor.hand_over_at:  # hand_over_at is 0: before the first read
            self.reactor.hand_over_soon(self)

    def stopReading(self) -> None:
        if self.native is not None:
            self.native.stop_reading()
        else:
            super().stopReading()

    def startWriting(self) -> None:
        if self.native is None:
            super().startWriting()
        elif not self.native.writing:
            self.native.start_writing()

    def stopWriting(self) -> None:
        if self.native is not None:
            self.native.writing = False
        else:
            super().stopWriting()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        self._update_write_mode()

    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self._update_write_mode()

    def abortConnection(self) -> None:
        super().abortConnection()
        if self.native is not None and self._aborting:
            self.native.blocked = True  # so that nothing more is sent

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        self._update_write_mode()

    def _closeWriteConnection(self) -> None:
        self._update_write_mode()
        super()._closeWriteConnection()

    def _isSendBufferFull(self) -> bool:
        if self.native is None:
            return bool(super()._isSendBufferFull())
        full: bool = self.native.unsent_in_loop() + self._tempDataLen > self.bufferSize
        return full

    def _closeSocket(self, orderly: bool) -> None:
        native = self.native
        if native is None:
            super()._closeSocket(orderly)
        else:
            self._forget(native)
            native.close(orderly, self.socket)


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
