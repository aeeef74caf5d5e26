"""TCP connections that become the event loop's own once they talk.

A connection begins as Twisted's, watched by the reactor's epoll. At its twelfth read or write (``hand_over_at``) it is
handed over: the loop gets its socket, and a :class:`Native` is the loop's protocol for it. From then on the loop reads,
and what is written goes to the loop's transport, once after each read or once a turn. A connection that asks one
question and leaves is not handed over, which would cost more than it saves: 8 % of a TLS handshake with one echo, which
takes eight reads and writes.

Closing, half-closing, producers and the reasons of loss stay the code of ``twisted.internet.abstract.FileDescriptor``,
but for its ``doWrite``.
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


#: Connections that one port accepts in one turn of the reactor.
ACCEPTS_A_TURN = 64


class Native:
    """The loop's side of one connection: the protocol of its transport.

    The hot path is :meth:`data_received`, :meth:`write` and :meth:`flush`, here and with slots, because the loop itself
    takes hardly more: an echo costs 5.7 us of CPU so, 6.3 us with the same as methods of Twisted's transport.

    :param connection: Twisted's transport.
    :ivar transport: the loop's, once it is there.
    :ivar reads: whether the connection wants to be read from.
    :ivar writes: whether something is to be written, or to follow when all is.
    """

    __slots__ = (
        "_context",
        "_contexts",
        "_early",
        "_ended",
        "_prefix",
        "_reading",
        "_unsent",
        "blocked",
        "connection",
        "reactor",
        "reads",
        "slow",
        "streams",
        "transport",
        "writes",
    )

    def __init__(self, connection: StreamConnection) -> None:
        self.connection = connection
        self.reactor = connection.reactor
        self.transport: Any = None
        self.reads = True
        self.writes = False
        self.blocked = True  # the loop has not sent all yet, or is not there yet
        self.slow = False  # there is a producer that is to be asked, or nothing may be written any more
        self.streams = False  # there is a producer that is to be paused
        self._contexts = self.reactor.contexts
        self._unsent: list[bytes] = connection._tempDataBuffer
        self._reading = False  # in the middle of data_received
        self._early = b""  # what came although reading was paused
        self._ended = False
        self._prefix = ""
        self._context: dict[Any, dict[str, Any]] = {}

    # What the loop calls

    def connection_made(self, transport: Any) -> None:
        if self.connection.native is not self:  # lost meanwhile
            transport.abort()
            return
        transport.set_write_buffer_limits(0, 0)  # so that we hear of every byte that waits
        if hasattr(transport, "max_size"):
            # Of asyncio's: it allocates its 256 KiB anew for each read, which malloc may well fetch from the kernel and
            # return each time. That made a small echo cost 4 times as much, in some processes and not in others.
            transport.max_size = self.connection.bufferSize
        self.transport = transport
        self.blocked = False
        if not self.reads:
            self.reactor.loop.call_soon(self._pause)
        if self.writes:
            self.reactor.flush_soon(self)

    def _pause(self) -> None:
        """Do not read after all. In connection_made it is too soon to say so: the loop begins to read right after."""
        if not self.reads and self.connection.native is self:
            self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if not self.reads:
            self._early += data  # which came before that
            return
        connection = self.connection
        contexts = self._contexts
        contexts.append(self._context if self._prefix is connection.logstr else self._new_context())
        self._reading = True
        try:
            # Either may have been replaced since: both are looked up.
            connection.protocol.dataReceived(data)
        except BaseException as e:
            self._reading = False
            log.err()
            contexts.pop()
            self._lose(e, True)
            return
        self._reading = False
        contexts.pop()
        if self.writes:
            self.flush()

    def eof_received(self) -> bool:
        if self.reads:
            self._lose(main.CONNECTION_DONE, True)
        else:
            self._ended = True
        return True  # which keeps the other direction open

    def connection_lost(self, exc: Exception | None) -> None:
        connection = self.connection
        if connection.native is self and not connection._aborting:
            self._lose(main.CONNECTION_LOST, False)

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        if self.connection._aborting:
            return
        self.blocked = False
        if self.writes:
            self._call(self.flush)

    # What Twisted's transport calls

    def write(self, data: bytes) -> None:
        """Take the place of the connection's own ``write``."""
        if self.slow or type(data) is not bytes:
            type(self.connection).write(self.connection, data)
        elif data:
            self._unsent.append(data)
            if self.streams:
                connection = self.connection
                connection._tempDataLen += len(data)
                if self.blocked or connection._tempDataLen > connection.bufferSize:
                    connection._maybePauseProducer()
            if not self.writes:
                self.start_writing()

    def start_writing(self) -> None:
        """Something is to be written: after this read, or in the next turn."""
        self.writes = True
        if not self._reading and not self.blocked:
            self.reactor.flush_soon(self)

    def start_reading(self) -> None:
        if self.reads:
            return
        self.reads = True
        early, self._early = self._early, b""
        if early:
            self.reactor.loop.call_soon(self._take_early, early)
        if self._ended:
            self._ended = False
            self.reactor.loop.call_soon(self.eof_received)
        if self.transport is not None:
            self.transport.resume_reading()

    def stop_reading(self) -> None:
        if self.reads:
            self.reads = False
            if self.transport is not None:
                self.transport.pause_reading()

    def flush(self) -> None:
        """Give the loop what was written; once it has sent all, do what was to follow."""
        if self.blocked or not self.writes:
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
        self.writes = False
        connection = self.connection
        if (
            self.slow
            or connection.disconnecting
            or connection._writeDisconnecting
            or (self.streams and connection.producerPaused)
        ):
            self._finish()

    def close(self, orderly: bool, opened: socket.socket) -> None:
        """End it; the loop has nothing left to send, or shall drop it."""
        try:
            if orderly:
                opened.shutdown(socket.SHUT_RDWR)
            else:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # it is gone already
        if self.transport is not None:
            self.transport.abort()

    def _finish(self) -> None:
        """All is sent: do what follows, as the end of FileDescriptor.doWrite does."""
        connection: Any = self.connection
        if connection._aborting or connection.disconnected:
            return
        why: Any = None
        try:
            if connection.producer is not None and (not connection.streamingProducer or connection.producerPaused):
                connection.producerPaused = False
                connection.producer.resumeProducing()
            elif connection.disconnecting:
                why = connection._postLoseConnection()
            elif connection._writeDisconnecting:
                connection._writeDisconnected = True
                why = connection._closeWriteConnection()
        except BaseException as e:
            log.err()
            why = e
        if why:
            self._lose(why, False)

    def _take_early(self, data: bytes) -> None:
        if self.connection.native is self and not self.connection._aborting:
            self.data_received(data)

    def _lose(self, why: Any, reading: bool) -> None:
        """Let the reactor end what has ended."""
        self._call(self.reactor._disconnectSelectable, self.connection, why, reading)

    def _call(self, call: Any, *args: Any) -> None:
        """Call in the log's context of this connection, and log what the protocol raises."""
        self._contexts.append(self._new_context())
        try:
            call(*args)
        except BaseException:
            log.err()
        finally:
            self._contexts.pop()

    def _new_context(self) -> dict[Any, dict[str, Any]]:
        """Return what Twisted's callWithLogger would make for each call."""
        self._prefix = self.connection.logPrefix()
        self._context = {ILogContext: {"isError": 0, "system": self._prefix}}
        return self._context


