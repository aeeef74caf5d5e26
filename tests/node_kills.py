"""Kill one of two servers of a chat on Redis, again and again: ``python -m tests.node_kills [KILLS]`` (default: 20).

Eight programs are connected to either server, as through a load balancer, and say about 100 lines a second in all. A
server is killed (SIGKILL); its programs resume at the other one; it starts again; then the other one is killed. Two
silent members of the killed server stay away. A watcher at the other server sees that they left, and takes their nicks.

In the end the log in Redis is compared with what each program received and was told. Exit status 1 means that something
is wrong.
"""

from __future__ import annotations

import argparse
import math
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall, react
from zope.interface import implementer

from netsvc.chat.chat_events import NickSet, Resumed, RoomEntered, Verdict
from netsvc.chat.client import ChatClient, ClientEvent, NotSaidError
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Rename
from tests.programs import TWIST
from tests.redis_reading import log_in_redis
from tests.redis_server import RedisServer, die_with_parent

ROOM = "#home"
TALKERS = 8
SILENT = 2

#: Lines per second of all talkers together, and the pause of a client before a further attempt.
RATE = 100
RETRY = 0.1

#: Seconds in which a program is to be in its room again, and a room is to be told of those who stay away.
INTERRUPTION = 3.0
LEFT_WITHIN = 7.0
TOLERANCE = 0.2

#: Seconds between the start of a server and the next kill, and from a kill until the server starts again.
LIFE = 1.0
ABSENCE = 0.5

#: Seconds that anything else may take, and that a whole round may take.
PATIENCE = 20.0
ROUND = 60

#: Seconds between two looks at what is waited for.
STEP = 0.02

_FLAGS = ("chat-rate", "chat-burst", "connect-rate", "chat-history-max", "max-per-host")


@dataclass(slots=True)
class NodeKills:
    """What is found in the end. Durations are in seconds from a kill."""

    acknowledged: int = 0
    not_said: int = 0
    lost: int = 0
    doubled: int = 0
    moved: int = 0
    refused_in_log: int = 0
    without_outcome: int = 0
    out_of_order: int = 0
    views_differing: int = 0
    gaps: int = 0
    gaps_told: int = 0
    nicks_lost: int = 0
    left_wrongly: int = 0
    not_resumed: int = 0
    nicks_not_free: int = 0
    interruptions: list[float] = field(default_factory=list)
    departures: list[float] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """What is wrong."""
        of_lines = ("lost", "doubled", "moved", "refused_in_log", "without_outcome", "out_of_order")
        of_programs = ("views_differing", "gaps", "nicks_lost", "left_wrongly", "not_resumed", "nicks_not_free")
        found = [name for name in (*of_lines, *of_programs) if getattr(self, name)]
        if not self.interruptions or percentile(self.interruptions, 99) > INTERRUPTION:
            found.append("interruptions")
        if not self.departures or max(self.departures) > LEFT_WITHIN + TOLERANCE:
            found.append("departures")
        return found

    def table(self) -> str:
        """Return all numbers, one a line."""
        rows = [(name, str(value)) for name, value in self._numbers()]
        for name, values, goal in (
            ("interruption", self.interruptions, f"p99 at most {INTERRUPTION:g}"),
            ("told that a member left", self.departures, f"max at most {LEFT_WITHIN:g}"),
        ):
            if values:
                figures = (
                    f"p50 {statistics.median(values):.3f}, p99 {percentile(values, 99):.3f}, max {max(values):.3f}"
                )
                rows.append((name, f"{figures} s of {len(values)}; goal: {goal} s"))
        rows.append(("wrong", ", ".join(self.problems) or "nothing"))
        return "".join(f"{name:<24} {value}\n" for name, value in rows)

    def _numbers(self) -> list[tuple[str, int]]:
        return [
            (name.replace("_", " "), getattr(self, name))
            for name in self.__dataclass_fields__
            if name not in ("interruptions", "departures")
        ]


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the least value that so many percent of the values do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def main() -> int:
    """Kill, check and print."""
    parser = argparse.ArgumentParser(description="Kill one of two servers of a chat on Redis.")
    parser.add_argument("kills", nargs="?", type=int, default=20, help="default: 20")
    parser.add_argument("--quick", action="store_true", help="wait for those who stay away in the last round only")
    options = parser.parse_args()
    signal.alarm(ROUND * (options.kills + 2))  # it ends whatever happens
    redis = RedisServer(["appendonly yes"])
    status = 1
    try:
        redis.start()
        react(lambda reactor: ensureDeferred(_run(reactor, redis.port, options.kills, options.quick)))
    except SystemExit as e:
        status = int(e.code or 0)
    finally:
        redis.remove()
    return status


