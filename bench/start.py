"""Measure the time from the start of ``twist netsvc`` to its first answer: ``python -m bench.start``.

``twist empty`` runs a plugin that only echoes: this is the share of Twisted itself. The commands are started one after
another, several times. The first start of each does not count, because Python compiles the modules then.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

from bench.measure import free_port

STARTS = 9
TIMEOUT = 20

PLUGIN = """
from twisted.application.internet import TCPServer
from twisted.application.service import ServiceMaker
from twisted.internet.protocol import Factory, Protocol
from twisted.python.usage import Options as UsageOptions

class Echo(Protocol):
    def dataReceived(self, data):
        self.transport.write(data)

class Options(UsageOptions):
    optParameters = [["tcp", None, "127.0.0.1:0", "address and port"]]

def makeService(options):
    host, port = options["tcp"].split(":")
    return TCPServer(int(port), Factory.forProtocol(Echo), interface=host)

empty = ServiceMaker("empty", __name__, "a plain echo", "empty")
"""


def start(plugin: str, *flags: str, folder: str) -> float:
    """Start a command. Returns the seconds until its first answer."""
    port = free_port()
    command = [sys.executable, "-m", "twisted", *flags, plugin, "--tcp", f"127.0.0.1:{port}"]
    env = {**os.environ, "PYTHONPATH": folder}
    start_time = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env) as server:
        try:
            while time.perf_counter() - start_time < TIMEOUT:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)) as client:
                    client.settimeout(TIMEOUT)
                    client.sendall(b"x")
                    if client.recv(1) == b"x":
                        return time.perf_counter() - start_time
                time.sleep(0.002)
            raise SystemExit(f"bench.start: {plugin} did not answer in {TIMEOUT} s")
        finally:
            server.kill()


def main() -> int:
    """Measure, and print a Markdown table."""
    out = sys.stdout.write
    with tempfile.TemporaryDirectory() as folder:
        plugins = Path(folder) / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (plugins / "empty_plugin.py").write_text(PLUGIN)
        times: dict[tuple[str, ...], list[float]] = {
            ("empty",): [],
            ("netsvc",): [],
            ("netsvc", "--reactor=asyncio-native"): [],
            ("netsvc", "--reactor=uvloop"): [],
        }
        for number in range(STARTS + 1):
            for command, seconds in times.items():
                duration = start(*command, folder=folder)
                if number:
                    seconds.append(duration)
        out("| start to first answer, seconds | median | minimum | maximum |\n|---|---:|---:|---:|\n")
        for command, seconds in times.items():
            name = " ".join(("twist", *command[1:], command[0]))
            out(f"| {name} | {median(seconds):.3f} | {min(seconds):.3f} | {max(seconds):.3f} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
