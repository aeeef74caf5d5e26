"""The time without an answer."""

from __future__ import annotations

from collections.abc import Callable

from netsvc.net.reactors import Clock
from netsvc.talk.restartable_timer import RestartableTimer


class AnswerTimer:
    """Calls a function if a peer owes an answer and sends nothing for some time.

    It owes one from the moment when something was sent to it, and without a pause after the end of this side's input.

    :param seconds: that time; None for no limit.
    :param expired: the function.
    :param excused: returns whether the peer could not answer, because it is not read from.
    :ivar awaited: whether it owes an answer.
    """

    def __init__(
        self, clock: Clock, seconds: float | None, expired: Callable[[], object], excused: Callable[[], bool]
    ) -> None:
        self.awaited = False
        self._timer = RestartableTimer(clock)
        self._seconds = seconds
        self._expired = expired
        self._excused = excused
        self._input_ended = False

    def sent(self) -> None:
        """Something was sent: an answer is awaited."""
        if self._seconds is not None:
            self.awaited = True
            self._timer.restart(self._seconds, self._expire)

    def input_ended(self) -> None:
        """The input has ended: no more data will be sent."""
        self._input_ended = True
        self.sent()

    def received(self) -> None:
        """Something was received."""
        self._timer.cancel()
        self.awaited = False
        if self._input_ended:
            self.sent()

    def stop(self) -> None:
        """Await no answer until something is sent again."""
        self._timer.cancel()
        self.awaited = False
        self._input_ended = False

    def _expire(self) -> None:
        if self._excused():
            self.sent()
        else:
            self._expired()
