"""Kill a process that appends to a store in a file, again and again: ``python -m tests.chat_kills [KILLS]``.

Some authors append about 1,000 lines a second in all. The process that holds the store prints each line that the store
acknowledges, and is killed (SIGKILL) at a random time. Another one takes its place, and each author sends what was not
acknowledged once more, with the same ids. In the end each line must be in the log once, in the order of its author, at
the place that was acknowledged. Exit status 1 means that one is not.
"""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, execute
from twisted.internet.task import react

from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.sqlite_store import SqliteStore
from netsvc.chat.store import NewLog, Outcome, Retried, StoreError
from netsvc.net.blocking import blocking_runner

ROOM = "#room"
AUTHORS = 8

#: Each author sends so many lines at once, and again after so many seconds: 1,000 lines a second in all.
LINES_AT_ONCE = 5
INTERVAL = LINES_AT_ONCE * AUTHORS / 1_000

#: Seconds after its start at which a process is killed, and after which one that hangs is killed.
LIVES = (0.05, 1.0)
PATIENCE = 60.0


@dataclass(slots=True)
class Kills:
    """What is found in the end."""

    kills: int
    acknowledged: int
    lost: int
    doubled: int
    moved: int
    gaps: int
    out_of_order: int

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.moved or self.gaps or self.out_of_order)


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, check and print."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--append"]:
        react(lambda reactor: ensureDeferred(_append(reactor, *arguments[1:])))
    with tempfile.TemporaryDirectory() as folder:
        found = kill_and_check(Path(folder) / "chat.db", int(arguments[0]) if arguments else 20)
    sys.stdout.write(f"{found}\n")
    return 0 if found.is_good else 1


def kill_and_check(path: Path, kills: int) -> Kills:
    """Kill so many processes, let a last one end by itself, and compare the file with what they acknowledged."""
    acknowledged: dict[tuple[str, str], int] = {}
    moved = 0
    for kill in range(kills + 1):
        starts = [1 + sum(author == f"author{number}" for author, _ in acknowledged) for number in range(AUTHORS)]
        is_last = kill == kills
        command = [
            sys.executable,
            "-m",
            "tests.chat_kills",
            "--append",
            str(path),
            str(int(is_last)),
            json.dumps(starts),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
            timer = threading.Timer(PATIENCE if is_last else random.uniform(*LIVES), process.kill)
            timer.start()
            for line in process.stdout:
                if line.endswith("\n"):  # the last one may be cut
                    author, message_id, offset = line.split()
                    moved += acknowledged.setdefault((author, message_id), int(offset)) != int(offset)
            timer.cancel()
        assert process.returncode == (0 if is_last else -9), f"exit status {process.returncode}"
    entries = _entries_of(path)
    places: dict[tuple[str, str], list[int]] = {}
    for entry in entries:
        places.setdefault((entry.author, entry.message_id), []).append(entry.offset)
    offsets = [entry.offset for entry in entries]
    numbers = [[int(entry.message_id) for entry in entries if entry.author == f"author{n}"] for n in range(AUTHORS)]
    return Kills(
        kills,
        len(acknowledged),
        lost=sum(line not in places for line in acknowledged),
        doubled=sum(len(found) - 1 for found in places.values()),
        moved=moved + sum(offset not in places.get(line, [offset]) for line, offset in acknowledged.items()),
        gaps=len(set(range(1, len(entries) + 1)) - set(offsets)),
        out_of_order=sum(of_author != list(range(1, len(of_author) + 1)) for of_author in numbers),
    )


def _entries_of(path: Path) -> Sequence[Entry]:
    found: list[Sequence[Entry]] = []
    store = SqliteStore(str(path), execute, lambda: 0.0, entries_max=0, age_max=0.0)
    store.open(_ignore, _ignore)
    store.read(ROOM, 0, 1 << 30).addCallback(found.append)
    store.close()
    return found[0]


def _ignore(event: Entry | NewLog) -> None:
    """Deliver an entry to nobody."""


async def _append(reactor: Any, path: str, is_last: str, starts: str) -> None:
    """Append lines of all authors from the given numbers on, for ever or for a moment."""
    store = SqliteStore(path, blocking_runner(reactor), reactor.seconds, entries_max=0, age_max=0.0)
    store.open(_ignore, _ignore)
    await store.subscribe(ROOM)
    next_numbers = json.loads(starts)

    def appended(answer: Outcome) -> None:
        if isinstance(answer, StoreError):
            raise answer
        entry = answer.entry if isinstance(answer, Retried) else answer
        assert isinstance(entry, Entry), "a store in a file knows the outcome in time"
        sys.stdout.write(f"{entry.author} {entry.message_id} {entry.offset}\n")
        sys.stdout.flush()

    sys.stdout.write("begins\n")
    sys.stdout.flush()
    for _ in range(10) if is_last == "1" else itertools.count():
        for number in range(AUTHORS):
            for _ in range(LINES_AT_ONCE):
                message_id = str(next_numbers[number])
                next_numbers[number] += 1
                draft = Draft(ROOM, EntryKind.SAID, "nick", f"line {message_id}", 0.0, f"author{number}", message_id)
                store.append(draft, appended)
        interval: Deferred[None] = Deferred()
        reactor.callLater(INTERVAL, interval.callback, None)
        await interval
    await store.close()


if __name__ == "__main__":
    sys.exit(main())
