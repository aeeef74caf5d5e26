"""Peers that send too much."""

from __future__ import annotations

import random
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

from twisted.internet.task import Clock

from hostile.finding import MIB, Finding, at, quiet
from hostile.target import ANY, HOST, Serving, beside, connect, flood, honest_client, memory_of
from netsvc.net.terms import Terms
from netsvc.timestamp.server import TimestampProtocol
from netsvc.wire.datagram import Datagram


def _flood(port: int, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
        datagram = bytes(size)
        while True:
            with suppress(OSError):
                flooder.sendto(datagram, (HOST, port))


def udp_flood(serving: Serving, seconds: float) -> Iterator[Finding]:
    """2 processes that flood the UDP port with datagrams of 0, 1 and 1,400 bytes."""
    with serving("--tcp", ANY, "--udp", ANY) as target:
        for size in (0, 1, 1_400):
            with ExitStack() as stack:
                for _ in range(2):
                    stack.enter_context(beside(_flood, target.ports[1], size))
                with honest_client(target.ports[0]) as honest:
                    time.sleep(0.2)
                    used, received = target.cpu_time(), target.datagrams()
                    time.sleep(seconds / 3)
                    gap = target.longest_gap()  # first: each report begins it anew
                    each = (target.cpu_time() - used) / max(1, target.datagrams() - received)
            yield Finding(f"p99 of an honest echo, {size:,} bytes", honest.at(0.99), 50, "ms")
            yield Finding(f"longest gap of a 10 ms timer, {size:,} bytes", gap, 50, "ms")
            yield Finding(f"CPU time for each datagram, {size:,} bytes", each * 1e6, 30, "us")
        yield from quiet(target)


def udp_loops(serving: Serving, seconds: float) -> Iterator[Finding]:
    """Forged datagrams from the server itself, from another netsvc, from an echo server and from a classic server."""
    for other in ("itself", "another netsvc", "echo", "a classic server"):
        with (
            serving("--udp", ANY) as target,
            serving("--udp", ANY) as another,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound,
            ExitStack() as stack,
        ):
            bound.bind((HOST, 0))
            if other in ("echo", "a classic server"):
                stack.enter_context(beside(_answer, bound, b"" if other == "echo" else b"[Sat Nov 21 00:33:33 2026] "))
            sources = {"itself": target.ports[0], "another netsvc": another.ports[0]}
            _forge(sources.get(other, bound.getsockname()[1]), target.ports[0])
            time.sleep(1)
            datagrams = target.datagrams() + another.datagrams()
            time.sleep(1)
            later = target.datagrams() + another.datagrams() - datagrams
            yield Finding(f"datagrams with {other}", datagrams, 32, "")
            yield Finding(f"datagrams with {other}, a second later", later, 0, "")
            yield from quiet(target)


def _answer(bound: socket.socket, prefix: bytes) -> None:
    """Answer every datagram with itself and a prefix, for ever."""
    while True:
        datagram, peer = bound.recvfrom(65_536)
        bound.sendto(prefix + datagram, peer)


def _forge(source: int, port: int) -> None:
    """Send a datagram that seems to come from the port ``source`` of the same host."""
    try:
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    except PermissionError:
        raise SystemExit("hostile: this attack needs root or CAP_NET_RAW; name other attacks") from None
    with raw:
        payload = b"boo"
        raw.bind((HOST, 0))
        raw.sendto(struct.pack("!HHHH", source, port, 8 + len(payload), 0) + payload, (HOST, 0))


def _answers(peer: socket.socket, seconds: float) -> list[float]:
    """Send a line again and again for ``seconds``. Return how long each answer took, in seconds."""
    trips = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        peer.sendall(b"hello\n")
        peer.recv(100)
        trips.append(time.perf_counter() - began)
        time.sleep(0.005)
    return trips


def line_flood(serving: Serving, seconds: float) -> Iterator[Finding]:
    """10 clients that send empty lines as fast as they can, to the chat and to acknowledged lines."""
    flags = ("--tcp", ANY, "--chat", ANY, "--reply", "{message}", "--framing", "line")
    with serving(*flags) as target:
        before = target.memory()
        target.longest_gap()
        with beside(flood, target.ports, 5, b"\n" * 65_536), connect(target.ports[0], 400) as member:
            trips = _answers(member, seconds)
            memory = target.memory() - before
            gap = target.longest_gap()
        yield Finding("p99 of an honest answer", at(0.99, trips), 50, "ms")
        yield Finding("longest gap of a 10 ms timer", gap, 50, "ms")
        yield Finding("more memory", memory / MIB, 8, "MiB")
        yield from quiet(target)


def empty_lines(serving: Serving, seconds: float) -> Iterator[Finding]:
    """64 clients of one service that send empty lines as fast as they can."""
    with serving("--tcp", ANY, "--reply", "{message}", "--framing", "line") as target:
        before = target.memory()
        with beside(flood, target.ports, 64, b"\n" * 65_536), connect(target.ports[0], 400) as other:
            time.sleep(1)
            used, answered = target.cpu_time(), target.replies()
            trips = _answers(other, seconds)
            gap, memory = target.longest_gap(), target.memory() - before  # first: each report begins the gap anew
            each = (target.cpu_time() - used) / max(1, target.replies() - answered)
        # A timer of 10 ms is late by at most one iteration.
        yield Finding("longest gap of a 10 ms timer", gap, 10 + 30, "ms")
        yield Finding("CPU time for each line", each * 1e6, 30, "us")
        yield Finding("p99 of an honest answer", at(0.99, trips), 100, "ms")
        yield Finding("more memory", memory / MIB, 24, "MiB")
        yield from quiet(target)


def endless_line(serving: Serving, seconds: float) -> Iterator[Finding]:
    """1 GiB without a line end."""
    flags = ("--tcp", ANY, "--chat", ANY, "--line-timeout", 0)
    with serving(*flags) as target, connect(target.ports[1]) as peer:
        before = 0.0
        target.longest_gap()
        with honest_client(target.ports[0]) as honest:
            for sent in range(1024):
                if sent == 16:  # by then the buffers for reading exist
                    before = target.memory()
                peer.sendall(b"x" * MIB)
        yield Finding("p99 of an honest echo", honest.at(0.99), 50, "ms")
        yield Finding("longest gap of a 10 ms timer", target.longest_gap(), 50, "ms")
        # The framing keeps at most 128 KiB (tests/test_hostile.py). The rest is the memory allocator's.
        yield Finding("more memory", (target.memory() - before) / MIB, 8, "MiB")
        yield from quiet(target)


def spoofed_sources(serving: Serving, seconds: float) -> Iterator[Finding]:
    """1,000,000 forged sources, 100,000 a second, of the protocol itself: loopback has not so many addresses."""
    clock = Clock()
    protocol = TimestampProtocol(Terms.on(clock))
    honest = Datagram(b"x", ("192.0.2.1", 40_000))
    numbers = random.Random(1).sample(range(1 << 24, 1 << 32), 1_000_000)
    hosts = [f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in numbers]
    before = memory_of("self")
    began = time.process_time()
    for number, host in enumerate(hosts):
        clock.rightNow = number / 100_000
        protocol.batch_received([Datagram(b"x", (host, 40_000))])
    took = time.process_time() - began
    memory = memory_of("self") - before
    unanswered = 60
    for second in range(60):
        clock.rightNow = 11.0 + second
        unanswered -= bool(protocol.batch_received([honest]))
    chance, asked, answered = random.Random(2), 0, 0
    for number, host in enumerate(hosts):
        clock.rightNow = 100 + number / 100_000
        if chance.random() < 0.001:
            asked += 1
            answered += bool(protocol.batch_received([honest]))
        protocol.batch_received([Datagram(b"x", (host, 40_000))])
    yield Finding("unanswered second tries at 20,000 per second", _unanswered_second_tries(), 10, "%")
    yield Finding("more memory", memory / MIB, 4, "MiB")
    yield Finding("each", took, 4, "us")
    yield Finding("unanswered requests of an honest client afterwards, of 60", unanswered, 0, "")
    # A tenth of the datagrams is answered. Forged sources cannot be told from new clients.
    yield Finding("unanswered requests of an honest client meanwhile", 100 - answered * 100 / asked, 93, "%")


def _unanswered_second_tries() -> float:
    """Return how many of the second tries of honest clients fail, in percent, at 20,000 forged sources per second."""
    clock = Clock()
    protocol = TimestampProtocol(Terms.on(clock))
    chance = random.Random(3)
    asked = failed = 0
    waiting: list[tuple[float, Datagram]] = []
    for number in range(400_000):
        clock.rightNow = number / 20_000
        n = chance.randrange(1 << 24, 224 << 24)
        forged = f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"
        protocol.batch_received([Datagram(b"x", (forged, 40_000))])
        if number % 400 == 0:
            client = Datagram(b"x", (f"192.0.{number // 400 // 250}.{number // 400 % 250}", 40_000))
            if not protocol.batch_received([client]):
                waiting.append((clock.rightNow + 1, client))
        if waiting and waiting[0][0] <= clock.rightNow:
            asked += 1
            failed += not protocol.batch_received([waiting.pop(0)[1]])
    return 100 * failed / asked
