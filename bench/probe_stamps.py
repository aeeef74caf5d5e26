"""The times that a busy prober measures, by the kernel and by itself: ``python -m bench.probe_stamps``.

A probe each 5 ms goes to the STAMP reflector in C. In half of the runs, the prober computes for 2 ms in each iteration
of its reactor, as a program does that has other work. The round trips are without the time that the reflector took.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench.measure import compiler, run_server
from netsvc.net.reactors import monotonic_nanoseconds_of
from netsvc.net.udp_port import UdpPort
from netsvc.net.udp_socket import open_udp_socket
from netsvc.probe.probe_dialects import StampDialect
from netsvc.probe.probe_record import ProbeRecord
from netsvc.probe.probe_schedule import ProbeSchedule
from netsvc.probe.probe_target import ProbeTarget
from netsvc.probe.udp_prober import UdpProber
from netsvc.stamp.packets import BASE_LENGTH

INTERVAL, BUSY = 0.005, 0.002


def measure(reactor: Any, port: int, count: int, *, kernel: bool, busy: bool) -> None:
    """Measure in this process, and print the percentiles in microseconds as JSON."""
    target = ProbeTarget("stamp", "127.0.0.1", port)
    schedule = ProbeSchedule(monotonic_nanoseconds_of(reactor)() + 200_000_000, round(INTERVAL * 1e9), count=count)
    record = ProbeRecord(target, str(target), schedule, 1_000_000_000)
    prober = UdpProber(reactor, target.host, port, StampDialect(7, BASE_LENGTH), schedule, record)
    udp_socket = open_udp_socket(reactor, "", 0, 2_000, metadata=kernel, transmit_times=kernel)
    udp_port = UdpPort(reactor, prober, udp_socket, outlives_errors=True)

    def work() -> None:
        end = time.perf_counter() + BUSY
        while time.perf_counter() < end:
            pass
        reactor.callLater(0, work)

    def begin() -> None:
        udp_port.startListening()
        prober.finished.addCallback(lambda _: reactor.stop())
        if busy:
            work()

    reactor.callWhenRunning(begin)
    reactor.run()
    found = record.total(time.monotonic_ns()).durations
    print(json.dumps({kind: {**found[kind].percentiles} for kind in ("rtt", "rtt_intended")}))  # noqa: T201


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each combination in a process of its own, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.probe_stamps", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000, help="probes of each run (default: 1000)")
    parser.add_argument("--run", nargs=3, metavar=("PORT", "KERNEL", "BUSY"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.run:
        from netsvc.reactor import uvloop

        uvloop.install()
        from twisted.internet import reactor  # noqa: TID251  the program's own

        port, kernel, busy = map(int, options.run)
        measure(reactor, port, options.count, kernel=bool(kernel), busy=bool(busy))
        return 0
    out = sys.stdout.write
    out("| times of | prober | p50, us | p90, us | p99, us | p99 from the schedule, us |\n")
    out("|---|---|---:|---:|---:|---:|\n")
    with compiler() as compile_, run_server("c", [compile_.c("servers/stamp")]) as server:
        for kernel in (1, 0):
            for busy in (0, 1):
                command = [sys.executable, "-m", "bench.probe_stamps", "--count", str(options.count)]
                command += ["--run", str(server.port), str(kernel), str(busy)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                figures = json.loads(done.stdout)
                rtt = " | ".join(f"{figures['rtt'][name] / 1e3:,.1f}" for name in ("p50", "p90", "p99"))
                intended = figures["rtt_intended"]["p99"] / 1e3
                who = "the kernel" if kernel else "the process"
                out(f"| {who} | {'busy' if busy else 'idle'} | {rtt} | {intended:,.0f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
