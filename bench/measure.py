"""Run servers and load generators as processes on separate cores, and measure the servers in rounds."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent

#: Seconds for a server to start or for a load generator to connect. 2,000 chat members greet each other meanwhile.
TIMEOUT = 180

SERVER_CORE, LOAD_CORE = "0", "1"


class BenchError(Exception):
    """A server or a load generator exited, or did not answer."""


@dataclass
class Result:
    """The figures of one server under one workload, one value for each round."""

    cpu: list[float] = field(default_factory=list)  # microseconds per message
    rate: list[float] = field(default_factory=list)  # messages per second
    p50: list[float] = field(default_factory=list)  # round-trip times in microseconds
    p99: list[float] = field(default_factory=list)
    p999: list[float] = field(default_factory=list)

    def median(self, figure: str) -> float:
        """Return the median of all rounds."""
        values = getattr(self, figure)
        return median(values) if values else float("nan")

    def spread(self) -> float:
        """Return half the distance between the smallest and the largest CPU time, as a share of the median."""
        return (max(self.cpu) - min(self.cpu)) / 2 / median(self.cpu) if self.cpu else float("nan")


class Compiler:
    """Compiles the C and Go programs of the benchmark into a folder, each one once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def c(self, source: str, *libraries: str) -> str:
        """Compile a C program. Returns the path of the executable."""
        program = self._folder / source.replace("/", "_")
        if not program.exists():
            command = ["cc", "-O2", "-o", str(program), str(HERE / f"{source}.c"), *libraries]
            subprocess.run(command, check=True, capture_output=True)
        return str(program)

    def go(self, source: str) -> str:
        """Compile a Go program. Returns the path of the executable."""
        program = self._folder / source.replace("/", "_")
        if not program.exists():
            subprocess.run(["go", "build", "-o", str(program), str(HERE / f"{source}.go")], check=True)
        return str(program)


@contextmanager
def compiler() -> Iterator[Compiler]:
    """Create a compiler with a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        yield Compiler(Path(folder))


@contextmanager
def process(
    command: Sequence[str], core: str, stderr: int | None = subprocess.DEVNULL, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on a core during a block. All processes of its session are killed at the end of the block."""
    with subprocess.Popen(
        ["taskset", "-c", core, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
        env={**os.environ, **env},
    ) as running:
        try:
            yield running
        finally:
            os.killpg(running.pid, signal.SIGKILL)


def read_line(running: subprocess.Popen[str], name: str) -> str:
    """Read one line of the output of the program ``name``."""
    assert running.stdout is not None
    ready, _, _ = select.select([running.stdout], [], [], TIMEOUT)
    line = running.stdout.readline() if ready else ""
    if not line:
        raise BenchError(f"{name} exited, or printed no line in {TIMEOUT} s")
    return line


def processes_of_session(leader: int) -> list[int]:
    """Return the process IDs of a session. The session of a server that forks has several processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader:
            found.append(int(stat.parent.name))
    return found


def cpu_seconds(process_ids: Sequence[int]) -> float:
    """Return the CPU seconds that processes have used with all their threads: clock_getcpuclockid(3)."""
    return sum(time.clock_gettime((~process_id << 3) | 2) for process_id in process_ids)


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass
class Server:
    """A running server.

    :param leaders: the session leaders: the processes that were started here. The processes that they fork belong to
        their sessions.
    """

    name: str
    leaders: list[int]
    port: int


@contextmanager
def run_server(name: str, command: Sequence[str]) -> Iterator[Server]:
    """Run a server during a block. ``{port}`` in its command is replaced by a free port; other servers print theirs."""
    if any("{port}" in word for word in command):
        port = free_port()
        with process([word.replace("{port}", str(port)) for word in command], SERVER_CORE) as running:
            time.sleep(0.3)  # such a server does not report when it listens
            yield Server(name, [running.pid], port)
    else:
        with process(command, SERVER_CORE, GOMAXPROCS="1") as running:
            yield Server(name, [running.pid], int(read_line(running, name)))


class LoadGenerator:
    """A load program that is connected to a server and waits for the next round."""

    def __init__(self, running: subprocess.Popen[str], server: Server) -> None:
        self._running = running
        self._server = server
        self._name = f"the load generator of {server.name}"
        read_line(running, self._name)

    def run_round(self, seconds: float, result: Result) -> None:
        """Send messages to the server for ``seconds``, and append the figures of this round to ``result``."""
        process_ids = [found for leader in self._server.leaders for found in processes_of_session(leader)]
        before = cpu_seconds(process_ids)
        assert self._running.stdin is not None
        self._running.stdin.write(f"{seconds}\n")
        self._running.stdin.flush()
        line = read_line(self._running, self._name)
        used = cpu_seconds(process_ids) - before
        if line.startswith("0 "):
            raise BenchError("no message was answered")
        messages, duration, p50, p99, p999, _ = (float(word) for word in line.split())
        result.cpu.append(used / messages * 1e6)
        result.rate.append(messages / duration)
        result.p50.append(p50)
        result.p99.append(p99)
        result.p999.append(p999)


@contextmanager
def run_load(server: Server, program: str, arguments: Sequence[object]) -> Iterator[LoadGenerator]:
    """Run a load program during a block, connected to a server."""
    with process([program, str(server.port), *map(str, arguments)], LOAD_CORE, stderr=None) as running:
        yield LoadGenerator(running, server)


def measure_servers(
    commands: dict[str, list[str]],
    program: str,
    arguments: Callable[[str], Sequence[object]],
    rounds: int,
    seconds: float,
) -> dict[str, Result]:
    """Measure servers one after another under the same load, each round in another order.

    :param arguments: returns the arguments of the load program for a server, by its name.

    A server that fails is left out, and its error is printed.
    """
    results: dict[str, Result] = {}
    loads: dict[str, LoadGenerator] = {}
    with ExitStack() as everything:
        stacks = {name: everything.enter_context(ExitStack()) for name in commands}

        def run_round(name: str, seconds: float, result: Result) -> None:
            try:
                if name not in loads:
                    server = stacks[name].enter_context(run_server(name, commands[name]))
                    loads[name] = stacks[name].enter_context(run_load(server, program, arguments(name)))
                loads[name].run_round(seconds, result)
            except (BenchError, OSError) as e:
                sys.stderr.write(f"left out: {name}: {e}\n")
                stacks.pop(name).close()
                results.pop(name, None)

        for name in commands:
            run_round(name, seconds / 2, Result())  # to warm up
        results.update((name, Result()) for name in stacks)
        for number in range(rounds):
            names = [name for name in results if name in stacks]
            for name in names[number % len(names) :] + names[: number % len(names)]:
                run_round(name, seconds, results[name])
    return results
