"""Compare the round trip that ``netsvc timestamp`` prints with that of a C program: ``python -m bench.first_question``.

Both programs ask the same server by turns, in a new process each time: one question, or ten of which the last one
counts. C measures its round trip in the same way, until the receive stamp of the kernel, and also until it has read the
answer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from statistics import median, quantiles

from bench.measure import compiler, run_server

#: Seconds before each C program: as long as Python needs to start. A server that has just answered would be faster.
PAUSE = 0.4


def netsvc_round_trip(port: int, count: int) -> float:
    """Ask by ``netsvc timestamp``. Return the round trip of the last question in microseconds."""
    command = [sys.executable, "-m", "netsvc", "timestamp", "--json", str(port), *["hello"] * (count == 1)]
    done = subprocess.run(command, input="hello\n" * count, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if len(answers) != count or answers[-1]["round_trip_source"] != "kernel":
        raise SystemExit(f"bench.first_question: no receive stamp of the kernel: {done.stdout}")
    return float(answers[-1]["round_trip"]) * 1e6


def c_round_trips(program: str, port: int, count: int) -> list[float]:
    """Ask by the C program. Return the round trip of the last question, until the receive stamp and until the read."""
    time.sleep(PAUSE)
    done = subprocess.run([program, str(port), str(count)], capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_question", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50, help="processes of each kind (default: 50)")
    parser.add_argument("--server", choices=["c", "netsvc"], default="c", help="who answers (default: c)")
    options = parser.parse_args(argv)
    figures: dict[tuple[str, int], list[float]] = {}
    with compiler() as compile_:
        question = compile_.c("load/question")
        twist = [sys.executable, "-m", "bench.servers.timestamp", "netsvc_timestamp_epoll"]
        command = [compile_.c("servers/timestamp")] if options.server == "c" else twist
        with run_server(options.server, command) as server:
            port = server.port
            for number in range(-1, options.runs):
                for count in (1, 10):
                    stamp, read = c_round_trips(question, port, count)
                    measured = {
                        "C, until the receive stamp": stamp,
                        "C, until it has read the answer": read,
                        "netsvc timestamp": netsvc_round_trip(port, count),
                    }
                    for name, value in measured.items():
                        if number >= 0:  # the first round warms the server up
                            figures.setdefault((name, count), []).append(value)
    out = sys.stdout.write
    out(f"{options.runs} processes of each kind, by turns; the server is {options.server}; {os.cpu_count()} cores.\n\n")
    out("| round trip, us | question | p50 | p10 | p90 | p50 less that of C |\n|---|---:|---:|---:|---:|---:|\n")
    for (name, count), values in sorted(figures.items(), key=lambda item: item[0][1]):
        p10, *_, p90 = quantiles(values, n=10)
        less = median(values) - median(figures["C, until the receive stamp", count])
        out(f"| {name} | {count} | {median(values):.0f} | {p10:.0f} | {p90:.0f} | {less:+.0f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
