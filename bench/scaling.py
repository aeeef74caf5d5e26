"""What a second process that shares the ports brings on two cores: ``python -m bench.scaling``.

``twist --reactor=uvloop netsvc --reuse-port`` once, on core 0, and twice, on cores 0 and 1, under two loads that may
use both cores. On two cores the loads take some of what the servers could use; from elsewhere they would not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import sleep

import trustme

from bench.measure import BenchError, Load, Run, Server, free_port, process, tools

TURNS = 5
SECONDS = 1.0
STARTING = 10  # seconds

#: Works: the load program, its arguments behind the port, the flag of the service, and how many loads.
WORKS: dict[str, tuple[str, tuple[int, ...], str, int]] = {
    "echo, 64 B, 2 x 50 connections": ("load/echo", (50, 64, 1, 0), "tcp", 2),
    "UDP timestamp, 16 B, 2 x 32 sources": ("load/udp", (32, 16), "udp", 2),
    "TLS handshake, echo of 64 B, close, 8 at a time": ("load/tls", (0, 64), "tls", 8),
}


def listening(port: int) -> int:
    """Return how many sockets listen on a port of 127.0.0.1: proc(5)."""
    where = f"0100007F:{port:04X}"
    count = 0
    for table, state in (("tcp", "0A"), ("udp", "07")):
        rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        count += sum(row[1] == where and row[3] == state for row in rows)
    return count


def rate(
    program: str, arguments: Sequence[int], flag: str, loads_count: int, processes: int, key: Path
) -> tuple[float, float]:
    """Return answers a second, and the servers' microseconds of CPU for each."""
    port = free_port()
    where = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={key}" if flag == "tls" else f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "twisted", "--reactor=uvloop", "--log-file=/dev/null", "netsvc", "--reuse-port"]
    command += ["--udp-rate=0", "--udp-total=0", "--udp" if flag == "udp" else "--tcp", where]
    with ExitStack() as stack:
        leaders = [stack.enter_context(process(command, str(core))).pid for core in range(processes)]
        for _ in range(STARTING * 100):
            if listening(port) == processes:
                break
            sleep(0.01)
        else:
            raise BenchError("the servers do not listen")
        server = Server("netsvc", leaders, port)
        loads = []
        for _ in range(loads_count):
            words = [program, str(port), *map(str, arguments)]
            loads.append(Load(stack.enter_context(process(words, "0,1", stderr=None)), server))
        rates, cpu = [], []
        for _ in range(TURNS):
            runs = [Run() for _ in loads]
            with ThreadPoolExecutor(loads_count) as pool:
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
        for title, (load, arguments, flag, loads) in WORKS.items():
            program = tool.c(load, *(("-lssl", "-lcrypto") if flag == "tls" else ()))
            (one, one_cpu), (two, two_cpu) = (rate(program, arguments, flag, loads, count, key) for count in (1, 2))
            out(f"| {title} | {one:,.0f} | {two:,.0f} | {two / one:.2f} | {one_cpu:.2f} | {two_cpu:.2f} |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
