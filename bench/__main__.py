"""Measure netsvc and its reactors beside comparable servers: ``python -m bench [WORKLOAD...]``.

The server is pinned to one core. The load generator, a C program that is compiled first, is pinned to another core.
The main figure is the CPU time of the server for each message. Throughput and round-trip times are printed beside it.
All servers of a workload are running and connected at the same time. They are measured one after another, each round in
another order. The result is the median of all rounds. A server that is not installed is left out, and the output names
it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import trustme

from bench.measure import Result, compiler, measure_servers
from bench.workloads import WORKLOADS, command_of

BASELINE = "twisted_epoll"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print Markdown tables."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure netsvc and its reactors beside comparable servers."
    )
    parser.add_argument(
        "workloads", nargs="*", metavar="WORKLOAD", help=f"one or more of {', '.join(WORKLOADS)} (default: all)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds for each server (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a round in seconds (default: 0.5)")
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="measure only these servers")
    parser.add_argument("--json", metavar="FILE", help="write the figures of all rounds to this file, for bench.plot")
    options = parser.parse_args(argv)
    for name in options.workloads:
        if name not in WORKLOADS:
            parser.error(f"there is no workload {name!r}; the workloads are {', '.join(WORKLOADS)}")
    if not shutil.which("cc") or not shutil.which("taskset") or (os.cpu_count() or 1) < 2:
        sys.stderr.write("bench: needs a C compiler (cc), taskset and two cores\n")
        return 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for 10,000 connections
    out = sys.stdout.write
    loop = f", uvloop {version('uvloop')}" if find_spec("uvloop") else ""
    out(f"Python {platform.python_version()}, Twisted {version('Twisted')}{loop}, Linux {platform.release()}; ")
    out(f"median of {options.rounds} rounds of {options.seconds:g} s.\n")
    figures = {}
    with compiler() as compile_, tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(key))
        for name in options.workloads or WORKLOADS:
            workload = WORKLOADS[name]
            commands, left_out = {}, []
            for server in workload.servers:
                if not options.only or server in options.only:
                    command = command_of(server, workload, compile_, key)
                    if isinstance(command, str):
                        left_out.append(f"{server} ({command})")
                    else:
                        commands[server] = command
            load = compile_.c(f"load/{workload.load}", *(("-lssl", "-lcrypto") if workload.load == "tls" else ()))
            results = measure_servers(commands, load, workload.arguments_for, options.rounds, options.seconds)
            out("\n" + table(workload.title, results))
            out(f"\nLeft out: {', '.join(left_out)}.\n" if left_out else "")
            sys.stdout.flush()
            figures[name] = {server: asdict(result) for server, result in results.items()}
    if options.json:
        Path(options.json).write_text(json.dumps(figures))
    return 0


def table(title: str, results: dict[str, Result]) -> str:
    """Return the results of one workload as a Markdown table."""
    stock = results[BASELINE].median("cpu") if BASELINE in results else float("nan")
    lines = [f"| {title} | CPU, us | stock / this | messages/s | p50, us | p99, us | p99.9, us |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, result in results.items():
        cpu = result.median("cpu")
        lines.append(
            f"| {name} | {cpu:.2f} ±{result.spread():.0%} | {stock / cpu:.2f} | {result.median('rate'):,.0f} "
            f"| {result.median('p50'):,.0f} | {result.median('p99'):,.0f} | {result.median('p999'):,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
