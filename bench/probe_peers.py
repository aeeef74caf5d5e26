"""``netsvc probe`` beside irtt, fping and sockperf on loopback: ``python -m bench.probe_peers``.

By turns, each program measures the same number of round trips at the same rate. netsvc has a reflector in C; irtt and
sockperf have servers of their own, and the kernel answers fping. Then, at 1,000 a second for ten seconds, the responder
is stopped for one second, and netsvc and irtt tell what they saw.

It uses the Debian packages irtt, fping and sockperf. A program that is missing is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.measure import Compiler, Server, compiler, run_server

#: Of the run with a pause: probes a second, seconds, and the second in which the responder is stopped, which is one.
PAUSE_RATE, PAUSE_SECONDS, PAUSE_BEGINS = 1_000, 10, 4.0


@dataclass(frozen=True)
class Found:
    """Round trips in microseconds, and the probes without an answer."""

    p50: float
    p99: float
    lost: int
    intended_p99: float | None = None


class Program:
    """A program that measures round trips.

    :param name: its name in the table.
    :param responder: the command of the server that it needs; empty if the kernel answers.
    :param command: makes its command from the port, the interval in seconds and the number of round trips.
    :param parse: reads what it printed.
    """

    def __init__(
        self,
        name: str,
        responder: Sequence[str],
        command: Callable[[int, float, int], list[str]],
        parse: Callable[[str, int], Found],
    ) -> None:
        self.name = name
        self.responder = responder
        self._command = command
        self._parse = parse
        self.server: Server | None = None

    def measure(self, interval: float, count: int) -> Found:
        """Run the program to its end."""
        with self.start(interval, count) as running:
            return self.result(running, count)

    def start(self, interval: float, count: int) -> subprocess.Popen[str]:
        """Start the program."""
        port = 0 if self.server is None else self.server.port
        command = self._command(port, interval, count)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def result(self, running: subprocess.Popen[str], count: int) -> Found:
        """Wait for its end, and read what it printed."""
        printed, _ = running.communicate(timeout=120)
        return self._parse(printed, count)


def netsvc_program(name: str, responder: Sequence[str], protocol: str) -> Program:
    """Return ``netsvc probe`` with a protocol."""

    def command(port: int, interval: float, count: int) -> list[str]:
        target = f"{protocol}/127.0.0.1:{port}"
        words = [sys.executable, "-m", "netsvc", "probe", target, "--json", "--every", "1000"]
        return [*words, "-i", str(interval), "-c", str(count)]

    return Program(name, responder, command, parse_netsvc)


def parse_netsvc(printed: str, _count: int) -> Found:
    """Read the summary at the end."""
    summary = json.loads(printed.splitlines()[-1])
    rtt, intended = summary["durations"]["rtt"], summary["durations"]["rtt_intended"]
    return Found(rtt["p50_seconds"] * 1e6, rtt["p99_seconds"] * 1e6, summary["lost"], intended["p99_seconds"] * 1e6)


def parse_irtt(printed: str, _count: int) -> Found:
    """Read the round trips. They are without the time within the server, as those of STAMP are."""
    trips = json.loads(printed)["round_trips"]
    answered = [trip["delay"]["rtt"] / 1e3 for trip in trips if trip["lost"] == "false"]
    return _found(answered, len(trips) - len(answered))


def parse_fping(printed: str, count: int) -> Found:
    """Read the round trips in milliseconds; a dash is a loss."""
    words = printed.rpartition(" : ")[2].split()
    found = [float(word) * 1e3 for word in words if word != "-"]
    return _found(found, count - len(found))


def parse_sockperf(printed: str, _count: int) -> Found:
    """Read the percentiles of half a round trip."""
    halves = {name: float(value) for name, value in re.findall(r"percentile ([0-9.]+) = +([0-9.]+)", printed)}
    dropped = re.search(r"dropped messages = (\d+)", printed)
    assert dropped is not None
    return Found(2 * halves["50.000"], 2 * halves["99.000"], int(dropped[1]))


def _found(trips: list[float], lost: int) -> Found:
    trips.sort()
    return Found(median(trips), trips[round(0.99 * (len(trips) - 1))], lost)


def programs(compile_: Compiler) -> Iterator[Program]:
    """Yield the programs that are installed."""
    yield netsvc_program("netsvc, STAMP", [compile_.c("servers/stamp")], "stamp")
    yield netsvc_program("netsvc, timestamps", [compile_.c("servers/timestamp")], "udp")
    if shutil.which("irtt"):
        irtt = ["irtt", "server", "-b", "127.0.0.1:{port}", "-i", "100us"]

        def irtt_command(port: int, interval: float, count: int) -> list[str]:
            length = ["-i", f"{interval * 1e6:.0f}us", "-d", f"{interval * count:g}s"]
            return ["irtt", "client", "-Q", "-o", "-", *length, f"127.0.0.1:{port}"]

        yield Program("irtt", irtt, irtt_command, parse_irtt)
    if shutil.which("fping"):

        def fping_command(_port: int, interval: float, count: int) -> list[str]:
            milliseconds = f"{interval * 1e3:g}"
            return ["fping", "-q", "-C", str(count), "-p", milliseconds, "-i", milliseconds, "127.0.0.1"]

        yield Program("fping (ICMP)", [], fping_command, parse_fping)
    if shutil.which("sockperf"):
        sockperf = ["sockperf", "server", "-i", "127.0.0.1", "-p", "{port}"]

        def sockperf_command(port: int, interval: float, count: int) -> list[str]:
            seconds = max(1, round(interval * count))
            rate = ["--mps", f"{1 / interval:.0f}", "-t", str(seconds), "-m", "44"]
            return ["sockperf", "ping-pong", "-i", "127.0.0.1", "-p", str(port), *rate]

        yield Program("sockperf, twice its half", sockperf, sockperf_command, parse_sockperf)


def kernel_drops(port: int) -> int:
    """Return how many datagrams the kernel dropped at the sockets of a UDP port."""
    drops = 0
    for line in Path("/proc/net/udp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) == port:
            drops += int(words[-1])
    return drops


def compare(measuring: Sequence[Program], rate: int, count: int, rounds: int) -> None:
    """Measure by turns, and print a table in Markdown."""
    found: dict[str, list[Found]] = {program.name: [] for program in measuring}
    for _ in range(rounds):
        for program in measuring:
            found[program.name].append(program.measure(1 / rate, count))
    medians = {name: median(one.p50 for one in each) for name, each in found.items()}
    best = min(medians.values())
    out = sys.stdout.write
    out(f"{rounds} rounds of {count} at {rate} a second, by turns; {os.cpu_count()} cores.\n\n")
    out("| program | p50, us | above the best | p99, us | lost |\n|---|---:|---:|---:|---:|\n")
    for name, each in found.items():
        p99, lost = median(one.p99 for one in each), sum(one.lost for one in each)
        out(f"| {name} | {medians[name]:.1f} | {medians[name] - best:+.1f} | {p99:.1f} | {lost} |\n")


def stop_the_responder(measuring: Sequence[Program]) -> None:
    """Stop each responder for a second of ten, and print what the program saw."""
    out = sys.stdout.write
    out(f"\n{PAUSE_RATE} a second for {PAUSE_SECONDS} s, the responder stopped for 1 s:\n\n")
    out("| program | p99 from the schedule, s | p99, s | lost | dropped by the kernel |\n|---|---:|---:|---:|---:|\n")
    for program in measuring:
        if program.server is None or "sockperf" in program.name:  # ping-pong waits for each answer
            continue
        [leader] = program.server.leaders
        before = kernel_drops(program.server.port)
        count = PAUSE_RATE * PAUSE_SECONDS
        with program.start(1 / PAUSE_RATE, count) as running:
            time.sleep(PAUSE_BEGINS)
            os.killpg(leader, signal.SIGSTOP)
            try:
                time.sleep(1)
            finally:
                os.killpg(leader, signal.SIGCONT)
            seen = program.result(running, count)
        intended = "none" if seen.intended_p99 is None else f"{seen.intended_p99 / 1e6:.3f}"
        drops = kernel_drops(program.server.port) - before
        out(f"| {program.name} | {intended} | {seen.p99 / 1e6:.3f} | {seen.lost} | {drops} |\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print two tables in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.probe_peers", description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=int, default=100, help="round trips a second (default: 100)")
    parser.add_argument("--count", type=int, default=1_000, help="round trips of each run (default: 1000)")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each program (default: 5)")
    options = parser.parse_args(argv)
    with compiler() as compile_, ExitStack() as servers:
        measuring = list(programs(compile_))
        for program in measuring:
            if program.responder:
                program.server = servers.enter_context(run_server(program.name, program.responder))
        compare(measuring, options.rate, options.count, options.rounds)
        stop_the_responder(measuring)
    return 0


if __name__ == "__main__":
    sys.exit(main())
