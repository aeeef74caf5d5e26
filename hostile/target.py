"""A server under attack, as a process, and an honest client beside the attack, as another."""

from __future__ import annotations

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

from netsvc.server.config import SERVICES

HOST = "127.0.0.1"
ANY = f"{HOST}:0"
PATIENCE = 20.0
FLAGS = tuple(f"--{service}" for service in SERVICES)


class Target:
    """A ``twist netsvc`` that runs.

    :ivar pid: of its process; 0 if nobody knows.
    :ivar ports: of its services, in the order of the flags.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path, wanted: int) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log
        self.ports: list[int] = []
        end = time.monotonic() + PATIENCE
        while len(self.ports) < wanted or "Starting reactor" not in self.log():
            if time.monotonic() > end or process.poll() is not None:
                raise SystemExit(f"hostile: the server does not start:\n{self.log()}")
            time.sleep(0.01)
            self.ports = [int(port) for port in re.findall(r"listening on \S*?:(\d+)$", self.log(), re.MULTILINE)]

    def log(self) -> str:
        """Return what it has logged."""
        return self._log.read_text(errors="replace")

    def lines(self, pattern: str) -> float:
        """Return how many lines of the log match."""
        return len(re.findall(pattern, self.log()))

    def worst_gap(self) -> float:
        """Return how late a 10 ms timer of a watched server was at worst since the last call, in milliseconds."""
        return float(self._asked(signal.SIGUSR2, r"worst gap ([\d.]+) ms")[-1])

    def cut(self) -> float:
        """Return how many peers it has cut, in all."""
        told = self._asked(signal.SIGUSR1, "connections: [^\n]*")[-1]
        return _sum(told.partition("; cut: ")[2].partition(";")[0])

    def datagrams(self) -> float:
        """Return how many datagrams have come to its UDP port: those it answered and those it refused."""
        told = self._asked(signal.SIGUSR1, "udp: connections: [^\n]*")[-1]
        replies = re.search(r"replies: ([\d,]+)", told)
        return _sum(replies[1] if replies else "") + _sum(told.partition("; refused: ")[2].partition(";")[0])

    def _asked(self, number: signal.Signals, pattern: str) -> list[str]:
        """Return what the log holds of ``pattern`` once a signal was answered with one more."""
        before = self.lines(pattern)
        self.signal(number)
        until(lambda: self.lines(pattern) != before, "the server does not answer a signal")
        return re.findall(pattern, self.log())

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ended(self, seconds: float) -> int:
        """Return its exit status, or 99 if it has not ended in so many seconds."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return 99

    def memory(self) -> float:
        """Return its resident bytes."""
        return memory_of(self.pid) if self.pid else math.nan

    def files(self) -> float:
        """Return how many files it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd")) if self.pid else math.nan

    def files_above(self, before: float) -> float:
        """Return how many more it has open than before, once it had two seconds to close them."""
        end = time.monotonic() + 2
        while self.files() > before and time.monotonic() < end:
            time.sleep(0.05)
        return self.files() - before


#: Gives a target for the flags of ``twist netsvc``, for the length of a block.
Serving = Callable[..., AbstractContextManager[Target]]


class NotPossibleError(Exception):
    """An attack needs something that the server does not have; the text says what."""


class Stranger(Target):
    """A server that runs already, of whatever make. What only netsvc tells is not a number.

    :param ports: of its services.
    :param pid: of its process; 0 if nobody knows.
    """

    def __init__(self, ports: list[int], pid: int) -> None:
        self.ports = ports
        self.pid = pid

    def lines(self, pattern: str) -> float:
        return math.nan

    def worst_gap(self) -> float:
        return math.nan

    def cut(self) -> float:
        return math.nan

    def datagrams(self) -> float:
        return math.nan

    def signal(self, number: signal.Signals) -> None:
        raise NotPossibleError("it has to end the server")


@contextmanager
def running_already(
    ports: Mapping[str, int], pid: int, anyway: bool, *flags: object, files: int = 0, watched: bool = False
) -> Iterator[Target]:
    """Give a :class:`Stranger` that has the services in question.

    :param ports: of its services, by the names of the flags: ``tcp`` for an echo, ``chat``, ``udp``.
    :param anyway: whether to do so for an attack that asks for more flags, too.
    """
    asked = dict(zip(flags[::2], flags[1::2], strict=True))
    wanted = [str(flag)[2:] for flag in asked if flag in FLAGS]
    missing = [service for service in wanted if service not in ports]
    if missing:
        raise NotPossibleError(f"it takes --at {missing[0]}=PORT")
    if files:
        raise NotPossibleError("it has to start the server")
    more = " ".join(f"{flag} {value}" for flag, value in asked.items() if value != ANY)
    if more and not anyway:
        raise NotPossibleError(f"it is meant for a server that runs with {more}; --anyway attacks yours as it is")
    yield Stranger([ports[service] for service in wanted], pid)


def _sum(numbers: str) -> int:
    return sum(int(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]*", numbers))


@contextmanager
def serving(reactor: str, *flags: object, files: int = 0, watched: bool = False) -> Iterator[Target]:
    """Run ``twist netsvc`` with these flags for the length of a block.

    :param files: the most files that it may open; 0 for as many as this process.
    :param watched: whether it is to tell how late its timers are.
    """

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    wanted = sum(flag in FLAGS for flag in flags)
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        twist = ["twisted", f"--reactor={reactor}", "--log-format=text", "netsvc"]
        command = [sys.executable, "-m", *(["hostile.server", reactor] if watched else twist)]
        with subprocess.Popen(
            [*command, *map(str, flags)],
            stdout=log,
            stderr=log,
            preexec_fn=limit,  # noqa: PLW1509  before any thread
        ) as process:
            try:
                yield Target(process, Path(log.name), wanted)
            finally:
                process.kill()


def until(condition: Callable[[], bool], complaint: str) -> None:
    """Wait for a condition, and end with a complaint where it does not come about."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"hostile: {complaint}")
        time.sleep(0.01)


