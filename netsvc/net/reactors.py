"""The types of reactors: a protocol needs a :class:`Clock`; code that opens ports needs a :class:`Reactor`.

Twisted describes its reactors by many small zope interfaces, which one annotation cannot combine. Every reactor of
Twisted's, netsvc's own reactors and those of the simulated network fit the types below. Their methods are declared as
properties because Twisted's reactors name the parameters differently.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IConnector, IDelayedCall, IListeningPort

from netsvc.wire.wall_time import wall_nanoseconds


class Clock(Protocol):
    """Tells the time and schedules calls: a reactor, or ``twisted.internet.task.Clock`` in a test."""

    def seconds(self) -> float:
        """Return the time in seconds. On Twisted's own reactors they count from the epoch."""

    @property
    def callLater(self) -> Callable[..., IDelayedCall]:
        """``callLater(delay, function, *args)`` calls ``function`` after ``delay`` seconds."""


class Reactor(Clock, Protocol):
    """Opens TCP ports and connections, and watches descriptors.

    What not every reactor provides is asked for where it is used, as Twisted recommends: ``IReactorUDP(reactor)``,
    ``IReactorPluggableNameResolver(reactor)``.
    """

    @property
    def listenTCP(self) -> Callable[..., IListeningPort]:
        """``listenTCP(port, factory, backlog, interface)`` opens a TCP port."""

    @property
    def connectTCP(self) -> Callable[..., IConnector]:
        """``connectTCP(host, port, factory, timeout, bindAddress)`` connects."""

    @property
    def addReader(self) -> Callable[..., None]:
        """``addReader(reader)`` watches a descriptor for input."""

    @property
    def removeReader(self) -> Callable[..., None]:
        """``removeReader(reader)`` stops watching it."""

    @property
    def callWhenRunning(self) -> Callable[..., object]:
        """``callWhenRunning(function, *args)`` calls ``function`` once the reactor runs."""


def monotonic_of(clock: Clock) -> Callable[[], float]:
    """Return a function that measures durations in seconds and that no change of the system's time affects.

    Twisted's reactors, and netsvc's, tell the wall time. For them this is ``time.monotonic``. A reactor of the
    simulated network has a method ``monotonic``. A clock in a test measures durations itself.
    """
    if tells_wall_time(clock):
        return time.monotonic
    own: Callable[[], float] | None = getattr(clock, "monotonic", None)
    return clock.seconds if own is None else own


def wall_of(clock: Clock) -> Callable[[], float]:
    """Return a function that tells the seconds since the epoch on the clock by which the kernel stamps datagrams.

    The virtual kernel of a simulated host stamps them by the time of its reactor.
    """
    return partial(time.clock_gettime, time.CLOCK_REALTIME) if tells_wall_time(clock) else clock.seconds


def wall_nanoseconds_of(clock: Clock) -> Callable[[], int]:
    """Return a function that tells the same time in nanoseconds."""
    if tells_wall_time(clock):
        return partial(time.clock_gettime_ns, time.CLOCK_REALTIME)
    return lambda: wall_nanoseconds(clock.seconds())


def monotonic_nanoseconds_of(clock: Clock) -> Callable[[], int]:
    """Return a function that measures durations as that of :func:`monotonic_of` does, in nanoseconds."""
    if tells_wall_time(clock):
        return time.monotonic_ns
    monotonic = monotonic_of(clock)
    return lambda: wall_nanoseconds(monotonic())


def tells_wall_time(clock: Clock) -> bool:
    """Whether a clock is that of the system, as the clocks of Twisted's reactors and of netsvc's are."""
    return isinstance(clock, ReactorBase) and (
        type(clock).seconds is ReactorBase.seconds or getattr(clock, "follows_wall_time", False)
    )


def cancel(call: IDelayedCall | None) -> None:
    """Cancel a scheduled call, unless it is None, was called, or was cancelled before."""
    if call is not None and call.active():
        call.cancel()
