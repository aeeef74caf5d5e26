"""Kill a real Redis under two nodes that append, again and again.

``python -m tests.redis_kills [KILLS] [--appendfsync everysec|always]`` kills it 20 times with each setting. With
``--losing SECONDS`` it also loses what it has done in the last seconds before each kill, as on a machine that fails.

Two processes, each a node with a store, append about 600 lines a second in all. Some authors give message ids, and what
they said is sometimes sent again at the other node, as by a member that resumes there. The Redis is killed (SIGKILL) at
a random time, is away for a moment or for longer than an author waits, and starts again on the same port. In the end
the log in Redis is compared with what the nodes were told and have delivered. Exit status 1 means that something is
wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineOnlyReceiver

from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.redis_log_scripts import LOG_SCRIPTS
from netsvc.chat.redis_node import RedisNode, client_maker
from netsvc.chat.redis_store import RedisStore
from netsvc.chat.store import NewLog, Outcome, Retried, StoreError, Unconfirmed
from netsvc.net.reactors import monotonic_of
from tests.redis_reading import log_in_redis
from tests.redis_server import RedisServer

SETTINGS = ("everysec", "always")
ROOMS = ("#a", "#b", "#c")
NODES = ("one", "two")

#: Authors of each node. Those with an even number give message ids.
AUTHORS = 6

#: Each author sends so many lines at once, and again after so many seconds: 600 lines a second in all.
LINES_AT_ONCE = 2
INTERVAL = LINES_AT_ONCE * AUTHORS * len(NODES) / 600

#: One of so many lines with a message id is sent again at the other node.
REPEATED = 10

#: Seconds from the start of a Redis until it is killed, and for which it is away then: mostly, and sometimes.
LIVES = (0.05, 2.0)
ABSENCES = ((0.0, 0.5), (0.5, 4.0))

#: How often it stalls first, so that it is killed while it works off what has come; seconds of both.
STALLED = 0.5
STALLS = (0.02, 0.2)
WORKS = (0.0, 0.01)

#: Seconds in which each node is to acknowledge something after Redis accepts connections again.
GOAL = 0.5

#: Seconds in which the outcome of everything must be known in the end, and after which a node ends itself.
PATIENCE = 20.0
LIFETIME = 900


@dataclass(slots=True)
class RedisKills:
    """What is found in the end.

    :ivar may_lose: whether Redis may lose what it has just acknowledged. It does if its disk is slow at that moment.
        Then a log is begun anew, and only what follows must be in the same place everywhere. A line that was sent again
        at the other node meanwhile may be seen twice there.
    :ivar recoveries: seconds from the moment at which Redis accepts again until a node acknowledges something.
    """

    kills: int
    may_lose: bool
    acknowledged: int = 0
    repeated: int = 0
    refused: int = 0
    unconfirmed: int = 0
    lost: int = 0
    doubled: int = 0
    moved: int = 0
    out_of_order: int = 0
    refused_in_log: int = 0
    without_outcome: int = 0
    orders_differing: int = 0
    seen_twice: int = 0
    unseen: int = 0
    begun_anew: int = 0
    recoveries: list[float] = field(default_factory=list, repr=False)

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        of_lines = (self.lost, self.doubled, self.moved, self.refused_in_log, self.without_outcome)
        of_orders = (self.out_of_order, self.orders_differing, self.seen_twice, self.unseen)
        return not any((*of_lines, *of_orders)) and (self.may_lose or not self.begun_anew)

    @property
    def recovery(self) -> str:
        """The seconds until the first acknowledgements, in words."""
        if not self.recoveries:
            return "no acknowledgement was measured"
        half, longest = statistics.median(self.recoveries), max(self.recoveries)
        count = len(self.recoveries)
        return f"first acknowledgement: p50 {half:.3f} s, max {longest:.3f} s of {count}; goal {GOAL} s"


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, check and print."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--node"]:
        react(lambda reactor: ensureDeferred(_Node(reactor, *arguments[1:]).run()))
    parser = argparse.ArgumentParser(description="Kill a real Redis under two nodes that append.")
    parser.add_argument("kills", nargs="?", type=int, default=20, help="with each setting (default: 20)")
    parser.add_argument("--appendfsync", choices=SETTINGS, help="the only setting (default: both)")
    parser.add_argument(
        "--losing", type=float, default=0.0, help="seconds whose data it loses at each kill (default: 0)"
    )
    options = parser.parse_args(arguments)
    is_good = True
    for setting in SETTINGS if options.appendfsync is None else (options.appendfsync,):
        found = kill_and_check(options.kills, setting, options.losing)
        sys.stdout.write(f"appendfsync {setting}: {found}\n  {found.recovery}\n")
        sys.stdout.flush()
        is_good = is_good and found.is_good
    return 0 if is_good else 1


def kill_and_check(kills: int, appendfsync: str, losing: float = 0.0) -> RedisKills:
    """Kill a Redis so many times, and compare its log with what two nodes were told.

    :param losing: seconds before each kill of which it loses everything, as on a machine that fails.
    """
    redis = RedisServer(["appendonly yes", f"appendfsync {appendfsync}"])
    try:
        redis.start()
        with _node(NODES[0], redis.port) as one, _node(NODES[1], redis.port) as two:
            nodes = (one, two)
            for node in nodes:
                node.tell("start")
            lives = []
            for _ in range(kills):
                began = time.monotonic()
                time.sleep(random.uniform(*LIVES))
                if random.random() < STALLED:
                    redis.stop()
                    time.sleep(random.uniform(*STALLS))
                    redis.cont()
                    time.sleep(random.uniform(*WORKS))
                _kill(redis, losing)
                lives.append((began, time.monotonic()))
                time.sleep(random.uniform(*random.choices(ABSENCES, (3, 1))[0]))
                redis.start()
            lives.append((time.monotonic(), time.monotonic() + PATIENCE))
            time.sleep(LIVES[1])
            for node in nodes:
                node.tell("stop")
            is_settled = [node.settled.wait(PATIENCE) for node in nodes]
            logs = {room: [each.entry for each in log_in_redis(redis.port, room)] for room in ROOMS}
            for node, settled in zip(nodes, is_settled, strict=True):
                if settled:
                    node.wait_for(logs)
            records = [node.records() for node in nodes]
        found = _compare(kills, appendfsync == "everysec" or losing > 0, logs, records)
        found.recoveries = [each for one in records for each in _recoveries(one, lives)]
        return found
    finally:
        redis.remove()


def _kill(redis: RedisServer, losing: float) -> None:
    """Kill a Redis. It loses what it has done in the last seconds."""
    if not losing:
        redis.kill()
        return
    (file,) = redis.directory.glob("appendonlydir/*.incr.aof")
    size = file.stat().st_size
    time.sleep(losing)
    redis.kill()
    os.truncate(file, size)


def _compare(kills: int, may_lose: bool, logs: dict[str, list[Entry]], nodes: Sequence[Sequence[Any]]) -> RedisKills:
    found = RedisKills(kills, may_lose)
    for room, log in logs.items():
        counts = Counter(entry.text for entry in log)
        found.doubled += sum(count - 1 for count in counts.values())
        numbers: dict[str, list[int]] = {}
        for entry in log:
            if not (may_lose and _is_repeated(entry.text)):
                numbers.setdefault(entry.author, []).append(int(entry.text.split()[1]))
        found.out_of_order += sum(each != sorted(each) for each in numbers.values())
        for records in nodes:
            _compare_one(found, log, [record for record in records if record[1:2] == [room]])
    return found


def _compare_one(found: RedisKills, log: Sequence[Entry], records: Sequence[Any]) -> None:
    """Compare the log of one room with what one node was told and has delivered."""
    places = {entry.text: [entry.epoch, entry.offset] for entry in log}
    outcomes: dict[str, str] = {}
    told: dict[str, list[Any]] = {}  # where lines are, since the log was begun anew
    delivered: list[list[Any]] = []  # since then
    seen: Counter[str] = Counter()
    begin = 0
    anew = False
    for what, _, *values in records:
        match what:
            case "sent":
                outcomes[values[0]] = what
            case "acknowledged" | "repeated":
                text = values[0]
                if what == "acknowledged":
                    outcomes[text] = what
                    found.acknowledged += 1
                else:
                    found.repeated += 1
                found.lost += text not in places
                told[text] = values[1:3]
            case "refused":
                outcomes[values[0]] = what
                found.refused += 1
                found.refused_in_log += values[0] in places
            case "unconfirmed":
                found.unconfirmed += 1
            case "delivered":
                seen[values[2]] += 1
                delivered.append(values)
            case "anew":
                found.begun_anew += 1
                anew = True
                begin = values[1]
                seen.update(values[2])
                told.clear()
                delivered.clear()
    if not anew:  # an entry that is not read again is told to be where the log ends
        found.moved += sum(places.get(text, place) != place for text, place in told.items())
        found.unseen += sum(text not in seen for text in places)
    found.without_outcome += sum(outcome == "sent" for outcome in outcomes.values())
    found.orders_differing += delivered != [[each.epoch, each.offset, each.text] for each in log if each.offset > begin]
    found.seen_twice += sum(count > 1 for text, count in seen.items() if not (found.may_lose and _is_repeated(text)))


def _is_repeated(text: str) -> bool:
    """Whether a line is sent again at the other node. A Redis that loses it may get it first from there."""
    return int(text.split()[1]) % REPEATED == 0


def _recoveries(records: Sequence[Any], lives: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Yield the seconds until the first acknowledgement of each life but the first.

    A life that ended before that counts with its length, if it was longer than the goal.
    """
    times = [values[4] for what, *values in records if what == "acknowledged"]
    for (_, before), (began, ended) in pairwise(lives):
        first = next((each for each in times if before < each < ended), ended)
        if first < ended or ended - began > GOAL:
            yield max(0.0, first - began)


