"""The reactors: Twisted's EPollReactor, run by an asyncio event loop.

Ports, connecting clients, pipes, wakers and whatever else is watched for its descriptor stays with EPollReactor's own
epoll and its rules; that epoll is one reader of the loop. Connections that talk become the loop's own
(:mod:`netsvc.reactor.native_connection`). Nothing is watched by uvloop's own ``add_reader`` besides: it is deaf to a
descriptor after that one's first EPOLLERR, which is how a plain AsyncioSelectorReactor on uvloop hangs.
"""

from __future__ import annotations

import asyncio
import signal
import socket
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

from netsvc.reactor.lean_udp_port import DatagramPort, MulticastPort
from netsvc.reactor.native_connection import Connector, Native, Port, Server, StreamConnection


class LoopReactor(EPollReactor):
    """EPollReactor on an asyncio event loop, to which connections that talk are handed over.

    :param loop: by default a new one, which becomes the current one.
    :cvar hand_over_at: the read or write at which a connection becomes the loop's; 0 for before the first.
    """

    hand_over_at = 12

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        if loop is None:
            loop = self.new_loop()
            # Or coroutines that are scheduled before the reactor runs would never be.
            asyncio.set_event_loop(loop)
        self.loop = loop
        self.native: set[StreamConnection] = set()
        self._dirty: list[Native] = []
        self._due = inf  # when the loop calls for the next of Twisted's timers
        self._timer: asyncio.Handle | None = None
        self.contexts: list[Any] = []
        super().__init__()
        loop.add_reader(self._poller.fileno(), self._poll)

    @classmethod
    def install(cls) -> None:
        """Make one the global reactor, as ``twist --reactor`` does."""
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
        self._arm(self.seconds())
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
        self._arm(self.seconds())
        self.loop.call_later(delay, self.loop.stop)
        self.loop.run_forever()

    def stop(self) -> None:
        super().stop()
        self._arm(self.seconds())

    def crash(self) -> None:
        super().crash()
        self.loop.stop()

    def _poll(self) -> None:
        self.doPoll(0)
        if self.threadCallQueue:
            self._turn()

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        if event & self._POLL_DISCONNECTED and isinstance(selectable, udp.Port):
            event |= self._POLL_IN  # an ICMP error is there to be read, and is not the end of the port
        super()._doReadOrWrite(selectable, fd, event)

    # Time

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: A002  Twisted's name
        call = super().callLater(delay, callable, *args, **kw)
        if call.time < self._due:
            self._arm(call.time)
        return call

    def _moveCallLaterSooner(self, delayedCall: DelayedCall) -> None:
        super()._moveCallLaterSooner(delayedCall)
        if delayedCall.time < self._due:
            self._arm(delayedCall.time)

    def _arm(self, due: float) -> None:
        """Let the loop call for Twisted's timers when ``due``."""
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        wait = due - self.seconds()
        self._timer = self.loop.call_soon(self._turn) if wait <= 0 else self.loop.call_later(wait, self._turn)

    def _turn(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Nothing is armed for what is called later meanwhile: it would be forgotten what waited already, and is due
        # sooner. All of it is seen to at the end.
        self._due = -inf
        try:
            self.runUntilCurrent()
        finally:
            if self._timer is None:  # or it is due now, because somebody stopped the reactor
                self._due = inf
                wait = self.timeout()
                if wait is not None:
                    self._arm(self.seconds() + wait)

    # Signals

    def _signalsFactory(self) -> Any:
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), _Reaper(self)))

    # Connections

    def flush_soon(self, native: Native) -> None:
        """Flush a connection in the next turn of the loop, together with all others that ask for it by then."""
        if not self._dirty:
            self.loop.call_soon(self._flush)
        self._dirty.append(native)

    def _flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for native in dirty:
            try:
                native.flush()
            except BaseException:  # one connection's fault is not the next one's
                log.err()

    def removeAll(self) -> list[Any]:
        watched = [one for one in self.native if one.native is not None and (one.native.reads or one.native.writes)]
        for connection in watched:
            connection.stopReading()
            connection.stopWriting()
        return [*super().removeAll(), *watched]

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *(one for one in self.native if one.native is not None and one.native.reads)]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *(one for one in self.native if one.native is not None and one.native.writes)]

    def listenTCP(self, port: Any, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        opened = Port(port, factory, backlog, interface, self)
        opened.startListening()
        return opened

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        connector = Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> IListeningPort:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            unix: IListeningPort = super().adoptStreamPort(fileDescriptor, addressFamily, factory)
            return unix
        adopted: Any = Port._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)
        adopted.startListening()
        return cast(IListeningPort, adopted)

    def adoptStreamConnection(self, fileDescriptor: int, addressFamily: Any, factory: IProtocolFactory) -> Any:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            return super().adoptStreamConnection(fileDescriptor, addressFamily, factory)
        return Server._fromConnectedSocket(fileDescriptor, addressFamily, factory, self)

    # Datagrams

    def listenUDP(
        self, port: int, protocol: AbstractDatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> IListeningPort:
        opened: Any = DatagramPort(port, protocol, interface, maxPacketSize, self)
        opened.startListening()
        return cast(IListeningPort, opened)

    def adoptDatagramPort(
        self, fileDescriptor: int, addressFamily: Any, protocol: AbstractDatagramProtocol, maxPacketSize: int = 8192
    ) -> IListeningPort:
        if addressFamily not in (socket.AF_INET, socket.AF_INET6):
            raise UnsupportedAddressFamily(addressFamily)
        adopted: Any = DatagramPort._fromListeningDescriptor(
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
        opened: Any = MulticastPort(port, protocol, interface, maxPacketSize, self, listenMultiple)
        opened.startListening()
        return cast(IListeningPort, opened)


class AsyncioReactor(LoopReactor):
    """On the standard library's event loop."""


class UvloopReactor(LoopReactor):
    """On uvloop's event loop, which has to be installed: ``netsvc[fast]``."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        try:
            import uvloop
        except ImportError:
            raise ImportError("uvloop is not installed; pip install 'netsvc[fast]' brings it") from None
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        return loop


class _Reaper:
    """Reaps children at SIGCHLD.

    Twisted's own waits on the descriptor to which Python writes a byte for each signal; but that is the loop's.
    """

    def __init__(self, reactor: LoopReactor) -> None:
        self._reactor = reactor
        self._before: Any = None

    def install(self) -> None:
        self._before = signal.signal(signal.SIGCHLD, self._reap)
        signal.siginterrupt(signal.SIGCHLD, False)
        process.reapAllProcesses()

    def uninstall(self) -> None:
        signal.signal(signal.SIGCHLD, self._before)

    def _reap(self, *_: object) -> None:
        self._reactor.callFromThread(process.reapAllProcesses)
