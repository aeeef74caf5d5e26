"""The reactor of a simulated host.

It behaves as Twisted's EPollReactor does, and shares most of its code, but it uses simulated sockets and virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, cast
from weakref import WeakKeyDictionary

from twisted.internet import task
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
    IReactorThreads,
    IReactorTime,
    IReactorUDP,
    IReactorUNIX,
)
from twisted.internet.posixbase import _DisconnectSelectableMixin, _PollLikeMixin
from twisted.internet.protocol import AbstractDatagramProtocol, ClientFactory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.context import theContextTracker
from twisted.python.log import ILogContext, err
from zope.interface import implementer_only

from netsvc.testing.batch_udp_socket import SimulatedUdpSocket
from netsvc.testing.events import ScheduledEvent
from netsvc.testing.not_simulated import NotSimulatedError
from netsvc.testing.resolver import LookupFunction, Resolver
from netsvc.testing.running_host import RunningHost, running_reactor
from netsvc.testing.stack import ERR, HUP, IN, OUT, HostDownError, Stack
from netsvc.testing.thread_pool import SimulatedThreadPool
from netsvc.testing.transports import (
    SimulatedMulticastPort,
    TCPConnector,
    TCPPort,
    UDPPort,
    UNIXConnector,
    UNIXPort,
)

#: Virtual seconds between two steps of a Cooperator, as in Twisted.
COOPERATOR_INTERVAL = 1e-8


class _Due:
    """Stands for the event of a delayed call that is due on a slow host."""


def _end_slices_after_one_step() -> None:
    """Let a Cooperator make one step at a time on a host.

    Twisted's ends its slice after 10 ms. On a host the time is virtual, and does not advance meanwhile.
    """
    timer: Any = task._Timer
    really_ends = timer.__call__
    timer.__call__ = lambda self: running_reactor() is not None or really_ends(self)


_end_slices_after_one_step()


@implementer_only(
    IReactorCore,
    IReactorTime,
    IReactorFDSet,
    IReactorFromThreads,
    IReactorThreads,
    IReactorTCP,
    IReactorSSL,
    IReactorUDP,
    IReactorMulticast,
    IReactorUNIX,
    IReactorPluggableNameResolver,
)
class HostReactor(_DisconnectSelectableMixin, _PollLikeMixin, ReactorBase):
    """The reactor of one host. Create it with :meth:`netsvc.testing.Network.host`.

    You need not run it: the network starts and runs the reactors of all its hosts. As EPollReactor does, it reads from
    and writes to each ready socket once per reactor iteration. If a protocol raises an exception, it logs the exception
    and closes the connection. If a connected UDP port is refused, it closes the port.

    A function that :meth:`callInThread` or ``deferToThread`` runs in a thread is run at once, after
    ``thread_pool.seconds`` of virtual time.

    After its host has crashed, its methods raise :class:`HostDownError`.

    :ivar active: a context manager; in its block, the code of this host runs.
    :ivar cooperator: the Cooperator of the host.
    :ivar thread_pool: runs functions that may block.
    :ivar pools: what pools of connections that belong to no host keep for this one.
    """

    _log = Logger()
    _registerAsIOThread = False
    _POLL_DISCONNECTED = HUP | ERR
    _POLL_IN = IN
    _POLL_OUT = OUT

    def __init__(self, stack: Stack, lookup: LookupFunction) -> None:
        self.stack = stack
        self._events = stack.events
        self._boot = stack.boot_count
        self._reads: set[int] = set()
        self._writes: set[int] = set()
        self._selectables: dict[int, Any] = {}
        self._ready: dict[int, None] = {}
        self._iteration_due = False
        self._busy_until = 0.0  # virtual time until which no code of the host runs
        self._work_scheduled = False
        self._due_calls: deque[tuple[DelayedCall, _Due]] = deque()
        self._round_calls: deque[tuple[DelayedCall, _Due]] = deque()
        self._round_sockets: deque[int] = deque()
        self._round_ends = True  # its calls have run, and its sockets are known
        self._sockets_wait = False  # for a round
        self._calls: dict[DelayedCall, ScheduledEvent | _Due] = {}  # due: it waits for its turn
        self._in_main_loop = False
        self.active = RunningHost(self)
        self.cooperator = task.Cooperator(scheduler=self._call_soon)
        self.thread_pool = SimulatedThreadPool(self.callLater)
        self.pools: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()
        super().__init__()
        self.installNameResolver(Resolver(self, lookup))

    def __repr__(self) -> str:
        return f"<HostReactor of {self.stack.name}>"

    # IReactorTime

    def seconds(self) -> float:
        return self.stack.wall_time()

    def monotonic(self) -> float:
        """Return the seconds of the monotonic clock of the host, which is never set."""
        return self.stack.monotonic_time()

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: A002  Twisted's name
        self._check_host_up()
        if not 0 <= delay < inf:
            raise ValueError(f"the delay must be a number of seconds, 0 or more: {delay!r}")
        call = DelayedCall(
            self.seconds() + delay, callable, args, kw, self._unschedule, self._schedule, seconds=self.seconds
        )
        self._schedule(call)
        return call

    def _call_soon(self, call: Callable[[], None]) -> IDelayedCall:
        return self.callLater(COOPERATOR_INTERVAL, call)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        return list(self._calls)

    def _schedule(self, call: DelayedCall) -> None:
        self._unschedule(call)
        clock = self.stack.clock
        time = call.time if clock is None else max(self._events.now, clock.next_tick(call.time))
        self._calls[call] = self._events.call_at(time, self._run_call, call)

    def _unschedule(self, call: DelayedCall) -> None:
        event = self._calls.pop(call, None)
        if isinstance(event, list):
            self._events.cancel(event)

    def clock_changed(self) -> None:
        """Schedule the delayed calls by the clock of the host, which was changed."""
        for call in sorted(self._calls, key=lambda call: call.time):
            self._schedule(call)

    def pause(self, seconds: float) -> None:
        """Run no code of the host for these virtual seconds. A pause during a pause is added to it."""
        self._busy_until = max(self._busy_until, self._events.now) + seconds

    def _run_call(self, call: DelayedCall) -> None:
        if self._is_slow():
            due = self._calls[call] = _Due()
            self._due_calls.append((call, due))
            self._schedule_work()
            return
        with self.active:
            self._run_call_here(call)

    # A slow host works step by step, in rounds as a reactor does: the calls that are due when a round begins, and then
    # the sockets that are ready. Each step is an event of its own, so that time can pass between two of them.

    def _is_slow(self) -> bool:
        """Whether code of the host has to wait: the host is paused, has work left, or its callbacks take time."""
        return self._busy_until > self._events.now or self._work_scheduled or self.stack.callback_cost > 0

    def _schedule_work(self) -> None:
        if not self._work_scheduled:
            self._work_scheduled = True
            self._events.call_at(max(self._busy_until, self._events.now), self._work)

    def _work(self) -> None:
        """Do one step."""
        self._work_scheduled = False
        if self._host_crashed:
            return
        if self._busy_until <= self._events.now:
            with self.active:
                has_run = self._work_here()
            if has_run and self.stack.callback_cost:
                self.pause(self.stack.callback_cost)
        if self._round_calls or self._round_sockets or self._due_calls or self._sockets_wait:
            self._schedule_work()

    def _work_here(self) -> bool:
        """Run the next callback of the round, or begin a new one. Return whether one was run."""
        if self._round_ends and not self._round_sockets:
            self._round_calls, self._due_calls = self._due_calls, deque()
            self._round_ends = False
        while self._round_calls:
            call, due = self._round_calls.popleft()
            is_still_due = self._calls.get(call) is due  # it was not cancelled or put off meanwhile
            if is_still_due and self._run_call_here(call):
                return True
        if not self._round_ends:
            self._round_ends = True
            if self._sockets_wait:
                self._sockets_wait = self._iteration_due = False
                self._round_sockets.extend(self._ready)
                self._ready = {}
        while self._round_sockets:
            number = self._round_sockets.popleft()
            if self._ready_events(number):
                self._read_or_write(number)
                return True
        return False

    def _run_call_here(self, call: DelayedCall) -> bool:
        """Run a call that is due, unless it was cancelled or put off. Return whether any code was run."""
        has_run = bool(self.threadCallQueue)
        if has_run:
            self.runUntilCurrent()  # a real reactor also runs the calls from threads before its timers
        if call not in self._calls:  # one of them has cancelled it
            return has_run
        if call.delayed_time > 0:
            call.activate_delay()
            self._schedule(call)
            return has_run
        del self._calls[call]
        call.called = 1
        try:
            call.func(*call.args, **call.kw)
        except Exception:  # KeyboardInterrupt must end the test
            self._log.failure("while handling timed call")
        return True

    # IReactorCore

    def installWaker(self) -> None:
        """Do nothing: this reactor never sleeps."""

    def _initThreads(self) -> None:
        """Do nothing: there are no threads."""

    def wakeUp(self) -> None:
        if not self._host_crashed:
            self._events.call_at(self._events.now, self._run_thread_calls)

    def _run_thread_calls(self) -> None:
        if self._host_crashed:
            return
        if self._busy_until > self._events.now:
            self._events.call_at(self._busy_until, self._run_thread_calls)
            return
        with self.active:
            self.runUntilCurrent()

    def callFromThread(self, f: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self._check_host_up()
        super().callFromThread(f, *args, **kwargs)

    def callInThread(self, _callable: Callable[..., Any], *args: object, **kwargs: object) -> None:
        self.thread_pool.callInThread(_callable, *args, **kwargs)

    def getThreadPool(self) -> Any:
        return self.thread_pool

    def suggestThreadPoolSize(self, size: int) -> None:
        """Do nothing: there are no threads."""

    def spawnProcess(self, *_args: object, **_kwargs: object) -> Any:
        """Refuse: a process would not be part of the simulation.

        :raises NotSimulatedError: always.
        """
        raise NotSimulatedError(
            f"the simulated host {self.stack.name!r} has no processes; give the program a function that stands for the "
            "process, or test it on a real reactor"
        )

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run the network until ``stop`` is called.

        :raises RuntimeError: if no event is scheduled any more.
        """
        self._check_host_up()
        if self._in_main_loop and self._started:
            raise ReactorAlreadyRunning
        was_in_main_loop, self._in_main_loop = self._in_main_loop, True
        try:
            if not self._started:
                self.startRunning(installSignalHandlers=False)
            self.mainLoop()
        finally:
            self._in_main_loop = was_in_main_loop

    def mainLoop(self) -> None:
        with self._events.running():
            while self._started:
                if self._events.next_time() is None:
                    self.crash()
                    name = self.stack.name
                    raise RuntimeError(f"no event is scheduled any more, and the reactor of {name} was not stopped")
                self._events.step()
        self._check_host_up()

    def begin(self) -> None:
        """Start the reactor unless it has been started before. Starting makes the calls of ``callWhenRunning``."""
        if not self._host_crashed and not self._started and not self._startedBefore:
            if self._busy_until > self._events.now:
                self._events.call_at(self._busy_until, self.begin)
                return
            with self.active:
                self.startRunning(installSignalHandlers=False)

    def power_off(self) -> None:
        """Cancel all delayed calls and watch no socket any more: the host has crashed."""
        for call in tuple(self._calls):
            self._unschedule(call)
        self._reads.clear()
        self._writes.clear()
        self._selectables.clear()
        self._started = self.running = False

    def stop(self) -> None:
        super().stop()
        self.wakeUp()

    def iterate(self, delay: float = 0.0) -> None:
        self._check_host_up()
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
        self._check_host_up()
        number = selectable.fileno()
        if number in interested:
            return
        watched = self.stack.sockets.get(number)
        if watched is None:
            raise ValueError(f"{selectable!r} has no socket of the host {self.stack.name}")
        interested.add(number)
        self._selectables[number] = selectable
        watched.on_readiness = self._socket_ready
        if watched.poll(event):
            self._socket_ready(number)

    def _remove(self, selectable: Any, interested: set[int], other: set[int]) -> None:
        number = selectable.fileno()
        if number == -1:
            number = next((known for known, one in self._selectables.items() if one is selectable), -1)
        interested.discard(number)
        if number not in other:
            self._selectables.pop(number, None)

    def _socket_ready(self, number: int) -> None:
        """Schedule a reactor iteration that checks this socket."""
        self._ready[number] = None
        if not self._iteration_due:
            self._iteration_due = True
            self._events.deliver_at(self._events.now, self._run_iteration)

    def _run_iteration(self) -> None:
        """Run one reactor iteration: let each socket that is ready now read or write once."""
        if self._host_crashed:
            return
        if self._is_slow():
            self._sockets_wait = True
            self._schedule_work()
            return
        self._iteration_due = False
        ready, self._ready = self._ready, {}
        with self.active:
            waiting = iter(ready)
            for number in waiting:
                if self._ready_events(number):
                    self._read_or_write(number)
                    if self._busy_until > self._events.now:  # its code has paused the host
                        self._ready = dict.fromkeys(waiting) | self._ready
                        if self._ready:
                            self._iteration_due = self._sockets_wait = True
                            self._schedule_work()

    def _read_or_write(self, number: int) -> None:
        selectable = self._selectables[number]
        # This is what callWithLogger does, with fewer calls.
        context = {ILogContext: {"isError": 0, "system": selectable.logPrefix()}}
        call_with_context = theContextTracker.currentContext().callWithContext
        try:
            call_with_context(context, self._doReadOrWrite, selectable, number, self._ready_events(number))
        except Exception:  # of connectionLost: all others are caught before
            err(system=context[ILogContext]["system"])
        if number not in self._ready and self._ready_events(number):
            self._socket_ready(number)

    def _ready_events(self, number: int) -> int:
        """Return the poll events of a descriptor for which it is both ready and watched."""
        if number not in self._selectables:
            return 0
        watched = self.stack.sockets.get(number)
        if watched is None:
            return 0
        return watched.poll((IN if number in self._reads else 0) | (OUT if number in self._writes else 0))

    def selectable_of(self, number: int) -> Any:
        """Return the transport that watches a descriptor; None if none does."""
        return self._selectables.get(number)

    # IReactorTCP, IReactorSSL

    def listenTCP(self, port: Any, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> IListeningPort:
        return self._listen(TCPPort(port, factory, backlog, interface, self))

    def connectTCP(
        self, host: str, port: int, factory: ClientFactory[Any], timeout: float = 30.0, bindAddress: Any = None
    ) -> IConnector:
        self._check_host_up()
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenSSL(
        self, port: Any, factory: IProtocolFactory, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        tls = TLSMemoryBIOFactory(contextFactory, False, factory, self)
        listening: Any = self.listenTCP(port, tls, backlog, interface)
        listening._type = "TLS"  # Twisted writes this word to its log
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

    def open_udp_socket(
        self, interface: str, port: int, max_size: int, *, metadata: bool = False, reuse_port: bool = False
    ) -> SimulatedUdpSocket:
        """Open a UDP socket for batches of datagrams. netsvc's own UDP ports use this.

        :param interface: an address of the host; ``0.0.0.0`` or an empty string for all IPv4 addresses, ``::`` for all.
        :param port: the port; 0 for a free one.
        :param max_size: bytes of the longest datagram; a longer one is truncated.
        :param metadata: whether each datagram carries its time of arrival, TTL and traffic class.
        :param reuse_port: whether other sockets of the host may use the port as well (SO_REUSEPORT).
        :raises CannotListenError: if the port is in use, or if the host has no such address.
        """
        self._check_host_up()
        return SimulatedUdpSocket(self.stack, interface, port, max_size, metadata=metadata, reuse_port=reuse_port)

    def listenMulticast(
        self,
        port: int,
        protocol: AbstractDatagramProtocol,
        interface: str = "",
        maxPacketSize: int = 8192,
        listenMultiple: bool = False,
    ) -> IListeningPort:
        return self._listen(
            SimulatedMulticastPort(port, protocol, interface, maxPacketSize, cast(Any, self), listenMultiple)
        )

    # IReactorUNIX

    def listenUNIX(
        self, address: Any, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: int = 0
    ) -> IListeningPort:
        return self._listen(UNIXPort(address, factory, backlog, mode, self, wantPID))

    def connectUNIX(
        self, address: Any, factory: ClientFactory[Any], timeout: float = 30, checkPID: int = 0
    ) -> IConnector:
        self._check_host_up()
        connector = UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    # Private

    @property
    def _host_crashed(self) -> bool:
        return self._boot != self.stack.boot_count

    def _check_host_up(self) -> None:
        if self._boot != self.stack.boot_count:
            raise HostDownError(
                f"the host {self.stack.name!r} has crashed, and this reactor no longer exists; "
                "call restart() and use the host's new reactor"
            )

    def _listen(self, port: Any) -> IListeningPort:
        self._check_host_up()
        port.startListening()
        listening: IListeningPort = port
        return listening
