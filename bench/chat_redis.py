"""Measure the chat on two nodes with one Redis: ``python -m bench.chat_redis [stores|members|directory]``.

It starts a redis-server of its own (``appendfsync everysec``) and two node processes on loopback. ``stores`` measures
what a line costs in the nodes and in Redis, without members, for several numbers of rooms and rates. ``members`` has 50
TCP members on each node, and measures at the members of the other node. ``directory`` measures joining, leaving and
listing with up to 10,000 nicks and 1,000 rooms on a node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import react

from bench.measure import cpu_seconds, free_port
from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.names import ASCII_NAMES
from netsvc.chat.redis_directory import RedisDirectory
from netsvc.chat.redis_store import RedisStore
from netsvc.chat.store import NewLog, Outcome
from netsvc.net.terms import Terms
from netsvc.server.config import Config
from netsvc.server.redis_chat import redis_chat

ROOMS = (1, 10, 1_000)
RATES = (200, 1_000, 2_000, 5_000)
MEMBERS = 50
RATE = 1_000

_TEXT = "a line of the usual length, about sixty characters in all"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.chat_redis", description="Measure the chat on Redis.")
    parser.add_argument("what", nargs="*", choices=[[], "stores", "members", "directory"], help="(default: all)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measurement (default: 5)")
    parser.add_argument("--reactor", default="uvloop", help="reactor of the nodes (default: uvloop)")
    parser.add_argument("--node", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.node:
        if options.reactor == "uvloop":
            from netsvc.reactor import uvloop as reactor

            reactor.install()
        react(lambda reactor: ensureDeferred(_node(reactor, json.loads(options.node))))
        return
    if shutil.which("redis-server") is None:
        sys.exit("redis-server is not installed")
    what = options.what or ["stores", "members", "directory"]
    if "stores" in what:
        _measure_stores(options.seconds, options.reactor)
    if "members" in what:
        for rooms in (1, 10):
            _measure_members(options.seconds, options.reactor, rooms)
    if "directory" in what:
        with _redis() as (port, _):
            react(lambda reactor: ensureDeferred(_measure_directory(reactor, port)))


# Processes


@contextmanager
def _redis() -> Iterator[tuple[int, int]]:
    """Run a redis-server. Yield its port and its process ID."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        process = subprocess.Popen([*command, "--appendonly", "yes"], stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield port, process.pid
        finally:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"nothing listens on port {port}")


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


# Stores