def memory_of(process: int | str) -> int:
    """Return the resident bytes of a process that are its own and no file's, whose pages come and go: proc(5)."""
    match = re.search(r"RssAnon:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert match
    return int(match[1]) * 1024


def connect(port: int, number: int = 1, *, buffer: int = 0) -> socket.socket:
    """Connect from an address of loopback's own for each ``number``, so that each is a host of its own.

    :param buffer: bytes that the kernel may keep for this end before it is read; 0 leaves it to the kernel.
    """
    opened = socket.socket()
    if buffer:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    opened.bind((f"127.{1 + number // 60_000}.{number // 250 % 240}.{1 + number % 250}", 0))
    opened.settimeout(PATIENCE)
    opened.connect((HOST, port))
    return opened


@contextmanager
def many() -> Iterator[list[socket.socket]]:
    """Give a list of sockets, which are closed at the end of the block."""
    opened: list[socket.socket] = []
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def warm(port: int) -> None:
    """Talk with an echo port long enough for the server to have opened what it opens once: libuv /dev/null, say."""
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
    """What an honest client of an echo port has met with.

    :ivar trips: its round trips in seconds, the shortest first.
    """

    trips: list[float]

    def at(self, share: float) -> float:
        """Return the round trip, in milliseconds, that so large a share of them did not exceed."""
        return self.trips[min(len(self.trips) - 1, int(len(self.trips) * share))] * 1000


@contextmanager
def honest_client(port: int, every: float = 0.005) -> Iterator[Honest]:
    """Let a client in a process of its own ask for an echo now and then, for the length of a block."""
    honest = Honest()
    ours, its = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_ask, args=(port, every, its), daemon=True)
    process.start()
    try:
        ours.recv()
        yield honest
        ours.send(None)
        if not ours.poll(PATIENCE):
            raise SystemExit("hostile: the honest client got no answer")
        honest.trips = ours.recv()
    finally:
        process.kill()
        process.join()


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
    """Wait until every peer was closed or reset, without reading more than it takes to see that.

    :return: the seconds it took; ``seconds`` and more if some are open still.
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
    return time.monotonic() - began if not left else seconds + len(left)


def shout(ports: list[int], clients: int, data: bytes) -> None:
    """Send ``data`` again and again from so many clients of each port, all in this process."""
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
