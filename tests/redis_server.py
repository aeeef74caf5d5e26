"""A real Redis for tests: a process that can be killed, stopped for a while, and started again with its data."""

from __future__ import annotations

import ctypes
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme

#: Seconds in which it must start.
SECONDS = 20.0

#: Attempts to start it on a free port. Another process may take the port meanwhile.
ATTEMPTS = 5

_READY = "eady to accept connections"
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class RedisServer:
    """A Redis on a free port of 127.0.0.1 and on a UNIX socket. Its data are in a directory of its own.

    It writes no snapshots. It is killed together with the process of the tests.

    :param config: lines of ``redis.conf``, such as ``appendonly yes``.
    :param certificate: with it the port speaks TLS, and requires no certificate of clients.
    :ivar directory: its data, its configuration and its socket.
    :ivar port: the port; 0 before the first start.
    :ivar socket: the path of the UNIX socket.
    :ivar output: the lines that it has printed so far.
    """

    def __init__(self, config: Sequence[str] = (), certificate: trustme.LeafCert | None = None) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        self._program = program
        # The path of a UNIX socket must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.socket = str(self.directory / "socket")
        self.port = 0
        self.output: list[str] = []
        self._config = list(config)
        self._certificate = certificate
        self._process: subprocess.Popen[str] | None = None
        self._reading: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process ID."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it has loaded its data and accepts commands. Its port stays the same."""
        if self.port:
            self._start(self.port)
            return
        for _ in range(ATTEMPTS):
            port = _free_port()
            try:
                self._start(port)
            except ConnectionError:
                continue
            self.port = port
            return
        pytest.fail("redis-server does not start:\n" + "".join(self.output))

    def kill(self) -> None:
        """Kill it, as if the machine failed (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._reading is not None:
            self._reading.join()
            self._reading = None

    def stop(self) -> None:
        """Let it do nothing (SIGSTOP). The system still accepts connections for it."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it continue (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill it and remove its data."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _start(self, port: int) -> None:
        path = self.directory / "redis.conf"
        lines = ["bind 127.0.0.1", f"unixsocket {self.socket}", f"dir {self.directory}", 'save ""']
        path.write_text("\n".join([*lines, *self._port_lines(port), *self._config, ""]))
        process = subprocess.Popen(
            [self._program, str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  it calls the system once and takes no lock
        )
        self._process = process
        answered = threading.Event()  # it is ready, or it has ended
        ready = threading.Event()
        self._reading = threading.Thread(target=self._read, args=(process, answered, ready), daemon=True)
        self._reading.start()
        assert answered.wait(SECONDS), "redis-server does not start:\n" + "".join(self.output)
        if not ready.is_set():
            self.kill()
            raise ConnectionError("it does not accept connections")

    def _port_lines(self, port: int) -> list[str]:
        if self._certificate is None:
            return [f"port {port}"]
        path = self.directory / "certificate.pem"
        self._certificate.private_key_and_cert_chain_pem.write_to_path(path)
        lines = ["port 0", f"tls-port {port}", "tls-auth-clients no"]
        return [*lines, *(f"tls-{kind}-file {path}" for kind in ("cert", "key", "ca-cert"))]

    def _read(self, process: subprocess.Popen[str], answered: threading.Event, ready: threading.Event) -> None:
        """Read its output until its end, so that it can always write."""
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.output.append(line)
                # It prints such a line for the port, and then one for the UNIX socket.
                if _READY in line and self.socket in line:
                    ready.set()
                    answered.set()
        answered.set()


def die_with_parent() -> None:
    """Let the system kill this process when its parent ends. For ``preexec_fn``."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port