def _measure_stores(seconds: float, reactor: str) -> None:
    sys.stdout.write("\n| rooms | lines/s wanted | done | Redis, us | both nodes, us | p50, ms | p99, ms |\n")
    sys.stdout.write("|---:|---:|---:|---:|---:|---:|---:|\n")
    for rooms in ROOMS:
        for rate in RATES:
            with _redis() as (port, pid):
                settings = {"port": port, "rooms": rooms, "rate": rate / 2, "seconds": seconds}
                command = [sys.executable, "-m", "bench.chat_redis", "--reactor", reactor, "--node"]
                nodes = [
                    subprocess.Popen([*command, json.dumps(settings)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                    for _ in range(2)
                ]
                for node in nodes:
                    assert node.stdout is not None
                    node.stdout.readline()  # it is ready
                before = cpu_seconds([pid])
                for node in nodes:
                    assert node.stdin is not None
                    node.stdin.write(b"go\n")
                    node.stdin.flush()
                reports = [json.loads(node.communicate(timeout=seconds + 60.0)[0]) for node in nodes]
                redis = cpu_seconds([pid]) - before
            lines = sum(report["lines"] for report in reports)
            delays = [delay for report in reports for delay in report["delays"]]
            done = lines / max(report["took"] for report in reports)
            cpu = sum(report["cpu"] for report in reports)
            per_line = f"{redis / lines * 1e6:.0f} | {cpu / lines * 1e6:.0f}"
            spread = f"{_percentile(delays, 0.5) * 1e3:.1f} | {_percentile(delays, 0.99) * 1e3:.1f}"
            sys.stdout.write(f"| {rooms:,} | {rate:,} | {done:,.0f} | {per_line} | {spread} |\n")
            sys.stdout.flush()


def _parts(reactor: Any, port: int) -> tuple[RedisStore, RedisDirectory]:
    config = Config(chat=["1400"], chat_store=f"redis://127.0.0.1:{port}/0")
    address = config.chat_redis
    assert address is not None
    return redis_chat(Terms.on(reactor), config, ASCII_NAMES, address)


async def _node(reactor: Any, settings: dict[str, Any]) -> None:
    """Append at a rate, and measure how long lines of the other node take."""
    store, _ = _parts(reactor, settings["port"])
    me, delays, open_lines = str(os.getpid()), [], [0]
    idle: list[Deferred[None]] = []

    def deliver(entry: Entry) -> None:
        if entry.nick != me:
            delays.append(time.monotonic() - float(entry.message_id.partition("-")[0]) / 1e6)

    def appended(outcome: Outcome) -> None:
        assert isinstance(outcome, Entry), outcome
        open_lines[0] -= 1
        if not open_lines[0] and idle:
            idle.pop().callback(None)

    store.open(deliver, _ignore)
    rooms = [f"#room{number}" for number in range(settings["rooms"])]
    for begin in range(0, len(rooms), 100):
        await gatherResults([store.subscribe(room) for room in rooms[begin : begin + 100]])
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    began, cpu, lines = time.monotonic(), time.process_time(), 0
    while (passed := time.monotonic() - began) < settings["seconds"]:
        while lines < passed * settings["rate"]:
            lines += 1
            now = time.monotonic()
            text = f"{int(now * 1e6)}-{lines}"
            open_lines[0] += 1
            store.append(Draft(random.choice(rooms), EntryKind.SAID, me, _TEXT, now, me, text), appended)
        tick: Deferred[None] = Deferred()
        reactor.callLater(max(0.002, 1 / settings["rate"]), tick.callback, None)  # it costs as much as a line
        await tick
    if open_lines[0]:
        idle.append(Deferred())
        await idle[0]
    report = {"lines": lines, "took": time.monotonic() - began, "cpu": time.process_time() - cpu, "delays": delays}
    await store.close()
    sys.stdout.write(json.dumps(report))


def _ignore(_event: Entry | NewLog) -> None:
    """Do nothing with an event."""


# Members


def _measure_members(seconds: float, reactor: str, rooms: int) -> None:
    with _redis() as (port, redis):
        ports = [free_port(), free_port()]
        nodes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "twisted", f"--reactor={reactor}", "netsvc", "--chat", f"127.0.0.1:{each}"),
                    *("--chat-store", f"redis://127.0.0.1:{port}/0", "--chat-rate", "0", "--chat-burst", "0"),
                    *("--chat-total", "0", "--max-per-host", "0", "--max-per-network", "0", "--connect-rate", "0"),
                    *("--chat-rooms-per-host", "0"),
                ],
                stdout=subprocess.DEVNULL,
            )
            for each in ports
        ]
        try:
            for each in ports:
                _wait_for(each)
            delays, took, cpu = asyncio.run(_talk(ports, rooms, seconds, [redis, *(node.pid for node in nodes)]))
        finally:
            for node in nodes:
                node.kill()
                node.wait()
    shares = ", ".join(f"{name} {used / took:.2f}" for name, used in zip(("Redis", "nodes", "and"), cpu, strict=True))
    sys.stdout.write(
        f"\n{MEMBERS} members on each node, {rooms} rooms, {RATE:,} lines/s: p50 {_percentile(delays, 0.5) * 1e3:.1f}, "
        f"p99 {_percentile(delays, 0.99) * 1e3:.1f} ms at the members of the other node; cores: {shares}\n"
    )


