"""Measure the gain from a second process that shares the ports, on two cores: ``python -m bench.scaling``.

First one process of ``twist --reactor=uvloop netsvc --reuse-port`` runs on core 0, then two processes run on cores 0
and 1. The load generators may use both cores, so they use CPU time that the servers need. Load from another machine
would not.
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

from bench.measure import BenchError, LoadGenerator, Result, Server, compiler, free_port, process

ROUNDS = 5
SECONDS = 1.0
START_TIMEOUT = 10  # seconds

#: By title: the load program, its arguments after the port, the flag of the service, the number of load generators.
WORKLOADS: dict[str, tuple[str, tuple[int, ...], str, int]] = {
    "echo, 64 B, 2 x 50 connections": ("load/echo", (50, 64, 1, 0), "tcp", 2),
    "UDP timestamp, 16 B, 2 x 32 sources": ("load/udp", (32, 16, 120), "udp", 2),
    "TLS handshake, echo of 64 B, close, 8 concurrent": ("load/tls", (0, 64), "tls", 8),
}


def listening(port: int) -> int:
    """Return the number of sockets that listen on a port of 127.0.0.1: proc(5)."""
    address = f"0100007F:{port:04X}"
    count = 0
    for table, state in (("tcp", "0A"), ("udp", "07")):
        rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        count += sum(row[1] == address and row[3] == state for row in rows)
    return count


def measure(
    program: str, arguments: Sequence[int], flag: str, load_count: int, processes: int, key: Path
) -> tuple[float, float]:
    """Return the messages per second, and the microseconds of CPU time that the servers use for each message."""
    port = free_port()
    listening_string = f"127.0.0.1:{port}"
    if flag == "tls":
        listening_string = f"ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={key}"
    command = [sys.executable, "-m", "twisted", "--reactor=uvloop", "--log-file=/dev/null", "netsvc", "--reuse-port"]
    command += ["--udp-rate=0", "--udp-total=0", "--udp" if flag == "udp" else "--tcp", listening_string]
    with ExitStack() as stack:
        leaders = [stack.enter_context(process(command, str(core))).pid for core in range(processes)]
        for _ in range(START_TIMEOUT * 100):
            if listening(port) == processes:
                break
            sleep(0.01)
        else:
            raise BenchError("the servers do not listen")
        server = Server("netsvc", leaders, port)
        loads = []
        for _ in range(load_count):
            words = [program, str(port), *map(str, arguments)]
            loads.append(LoadGenerator(stack.enter_context(process(words, "0,1", stderr=None)), server))
        rates, cpu = [], []
        for _ in range(ROUNDS):
            results = [Result() for _ in loads]
            with ThreadPoolExecutor(load_count) as pool:
                pending = [
                    pool.submit(load.run_round, SECONDS, result) for load, result in zip(loads, results, strict=True)
                ]
                for future in pending:
                    future.result()
            rates.append(sum(result.rate[0] for result in results))
            # Each load generator has divided the same CPU time, that of all servers, by its own number of messages.
            cpu.append(1 / sum(1 / result.cpu[0] for result in results))
        return median(rates), median(cpu)


def main() -> int:
    """Measure, and print a Markdown table."""
    out = sys.stdout.write
    out("| workload | 1 process: messages/s | 2 processes: messages/s | ratio | 1 process: CPU, us ")
    out("| 2 processes: CPU, us |\n")
    out("|---|---:|---:|---:|---:|---:|\n")
    with compiler() as compile_, tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(key))
        for title, (load, arguments, flag, load_count) in WORKLOADS.items():
            program = compile_.c(load, *(("-lssl", "-lcrypto") if flag == "tls" else ()))
            (one, one_cpu), (two, two_cpu) = (
                measure(program, arguments, flag, load_count, processes, key) for processes in (1, 2)
            )
            out(f"| {title} | {one:,.0f} | {two:,.0f} | {two / one:.2f} | {one_cpu:.2f} | {two_cpu:.2f} |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