async def _run(reactor: Any, redis_port: int, kills: int, is_quick: bool) -> None:
    run = _Run(reactor, redis_port)
    try:
        found = await run.kill_and_check(kills, is_quick)
    finally:
        for server in run.servers:
            server.kill()
    sys.stdout.write(found.table())
    sys.stdout.flush()
    if found.problems:
        raise SystemExit(1)


class _Server:
    """A server in a process of its own. Its port is another one after each start.

    :ivar output: the lines that it has printed so far.
    """

    def __init__(self, reactor: Any, name: str, redis_port: int) -> None:
        self.name = name
        self.port = 0
        self.output: list[str] = []
        self._reactor = reactor
        self._redis_port = redis_port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Deferred[None]:
        """Start it. Fires when it serves."""
        unlimited = [word for flag in _FLAGS for word in (f"--{flag}", "0")]
        store = f"redis://127.0.0.1:{self._redis_port}/0"
        process = subprocess.Popen(
            [*TWIST, "--chat", "127.0.0.1:0", "--chat-store", store, *unlimited],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            preexec_fn=die_with_parent,  # noqa: PLW1509  it calls the system once and takes no lock
        )
        self._process = process
        serves: Deferred[None] = Deferred()
        threading.Thread(target=self._read, args=(process, serves), daemon=True).start()
        return serves

    def kill(self) -> None:
        """Kill it, as if the machine failed (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _read(self, process: subprocess.Popen[str], serves: Deferred[None]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.output.append(line)
                listening = re.search(r"listening on \S*:(\d+)$", line)
                if listening:
                    self.port = int(listening[1])
                if "Starting reactor" in line:
                    self._reactor.callFromThread(serves.callback, None)


@implementer(IStreamClientEndpoint)
class _Balancer:
    """Connects to one of the servers, and if that does not succeed, to the other one.

    :ivar server: the one of the last connection.
    """

    def __init__(self, reactor: Any, servers: Sequence[_Server], first: int) -> None:
        self.server: _Server | None = None
        self._reactor = reactor
        self._servers = servers
        self._next = first

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect to the next server."""
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        one, other = self._servers[self._next], self._servers[1 - self._next]
        self._next = 1 - self._next
        try:
            return await self._connect_to(one, factory)
        except Exception:  # refused, or it does not answer
            return await self._connect_to(other, factory)

    async def _connect_to(self, server: _Server, factory: Any) -> Any:
        endpoint = TCP4ClientEndpoint(self._reactor, "127.0.0.1", server.port, timeout=1.0)
        protocol = await endpoint.connect(factory)
        self.server = server
        return protocol


