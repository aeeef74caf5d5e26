"""What the reactors have in common: EPollReactor's descriptors and timers, run by an asyncio event loop.

Compared with Twisted's EPollReactor:

- Written bytes leave at the end of the reactor iteration. Only if the socket does not take them all, its descriptor is
  registered for write events. This saves two system calls and one iteration for each write.
- Log prefixes are computed only when something is logged (:mod:`netsvc.reactor.log_context`).
- Timers follow changes of the wall clock.
- Child processes are reaped whoever handles SIGCHLD (:mod:`netsvc.reactor.child_exit`).
"""

from __future__ import annotations

import asyncio
import socket
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from select import EPOLLERR, EPOLLHUP, EPOLLIN
from typing import Any, cast

from twisted.internet import tcp, udp
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IConnector, IListeningPort, IProtocolFactory
from twisted.internet.protocol import AbstractDatagramProtocol, ClientFactory
from twisted.logger import Logger
from twisted.python import log
from twisted.python.context import theContextTracker

from netsvc.reactor.child_exit import ChildExit
from netsvc.reactor.connection import FastConnector, FastServer
from netsvc.reactor.fast_udp_port import FastMulticastPort, FastUDPPort
from netsvc.reactor.log_context import LogContext
from netsvc.reactor.private_names import check
from netsvc.reactor.tcp_port import BoundedPort

check()

#: Seconds. If the wall time changes by more than this between two looks at it, it was set, not adjusted gradually.
STEP = 0.1

#: Seconds until the loop runs timers at the latest, as in Twisted.
LONGEST_TIMEOUT = 2_147_483.0