class _Talker(asyncio.Protocol):
    """The connection of a member.

    :param mark: what precedes the time in the lines of the other node; empty if the member does not measure.
    """

    transport: Any

    def __init__(self, mark: bytes, delays: list[float]) -> None:
        self._mark = mark
        self._delays = delays
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._mark:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        now = time.monotonic()
        for line in lines:
            begin = line.find(self._mark)
            if begin >= 0:
                self._delays.append(now - int(line[begin + len(self._mark) :].split()[0]) / 1e6)


async def _talk(
    ports: Sequence[int], rooms: int, seconds: float, pids: Sequence[int]
) -> tuple[list[float], float, list[float]]:
    """Let members of both nodes talk. Return the delays, the length, and the processor time of the processes."""
    delays: list[float] = []
    members: list[_Talker] = []
    for number in range(2 * MEMBERS):
        # One in ten measures. The others would take more time than the nodes do.
        mark = f"> {1 - number % 2} ".encode() if number % 20 < 2 else b""
        _, member = await asyncio.get_running_loop().create_connection(
            partial(_Talker, mark, delays), "127.0.0.1", ports[number % 2]
        )
        member.transport.write(f"/join #room{number // 2 % rooms}\n".encode())
        members.append(member)
    await asyncio.sleep(2.0)
    delays.clear()
    before, began, lines = [cpu_seconds([pid]) for pid in pids], time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while lines < passed * RATE:
            number = lines % len(members)
            lines += 1
            members[number].transport.write(f"{number % 2} {int(time.monotonic() * 1e6)} {_TEXT}\n".encode())
        await asyncio.sleep(0.001)
    took = time.monotonic() - began
    used = [cpu_seconds([pid]) - earlier for pid, earlier in zip(pids, before, strict=True)]
    await asyncio.sleep(0.5)
    for member in members:
        member.transport.close()
    return delays, took, used


# The directory


class _NoMembers:
    """Members that are told nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


async def _measure_directory(reactor: Any, port: int) -> None:
    store, directory = _parts(reactor, port)
    store.open(_ignore, _ignore)
    directory.open(_NoMembers())
    sys.stdout.write("\n| nicks | rooms | enter, us | nick, us | join and leave, us | /who, us | /rooms, us |\n")
    sys.stdout.write("|---:|---:|---:|---:|---:|---:|---:|\n")
    entered = 0
    for nicks, rooms in ((100, 10), (1_000, 100), (10_000, 1_000)):
        while entered < nicks:
            await directory.enter(f"author{entered}")
            directory.join(f"author{entered}", f"#room{entered % rooms}", is_announced=True)
            entered += 1
        figures = await _directory_figures(directory, rooms)
        sys.stdout.write(f"| {nicks:,} | {rooms:,} | {' | '.join(f'{figure:.0f}' for figure in figures)} |\n")
        sys.stdout.flush()
    await directory.close()
    await store.close()


async def _directory_figures(directory: RedisDirectory, rooms: int) -> list[float]:
    figures = [
        await _time(200, lambda number: directory.enter(f"more{number}")),
        await _time(200, lambda number: directory.claim(f"more{number}", f"nick{number}")),
        await _time(200, lambda number: _join_and_leave(directory, f"more{number}", number % rooms)),
        await _time(200, lambda number: directory.members(f"#room{number % rooms}", 266)),
        await _time(200, lambda _: directory.rooms(100)),
    ]
    for number in range(200):
        directory.leave(f"more{number}")
    return figures


async def _join_and_leave(directory: RedisDirectory, author: str, room: int) -> None:
    directory.join(author, f"#room{room}", is_announced=True)
    directory.part(author, f"#room{room}")
    await directory.room_name("#any")  # an answer that comes after both


async def _time(count: int, call: Any) -> float:
    """Return the mean time of a call in microseconds, one after another."""
    began = time.monotonic()
    for number in range(count):
        await call(number)
    return (time.monotonic() - began) / count * 1e6


if __name__ == "__main__":
    main()
