"""STAMP sessions of forged sources: ``python -m hostile.forged_sessions [SESSIONS]``.

A forger writes any source address, port and session identifier into its questions. The reflector of ``twist netsvc
--stamp 862``, with its default flags, gets questions of SESSIONS sessions. Three of four ask again, so that they are
kept. The sources have random addresses of IPv6, which take the most memory. They ask 5,000 times per second of virtual
time, which ``--udp-total`` allows. The memory may not grow by more than 8 MiB.
"""

from __future__ import annotations

import argparse
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from resource import getpagesize
from socket import AF_INET6, inet_ntop

from twisted.internet.task import Clock

from hostile.finding import MIB, Finding
from netsvc import Config
from netsvc.limits.admission import Admission
from netsvc.net.terms import Terms
from netsvc.server.services import SERVICES
from netsvc.stamp.packets import StampQuestion, encode_question
from netsvc.stamp.server import StampReflector
from netsvc.stamp.stamp_times import ErrorEstimate, TimeFormat
from netsvc.wire.datagram import Datagram

#: Questions per second of virtual time.
RATE = 5_000

#: The growth of memory that is allowed, in bytes.
GROWTH_MAX = 8 * MIB

#: Sessions whose questions arrive together.
BATCH = 32

_BEFORE_SSID = encode_question(StampQuestion(0, 0, ErrorEstimate(False, TimeFormat.NTP, 0.001)))[:14]
_HERE = bytes(15) + b"\1"


def forge(sessions: int, memory: Callable[[], int], seed: int = 1) -> tuple[int, int]:
    """Send the questions of forged sessions to a reflector.

    :param memory: returns the memory of the process in bytes.
    :return: by how much the memory has grown, and the number of answers.
    """
    clock, chance = Clock(), Random(seed)
    [row] = [each for each in SERVICES if each.name == "stamp"]
    terms = Terms.on(clock, admission=Admission.unlimited())
    assert row.datagrams is not None
    before = memory()
    reflector = row.datagrams(terms, Config(stamp=["862"]))()
    assert isinstance(reflector, StampReflector)
    for first in range(0, sessions, BATCH):
        batch = []
        for number in range(first, min(first + BATCH, sessions)):
            peer = (inet_ntop(AF_INET6, chance.randbytes(16)), 1_024 + chance.getrandbits(15), 0, 0)
            question = Datagram(_BEFORE_SSID + chance.randbytes(2) + bytes(28), peer, _HERE, ttl=64)
            batch += [question] * (1 + (number % 4 > 0))
        clock.advance(len(batch) / RATE)
        for _ in reflector.batch_received(batch):
            pass
    return memory() - before, terms.counters.replies


def resident() -> int:
    """Return the resident memory of this process in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


def traced() -> int:
    """Return the memory of the objects that Python has made since ``tracemalloc`` started, in bytes."""
    return tracemalloc.get_traced_memory()[0]


def findings(sessions: int) -> list[Finding]:
    """Measure both: what the process takes, and what the objects take."""
    forge(1_000, resident)  # what is made once
    found = []
    for what, memory in (("the process", resident), ("the objects", traced)):
        if memory is traced:
            tracemalloc.start()
        growth, answers = forge(sessions, memory)
        assert answers == sessions + sessions * 3 // 4, f"only {answers:,} questions were answered"
        found.append(
            Finding(f"memory of {what} after {sessions:,} forged sessions", growth / MIB, GROWTH_MAX / MIB, "MiB")
        )
    tracemalloc.stop()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each figure. The exit status is 1 if a bound did not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m hostile.forged_sessions", description="STAMP sessions of forged sources."
    )
    parser.add_argument(
        "sessions", nargs="?", type=int, default=1_000_000, help="number of sessions (default: 1,000,000)"
    )
    found = findings(parser.parse_args(argv).sessions)
    for finding in found:
        print(f"{finding.what}: {finding.figure:.2f} MiB, bound {finding.most:g} MiB")
    return 0 if all(finding.within_bound for finding in found) else 1


if __name__ == "__main__":
    sys.exit(main())