class LoopReactor(EPollReactor, AsyncioSelectorReactor):
    """EPollReactor on an asyncio event loop.

    It is an AsyncioSelectorReactor as well, because programs that use asyncio ask for that class. It inherits nothing
    but the name from there.

    :param wall: returns the wall time in seconds.
    :ivar loop: the event loop, which is also the current event loop of the thread that creates the reactor.
    :ivar unflushed: the connections that have unsent bytes and are not registered for write events.
    :ivar wall_ahead: the seconds that the wall time is ahead of the monotonic time.
    """

    #: Its ``seconds`` are wall time, as those of Twisted's reactors.
    follows_wall_time = True

    run = ReactorBase.run
    stop = ReactorBase.stop
    crash = ReactorBase.crash
    callFromThread = ReactorBase.callFromThread  # type: ignore[assignment]
    callLater = ReactorBase.callLater
    _moveCallLaterSooner = ReactorBase._moveCallLaterSooner

    _logger = Logger()

    #: The classes of TCP connections and ports.
    port_class: type[tcp.Port] = BoundedPort
    server_class: type[tcp.Server] = FastServer
    connector_class: type[tcp.Connector] = FastConnector

    def __init__(self, wall: Callable[[], float] = time.time) -> None:  # noqa: TID251  a reactor tells others the time
        self._wall = wall
        self.wall_ahead = wall() - time.monotonic()
        self._time_is_steady = False
        self.unflushed: dict[Any, None] = {}
        self._flushing: Any = None
        super().__init__()
        self.loop = self._asyncioEventloop = self._new_loop()
        # Otherwise, a coroutine that is scheduled before the reactor runs would never run.
        asyncio.set_event_loop(self.loop)

    @abstractmethod
    def _new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop that runs this reactor."""

    def mainLoop(self) -> None:
        while self._started:
            with self._logger.failuresHandled("Unexpected error in main loop."):
                self.loop.run_forever()

    def iterate(self, delay: float = 0.0) -> None:
        self.runUntilCurrent()
        self.doIteration(delay)

    # Events

    def wait_for_events(self, timeout: float | None) -> list[tuple[int, int]]:
        """Wait for events and handle those of Twisted's descriptors.

        :return: descriptors and event masks of the other events.
        """
        selectables = self._selectables
        events = self._poller.poll(-1 if timeout is None else timeout, self._events_max())
        others = []
        contexts = theContextTracker.currentContext().contexts
        context = LogContext(contexts)
        contexts.append(context)
        try:
            for fd, event in events:
                selectable = selectables.get(fd)
                if selectable is None:
                    others.append((fd, event))
                    continue
                context.selectable = selectable
                try:
                    self._doReadOrWrite(selectable, fd, event)
                except KeyboardInterrupt:
                    raise
                except BaseException:  # of connectionLost, say
                    log.err()
            if self.unflushed:
                self._flush(context)
        finally:
            contexts.pop()
        return others

    def _events_max(self) -> int:
        """Return the number of events that one call of epoll_wait asks for."""
        return len(self._selectables) or 1

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        if event & (EPOLLERR | EPOLLHUP) and isinstance(selectable, udp.Port):
            event |= EPOLLIN  # the port can read the ICMP error, and must not be closed
        super()._doReadOrWrite(selectable, fd, event)

    # Writes

    def addWriter(self, writer: Any) -> None:
        if isinstance(writer, tcp.Connection) and writer.connected:
            if writer.fileno() not in self._writes:
                self.unflushed[writer] = None
        else:
            super().addWriter(writer)

    def removeWriter(self, writer: Any) -> None:
        self.unflushed.pop(writer, None)
        if writer is self._flushing:
            self._flushing = None
        else:
            super().removeWriter(writer)

    def flush_all(self) -> None:
        """Let each connection in ``unflushed`` send."""
        contexts = theContextTracker.currentContext().contexts
        context = LogContext(contexts)
        contexts.append(context)
        try:
            self._flush(context)
        finally:
            contexts.pop()

    def _flush(self, context: LogContext) -> None:
        """Let each connection send that is in ``unflushed``. Register those for write events that have more to send.

        A connection whose producer has written more meanwhile is in ``unflushed`` again, for the next call.
        """
        unflushed = self.unflushed
        for writer in list(unflushed):
            if writer not in unflushed:  # it was closed by a previous one
                continue
            del unflushed[writer]
            context.selectable = self._flushing = writer
            try:
                reason = writer.doWrite()
            except BaseException as e:
                log.err()
                reason = e
            if reason:
                self._flushing = None
                try:
                    self._disconnectSelectable(writer, reason, False)
                except KeyboardInterrupt:
                    raise
                except BaseException:
                    log.err()
            elif self._flushing is writer:
                self._flushing = None
                super().addWriter(writer)

    def removeAll(self) -> list[Any]:
        unflushed = [writer for writer in self.unflushed if writer.fileno() not in self._reads]
        self.unflushed.clear()
        return [*super().removeAll(), *unflushed]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *self.unflushed]

    # Time

    def seconds(self) -> float:
        """Return the wall time in seconds. While timers run, a change of the wall time waits."""
        if not self._time_is_steady:
            self._follow_wall()
        return time.monotonic() + self.wall_ahead

    def _follow_wall(self) -> None:
        """Follow the wall time. If it was set, shift all pending calls by as much: their delays stay what they were."""
        change = self._wall() - time.monotonic() - self.wall_ahead
        self.wall_ahead += change
        if abs(change) >= STEP:
            self._shift_calls(change)

    def _shift_calls(self, change: float) -> None:
        for call in (*self._pendingTimedCalls, *self._newTimedCalls):
            call.time += change

    def runUntilCurrent(self) -> None:
        self._follow_wall()
        before, self._time_is_steady = self._time_is_steady, True  # it may run within itself, by iterate()
        try:
            super().runUntilCurrent()
        finally:
            self._time_is_steady = before

    def timeout(self) -> float | None:
        self._insertNewDelayedCalls()
        now = self.seconds()  # before the time of a call is read: this may shift it
        if not self._pendingTimedCalls:
            return None
        return min(max(0.0, self._pendingTimedCalls[0].time - now), LONGEST_TIMEOUT)

    # Child processes

    def spawnProcess(self, *args: Any, **kwargs: Any) -> Any:
        process = super().spawnProcess(*args, **kwargs)
        # Without a pidfd, Twisted reaps the process on SIGCHLD: it has ended already, or the system has no pidfds.
        with suppress(OSError, TypeError):
            ChildExit(self, process.pid)
        return process

    # Ports and connections

    def listenTCP(self, port: Any, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        opened = self.port_class(port, factory, backlog, interface, self)
        opened.startListening()
        return opened

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        connector = self.connector_class(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> IListeningPort:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            unix: IListeningPort = super().adoptStreamPort(fileDescriptor, addressFamily, factory)
            return unix
        adopted: Any = self.port_class._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        adopted.startListening()
        return cast(IListeningPort, adopted)

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> Any:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            return super().adoptStreamConnection(fileDescriptor, addressFamily, factory)
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
