"""Peers that do not read."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from hostile.finding import MIB, Finding, at, quiet
from hostile.target import ANY, connect, honest_client, many, serving


def stuck_member(reactor: str, seconds: float) -> Iterator[Finding]:
    """100 members, of whom one never reads, and 1,000 lines a second of 256 bytes."""
    members, size = 100, 256
    with serving(reactor, "--chat", ANY, "--chat-rate", 100, "--chat-burst", 1000) as target, many() as opened:
        for number in range(members):
            opened.append(connect(target.ports[0], number, buffer=4096 if number == 0 else 0))
        victim, *readers = opened
        poll = select.epoll()
        for reader in readers:
            reader.setblocking(False)
            poll.register(reader.fileno(), select.EPOLLIN)
        by_number = {reader.fileno(): reader for reader in readers}
        heard = dict.fromkeys(by_number, 0)
        trips: list[float] = []

        def listen(until: float) -> None:
            while (left := until - time.perf_counter()) > 0:
                for number, _ in poll.poll(left):
                    data = by_number[number].recv(1 << 20)
                    heard[number] += data.count(b"@")
                    for mark in data.split(b"@")[1:]:
                        if len(mark) > 20:
                            trips.append(time.perf_counter() - float(mark[:20]))

        listen(time.perf_counter() + 1)
        before, said = target.memory(), 0
        cut_after = peak = 0.0
        began = time.perf_counter()
        sent_by = dict.fromkeys(by_number, 0)
        while (now := time.perf_counter()) < began + seconds:
            while said < (now - began) * 1000:
                speaker = readers[said % len(readers)]
                speaker.send((b"@%020.9f" % time.perf_counter()).ljust(size - 1, b"x") + b"\n")
                sent_by[speaker.fileno()] += 1
                said += 1
            listen(now + 0.002)
            if not cut_after and target.lines(": cut "):
                cut_after = now - began
            if said % 100 == 0:
                peak = max(peak, target.memory() - before)
        listen(time.perf_counter() + 1)
        lost = sum(said - sent_by[number] - count for number, count in heard.items())
        yield Finding("lines that the others lost", lost, 0, "")
        yield Finding("p99 of a delivery", at(0.99, trips), 50, "ms")
        yield Finding("more memory", peak / MIB, 8, "MiB")
        # 256 KiB for it, 64 KiB twice in the kernel: full after 0.4 KiB a line, at 1,000 a second, within 2 s.
        yield Finding("the stuck one is cut after", cut_after or seconds, 3, "s")
        yield Finding("others that were cut", target.cut() - 1, 0, "")
        yield from quiet(target)
        victim.close()


def stuck_readers(reactor: str, seconds: float) -> Iterator[Finding]:
    """500 echo peers that send as much as they can, and never read."""
    with serving(reactor, "--tcp", ANY) as target, many() as opened:
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
        yield Finding("all are cut after", took if not left else 20 + len(left), 15, "s")
        # Each of 500 has 64 KiB read and echoed in a turn of the reactor: that takes a while, and all go on.
        yield Finding("p99 of an honest echo", honest.at(0.99), 250, "ms")
        yield from quiet(target)


def stop_under_load(reactor: str, seconds: float) -> Iterator[Finding]:
    """SIGTERM under load, with a reader that is stuck."""
    with serving(reactor, "--tcp", ANY, "--chat", ANY) as target, many() as opened:
        echo, _ = target.ports
        stuck = connect(echo, 0, buffer=4096)
        opened.append(stuck)
        stuck.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                stuck.send(bytes(65_536))
        readers = [connect(echo, 1 + number) for number in range(50)]
        opened.extend(readers)
        for reader in readers:
            reader.sendall(b"z" * 20_000)
        firsts = [reader.recv(1) for reader in readers]  # so that all of it is accepted, or on its way
        began = time.monotonic()
        target.process.send_signal(signal.SIGTERM)
        whole = 0
        for reader, first in zip(readers, firsts, strict=True):
            got = len(first)
            with suppress(ConnectionResetError):
                while data := reader.recv(65_536):
                    got += len(data)
            whole += got == 20_000
            reader.close()
        status = target.process.wait(20)
        yield Finding("readers that lost something, of 50", 50 - whole, 0, "")
        yield Finding("exit status", abs(status), 0, "")
        yield Finding("stopped after", time.monotonic() - began, 10, "s")
        yield from quiet(target)