class _NodeProcess:
    """A node in a process of its own.

    :ivar settled: set when it appends nothing more and the outcome of everything is known.
    """

    def __init__(self, name: str, port: int) -> None:
        self.settled = threading.Event()
        self._subscribed = threading.Event()
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.redis_kills", "--node", name, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def wait_until_subscribed(self) -> None:
        """Wait until it is subscribed to all rooms."""
        assert self._subscribed.wait(PATIENCE), "a node does not begin"

    def tell(self, what: str) -> None:
        """Let it ``start`` or ``stop`` to append."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def wait_for(self, logs: dict[str, list[Entry]]) -> None:
        """Wait until it has delivered the last entries, or until that takes too long."""
        deadline = time.monotonic() + PATIENCE
        wanted = {(room, log[-1].offset) for room, log in logs.items() if log}
        while wanted and time.monotonic() < deadline:
            last = {(values[0], values[2]) for what, *values in self.records() if what == "delivered"}
            if wanted <= last:
                return
            time.sleep(0.2)

    def records(self) -> list[Any]:
        """Return what it has printed so far."""
        return [json.loads(line) for line in list(self._lines)]

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self._reading.join()
        assert self.process.stdin is not None
        self.process.stdin.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                if not line.endswith("\n"):
                    break
                self._lines.append(line)
                if line == '["settled"]\n':
                    self.settled.set()
                elif line == '["subscribed"]\n':
                    self._subscribed.set()


@contextmanager
def _node(name: str, port: int) -> Iterator[_NodeProcess]:
    node = _NodeProcess(name, port)
    try:
        node.wait_until_subscribed()
        yield node
    finally:
        node.end()


class _Control(LineOnlyReceiver):
    """The standard input and output of a node. It prints records, each a line of JSON."""

    transport: Any
    delimiter = b"\n"

    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()
        self.stopped: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        (self.started if line == b"start" else self.stopped).callback(None)

    def connectionLost(self, reason: object = None) -> None:
        if not self.closed.called:
            self.closed.callback(None)

    def print(self, *record: Any) -> None:
        """Print a record."""
        self.transport.write(json.dumps(record).encode() + b"\n")


class _Node:
    """One node: it appends lines of its authors, and prints what becomes of them and what is delivered."""

    def __init__(self, reactor: Any, name: str, port: str) -> None:
        signal.alarm(LIFETIME)  # it ends whatever happens
        globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)] if "REDIS_KILLS_LOG" in os.environ else [])
        self._reactor = reactor
        self._name = name
        self._authors = [f"{name}-{number}" for number in range(AUTHORS)]
        self._numbers = [0] * AUTHORS
        self._awaited = 0
        self._control = _Control()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", int(port))
        node = RedisNode(reactor, monotonic_of(reactor), client_maker(reactor, endpoint), LOG_SCRIPTS)
        self._store = RedisStore(node, reactor, reactor.seconds, entries_max=0, age_max=0.0)

    async def run(self) -> None:
        """Append until it is told to stop, and end with the standard input."""
        StandardIO(self._control, reactor=self._reactor)
        self._store.open(self._deliver, self._begun_anew)
        for room in ROOMS:
            await self._store.subscribe(room)
        self._control.print("subscribed")
        await self._control.started
        while not self._control.stopped.called and not self._control.closed.called:
            for number, author in enumerate(self._authors):
                for _ in range(LINES_AT_ONCE):
                    self._say(number, author)
            await self._pause(INTERVAL)
        while self._awaited and not self._control.closed.called:
            await self._pause(INTERVAL)
        self._control.print("settled")
        await self._control.closed
        await self._store.close()

    def _pause(self, seconds: float) -> Deferred[None]:
        paused: Deferred[None] = Deferred()
        self._reactor.callLater(seconds, paused.callback, None)
        return paused

    def _say(self, number: int, author: str) -> None:
        self._numbers[number] += 1
        text = f"{author} {self._numbers[number]}"
        message_id = "" if number % 2 else str(self._numbers[number])
        room = ROOMS[number % len(ROOMS)]
        self._control.print("sent", room, text)
        draft = Draft(room, EntryKind.SAID, "nick", text, 0.0, author, message_id)
        self._append(draft, "acknowledged")

    def _append(self, draft: Draft, how: str) -> None:
        self._awaited += 1
        self._store.append(draft, partial(self._appended, draft.room, draft.text, how))

    def _appended(self, room: str, text: str, how: str, outcome: Outcome) -> None:
        if isinstance(outcome, Unconfirmed):
            self._control.print("unconfirmed", room, text)
            return
        self._awaited -= 1
        if not isinstance(outcome, StoreError):
            entry = outcome.entry if isinstance(outcome, Retried) else outcome
            self._control.print(how, room, text, entry.epoch, entry.offset, time.monotonic())
        elif how == "acknowledged":
            self._control.print("refused", room, text, str(outcome))

    def _deliver(self, entry: Entry) -> None:
        self._control.print("delivered", entry.room, entry.epoch, entry.offset, entry.text)
        if entry.author not in self._authors and entry.message_id and int(entry.message_id) % REPEATED == 0:
            self._append(Draft._make(entry[:7]), "repeated")

    def _begun_anew(self, new: NewLog) -> None:
        self._control.print("anew", new.room, *new.state.end, [entry.text for entry in new.unseen])


if __name__ == "__main__":
    sys.exit(main())
