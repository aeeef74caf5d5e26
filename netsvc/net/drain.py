"""Ends all connections of a service in phases, so that the server loses no data that peers have sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Set
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from netsvc.limits.cause import Cause
from netsvc.net.connection_state import ConnectionState
from netsvc.net.deadline import Deadline
from netsvc.net.reactors import cancel
from netsvc.net.stream_protocol import ConnectionOwner, StreamProtocol
from netsvc.net.terms import Terms

#: Seconds without input from any peer after which nothing more is expected.
SILENCE = 0.2

#: Seconds that the first phase may last if the whole has no timeout.
READ_TIME = 2.5

#: Seconds between two checks of whether a phase is over.
CHECK_INTERVAL = 0.02


class DrainedFactory(ConnectionOwner, Protocol):
    """The factory whose connections are ended."""

    terms: Terms

    @property
    def connections(self) -> Set[StreamProtocol]:
        """The open connections."""


class Drain:
    """Ends the connections of a factory, in three phases.

    1. Read and process until no peer has sent anything for 200 ms, or half of the timeout is over.
    2. Read no more. Process what was read, a bounded number of messages per connection and reactor iteration. A peer
       that does not read its answers delays this until three quarters of the timeout are over.
    3. Send what is queued, and close.

    :param factory: has the connections. It accepts no new one, and calls :meth:`end` when there is none left.
    :param timeout: seconds after which the remaining connections are aborted; 0 waits for as long as it takes.
    :param done: fires when there is no connection left.
    """

    log = Logger()

    def __init__(self, factory: DrainedFactory, timeout: float, done: Deferred[None]) -> None:
        self.done = done
        self._factory = factory
        self._terms = factory.terms
        self._timeout = timeout
        self._check: IDelayedCall | None = None
        self._deadline: Deadline | None = None

    def begin(self) -> None:
        """Begin the first phase."""
        now = self._terms.monotonic()
        self._read_until = now + (self._timeout / 2 or READ_TIME)
        self._process_until = now + self._timeout * 3 / 4 if self._timeout else math.inf
        self._silent_since = now
        self._received = self._terms.counters.received_bytes
        if self._timeout:
            self._deadline = Deadline(self._terms.clock, self._terms.monotonic, self._timeout, self._abort)
        self._check_later(self._read)
        self._for_each(lambda connection: connection.begin_drain())

    def end(self) -> None:
        """There is no connection left."""
        cancel(self._check)
        if self._deadline is not None:
            self._deadline.cancel()
        self.done.callback(None)

    def _check_later(self, phase: Callable[[], None]) -> None:
        self._check = self._terms.clock.callLater(CHECK_INTERVAL, phase)

    def _for_each(self, step: Callable[[StreamProtocol], None]) -> None:
        """Call ``step`` for every connection. One whose own code fails does not stop the others."""
        for connection in tuple(self._factory.connections):
            try:
                step(connection)
            except Exception:
                self.log.failure("{peer} failed while the server stops", peer=connection.peer)
                connection.abort()

    def _has_unprocessed_input(self) -> bool:
        return any(connection.has_unprocessed_input for connection in self._factory.connections)

    def _read(self) -> None:
        now = self._terms.monotonic()
        received = self._terms.counters.received_bytes
        if received != self._received or self._has_unprocessed_input():  # what is not read cannot be silent
            self._received = received
            self._silent_since = now
        if now < self._silent_since + SILENCE and now < self._read_until:
            self._check_later(self._read)
            return
        self._for_each(lambda connection: connection.stop_reading())
        self._process()

    def _process(self) -> None:
        if self._has_unprocessed_input() and self._terms.monotonic() < self._process_until:
            self._check_later(self._process)
        else:
            self._close()

    def _close(self) -> None:
        """Close the connections. One that still has messages to process is tried again."""
        self._check_later(self._close)
        self._for_each(_end_drain)

    def _abort(self) -> None:
        cancel(self._check)
        left = tuple(self._factory.connections)
        self._for_each(lambda connection: connection.disconnect(Cause.DRAIN_TIMEOUT))
        if not self.done.called:
            # By the next iteration each has told the factory. Remove one whose own code failed before that.
            self._check = self._terms.clock.callLater(0, self._remove, left)

    def _remove(self, connections: Iterable[StreamProtocol]) -> None:
        for connection in connections:
            self._factory.connection_closed(connection)


def _end_drain(connection: StreamProtocol) -> None:
    if connection.state is ConnectionState.OPEN and not connection.has_unprocessed_input:
        connection.end_drain()
