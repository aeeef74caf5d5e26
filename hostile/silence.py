"""Peers that connect and then send nothing, too little, or too late."""

from __future__ import annotations

import select
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress

import trustme

from hostile.finding import MIB, Finding, at, quiet
from hostile.target import (
    ANY,
    HOST,
    NotPossibleError,
    Serving,
    beside,
    closed,
    connect,
    honest_client,
    loopback,
    many,
    until,
    warm,
)


def file_limit(serving: Serving, seconds: float) -> Iterator[Finding]:
    """2,000 connections at a limit of 256 files."""
    with serving("--tcp", ANY, files=256) as target, many() as opened:
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
        yield Finding("log lines about it per second", target.refusal_lines() / took, 1, "")
        yield Finding("back to normal after", normal, 1, "s")
        yield from quiet(target)


def many_sources(serving: Serving, seconds: float) -> Iterator[Finding]:
    """15 hosts with 64 connections each take all places of 1,024 files, and come back whenever they are closed."""
    with serving("--tcp", ANY, "--chat", ANY, files=1024) as target, many() as opened:
        with beside(_occupy, target.ports[0], 15, 64), connect(target.ports[0], 200) as early:
            until(lambda: target.connections() >= 720, "the attackers get no places")
            unserved = 0
            for number in range(100):
                peer = connect(target.ports[0], 300 + number)
                opened.append(peer)
                unserved += not _echoes(peer)
                time.sleep(seconds / 100)
            lost = not _echoes(early)
            with connect(target.ports[1], 600) as member:
                chat_refused = not member.recv(100).startswith(b"* ")
        yield Finding("new hosts that got no place, of 100", unserved, 0, "")
        yield Finding("connections within their share that were closed", lost, 0, "")
        yield Finding("new chat members that got no place, of 1", chat_refused, 0, "")
        yield from quiet(target)


def _occupy(port: int, hosts: int, each: int) -> None:
    """Keep ``each`` connections of each of ``hosts`` hosts open, for ever: replace those that are closed."""
    poll = select.poll()
    kept: dict[int, tuple[int, socket.socket]] = {}

    def open_one(number: int) -> None:
        peer = connect(port, number)
        kept[peer.fileno()] = number, peer
        poll.register(peer.fileno(), select.POLLIN)

    for number in range(hosts):
        for _ in range(each):
            open_one(number)
    while True:
        for closed_one, _ in poll.poll():
            number, peer = kept.pop(closed_one)
            poll.unregister(closed_one)
            peer.close()
            open_one(number)
            time.sleep(0.001)


def _echoes(peer: socket.socket) -> bool:
    with suppress(OSError):
        peer.sendall(b"x")
        return peer.recv(100) == b"x"
    return False


def silent_scrapers(serving: Serving, seconds: float) -> Iterator[Finding]:
    """A denied address and 8 others keep 16 silent connections each to the port of /readyz, and open them again."""
    flags = ("--tcp", ANY, "--metrics", ANY, "--deny", f"metrics={loopback(0)}")
    with serving(*flags) as target:
        if not target.pages_port:
            raise NotPossibleError("it needs the port of the pages")
        with beside(_occupy, target.pages_port, 9, 16):
            time.sleep(1)
            trips, failed = [], 0
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                began = time.perf_counter()
                with connect(target.pages_port, 500) as probe:
                    answer = b""
                    with suppress(OSError):
                        probe.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                        while data := probe.recv(1000):
                            answer += data
                    failed += not answer.endswith(b"ready\n")
                trips.append(time.perf_counter() - began)
                time.sleep(0.05)
        yield Finding("failed probes of /readyz", failed, 0, "")
        yield Finding("p99 of a probe", at(0.99, trips), 100, "ms")
        yield from quiet(target)


def silent_handshakes(serving: Serving, seconds: float) -> Iterator[Finding]:
    """1,000 TLS clients that stop after their ClientHello."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem, many() as opened:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem.name)
        flags = ("--tcp", ANY, "--chat", f"ssl:0:interface={HOST}:privateKey={pem.name}:certKey={pem.name}")
        with serving(*flags) as target:
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
            yield Finding("all are closed after", took, 10.5 + opening, "s")
            yield Finding("p99 of an honest echo", honest.at(0.99), 50, "ms")
            yield Finding("files left open", target.files_above(files), 0, "")
            yield from quiet(target)


def _speaks_tls(port: int) -> bool:
    with connect(port, 1_999) as probe:
        probe.sendall(b"hello\n")
        try:
            return probe.recv(100) not in (b"hello\n",)
        except ConnectionResetError:
            return True


def late_peers(serving: Serving, seconds: float) -> Iterator[Finding]:
    """Peers that trickle, that are silent, that reset the connection while they send, and that half-close."""
    deadlines = ("--line-timeout", 3, "--idle-timeout", 3, "--chat-idle-timeout", 3)
    with serving("--tcp", ANY, "--chat", ANY, *deadlines) as target, many() as opened:
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
        yield Finding("silent and trickling peers are closed after", time.monotonic() - began, 6, "s")
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
        # Most of it is the rates of 1,000 hosts and networks, of which up to 4,096 each are kept.
        yield Finding("more memory", (target.memory() - before) / MIB, 6, "MiB")
        yield from quiet(target)


def idle_members(serving: Serving, seconds: float) -> Iterator[Finding]:
    """10,000 silent chat members, ten in each room."""
    members = 10_000
    with serving("--chat", ANY, "--chat-idle-timeout", 0) as target, many() as opened:
        before = 0.0
        for number in range(members + 100):
            if number == 100:  # by then it has allocated what it needs once
                before = target.memory()
            opened.append(connect(target.ports[0], number))
            opened[-1].sendall(b"/join #r%d\n" % (number // 10))
            while b" in #r" not in opened[-1].recv(10_000):
                pass
        yield Finding("memory for each", (target.memory() - before) / members / 1024, 6, "KiB")
        yield from quiet(target)


def idle_tls(serving: Serving, seconds: float) -> Iterator[Finding]:
    """2,000 silent TLS clients."""
    clients = 2_000
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem, many() as opened:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem.name)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # any certificate
        with serving("--tcp", ANY, "--tls-cert", pem.name) as target:
            before = 0.0
            for number in range(clients + 100):
                if number == 100:
                    before = target.memory()
                plain = connect(target.ports[0], number)
                opened.append(context.wrap_socket(plain, server_hostname="localhost"))
                opened[-1].sendall(b"x")
                opened[-1].recv(1)
            yield Finding("memory for each", (target.memory() - before) / clients / 1024, 40, "KiB")
            yield from quiet(target)
