"""The CPU of a probe, with all system calls: ``python -m bench.probe_cost``.

One process probes a STAMP reflector in C on loopback, and takes all times from the kernel. Its CPU time is divided by
the probes, so that other programs on the host disturb it less than they disturb the delays.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import sys
import time
from collections.abc import Sequence

from twisted.internet.epollreactor import EPollReactor

from bench.measure import compiler, run_server
from netsvc.probe.probe_run import ProbeRun, ProbeSettings
from netsvc.probe.probe_summary import ProbeSummary
from netsvc.probe.probe_target import ProbeTarget

WARM_UP = 0.5


def measure(
    port: int, rate: int, seconds: float, profile: cProfile.Profile | None
) -> tuple[float, float, ProbeSummary]:
    """Probe a reflector. Return the CPU of a probe in microseconds, the rate that was kept, and the summary."""
    reactor = EPollReactor()
    settings = ProbeSettings(interval=10**9 // rate, duration=round((seconds + 2 * WARM_UP) * 1e9), timeout=10**9)
    run = ProbeRun(reactor, ProbeTarget("stamp", "127.0.0.1", port), "127.0.0.1", settings)
    marks: list[tuple[float, float, int]] = []

    def mark() -> None:
        marks.append((time.process_time(), time.monotonic(), run.total().counts.sent))
        if profile is not None:
            (profile.enable if len(marks) == 1 else profile.disable)()

    reactor.callWhenRunning(run.start)
    reactor.callLater(WARM_UP, mark)
    reactor.callLater(WARM_UP + seconds, mark)
    run.finished.addBoth(lambda _: run.stop().addBoth(lambda _: reactor.stop()))
    reactor.run(installSignalHandlers=False)
    (cpu, began, before), (cpu_then, ended, after) = marks
    return (cpu_then - cpu) / (after - before) * 1e6, (after - before) / (ended - began), run.total()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.probe_cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", type=int, nargs="+", default=[1_000, 10_000, 20_000], help="probes a second")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: 5)")
    parser.add_argument("--profile", action="store_true", help="print a profile of each")
    options = parser.parse_args(argv)
    out = sys.stdout.write
    out(f"{os.cpu_count()} cores\n\n| probes/s | kept | CPU of a probe, us | sent late | lost | RTT p50, us | p99 |\n")
    out("|---:|---:|---:|---:|---:|---:|---:|\n")
    with compiler() as compile_, run_server("C", [compile_.c("servers/stamp")]) as server:
        for rate in options.rates:
            profile = cProfile.Profile() if options.profile else None
            cpu, kept, summary = measure(server.port, rate, options.seconds, profile)
            counts, rtt = summary.counts, summary.durations["rtt"].percentiles
            out(f"| {rate:,} | {kept:,.0f} | {cpu:.1f} | {summary.late_sends / counts.sent:.1%} | {counts.lost:,} | ")
            out(f"{rtt['p50'] / 1e3:.0f} | {rtt['p99'] / 1e3:.0f} |\n")
            if summary.errors:
                out(f"{dict(summary.errors)}\n")
            if profile is not None:
                pstats.Stats(profile).sort_stats("tottime").print_stats(30)
    return 0


if __name__ == "__main__":
    sys.exit(main())
