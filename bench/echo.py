"""What a TCP echo costs, beside its peers: ``python -m bench.echo``.

The server is pinned to one core and the load, a C program that is compiled for it, to another. The figure is the CPU
time of the server's process for each message; all servers take turns, and the median of all turns counts.
A peer that is not installed is left out, and said.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
NEEDS = {"netsvc_uvloop": "uvloop", "netsvc_echo": "uvloop", "uvloop_protocol": "uvloop", "uvloop_streams": "uvloop"}

#: Works: connections, bytes, messages in flight; 0 in flight is a new connection for each message.
WORKS: dict[str, tuple[int, int, int]] = {
    "64 B, 1 connection": (1, 64, 1),
    "64 B, 50 connections": (50, 64, 1),
    "1 KiB, 50 connections": (50, 1024, 1),
    "64 B, 10 in flight, 50 connections": (50, 64, 10),
    "connect, one echo of 64 B, close": (1, 64, 0),
}


@dataclass
class Run:
    """What one server did under one work, a value for each turn."""

    cpu: list[float] = field(default_factory=list)  # microseconds a message
    rate: list[float] = field(default_factory=list)  # messages a second
    p50: list[float] = field(default_factory=list)  # microseconds
    p99: list[float] = field(default_factory=list)


def compiled(directory: Path, name: str) -> Path:
    """Compile one of the C programs."""
    program = directory / name
    subprocess.run(["cc", "-O2", "-o", program, HERE / f"{name}.c"], check=True)
    return program


def cpu_of(process: int) -> float:
    """Return the CPU seconds that a process with all its threads has used so far: proc(5), in steps of 10 ms."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(command: Sequence[str | Path], core: int) -> Iterator[tuple[int, int]]:
    """Run a server on a core. Gives its process and its port."""
    with subprocess.Popen(
        ["taskset", "-c", str(core), *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            yield server.pid, int(server.stdout.readline())
        finally:
            server.kill()


def measure(server: int, port: int, load: Path, work: tuple[int, int, int], seconds: float, into: Run) -> None:
    """Put one server under one work."""
    connections, size, flight = work
    command = ["taskset", "-c", "1", load, "127.0.0.1", port, connections, size, flight, seconds]
    before = cpu_of(server)
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True, timeout=60)
    used = cpu_of(server) - before
    messages, took, p50, p99, *_ = (float(word) for word in done.stdout.split())
    into.cpu.append(used / messages * 1e6)
    into.rate.append(messages / took)
    into.p50.append(p50)
    into.p99.append(p99)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print tables in Markdown."""
    parser = argparse.ArgumentParser(description="What a TCP echo costs, beside its peers.")
    parser.add_argument("--turns", type=int, default=5, help="of each server under each work (default: 5)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each turn (default: 1)")
    parser.add_argument("--only", nargs="*", metavar="SERVER", help="only these servers")
    options = parser.parse_args(argv)
    out = sys.stdout.write
    if not shutil.which("cc") or not shutil.which("taskset") or (os.cpu_count() or 1) < 2:
        sys.stderr.write("bench.echo: needs a C compiler (cc), taskset and two cores\n")
        return 1
    from bench.servers import SERVERS

    with tempfile.TemporaryDirectory() as directory:
        load = compiled(Path(directory), "load")
        commands: dict[str, list[str | Path]] = {"c_epoll": [compiled(Path(directory), "echo_epoll")]}
        left_out = []
        for name in SERVERS:
            need = NEEDS.get(name, name if name == "gevent" else "sys")
            if find_spec(need) is None:
                left_out.append(f"{name} ({need} is not installed)")
            else:
                commands[name] = [sys.executable, "-m", "bench.servers", name]
        if options.only:
            commands = {name: command for name, command in commands.items() if name in options.only}
        runs = {(work, name): Run() for work in WORKS for name in commands}
        for _ in range(options.turns):
            for name, command in commands.items():
                with serving(command, 0) as (server, port):
                    measure(server, port, load, WORKS["64 B, 50 connections"], 0.2, Run())  # to warm up
                    for work, what in WORKS.items():
                        measure(server, port, load, what, options.seconds, runs[work, name])
    out(f"Python {platform.python_version()}, Twisted {version('Twisted')}")
    out(f", uvloop {version('uvloop')}" if find_spec("uvloop") else "")
    out(f"; median of {options.turns} turns of {options.seconds:g} s. ")
    out(f"Left out: {', '.join(left_out)}.\n" if left_out else "\n")
    for work in WORKS:
        stock = median(runs[work, "twisted_epoll"].cpu) if "twisted_epoll" in commands else float("nan")
        out(f"\n| {work} | CPU us a message | of stock Twisted | messages/s | p50 us | p99 us |\n")
        out("|---|---:|---:|---:|---:|---:|\n")
        for name in commands:
            run = runs[work, name]
            cpu = median(run.cpu)
            out(f"| {name} | {cpu:.2f} | {stock / cpu:.2f} times less | {median(run.rate):,.0f} ")
            out(f"| {median(run.p50):,.0f} | {median(run.p99):,.0f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
