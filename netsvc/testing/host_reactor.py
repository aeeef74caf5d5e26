"""The reactor of a simulated host.

It does what Twisted's EPollReactor does, most of it by the same code, with simulated sockets and in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, cast

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.error import ReactorAlreadyRunning
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReactorCore,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorMulticast,
    IReactorPluggableNameResolver,
    IReactorSSL,
    IReactorTCP,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
)
from twisted.internet.posixbase import _DisconnectSelectableMixin, _PollLikeMixin
from twisted.internet.protocol import AbstractDatagramProtocol, ClientFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.context import theContextTracker
from twisted.python.log import ILogContext
from zope.interface import implementer_only

from netsvc.testing.events import Entry
from netsvc.testing.resolver import Lookup, Resolver
from netsvc.testing.stack import ERR, HUP, IN, OUT, HostDownError, Stack
from netsvc.testing.transports import MulticastPort, TCPConnector, TCPPort, UDPPort, UNIXConnector, UNIXPort


@implementer_only(
    IReactorCore,
    IReactorTime,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorTCP,
    IReactorSSL,
    IReactorUDP,
    IReactorMulticast,
    IReactorUNIX,
    IReactorPluggableNameResolver,
)
class HostReactor(_DisconnectSelectableMixin, _PollLikeMixin, ReactorBase):
    """One host's reactor. Make it with :meth:`netsvc.testing.Network.host`.

    It needs not be run: the network runs all of its hosts, and starts each at the first chance. As EPollReactor does,
    it takes what is ready once a turn, logs what a protocol raises and closes its connection, and closes a connected
    UDP port that is refused.

    After its host has crashed, whatever is asked of it raises :class:`HostDownError`.
    """

    _log = Logger()
    _registerAsIOThread = False
    _POLL_DISCONNECTED = HUP | ERR
    _POLL_IN = IN
    _POLL_OUT = OUT

    def __init__(self, stack: Stack, lookup: Lookup) -> None:
        self.stack = stack
        self._events = stack.events
        self._start = stack.starts
        self._reads: set[int] = set()
        self._writes: set[int] = set()
        self._selectables: dict[int, Any] = {}
        self._ready: dict[int, None] = {}
        self._turn_due = False
        self._calls: dict[DelayedCall, Entry] = {}
        self._looping = False
        super().__init__()
        self.installNameResolver(Resolver(self, lookup))

    def __repr__(self) -> str:
        return f"<HostReactor of {self.stack.name}>"

    # IReactorTime

    def seconds(self) -> float:
        return self._events.now

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: A002  Twisted's name
        self._check()
        if not 0 <= delay < inf:
            raise ValueError(f"a call is made 0 or more seconds later, not {delay!r}")
        call = DelayedCall(
            self._events.now + delay, callable, args, kw, self._forget, self._schedule, seconds=self.seconds
        )
        self._schedule(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return list(self._calls)

    def _schedule(self, call: DelayedCall) -> None:
        self._forget(call)
        self._calls[call] = self._events.wait(call.time, self._call, call)

    def _forget(self, call: DelayedCall) -> None:
        entry = self._calls.pop(call, None)
        if entry is not None:
            self._events.cancel(entry)

    def _call(self, call: DelayedCall) -> None:
        if self.threadCallQueue:
            self.runUntilCurrent()  # which the real one does before its timers, too
        if call.delayed_time > 0:
            call.activate_delay()
            self._schedule(call)
        elif self._calls.pop(call, None) is not None:
            call.called = 1
            try:
                call.func(*call.args, **call.kw)
            except Exception:  # and not Ctrl-C, which ends the test
                self._log.failure("while handling timed call")

    # IReactorCore

    def installWaker(self) -> None:
        """Nothing sleeps that would have to be woken."""

    def _initThreads(self) -> None:
        """There are no threads."""

    def wakeUp(self) -> None:
        if not self._down:
            self._events.wait(self._events.now, self.runUntilCurrent)

    def callFromThread(self, f: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._check()
        super().callFromThread(f, *args, **kwargs)

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run the network until somebody calls ``stop``.

        :raises RuntimeError: if nothing is left that could happen.
        """
        self._check()
        if self._looping and self._started:
            raise ReactorAlreadyRunning
        nested, self._looping = self._looping, True
        try:
            if not self._started:
                self.startRunning(installSignalHandlers=False)
            self.mainLoop()
        finally:
            self._looping = nested

    def mainLoop(self) -> None:
        with self._events.driven():
            while self._started:
                if self._events.due() is None:
                    self.crash()
                    name = self.stack.name
                    raise RuntimeError(f"nothing is left that could happen, and nobody stopped the reactor of {name}")
                self._events.step()
        self._check()

    def begin(self) -> None:
        """Start, unless somebody has done so: call what waits for the reactor to run."""
        if not self._down and not self._started and not self._startedBefore:
            self.startRunning(installSignalHandlers=False)

    def power_off(self) -> None:
        """Forget all that is due: the host has crashed."""
        for call in tuple(self._calls):
            self._forget(call)
        self._reads.clear()
        self._writes.clear()
        self._selectables.clear()
        self._started = self.running = False

    def stop(self) -> None:
        super().stop()
        self.wakeUp()

    def iterate(self, delay: float = 0.0) -> None:
        self._check()
        self._events.run_until(self._events.now + delay)

    # IReactorFDSet

    def addReader(self, reader: Any) -> None:
        self._add(reader, self._reads, IN)

    def addWriter(self, writer: Any) -> None:
        self._add(writer, self._writes, OUT)

    def removeReader(self, reader: Any) -> None:
        self._remove(reader, self._reads, self._writes)

    def removeWriter(self, writer: Any) -> None:
        self._remove(writer, self._writes, self._reads)

    def removeAll(self) -> list[Any]:
        removed = list(self._selectables.values())
        self._reads.clear()
        self._writes.clear()
        self._selectables.clear()
        return removed

    def getReaders(self) -> list[Any]:
        return [self._selectables[number] for number in sorted(self._reads)]

    def getWriters(self) -> list[Any]:
        return [self._selectables[number] for number in sorted(self._writes)]

    def _add(self, selectable: Any, interested: set[int], event: int) -> None:
        self._check()
        number = selectable.fileno()
        if number in interested:
            return
        opened = self.stack.sockets.get(number)
        if opened is None:
            raise ValueError(f"{selectable!r} is on no socket of the host {self.stack.name}")
        interested.add(number)
        self._selectables[number] = selectable
        opened.ready = self._note
        if opened.poll(event):
            self._note(number)

    def _remove(self, selectable: Any, interested: set[int], other: set[int]) -> None:
        number = selectable.fileno()
        if number == -1:
            number = next((known for known, one in self._selectables.items() if one is selectable), -1)
        interested.discard(number)
        if number not in other:
            self._selectables.pop(number, None)

    def _note(self, number: int) -> None:
        """A socket may be ready: look at it in the next turn."""
        self._ready[number] = None
        if not self._turn_due:
            self._turn_due = True
            self._events.move(self._events.now, self._turn)

    def _turn(self) -> None:
        """Let everything read and write that is ready now, once."""
        self._turn_due = False
        if self._down:
            return
        ready, self._ready = self._ready, {}
        call_with_context = theContextTracker.currentContext().callWithContext
        for number in ready:
            event = self._event(number)
            if event:
                selectable = self._selectables[number]
                # As callWithLogger does, with less of a detour.
                context = {ILogContext: {"isError": 0, "system": selectable.logPrefix()}}
                call_with_context(context, self._doReadOrWrite, selectable, number, event)
                if number not in self._ready and self._event(number):
                    self._note(number)

    def _event(self, number: int) -> int:
        """Return for what a descriptor is ready that somebody waits for."""
        if number not in self._selectables:
            return 0
        opened = self.stack.sockets.get(number)
        if opened is None:
            return 0
        return opened.poll((IN if number in self._reads else 0) | (OUT if number in self._writes else 0))

    # IReactorTCP, IReactorSSL

    def listenTCP(self, port: Any, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        return self._listen(TCPPort(port, factory, backlog, interface, self))

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        self._check()
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenSSL(
        self, port: Any, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        tls = TLSMemoryBIOFactory(contextFactory, False, factory, self)
        listening: Any = self.listenTCP(port, tls, backlog, interface)
        listening._type = "TLS"  # which Twisted calls it in the log
        return cast(IListeningPort, listening)

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        contextFactory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> IConnector:
        tls: Any = TLSMemoryBIOFactory(contextFactory, True, factory, self)
        return self.connectTCP(host, port, tls, timeout, bindAddress)

    # IReactorUDP, IReactorMulticast

    def listenUDP(
        self, port: int, protocol: AbstractDatagramProtocol, interface: str = "", maxPacketSize: int = 8192
    ) -> IListeningPort:
        return self._listen(UDPPort(port, protocol, interface, maxPacketSize, self))

    def listenMulticast(
        self,
        port: int,
        protocol: AbstractDatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
        listenMultiple: bool = False,
    ) -> IListeningPort:
        return self._listen(MulticastPort(port, protocol, interface, maxPacketSize, cast(Any, self), listenMultiple))

    # IReactorUNIX

    def listenUNIX(
        self, address: Any, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        return self._listen(UNIXPort(address, factory, backlog, mode, self, wantPID))

    def connectUNIX(
        self, address: Any, factory: ClientFactory[Any], timeout: float = 30, checkPID: int = 0
    ) -> IConnector:
        self._check()
        connector = UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    # The rest is its own

    @property
    def _down(self) -> bool:
        return self._start != self.stack.starts

    def _check(self) -> None:
        if self._start != self.stack.starts:
            raise HostDownError(
                f"the host {self.stack.name!r} has crashed, and this reactor with it; "
                "restart() it, and use the reactor that it has then"
            )

    def _listen(self, port: Any) -> IListeningPort:
        self._check()
        port.startListening()
        listening: IListeningPort = port
        return listening
