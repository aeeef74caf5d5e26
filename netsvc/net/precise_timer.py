"""A timer that is more precise than those of a reactor, on a real reactor of Linux."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from zope.interface import implementer

from netsvc.linux import timer_descriptor
from netsvc.linux.timer_descriptor import TimerDescriptor
from netsvc.net.reactors import Reactor, cancel, monotonic_nanoseconds_of, tells_wall_time


@implementer(IReadDescriptor)
class PreciseTimer:
    """Calls a function at a time.

    A reactor waits for whole milliseconds. This timer is late by some 50 us where the system has timers as descriptors
    (Linux); elsewhere, and on the reactor of a simulated host, it is a call of the reactor.

    :param reactor: waits.
    :param function: is called without arguments.
    """

    def __init__(self, reactor: Reactor, function: Callable[[], object]) -> None:
        self._reactor = reactor
        self._function = function
        self._now = monotonic_nanoseconds_of(reactor)
        self._call: IDelayedCall | None = None
        self._descriptor: TimerDescriptor | None = None
        if timer_descriptor.AVAILABLE and tells_wall_time(reactor):
            self._descriptor = TimerDescriptor()
            reactor.addReader(self)

    def set(self, at: int) -> None:
        """Call the function at ``at``, nanoseconds of :func:`monotonic_nanoseconds_of`, and not at an earlier time."""
        if self._descriptor is not None:
            self._descriptor.set(at)
            return
        cancel(self._call)
        self._call = self._reactor.callLater(max(0.0, (at - self._now()) / 1e9), self._function)

    def close(self) -> None:
        """Call the function no more. The timer cannot be set again."""
        cancel(self._call)
        if self._descriptor is not None:
            self._reactor.removeReader(self)
            self._descriptor.close()

    # Called by the reactor

    def fileno(self) -> int:
        return -1 if self._descriptor is None else self._descriptor.fileno()

    def logPrefix(self) -> str:
        return "PreciseTimer"

    def doRead(self) -> None:
        assert self._descriptor is not None
        self._descriptor.clear()
        self._function()

    def connectionLost(self, reason: Any) -> None:
        self.close()
