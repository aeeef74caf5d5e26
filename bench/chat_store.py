"""Measure the chat's store in a SQLite file: ``python -m bench.chat_store``.

It appends at the greatest rate and at 1,000 lines per second, then fills a log with a million entries and reads it. CPU
time is that of the whole process, the thread included, without anything that a chat does besides.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import react

from bench.memory import resident
from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.sqlite_store import SqliteStore
from netsvc.chat.store import NewLog, Outcome
from netsvc.net.blocking import blocking_runner

ROOMS = [f"#room{number}" for number in range(20)]
RATE = 1_000
END = 1 << 40

#: Words by which the texts are made: a few are in many of them, as in a language.
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Lines:
    """Makes drafts of eight words each."""

    def __init__(self) -> None:
        self._random = random.Random(1)
        self._words = ["".join(self._random.choices(_LETTERS, k=2 + number % 8)) for number in range(30_000)]
        self._weights = [1 / (1 + place) for place in range(len(self._words))]
        self._made = 0

    def make(self, count: int, rooms: Sequence[str] = ROOMS) -> list[Draft]:
        words = iter(self._random.choices(self._words, self._weights, k=8 * count))
        drafts = []
        for text in zip(*[words] * 8, strict=True):
            self._made += 1
            room, author = rooms[self._made % len(rooms)], f"author{self._made % 50}"
            drafts.append(
                Draft(room, EntryKind.SAID, author, " ".join(text), time.monotonic(), author, f"{self._made:x}")
            )
        return drafts


class Answers:
    """Counts the answers of a store, and fires when all that are expected are there."""

    def __init__(self, expected: int) -> None:
        self.all: Deferred[None] = Deferred()
        self.delays: list[float] = []
        self._expected = expected

    def expect(self) -> Callable[[Outcome], None]:
        began = time.perf_counter()

        def appended(answer: Outcome) -> None:
            assert isinstance(answer, Entry), answer
            self.delays.append(time.perf_counter() - began)
            if len(self.delays) == self._expected:
                self.all.callback(None)

        return appended

    def percentile(self, share: float) -> float:
        return sorted(self.delays)[int(share * len(self.delays))] * 1_000


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print one figure a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.chat_store", description="Measure the store of the chat.")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of the large log (default: 1000000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds at 1,000 lines/s (default: 5)")
    parser.add_argument("--folder", help="where the file is made (default: a temporary folder)")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "chat.db"
        react(lambda reactor: ensureDeferred(_measure(reactor, path, options.entries, options.seconds)))


def _deliver(event: Entry | NewLog) -> None:
    """Deliver an entry to nobody."""


async def _measure(reactor: Any, path: Path, entries: int, seconds: float) -> None:
    store = SqliteStore(str(path), blocking_runner(reactor), reactor.seconds, entries_max=0, age_max=0.0)
    store.open(_deliver, _deliver)
    for room in ROOMS:
        await store.subscribe(room)
    lines = Lines()
    await _append(store, lines, 20_000, "as fast as it can, with as many ids")
    await _append_at_rate(reactor, store, lines, int(seconds * RATE))
    before = resident(os.getpid())
    cpu = time.process_time()
    for _ in range(entries // 10_000):
        await _append(store, lines, 10_000, "", ROOMS[:1])
    _say("large log: CPU of an append", (time.process_time() - cpu) / entries * 1e6, "us, with making the line")
    _say("large log: file", sum(file.stat().st_size for file in path.parent.iterdir()) / 1e6, "MB")
    _say("large log: resident memory grew by", (resident(os.getpid()) - before) / 1e6, "MB")
    for name, read in (
        ("newest 50", lambda: store.newest(ROOMS[0], END, 50)),
        ("100 after an offset", lambda: store.read(ROOMS[0], entries // 2, 100)),
        ("search: a frequent word", lambda: store.search(ROOMS[0], lines.make(1)[0].text.split()[0], END, 20)),
        ("search: two words", lambda: store.search(ROOMS[0], " ".join(lines.make(1)[0].text.split()[:2]), END, 20)),
        ("search: three letters", lambda: store.search(ROOMS[0], "abc", END, 20)),
        ("search: one letter", lambda: store.search(ROOMS[0], "a", END, 20)),
        ("search: three times one letter", lambda: store.search(ROOMS[0], "a b c", END, 20)),
        ("erase", lambda: store.erase(ROOMS[0], entries // 2)),
        ("append after it", lambda: _append(store, lines, 1, "")),
    ):
        delays = []
        for _ in range(5):
            began = time.perf_counter()
            await read()
            delays.append((time.perf_counter() - began) * 1_000)
        _say(f"large log: {name}, median", sorted(delays)[2], f"ms, most {max(delays):.2f}")
    _say("large log: resident memory grew by", (resident(os.getpid()) - before) / 1e6, "MB after reading")
    await store.close()


async def _append(store: SqliteStore, lines: Lines, count: int, name: str, rooms: Sequence[str] = ROOMS) -> None:
    drafts = lines.make(count, rooms)
    answers = Answers(count)
    began, cpu = time.perf_counter(), time.process_time()
    for draft in drafts:
        store.append(draft, answers.expect())
    await answers.all
    if name:
        _say(f"append {name}", count / (time.perf_counter() - began), "per s")
        _say(f"append {name}: CPU", (time.process_time() - cpu) / count * 1e6, "us per line")


async def _append_at_rate(reactor: Any, store: SqliteStore, lines: Lines, count: int) -> None:
    """Append single lines at random times."""
    drafts = lines.make(count)
    answers = Answers(count)
    cpu, due = time.process_time(), reactor.seconds()
    for draft in drafts:
        due += random.expovariate(RATE)
        reactor.callLater(max(0.0, due - reactor.seconds()), lambda draft=draft: store.append(draft, answers.expect()))
    await answers.all
    _say("append at 1,000 per s: CPU", (time.process_time() - cpu) / count * 1e6, "us per line, with the timers")
    _say("append at 1,000 per s: p50", answers.percentile(0.5), "ms")
    _say("append at 1,000 per s: p99", answers.percentile(0.99), "ms")


def _say(name: str, figure: float, unit: str) -> None:
    sys.stdout.write(f"{name}: {figure:,.2f} {unit}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
