"""What a second process that shares the ports brings on two cores: ``python -m bench.scaling``.

``twist --reactor=uvloop netsvc --reuse-port`` once, on core 0, and twice, on cores 0 and 1, under two loads that may
use both cores. On two cores the loads take some of what the servers could use, as they would not if they came from elsewhere.
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import sleep

import trustme

from bench.measure import Load, Run, Server, process, tools

TURNS = 5
SECONDS = 1.0
LOADS = 2
STARTING = 1.5  # seconds; the servers' output goes nowhere

#: Works: the load program, its arguments behind the port, and the flag of the service.
WORKS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "echo, 64 B, 2 x 50 connections": ("load/echo", (50, 64, 1, 0), "tcp"),
    "UDP timestamp, 16 B, 2 x 32 sources": ("load/udp", (32, 16), "udp"),
    "TLS handshake, echo of 64 B, close": ("load/tls", (0, 64), "tls"),
}


def free_port() -> int:
    """Return a port that is free now, for TCP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def rate(program: str, arguments: Sequence[int], flag: str, processes: int, key: Path) -> tuple[float, float]:
    """Return answers a second, and the servers' microseconds of CPU for each."""
    port = free_port()
    where = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={key}" if flag == "tls" else f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "twisted", "--reactor=uvloop", "--log-file=/dev/null", "netsvc", "--reuse-port"]
    command += ["--udp-rate=0", "--udp-total=0", "--udp" if flag == "udp" else "--tcp", where]
    with ExitStack() as stack:
        leaders = [stack.enter_context(process(command, str(core))).pid for core in range(processes)]
        sleep(STARTING)
        server = Server("netsvc", leaders, port)
        loads = []
        for _ in range(LOADS):
            words = [program, str(port), *map(str, arguments)]
            loads.append(Load(stack.enter_context(process(words, "0,1")), server))
        rates, cpu = [], []
        for _ in range(TURNS):
            runs = [Run() for _ in loads]
            with ThreadPoolExecutor(LOADS) as pool:
                for turn in [pool.submit(load.turn, SECONDS, run) for load, run in zip(loads, runs, strict=True)]:
                    turn.result()
            rates.append(sum(run.rate[0] for run in runs))
            # Each load has seen the CPU that both cost.
            cpu.append(1 / sum(1 / run.cpu[0] for run in runs))
        return median(rates), median(cpu)


def main() -> int:
    """Measure, and print a table in Markdown."""
    out = sys.stdout.write
    out("| work | one process, a second | two, a second | more | us of CPU, one | us of CPU, two |\n")
    out("|---|---:|---:|---:|---:|---:|\n")
    with tools() as tool, tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(key))
        for title, (load, arguments, flag) in WORKS.items():
            program = tool.c(load, *(("-lssl", "-lcrypto") if flag == "tls" else ()))
            (one, one_cpu), (two, two_cpu) = (rate(program, arguments, flag, count, key) for count in (1, 2))
            out(f"| {title} | {one:,.0f} | {two:,.0f} | {two / one:.2f} | {one_cpu:.2f} | {two_cpu:.2f} |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
