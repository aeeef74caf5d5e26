"""A system that misbehaves: its clock is set."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hostile.finding import Finding, quiet
from hostile.target import ANY, NotPossibleError, Serving, connect, many


def clock_forward(serving: Serving, seconds: float) -> Iterator[Finding]:
    """The wall clock is set forward by an hour, while 40 peers are idle and the lines of one wait for their time."""
    yield from _set_clock(serving, ["+3600"])


def clock_back(serving: Serving, seconds: float) -> Iterator[Finding]:
    """The wall clock is set back by an hour, twice. Only netsvc's own reactors are expected to bear that."""
    yield from _set_clock(serving, ["-3600", "-7200"], own_reactor=True)


def _set_clock(serving: Serving, steps: list[str], own_reactor: bool = False) -> Iterator[Finding]:
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
            if own_reactor and not target.shifts_timers:
                raise NotPossibleError("the timers of Twisted's own reactors wait until the clock is where it was")
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
