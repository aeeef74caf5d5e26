"""The common base of the reactors: EPollReactor's descriptors and timers, run by an asyncio event loop.

Compared with Twisted's EPollReactor:

- Written bytes leave at the end of the reactor iteration. Only if the socket does not take them all, its descriptor is
  registered for write events. This saves two system calls and one iteration for each write.
- Log prefixes are computed only when something is logged (:mod:`netsvc.reactor.log_context`).
- Timers are measured by the monotonic clock (:mod:`netsvc.reactor.timers`).
- Child processes are reaped even if another handler receives SIGCHLD (:mod:`netsvc.reactor.child_exit`).
"""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLIN
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import tcp, udp
from twisted.internet.abstract import FileDescriptor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IConnector, IListeningPort, IProtocolFactory
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.process import ProcessWriter
from twisted.internet.protocol import AbstractDatagramProtocol, ClientFactory
from twisted.logger import Logger
from twisted.python import log
from twisted.python.context import theContextTracker

from netsvc.reactor.child_exit import ChildExit
from netsvc.reactor.connection import FastConnection, FastConnector, FastServer
from netsvc.reactor.fast_udp_port import FastMulticastPort, FastUDPPort
from netsvc.reactor.lean_tls import make_tls_lean, new_buffer, use_lean_tls
from netsvc.reactor.log_context import LogContext, current_log_context
from netsvc.reactor.private_names import check
from netsvc.reactor.tcp_port import BoundedPort
from netsvc.reactor.timers import MonotonicTimers

if TYPE_CHECKING:
    from netsvc.reactor.lean_tls import LeanTLS

check()