class _Talker:
    """A program that talks.

    :ivar received: positions and texts of the entries that it received, with None where it was told of a gap.
    :ivar outcomes: of what it said, by text: the position, why it was not said, or None.
    """

    def __init__(self, run: _Run, number: int) -> None:
        self.nick = f"talker{number}"
        self.received: list[Entry | None] = []
        self.outcomes: dict[str, Position | NotSaidError | None] = {}
        self.interrupted_at = 0.0  # the time of the kill; 0 while it is in its room
        self._run = run
        self.balancer = _Balancer(run.reactor, run.servers, number % 2)
        self.client = ChatClient(
            self.balancer, self._event, run.reactor, nick=self.nick, room=ROOM, retry_policy=lambda _: RETRY
        )
        self._talking = LoopingCall(self._say)
        self._talking.clock = run.reactor

    def begin(self) -> None:
        """Talk."""
        self._talking.start(TALKERS / RATE)

    def end(self) -> None:
        """Say nothing more."""
        self._talking.stop()

    def _say(self) -> None:
        text = f"{self.nick} {len(self.outcomes)}"
        self.outcomes[text] = None

        def said(outcome: Any) -> None:
            self.outcomes[text] = outcome

        def not_said(failure: Any) -> None:
            failure.trap(NotSaidError)
            self.outcomes[text] = failure.value

        try:
            self.client.say(text).addCallbacks(said, not_said)
        except MessageError as e:
            self.outcomes[text] = NotSaidError(str(e))

    def _event(self, event: ClientEvent) -> None:
        match event:
            case ReceivedEntry(entry=entry):
                self.received.append(entry)
            case Resumed(_, verdict, _) if verdict is not Verdict.RECOVERED:
                self.received.append(None)
            case RoomEntered() if self.interrupted_at:
                self._run.found.interruptions.append(time.monotonic() - self.interrupted_at)
                self.interrupted_at = 0.0
                self._run.found.nicks_lost += self.client.nick != self.nick


class _Watcher:
    """A program at one server that sees who left, and takes their nicks."""

    def __init__(self, run: _Run, server: _Server, nick: str) -> None:
        self.joined: set[str] = set()
        self.left: dict[str, float] = {}  # when it was told
        self.nicks: set[str] = set()  # that it had
        endpoint = TCP4ClientEndpoint(run.reactor, "127.0.0.1", server.port)
        self.client = ChatClient(endpoint, self._event, run.reactor, nick=nick, room=ROOM)

    def _event(self, event: ClientEvent) -> None:
        match event:
            case ReceivedEntry(entry=Entry(kind=EntryKind.JOINED, nick=nick)):
                self.joined.add(nick)
            case ReceivedEntry(entry=Entry(kind=EntryKind.LEFT, nick=nick)):
                self.left.setdefault(nick, time.monotonic())
            case NickSet(nick):
                self.nicks.add(nick)


