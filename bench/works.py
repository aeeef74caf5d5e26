"""The works of the comparison: what each asks of a server, and which servers do it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.measure import Tool


@dataclass(frozen=True)
class Work:
    """One work.

    :param title: of its table.
    :param load: the load program, in ``bench/load``.
    :param arguments: of the load, behind the port.
    :param kind: of server: ``echo``, ``chat`` or ``stamp``.
    :param servers: by their names.
    :param how: what an echo server does with what it reads, or ``tls``.
    """

    title: str
    load: str
    arguments: tuple[int, ...]
    kind: str
    servers: tuple[str, ...]
    how: str = "at_once"


REACTORS = ("twisted_epoll", "twisted_asyncio", "netsvc_asyncio", "netsvc_uvloop")
OWN = ("netsvc_echo_epoll", "netsvc_echo_asyncio", "netsvc_echo_uvloop")
LOOPS = ("asyncio_protocol", "asyncio_streams", "uvloop_protocol", "uvloop_streams")
MANY = ("c", "go", *REACTORS, *OWN, *LOOPS, "gevent")
ALL = (*MANY, "threads", "socat", "ncat")
PROTOCOLS = ("twisted_epoll", "netsvc_asyncio", "netsvc_uvloop", "asyncio_protocol", "uvloop_protocol")
TLS = ("go", *REACTORS, *OWN, "asyncio_protocol", "uvloop_protocol")
CHATS = ("go", "twisted_epoll", "netsvc_chat_epoll", "netsvc_chat_asyncio", "netsvc_chat_uvloop", "asyncio_protocol")
STAMPS = ("c", "go", "twisted_epoll", "netsvc_stamp_epoll", "netsvc_stamp_asyncio", "netsvc_stamp_uvloop")

WORKS: dict[str, Work] = {
    "one": Work("echo, 64 B, 1 connection", "echo", (1, 64, 1, 0), "echo", ALL),
    "fifty": Work("echo, 64 B, 50 connections", "echo", (50, 64, 1, 0), "echo", ALL),
    "1k": Work("echo, 1 KiB, 50 connections", "echo", (50, 1024, 1, 0), "echo", ALL),
    "pipelined": Work("echo, 10 x 64 B at once, 50 connections, each of them", "echo", (50, 64, 10, 0), "echo", ALL),
    "10k": Work("echo, 64 B, 10,000 connections of which 50 talk", "echo", (50, 64, 1, 9_950), "echo", MANY),
    "connect": Work("connect, echo of 64 B, close", "echo", (1, 64, 0, 0), "echo", (*MANY, "threads")),
    "later": Work("echo in a later call, 64 B, 50 connections", "echo", (50, 64, 1, 0), "echo", PROTOCOLS, "later"),
    "partner": Work("to one's partner, 64 B, 50 connections", "echo", (50, 64, 1, 0), "echo", PROTOCOLS, "partner"),
    "pieces": Work("echo in 16 writes, 1 KiB, 50 connections", "echo", (50, 1024, 1, 0), "echo", PROTOCOLS, "pieces"),
    "tls": Work("TLS echo, 1 KiB, 50 connections", "tls", (50, 1024), "echo", TLS, "tls"),
    "handshake": Work("TLS handshake, echo of 64 B, close", "tls", (0, 64), "echo", TLS, "tls"),
    "udp": Work(
        "UDP timestamp, 16 B, 32 sources", "udp", (32, 16), "stamp", (*STAMPS, "asyncio_protocol", "uvloop_protocol")
    ),
    **{
        f"chat{members}x{flight}": Work(
            f"chat, {members:,} members, {flight} in flight: one delivery",
            "chat",
            (members, 64, flight),
            "chat",
            (*CHATS, "uvloop_protocol", *(("ncat",) if members == 10 else ())),
        )
        for members in (10, 200, 2_000)
        for flight in (1, 16)
    },
}

_PEERS = {
    "socat": ["socat", "TCP4-LISTEN:{port},bind=127.0.0.1,fork,backlog=1024,max-children=100", "PIPE"],
    "ncat": ["ncat", "-4", "-l", "-k", "-m", "100", "-e", "/bin/cat", "127.0.0.1", "{port}"],
}


def command_of(server: str, work: Work, tool: Tool, key: Path) -> list[str] | str:
    """Return the command that runs a server for a work, or what is missing for it."""
    if server == "go":
        if not shutil.which("go"):
            return "go is not installed"
        return [tool.go("servers/peers"), *(["tls", str(key)] if work.how == "tls" else [work.kind])]
    if server == "c":
        return [tool.c(f"servers/{work.kind}")]
    if server in _PEERS:
        if not shutil.which(server):
            return f"{server} is not installed"
        chat = ["ncat", "-4", "-l", "--chat", "127.0.0.1", "{port}"]
        return chat if work.kind == "chat" else _PEERS[server]
    needs = next((needed for needed in ("uvloop", "gevent") if needed in server), "twisted")
    if find_spec(needs) is None:
        return f"{needs} is not installed"
    how = f"tls={key}" if work.how == "tls" else work.how
    return [sys.executable, "-m", f"bench.servers.{work.kind}", server, *([how] if work.kind == "echo" else [])]
