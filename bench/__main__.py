"""What netsvc and its reactors cost, beside their peers: ``python -m bench [WORK...]``.

The server is pinned to one core and the load, a C program that is compiled for it, to another. The figure is the CPU
time of the server for each message; wall-clock throughput and round trips stand beside it. All servers of a work are up
and connected at the same time and take turns; the median of all turns counts.
A peer that is not installed is left out, and said.
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

from bench.measure import Run, side_by_side, tools
from bench.works import WORKS, command_of

BASELINE = "twisted_epoll"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What netsvc costs, beside its peers.")
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(WORKS)} (default: all)")
    parser.add_argument("--turns", type=int, default=5, help="of each server under each work (default: 5)")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn (default: 0.5)")
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="only these servers")
    parser.add_argument("--json", metavar="FILE", help="write every turn there as well, for bench.picture")
    options = parser.parse_args(argv)
    for name in options.works:
        if name not in WORKS:
            parser.error(f"there is no work {name!r}; there are {', '.join(WORKS)}")
    if not shutil.which("cc") or not shutil.which("taskset") or (os.cpu_count() or 1) < 2:
        sys.stderr.write("bench: needs a C compiler (cc), taskset and two cores\n")
        return 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for 10,000 connections
    out = sys.stdout.write
    loop = f", uvloop {version('uvloop')}" if find_spec("uvloop") else ""
    out(f"Python {platform.python_version()}, Twisted {version('Twisted')}{loop}, Linux {platform.release()}; ")
    out(f"median of {options.turns} turns of {options.seconds:g} s.\n")
    results = {}
    with tools() as tool, tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(key))
        for name in options.works or WORKS:
            work = WORKS[name]
            commands, left_out = {}, []
            for server in work.servers:
                if not options.only or server in options.only:
                    command = command_of(server, work, tool, key)
                    if isinstance(command, str):
                        left_out.append(f"{server} ({command})")
                    else:
                        commands[server] = command
            load = tool.c(f"load/{work.load}", *(("-lssl", "-lcrypto") if work.load == "tls" else ()))
            runs = side_by_side(commands, load, work.arguments, options.turns, options.seconds)
            out("\n" + table(work.title, runs))
            out(f"\nLeft out: {', '.join(left_out)}.\n" if left_out else "")
            sys.stdout.flush()
            results[name] = {server: asdict(run) for server, run in runs.items()}
    if options.json:
        Path(options.json).write_text(json.dumps(results))
    return 0


def table(title: str, runs: dict[str, Run]) -> str:
    """Return a table in Markdown."""
    stock = runs[BASELINE].median("cpu") if BASELINE in runs else float("nan")
    lines = [f"| {title} | CPU, us | stock / it | a second | p50, us | p99, us | p99.9, us |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, run in runs.items():
        cpu = run.median("cpu")
        lines.append(
            f"| {name} | {cpu:.2f} ±{run.spread():.0%} | {stock / cpu:.2f} | {run.median('rate'):,.0f} "
            f"| {run.median('p50'):,.0f} | {run.median('p99'):,.0f} | {run.median('p999'):,.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