class _Run:
    """One run of the command.

    :ivar found: what is found.
    """

    def __init__(self, reactor: Any, redis_port: int) -> None:
        self.reactor = reactor
        self.found = NodeKills()
        self.servers = [_Server(reactor, name, redis_port) for name in ("one", "other")]
        self._redis_port = redis_port
        self._talkers = [_Talker(self, number) for number in range(TALKERS)]

    async def kill_and_check(self, kills: int, is_quick: bool) -> NodeKills:
        """Kill servers in turn, and compare everything in the end."""
        for server in self.servers:
            await server.start()
        for talker in self._talkers:
            talker.client.start()
        await self._until("all are in the room", lambda: all(each.client.is_connected for each in self._talkers))
        for talker in self._talkers:
            talker.begin()
        for number in range(kills):
            await self._round(number, waits=not is_quick or number == kills - 1)
        for talker in self._talkers:
            talker.end()
        await self._settle()
        log = [each.entry for each in log_in_redis(self._redis_port, ROOM)]
        await self._until_or_late(lambda: all(each.client.position == log[-1].position for each in self._talkers))
        self._compare(log)
        await DeferredList([talker.client.stop() for talker in self._talkers])
        return self.found

    async def _round(self, number: int, *, waits: bool) -> None:
        """Kill one server.

        :param waits: whether there are members that stay away.
        """
        killed, other = self.servers[number % 2], self.servers[1 - number % 2]
        silent = [f"silent{number}-{each}" for each in range(SILENT if waits else 0)]
        watcher = _Watcher(self, other, f"watcher{number}")
        watcher.client.start()
        await self._until("the watcher is in the room", lambda: watcher.client.is_connected)
        for nick in silent:
            await self._enter_silently(killed, nick)
        await self._until("the silent members are in the room", lambda: watcher.joined.issuperset(silent))
        await self._pause(LIFE)
        killed_at = time.monotonic()
        killed.kill()
        interrupted = [talker for talker in self._talkers if talker.balancer.server is killed]
        for talker in interrupted:
            talker.interrupted_at = killed_at
        await self._pause(ABSENCE)
        await killed.start()
        await self._until_or_late(lambda: not any(talker.interrupted_at for talker in interrupted))
        self.found.not_resumed += sum(talker.interrupted_at > 0 for talker in interrupted)
        await self._until_or_late(lambda: watcher.left.keys() >= set(silent))
        for nick in silent:
            self.found.departures.append(watcher.left.get(nick, math.inf) - killed_at)
            watcher.client.request(Rename(nick))
            await self._until_or_late(lambda nick=nick: nick in watcher.nicks, 1.0)  # type: ignore[misc]
            self.found.nicks_not_free += nick not in watcher.nicks
        await watcher.client.stop()

    async def _enter_silently(self, server: _Server, nick: str) -> None:
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", server.port)
        protocol: Any = await connectProtocol(endpoint, Protocol())
        protocol.transport.write(f"/nick {nick}\n/join {ROOM}\n".encode())

    async def _settle(self) -> None:
        """Wait until the outcome of all lines is known."""
        await self._until_or_late(lambda: all(None not in each.outcomes.values() for each in self._talkers))

    def _compare(self, log: Sequence[Entry]) -> None:
        found = self.found
        places = {entry.text: entry.position for entry in log if entry.kind is EntryKind.SAID}
        counts = Counter(entry.text for entry in log if entry.kind is EntryKind.SAID)
        found.doubled = sum(count - 1 for count in counts.values())
        nicks = {talker.nick for talker in self._talkers}
        found.left_wrongly = sum(entry.kind is EntryKind.LEFT and entry.nick in nicks for entry in log)
        at = {entry.position: entry for entry in log}
        for talker in self._talkers:
            for text, outcome in talker.outcomes.items():
                match outcome:
                    case Position():
                        found.acknowledged += 1
                        found.lost += text not in places
                        found.moved += places.get(text, outcome) != outcome
                    case NotSaidError():
                        found.not_said += 1
                        found.refused_in_log += outcome.cause is not None and text in places
                    case None:
                        found.without_outcome += 1
            own = [int(entry.text.split()[1]) for entry in log if entry.nick == talker.nick and entry.text in places]
            found.out_of_order += own != sorted(own)
            self._compare_view(talker.received, at, log[-1].position)

    def _compare_view(self, received: Sequence[Entry | None], at: dict[Position, Entry], end: Position) -> None:
        """Compare what a program received with the log."""
        before: Entry | None = None
        for entry in received:
            if entry is None:
                self.found.gaps_told += 1
            else:
                there = at.get(entry.position)
                # A program is not told who the author is.
                is_same = there is not None and (there.kind, there.nick, there.text) == (
                    entry.kind,
                    entry.nick,
                    entry.text,
                )
                self.found.views_differing += not is_same
                if before is not None:
                    self.found.gaps += entry.position != (before.epoch, before.offset + 1)
            before = entry
        self.found.gaps += before is None or before.position != end

    # Waiting

    def _pause(self, seconds: float) -> Deferred[None]:
        paused: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, paused.callback, None)
        return paused

    async def _until(self, what: str, condition: Callable[[], bool]) -> None:
        assert await self._until_or_late(condition), f"not within {PATIENCE:g} s: {what}"

    async def _until_or_late(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Wait for a condition, but not too long. Return whether it is met."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                return False
            await self._pause(STEP)
        return True


if __name__ == "__main__":
    sys.exit(main())
