"""Peers that do not read."""

from __future__ import annotations

import math
import re
import select
import signal
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

import trustme

from hostile.finding import MIB, Finding, at, quiet
from hostile.target import ANY, Serving, Target, beside, connect, flood, honest_client, many, refuses, until


class _ChatResult(NamedTuple):
    """The result of a chat in which some members never read.

    :ivar lost: lines that one of the other members did not receive.
    :ivar trips: seconds from sending to receiving.
    :ivar peak: additional bytes of memory.
    :ivar sent: lines that had been sent when the last member that never reads was disconnected.
    :ivar disconnected_after: seconds until then.
    :ivar disconnects: members that were disconnected.
    """

    lost: int
    trips: list[float]
    peak: float
    sent: int
    disconnected_after: float
    disconnects: float


LINE = 256


def _chat(target: Target, stuck: int, others: int, rate: int, seconds: float) -> _ChatResult:
    """Connect ``stuck`` members that never read and ``others`` that do. The others send ``rate`` lines per second."""
    with many() as opened:
        for number in range(stuck + others):
            opened.append(connect(target.ports[-1], number, buffer=4096 if number < stuck else 0))
        poll = select.epoll()
        readers = opened[stuck:]
        for reader in readers:
            reader.setblocking(False)
            poll.register(reader.fileno(), select.EPOLLIN)
        by_number = {reader.fileno(): reader for reader in readers}
        received, sent = dict.fromkeys(by_number, 0), dict.fromkeys(by_number, 0)
        trips: list[float] = []

        def receive(until: float) -> None:
            while (left := until - time.perf_counter()) > 0:
                for number, _ in poll.poll(left):
                    data = by_number[number].recv(1 << 20)
                    received[number] += data.count(b"@")
                    for mark in data.split(b"@")[1:]:
                        if len(mark) > 20:
                            trips.append(time.perf_counter() - float(mark[:20]))

        receive(time.perf_counter() + 1)
        before, peak, said, sent_at_disconnect, disconnected_after = target.memory(), 0.0, 0, 0, 0.0
        began = looked = time.perf_counter()
        while (now := time.perf_counter()) < began + seconds:
            while said < (now - began) * rate:
                speaker = readers[said % len(readers)]
                speaker.send((b"@%020.9f" % time.perf_counter()).ljust(LINE - 1, b"x") + b"\n")
                sent[speaker.fileno()] += 1
                said += 1
            receive(now + 0.002)
            if now - looked > 0.1:
                looked = now
                peak = max(peak, target.memory() - before)
                if not sent_at_disconnect and target.disconnects() >= stuck:
                    sent_at_disconnect, disconnected_after = said, now - began
        receive(time.perf_counter() + 1)
        lost = sum(said - sent[number] - count for number, count in received.items())
        return _ChatResult(
            lost, trips, peak, sent_at_disconnect or said, disconnected_after or math.inf, target.disconnects()
        )


def stuck_member(serving: Serving, seconds: float) -> Iterator[Finding]:
    """100 members, one of which never reads, and 1,000 lines per second of 256 bytes."""
    with serving("--chat", ANY, "--chat-rate", 100, "--chat-burst", 1000) as target:
        talk = _chat(target, 1, 99, 1_000, seconds)
        yield Finding("lines that the others lost", talk.lost, 0, "")
        yield Finding("p99 of a delivery", at(0.99, talk.trips), 50, "ms")
        yield Finding("more memory", talk.peak / MIB, 8, "MiB")
        # The queue of 256 KiB, the kernel's buffer, and what is sent within a second.
        yield Finding("sent to the stuck member until its disconnect", talk.sent * LINE / 1024, 256 + 132 + 250, "KiB")
        yield Finding("others that were disconnected", talk.disconnects - 1, 0, "")
        yield from quiet(target)


