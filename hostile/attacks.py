"""The attacks. Each runs a server, attacks it, and says what came of it, beside the bound that is to hold."""

from __future__ import annotations

import random
import select
import signal
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import trustme

from hostile.target import HOST, Target, beside, closed, connect, honest_client, memory_of, serving, warm

MIB = 1024 * 1024
ANY = f"{HOST}:0"


class Finding(NamedTuple):
    """One figure of an attack.

    :ivar most: what it may be at most.
    """

    what: str
    figure: float
    most: float
    unit: str

    @property
    def holds(self) -> bool:
        return self.figure <= self.most


def _quiet(target: Target) -> Iterator[Finding]:
    yield Finding("tracebacks in the log", target.lines("Traceback"), 0, "")


@contextmanager
def _many() -> Iterator[list[socket.socket]]:
    """Give a list of sockets, which are closed at the end of the block."""
    opened: list[socket.socket] = []
    try:
        yield opened
    finally:
        for one in opened:
            one.close()


def stuck_member(reactor: str, seconds: float) -> Iterator[Finding]:
    """100 members, of whom one never reads, and 1,000 lines a second of 256 bytes."""
    members, size = 100, 256
    with serving(reactor, "--chat", ANY, "--chat-rate", 100, "--chat-burst", 1000) as target, _many() as opened:
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
            if not cut_after and target.lines("cut "):
                cut_after = now - began
            if said % 100 == 0:
                peak = max(peak, target.memory() - before)
        listen(time.perf_counter() + 1)
        lost = sum(said - sent_by[number] - count for number, count in heard.items())
        trips.sort()
        yield Finding("lines that the others lost", lost, 0, "")
        yield Finding("p99 of a delivery", trips[int(len(trips) * 0.99)] * 1000, 50, "ms")
        yield Finding("more memory", peak / MIB, 8, "MiB")
        # 256 KiB for it, 64 KiB twice in the kernel: full after 0.4 KiB a line, at 1,000 a second, within 2 s.
        yield Finding("the stuck one is cut after", cut_after or seconds, 3, "s")
        yield Finding("others that were cut", target.lines("cut ") - 1, 0, "")
        yield from _quiet(target)
        victim.close()


def stuck_readers(reactor: str, seconds: float) -> Iterator[Finding]:
    """500 echo peers that send as much as they can, and never read."""
    with serving(reactor, "--tcp", ANY) as target, _many() as opened:
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
        yield from _quiet(target)


def file_limit(reactor: str, seconds: float) -> Iterator[Finding]:
    """2,000 connections at a limit of 256 files."""
    with serving(reactor, "--tcp", ANY, files=256) as target, _many() as opened:
        began = time.monotonic()
        with honest_client(target.ports[0]) as honest:
            for number in range(2_000):
                opened.append(connect(target.ports[0], number))
            time.sleep(2)
            for peer in opened:
                peer.close()
            opened.clear()
            freed = time.monotonic()
            while True:
                with connect(target.ports[0], 50_000) as late:
                    late.sendall(b"x")
                    with suppress(ConnectionResetError):
                        if late.recv(1) == b"x":
                            break
                time.sleep(0.01)
            normal = time.monotonic() - freed
        took = time.monotonic() - began
        yield Finding("p99 of an honest echo", honest.at(0.99), 20, "ms")
        yield Finding("lines about it a second", target.lines("refused|EMFILE|reserv") / took, 1, "")
        yield Finding("back to normal after", normal, 1, "s")
        yield from _quiet(target)


