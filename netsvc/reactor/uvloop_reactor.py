"""The reactor on uvloop's event loop.

The reactor's own epoll watches ports, connecting clients, pipes, wakers and new connections; uvloop watches only that
epoll. Active connections are handed over to uvloop (:mod:`netsvc.reactor.native_connection`), and readers with
``reads_its_errors`` are watched by uvloop itself.

uvloop reports no further events of a descriptor after its first EPOLLERR; for that reason, a plain
AsyncioSelectorReactor on uvloop hangs. So the reactor's epoll watches those readers for errors, and takes them back.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from math import ceil, inf
from select import EPOLLERR, EPOLLHUP, EPOLLIN
from typing import TYPE_CHECKING, Any

from twisted.internet import process
from twisted.internet.abstract import FileDescriptor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.python import log
from twisted.python.context import theContextTracker

from netsvc.reactor.log_context import LogContext, current_log_context
from netsvc.reactor.loop import LoopReactor
from netsvc.reactor.native_connection import (
    LoopReader,
    NativeConnection,
    NativeConnector,
    NativePort,
    NativeServer,
)
from netsvc.reactor.private_names import ReactorUnavailableError
from netsvc.reactor.timers import LONGEST_TIMEOUT

if TYPE_CHECKING:
    from netsvc.reactor.lean_tls import LeanTLS

#: Seconds that timers run before uvloop serves its connections again, if each call makes the next one due.
TIMERS_MAX = 0.001

#: Connections that are handed over in one iteration of the loop. Each handover needs 1.3 KiB until it is complete, and
#: Python keeps that memory. With 3,000 connections at once it kept 4 MiB.
HANDOVERS_MAX = 64


class UvloopReactor(LoopReactor):
    """A reactor on the event loop of uvloop, which the extra ``netsvc[fast]`` installs.

    :ivar hand_over_at: the number of the read at which a connection is handed over to uvloop; 0 to hand it
        over before its first read.
    :ivar iterating: whether ``iterate`` runs the loop.
    :ivar last_read: the reader of the handed-over connection that has read last.
    :ivar log_contexts: the stack of log contexts of the thread that runs the reactor.
    :ivar log_context: the log context in which the application called ``run``.
    :ivar flush_is_scheduled: whether a flush follows without a call of ``schedule_flush``.
    """

    # Twisted's tests name a reactor by the module of its class, and call install() there.
    __module__ = "netsvc.reactor.uvloop"

    hand_over_at = 6

    port_class = NativePort
    server_class = NativeServer
    connector_class = NativeConnector

    def __init__(self) -> None:
        self.native_connections: set[NativeConnection] = set()
        self._watched_by_loop: dict[Any, int] = {}  # their descriptors
        self.last_read: LoopReader | None = None
        self.log_contexts = theContextTracker.currentContext().contexts
        self.log_context = current_log_context()
        self.flush_is_scheduled = False
        self._active: deque[NativeConnection] = deque()  # to be handed over
        self.iterating = False
        self._timer_due = inf  # the time at which the loop runs Twisted's timers
        self._timer: asyncio.Handle | None = None
        self._run_context = contextvars.copy_context()
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
        self._run_context.run(call)

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call a function in the next iteration of the loop."""
        self.loop.call_soon(self._run_in_context, call)

    def startRunning(self, installSignalHandlers: bool = True) -> None:
        self._run_context = contextvars.copy_context()
        self.log_contexts = theContextTracker.currentContext().contexts
        self.log_context = current_log_context()
        super().startRunning(installSignalHandlers=installSignalHandlers)

    def mainLoop(self) -> None:
        self._schedule_timers(-inf)
        super().mainLoop()
        # The loop closes the sockets of its connections in its next iteration.
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        for variable, value in self._run_context.items():  # that callbacks have set
            variable.set(value)

    def stop(self) -> None:
        super().stop()
        self._schedule_timers(-inf)

    def crash(self) -> None:
        super().crash()
        self.loop.stop()

    def doIteration(self, delay: float | None) -> None:
        """Take back what was handed over, because uvloop cannot run within itself. Then iterate."""
        for connection in list(self.native_connections):
            connection.take_back()
        for reader in list(self._watched_by_loop):
            self._take_back_reader(reader)
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
        if self._has_crashed():
            return
        self.flush_is_scheduled = True  # at the end of this function
        try:
            self.wait_for_events(0)
        finally:
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

    def flush_soon(self, connection: FileDescriptor) -> None:
        if not self._writes or connection.fileno() not in self._writes:
            self.unflushed[connection] = None
            if not self.flush_is_scheduled:
                self.schedule_flush()

    def encrypt_soon(self, tls: LeanTLS) -> None:
        self.unencrypted[tls] = None
        if not self.flush_is_scheduled:
            self.schedule_flush()

    def schedule_flush(self) -> None:
        """Send what is unsent in the next iteration of the loop, before the loop waits for events."""
        self.flush_is_scheduled = True
        self.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self.flush_is_scheduled = False
        self.flush_all()

    # Descriptors

    def read_at_once(self, connection: Any) -> None:
        connection.reads -= 1  # often there is nothing to read yet
        super().read_at_once(connection)

    def addReader(self, reader: Any) -> None:
        if reader in self.native_connections:
            reader.startReading()
            return
        super().addReader(reader)
        if getattr(reader, "reads_its_errors", False) and reader not in self._watched_by_loop and not self.iterating:
            self._let_loop_watch(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.native_connections:
            reader.stopReading()
            return
        if reader in self._watched_by_loop:
            self.loop.remove_reader(self._watched_by_loop.pop(reader))
        super().removeReader(reader)

    def _let_loop_watch(self, reader: Any) -> None:
        """Let uvloop watch a descriptor for reads. With two epolls for each event, a datagram takes a tenth more."""
        fd = reader.fileno()
        self._poller.modify(fd, 0)  # it still reports errors
        self._watched_by_loop[reader] = fd
        self.loop.add_reader(
            fd, self._run_in_context, partial(self._read, reader, LogContext(reader, self.log_context))
        )

    def _take_back_reader(self, reader: Any) -> None:
        fd = self._watched_by_loop.pop(reader)
        self.loop.remove_reader(fd)
        self._poller.modify(fd, EPOLLIN)

    def _read(self, reader: Any, log_context: LogContext) -> None:
        if self._has_crashed():
            return
        self.log_contexts.append(log_context)
        try:
            try:
                reason = reader.doRead()
            except BaseException as e:
                log.err()
                reason = e
            if reason:
                self._disconnectSelectable(reader, reason, True)
        finally:
            self.log_contexts.pop()

    def removeAll(self) -> list[Any]:
        readers = self._native_readers()
        for connection in readers:
            connection.stopReading()
        return list(dict.fromkeys([*super().removeAll(), *readers]))

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *self._native_readers()]

    def _native_readers(self) -> list[NativeConnection]:
        return [each for each in self.native_connections if each.loop_reader is not None and each.loop_reader.reading]

    def _doReadOrWrite(self, selectable: Any, fd: int, event: int) -> None:
        if event & (EPOLLERR | EPOLLHUP) and selectable in self.native_connections and selectable.loop_reader.reading:
            event |= EPOLLIN  # uvloop has not read yet what the peer sent before it reset the connection
        elif event & (EPOLLERR | EPOLLHUP) and selectable in self._watched_by_loop:
            self._take_back_reader(selectable)
        super()._doReadOrWrite(selectable, fd, event)

    def _is_reading(self, connection: Any) -> bool:
        reader = connection.loop_reader
        return super()._is_reading(connection) if reader is None else reader.reading

    def forget(self, connection: NativeConnection, reader: LoopReader) -> None:
        """Forget that a connection was handed over."""
        self.native_connections.discard(connection)
        if self.last_read is reader:
            self.last_read = None

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
        if self.has_new_calls():  # by the handler of a signal that has come meanwhile
            self._schedule_timers(-inf)

    def _has_crashed(self) -> bool:
        """Return whether ``crash`` was called. Later events wait for the next ``run``."""
        return not self._started and not self.iterating

    def _run_timers(self) -> None:
        if self._has_crashed():
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # Meanwhile, calls of callLater schedule nothing: that would replace the schedule of earlier calls. The finally
        # block schedules the earliest of all calls.
        self._timer_due = -inf
        self.flush_is_scheduled = True  # at the end of this function
        try:
            self.runUntilCurrent()
            if self.next_call_at() <= self.timer_clock()():
                self._run_more_timers()
        finally:
            if self._timer is None:  # otherwise, a call has stopped the reactor, and the loop runs the timers at once
                self._schedule_next_timer()
            self._flush_now()
        if self.iterating:
            self.loop.stop()

    def _run_more_timers(self) -> None:
        """For a short time, run iterations of the reactor while more timers are due.

        A program that schedules each step by callLater(0) would otherwise pay for an iteration of the loop each time.
        """
        clock = self.timer_clock()
        until = time.monotonic() + TIMERS_MAX
        while self._started and not self.iterating and self.next_call_at() <= clock() and time.monotonic() < until:
            self.wait_for_events(0)
            self.runUntilCurrent()

    # Signals

    def _signalsFactory(self) -> Any:
        # Twisted reaps child processes on SIGCHLD, by a descriptor that the event loop owns here. asyncio and uvloop
        # use this signal for processes of their own, and the reactor needs it only where there are no pidfds.
        return ReactorBase._signalsFactory(self)

    def _reap_on_sigchld(self) -> None:
        signal.signal(signal.SIGCHLD, lambda *_: self.callFromThread(process.reapAllProcesses))
        signal.siginterrupt(signal.SIGCHLD, False)
        self.callFromThread(process.reapAllProcesses)