def stuck_readers(serving: Serving, seconds: float) -> Iterator[Finding]:
    """500 members that never read, 10 others, and 300 lines per second."""
    with serving("--chat", ANY, "--chat-rate", 100, "--chat-burst", 1000) as target:
        talk = _chat(target, 500, 10, 300, 15)
        yield Finding("lines that the others lost", talk.lost, 0, "")
        yield Finding("p99 of a delivery", at(0.99, talk.trips), 50, "ms")
        yield Finding("more memory", talk.peak / MIB, 160, "MiB")
        yield Finding("all are disconnected after", talk.disconnected_after, 15, "s")
        yield Finding("others that were disconnected", talk.disconnects - 500, 0, "")
        yield from quiet(target)


def stuck_echoes(serving: Serving, seconds: float) -> Iterator[Finding]:
    """500 echo peers that send as much as they can, and never read."""
    with serving("--tcp", ANY) as target, many() as opened:
        before = peak = target.memory()
        with honest_client(target.ports[0]) as honest:
            for number in range(500):
                opened.append(connect(target.ports[0], number))
                opened[-1].setblocking(False)
            began = time.monotonic()
            left = set(opened)
            while left and time.monotonic() - began < 20:
                for peer in tuple(left):
                    try:
                        peer.send(bytes(65_536))
                    except BlockingIOError:
                        pass
                    except OSError:
                        left.discard(peer)
                peak = max(peak, target.memory())
                time.sleep(0.05)
            took = time.monotonic() - began
        yield Finding("more memory", (peak - before) / MIB, 160, "MiB")
        yield Finding("all are disconnected after", took if not left else math.inf, 15, "s")
        # In each reactor iteration, 64 KiB of each of 500 peers are read and echoed. That takes a while.
        yield Finding("p99 of an honest echo", honest.at(0.99), 250, "ms")
        yield from quiet(target)


def endless_characters(serving: Serving, seconds: float) -> Iterator[Finding]:
    """300 peers that read the characters of --chargen as fast as they can, and 200 that never read."""
    with serving("--tcp", ANY, "--chargen", ANY) as target, many() as opened:
        echo, chargen = target.ports
        before = peak = target.memory()
        for number in range(200):
            opened.append(connect(chargen, number))
        target.longest_gap()
        with honest_client(echo) as honest, beside(_read_all, chargen, 300):
            end = time.monotonic() + max(seconds, 15)
            while time.monotonic() < end:
                peak = max(peak, target.memory())
                time.sleep(0.1)
            gap = target.longest_gap()
        yield Finding("more memory", (peak - before) / MIB, 16, "MiB")
        yield Finding("p99 of an honest echo", honest.at(0.99), 50, "ms")
        yield Finding("longest gap of a 10 ms timer", gap, 200, "ms")
        yield Finding("not disconnected, of those that never read", 200 - target.disconnects(), 0, "")
        yield from quiet(target)


def _read_all(port: int, count: int) -> None:
    """Read from ``count`` connections for ever."""
    with many() as opened:
        poll = select.epoll()
        by_number = {}
        for number in range(count):
            opened.append(connect(port, 1000 + number))
            by_number[opened[-1].fileno()] = opened[-1]
            poll.register(opened[-1].fileno(), select.EPOLLIN)
        while True:
            for number, _ in poll.poll():
                by_number[number].recv(65_536)


def kernel_memory(serving: Serving, seconds: float) -> Iterator[Finding]:
    """64 echo peers of one host that never read: 32 send as fast as they can, 32 send little."""
    with serving("--tcp", ANY) as target, many() as opened, honest_client(target.ports[0]) as honest:
        before = peak = target.memory() + target.kernel_memory()
        for number in range(64):
            opened.append(connect(target.ports[0], 1, buffer=0 if number < 32 else 4096))
            opened[-1].setblocking(False)
        began = looked = time.monotonic()
        left, budget = set(opened), dict.fromkeys(opened[32:], 96 * 1024)
        while left and (now := time.monotonic()) < began + 80:
            for peer in tuple(left):
                try:
                    sent = peer.send(bytes(min(65_536, budget.get(peer, 65_536))))
                    if peer in budget:
                        budget[peer] -= sent
                except BlockingIOError:
                    pass
                except OSError:
                    left.discard(peer)
            if now - looked > 0.2:
                looked = now
                peak = max(peak, target.memory() + target.kernel_memory())
            time.sleep(0.02)
        took = time.monotonic() - began
        disconnects = target.disconnects()
    yield Finding("more memory, that of the kernel included", (peak - before) / MIB, 24, "MiB")
    yield Finding("all are disconnected after", took if not left else math.inf, 75, "s")
    yield Finding("not counted", 64 - disconnects, 0, "")
    yield Finding("p99 of an honest echo", honest.at(0.99), 250, "ms")


