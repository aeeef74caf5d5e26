"""Measure the memory of an idle connection: ``python -m bench.memory``.

The figure is the growth of the server's resident memory, divided by the number of new connections, after the first 100
connections. It does not include the kernel's buffers. Before it becomes idle, a connection sends one question or
several. After several, netsvc's reactors have handed it over to their event loop.
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

from bench.measure import run_server

#: Kind of server, name, whether with TLS, number of connections.
SERVERS = [
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
    ("chat", "netsvc_web_epoll", False, 1_000),
    ("chat", "netsvc_web_asyncio", False, 1_000),
    ("chat", "netsvc_web_uvloop", False, 1_000),
    ("echo", "twisted_epoll", True, 1_000),
    ("echo", "netsvc_echo_epoll", True, 1_000),
    ("echo", "netsvc_echo_asyncio", True, 1_000),
    ("echo", "netsvc_echo_uvloop", True, 1_000),
    ("echo", "asyncio_protocol", True, 1_000),
    ("echo", "uvloop_protocol", True, 1_000),
]
FIRST = 100
QUESTIONS = 20

#: The bytes with which a browser enters the chat: it asks for the WebSocket, and begins a session. The mask is 0.
WEB_OPENING = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    b'\x81\x90\0\0\0\0{"type":"begin"}'
)
WEB_HELLO = b'\x81\xad\0\0\0\0{"type":"say","room":"#lobby","text":"hello"}'


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes: proc(5)."""
    match = re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert match
    return int(match[1]) * 1024


def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
    """Connect, with TLS if there is a ``context``."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    if context is not None:
        connection = context.wrap_socket(connection, server_hostname="localhost")
    return connection


def read_all(connections: Sequence[socket.socket]) -> None:
    """Read all bytes that have arrived."""
    for connection in connections:
        connection.setblocking(False)
        try:
            while connection.recv(65_536):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        connection.settimeout(20)


def open_connections(
    kind: str, port: int, count: int, questions: int, context: ssl.SSLContext | None, opening: bytes = b""
) -> list[socket.socket]:
    """Open ``count`` connections. To an echo server each sends ``questions`` messages; in a chat, one member does.

    :param opening: what each connection sends first.
    """
    connections: list[socket.socket] = []
    for _ in range(count):
        connection = connect(port, context)
        connections.append(connection)
        connection.sendall(opening)
        if kind == "echo":
            for _ in range(questions):
                connection.sendall(b"x")
                connection.recv(1)
        elif len(connections) % 50 == 0:
            read_all(connections)
    if kind == "chat":
        for _ in range(questions):
            connections[0].sendall(WEB_HELLO if opening else b"hello\n")
            connections[1].recv(65_536)
    read_all(connections)
    return connections


def memory_per_connection(kind: str, name: str, tls: bool, count: int, questions: int, key: Path) -> float:
    """Return the bytes of the server's memory for each connection."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    mode = [f"tls={key}"] if tls else []
    opening = WEB_OPENING if name.startswith("netsvc_web") else b""
    command = [sys.executable, "-m", f"bench.servers.{kind}", name, *mode]
    with run_server(name, command) as server, ExitStack() as stack:
        for connection in open_connections(kind, server.port, FIRST, questions, context, opening):
            stack.enter_context(connection)
        before = resident(server.leaders[0])
        for connection in open_connections(kind, server.port, count, questions, context, opening):
            stack.enter_context(connection)
        return (resident(server.leaders[0]) - before) / count


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.memory", description="Measure the memory of an idle connection."
    )
    parser.add_argument("--only", nargs="+", metavar="SERVER", help="measure only these servers")
    options = parser.parse_args(argv)
    out = sys.stdout.write
    out("| idle connection: KiB | connections | after one question | after more questions |\n|---|---:|---:|---:|\n")
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(key))
        for kind, name, tls, count in SERVERS:
            if options.only and name not in options.only:
                continue
            several = f"{memory_per_connection(kind, name, tls, count, QUESTIONS, key) / 1024:.1f}"
            # A chat has no figure for one question: every member receives a line for each later member.
            one = f"{memory_per_connection(kind, name, tls, count, 1, key) / 1024:.1f}" if kind == "echo" else ""
            label = "TLS echo" if tls else kind
            out(f"| {label}, {name} | {count:,} | {one} | {several} |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
