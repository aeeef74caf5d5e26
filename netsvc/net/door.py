"""The way into one service: who is let in, and what the others are told."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import INegotiated, IReactorTime
from twisted.internet.protocol import Protocol

from netsvc.limits.admission import Admission, Refusal

#: How many in a turn of the reactor are told why they are turned away. Each holds a descriptor until the next turn; the
#: others are closed at once.
TOLD_A_TURN = 16


class Door:
    """Lets peers into a service.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param admission: says who may connect.
    """

    def __init__(self, clock: IReactorTime, admission: Admission) -> None:
        self._clock = clock
        self._admission = admission
        self._told = 0

    def refusal(self, host: str | None) -> Refusal | None:
        """Say why ``host``, an address or None for a peer without one, is not let in; None if it is."""
        return self._admission.refusal(host, self._clock.seconds())

    def turn_away(self, refusal: Refusal) -> Protocol | None:
        """Return what tells a peer why; None to close without a word, as one does to whom nobody invited."""
        if refusal == "not allowed" or self._told >= TOLD_A_TURN:
            return None
        self._told += 1
        if self._told == 1:
            self._clock.callLater(0, self._begin_turn)
        return TurnedAway(refusal)

    def enter(self, host: str | None) -> None:
        """Count a connection."""
        self._admission.connections.enter(host)

    def leave(self, host: str | None) -> None:
        """Count a connection no more."""
        self._admission.connections.leave(host)

    def _begin_turn(self) -> None:
        self._told = 0


class TurnedAway(Protocol):
    """Says in one line why it closes."""

    transport: Any

    def __init__(self, refusal: Refusal) -> None:
        self._line = refusal.encode("ascii") + b"\n"

    def connectionMade(self) -> None:
        if INegotiated.providedBy(self.transport):
            self.transport.abortConnection()  # a line would wait for the handshake, and that for the peer
        else:
            self.transport.write(self._line)
            self.transport.loseConnection()
