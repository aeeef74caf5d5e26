"""The reactors: Twisted's EPollReactor, run by an asyncio event loop.

EPollReactor's own epoll watches ports, connecting clients, pipes, wakers and all other descriptors; the event loop
watches only that epoll. Active connections are handed over to the event loop
(:mod:`netsvc.reactor.native_connection`).

No other descriptor is registered with the loop's ``add_reader``. uvloop reports no further events of a descriptor after
its first EPOLLERR; for that reason, a plain AsyncioSelectorReactor on uvloop hangs.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from math import inf
from typing import Any, cast

from twisted.internet import process, udp
from twisted.internet._signals import _MultiSignalHandling
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IConnector, IListeningPort, IProtocolFactory
from twisted.internet.main import installReactor
from twisted.internet.protocol import AbstractDatagramProtocol, ClientFactory
from twisted.python import log
from twisted.python.context import theContextTracker

from netsvc.reactor.fast_udp_port import FastMulticastPort, FastUDPPort
from netsvc.reactor.native_connection import (
    LoopProtocol,
    NativeConnection,
    NativeConnector,
    NativePort,
    NativeServer,
)

#: Seconds. If the wall time changes by more than this between two looks at it, it was set, not adjusted gradually.
STEP = 0.1

#: Seconds until the loop runs timers at the latest, as in Twisted.
LONGEST_TIMEOUT = 2_147_483.0


class LoopReactor(EPollReactor):
    """EPollReactor on an asyncio event loop. Active connections are handed over to the loop.

    :param loop: the event loop; by default a new one, which becomes the current event loop of the thread.
    :param wall: returns the wall time in seconds.
    :cvar hand_over_at: the number of the read or write at which a connection is handed over to the loop; 0 to hand it
        over before its first read.
    """

    hand_over_at = 12

    #: Its ``seconds`` are wall time, as those of Twisted's reactors.
    follows_wall_time = True

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        wall: Callable[[], float] = time.time,  # noqa: TID251  a reactor is what others ask for the time
    ) -> None:
        if loop is None:
            loop = self.new_loop()
            # Otherwise, a coroutine that is scheduled before the reactor runs would never run.
            asyncio.set_event_loop(loop)
        self.loop = loop
        self.native_connections: set[NativeConnection] = set()
        self._to_flush: list[LoopProtocol] = []
        self._wall = wall
        self._wall_ahead = wall() - time.monotonic()
        self._time_is_steady = False
        self._timer_due = inf  # the time at which the loop runs Twisted's timers
        self._timer: asyncio.Handle | None = None
        self.contexts: list[Any] = []
        super().__init__()
        loop.add_reader(self._poller.fileno(), self._poll)

    @classmethod
    def install(cls) -> None:
        """Create a reactor and make it the global one, as ``twist --reactor`` does."""
        try:
            reactor: Any = cls()
        except ImportError as e:
            raise SystemExit(str(e)) from None
        installReactor(reactor)

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new event loop."""
        return asyncio.new_event_loop()

    # The loop

    def mainLoop(self) -> None:
        self._schedule_timers(self.seconds())
        while self._started:
            self.loop.run_forever()

    def startRunning(self, installSignalHandlers: bool = True) -> None:
        self.contexts = theContextTracker.currentContext().contexts
        super().startRunning(installSignalHandlers=installSignalHandlers)

    def iterate(self, delay: float = 0.0) -> None:
        self.runUntilCurrent()
        if self.loop.is_running():
            self.doPoll(0)
            return
        self._schedule_timers(self.seconds())
        self.loop.call_later(delay, self.loop.stop)
        self.loop.run_forever()

    def stop(self) -> None:
        super().stop()
        self._schedule_timers(self.seconds())

    def crash(self) -> None:
        super().crash()
        self.loop.stop()

    def _poll(self) -> None:
        self.doPoll(0)
        if self.threadCallQueue:
            self._run_timers()

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        if event & self._POLL_DISCONNECTED and isinstance(selectable, udp.Port):
            event |= self._POLL_IN  # the port can read the ICMP error, and must not be closed
        super()._doReadOrWrite(selectable, fd, event)

    # Time

    def seconds(self) -> float:
        """Return the wall time in seconds. While timers run, a change of the wall time waits."""
        if not self._time_is_steady:
            self._follow_wall()
        return time.monotonic() + self._wall_ahead

    def _follow_wall(self) -> None:
        """Follow the wall time. If it was set, shift all pending calls by as much: their delays stay what they were."""
        change = self._wall() - time.monotonic() - self._wall_ahead
        self._wall_ahead += change
        if abs(change) < STEP:
            return
        self._timer_due += change
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

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: A002  Twisted's name
        call = super().callLater(delay, callable, *args, **kw)
        if call.time < self._timer_due:
            self._schedule_timers(call.time)
        return call

    def _moveCallLaterSooner(self, delayedCall: DelayedCall) -> None:
        super()._moveCallLaterSooner(delayedCall)
        if delayedCall.time < self._timer_due:
            self._schedule_timers(delayedCall.time)

    def _schedule_timers(self, due: float) -> None:
        """Make the loop run Twisted's timers at this time."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        delay = due - (time.monotonic() + self._wall_ahead)  # not seconds(), which may shift the call that is due
        self._timer = (
            self.loop.call_soon(self._run_timers) if delay <= 0 else self.loop.call_later(delay, self._run_timers)
        )

    def _run_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Meanwhile, calls of callLater schedule nothing: that would replace the schedule of earlier calls. The finally
        # block schedules the earliest of all calls.
        self._timer_due = -inf
        try:
            self.runUntilCurrent()
        finally:
            if self._timer is None:  # otherwise, a call has stopped the reactor, and the loop runs the timers at once
                self._timer_due = inf
                delay = self.timeout()
                if delay is not None:
                    self._schedule_timers(self.seconds() + delay)

    # Signals

    def _signalsFactory(self) -> Any:
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), _ChildReaper(self)))

    # Connections

    def flush_soon(self, connection: LoopProtocol) -> None:
        """Flush a connection in the next iteration of the loop. One call flushes all connections that need it."""
        if not self._to_flush:
            self.loop.call_soon(self._flush)
        self._to_flush.append(connection)

    def _flush(self) -> None:
        to_flush, self._to_flush = self._to_flush, []
        for connection in to_flush:
            try:
                connection.flush()
            except BaseException:  # an error of one connection must not affect the others
                log.err()

    def removeAll(self) -> list[Any]:
        watched = [
            connection
            for connection in self.native_connections
            if connection.native is not None and (connection.native.reading or connection.native.writing)
        ]
        for connection in watched:
            connection.stopReading()
            connection.stopWriting()
        return [*super().removeAll(), *watched]

    def getReaders(self) -> list[Any]:
        return [
            *super().getReaders(),
            *(
                connection
                for connection in self.native_connections
                if connection.native is not None and connection.native.reading
            ),
        ]

    def getWriters(self) -> list[Any]:
        return [
            *super().getWriters(),
            *(
                connection
                for connection in self.native_connections
                if connection.native is not None and connection.native.writing
            ),
        ]

    def listenTCP(self, port: Any, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        opened = NativePort(port, factory, backlog, interface, self)
        opened.startListening()
        return opened

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        connector = NativeConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> IListeningPort:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            unix: IListeningPort = super().adoptStreamPort(fileDescriptor, addressFamily, factory)
            return unix
        adopted: Any = NativePort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        adopted.startListening()
        return cast(IListeningPort, adopted)

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> Any:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            return super().adoptStreamConnection(fileDescriptor, addressFamily, factory)
        return NativeServer._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

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


class AsyncioReactor(LoopReactor):
    """A reactor on the event loop of the standard library."""


class UvloopReactor(LoopReactor):
    """A reactor on the event loop of uvloop, which the extra ``netsvc[fast]`` installs."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        try:
            import uvloop
        except ImportError:
            raise ImportError("uvloop is not installed; run pip install '.[fast]' in netsvc's source folder") from None
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop


class _ChildReaper:
    """Reaps child processes on SIGCHLD.

    Twisted's own reaper waits for the descriptor to which Python writes a byte for each signal. Here, the event loop
    owns that descriptor.
    """

    def __init__(self, reactor: LoopReactor) -> None:
        self._reactor = reactor
        self._previous_handler: Any = None

    def install(self) -> None:
        self._previous_handler = signal.signal(signal.SIGCHLD, self._reap)
        signal.siginterrupt(signal.SIGCHLD, False)
        process.reapAllProcesses()

    def uninstall(self) -> None:
        signal.signal(signal.SIGCHLD, self._previous_handler)

    def _reap(self, *_: object) -> None:
        self._reactor.callFromThread(process.reapAllProcesses)
