"""Peers of ``--web`` that abuse HTTP."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

from hostile.finding import Finding, quiet
from hostile.target import ANY, Serving, closed, connect, many
from hostile.web_peers import (
    JSON_PING,
    PING,
    Flood,
    become_member,
    effects,
    frame,
    honest_member,
    request,
    upgrade,
)

#: Seconds that the server waits for a request, and for the beginning of a session.
_PATIENCE_OF_SERVER = 10.0


def http_flood(serving: Serving, seconds: float) -> Iterator[Finding]:
    """64 connections of 8 hosts: requests by the thousand, heads of 20 KB, heads of many lines, and bodies."""
    long = "x" * 15_000
    floods = {
        "requests by the thousand": request() * 1_000,
        "heads of 15 KB": request("/", f"Cookie: {long}"),
        "heads of 20 KB": request("/", f"Cookie: {long}xxxxx"),
        "heads of many lines": request("/", *["a:b"] * 3_000),
        "lists of many codings": request("/", "Accept-Encoding: " + "," * 15_000),
        "bodies": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000),
    }
    with serving("--web", ANY) as target:
        for number, (what, data) in enumerate(floods.items()):
            flood = Flood(target.ports[0], 100 * number, b"", [data])
            yield from effects(target, flood, seconds / len(floods), what, cpu=50, memory=16)
        yield from quiet(target)


def wrong_origins(serving: Serving, seconds: float) -> Iterator[Finding]:
    """64 connections of 8 hosts that ask for a WebSocket for a foreign page, again and again."""
    foreign = upgrade("Origin: https://evil.example")
    with serving("--web", ANY) as target:
        before = target.refusal_lines()
        flood = Flood(target.ports[0], 0, b"", [foreign * 100], answer=b"101 ")
        yield from effects(target, flood, seconds, "foreign origins", cpu=50, memory=16)
        refused = target.refused("web", "origin")
        yield Finding("WebSockets that were opened", flood.answers.value, 0, "")
        yield Finding("time from one refusal to the next", seconds / refused if refused else math.inf, 1, "s")
        yield Finding("log lines about it per second", (target.refusal_lines() - before) / seconds, 4, "")
        yield from quiet(target)


def half_open_upgrades(serving: Serving, seconds: float) -> Iterator[Finding]:
    """300 peers each that send nothing, a head that trickles or half a body, or that upgrade and begin no session."""
    with serving("--web", ANY) as target, many() as opened:
        port, each = target.ports[0], 300
        become_member(port, 60_000).close()  # by then the server has opened the files that it opens once
        files, before = target.files(), target.memory()
        groups: dict[str, list[socket.socket]] = {}

        def add(what: str, data: bytes) -> list[socket.socket]:
            for _ in range(each):
                peer = connect(port, len(opened))
                peer.sendall(data)
                groups.setdefault(what, []).append(peer)
                opened.append(peer)
            return groups[what]

        began = time.monotonic()
        with honest_member(port) as member:
            add("silent peers", b"")
            add("peers after a request", request())
            add("peers with half a body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            add("peers without a session", upgrade())
            trickling = {
                b"x": add("heads that trickle", b"GET / HTTP/1.1\r\na: "),
                frame(b"", PING): add("peers without a session that ping", upgrade()),
                JSON_PING: add("peers without a session that send JSON", upgrade()),
            }
            opening = time.monotonic() - began
            memory = target.memory() - before
            took: dict[str, float] = {}
            while len(took) < len(groups) and (now := time.monotonic() - began) < 2 * _PATIENCE_OF_SERVER:
                for data, peers in trickling.items():
                    for peer in peers:
                        with suppress(OSError):
                            peer.send(data)
                for what, peers in groups.items():
                    if what not in took and closed(peers, 0.01) < 1:
                        took[what] = now
                time.sleep(0.4)
        for what in groups:
            # A check once a second, and this loop.
            yield Finding(f"closed after, {what}", took.get(what, math.inf), _PATIENCE_OF_SERVER + 2.5 + opening, "s")
        for peer in opened:
            peer.close()
        yield Finding("memory for each", memory / each / len(groups) / 1024, 32, "KiB")
        yield Finding("p99 of an honest answer", member.at(0.99), 100, "ms")
        yield Finding("files left open", target.files_above(files), 0, "")
        yield from quiet(target)
