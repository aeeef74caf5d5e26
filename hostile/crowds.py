"""A lobby with 2,000 members, and hosts that abuse it."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Array, Pipe, Process
from multiprocessing import Event as MakeEvent
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import SynchronizedArray
from multiprocessing.synchronize import Event
from threading import Thread

from hostile.finding import Finding, quiet
from hostile.target import ANY, PATIENCE, Serving, connect, many

MEMBERS = 2_000

#: The numbers of the attacking hosts, and of the two in another room. Members of the lobby have smaller ones.
_ATTACKER = 10_000

#: Lines in the log of the lobby that are 1 KB long. Every other one is of a character that NFKC makes 18 times longer;
#: the others have all words of the search but one.
_LONG_LINES = 10_000
_SLOW_LINE = "\ufdfa".encode() * 330 + b"\n"
_WORDS_LINE = " ".join(map(str, range(100, 345))).encode() + b"\n"
_SEARCH = b"/search 100 200 300 338 339 340 341 absent\n"

#: Members that fill the log, each of a host of its own.
_FILLERS = 100


@dataclass
class Attackers:
    """Attacking members in a process of their own, which notes how many answers each has received.

    :param host: the number of their host. Each attack has hosts of its own: members that leave while lines of theirs
        wait stay for 150 s, and count for their host.
    :ivar answers: for each attacker, how many; -1 if it has ended.
    :ivar ready: set when all are connected.
    """

    count: int
    host: int
    answers: SynchronizedArray[int] = field(init=False)
    ready: Event = field(default_factory=MakeEvent)

    def __post_init__(self) -> None:
        self.answers = Array("l", self.count)

    def ended(self) -> int:
        """Return how many have ended."""
        return sum(answers < 0 for answers in self.answers[:])

    def answered(self) -> int:
        """Return how many answers they have received together."""
        return sum(max(answers, 0) for answers in self.answers[:])


#: Attacks a port with its attackers, until its process is killed.
_Attack = Callable[[int, Attackers], None]


def crowded_lobby(serving: Serving, seconds: float) -> Iterator[Finding]:
    """Hosts abuse a lobby of 2,000 members with 10,000 long lines in its log.

    Members of one host search, talk, ask who is there, or read the log again and again; 20 hosts connect and leave.
    """
    # Joins are entries, too. They must not push the long lines out.
    with serving("--chat", ANY, "--chat-history-max", 2 * _LONG_LINES) as target, ExitStack() as lobby:
        port = target.ports[0]
        _fill_log(port)
        lobby.enter_context(_lobby(port))
        for place, (what, attack, count) in enumerate(
            (
                ("searching", _search, 64),
                ("talking", _talk, 64),
                ("connecting", _connect_and_leave, 20),
                ("asking", _ask_who, 64),
                ("resuming", _resume, 40),
            )
        ):
            attackers = Attackers(count, _ATTACKER + 100 * (1 + place))
            with _attacked(attack, port, attackers) as process, _two_in_a_room(port) as trips:
                attackers.ready.wait(PATIENCE)
                began = time.monotonic()
                time.sleep(1)
                target.busiest_gap()  # each report begins it anew
                time.sleep(seconds)
                while process.is_alive() and not attackers.answered() and time.monotonic() - began < seconds + PATIENCE:
                    time.sleep(0.1)
                gap = target.busiest_gap()
                ended = attackers.ended() if process.is_alive() else math.inf
                answered = _quotient(time.monotonic() - began, attackers.answered())
            # An attack that the server refuses, or that breaks, says nothing about the server.
            yield Finding(f"attackers that ended early, {what}", ended, 0, "")
            yield Finding(f"time for an answer to the attackers, {what}", answered, PATIENCE, "s")
            # An iteration begins at most 10 ms after the last call of the timer, and ends before the next one.
            yield Finding(f"longest iteration of the reactor, {what}", gap - 10, 30, "ms")
            yield Finding(f"longest delivery in another room, {what}", max(trips, default=PATIENCE), 1, "s")
        yield from quiet(target)


def _quotient(seconds: float, answers: int) -> float:
    return seconds / answers if answers else math.inf


@contextmanager
def _attacked(attack: _Attack, port: int, attackers: Attackers) -> Iterator[Process]:
    process = Process(target=attack, args=(port, attackers), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def _fill_log(port: int) -> None:
    """Say the long lines."""
    with many() as opened:
        poll = select.epoll()
        by_number: dict[int, socket.socket] = {}
        for number in range(_FILLERS):
            opened.append(connect(port, number))
            opened[-1].sendall((_SLOW_LINE + _WORDS_LINE) * (_LONG_LINES // _FILLERS // 2) + b"/quit\n")
            by_number[opened[-1].fileno()] = opened[-1]
            poll.register(opened[-1].fileno(), select.EPOLLIN)
        left = set(by_number)
        while left:
            ready = poll.poll(PATIENCE)
            if not ready:
                raise SystemExit("hostile: the log of the lobby cannot be filled")
            for number, _ in ready:
                if not by_number[number].recv(1 << 20):
                    poll.unregister(number)
                    left.discard(number)


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


def _search(port: int, attackers: Attackers) -> None:
    """Members of one host search the long log for eight words, of which the last one is nowhere."""
    _send_from_one_host(port, attackers, _SEARCH, b"nothing was found")


def _talk(port: int, attackers: Attackers) -> None:
    """Members of one host say as much as the server reads."""
    _send_from_one_host(port, attackers, b"x" * 80 + b"\n", b"> x")


def _ask_who(port: int, attackers: Attackers) -> None:
    """Members of one host ask who is there."""
    _send_from_one_host(port, attackers, b"/who\n/rooms\n", b" in #lobby: ")


def _resume(port: int, attackers: Attackers) -> None:
    """Members of one host resume from the beginning of the log, again and again, so that all of it is read."""
    _send_from_one_host(port, attackers, b"", b"& resumed ", resumes=True)


def _send_from_one_host(port: int, attackers: Attackers, data: bytes, answer: bytes, *, resumes: bool = False) -> None:
    """Send from all members what the server reads, and count the answers.

    :param answer: what an answer contains.
    :param resumes: whether to send ``/resume`` for the session of the member, in place of ``data``.
    """
    with many() as opened:
        poll = select.epoll()
        places: dict[int, int] = {}
        requests: list[bytes] = []
        for place in range(attackers.count):
            opened.append(connect(port, attackers.host))
            requests.append(_request_to_resume(opened[-1]) if resumes else data)
            opened[-1].setblocking(False)
            places[opened[-1].fileno()] = place
            poll.register(opened[-1].fileno(), select.EPOLLIN | select.EPOLLOUT)
            time.sleep(0.05)  # the server limits how fast one host connects
        attackers.ready.set()
        while True:
            for number, events in poll.poll():
                place = places[number]
                try:
                    if events & select.EPOLLIN:
                        received = opened[place].recv(1 << 20)
                        if not received:
                            raise ConnectionResetError
                        attackers.answers[place] += received.count(answer)
                    elif events & select.EPOLLOUT:
                        opened[place].send(requests[place])
                except BlockingIOError:
                    pass
                except OSError:
                    poll.unregister(number)
                    attackers.answers[place] = -1
            time.sleep(0.001)


def _request_to_resume(member: socket.socket) -> bytes:
    """Begin a session. Return the line that resumes it from the beginning of the log."""
    member.sendall(b"/positions on\n")
    with member.makefile("rb") as lines:
        told: dict[bytes, list[bytes]] = {}
        while b"room" not in told:
            line = lines.readline()
            if not line:
                raise ConnectionResetError("the server ends a session at once")
            if line.startswith(b"& "):
                _, word, *arguments = line.split()
                told[word] = arguments
    return b"/resume %s %s #lobby %s 0\n" % (told[b"session"][0], told[b"nick"][0], told[b"room"][1])


def _connect_and_leave(port: int, attackers: Attackers) -> None:
    """20 hosts connect, say something, and leave, again and again, all at the same time."""
    threads = [Thread(target=_come_and_go, args=(port, attackers, place)) for place in range(attackers.count)]
    for thread in threads:
        thread.start()
    attackers.ready.set()
    for thread in threads:
        thread.join()


def _come_and_go(port: int, attackers: Attackers, place: int) -> None:
    try:
        while True:
            # The server may refuse a connection: the rate of each host is limited.
            with suppress(OSError), connect(port, attackers.host + place) as member:
                member.sendall(b"hello\n")
                attackers.answers[place] += b"welcome" in member.recv(100)
    finally:
        attackers.answers[place] = -1


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
    with connect(port, _ATTACKER) as ann, connect(port, _ATTACKER + 1) as bob:
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
