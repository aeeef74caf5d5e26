"""A server under attack, in a process, and an honest client beside the attack, in another process."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from netsvc.server.config import SERVICE_NAMES

HOST = "127.0.0.1"
ANY = f"{HOST}:0"
PATIENCE = 20.0
FLAGS = tuple(f"--{service}" for service in SERVICE_NAMES)


class Target:
    """A server of netsvc that runs (:mod:`hostile.server`).

    :param process: its process.
    :param log: the file of its log.
    :param reports: the file of its reports.
    :ivar pid: the id of its process; 0 if it is not known.
    :ivar ports: of its services, in the order of the table of services: tcp, chat, udp.
    :ivar pages_port: the port of the metrics and health pages; 0 if it is not known.
    :ivar has_monotonic_timers: whether its reactor measures its timers by the monotonic clock.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, reports: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log
        self._reports = reports
        end = time.monotonic() + PATIENCE
        while not self._report_lines():
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"hostile: the server does not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.01)
        first = json.loads(self._report_lines()[0])
        self.ports: list[int] = first["ports"]
        self.has_monotonic_timers: bool = first["has_monotonic_timers"]
        self.pages_port: int = first["pages_port"]

    def log_lines(self, pattern: str) -> float:
        """Return the number of log lines that match."""
        return len(re.findall(pattern, self._log.read_text(errors="replace")))

    def longest_gap(self) -> float:
        """Return the longest gap between two calls of a 10 ms timer since the last report, in milliseconds."""
        return float(self._report()["longest_gap"])

    def busiest_gap(self) -> float:
        """Return the most processor time between two calls of a 10 ms timer since the last report, in milliseconds."""
        return float(self._report()["busiest_gap"])

    def refusal_lines(self) -> float:
        """Return how many log lines are about refusals."""
        return float(self._report()["refusal_lines"])

    def disconnects(self) -> float:
        """Return how many peers it has disconnected, for any cause."""
        return sum(sum(numbers["disconnected"].values()) for numbers in self._report()["services"].values())

    def replies(self) -> float:
        """Return how many replies it has sent."""
        return float(sum(numbers["replies"] for numbers in self._report()["services"].values()))

    def refused(self, service: str, cause: str) -> float:
        """Return how often a service has refused something for a cause, by its label."""
        return float(self._report()["services"][service]["refused"].get(cause, 0))

    def connections(self) -> float:
        """Return how many connections are open."""
        services = self._report()["services"].values()
        return float(sum(numbers["opened"] - numbers["closed"] for numbers in services))

    def datagrams(self) -> float:
        """Return how many datagrams its UDP port has received: those that it answered and those that it refused."""
        udp = self._report()["services"]["udp"]
        return float(udp["replies"] + sum(udp["refused"].values()))

    def _report_lines(self) -> list[str]:
        return [line for line in self._reports.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def _report(self) -> dict[str, Any]:
        """Ask for a report and return it."""
        before = len(self._report_lines())
        self.signal(signal.SIGUSR2)
        until(lambda: len(self._report_lines()) > before, "the server does not answer a signal")
        report: dict[str, Any] = json.loads(self._report_lines()[-1])
        return report

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Return its exit status, or 99 if it does not end within ``seconds``."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return 99

    def memory(self) -> float:
        """Return its resident memory in bytes."""
        return memory_of(self.pid) if self.pid else math.nan

    def cpu_time(self) -> float:
        """Return the CPU time that it has used, in seconds. The resolution is 10 ms."""
        if not self.pid:
            return math.nan
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kernel_memory(self) -> float:
        """Return the bytes that the kernel keeps for the connections of its ports."""
        return float(sum(map(kernel_memory_of, self.ports)))

    def files(self) -> float:
        """Return the number of its open files."""
        return len(os.listdir(f"/proc/{self.pid}/fd")) if self.pid else math.nan

    def files_above(self, before: float) -> float:
        """Return how many more files are open than before. It has two seconds to close them."""
        end = time.monotonic() + 2
        while self.files() > before and time.monotonic() < end:
            time.sleep(0.05)
        return self.files() - before


#: Runs a target with the flags of ``twist netsvc`` for the length of a block.
Serving = Callable[..., AbstractContextManager[Target]]


class NotPossibleError(Exception):
    """The attack needs something that the server does not have; the message says what."""


class ForeignServer(Target):
    """Any server that runs already. Figures that only netsvc reports are not a number.

    :param ports: of its services.
    :param pid: the id of its process; 0 if it is not known.
    """

    def __init__(self, ports: list[int], pid: int) -> None:
        self.ports = ports
        self.pid = pid
        self.has_monotonic_timers = False
        self.pages_port = 0

    def log_lines(self, pattern: str) -> float:
        return math.nan

    def longest_gap(self) -> float:
        return math.nan

    def busiest_gap(self) -> float:
        return math.nan

    def refusal_lines(self) -> float:
        return math.nan

    def disconnects(self) -> float:
        return math.nan

    def connections(self) -> float:
        return math.nan

    def replies(self) -> float:
        return math.nan

    def refused(self, service: str, cause: str) -> float:
        return math.nan

    def datagrams(self) -> float:
        return math.nan

    def signal(self, number: signal.Signals) -> None:
        raise NotPossibleError("it has to end the server")


@contextmanager
def running_already(
    ports: Mapping[str, int],
    pid: int,
    anyway: bool,
    *flags: object,
    files: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Target]:
    """Use a :class:`ForeignServer` that has the services of the flags.

    :param ports: of its services, by the names of the flags: ``tcp`` for an echo, ``chat``, ``udp``.
    :param anyway: whether to do so even if the attack asks for more flags.
    """
    asked = dict(zip(flags[::2], flags[1::2], strict=True))
    wanted = [str(flag)[2:] for flag in asked if flag in FLAGS]
    missing = [service for service in wanted if service not in ports]
    if missing:
        raise NotPossibleError(f"it takes --at {missing[0]}=PORT")
    if files or environment:
        raise NotPossibleError("it has to start the server")
    more = " ".join(f"{flag} {value}" for flag, value in asked.items() if value != ANY)
    if more and not anyway:
        raise NotPossibleError(f"it is meant for a server that runs with {more}; --anyway attacks yours as it is")
    yield ForeignServer([ports[service] for service in wanted], pid)


@contextmanager
def serving(
    reactor: str, *flags: object, files: int = 0, environment: Mapping[str, str] | None = None
) -> Iterator[Target]:
    """Run the services of ``twist netsvc`` with these flags for the length of a block.

    :param files: the maximum number of open files; 0 for that of this process.
    :param environment: more variables of the environment.
    """

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    with tempfile.TemporaryDirectory() as folder:
        log, reports = Path(folder, "log"), Path(folder, "reports")
        reports.touch()
        command = [sys.executable, "-m", "hostile.server", reactor, str(reports)]
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [*command, *map(str, flags)],
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                preexec_fn=limit,  # noqa: PLW1509  before any thread
            ) as process,
        ):
            try:
                yield Target(process, log, reports)
            finally:
                process.kill()


