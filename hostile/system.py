"""A system that misbehaves: its clock is set, its calls fail, its network carries broadcasts."""

from __future__ import annotations

import ctypes
import math
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hostile.finding import Finding, quiet
from hostile.target import ANY, HOST, PATIENCE, NotPossibleError, Serving, connect, many, until


def clock_forward(serving: Serving, seconds: float) -> Iterator[Finding]:
    """The wall clock is set forward by an hour, while 40 peers are idle and the lines of one wait for their time."""
    yield from _set_clock(serving, ["+3600"])


def clock_back(serving: Serving, seconds: float) -> Iterator[Finding]:
    """The wall clock is set back by an hour, twice. The attack is for netsvc's own reactors."""
    with serving("--tcp", ANY) as target:
        if not target.has_monotonic_timers:
            raise NotPossibleError("the timers of Twisted's own reactors wait until the clock is where it was")
    yield from _set_clock(serving, ["-3600", "-7200"])


def _set_clock(serving: Serving, steps: list[str]) -> Iterator[Finding]:
    with tempfile.NamedTemporaryFile("w", suffix=".time") as offset, many() as opened:
        offset.write("+0")
        offset.flush()
        environment = {
            "LD_PRELOAD": _faketime(),
            "FAKETIME_TIMESTAMP_FILE": offset.name,
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        flags = ("--tcp", ANY, "--chat", ANY, "--chat-rate", 2, "--chat-burst", 1)
        with serving(*flags, environment=environment) as target:
            for number in range(40):
                opened.append(connect(target.ports[number % 2], number))
            speaker, listener = opened[1], opened[3]
            listener.settimeout(5)
            for step in steps:
                offset.seek(0)
                offset.truncate()
                offset.write(f"{step}s")
                offset.flush()
                began = time.monotonic()
                speaker.sendall(b"hello\n" * 4)  # the last of them is due after 2 s
                received = b""
                with suppress(TimeoutError):
                    while received.count(b"> hello") < 4:
                        received += listener.recv(65_536)
                took = time.monotonic() - began if received.count(b"> hello") == 4 else math.inf
                yield Finding(f"four lines at 2 per second, clock at {step} s, take", took, 3, "s")
            yield Finding("peers that were disconnected, of 40", target.disconnects(), 0, "")
            yield from quiet(target)


def _faketime() -> str:
    for path in Path("/usr/lib").glob("*/faketime/libfaketime.so.1"):
        return str(path)
    raise NotPossibleError("it needs libfaketime (apt-get install faketime)")


#: System calls, and the errors with which they fail.
FAILURES = (("recvmmsg", "ENOMEM"), ("recvmmsg", "ENOBUFS"), ("recvmmsg", "EIO"), ("sendmsg", "ENOBUFS"))


def failed_calls(serving: Serving, seconds: float) -> Iterator[Finding]:
    """Receiving and sending datagrams fails for a while (injected by strace)."""
    if shutil.which("strace") is None:
        raise NotPossibleError("it needs strace (apt-get install strace)")
    with serving("--udp", ANY, "--udp-rate", 0) as target, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect((HOST, target.ports[0]))
        for call, error in FAILURES:
            inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={error}"]
            with subprocess.Popen(
                ["strace", "-f", "-qq", *inject, "-p", str(target.pid)], stderr=subprocess.DEVNULL
            ) as tracer:
                until(lambda: not _answers(client), "strace makes no call fail")
                time.sleep(0.5)
                tracer.terminate()
            began = time.monotonic()
            while not _answers(client) and time.monotonic() - began < 5:
                pass
            served_after = time.monotonic() - began
            yield Finding(f"answered again after {call} fails with {error}", served_after, 1, "s")
        yield from quiet(target)


def _answers(client: socket.socket) -> bool:
    """Whether the server answers a datagram. Late answers to earlier ones do not count."""
    question = b"%d" % time.monotonic_ns()
    with suppress(OSError):
        client.send(question)
        while not client.recv(2_000).endswith(question):
            pass
        return True
    return False


def broadcast(serving: Serving, seconds: float) -> Iterator[Finding]:
    """Datagrams to a broadcast and a multicast address, in a network namespace."""
    if os.geteuid() != 0:
        raise NotPossibleError("it needs root, for a network namespace")
    for where in ("0.0.0.0:5200", "[::]:5200"):
        answers: multiprocessing.Queue[tuple[int, int, int]] = multiprocessing.Queue()
        process = multiprocessing.Process(target=_ask_groups, args=(serving, where, answers))
        process.start()
        process.join(PATIENCE)
        process.kill()
        if answers.empty():
            raise NotPossibleError("there is no network namespace")
        to_groups, refused, to_host = answers.get()
        yield Finding(f"answers to datagrams for a group, on {where}", to_groups, 0, "")
        # IPv4 multicast does not reach a socket for both families, but broadcast does.
        yield Finding(f"refusals that were not counted, of 1, on {where}", 1 - min(1, refused), 0, "")
        yield Finding(f"datagrams for the host that were not answered, of 1, on {where}", 1 - to_host, 0, "")


def _ask_groups(serving: Serving, where: str, answers: multiprocessing.Queue[tuple[int, int, int]]) -> None:
    """Enter a network of its own, serve there, and put the numbers of answers and of refused datagrams."""
    if ctypes.CDLL(None).unshare(0x40000000):  # CLONE_NEWNET
        return
    for command in (
        "link set lo up",
        "link set lo multicast on",
        "address add 10.9.0.1/24 broadcast 10.9.0.255 dev lo",
        "route add 224.0.0.0/4 dev lo",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    with serving("--udp", where) as target, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.bind(("10.9.0.1", 0))
        client.settimeout(0.5)
        to_groups = 0
        for group in ("10.9.0.255", "224.0.0.1"):
            client.sendto(b"x", (group, target.ports[0]))
            with suppress(TimeoutError):
                client.recv(100)
                to_groups += 1
        refused = int(target.refused("udp", "sent_to_group"))
        client.sendto(b"x", ("10.9.0.1", target.ports[0]))
        answered = 0
        with suppress(TimeoutError):
            answered = client.recv(100).endswith(b"x")
        answers.put((to_groups, refused, answered))
