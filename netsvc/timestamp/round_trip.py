"""The round-trip time of a datagram, from the send to the moment at which the kernel received the answer.

The kernel tells its moment on the wall clock, which may be set at any time. So both clocks are read at the send and
when the answer is processed. If their difference has changed meanwhile, the wall clock was set, and the measurement is
void.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

#: The source of the time of an answer: the kernel, or the clock of this process when it processes the answer.
RoundTripSource = Literal["kernel", "process"]

#: Seconds within which both clocks must be read. If the process was interrupted meanwhile, they are read again.
READING_MAX = 5e-6

#: How often they are read again.
READINGS_MAX = 5

#: Seconds by which the difference of the clocks may change. A wall clock of Linux that is slewed takes the monotonic
#: clock with it; this is for rounding.
DRIFT_MAX = 5e-6


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment on two clocks.

    :ivar monotonic: seconds on a clock that nobody sets.
    :ivar wall: seconds since the epoch.
    :ivar uncertainty: seconds that the reading of both clocks took.
    """

    monotonic: float
    wall: float
    uncertainty: float


class Stopwatch:
    """Reads two clocks at once.

    :param monotonic: returns seconds on a clock that nobody sets.
    :param wall: returns the seconds since the epoch on the clock by which the kernel stamps datagrams.
    """

    def __init__(self, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def read(self) -> Moment:
        """Return the present moment."""
        monotonic, wall = self._monotonic, self._wall
        for _ in range(READINGS_MAX):
            before = monotonic()
            now = wall()
            after = monotonic()
            if after - before <= READING_MAX:
                break
        return Moment(after, now, after - before)


def kernel_round_trip(sent: Moment, received: float, processed: Moment) -> float | None:
    """Return the seconds from the send to the receive stamp; None if the wall clock was set meanwhile.

    :param sent: the moment before the send.
    :param received: the kernel's stamp, in seconds since the epoch.
    :param processed: a moment after the answer was received.
    """
    tolerance = sent.uncertainty + processed.uncertainty + DRIFT_MAX
    if abs((processed.wall - sent.wall) - (processed.monotonic - sent.monotonic)) > tolerance:
        return None
    round_trip = received - sent.wall
    # A clock that was set there and back shows the same difference at the end.
    if not 0 <= round_trip <= processed.monotonic - sent.monotonic + tolerance:
        return None
    return round_trip
