"""Compare the processor time of netsvc's reactors with that of EPollReactor: ``python -m bench.reactors``.

Each round does the same work on each reactor, in a new process, in random order. The ratio to EPollReactor is computed
in each round; the table shows its mean and the 95 % interval. Exit status 1 means that a ratio is above its goal: 1.05
on uvloop, 1.15 on asyncio, even at the lower end of its interval.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from math import sqrt
from statistics import mean, median, stdev

from bench.servers.reactor_work import WORK

BASELINE = "twisted_epoll"
GOALS = {"netsvc_uvloop": 1.05, "netsvc_asyncio": 1.15}

#: Two-sided 95 % quantiles of Student's t distribution, by degrees of freedom.
STUDENT = [12.7, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13]

#: The work of which the units are measured, not the processor time, and by how much they may exceed EPollReactor's.
MEMORY, MEMORY_GOAL = "memory", 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.reactors", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("work", nargs="*", help="one of: " + ", ".join(WORK))
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="number of rounds (8)")
    options = parser.parse_args(arguments)
    out("| work | EPollReactor, us | uvloop / EPollReactor | asyncio / EPollReactor |\n|---|---:|---:|---:|")
    failed = False
    for name in options.work or WORK:
        rounds = [measure(name) for _ in range(options.rounds)]
        base = median(each[BASELINE] for each in rounds)
        cells = [f"{base:,.1f} MiB" if name == MEMORY else f"{base * 1e6:,.2f}"]
        for reactor, goal in GOALS.items():
            if name == MEMORY:
                low, middle, high = interval([each[reactor] - each[BASELINE] for each in rounds])
                cells.append(f"{middle:+.1f} MiB ({low:+.1f} to {high:+.1f})")
                failed |= low > MEMORY_GOAL
            else:
                low, middle, high = interval([each[reactor] / each[BASELINE] for each in rounds])
                cells.append(f"{middle:.2f} ({low:.2f} to {high:.2f}){' !' if low > goal else ''}")
                failed |= low > goal
        out(f"| {name} | " + " | ".join(cells) + " |")
    return 1 if failed else 0


def measure(name: str) -> dict[str, float]:
    """Do the work on each reactor once. Returns seconds of processor time for each unit, or the units themselves."""
    reactors = [BASELINE, *GOALS]
    random.shuffle(reactors)
    results = {}
    for reactor in reactors:
        command = [sys.executable, "-m", "bench.servers.reactor_work", name, reactor]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            sys.exit(f"{name} on {reactor} failed: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        results[reactor] = result["units"] if name == MEMORY else result["cpu"] / result["units"]
    return results


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of the values, with the lower and upper ends of its 95 % interval before and after it."""
    middle = mean(values)
    if len(values) == 1:
        return middle, middle, middle
    half = STUDENT[min(len(values) - 2, len(STUDENT) - 1)] * stdev(values) / sqrt(len(values))
    return middle - half, middle, middle + half


def out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
