"""How much delays vary: jitter as in RFC 3550, and the values of RFC 3393 and RFC 5481.

RFC 5481 has two forms. IPDV is the difference between two consecutive packets; ``DelayVariation`` returns its values.
PDV is the delay above the minimum; its percentile is that of the delay minus the minimum, so it needs no values.
"""

from __future__ import annotations

from collections import OrderedDict

#: The number of delays that wait for their neighbour, which an answer out of order may bring.
_NEIGHBOURS_MAX = 1024


class InterarrivalJitter:
    """The smoothed jitter of RFC 3550, 6.4.1: J += (abs(D) - J) / 16.

    D is the difference between the delays of two packets that arrived one after the other. It needs no synchronised
    clocks.
    """

    def __init__(self) -> None:
        self._delay: int | None = None
        #: Nanoseconds; None before the second packet.
        self.value: float | None = None

    def add(self, delay: int) -> None:
        """Add the delay of a packet in nanoseconds, in the order of arrival."""
        if self._delay is not None:
            jitter = self.value or 0.0
            self.value = jitter + (abs(delay - self._delay) - jitter) / 16
        self._delay = delay


class DelayVariation:
    """The differences between the delays of consecutive packets: ddT(i) = delay(i) - delay(i - 1) (RFC 3393, 2.4).

    If one of the two packets is lost, the pair has no value. Packets may be added in any order, each once.
    """

    def __init__(self) -> None:
        self._delays: OrderedDict[int, int] = OrderedDict()

    def add(self, sequence: int, delay: int) -> list[int]:
        """Add a packet, and return the values that it completes: up to two, in nanoseconds, which may be negative."""
        delays = self._delays
        values = []
        if (before := delays.get(sequence - 1)) is not None:
            values.append(delay - before)
        if (after := delays.get(sequence + 1)) is not None:
            values.append(after - delay)
        delays[sequence] = delay
        if len(delays) > _NEIGHBOURS_MAX:
            delays.popitem(last=False)
        return values
