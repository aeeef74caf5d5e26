"""The workloads of the benchmark: the load, and the servers that are measured under it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.measure import Compiler


@dataclass(frozen=True)
class Workload:
    """One workload.

    :param title: the title of its table.
    :param load: the load program in ``bench/load``.
    :param arguments: the arguments of the load program after the port.
        To a server whose name begins with ``netsvc_web`` the load speaks WebSocket.
    :param kind: the kind of server: ``echo``, ``chat``, ``timestamp`` or ``stamp``.
    :param servers: the names of the servers.
    :param mode: the mode of an echo server (:mod:`bench.servers.echo`), or ``tls``.
    """

    title: str
    load: str
    arguments: tuple[int, ...]
    kind: str
    servers: tuple[str, ...]
    mode: str = "immediate"

    def arguments_for(self, server: str) -> tuple[object, ...]:
        """Return the arguments of the load program for a server."""
        return (*self.arguments, "web") if server.startswith("netsvc_web") else self.arguments


REACTORS = ("twisted_epoll", "twisted_asyncio", "netsvc_asyncio", "netsvc_uvloop")
NETSVC_ECHO = ("netsvc_echo_epoll", "netsvc_echo_asyncio", "netsvc_echo_uvloop")
LOOPS = ("asyncio_protocol", "asyncio_streams", "uvloop_protocol", "uvloop_streams")
SCALABLE = ("c", "go", *REACTORS, *NETSVC_ECHO, *LOOPS, "gevent")
ALL = (*SCALABLE, "threads", "socat", "ncat")
PROTOCOLS = ("twisted_epoll", "netsvc_asyncio", "netsvc_uvloop", "asyncio_protocol", "uvloop_protocol")
TLS = ("go", *REACTORS, *NETSVC_ECHO, "asyncio_protocol", "uvloop_protocol")
CHAT = (
    *("go", "twisted_epoll", "netsvc_chat_epoll", "netsvc_chat_asyncio", "netsvc_chat_uvloop"),
    *("netsvc_web_epoll", "netsvc_web_asyncio", "netsvc_web_uvloop", "asyncio_protocol"),
)
TIMESTAMP = (
    *("c", "go", "twisted_epoll", "netsvc_timestamp_epoll", "netsvc_timestamp_asyncio", "netsvc_timestamp_uvloop"),
    *("asyncio_protocol", "uvloop_protocol"),
)

STAMP = (
    *("c", "netsvc_stamp_epoll", "netsvc_stamp_asyncio", "netsvc_stamp_uvloop"),
    *("netsvc_sessions_epoll", "netsvc_sessions_asyncio", "netsvc_sessions_uvloop", "netsvc_timestamp_uvloop"),
)

WORKLOADS: dict[str, Workload] = {
    "one": Workload("echo, 64 B, 1 connection", "echo", (1, 64, 1, 0), "echo", ALL),
    "fifty": Workload("echo, 64 B, 50 connections", "echo", (50, 64, 1, 0), "echo", ALL),
    "500": Workload("echo, 64 B, 500 connections", "echo", (500, 64, 1, 0), "echo", PROTOCOLS),
    "1k": Workload("echo, 1 KiB, 50 connections", "echo", (50, 1024, 1, 0), "echo", ALL),
    "pipelined": Workload("echo, 10 x 64 B at once, 50 connections, per message", "echo", (50, 64, 10, 0), "echo", ALL),
    "10k": Workload(
        "echo, 64 B, 10,000 connections of which 50 are active", "echo", (50, 64, 1, 9_950), "echo", SCALABLE
    ),
    "connect": Workload("connect, echo of 64 B, close", "echo", (1, 64, 0, 0), "echo", (*SCALABLE, "threads")),
    "later": Workload("echo in a later call, 64 B, 50 connections", "echo", (50, 64, 1, 0), "echo", PROTOCOLS, "later"),
    "partner": Workload(
        "forward to a partner, 64 B, 50 connections", "echo", (50, 64, 1, 0), "echo", PROTOCOLS, "partner"
    ),
    "pieces": Workload(
        "echo in 16 writes, 1 KiB, 50 connections", "echo", (50, 1024, 1, 0), "echo", PROTOCOLS, "pieces"
    ),
    "tls": Workload("TLS echo, 1 KiB, 50 connections", "tls", (50, 1024), "echo", TLS, "tls"),
    "tls1": Workload("TLS echo, 1 KiB, 1 connection", "tls", (1, 1024), "echo", TLS, "tls"),
    "handshake": Workload("TLS handshake, echo of 64 B, close", "tls", (0, 64), "echo", TLS, "tls"),
    **{
        name: Workload(f"UDP timestamp, 16 B, {sources} in flight", "udp", (sources, 16, 120), "timestamp", TIMESTAMP)
        for name, sources in (("udp", 32), ("udp1", 1), ("udp2", 2), ("udp8", 8), ("udp128", 128))
    },
    **{
        name: Workload(f"STAMP, 44 B, {sources} in flight", "udp", (sources, 44, 0), "stamp", STAMP)
        for name, sources in (("stamp", 32), ("stamp1", 1), ("stamp8", 8), ("stamp128", 128))
    },
    **{
        f"chat{members}x{in_flight}": Workload(
            f"chat, {members:,} members, {in_flight} in flight: one delivery",
            "chat",
            (members, 64, in_flight),
            "chat",
            (*CHAT, "uvloop_protocol", *(("ncat",) if members == 10 else ())),
        )
        for members in (10, 200, 2_000)
        for in_flight in (1, 16)
    },
}

_PROGRAMS = {
    "socat": ["socat", "TCP4-LISTEN:{port},bind=127.0.0.1,fork,backlog=1024,max-children=100", "PIPE"],
    "ncat": ["ncat", "-4", "-l", "-k", "-m", "100", "-e", "/bin/cat", "127.0.0.1", "{port}"],
}


def command_of(server: str, workload: Workload, compiler: Compiler, key: Path) -> list[str] | str:
    """Return the command that runs a server for a workload, or a sentence that tells what is not installed."""
    if server == "go":
        if not shutil.which("go"):
            return "go is not installed"
        arguments = ["tls", str(key)] if workload.mode == "tls" else [workload.kind]
        return [compiler.go("servers/peers"), *arguments]
    if server == "c":
        return [compiler.c(f"servers/{workload.kind}")]
    if server in _PROGRAMS:
        if not shutil.which(server):
            return f"{server} is not installed"
        chat = ["ncat", "-4", "-l", "--chat", "127.0.0.1", "{port}"]
        return chat if workload.kind == "chat" else _PROGRAMS[server]
    library = next((name for name in ("uvloop", "gevent") if name in server), "twisted")
    if find_spec(library) is None:
        return f"{library} is not installed"
    mode = f"tls={key}" if workload.mode == "tls" else workload.mode
    command = [sys.executable, "-m", f"bench.servers.{workload.kind}", server]
    return [*command, mode] if workload.kind == "echo" else command