def until(condition: Callable[[], bool], complaint: str) -> None:
    """Wait for a condition. End with the complaint if it does not become true in time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"hostile: {complaint}")
        time.sleep(0.01)


def memory_of(process: int | str) -> int:
    """Return the resident bytes of a process without pages of files (RssAnon, proc(5))."""
    match = re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert match
    return int(match[1]) * 1024


def kernel_memory_of(port: int) -> int:
    """Return the bytes that the kernel keeps for the connections that a local TCP port has accepted (ss(8), skmem)."""
    command = ["ss", "-tmnH", "state", "connected", "sport", "=", f":{port}"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        raise NotPossibleError(f"it needs the program ss: {e}") from None
    found = re.findall(r"skmem:\(r(\d+),rb\d+,t\d+,tb\d+,f\d+,w(\d+)", listed)
    return sum(int(received) + int(queued) for received, queued in found)


def loopback(number: int) -> str:
    """Return a loopback address that depends on ``number``. Below 50,000, each has a /24 network of its own."""
    return f"127.{1 + number // 250 % 200}.{number % 250}.{1 + number // 50_000}"


def connect(port: int, number: int = 1, *, buffer: int = 0) -> socket.socket:
    """Connect from the loopback address of ``number``.

    :param buffer: bytes of the receive buffer; 0 leaves it to the kernel.
    """
    opened = socket.socket()
    if buffer:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    opened.bind((loopback(number), 0))
    opened.settimeout(PATIENCE)
    opened.connect((HOST, port))
    return opened


def refuses(port: int) -> bool:
    """Whether connections to the port are refused."""
    try:
        socket.create_connection((HOST, port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


@contextmanager
def many() -> Iterator[list[socket.socket]]:
    """Give a list for sockets. They are closed at the end of the block."""
    opened: list[socket.socket] = []
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def warm(port: int) -> None:
    """Use an echo port until the server has opened the files that it opens once, such as /dev/null of libuv."""
    with connect(port, 59_998) as peer:
        for _ in range(20):
            peer.sendall(b"x")
            peer.recv(1)


def _ask(port: int, every: float, asked: Connection) -> None:
    with connect(port, 59_999) as honest:
        honest.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        asked.send(None)
        while not asked.poll():
            began = time.perf_counter()
            honest.sendall(b"0123456789")
            honest.recv(10)
            trips.append(time.perf_counter() - began)
            time.sleep(every)
        asked.send(sorted(trips))


class Honest:
    """The round trips of an honest client.

    :ivar trips: in seconds, the shortest first.
    """

    trips: list[float]

    def at(self, share: float) -> float:
        """Return the percentile of the round trips in milliseconds; 0.99 for the 99th."""
        return self.trips[min(len(self.trips) - 1, int(len(self.trips) * share))] * 1000


@contextmanager
def honest(ask: Callable[..., None], *args: object) -> Iterator[Honest]:
    """Let a client in a process of its own ask a service again and again, for the length of a block.

    :param ask: called with ``args`` and a connection. It sends None when it begins. When it receives something, it
        sends how long each answer took, in seconds, the shortest first.
    """
    client = Honest()
    ours, its = multiprocessing.Pipe()
    process = multiprocessing.Process(target=ask, args=(*args, its), daemon=True)
    process.start()
    try:
        ours.recv()
        yield client
        ours.send(None)
        if not ours.poll(PATIENCE):
            raise SystemExit("hostile: the honest client got no answer")
        client.trips = ours.recv()
    finally:
        process.kill()
        process.join()


def honest_client(port: int, every: float = 0.005) -> AbstractContextManager[Honest]:
    """Let a client in a process of its own send requests to an echo port, for the length of a block."""
    return honest(_ask, port, every)


@contextmanager
def beside(attack: Callable[..., None], *args: object) -> Iterator[None]:
    """Run an attack in a process of its own for the length of a block."""
    process = multiprocessing.Process(target=attack, args=args, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def closed(peers: list[socket.socket], seconds: float) -> float:
    """Wait until the server has closed or reset every peer. This reads no data.

    :return: the seconds that took; infinite if some are still open.
    """
    began = time.monotonic()
    poll = select.poll()
    for peer in peers:
        poll.register(peer.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    left = {peer.fileno() for peer in peers}
    while left and time.monotonic() - began < seconds:
        for number, _ in poll.poll(100):
            poll.unregister(number)
            left.discard(number)
    return time.monotonic() - began if not left else math.inf


def flood(ports: list[int], clients: int, data: bytes) -> None:
    """Send ``data`` again and again from ``clients`` clients of each port, all in this process."""
    with many() as opened:
        poll = select.poll()
        by_number = {}
        for number in range(clients):
            for port in ports:
                opened.append(connect(port, number))
                opened[-1].setblocking(False)
                poll.register(opened[-1].fileno(), select.POLLOUT)
                by_number[opened[-1].fileno()] = opened[-1]
        while True:
            for number, _ in poll.poll():
                try:
                    by_number[number].send(data)
                except BlockingIOError:
                    pass
                except OSError:
                    poll.unregister(number)
