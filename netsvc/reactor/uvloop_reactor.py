"""The reactor on uvloop's event loop.

The reactor's own epoll watches ports, connecting clients, pipes, wakers and new connections; uvloop watches only that
epoll. Active connections are handed over to uvloop (:mod:`netsvc.reactor.native_connection`).

No other descriptor is registered with uvloop's ``add_reader``. uvloop reports no further events of a descriptor after
its first EPOLLERR; for that reason, a plain AsyncioSelectorReactor on uvloop hangs.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import time
from collections import deque
from collections.abc import Callable
from math import ceil, inf
from typing import Any

from twisted.internet import process
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.python import log
from twisted.python.context import theContextTracker

from netsvc.reactor.log_context import LogContext
from netsvc.reactor.loop import LoopReactor
from netsvc.reactor.native_connection import (
    LoopProtocol,
    NativeConnection,
    NativeConnector,
    NativePort,
    NativeServer,
)
from netsvc.reactor.private_names import ReactorUnavailableError
from netsvc.reactor.timers import LONGEST_TIMEOUT

#: Seconds that timers run before uvloop serves its connections again, if each call makes the next one due.
TIMERS_MAX = 0.001

#: Connections that are handed over in one iteration of the loop. Each handover needs 1.3 KiB until it is complete, and
#: Python keeps that memory. With 3,000 connections at once it kept 4 MiB.
HANDOVERS_MAX = 64


class UvloopReactor(LoopReactor):
    """A reactor on the event loop of uvloop, which the extra ``netsvc[fast]`` installs.

    :ivar hand_over_at: the number of the read or write at which a connection is handed over to uvloop; 0 to hand it
        over before its first read.
    :ivar iterating: whether ``iterate`` runs the loop.
    :ivar last_read: the handed-over connection that has read last.
    """

    # Twisted's tests name a reactor by the module of its class, and call install() there.
    __module__ = "netsvc.reactor.uvloop"

    hand_over_at = 12

    port_class = NativePort
    server_class = NativeServer
    connector_class = NativeConnector

    def __init__(self) -> None:
        self.native_connections: set[NativeConnection] = set()
        self.last_read: LoopProtocol | None = None
        self.log_contexts = theContextTracker.currentContext().contexts
        self.log_context = LogContext(self.log_contexts)
        self._native_unflushed: list[LoopProtocol] = []
        self._active: deque[NativeConnection] = deque()  # to be handed over
        self._flush_is_scheduled = False
        self.iterating = False
        self._timer_due = inf  # the time at which the loop runs Twisted's timers
        self._timer: asyncio.Handle | None = None
        self._context = contextvars.copy_context()
        super().__init__()

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        try:
            import uvloop
        except ImportError:
            raise ReactorUnavailableError(
                "uvloop is not installed; run pip install '.[fast]' in netsvc's source folder"
            ) from None
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        loop.add_reader(self._poller.fileno(), self._run_in_context, self._handle_events)
        return loop

    # The loop

    def _run_in_context(self, call: Callable[[], None]) -> None:
        """Run a callback of the loop in the context in which the application called ``run``."""
        self._context.run(call)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call a function in the next iteration of the loop."""
        self.loop.call_soon(self._run_in_context, call)

    def startRunning(self, installSignalHandlers: bool = True) -> None:
        self._context = contextvars.copy_context()
        self.log_contexts = theContextTracker.currentContext().contexts
        self.log_context = LogContext(self.log_contexts)
        super().startRunning(installSignalHandlers=installSignalHandlers)

    def mainLoop(self) -> None:
        self._schedule_timers(-inf)
        super().mainLoop()
        # The loop closes the sockets of its connections in its next iteration.
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def stop(self) -> None:
        super().stop()
        self._schedule_timers(-inf)

    def crash(self) -> None:
        super().crash()
        self.loop.stop()

    def doIteration(self, delay: float | None) -> None:
        """Take back the connections that were handed over, because uvloop cannot run within itself. Then iterate."""
        for connection in list(self.native_connections):
            connection.take_back()
        super().doIteration(delay)

    def _run_loop_once(self, delay: float | None) -> None:
        timer = None if delay is None else self.loop.call_later(delay, self.loop.stop)
        self.iterating = True
        try:
            self.loop.run_forever()
        finally:
            self.iterating = False
            if timer is not None:
                timer.cancel()
            self._schedule_next_timer()

    def _handle_events(self) -> None:
        self._flush_is_scheduled = True  # at the end of this function
        self.wait_for_events(0)
        self._flush_now()
        if self.threadCallQueue:
            self._run_timers()
        if self.iterating:
            self.loop.stop()

    # Handovers

    def hand_over_soon(self, connection: NativeConnection) -> None:
        """Hand a connection over to uvloop in one of the next iterations of the loop."""
        self._active.append(connection)
        if len(self._active) == 1:
            self.call_soon(self._hand_over_some)

    def _hand_over_some(self) -> None:
        connections = [self._active.popleft() for _ in range(min(HANDOVERS_MAX, len(self._active)))]
        if self._active:
            self.call_soon(self._hand_over_some)
        for connection in connections:
            connection.hand_over()

    # Writes

    def addWriter(self, writer: Any) -> None:
        if writer in self.native_connections:
            writer.startWriting()
            return
        super().addWriter(writer)
        if self.unflushed and not self._flush_is_scheduled:
            self._schedule_flush()

    def flush_soon(self, connection: LoopProtocol) -> None:
        """Flush a connection at the end of this iteration."""
        self._native_unflushed.append(connection)
        if not self._flush_is_scheduled:
            self._schedule_flush()

    def _schedule_flush(self) -> None:
        self._flush_is_scheduled = True
        self.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_is_scheduled = False
        if self._native_unflushed:
            connections, self._native_unflushed = self._native_unflushed, []
            for connection in connections:
                try:
                    connection.flush()
                except BaseException:  # an error of one connection must not affect the others
                    log.err()
        if self.unflushed:
            self.flush_all()

    # Descriptors

    def addReader(self, reader: Any) -> None:
        if reader in self.native_connections:
            reader.startReading()
        else:
            super().addReader(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.native_connections:
            reader.native.stop_reading()
        else:
            super().removeReader(reader)

    def removeWriter(self, writer: Any) -> None:
        if writer in self.native_connections:
            writer.native.writing = False
        else:
            super().removeWriter(writer)

    def removeAll(self) -> list[Any]:
        watched = [connection for connection in self.native_connections if _reads(connection) or _writes(connection)]
        for connection in watched:
            connection.stopReading()
            connection.stopWriting()
        return [*super().removeAll(), *watched]

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *(each for each in self.native_connections if _reads(each))]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *(each for each in self.native_connections if _writes(each))]

    # Time

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
        """Make the loop run Twisted's timers at this time.

        The clock of the loop has whole milliseconds. The delay is rounded up: if a timer were early, the loop would
        call it again and again until the call is due.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_due = due
        if due == inf:
            return
        delay = due - self.timer_clock()()
        if delay <= 0:
            self._timer = self.loop.call_soon(self._run_in_context, self._run_timers)
        else:
            milliseconds = ceil(min(delay, LONGEST_TIMEOUT) * 1_000)
            self._timer = self.loop.call_later(milliseconds / 1_000, self._run_in_context, self._run_timers)

    def _schedule_next_timer(self) -> None:
        self._schedule_timers(self.next_call_at())

    def _run_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Meanwhile, calls of callLater schedule nothing: that would replace the schedule of earlier calls. The finally
        # block schedules the earliest of all calls.
        self._timer_due = -inf
        self._flush_is_scheduled = True  # at the end of this function
        try:
            self._run_due_timers()
        finally:
            if self._timer is None:  # otherwise, a call has stopped the reactor, and the loop runs the timers at once
                self._schedule_next_timer()
            self._flush_now()
        if self.iterating:
            self.loop.stop()

    def _run_due_timers(self) -> None:
        """Run the timers that are due. For a short time, run iterations of the reactor while more of them are due.

        A program that schedules each step by callLater(0) would otherwise pay for an iteration of the loop each time.
        """
        until = time.monotonic() + TIMERS_MAX
        self.runUntilCurrent()
        while self._started and not self.iterating and self.next_call_at() <= self.timer_clock()() < until:
            self.wait_for_events(0)
            self.runUntilCurrent()

    # Signals

    def _signalsFactory(self) -> Any:
        return _Signals(self, ReactorBase._signalsFactory(self))


def _reads(connection: NativeConnection) -> bool:
    return connection.native is not None and connection.native.reading


def _writes(connection: NativeConnection) -> bool:
    return connection.native is not None and connection.native.writing


class _Signals:
    """Handles signals as Twisted does, and reaps child processes on SIGCHLD.

    Twisted's own reaper waits for the descriptor to which Python writes a byte for each signal. Here, the event loop
    owns that descriptor.

    :param signals: Twisted's handling of SIGINT and SIGTERM.
    """

    def __init__(self, reactor: UvloopReactor, signals: Any) -> None:
        self._reactor = reactor
        self._signals = signals
        self._installed = False

    def install(self) -> None:
        self._signals.install()
        signal.signal(signal.SIGCHLD, self._reap)
        signal.siginterrupt(signal.SIGCHLD, False)
        process.reapAllProcesses()
        self._installed = True

    def uninstall(self) -> None:
        if self._installed:
            self._installed = False
            self._signals.uninstall()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as Twisted does

    def _reap(self, *_: object) -> None:
        self._reactor.callFromThread(process.reapAllProcesses)