class StreamConnection(_Base):
    """What lets a TCP transport of Twisted's become native."""

    reactor: Any
    native: Native | None = None
    _seen = 0  # reads and writes, as long as it is Twisted's

    def doRead(self) -> Any:
        self._count()
        return super().doRead()

    def doWrite(self) -> Any:
        self._count()
        return super().doWrite()

    def _count(self) -> None:
        self._seen += 1
        if self._seen == self.reactor.hand_over_at:
            self.reactor.loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        """Give the socket to the loop, if this still is a connection that reads."""
        if not self.connected or self.disconnecting or self._aborting or self.native is not None:
            return
        reactor = self.reactor
        number = self.fileno()
        if self._writeDisconnecting or number not in reactor._reads:
            self._seen = 0  # another time
            return
        writes = number in reactor._writes
        reactor.removeReader(self)
        reactor.removeWriter(self)
        if self.dataBuffer:
            self._tempDataBuffer.insert(0, self.dataBuffer[self.offset :])
            self.dataBuffer, self.offset = b"", 0
        no_delay = self.getTcpNoDelay()
        native = self.native = Native(self)
        native.writes = writes
        self._judge()
        reactor.native.add(self)
        _drive(reactor.loop.connect_accepted_socket(lambda: native, self.socket))
        if not no_delay:
            self.setTcpNoDelay(False)  # uvloop sets it
        if not self.TLS:
            self.write = native.write  # type: ignore[method-assign]

    def _judge(self) -> None:
        """Tell the native side whether it may write without asking."""
        if self.native is not None:
            asked = self.producer is not None and not self.streamingProducer
            self.native.slow = asked or self.TLS or not self.connected or self._writeDisconnected
            self.native.streams = self.producer is not None and not asked
            self._tempDataLen = sum(map(len, self._tempDataBuffer))  # which is counted only for a producer

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        vars(self).pop("write", None)  # from now on it leads through TLS
        super().startTLS(ctx, normal)
        self._judge()  # for a write method that somebody has kept

    def startReading(self) -> None:
        if self.native is not None:
            self.native.start_reading()
            return
        super().startReading()
        if self._seen == self.reactor.hand_over_at:  # 0: before the first
            self.reactor.loop.call_soon(self._hand_over)

    def stopReading(self) -> None:
        if self.native is not None:
            self.native.stop_reading()
        else:
            super().stopReading()

    def startWriting(self) -> None:
        if self.native is None:
            super().startWriting()
        elif not self.native.writes:
            self.native.start_writing()

    def stopWriting(self) -> None:
        if self.native is not None:
            self.native.writes = False
        else:
            super().stopWriting()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        super().registerProducer(producer, streaming)
        self._judge()

    def unregisterProducer(self) -> None:
        super().unregisterProducer()
        self._judge()

    def abortConnection(self) -> None:
        super().abortConnection()
        if self.native is not None and self._aborting:
            self.native.blocked = True  # nothing more is sent

    def connectionLost(self, reason: Any) -> None:
        super().connectionLost(reason)
        self._judge()

    def _closeWriteConnection(self) -> None:
        self._judge()
        super()._closeWriteConnection()

    def _isSendBufferFull(self) -> bool:
        if self.native is None:
            return bool(super()._isSendBufferFull())
        held = self.native.transport.get_write_buffer_size() if self.native.transport is not None else 0
        full: bool = held + self._tempDataLen > self.bufferSize
        return full

    def _closeSocket(self, orderly: bool) -> None:
        native, self.native = self.native, None
        if native is None:
            super()._closeSocket(orderly)
        else:
            vars(self).pop("write", None)
            self.reactor.native.discard(self)
            native.close(orderly, self.socket)


class Server(StreamConnection, tcp.Server):
    """A TCP connection, from the side that accepted it."""


class Port(tcp.Port):
    """A TCP port, which accepts a bounded number of connections in a turn.

    Twisted's own accepts 20 more in each turn in which it could have accepted more still: a flood of connections makes
    turns of 40 ms, in which nobody else is served.
    """

    transport = Server

    def doRead(self) -> None:
        self.numberAccepts = min(self.numberAccepts, ACCEPTS_A_TURN)
        super().doRead()


class Client(StreamConnection, tcp.Client):
    """A TCP connection, from the side that made it."""


class Connector(tcp.Connector):
    """Makes a TCP connection."""

    def _makeTransport(self) -> Any:
        return Client(self.host, self.port, self.bindAddress, self, self.reactor)


def _drive(opening: Any) -> None:
    """Run a coroutine of the loop's without a Task: it awaits one future, and is done."""
    try:
        waits_for: asyncio.Future[Any] = opening.send(None)
    except StopIteration:
        return
    waits_for._asyncio_future_blocking = False  # as a Task would say
    waits_for.add_done_callback(lambda _: _drive(opening))
