"""The histograms of one target."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from netsvc.probe.duration_histogram import DurationHistogram
from netsvc.probe.duration_summary import DurationSummary


class DurationKind(Enum):
    """The kinds of durations. The value is the name in summaries.

    :cvar RTT: from the actual send to the answer, without the time that a STAMP reflector took.
    :cvar RTT_INTENDED: from the moment at which the probe was due.
    :cvar RESPONDER: the time that a STAMP reflector took, T3 - T2. It includes the wait of the question in its system.
    :cvar DELAY_VARIATION: the absolute difference between the RTTs of two consecutive probes (IPDV, RFC 5481).
    :cvar THERE_CHANGE: the delay there above its minimum of the recent past.
    :cvar BACK_CHANGE: the delay back above its minimum of the recent past.
    :cvar THERE_DELAY: the delay there, if both clocks are synchronised. It may be negative.
    :cvar BACK_DELAY: the delay back, likewise.
    :cvar CONNECT: from the intended start of a TCP connection to its establishment.
    :cvar HANDSHAKE: from then to the end of the TLS handshake.
    """

    RTT = "rtt"
    RTT_INTENDED = "rtt_intended"
    RESPONDER = "responder"
    DELAY_VARIATION = "delay_variation"
    THERE_CHANGE = "there_change"
    BACK_CHANGE = "back_change"
    THERE_DELAY = "there_delay"
    BACK_DELAY = "back_delay"
    CONNECT = "connect"
    HANDSHAKE = "handshake"

    # Hot: each answer looks up six of them. The hash of the enum is a call of Python's.
    __hash__ = object.__hash__


class ProbeStatistics:
    """A histogram for each kind of duration that occurs: since the start, and since the last interval."""

    def __init__(self) -> None:
        self._histograms: dict[DurationKind, DurationHistogram] = {}

    @property
    def histograms(self) -> Mapping[DurationKind, DurationHistogram]:
        """The histograms of the kinds that have occurred."""
        return self._histograms

    def record(self, kind: DurationKind, duration: int) -> None:
        """Record a duration in nanoseconds."""
        histogram = self._histograms.get(kind)
        if histogram is None:
            histogram = self._histograms[kind] = DurationHistogram()
        histogram.record(duration)

    def totals(self) -> dict[str, DurationSummary]:
        """Return the summaries since the start, by the names of the kinds."""
        found = {kind.value: histogram.total() for kind, histogram in self._histograms.items()}
        return {name: summary for name, summary in found.items() if summary is not None}

    def interval(self) -> dict[str, DurationSummary]:
        """Return the summaries since the end of the last interval, by the names of the kinds."""
        found = {kind.value: histogram.interval() for kind, histogram in self._histograms.items()}
        return {name: summary for name, summary in found.items() if summary is not None}

    def end_interval(self) -> None:
        """Begin a new interval."""
        for histogram in self._histograms.values():
            histogram.end_interval()
