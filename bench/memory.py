"""What an idle connection holds of memory: ``python -m bench.memory``.

A server's resident memory with so many idle connections, less that with a hundred, for each connection: the
kernel's own buffers are not in it. An idle connection of ``talked`` has exchanged some lines before, so that netsvc's
reactors have handed it over to their loop.
"""

from __future__ import annotations

import argparse
import re
import socket
import ssl
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import trustme

from bench.measure import serving

#: Server module, name, whether with TLS, connections.
KINDS = [
    ("echo", "twisted_epoll", False, 4_000),
    ("echo", "netsvc_echo_epoll", False, 4_000),
    ("echo", "netsvc_echo_asyncio", False, 4_000),
    ("echo", "netsvc_echo_uvloop", False, 4_000),
    ("echo", "asyncio_protocol", False, 4_000),
    ("echo", "uvloop_protocol", False, 4_000),
    ("chat", "twisted_epoll", False, 1_000),
    ("chat", "netsvc_chat_epoll", False, 1_000),
    ("chat", "netsvc_chat_asyncio", False, 1_000),
    ("chat", "netsvc_chat_uvloop", False, 1_000),
    ("echo", "twisted_epoll", True, 1_000),
    ("echo", "netsvc_echo_epoll", True, 1_000),
    ("echo", "netsvc_echo_asyncio", True, 1_000),
    ("echo", "netsvc_echo_uvloop", True, 1_000),
    ("echo", "asyncio_protocol", True, 1_000),
    ("echo", "uvloop_protocol", True, 1_000),
]
FIRST = 100
TALKS = 20


def resident(process: int) -> int:
    """Return the bytes that a process has in memory: proc(5)."""
    match = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert match
    return int(match[1]) * 1024


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    """Connect, with TLS or without, and see that there is an answer."""
    connected = socket.create_connection(("127.0.0.1", port), timeout=20)
    if context is not None:
        connected = context.wrap_socket(connected, server_hostname="localhost")
    return connected


def drain(opened: Sequence[socket.socket]) -> None:
    """Read whatever has come."""
    for one in opened:
        one.setblocking(False)
        try:
            while one.recv(65_536):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        one.settimeout(20)


def open_many(kind: str, port: int, count: int, talked: bool, context: ssl.SSLContext | None) -> list[socket.socket]:
    """Open so many connections, and let each talk if it is to."""
    opened: list[socket.socket] = []
    for _ in range(count):
        one = connect(port, context)
        opened.append(one)
        if kind == "echo":
            for _ in range(TALKS if talked else 1):
                one.sendall(b"x")
                one.recv(1)
        elif len(opened) % 50 == 0:
            drain(opened)
    if kind == "chat" and talked:
        for _ in range(TALKS):
            opened[0].sendall(b"hello\n")
            opened[1].recv(65_536)
    drain(opened)
    return opened


def cost(kind: str, name: str, tls: bool, count: int, talked: bool, key: Path) -> float:
    """Return the bytes that a connection holds."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    how = [f"tls={key}"] if tls else []
    command = [sys.executable, "-m", f"bench.servers.{kind}", name, *how]
    with serving(name, command) as server, ExitStack() as opened:
        for one in open_many(kind, server.port, FIRST, talked, context):
            opened.enter_context(one)
        before = resident(server.leaders[0])
        for one in open_many(kind, server.port, count, talked, context):
            opened.enter_context(one)
        return (resident(server.leaders[0]) - before) / count


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description="What an idle connection holds.")
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="only these servers")
    options = parser.parse_args(argv)
    out = sys.stdout.write
    out("| idle connection, KiB | connections | one question | talked |\n|---|---:|---:|---:|\n")
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(key))
        for kind, name, tls, count in KINDS:
            if options.only and name not in options.only:
                continue
            talked = f"{cost(kind, name, tls, count, True, key) / 1024:.1f}"
            # Who comes to a chat is told so by each who follows: there is no silent member.
            once = f"{cost(kind, name, tls, count, False, key) / 1024:.1f}" if kind == "echo" else ""
            label = "TLS echo" if tls else kind
            out(f"| {label}, {name} | {count:,} | {once} | {talked} |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
