"""TCP connections that are handed over to the event loop when they are active.

At first, Twisted handles a connection, and the reactor's epoll watches it. At its twelfth read or write
(``hand_over_at``), the connection is handed over: the event loop gets the socket, and a :class:`LoopProtocol` becomes
the loop's protocol for it. From then on, the loop reads the socket. Written bytes go to the loop's transport, once
after each read or once per iteration of the loop.

A short connection is not handed over, because that costs more than it saves. A TLS handshake with one echo, for
example, takes eight reads and writes; handing it over would make it 8 % slower.

Closing, half-closing, producers and the reasons of connection loss stay the code of
``twisted.internet.abstract.FileDescriptor``. Only its ``doWrite`` is replaced.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from twisted.internet import main, tcp
from twisted.python import log
from twisted.python.log import ILogContext

if TYPE_CHECKING:
    _Base = tcp.Connection
else:
    _Base = object


#: Maximum number of connections that a port accepts in one reactor iteration.
ACCEPTS_PER_ITERATION = 64


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
        the connection is closed or half-closed.
    :ivar has_push_producer: whether there is a push producer, which may have to be paused.
    """

    __slots__ = (
        "_context",
        "_contexts",
        "_early_data",
        "_ended",
        "_in_data_received",
        "_prefix",
        "_unsent",
        "blocked",
        "connection",
        "has_push_producer",
        "reactor",
        "reading",
        "slow_path",
        "transport",
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
        self._contexts = self.reactor.contexts
        self._unsent: list[bytes] = connection._tempDataBuffer
        self._in_data_received = False
        self._early_data = b""  # bytes that the loop has read although reading was paused
        self._ended = False  # whether the peer has ended its stream while reading was paused
        self._prefix = ""
        self._context: dict[Any, dict[str, Any]] = {}

    # The methods that the loop calls

    def connection_made(self, transport: Any) -> None:
        if self.connection.native is not self:  # the connection was lost meanwhile
            transport.abort()
            return
        transport.set_write_buffer_limits(0, 0)  # so that the loop calls pause_writing for every unsent byte
        if hasattr(transport, "max_size"):
            # asyncio allocates a buffer of this size for each read, by default 256 KiB. In some processes, malloc
            # requests it from the kernel and returns it each time, which made a small echo four times as slow.
            transport.max_size = self.connection.bufferSize
        self.transport = transport
        self.blocked = False
        if not self.reading:
            self.reactor.loop.call_soon(self._pause)
        if self.writing:
            self.reactor.flush_soon(self)

    def _pause(self) -> None:
        """Pause reading. In connection_made this has no effect, because the loop starts to read afterwards."""
        if not self.reading and self.connection.native is self:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if not self.reading:
            self._early_data += data
            return
        connection = self.connection
        contexts = self._contexts
        contexts.append(self._context if self._prefix is connection.logstr else self._new_context())
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
            self.flush()

    def eof_received(self) -> bool:
        if self.reading:
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
        if self.connection._aborting:
            return
        self.blocked = False
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
        """Schedule a flush: after the present read, or in the next iteration of the loop."""
        self.writing = True
        if not self._in_data_received and not self.blocked:
            self.reactor.flush_soon(self)

    def start_reading(self) -> None:
        if self.reading:
            return
        self.reading = True
        early_data, self._early_data = self._early_data, b""
        if early_data:
            self.reactor.loop.call_soon(self._receive_early_data, early_data)
        if self._ended:
            self._ended = False
            self.reactor.loop.call_soon(self.eof_received)
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
                self.transport.write(unsent.pop())
            else:
                data = b"".join(unsent)
                unsent.clear()
                self.transport.write(data)
            self.connection._tempDataLen = 0
            if self.blocked:
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
        if self.transport is not None:
            self.transport.abort()

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

    def _receive_early_data(self, data: bytes) -> None:
        if self.connection.native is self and not self.connection._aborting:
            self.data_received(data)

    def _disconnect(self, reason: Any, reading: bool) -> None:
        """Let the reactor close the connection, or half-close it."""
        self._call_in_context(self.reactor._disconnectSelectable, self.connection, reason, reading)

    def _call_in_context(self, call: Any, *args: Any) -> None:
        """Call a function with this connection's log context. Log the exceptions that it raises."""
        self._contexts.append(self._new_context())
        try:
            call(*args)
        except BaseException:
            log.err()
        finally:
            self._contexts.pop()

    def _new_context(self) -> dict[Any, dict[str, Any]]:
        """Return the log context that Twisted's callWithLogger creates for each call."""
        self._prefix = self.connection.logPrefix()
        self._context = {ILogContext: {"isError": 0, "system": self._prefix}}
        return self._context


class NativeConnection(_Base):
    """Lets a TCP transport of Twisted be handed over to the event loop.

    :ivar native: the loop's protocol for this connection; None as long as Twisted handles it.
    """

    reactor: Any
    native: LoopProtocol | None = None
    _io_count = 0  # reads and writes before the handover

    def doRead(self) -> Any:
        self._count_io()
        return super().doRead()

    def doWrite(self) -> Any:
        self._count_io()
        return super().doWrite()

    def _count_io(self) -> None:
        self._io_count += 1
        if self._io_count == self.reactor.hand_over_at:
            self.reactor.loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Hand the socket over to the loop, if the connection is still open and reading."""
        if not self.connected or self.disconnecting or self._aborting or self.native is not None:
            return
        reactor = self.reactor
        number = self.fileno()
        if self._writeDisconnecting or number not in reactor._reads:
            self._io_count = 0  # try again later
            return
        writes = number in reactor._writes
        reactor.removeReader(self)
        reactor.removeWriter(self)
        if self.dataBuffer:
            self._tempDataBuffer.insert(0, self.dataBuffer[self.offset :])
            self.dataBuffer, self.offset = b"", 0
        no_delay = self.getTcpNoDelay()
        native = self.native = LoopProtocol(self)
        native.writing = writes
        self._update_write_mode()
        reactor.native_connections.add(self)
        _run_without_task(reactor.loop.connect_accepted_socket(lambda: native, self.socket))
        if not no_delay:
            self.setTcpNoDelay(False)  # uvloop sets this option
        if not self.TLS:
            self.write = native.write  # type: ignore[method-assign]

    def _update_write_mode(self) -> None:
        """Update ``slow_path`` and ``has_push_producer`` of the loop's protocol."""
        if self.native is not None:
            pull_producer = self.producer is not None and not self.streamingProducer
            self.native.slow_path = pull_producer or self.TLS or not self.connected or self._writeDisconnected
            self.native.has_push_producer = self.producer is not None and not pull_producer
            self._tempDataLen = sum(map(len, self._tempDataBuffer))  # write() counts it only if there is a producer

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        vars(self).pop("write", None)  # from now on, write() encrypts
        super().startTLS(ctx, normal)
        self._update_write_mode()  # the protocol may have kept a reference to the replaced write method

    def startReading(self) -> None:
        if self.native is not None:
            self.native.start_reading()
            return
        super().startReading()
        if self._io_count == self.reactor.hand_over_at:  # hand_over_at is 0: before the first read
            self.reactor.loop.call_soon(self._hand_over)

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
        unsent = self.native.transport.get_write_buffer_size() if self.native.transport is not None else 0
        full: bool = unsent + self._tempDataLen > self.bufferSize
        return full

    def _closeSocket(self, orderly: bool) -> None:
        native, self.native = self.native, None
        if native is None:
            super()._closeSocket(orderly)
        else:
            vars(self).pop("write", None)
            self.reactor.native_connections.discard(self)
            native.close(orderly, self.socket)


class NativeServer(NativeConnection, tcp.Server):
    """A TCP connection on the side of the server."""


class NativePort(tcp.Port):
    """A TCP port that accepts a bounded number of connections per reactor iteration.

    Twisted's own port raises its limit by 20 after each iteration that reached it. During a flood of connections, an
    iteration therefore takes 40 ms, and no other connection is served meanwhile.
    """

    transport = NativeServer

    def doRead(self) -> None:
        self.numberAccepts = min(self.numberAccepts, ACCEPTS_PER_ITERATION)
        super().doRead()


class NativeClient(NativeConnection, tcp.Client):
    """A TCP connection on the side of the client."""


class NativeConnector(tcp.Connector):
    """Creates the client side of a TCP connection."""

    def _makeTransport(self) -> Any:
        return NativeClient(self.host, self.port, self.bindAddress, self, self.reactor)


def _run_without_task(coroutine: Any) -> None:
    """Run a coroutine of the loop without the cost of a Task. It awaits one future."""
    try:
        future: asyncio.Future[Any] = coroutine.send(None)
    except StopIteration:
        return
    future._asyncio_future_blocking = False  # a Task does the same
    future.add_done_callback(lambda _: _run_without_task(coroutine))
