"""The metrics of measured targets for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from netsvc.probe.bucketed_durations import BUCKET_BOUNDS
from netsvc.probe.probe_counters import COUNTERS, LOSS_DIRECTIONS
from netsvc.server.reported_server import ReportedProbe, ReportedServer

#: The metrics: name and meaning.
PROBE_UP = (
    "netsvc_probe_up",
    "1 if the target answers. 0 after three probes in a row without an answer, and while it cannot be probed.",
)
CLOCK_OFFSET = (
    "netsvc_probe_clock_offset_seconds",
    "By how much the clock of the STAMP reflector is ahead of the clock of this host.",
)
CLOCK_UNCERTAINTY = (
    "netsvc_probe_clock_offset_uncertainty_seconds",
    "The true offset differs from netsvc_probe_clock_offset_seconds by at most this, if the stamps of the reflector "
    "are exact.",
)
LOSS_DIRECTION = (
    "netsvc_probe_lost_by_direction",
    "Lost probes to a STAMP reflector by direction: there, back or unknown. A loss counts when its direction is known, "
    "which is at a later answer.",
)
DELAY_CHANGE = (
    "netsvc_probe_delay_change_seconds",
    "Delay in one direction, there or back, above its minimum of the recent past (STAMP). The clocks need not agree.",
)

#: The histograms without a direction, and the name of the duration.
HISTOGRAMS = (
    ("netsvc_probe_rtt_seconds", "Round trip of datagrams, without the time that a STAMP reflector took.", "rtt"),
    ("netsvc_probe_connect_seconds", "From the start of a TCP connection to its establishment.", "connect"),
    ("netsvc_probe_handshake_seconds", "TLS handshake on an established connection.", "handshake"),
)

_CHANGES = {"there": "there_change", "back": "back_change"}
_BOUNDS = (*(floatToGoString(bound / 1e9) for bound in BUCKET_BOUNDS), "+Inf")


class ProbeCollector(Collector):
    """The measured targets of a server as Prometheus metrics. Without a target there are none.

    :param server: has them.
    """

    def __init__(self, server: ReportedServer) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        probes = self._server.probes
        if not probes:
            return
        for probe in probes:
            probe.count()
        up = GaugeMetricFamily(*PROBE_UP, labels=["target"])
        for probe in probes:
            up.add_metric([str(probe.target)], float(probe.is_up))
        yield up
        for name, meaning in COUNTERS.items():
            family = CounterMetricFamily(f"netsvc_probe_{name}", meaning, labels=["target"])
            for probe in probes:
                family.add_metric([str(probe.target)], probe.counters[name])
            yield family
        yield from self._of_stamp([probe for probe in probes if probe.target.protocol == "stamp"])
        for name, meaning, kind in HISTOGRAMS:
            histogram = HistogramMetricFamily(name, meaning, labels=["target"])
            for probe in probes:
                _add(histogram, [str(probe.target)], probe, kind)
            yield histogram

    def _of_stamp(self, probes: list[ReportedProbe]) -> Iterator[Metric]:
        lost = CounterMetricFamily(*LOSS_DIRECTION, labels=["target", "direction"])
        changes = HistogramMetricFamily(*DELAY_CHANGE, labels=["target", "direction"])
        offset = GaugeMetricFamily(*CLOCK_OFFSET, labels=["target"])
        uncertainty = GaugeMetricFamily(*CLOCK_UNCERTAINTY, labels=["target"])
        for probe in probes:
            target = str(probe.target)
            for name, direction in LOSS_DIRECTIONS.items():
                lost.add_metric([target, direction], probe.counters[name])
            for direction, kind in _CHANGES.items():
                _add(changes, [target, direction], probe, kind)
            estimate = None if probe.clock is None else probe.clock.estimate
            if estimate is not None:
                offset.add_metric([target], estimate.offset / 1e9)
                uncertainty.add_metric([target], estimate.offset_uncertainty / 1e9)
        yield from (lost, changes, offset, uncertainty)


def _add(family: HistogramMetricFamily, labels: list[str], probe: ReportedProbe, kind: str) -> None:
    """Add the histogram of one target, if the duration has occurred."""
    if kind in probe.durations:
        durations = probe.durations[kind]
        buckets = list(zip(_BOUNDS, map(float, durations.cumulative()), strict=True))
        family.add_metric(labels, buckets=buckets, sum_value=durations.sum / 1e9)
