"""The end of all connections of a service, in phases, so that nothing that a peer has sent is lost."""

from __future__ import annotations

import math
from collections.abc import Callable, Set
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from netsvc.limits.cause import Cause
from netsvc.net.connection_state import ConnectionState
from netsvc.net.reactors import cancel
from netsvc.net.stream_protocol import ConnectionOwner, StreamProtocol
from netsvc.net.terms import Terms

#: Seconds without input from any peer after which nothing more is expected.
SILENCE = 0.2

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
    2. Read no more. Process what was read, a bounded number of messages per connection and reactor iteration.
    3. Send what is queued, and close.

    :param factory: has the connections. It accepts no new one, and calls :meth:`end` when there is none left.
    :param timeout: seconds after which the remaining connections are aborted; 0 waits for as long as it takes.
    :param done: fires when there is no connection left.
    """

    def __init__(self, factory: DrainedFactory, timeout: float, done: Deferred[None]) -> None:
        self.done = done
        self._factory = factory
        self._terms = factory.terms
        self._timeout = timeout
        self._check: IDelayedCall | None = None
        self._deadline: IDelayedCall | None = None

    def begin(self) -> None:
        """Begin the first phase."""
        now = self._terms.monotonic()
        self._read_until = now + self._timeout / 2 if self._timeout else math.inf
        self._silent_since = now
        self._received = self._terms.counters.received_bytes
        if self._timeout:
            self._deadline = self._terms.clock.callLater(self._timeout, self._abort)
        self._check_later(self._read)
        for connection in tuple(self._factory.connections):
            connection.begin_drain()

    def end(self) -> None:
        """There is no connection left."""
        cancel(self._check)
        cancel(self._deadline)
        self.done.callback(None)

    def _check_later(self, phase: Callable[[], None]) -> None:
        self._check = self._terms.clock.callLater(CHECK_INTERVAL, phase)

    def _read(self) -> None:
        now = self._terms.monotonic()
        received = self._terms.counters.received_bytes
        if received != self._received:
            self._received = received
            self._silent_since = now
        if now < self._silent_since + SILENCE and now < self._read_until:
            self._check_later(self._read)
            return
        for connection in tuple(self._factory.connections):
            connection.stop_reading()
        self._process()

    def _process(self) -> None:
        if any(connection.has_unprocessed_input for connection in self._factory.connections):
            self._check_later(self._process)
        else:
            self._close()

    def _close(self) -> None:
        """Close the connections. One whose peer does not read may have messages left; it is tried again."""
        self._check_later(self._close)
        for connection in tuple(self._factory.connections):
            if connection.state is ConnectionState.OPEN:
                connection.end_drain()

    def _abort(self) -> None:
        cancel(self._check)
        for connection in tuple(self._factory.connections):
            connection.disconnect(Cause.DRAIN_TIMEOUT)
        # By the next iteration each has told the factory. Remove one whose own code failed before that.
        self._check = self._terms.clock.callLater(0, self._remove)

    def _remove(self) -> None:
        for connection in tuple(self._factory.connections):
            self._factory.connection_closed(connection)
