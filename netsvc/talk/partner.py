"""What every conversation has: a partner who is heard, words that end it, and one end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from netsvc.net.timer import cancel

#: Seconds without an answer after which a partner who cannot be told "I have finished" is taken leave of: over
#: TLS, which Twisted cannot half-close, and in datagrams.
FAREWELL = 1.0


def ignore(line: str) -> None:
    """Nobody wants to know."""


class SayError(Exception):
    """What was to be said was not sent; the text says why."""


class Partner:
    """What is heard, the bye words, and one end.

    :ivar ended: fires with None when the conversation is over, and fails when the network ended it.
    """

    def __init__(
        self,
        clock: IReactorTime,
        heard: Callable[[str], object],
        noticed: Callable[[str], object],
        bye: Sequence[str],
    ) -> None:
        self.ended: Deferred[None] = Deferred()
        self._clock = clock
        self._heard = heard
        self._noticed = noticed
        self._bye = frozenset(word.casefold() for word in bye)
        self._timer: IDelayedCall | None = None
        self._finished = False  # this side has said all

    @property
    def over(self) -> bool:
        """Whether nothing more can be said."""
        return self._finished or self.ended.called

    def _is_bye(self, message: bytes) -> bool:
        return message.decode("utf-8", "replace").strip().casefold() in self._bye

    def _hear(self, message: bytes) -> bool:
        """Pass on what the partner said. Returns whether it was a bye word."""
        self._heard(message.decode("utf-8", "replace"))
        return self._is_bye(message)

    def _set_timer(self, seconds: float, call: Callable[[], object]) -> None:
        self._stop_timer()
        self._timer = self._clock.callLater(seconds, call)

    def _stop_timer(self) -> None:
        cancel(self._timer)
        self._timer = None

    def _end(self, failure: Failure | None = None) -> None:
        self._stop_timer()
        if not self.ended.called:
            self.ended.callback(failure)
