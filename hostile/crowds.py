"""A lobby with 2,000 members, and hosts that abuse it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection

from hostile.finding import Finding, quiet
from hostile.target import ANY, PATIENCE, Serving, beside, connect, many

MEMBERS = 2_000

#: The numbers of the attacking hosts. Members of the lobby have smaller ones.
_ATTACKER = 10_000


def crowded_lobby(serving: Serving, seconds: float) -> Iterator[Finding]:
    """A lobby of 2,000: one host talks at its full rate, 20 hosts connect and leave, one host asks who is there."""
    with serving("--chat", ANY) as target, _lobby(target.ports[0]):
        port = target.ports[0]
        for what, attack in (("talking", _talk), ("connecting", _connect_and_leave), ("asking", _ask_who)):
            with beside(attack, port), _two_in_a_room(port) as trips:
                time.sleep(1)
                target.busiest_gap()  # each report begins it anew
                time.sleep(seconds)
                gap = target.busiest_gap()
            # An iteration begins at most 10 ms after the last call of the timer, and ends before the next one.
            yield Finding(f"longest iteration of the reactor, {what}", gap - 10, 30, "ms")
            yield Finding(f"longest delivery in another room, {what}", max(trips, default=PATIENCE), 1, "s")
        yield from quiet(target)


@contextmanager
def _lobby(port: int) -> Iterator[None]:
    """Keep 2,000 members in the lobby, in a process of its own that reads what they are sent."""
    ours, its = Pipe()
    process = Process(target=_sit, args=(port, its), daemon=True)
    process.start()
    try:
        ours.recv()
        yield
    finally:
        process.kill()
        process.join()


def _sit(port: int, ready: Connection) -> None:
    with many() as opened:
        poll = select.epoll()
        by_number: dict[int, socket.socket] = {}

        def read(wait: float) -> None:
            for number, _ in poll.poll(wait):
                if not by_number[number].recv(1 << 20):
                    poll.unregister(number)

        for number in range(MEMBERS):
            opened.append(connect(port, number))
            by_number[opened[-1].fileno()] = opened[-1]
            poll.register(opened[-1].fileno(), select.EPOLLIN)
            read(0)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            read(0.1)
        ready.send(None)
        while True:
            read(1.0)


def _talk(port: int) -> None:
    """64 members of one host say as much as the server reads."""
    _send_from_one_host(port, b"x" * 80 + b"\n")


def _ask_who(port: int) -> None:
    """64 members of one host ask who is there."""
    _send_from_one_host(port, b"/who\n/rooms\n")


def _send_from_one_host(port: int, data: bytes) -> None:
    with many() as opened:
        poll = select.epoll()
        by_number: dict[int, socket.socket] = {}
        for _ in range(64):
            opened.append(connect(port, _ATTACKER))
            opened[-1].setblocking(False)
            by_number[opened[-1].fileno()] = opened[-1]
            poll.register(opened[-1].fileno(), select.EPOLLIN | select.EPOLLOUT)
        while True:
            for number, events in poll.poll():
                with suppress(OSError):
                    if events & select.EPOLLIN and not by_number[number].recv(1 << 20):
                        poll.unregister(number)
                    elif events & select.EPOLLOUT:
                        by_number[number].send(data)
            time.sleep(0.001)


def _connect_and_leave(port: int) -> None:
    """20 hosts connect, say something, and leave, again and again."""
    number = 0
    while True:
        number += 1
        with suppress(OSError), connect(port, _ATTACKER + number % 20) as member:
            member.sendall(b"hello\n")
            member.recv(100)


@contextmanager
def _two_in_a_room(port: int) -> Iterator[list[float]]:
    """Let two members talk in a room of their own, in a process of its own.

    Gives a list. At the end of the block it has the time that each delivery took, in seconds.
    """
    ours, its = Pipe()
    process = Process(target=_converse, args=(port, its), daemon=True)
    process.start()
    trips: list[float] = []
    try:
        ours.recv()
        yield trips
        ours.send(None)
        if ours.poll(PATIENCE):
            trips.extend(ours.recv())
    finally:
        process.kill()
        process.join()


def _converse(port: int, asked: Connection) -> None:
    with connect(port, _ATTACKER + 100) as ann, connect(port, _ATTACKER + 101) as bob:
        for member in (ann, bob):
            member.sendall(b"/join #elsewhere\n")
        time.sleep(0.5)
        for member in (ann, bob):
            member.recv(1 << 16)
        trips = []
        asked.send(None)
        while not asked.poll():
            began = time.perf_counter()
            ann.sendall(b"~~~\n")
            while b"~~~" not in bob.recv(1 << 16):
                pass
            trips.append(time.perf_counter() - began)
            time.sleep(0.25)  # below the rate of a member
        asked.send(trips)
