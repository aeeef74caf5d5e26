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


class OneWaySample(NamedTuple):
    """The delays of one probe in nanoseconds.

    :ivar rtt: (T4 - T1) - (T3 - T2): the round trip without the time that the reflector took. The clocks cancel out.
    :ivar forward: T2 - T1, which includes the difference of the clocks and may be negative.
    :ivar backward: T4 - T3, likewise.
    :ivar forward_change: ``forward`` above its minimum of the recent past, this probe included; at least 0.
    :ivar backward_change: ``backward`` likewise.
    """

    rtt: int
    forward: int
    backward: int
    forward_change: int
    backward_change: int


class OneWayDelay:
    """Computes the delays by direction of one target.

    If the minimum delays of both directions add up to less than nothing, the clocks have moved against each other by
    more than a round trip. The minimums of before are then forgotten.

    :param window: nanoseconds of the past whose minimum is the base.
    """

    def __init__(self, window: int = BASE_WINDOW) -> None:
        self._forward = RecentMinimum(window)
        self._backward = RecentMinimum(window)
        #: How often the clocks have moved against each other by more than a round trip.
        self.clock_movements = 0

    def add(self, t1: int, t2: int, t3: int, t4: int, now: int) -> OneWaySample:
        """Return the delays of a probe.

        :param t1: to ``t4``: nanoseconds since any epoch, which is the same for all four.
        :param now: nanoseconds on a monotonic clock of the sender.
        """
        forward, backward = t2 - t1, t4 - t3
        least_forward = self._forward.add(now, forward)
        least_backward = self._backward.add(now, backward)
        if least_forward + least_backward < 0 <= forward + backward:
            self.clock_movements += 1
            self._forward.clear()
            self._backward.clear()
            least_forward = self._forward.add(now, forward)
            least_backward = self._backward.add(now, backward)
        return OneWaySample(forward + backward, forward, backward, forward - least_forward, backward - least_backward)


@dataclass(frozen=True, slots=True)
class ClockClaim:
    """What a host says of its clock in the error estimate of a STAMP packet (RFC 8762, 4.2.1; RFC 4656, 4.1.2).

    :ivar synchronised: the S bit: the clock is synchronised to UTC by an external source.
    :ivar error: nanoseconds by which it may be wrong.
    """

    synchronised: bool
    error: int


@dataclass(frozen=True, slots=True)
class AbsoluteDelay:
    """One-way delays in nanoseconds, which may be negative, and by how much both may be wrong."""

    forward: int
    backward: int
    uncertainty: int


def absolute_delay(sample: OneWaySample, sender: ClockClaim, reflector: ClockClaim) -> AbsoluteDelay | None:
    """Return absolute one-way delays; None unless both hosts claim that their clocks are synchronised."""
    if not (sender.synchronised and reflector.synchronised):
        return None
    return AbsoluteDelay(sample.forward, sample.backward, sender.error + reflector.error)
