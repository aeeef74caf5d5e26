"""Several nodes that append to logs in one simulated Redis, with faults. It checks what the store guarantees.

``python -m tests.simulated_redis_stores 5000`` runs it with the seeds 0 to 4,999. ``--seed N`` runs one seed and prints
the trace of the network.

The guarantees, for every seed:

- A line that was acknowledged is in the log once, at the place that was told, unless Redis has lost data. A line that
  was refused is not in it. No line is in it twice. Each line has an outcome in the end. A line that an author sends
  again at another node is a retry of the entry that is there.
- Each node delivers the log without a gap, in the order of the log, and no line twice; or it says that the log was
  begun anew.
- In the end, the nodes are at the same place.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from random import Random
from typing import Any

from netsvc.chat.entries import Draft, Entry, EntryKind, Position
from netsvc.chat.redis_entries import decode_entry
from netsvc.chat.store import NewLog, Outcome, Retried, StoreError, Unconfirmed
from netsvc.testing import Host, Network, splits
from tests.redis_keyspace import Snapshot
from tests.redis_nodes import SimulatedRedisHost, store_on

NODES = 3
ROOMS = ("#a", "#b")
STEPS = 40


class Node:
    """A node, and what it has delivered."""

    def __init__(self, simulation: Simulation, host: Host) -> None:
        self.simulation = simulation
        self.host = host
        self.at: dict[str, Position] = {}
        self.seen: set[str] = set()
        self.store = store_on(host)
        self.store.open(self.deliver, self.begun_anew)
        for room in ROOMS:
            self.subscribe(room)

    def subscribe(self, room: str) -> None:
        """Subscribe, again and again until it succeeds."""
        self.store.subscribe(room).addCallbacks(
            lambda state: self.at.__setitem__(room, state.end), lambda _: self.subscribe(room)
        )

    def deliver(self, entry: Entry) -> None:
        """Check an entry that the store delivers."""
        at = self.at[entry.room]
        self.simulation.check(
            entry.position == (at.epoch, at.offset + 1), f"{self.host.name} is at {at}, and now {entry.position}"
        )
        self._see(entry)
        self.at[entry.room] = entry.position
        if entry.message_id and entry.nick != self.host.name and self.simulation.retries_now():
            self.append_again(entry)

    def begun_anew(self, new: NewLog) -> None:
        """Take note of a log that was begun anew."""
        self.simulation.check(self.simulation.loses, f"{self.host.name} says that a log was begun anew")
        for entry in new.unseen:
            self._see(entry)
        self.at[new.room] = new.state.end

    def _see(self, entry: Entry) -> None:
        self.simulation.check(entry.text not in self.seen, f"{self.host.name} has seen {entry.text} twice")
        self.seen.add(entry.text)

    def append(self, room: str, text: str, message_id: str) -> None:
        """Append, and take note of the outcome."""
        draft = Draft(room, EntryKind.SAID, self.host.name, text, self.host.reactor.seconds(), "author", message_id)
        self.simulation.outcomes[text] = None
        self.store.append(draft, lambda outcome: self.simulation.appended(text, outcome))

    def append_again(self, entry: Entry) -> None:
        """Append an entry of another node again, as for an author that resumes here."""
        self.simulation.retries.append(entry)
        number = len(self.simulation.retries)
        again = f"{entry.text}, retry {number}"
        self.simulation.outcomes[again] = None
        draft = Draft._make(entry[:7])._replace(text=again)
        self.store.append(draft, lambda outcome: self.simulation.appended_again(entry, again, outcome))


class Simulation:
    """One run.

    :param seed: the seed of the network and of the actions.
    """

    def __init__(self, seed: int) -> None:
        self.network = Network(seed)
        self._random = Random(seed)
        self.failures: list[str] = []
        self.outcomes: dict[str, Outcome | None] = {}
        self.retries: list[Entry] = []
        self.lossy = False
        self.loses = False  # whether Redis has lost data
        self._number = 0
        self.redis = SimulatedRedisHost(self.network)
        hosts = [self.network.host(f"n{number}") for number in range(NODES)]
        for host in hosts:
            self.network.link(host.name, "redis").set(
                latency=self.below(20) / 1_000,
                loss=0.02 if self.below(4) == 0 else 0.0,
                splits=(splits.nowhere, splits.at_random)[self.below(2)],
            )
        self.may_lose = self.below(3) == 0
        self.snapshot: Snapshot | None = None
        self.nodes = [Node(self, host) for host in hosts]

    def below(self, count: int) -> int:
        """Return a random number."""
        return int(self._random.random() * count)

    def check(self, condition: object, problem: str) -> None:
        """Note a problem."""
        if not condition:
            self.failures.append(problem)

    def appended(self, text: str, outcome: Outcome) -> None:
        """Take note of an outcome."""
        before = self.outcomes[text]
        self.check(before is None or isinstance(before, Unconfirmed), f"{text}: {outcome} after {before}")
        self.outcomes[text] = outcome

    def retries_now(self) -> bool:
        """Return whether an author sends a line again. A Redis that loses the line may get both."""
        return not self.may_lose and self.below(8) == 0

    def appended_again(self, entry: Entry, again: str, outcome: Outcome) -> None:
        """Take note of the outcome of a retry."""
        self.appended(again, outcome)
        if not isinstance(outcome, StoreError | Unconfirmed):
            self.check(outcome == Retried(entry), f"{again}: {outcome}, and not {entry}")

    def run(self) -> None:
        """Run and check everything."""
        network = self.network
        network.advance(1.0)
        for _ in range(STEPS):
            self._act()
            network.advance(self._random.random() * 0.5)
        self._heal()
        self.redis.data.loading = self.redis.data.maxmemory = self.redis.data.disk_full = False
        self._end_faults()
        network.advance(30.0)
        for node in self.nodes:
            for room in ROOMS:
                self._number += 1
                node.append(room, f"last {self._number}", "")
        network.advance(5.0)
        self._check_end()
        if self.failures:
            raise AssertionError("\n".join(self.failures))
        for node in self.nodes:
            network.run(node.store.close())

    def _heal(self) -> None:
        for node in self.nodes:
            self.network.link(node.host.name, "redis").heal()

    def _end_faults(self) -> None:
        server = self.redis.server
        if not server.is_running:
            server.start()
        if server.is_paused:
            server.resume()

    def _act(self) -> None:  # noqa: PLR0912  one branch for each action
        redis = self.redis.server
        match self.below(24):
            case 0 if redis.is_running:
                redis.kill()
            case 1 | 2 if not redis.is_running:
                redis.start()
            case 3 if redis.is_running and not redis.is_paused:
                redis.pause()
            case 4 | 5 if redis.is_paused:
                redis.resume()
            case 6:
                self.network.link(f"n{self.below(NODES)}", "redis").partition()
            case 7:
                self._heal()
            case 8 if redis.is_running:
                redis.close_subscribers()
            case 9 if redis.is_running:
                for connection in list(redis.connections):
                    if self.below(2):
                        connection.transport.abortConnection()
            case 10:
                self.redis.data.maxmemory = not self.redis.data.maxmemory
            case 11:
                self.redis.data.disk_full = not self.redis.data.disk_full
            case 12:
                self.snapshot = self.redis.data.snapshot()
            case 13 if self.may_lose and self.snapshot is not None and redis.is_running:
                self.loses = True
                redis.kill(losing=self.snapshot)
                redis.start()
            case 14 if self.may_lose and self.below(4) == 0:
                self.loses = True
                self.redis.data.flushall()
            case _:
                for _ in range(1 + self.below(6)):
                    self._number += 1
                    node = self.nodes[self.below(NODES)]
                    message_id = f"m{self._number}" if self.below(2) else ""
                    room = ROOMS[self.below(2)]
                    if room in node.at:
                        node.append(room, f"line {self._number}", message_id)

    def _check_end(self) -> None:
        logs: dict[str, list[Entry]] = {}
        for room in ROOMS:
            found: Any = self.redis.data.execute([b"XRANGE", b"netsvc:entries:" + room.encode(), b"-", b"+"])
            epoch: Any = self.redis.data.execute([b"HGET", b"netsvc:log:" + room.encode(), b"epoch"])
            logs[room] = [
                decode_entry(room, epoch.decode(), int(place.split(b"-")[0]), fields[1]).entry
                for place, fields in found
            ]
            for node in self.nodes:
                last = logs[room][-1].position
                self.check(node.at[room] == last, f"{node.host.name} is at {node.at[room]}, and {room} ends at {last}")
        texts = [entry.text for log in logs.values() for entry in log]
        self.check(len(texts) == len(set(texts)) or self.loses, "a line is in the log twice")
        positions = {entry.text: entry.position for log in logs.values() for entry in log}
        for text, outcome in self.outcomes.items():
            match outcome:
                case Retried(entry) if entry in self.retries:
                    pass  # it was compared at once
                case Entry() | Retried():
                    entry = outcome.entry if isinstance(outcome, Retried) else outcome
                    right = positions.get(text) == entry.position or self.loses
                    self.check(right, f"{text} was acknowledged at {entry.position}, and is at {positions.get(text)}")
                case StoreError():
                    self.check(text not in positions, f"{text} was refused ({outcome}), and is in the log")
                case _:
                    self.check(False, f"{text} has no outcome: {outcome}")


def main() -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Run stores on a simulated Redis with many seeds.")
    parser.add_argument("seeds", nargs="?", type=int, default=200, help="number of seeds, from 0 on (default: 200)")
    parser.add_argument("--seed", type=int, help="run only this seed, and print the trace of the network")
    options = parser.parse_args()
    gc.freeze()
    gc.set_threshold(50_000)
    failed = 0
    for seed in range(options.seeds) if options.seed is None else [options.seed]:
        try:
            signal.alarm(20)
            simulation = Simulation(seed)
            simulation.run()
            signal.alarm(0)
        except Exception as e:
            failed += 1
            sys.stderr.write(f"seed {seed}: {type(e).__name__}: {str(e)[:600]}\n")
        if options.seed is not None:
            sys.stdout.write(f"{simulation.network.trace}\n")
    sys.stdout.write(f"{failed} of {options.seeds} seeds failed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