def _flood(port: int, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
        datagram = bytes(size)
        while True:
            with suppress(OSError):
                flooder.sendto(datagram, (HOST, port))


def udp_flood(reactor: str, seconds: float) -> Iterator[Finding]:
    """2 processes that flood the UDP port with datagrams of 0, 1 and 1,400 bytes."""
    with serving(reactor, "--tcp", ANY, "--udp", ANY) as target:
        for size in (0, 1, 1_400):
            with ExitStack() as stack:
                for _ in range(2):
                    stack.enter_context(beside(_flood, target.ports[1], size))
                with honest_client(target.ports[0]) as honest:
                    time.sleep(seconds / 3)
            yield Finding(f"p99 of an honest echo, {size:,} bytes", honest.at(0.99), 50, "ms")
        yield from _quiet(target)


def _shout(port: int, number: int, data: bytes) -> None:
    with connect(port, number) as peer:
        peer.settimeout(None)
        with suppress(OSError):
            while True:
                peer.sendall(data)


def line_flood(reactor: str, seconds: float) -> Iterator[Finding]:
    """10 clients that send empty lines as fast as they can, to the chat and to acknowledged lines."""
    with (
        serving(reactor, "--tcp", ANY, "--chat", ANY, "--reply", "{message}", "--framing", "line") as target,
        serving(reactor, "--tcp", ANY) as plain,
    ):
        before = target.memory()
        with ExitStack() as stack:
            for number in range(5):
                for port in target.ports:
                    stack.enter_context(beside(_shout, port, number, b"\n" * 65_536))
            with connect(target.ports[0], 400) as member:
                trips = []
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    began = time.perf_counter()
                    member.sendall(b"hello\n")
                    member.recv(100)
                    trips.append(time.perf_counter() - began)
                    time.sleep(0.005)
            memory = target.memory() - before
        trips.sort()
        del plain
        yield Finding("p99 of an honest answer", trips[int(len(trips) * 0.99)] * 1000, 50, "ms")
        yield Finding("more memory", memory / MIB, 8, "MiB")
        yield from _quiet(target)


def endless_line(reactor: str, seconds: float) -> Iterator[Finding]:
    """1 GiB without a line end."""
    with serving(reactor, "--chat", ANY, "--line-timeout", 0) as target, connect(target.ports[0]) as peer:
        before = 0
        for sent in range(1024):
            if sent == 16:  # by then there are buffers for reading
                before = target.memory()
            peer.sendall(b"x" * MIB)
        # What it holds is a line of 1,024 bytes at the most (tests/test_framing.py); the rest is the allocator's.
        yield Finding("more memory", (target.memory() - before) / MIB, 2, "MiB")
        yield from _quiet(target)


def spoofed_sources(reactor: str, seconds: float) -> Iterator[Finding]:
    """1,000,000 forged sources, of the guard itself: nobody forges so many addresses on loopback."""
    from netsvc.bucket import SourceBuckets
    from netsvc.guard import Guard

    guard = Guard(SourceBuckets())
    numbers = random.Random(1).sample(range(1 << 24, 1 << 32), 1_000_000)
    hosts = [f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in numbers]
    before = memory_of("self")
    began = time.process_time()
    for number, host in enumerate(hosts):
        guard.refusal(b"x", host, 40_000, 520, number / 100_000)
    took = time.process_time() - began
    memory = memory_of("self") - before
    answered = sum(guard.refusal(b"x", "192.0.2.1", 40_000, 520, 11 + second) is None for second in range(60))
    yield Finding("more memory", memory / MIB, 4, "MiB")
    yield Finding("each", took, 3, "us")
    yield Finding("questions of an honest client that are not answered, of 60", 60 - answered, 0, "")


def silent_handshakes(reactor: str, seconds: float) -> Iterator[Finding]:
    """1,000 TLS clients that stop after their ClientHello."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem, _many() as opened:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem.name)
        # An endpoint description speaks for itself: it stays in the clear.
        flags = ("--chat", ANY, "--tls-cert", pem.name, "--tcp", f"tcp:0:interface={HOST}")
        with serving(reactor, *flags) as target:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                hello = outgoing.read()
            secured = next(port for port in target.ports if _speaks_tls(port))
            plain = next(port for port in target.ports if port != secured)
            warm(plain)
            files = target.files()
            with honest_client(plain) as honest:
                began = time.monotonic()
                for number in range(1_000):
                    opened.append(connect(secured, number))
                    opened[-1].sendall(hello)
                opening = time.monotonic() - began
                took = closed(opened, 20)
            yield Finding("all are gone after", took, 10.5 + opening, "s")
            yield Finding("p99 of an honest echo", honest.at(0.99), 50, "ms")
            yield Finding("files left open", target.files_above(files), 0, "")
            yield from _quiet(target)


def _speaks_tls(port: int) -> bool:
    with connect(port, 1_999) as probe:
        probe.sendall(b"hello\n")
        try:
            return probe.recv(100) not in (b"hello\n",)
        except ConnectionResetError:
            return True


def late_peers(reactor: str, seconds: float) -> Iterator[Finding]:
    """Peers that trickle, that are silent, that reset in mid-write and that half-close."""
    deadlines = ("--line-timeout", 3, "--idle-timeout", 3, "--chat-idle-timeout", 3)
    with serving(reactor, "--tcp", ANY, "--chat", ANY, *deadlines) as target, _many() as opened:
        echo, chat = target.ports
        warm(echo)
        time.sleep(0.5)
        files, before = target.files(), target.memory()
        for number in range(100):
            opened.append(connect(echo if number % 2 else chat, number))
        trickling = [connect(chat, 200 + number) for number in range(100)]
        opened.extend(trickling)
        began = time.monotonic()
        while time.monotonic() - began < 2.5:
            for peer in trickling:
                peer.send(b"x")
            time.sleep(0.5)
        for peer in opened:
            peer.settimeout(10)
        for peer in opened:
            with suppress(ConnectionResetError):
                while peer.recv(65_536):
                    pass
        yield Finding("silent and trickling peers are gone after", time.monotonic() - began, 6, "s")
        for number in range(1_000):
            with connect(echo if number % 2 else chat, number) as peer:
                peer.sendall(b"x" * 10_000)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        halves = 0
        for number in range(200):
            with connect(echo, number) as peer:
                peer.sendall(b"y" * 10_000)
                peer.shutdown(socket.SHUT_WR)
                got = 0
                while data := peer.recv(65_536):
                    got += len(data)
                halves += got == 10_000
        for peer in opened:
            peer.close()
        yield Finding("echoes lost in half-closes, of 200", 200 - halves, 0, "")
        yield Finding("files left open", target.files_above(files), 0, "")
        yield Finding("more memory", (target.memory() - before) / MIB, 4, "MiB")
        yield from _quiet(target)


def stop_under_load(reactor: str, seconds: float) -> Iterator[Finding]:
    """SIGTERM under load, with a reader that is stuck."""
    with serving(reactor, "--tcp", ANY, "--chat", ANY) as target, _many() as opened:
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
        yield from _quiet(target)


Attack = Callable[[str, float], Iterator[Finding]]

ATTACKS: dict[str, Attack] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        stuck_member,
        stuck_readers,
        file_limit,
        udp_flood,
        line_flood,
        endless_line,
        spoofed_sources,
        silent_handshakes,
        late_peers,
        stop_under_load,
    )
}
