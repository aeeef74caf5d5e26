"""What happened, by name; and what was refused, in the log at most once a second for each cause."""

from __future__ import annotations

from collections import Counter

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

#: Seconds between two lines of the log about the same cause.
QUIET = 1.0


class Counts:
    """Counts, and logs now and then.

    :param clock: a reactor, or a ``Clock`` in a test.
    :ivar refused: how many were refused, by cause.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.refused: Counter[str] = Counter()
        self._clock = clock
        self._said: dict[str, float] = {}  # when the log was told last, by cause
        self._unsaid: Counter[str] = Counter()

    def refuse(self, cause: str, peer: str) -> None:
        """Count that ``peer`` was refused, and log it unless the same cause was logged in this second."""
        self.refused[cause] += 1
        now = self._clock.seconds()
        if 0 <= now - self._said.get(cause, -QUIET) < QUIET:
            self._unsaid[cause] += 1
            return
        more = self._unsaid.pop(cause, 0)
        self._said[cause] = now
        self.log.info(
            "refused {peer}: {cause}{more}", peer=peer, cause=cause, more=f", and {more:,} more before" if more else ""
        )