class LoopReactor(MonotonicTimers, EPollReactor, AsyncioSelectorReactor):
    """EPollReactor on an asyncio event loop.

    It is an AsyncioSelectorReactor as well, because programs that use asyncio ask for that class. It uses none of its
    methods.

    :ivar loop: the event loop, which is also the current event loop of the thread that creates the reactor.
    :ivar paused: the connections that have paused reading and are still registered for read events.
    :ivar unflushed: the connections, and pipes to child processes, that have unsent bytes and are not registered for
        write events.
    :ivar unencrypted: the TLS connections that have bytes to encrypt.
    :ivar tls_buffer: for the bytes that OpenSSL returns.
    :ivar tls_address: for the pointers that OpenSSL returns.
    """

    run = ReactorBase.run
    stop = ReactorBase.stop
    crash = ReactorBase.crash
    iterate = ReactorBase.iterate
    callFromThread = ReactorBase.callFromThread  # type: ignore[assignment]
    _moveCallLaterSooner = ReactorBase._moveCallLaterSooner

    _loop_logger = Logger()

    #: TLS connections of other classes, such as the server's own, ask for it by this name.
    make_tls_lean = staticmethod(make_tls_lean)

    #: The classes of TCP connections and ports.
    port_class: type[tcp.Port] = BoundedPort
    server_class: type[tcp.Server] = FastServer
    connector_class: type[tcp.Connector] = FastConnector

    def __init__(self) -> None:
        self.unflushed: dict[Any, None] = {}
        self._flushing: Any = None
        self.paused: dict[Any, None] = {}
        self.unencrypted: dict[LeanTLS, None] = {}
        self.tls_buffer, self.tls_address = new_buffer()
        super().__init__()
        self.loop = self._asyncioEventloop = self._new_loop()
        # Otherwise, a coroutine that is scheduled before the reactor runs would never run.
        asyncio.set_event_loop(self.loop)

    @abstractmethod
    def _new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop that runs this reactor."""

    def mainLoop(self) -> None:
        while self._started:
            with self._loop_logger.failuresHandled("Unexpected error in main loop."):
                self.loop.run_forever()

    def doIteration(self, delay: float | None) -> None:
        """Wait for events for at most ``delay`` seconds, or without limit, and handle them.

        Within a callback, asyncio's own callbacks have to wait: an event loop cannot run within itself.
        """
        if not self.loop.is_running():
            self._run_loop_once(delay)
            return
        if self.unflushed or self.unencrypted:
            self.flush_all()
            delay = 0 if self.unflushed or self.unencrypted else delay
        self._postpone(self.wait_for_events(delay))

    def _postpone(self, events: list[tuple[int, int]]) -> None:
        """Let events of other descriptors wait until the event loop runs again. Without a loop there are none."""

    @abstractmethod
    def _run_loop_once(self, delay: float | None) -> None:
        """Run the event loop until something has happened, or for ``delay`` seconds."""

    # Events

    def wait_for_events(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait for events and handle those of Twisted's descriptors.

        :return: descriptors and event masks of the other events.
        """
        selectables = self._selectables
        events = self._poller.poll(-1 if timeout is None else timeout, self._events_max())
        if not events:
            if self.unflushed or self.unencrypted:
                self.flush_all()
            return []
        others = []
        below = current_log_context()
        contexts = theContextTracker.currentContext().contexts
        contexts.append({})
        try:
            for fd, event in events:
                selectable = selectables.get(fd)
                if selectable is None:
                    others.append((fd, event))
                    continue
                contexts[-1] = LogContext(selectable, below)
                try:
                    self._doReadOrWrite(selectable, fd, event)
                except KeyboardInterrupt:
                    raise
                except BaseException:  # of connectionLost, say
                    log.err()
        finally:
            contexts.pop()
        self.flush_all()
        return others

    def _events_max(self) -> int:
        """Return the number of events that one call of epoll_wait asks for."""
        return len(self._selectables) or 1

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        if event & (EPOLLERR | EPOLLHUP) and (
            isinstance(selectable, udp.Port) or getattr(selectable, "reads_its_errors", False)
        ):
            event |= EPOLLIN  # the port can read the ICMP error, and must not be closed
        super()._doReadOrWrite(selectable, fd, event)

    # Reads

    def read_at_once(self, connection: FastConnection) -> None:
        """Read from a connection as if it had just become readable, unless it is closed or paused."""
        fd = connection.fileno()
        if fd in self._reads and connection not in self.paused:
            self._call(connection, self._doReadOrWrite, connection, fd, EPOLLIN)

    def pause_reader(self, reader: FastConnection) -> None:
        """Pause reading, but let the descriptor be registered until the second event that comes meanwhile.

        Some protocols pause for each message and resume at once. This saves them two system calls each time. A protocol
        that has resumed and reads nothing, because it has more messages than it wants, would see an event each time.
        """
        if reader.has_unread:
            self.removeReader(reader)
        elif reader.fileno() in self._reads:
            self.paused[reader] = None

    def ignores_read_of(self, reader: FastConnection) -> bool:
        """Return whether a connection has paused reading. It is told that its socket is readable."""
        if reader not in self.paused:
            return False
        if reader.has_unread:
            self.removeReader(reader)
        reader.has_unread = True
        return True

    def addReader(self, reader: Any) -> None:
        self.paused.pop(reader, None)
        super().addReader(reader)

    def removeReader(self, reader: Any) -> None:
        self.paused.pop(reader, None)
        super().removeReader(reader)

    def getReaders(self) -> list[Any]:
        return [reader for reader in super().getReaders() if reader not in self.paused]

    # Writes

    def addWriter(self, writer: Any) -> None:
        if isinstance(writer, (FastConnection, ProcessWriter)) and writer.connected:
            self.flush_soon(writer)
        else:
            super().addWriter(writer)

    def flush_soon(self, connection: FileDescriptor) -> None:
        """Let a connection send at the end of this iteration, or when its socket is writable if it was not."""
        if not self._writes or connection.fileno() not in self._writes:
            self.unflushed[connection] = None

    def removeWriter(self, writer: Any) -> None:
        self.unflushed.pop(writer, None)
        if writer is self._flushing:
            self._flushing = None
        else:
            super().removeWriter(writer)

    def flush_all(self) -> None:
        """Encrypt what was written with TLS, and let each connection send that is in ``unflushed``.

        Those that have more to send are registered for write events.

        A connection whose producer has written more meanwhile is in ``unflushed`` again, for the next call.
        """
        for tls in list(self.unencrypted):
            try:
                tls.encrypt()
            except BaseException:  # of a producer that is paused, say
                log.err()
        unflushed = self.unflushed
        for connection in list(unflushed):
            if connection in unflushed:  # otherwise, it was closed by a previous one
                del unflushed[connection]
                if not isinstance(connection, FastConnection) or not connection.send_unsent():
                    self._flush(connection)

    def encrypt_soon(self, tls: LeanTLS) -> None:
        """Encrypt what was written on a TLS connection before the reactor sends."""
        self.unencrypted[tls] = None

    def _flush(self, connection: FileDescriptor) -> None:
        self._flushing = connection
        reason = self._call(connection, connection.doWrite)
        if self._flushing is connection:  # it has more to send, or is to be closed
            self._flushing = None
            if not reason:
                super().addWriter(connection)
        if reason is CONNECTION_LOST and isinstance(connection, FastConnection) and self._is_reading(connection):
            # The peer may have answered before it reset the connection. EPollReactor reads the answer first.
            reason = self._read_last(connection)
        if reason:
            self._call(connection, self._disconnectSelectable, connection, reason, False)

    def _is_reading(self, connection: FastConnection) -> bool:
        return connection.fileno() in self._reads

    def _read_last(self, connection: FastConnection) -> Any:
        """Read from a connection that cannot send any more.

        :return: the reason of the loss; None if the protocol has aborted the connection.
        """
        reason = self._call(connection, connection.doRead)
        if not connection.connected or connection._aborting:
            return None
        # The failed call of send has taken the error from the socket. So recv seems to find the end of the stream.
        return CONNECTION_LOST if not reason or reason is CONNECTION_DONE else reason

    def _call(self, selectable: Any, call: Callable[..., Any], *args: Any) -> Any:
        """Call a function with the log context of a connection.

        :return: the result, or the exception that was raised, which is logged.
        """
        contexts = theContextTracker.currentContext().contexts
        contexts.append(LogContext(selectable, current_log_context()))
        try:
            return call(*args)
        except KeyboardInterrupt:
            raise
        except BaseException as e:
            log.err()
            return e
        finally:
            contexts.pop()

    def removeAll(self) -> list[Any]:
        for reader in list(self.paused):
            self.removeReader(reader)
        unflushed = [writer for writer in self.unflushed if writer.fileno() not in self._reads]
        self.unflushed.clear()
        return [*super().removeAll(), *unflushed]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *self.unflushed]

    # Child processes

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Any:
        process = super().spawnProcess(*args, **kwargs)
        try:
            ChildExit(self, process.pid)
        except (ProcessLookupError, TypeError):
            pass  # it has ended, and Twisted has noticed
        except OSError:  # the system has no pidfds, or forbids them
            self._reap_on_sigchld()
        return process

    def _reap_on_sigchld(self) -> None:
        """Reap child processes on SIGCHLD. Here, Twisted's handling of signals does it already."""

    # Ports and connections

    def listenTCP(self, port: Any, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        use_lean_tls(factory)
        opened = self.port_class(port, factory, backlog, interface, self)
        opened.startListening()
        return opened

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        use_lean_tls(factory)
        connector = self.connector_class(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> IListeningPort:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            unix: IListeningPort = super().adoptStreamPort(fileDescriptor, addressFamily, factory)
            return unix
        use_lean_tls(factory)
        adopted: Any = self.port_class._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        adopted.startListening()
        return cast(IListeningPort, adopted)

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> Any:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            return super().adoptStreamConnection(fileDescriptor, addressFamily, factory)
        use_lean_tls(factory)
        return self.server_class._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

    # Datagrams

    def listenUDP(
        self, port: int, protocol: AbstractDatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> IListeningPort:
        opened: Any = FastUDPPort(port, protocol, interface, maxPacketSize, self)
        opened.startListening()
        return cast(IListeningPort, opened)

    def adoptDatagramPort(
        self, fileDescriptor: int, addressFamily: Any, protocol: AbstractDatagramProtocol, maxPacketSize: int = 8192
    ) -> IListeningPort:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            raise UnsupportedAddressFamily(addressFamily)
        adopted: Any = FastUDPPort._fromListeningDescriptor(
            self, fileDescriptor, addressFamily, protocol, maxPacketSize=maxPacketSize
        )
        adopted.startListening()
        return cast(IListeningPort, adopted)

    def listenMulticast(
        self,
        port: int,
        protocol: AbstractDatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
        listenMultiple: bool = False,
    ) -> IListeningPort:
        opened: Any = FastMulticastPort(port, protocol, interface, maxPacketSize, self, listenMultiple)
        opened.startListening()
        return cast(IListeningPort, opened)
