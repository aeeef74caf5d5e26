"""TLS handshakes take turns: a few in each reactor iteration, a rate for all, and no host before the others."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure

from netsvc.limits.prefixes import source_prefix
from netsvc.limits.token_bucket import TokenBucket
from netsvc.net.reactors import Clock

#: Handshakes that make progress in one reactor iteration.
HANDSHAKES_PER_ITERATION = 4


class HandshakeTurns:
    """Decides when the next step of each handshake is taken.

    :param clock: schedules calls.
    :param monotonic: returns the time in seconds.
    :param rate: steps per second, with a burst of one second; 0 for no limit.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float], rate: float) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._bucket = TokenBucket(rate, rate, monotonic())
        self._waiting: OrderedDict[object, deque[Callable[[], None]]] = OrderedDict()
        self._left = HANDSHAKES_PER_ITERATION
        self._scheduled = False

    def request(self, host: str | None, step: Callable[[], None]) -> bool:
        """Call ``step`` now, or when it is the turn of ``host``.

        :param host: the IP address of the peer; None on a UNIX socket. Hosts are told apart as for other limits.
        :return: whether it was called now.
        """
        self._schedule(0)
        if self._waiting or not self._left or not self._bucket.take(self._monotonic()):
            key = None if host is None else source_prefix(host)
            self._waiting.setdefault(key, deque()).append(step)
            return False
        self._left -= 1
        step()
        return True

    def _schedule(self, seconds: float) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(seconds, self._next_iteration)

    def _next_iteration(self) -> None:
        self._scheduled = False
        self._left = HANDSHAKES_PER_ITERATION
        try:
            while self._waiting and self._left and self._bucket.take(self._monotonic()):
                self._left -= 1
                host, steps = self._waiting.popitem(last=False)
                step = steps.popleft()
                if steps:
                    self._waiting[host] = steps  # behind the other hosts
                step()
        finally:
            if self._waiting:
                self._schedule(self._bucket.wait(self._monotonic()))


class TurnTakingTLS(BufferingTLSTransport):
    """A TLS connection whose handshake waits for its turn. Meanwhile the peer is not read from.

    :ivar turns: shared by the connections of one server; set by their factory.
    """

    turns: HandshakeTurns
    transport: Any
    _waiting = b""  # received, not processed yet
    _paused = False
    _lost = False

    def dataReceived(self, data: bytes) -> None:
        if self._waiting:  # a transport may deliver more although it is paused
            self._waiting += data
            return
        self._waiting = data
        if not self.turns.request(getattr(self.transport.getPeer(), "host", None), self._take_turn):
            self._paused = True
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        vars(self).pop("dataReceived", None)  # otherwise only the garbage collector would free this object
        super().connectionLost(reason)

    def _take_turn(self) -> None:
        if self._lost:
            return
        data, self._waiting = self._waiting, b""
        super().dataReceived(data)
        if self._lost:
            return
        if self.getHandle().get_finished() is not None:  # the server has done its part, which is the expensive one
            self.dataReceived = super().dataReceived  # type: ignore[method-assign]
        if self._paused:
            self._paused = False
            self.transport.resumeProducing()
