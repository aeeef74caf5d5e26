"""TLS handshakes take turns: a few in each reactor iteration, a rate for all, and no host before the others."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure

from netsvc.limits.prefixes import Prefix, source_prefix
from netsvc.limits.token_bucket import TokenBucket
from netsvc.net.reactors import Clock

#: The first byte of a TLS record that is part of a handshake.
HANDSHAKE_RECORD = 22

#: Handshakes that make progress in one reactor iteration.
HANDSHAKES_PER_ITERATION = 4


class Handshake(Hashable, Protocol):
    """A handshake that waits for its turn."""

    @property
    def host(self) -> str | None:
        """The IP address of the peer; None on a UNIX socket."""

    @property
    def has_begun(self) -> bool:
        """Whether it has taken a step."""

    def take_turn(self) -> None:
        """Take the next step."""


class HandshakeTurns:
    """Decides when the next step of each handshake is taken.

    :param clock: schedules calls.
    :param monotonic: returns the time in seconds.
    :param rate: handshakes per second, with a burst of one second; 0 for no limit.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float], rate: float) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._bucket = TokenBucket(rate, rate, monotonic())
        self._waiting: OrderedDict[Prefix | None, dict[Handshake, None]] = OrderedDict()  # by host, in their order
        self._left = HANDSHAKES_PER_ITERATION
        self._scheduled = False

    def request(self, handshake: Handshake) -> bool:
        """Let a handshake take its next step now, or when it is the turn of its host.

        :return: whether it took the step now.
        """
        self._schedule(0)
        if self._waiting or not self._left or not self._may_begin(handshake):
            self._waiting.setdefault(_host_of(handshake), {})[handshake] = None
            return False
        self._left -= 1
        handshake.take_turn()
        return True

    def withdraw(self, handshake: Handshake) -> None:
        """Forget a handshake that waits. Its connection is lost."""
        host = _host_of(handshake)
        of_host = self._waiting.get(host, {})
        of_host.pop(handshake, None)
        if not of_host:
            self._waiting.pop(host, None)

    def _may_begin(self, handshake: Handshake) -> bool:
        """Whether the rate allows the step. Only the first one of a handshake counts."""
        return handshake.has_begun or self._bucket.take(self._monotonic())

    def _schedule(self, seconds: float) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(seconds, self._next_iteration)

    def _next_iteration(self) -> None:
        self._scheduled = False
        self._left = HANDSHAKES_PER_ITERATION
        try:
            while self._waiting and self._left:
                host, handshakes = next(iter(self._waiting.items()))
                handshake = next(iter(handshakes))
                if not self._may_begin(handshake):
                    break
                self._left -= 1
                del handshakes[handshake]
                if handshakes:
                    self._waiting.move_to_end(host)  # behind the other hosts
                else:
                    del self._waiting[host]
                handshake.take_turn()
        finally:
            if self._waiting:
                self._schedule(self._bucket.wait(self._monotonic()))


def _host_of(handshake: Handshake) -> Prefix | None:
    return None if handshake.host is None else source_prefix(handshake.host)


class TurnTakingTLS(BufferingTLSTransport):
    """A TLS connection whose handshake waits for its turn. Meanwhile the peer is not read from.

    :ivar turns: shared by the connections of one server; set by their factory.
    :ivar has_begun: whether the handshake has taken a step.
    """

    turns: HandshakeTurns
    transport: Any
    has_begun = False
    _received = b""  # not processed yet
    _paused = False

    @property
    def host(self) -> str | None:
        """The IP address of the peer; None on a UNIX socket."""
        return getattr(self.transport.getPeer(), "host", None)

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        # If it waits already, the transport has delivered more although it is paused.
        if not self._paused and _is_complete(self._received) and not self.turns.request(self):
            self._paused = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.turns.withdraw(self)
        self._received = b""
        vars(self).pop("dataReceived", None)  # otherwise only the garbage collector would free this object
        super().connectionLost(reason)

    def take_turn(self) -> None:
        """Process what was received."""
        self.has_begun = True
        own_class = type(self)
        received, self._received = self._received, b""
        connection = self.getHandle()
        if self._paused:  # before the application gets anything, which may pause it again
            self._paused = False
            self.transport.resumeProducing()
        super().dataReceived(received)
        # A callback may have let the reactor iterate. It may have received more, or the rest of the handshake.
        if type(self) is not own_class or "dataReceived" in vars(self) or self._paused or self._received:
            return
        if self.connected and connection.get_finished() is not None:
            # The server has done its part, which is the expensive one.
            make_lean = getattr(getattr(self.transport, "reactor", None), "make_tls_lean", None)
            if make_lean is None or not make_lean(self):
                self.dataReceived = super().dataReceived  # type: ignore[method-assign]


def _is_complete(received: bytes) -> bool:
    """Whether a TLS record of a handshake is complete, or something else has been received (RFC 8446, 5.1)."""
    return received[0] != HANDSHAKE_RECORD or len(received) >= 5 + int.from_bytes(received[3:5], "big")
