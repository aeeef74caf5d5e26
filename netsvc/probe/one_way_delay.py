"""Delays by direction from the four times of a probe: T1 sent, T2 received there, T3 sent back, T4 received here.

T1 and T4 are on the sender's clock, T2 and T3 on the reflector's. So T2 - T1 is the delay there plus the difference of
the clocks, and T4 - T3 the delay back minus the difference. Each may be negative. The difference is unknown, and it is
the same for all probes of a short time. So the change over the minimum of the recent past needs no synchronised clocks:
it is the delay above the fastest probe of that time (RFC 5481, PDV).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from netsvc.probe.recent_minimum import RecentMinimum

#: Nanoseconds of the past whose minimum is the base of a change. Clocks that drift by 1 ppm against each other, as
#: those of two hosts with NTP may, add 60 us in this time. A queue that stands for longer disappears from the change.
BASE_WINDOW = 60_000_000_000

_MOST_SECONDS = 1e9


class OneWaySample(NamedTuple):
    """The delays of one probe in nanoseconds.

    :ivar rtt: (T4 - T1) - (T3 - T2): the round trip without the time that the reflector took. The clocks cancel out.
    :ivar there: T2 - T1, which includes the difference of the clocks and may be negative.
    :ivar back: T4 - T3, likewise.
    :ivar there_change: ``there`` above its minimum of the recent past, this probe included; at least 0.
    :ivar back_change: ``back`` likewise.
    """

    rtt: int
    there: int
    back: int
    there_change: int
    back_change: int


class OneWayDelay:
    """Computes the delays by direction of one target.

    If the minimum delays of both directions add up to less than nothing, the clocks have moved against each other by
    more than a round trip. The minimums of before are then forgotten.

    :param window: nanoseconds of the past whose minimum is the base.
    """

    def __init__(self, window: int = BASE_WINDOW) -> None:
        self._there = RecentMinimum(window)
        self._back = RecentMinimum(window)
        #: How often the clocks have moved against each other by more than a round trip.
        self.clock_movements = 0

    def add(self, t1: int, t2: int, t3: int, t4: int, now: int) -> OneWaySample:
        """Return the delays of a probe.

        :param t1: to ``t4``: nanoseconds since any epoch, which is the same for all four.
        :param now: nanoseconds on a monotonic clock of the sender.
        """
        there, back = t2 - t1, t4 - t3
        least_there = self._there.add(now, there)
        least_back = self._back.add(now, back)
        if least_there + least_back < 0 <= there + back:
            self.clock_movements += 1
            self._there.clear()
            self._back.clear()
            least_there = self._there.add(now, there)
            least_back = self._back.add(now, back)
        return OneWaySample(there + back, there, back, there - least_there, back - least_back)


@dataclass(frozen=True, slots=True)
class ClockClaim:
    """The claim of a host about its clock in the error estimate of a STAMP packet (RFC 8762, 4.2.1; RFC 4656, 4.1.2).

    :ivar synchronised: the S bit: the clock is synchronised to UTC by an external source.
    :ivar error: nanoseconds by which it may be wrong.
    """

    synchronised: bool
    error: int


def clock_claim(synchronised: bool, error: float) -> ClockClaim:
    """Return a claim whose error is given in seconds. ``inf`` becomes 10^9 seconds."""
    return ClockClaim(synchronised, round(min(error, _MOST_SECONDS) * 1e9))


@dataclass(frozen=True, slots=True)
class AbsoluteDelay:
    """One-way delays in nanoseconds, which may be negative, and by how much both may be wrong."""

    there: int
    back: int
    uncertainty: int


def absolute_delay(sample: OneWaySample, sender: ClockClaim, reflector: ClockClaim) -> AbsoluteDelay | None:
    """Return absolute one-way delays; None unless both hosts claim that their clocks are synchronised."""
    if not (sender.synchronised and reflector.synchronised):
        return None
    return AbsoluteDelay(sample.there, sample.back, sender.error + reflector.error)
