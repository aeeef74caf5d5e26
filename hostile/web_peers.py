"""Peers of ``--web``: what they send, a flood of it, and a member that behaves well."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import Event as MakeEvent
from multiprocessing import Process, Value
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event

from hostile.finding import MIB, Finding
from hostile.target import PATIENCE, Honest, Target, connect, honest

#: The codes of frames (RFC 6455, section 5.2).
CONTINUATION, TEXT, CLOSE, PING = 0, 1, 8, 9

#: The number of the host of the well-behaved member. Attackers have smaller ones.
_HONEST = 49_000


def request(path: str = "/", *lines: str) -> bytes:
    """Return a request for a page."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: chat.example", *lines, "", ""]).encode()


def upgrade(*lines: str) -> bytes:
    """Return a request to upgrade to a WebSocket."""
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    return request("/ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key, *lines)


def frame(payload: bytes, opcode: int = TEXT, *, is_last: bool = True, size: int | None = None) -> bytes:
    """Return a frame that is masked with zeros.

    :param size: what its header says; by default the size of the payload.
    """
    size = len(payload) if size is None else size
    if size < 126:
        length = bytes([0x80 | size])
    else:
        length = b"\xfe" + size.to_bytes(2) if size < 1 << 16 else b"\xff" + size.to_bytes(8)
    return bytes([0x80 * is_last | opcode]) + length + bytes(4) + payload


def message(**fields: object) -> bytes:
    """Return a message of JSON in a frame."""
    return frame(json.dumps(fields).encode())


BEGIN = message(type="begin")
JSON_PING = message(type="ping")


def open_socket(port: int, number: int, *, buffer: int = 0) -> socket.socket:
    """Open a WebSocket from the loopback address of ``number``.

    :param buffer: bytes of the receive buffer; 0 leaves it to the kernel.
    """
    opened = connect(port, number, buffer=buffer)
    opened.sendall(upgrade())
    received_until(opened, b"\r\n\r\n")
    return opened


def become_member(port: int, number: int, *, buffer: int = 0) -> socket.socket:
    """Open a WebSocket, and begin a session."""
    member = open_socket(port, number, buffer=buffer)
    member.sendall(BEGIN)
    received_until(member, b'"room"')
    return member


def received_until(peer: socket.socket, end: bytes) -> bytes:
    """Read until ``end`` has been received.

    :raises EOFError: if the server closes before.
    """
    data = b""
    while end not in data:
        piece = peer.recv(65_536)
        if not piece:
            raise EOFError(f"the server closes before it sends {end!r}")
        data += piece
    return data


def close_code(peer: socket.socket) -> int:
    """Read until the server closes. Return the code of its closing frame, or the status of its HTTP answer; else 0."""
    data = b""
    try:
        while piece := peer.recv(65_536):
            data += piece
    except OSError:
        pass
    if data.startswith(b"HTTP/1.1 "):
        return int(data[9:12])
    at = data.rfind(b"\x88")
    return int.from_bytes(data[at + 2 : at + 4]) if at >= 0 else 0


@dataclass
class Flood:
    """Peers that send the same again and again, in a process of their own, as fast as the server reads it.

    One that the server has closed is opened again; there are 100 of these per second.

    :param port: of the server.
    :param host: the number of the first host. Each flood has hosts of its own: the rates of a host last.
    :param opening: what each peer sends first.
    :param data: what it sends then. Each peer has one of these.
    :param peers: how many there are.
    :param per_host: how many of them each host has.
    :param answer: what an answer contains.
    :ivar answers: how many answers they have received.
    :ivar ready: set when all are connected.
    """

    port: int
    host: int
    opening: bytes
    data: Sequence[bytes]
    peers: int = 64
    per_host: int = 8
    answer: bytes = b"\r\n\r\n"
    answers: Synchronized[int] = field(default_factory=lambda: Value("l"))
    ready: Event = field(default_factory=MakeEvent)

    def run(self) -> None:
        """Attack until the process is killed."""
        poll = select.epoll()
        opened: dict[int, tuple[int, socket.socket, memoryview]] = {}

        def open_one(place: int) -> None:
            peer = connect(self.port, self.host + place // self.per_host)
            peer.sendall(self.opening)
            peer.setblocking(False)
            opened[peer.fileno()] = place, peer, memoryview(b"")
            poll.register(peer.fileno(), select.EPOLLIN | select.EPOLLOUT)

        for place in range(self.peers):
            open_one(place)
        self.ready.set()
        closed: list[int] = []
        next_at = 0.0
        while True:
            if closed and time.monotonic() >= next_at:
                next_at = time.monotonic() + 0.01  # a flood of connections is another attack
                open_one(closed.pop(0))
            for number, events in poll.poll(0.01):
                place, peer, rest = opened[number]
                try:
                    if events & select.EPOLLIN:
                        received = peer.recv(1 << 20)
                        if not received:
                            raise ConnectionResetError
                        self.answers.value += received.count(self.answer)
                    elif events & select.EPOLLOUT:
                        rest = rest or memoryview(self.data[place % len(self.data)])
                        opened[number] = place, peer, rest[peer.send(rest) :]
                except BlockingIOError:
                    pass
                except OSError:
                    poll.unregister(number)
                    opened.pop(number)[1].close()
                    closed.append(place)
            time.sleep(0.001)


@contextmanager
def flooded(flood: Flood) -> Iterator[Flood]:
    """Run a flood for the length of a block."""
    process = Process(target=flood.run, daemon=True)
    process.start()
    try:
        if not flood.ready.wait(PATIENCE):
            raise EOFError("the attackers cannot connect")
        yield flood
    finally:
        process.kill()
        process.join()


def effects(target: Target, flood: Flood, seconds: float, what: str, *, cpu: float, memory: float) -> Iterator[Finding]:
    """Run a flood and yield its effects on the server and on a well-behaved member.

    :param what: names the flood.
    :param cpu: the bound on the processor time, in percent.
    :param memory: the bound on the memory, in MiB.
    """
    before = target.memory()
    with honest_member(target.ports[-1]) as member, flooded(flood):
        time.sleep(0.5)
        used, began = target.cpu_time(), time.monotonic()
        target.busiest_gap()  # each report begins it anew
        time.sleep(seconds)
        busy = (target.cpu_time() - used) / (time.monotonic() - began)
        more = target.memory() - before
        gap = target.busiest_gap()
    yield Finding(f"p99 of an honest answer, {what}", member.at(0.99), 100, "ms")
    # An iteration begins at most 10 ms after the last call of the timer, and ends before the next one.
    yield Finding(f"most processor time between two calls of a 10 ms timer, {what}", gap, 10 + 30, "ms")
    yield Finding(f"processor time, {what}", 100 * busy, cpu, "%")
    yield Finding(f"more memory, {what}", more / MIB, memory, "MiB")


def _ask(port: int, asked: Connection) -> None:
    with become_member(port, _HONEST) as member:
        member.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        trips = []
        asked.send(None)
        while not asked.poll():
            began = time.perf_counter()
            member.sendall(JSON_PING)
            received_until(member, b'"pong"')
            trips.append(time.perf_counter() - began)
            time.sleep(0.06)  # below the rate of a member
        asked.send(sorted(trips))


def honest_member(port: int) -> AbstractContextManager[Honest]:
    """Let a member in a process of its own ask for a pong again and again, for the length of a block."""
    return honest(_ask, port)
