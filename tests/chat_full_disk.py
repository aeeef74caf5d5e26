"""Fill a small disk, append to a store on it, and free space: for test_chat_stores, in a mount namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from twisted.internet.defer import execute

from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.sqlite_store import SqliteStore
from netsvc.chat.store import NewLog, Outcome, StoreError

ROOM = "#room"


def main(folder: str) -> None:
    """Print the offset of the last entry, five refusals, the offset of the next entry, and why no file can be made."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    answers: list[Outcome] = []
    store = SqliteStore(str(Path(folder) / "chat.db"), execute, lambda: 0.0)
    store.open(answers.append, _ignore)
    store.subscribe(ROOM)

    def append() -> Outcome:
        store.append(Draft(ROOM, EntryKind.SAID, "alice", "x" * 1_000, 0.0), answers.append)
        return answers[-1]

    for _ in range(20):
        append()
    filler = Path(folder) / "filler"
    _fill(filler)
    last = answers[-1]
    while isinstance(answer := append(), Entry):
        last = answer
    assert isinstance(last, Entry)
    sys.stdout.write(f"{last.offset}\n{answer}\n")
    for _ in range(4):
        sys.stdout.write(f"{append()}\n")
    states: list[object] = []
    store.subscribe(ROOM).addCallback(states.append)
    assert states, "a subscription needs no space"
    filler.unlink()
    after = append()
    assert isinstance(after, Entry), after
    sys.stdout.write(f"{after.offset}\n")
    store.close()
    _fill(filler)
    try:
        SqliteStore(str(Path(folder) / "new.db"), execute, lambda: 0.0).open(answers.append, _ignore)
    except StoreError as e:
        sys.stdout.write(f"{e}\n")


def _ignore(new: NewLog) -> None:
    """A file notices no new log."""


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4_096)):
            pass


if __name__ == "__main__":
    main(sys.argv[1])
