"""Servers and loads as processes, pinned to a core each, that take turns."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent

#: Seconds that a server may take to start, or a load to connect: 2,000 members greet each other.
PATIENCE = 180

SERVER_CORE, LOAD_CORE = "0", "1"


class BenchError(Exception):
    """A server or a load ended, or did not answer."""


@dataclass
class Run:
    """What one server did under one work, a value for each turn."""

    cpu: list[float] = field(default_factory=list)  # microseconds a message
    rate: list[float] = field(default_factory=list)  # messages a second
    p50: list[float] = field(default_factory=list)  # microseconds
    p99: list[float] = field(default_factory=list)
    p999: list[float] = field(default_factory=list)

    def median(self, of: str) -> float:
        """Return the median of all turns."""
        values = getattr(self, of)
        return median(values) if values else float("nan")

    def spread(self) -> float:
        """Return by how much the CPU of the turns differs, of the median: (largest - smallest) / 2."""
        return (max(self.cpu) - min(self.cpu)) / 2 / median(self.cpu) if self.cpu else float("nan")


class Tool:
    """What is compiled for the measurement, into a folder that goes when it is over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def c(self, source: str, *libraries: str) -> str:
        """Compile a C program; returns its path."""
        program = self._folder / source.replace("/", "_")
        if not program.exists():
            command = ["cc", "-O2", "-o", str(program), str(HERE / f"{source}.c"), *libraries]
            subprocess.run(command, check=True, capture_output=True)
        return str(program)

    def go(self, source: str) -> str:
        """Compile a Go program; returns its path."""
        program = self._folder / source.replace("/", "_")
        if not program.exists():
            subprocess.run(["go", "build", "-o", str(program), str(HERE / f"{source}.go")], check=True)
        return str(program)


@contextmanager
def tools() -> Iterator[Tool]:
    """Give what compiles."""
    with tempfile.TemporaryDirectory() as folder:
        yield Tool(Path(folder))


@contextmanager
def process(
    command: Sequence[str], core: str, stderr: int | None = subprocess.DEVNULL, **env: str
) -> Iterator[subprocess.Popen[str]]:
    """Run a program on a core, in a session of its own, which ends with the block."""
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


def line_of(running: subprocess.Popen[str], what: str) -> str:
    """Read one line of a program's output."""
    assert running.stdout is not None
    ready, _, _ = select.select([running.stdout], [], [], PATIENCE)
    line = running.stdout.readline() if ready else ""
    if not line:
        raise BenchError(f"{what} said nothing, or ended")
    return line


def session(leader: int) -> list[int]:
    """Return the processes of a session: a server that forks has several."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader:
            members.append(int(stat.parent.name))
    return members


def cpu_of(members: Sequence[int]) -> float:
    """Return the CPU seconds that processes have used with all their threads: clock_getcpuclockid(3)."""
    return sum(time.clock_gettime((~member << 3) | 2) for member in members)


def free_port() -> int:
    """Return a port that is free now, for TCP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass
class Server:
    """A server that runs."""

    name: str
    leaders: list[int]  # of its processes, and those that they have forked
    port: int


@contextmanager
def serving(name: str, command: Sequence[str]) -> Iterator[Server]:
    """Run a server. One whose command has ``{port}`` in it is told a port; others print theirs."""
    if any("{port}" in word for word in command):
        port = free_port()
        with process([word.replace("{port}", str(port)) for word in command], SERVER_CORE) as running:
            time.sleep(0.3)  # it does not say when it listens
            yield Server(name, [running.pid], port)
    else:
        with process(command, SERVER_CORE, GOMAXPROCS="1") as running:
            yield Server(name, [running.pid], int(line_of(running, name)))


class Load:
    """A load program that is connected to a server and waits for its turn."""

    def __init__(self, running: subprocess.Popen[str], server: Server) -> None:
        self._running = running
        self._server = server
        line_of(running, f"the load of {server.name}")

    def turn(self, seconds: float, into: Run) -> None:
        """Put the server under its load."""
        members = [member for leader in self._server.leaders for member in session(leader)]
        before = cpu_of(members)
        assert self._running.stdin is not None
        self._running.stdin.write(f"{seconds}\n")
        self._running.stdin.flush()
        line = line_of(self._running, f"the load of {self._server.name}")
        used = cpu_of(members) - before
        if line.startswith("0 "):
            raise BenchError("not one message came back")
        messages, took, p50, p99, p999, _ = (float(word) for word in line.split())
        into.cpu.append(used / messages * 1e6)
        into.rate.append(messages / took)
        into.p50.append(p50)
        into.p99.append(p99)
        into.p999.append(p999)


@contextmanager
def loaded(server: Server, program: str, arguments: Sequence[object]) -> Iterator[Load]:
    """Connect a load to a server."""
    with process([program, str(server.port), *map(str, arguments)], LOAD_CORE, stderr=None) as running:
        yield Load(running, server)


def side_by_side(
    servers: dict[str, list[str]], program: str, arguments: Sequence[object], turns: int, seconds: float
) -> dict[str, Run]:
    """Let servers take turns under the same load, each turn in another order. One that fails is left out, and said."""
    runs: dict[str, Run] = {}
    loads: dict[str, Load] = {}
    with ExitStack() as everything:
        own = {name: everything.enter_context(ExitStack()) for name in servers}

        def turn(name: str, seconds: float, into: Run) -> None:
            try:
                if name not in loads:
                    server = own[name].enter_context(serving(name, servers[name]))
                    loads[name] = own[name].enter_context(loaded(server, program, arguments))
                loads[name].turn(seconds, into)
            except (BenchError, OSError) as e:
                sys.stderr.write(f"left out: {name}: {e}\n")
                own.pop(name).close()
                runs.pop(name, None)

        for name in servers:
            turn(name, seconds / 2, Run())  # to warm up
        runs.update((name, Run()) for name in own)
        for number in range(turns):
            names = [name for name in runs if name in own]
            for name in names[number % len(names) :] + names[: number % len(names)]:
                turn(name, seconds, runs[name])
    return runs
