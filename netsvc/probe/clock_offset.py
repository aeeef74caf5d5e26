"""The difference between two clocks and its drift, each with its uncertainty, from the four times of probes."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

#: Nanoseconds of the windows in each of which the probe with the least round trip counts.
OFFSET_WINDOW = 10_000_000_000

#: The number of windows that are kept: one hour.
OFFSET_WINDOWS = 360

#: The largest drift of clocks that work: 500 parts per million, as in NTP (RFC 5905).
DRIFT_MAX_PPM = 500


class _Best(NamedTuple):
    """The probe with the least uncertainty of a window. ``double`` is twice the offset, so that it is an integer."""

    now: int
    double: int
    uncertainty: int


@dataclass(frozen=True, slots=True)
class ClockEstimate:
    """The reflector's clock against the sender's.

    :ivar offset: nanoseconds by which the reflector's clock is ahead, at the end of the measurement.
    :ivar offset_uncertainty: the true offset differs from it by at most this, as no delay is negative.
    :ivar drift_ppm: microseconds by which the reflector's clock gains in a second; None before the second window.
    :ivar drift_uncertainty_ppm: the true mean drift differs from it by at most this.
    """

    offset: int
    offset_uncertainty: int
    drift_ppm: float | None
    drift_uncertainty_ppm: float | None


class ClockOffset:
    """Estimates the offset as NTP does: from the probe with the least round trip of each window.

    Offset = ((T2 - T1) + (T3 - T4)) / 2 (RFC 5905, 8). It is wrong by half the difference of the delays there and back,
    which is at most half the round trip. That is true only if the stamps are exact: those of a reflector that stamps by
    a tick of 10 ms add 10 ms, and nothing in a packet tells. The drift comes from the first and the last window of the
    past hour.

    :param window: nanoseconds of a window.
    """

    def __init__(self, window: int = OFFSET_WINDOW) -> None:
        self._window = window
        self._bests: deque[_Best] = deque(maxlen=OFFSET_WINDOWS)
        #: How often the offset changed by more than the uncertainty and any drift explain: a clock was set.
        self.steps = 0

    def add(self, t1: int, t2: int, t3: int, t4: int, now: int) -> None:
        """Add a probe.

        :param t1: to ``t4``: nanoseconds since any epoch, which is the same for all four.
        :param now: nanoseconds on a monotonic clock of the sender.
        """
        rtt = max(0, (t4 - t1) - (t3 - t2))
        double, uncertainty = (t2 - t1) + (t3 - t4), (rtt + 1) // 2
        bests = self._bests
        if bests:
            before = bests[-1]
            possible = before.uncertainty + uncertainty + abs(now - before.now) * DRIFT_MAX_PPM // 1_000_000
            if abs(double - before.double) > 2 * possible + 2:
                self.steps += 1
                bests.clear()
            elif now // self._window == before.now // self._window:
                if uncertainty < before.uncertainty:
                    bests[-1] = _Best(now, double, uncertainty)
                return
        bests.append(_Best(now, double, uncertainty))

    @property
    def estimate(self) -> ClockEstimate | None:
        """The offset and the drift; None before the first probe."""
        if not self._bests:
            return None
        first, last = self._bests[0], self._bests[-1]
        elapsed = last.now - first.now
        drift = uncertainty = None
        if elapsed >= self._window:
            drift = (last.double - first.double) / 2 / elapsed * 1e6
            uncertainty = (last.uncertainty + first.uncertainty) / elapsed * 1e6
        return ClockEstimate(last.double // 2, last.uncertainty + last.double % 2, drift, uncertainty)
