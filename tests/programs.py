"""Programs for tests: netsvc's own run as processes, the classic ones as threads with blocking sockets."""

from __future__ import annotations

import re
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

SECONDS = 20.0

NETSVC = (sys.executable, "-m", "netsvc")
TWIST = (sys.executable, "-m", "twisted", "--log-format=text", "netsvc")


def netsvc(
    *arguments: object, stdin: bytes = b"", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run ``netsvc`` and wait for its end."""
    command = [*NETSVC, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=SECONDS, env=env, check=False)


class Program:
    """A process that runs beside the test.

    :ivar output: what it has printed so far, standard error included.
    """

    def __init__(self, command: Sequence[object]) -> None:
        self.output = ""
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read its output until ``pattern`` occurs in it."""
        assert self.process.stdout is not None
        while not (match := re.search(pattern, self.output)):
            line = self.process.stdout.readline()
            assert line, f"ended without {pattern!r}:\n{self.output}"
            self.output += line
        return match

    def type(self, text: str) -> None:
        """Write ``text`` to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def close_input(self) -> None:
        """Close its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def end(self) -> int:
        """Read the rest of its output and return its exit status."""
        rest, _ = self.process.communicate(timeout=SECONDS)
        self.output += rest
        return self.process.returncode

    def stop(self, signal_: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and return its exit status."""
        self.process.send_signal(signal_)
        return self.end()


@contextmanager
def running(*command: object, seconds: float = SECONDS) -> Iterator[Program]:
    """Run a program during a block, for at most ``seconds``."""
    program = Program(command)
    watchdog = threading.Timer(seconds, program.process.kill)
    watchdog.start()
    try:
        yield program
    finally:
        watchdog.cancel()
        program.process.kill()
        program.process.communicate()


@contextmanager
def started(*command: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program during a block, with the standard streams that ``options`` give."""
    process = subprocess.Popen([str(word) for word in command], **options)
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


@contextmanager
def serving(*flags: object) -> Iterator[tuple[Program, list[int]]]:
    """Run ``twist netsvc`` during a block. Yield its ports, in the order in which they were opened."""
    with running(*TWIST, *flags, seconds=10 * SECONDS) as server:
        server.wait_for("Starting reactor")
        yield server, [int(port) for port in re.findall(r"listening on \S*:(\d+)$", server.output, re.MULTILINE)]


@contextmanager
def listening(kind: int = socket.SOCK_STREAM) -> Iterator[socket.socket]:
    """Open a blocking socket on a free port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, kind) as opened:
        opened.settimeout(SECONDS)
        opened.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            opened.listen(5)
        yield opened


def in_thread(program: Callable[[], None]) -> threading.Thread:
    """Run a classic program beside the test."""
    thread = threading.Thread(target=program, daemon=True)
    thread.start()
    return thread


def backlog_of(opened: socket.socket) -> int:
    """Return the backlog of a listening socket. Linux reports it as tcpi_sacked (tcp(7))."""
    info = opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return int(struct.unpack_from("I", info, 28)[0])


def port_of(opened: socket.socket) -> int:
    """Return the port of a socket."""
    port: int = opened.getsockname()[1]
    return port