def stop_under_load(serving: Serving, seconds: float) -> Iterator[Finding]:
    """SIGTERM while ten clients flood the chat and an echo peer does not read; and a second SIGTERM."""
    with serving("--tcp", ANY, "--chat", ANY) as target, many() as opened, ExitStack() as stack:
        echo, chat = target.ports
        _stick(opened, echo)
        readers = [connect(echo, 1 + number) for number in range(50)]
        opened.extend(readers)
        stack.enter_context(beside(flood, [chat], 10, b"hello\n" * 10_000))
        time.sleep(1)
        for reader in readers:
            reader.sendall(b"z" * 20_000)
        firsts = [reader.recv(1) for reader in readers]  # so that everything is accepted or on its way
        began = time.monotonic()
        target.signal(signal.SIGTERM)
        whole = 0
        for reader, first in zip(readers, firsts, strict=True):
            got = len(first)
            with suppress(ConnectionResetError):
                while data := reader.recv(65_536):
                    got += len(data)
            whole += got == 20_000
            reader.close()
        yield Finding("readers that lost something, of 50", 50 - whole, 0, "")
        yield Finding("exit status", abs(target.ended(20)), 0, "")
        yield Finding("stopped after", time.monotonic() - began, 10, "s")
        yield from quiet(target)
    with serving("--tcp", ANY, "--drain-timeout", 0, "--stall-timeout", 0) as target, many() as opened:
        _stick(opened, target.ports[0])
        target.signal(signal.SIGTERM)
        until(lambda: refuses(target.ports[0]), "the server does not stop at SIGTERM")
        began = time.monotonic()
        target.signal(signal.SIGTERM)
        target.ended(20)
        yield Finding("ended by a second SIGTERM after", time.monotonic() - began, 1, "s")


def stop_with_lines(serving: Serving, seconds: float) -> Iterator[Finding]:
    """SIGTERM while 4 chat members have just sent up to 2,000 lines each, over TCP and TLS, to 20 listeners."""
    counts = (30, 60, 200, 2_000)
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem.name)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # any certificate
        for name, flags in (("TCP", ()), ("TLS", ("--tls-cert", pem.name))):
            with serving("--chat", ANY, *flags) as target, many() as opened:
                for number in range(20 + len(counts)):
                    opened.append(connect(target.ports[0], number))
                    if flags:
                        opened[-1] = context.wrap_socket(opened[-1])
                    opened[-1].recv(10_000)
                listeners, speakers = opened[:20], opened[20:]
                for count, speaker in zip(counts, speakers, strict=True):
                    speaker.sendall(b"".join(b"%d of %d\n" % (number, count) for number in range(count)))
                began = time.monotonic()
                target.signal(signal.SIGTERM)
                wrong = 0
                for listener in listeners:
                    heard = b""
                    with suppress(OSError):
                        while piece := listener.recv(100_000):
                            heard += piece
                    for count in counts:
                        numbers = [int(number) for number in re.findall(rb"> (\d+) of %d\n" % count, heard)]
                        wrong += numbers != list(range(count))
                for peer in opened:
                    peer.close()
                status = target.ended(20)
                yield Finding(f"blocks of lines that did not arrive as they were sent, of 80, {name}", wrong, 0, "")
                yield Finding(f"stopped after, {name}", time.monotonic() - began if status == 0 else math.inf, 5, "s")
                yield from quiet(target)


def _stick(opened: list[socket.socket], port: int) -> None:
    """Connect an echo peer that sends as much as it can and never reads."""
    opened.append(connect(port, 0, buffer=4096))
    opened[-1].setblocking(False)
    with suppress(BlockingIOError):
        while True:
            opened[-1].send(bytes(65_536))
