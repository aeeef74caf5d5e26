"""What happened in a service, by number; refusals and cuts also in the log, at most once a second for each cause."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: Seconds between two lines of the log about the same cause.
QUIET = 1.0


class Counts:
    """Counts what happens in one service. Who counts on a hot path adds to the numbers himself.

    A cause is one of a few fixed texts, never what a peer sent: it would fill memory, metrics and log.

    :param clock: a reactor, or a ``Clock`` in a test.
    :param service: what the log calls it.
    :ivar opened: connections that were let in.
    :ivar closed: those of them that are over.
    :ivar received_bytes: that peers sent, as far as they were read.
    :ivar sent_bytes: that were handed to a transport for peers, or wait for one.
    :ivar dropped_bytes: those of them that waited for a peer which was cut, as far as is known.
    :ivar replies: answers, echoed pieces and chat lines that were handed to peers, one for each peer.
    :ivar stalls: how often more than 64 KiB waited for a peer.
    :ivar refused: connections, datagrams, lines and names that were refused, by cause.
    :ivar cut: connections that were ended for a fault of the peer's, by cause.
    :ivar unsent: datagrams that the system did not send, by cause.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, service: str = "") -> None:
        self.service = service
        self.opened = self.closed = 0
        self.received_bytes = self.sent_bytes = self.dropped_bytes = 0
        self.replies = self.stalls = 0
        self.refused: Counter[str] = Counter()
        self.cut: Counter[str] = Counter()
        self.unsent: Counter[str] = Counter()
        self._clock = clock
        self._quiet_until: dict[str, float] = {}  # by cause
        self._said: dict[str, int] = {}  # how many there were when the log was told last, by cause

    def __str__(self) -> str:
        """Return all of it on one line."""
        causes = (("refused", self.refused), ("cut", self.cut), ("unsent", self.unsent))
        told = [f"{what}: {_listed(numbers)}" for what, numbers in causes if numbers]
        return "; ".join(
            [
                f"connections: {self.opened - self.closed:,} of {self.opened:,}",
                f"bytes: {self.received_bytes:,} in, {self.sent_bytes:,} out, {self.dropped_bytes:,} dropped",
                f"replies: {self.replies:,}",
                f"stalls: {self.stalls:,}",
                *told,
            ]
        )

    def refuse(self, cause: str, peer: str) -> None:
        """Count that ``peer`` was refused, and log it unless the same cause was logged in this second."""
        self.refused[cause] += 1
        now = self._clock.seconds()  # of floods, too: this method is on a hot path
        if not now < self._quiet_until.get(cause, 0.0) <= now + QUIET:
            self._log("refused", cause, peer, self.refused[cause], now)

    def cut_off(self, cause: str, peer: str) -> None:
        """Count that ``peer`` was cut, and log it likewise."""
        self.cut[cause] += 1
        now = self._clock.seconds()
        if not now < self._quiet_until.get(cause, 0.0) <= now + QUIET:
            self._log("cut", cause, peer, self.cut[cause], now)

    def _log(self, what: str, cause: str, peer: str, number: int, now: float) -> None:
        more = number - self._said.get(cause, 0) - 1
        self._said[cause] = number
        self._quiet_until[cause] = now + QUIET
        self.log.info(
            "{service}{what} {peer}: {cause}{more}",
            service=f"{self.service}: " if self.service else "",
            what=what,
            peer=peer,
            cause=cause,
            more=f", and {more:,} more before" if more else "",
        )


def _listed(numbers: Counter[str]) -> str:
    return ", ".join(f"{number:,} {cause}" for cause, number in numbers.most_common())
