"""Run programs of Scrapy, aiohttp, httpx and crochet on netsvc's reactors: ``python -m tests.foreign.programs``.

A program fails if it prints anything else than what is expected. Exit status 1 means that one has failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.foreign.environment import environment

#: The name of each reactor's class, by module.
REACTORS = {"netsvc.reactor.asyncio": "AsyncioReactor", "netsvc.reactor.uvloop": "UvloopReactor"}

#: Programs, the arguments that follow the reactor, and what is printed before the name of the reactor.
PROGRAMS: Sequence[tuple[str, Sequence[str], str]] = (
    ("scrapy_crawl.py", ["by-name"], "200 pages"),
    ("scrapy_crawl.py", ["preinstalled"], "200 pages"),
    ("aiohttp_requests.py", [], "200 pages, 19900, HELLO, 3000000 bytes, b'hi'"),
    ("crochet_thread.py", [], "200 answers, from a process"),
)

#: Seconds after which a program is ended.
LIMIT = 60


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.foreign.programs", description=(__doc__ or "").partition(":")[0]
    )
    parser.add_argument("--python", default=sys.executable, metavar="PROGRAM", help="Python to run them on")
    python = environment(parser.parse_args(arguments).python)
    failed = 0
    for program, words, expected in PROGRAMS:
        for reactor, name in REACTORS.items():
            printed = output(python, program, [reactor, *words])
            passed = printed == f"{expected} on {name}\n"
            failed += not passed
            sys.stdout.write(f"{'passed' if passed else 'FAILED'}: {' '.join([program, reactor, *words])}\n")
            if not passed:
                sys.stdout.write(printed)
    return 1 if failed else 0


def output(python: Path, program: str, arguments: Sequence[str]) -> str:
    """Run a program. Returns what it printed, errors included."""
    command: list[str | Path] = [python, Path(__file__).with_name(program), *arguments]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"not ended after {LIMIT} s\n"
    return done.stdout.decode()


if __name__ == "__main__":
    sys.exit(main())
