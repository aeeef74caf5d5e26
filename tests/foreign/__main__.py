"""Run foreign test suites on netsvc's reactors and on EPollReactor, and compare the outcomes test by test.

``python -m tests.foreign`` runs the tests of Twisted and of other projects on the Python that runs it,
``python -m tests.foreign --python python3.13`` on another one. It installs them in an environment of its own, below
``.foreign``. ``--selection`` runs what fits into four minutes.

A test that differs is run again, on each reactor in a process of its own, up to three times: a test that fails now and
then on EPollReactor says nothing about a reactor. At the end, the command prints a table in Markdown and each
difference. Exit status 1 means that there are differences, or that a suite did not run to its end on EPollReactor.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.foreign.environment import environment
from tests.foreign.trial_outcomes import FAILED, PASSED, SKIPPED, STARTED

BASELINE = "twisted.internet.epollreactor"
REACTORS = ("netsvc.reactor.asyncio", "netsvc.reactor.uvloop")

#: The suites, and the modules or packages of each.
SUITES: Mapping[str, tuple[str, ...]] = {
    "twisted.internet": ("twisted.internet.test",),
    "twisted.test": ("twisted.test",),
    "twisted.web": ("twisted.web.test",),
    "twisted.conch": ("twisted.conch.test",),
    "twisted.names": ("twisted.names.test",),
    "twisted.mail": ("twisted.mail.test",),
    "twisted.words": ("twisted.words.test",),
    "twisted.protocols": ("twisted.protocols.test", "twisted.protocols.haproxy.test"),
    "twisted.application": (
        "twisted.application.test",
        "twisted.application.runner.test",
        "twisted.application.twist.test",
    ),
    "twisted.trial": ("twisted.trial.test", "twisted.trial._dist.test"),
    "the rest of Twisted": tuple(
        f"twisted.{name}.test"
        for name in (
            *("_threads", "cred", "logger", "pair", "persisted"),
            *("positioning", "python", "runner", "scripts", "spread"),
        )
    ),
    "treq": ("treq.test",),
    "klein": ("klein",),
    "autobahn": ("autobahn.websocket", "autobahn.wamp", "autobahn.twisted"),
    "foolscap": ("foolscap.test",),
}

#: The suites that ``--selection`` runs.
SELECTION = ("twisted.test", "twisted.names", "twisted.protocols", "twisted.words", "twisted.web", "treq", "klein")

#: Seconds after which a suite is ended.
LIMIT = 900

RETRIES = 3

#: Stands for the tests that follow if the process of a suite ends early or takes too long.
INCOMPLETE = "the rest of the suite"

Outcomes = dict[str, str]


@dataclass
class Comparison:
    """The outcomes of one suite.

    :ivar outcomes: for each reactor, the outcome of each test.
    :ivar differences: for each reactor, the tests whose outcome differs from that on EPollReactor, each time.
    """

    suite: str
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    differences: dict[str, list[str]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    names = options.suites or (SELECTION if options.selection else list(SUITES))
    python = environment(options.python)
    version = subprocess.check_output([python, "-V"], text=True).split()[1]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        run = Runs(python, Path(folder))
        reactors = (BASELINE, *REACTORS)
        futures = {
            (name, reactor): pool.submit(run.outcomes, reactor, SUITES[name]) for name in names for reactor in reactors
        }
        comparisons = []
        for name in names:
            comparison = Comparison(name, {reactor: futures[name, reactor].result() for reactor in reactors})
            for reactor in REACTORS:
                differing = differences(comparison.outcomes[BASELINE], comparison.outcomes[reactor])
                comparison.differences[reactor] = run.confirmed(reactor, differing)
                for test in set(differing).difference(comparison.differences[reactor]):
                    out(f"differed once, but not each time alone: {test} on {reactor}")
            comparisons.append(comparison)
            out(f"{name}: {len(comparison.outcomes[BASELINE])} tests, differences: {comparison.differences}")
    out("\n" + table(version, comparisons))
    return 0 if all(map(baseline_ran, comparisons)) and not all_differences(comparisons) else 1


def out(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.foreign", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="one of: " + ", ".join(SUITES))
    parser.add_argument("--python", default=sys.executable, metavar="PROGRAM", help="Python to run them on")
    parser.add_argument("--selection", action="store_true", help="run what fits into four minutes")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at the same time (2)")
    return parser


class Runs:
    """Runs suites in processes of their own.

    :param python: the Python of the environment.
    :param folder: for the files that the processes write.
    """

    def __init__(self, python: Path, folder: Path) -> None:
        self._python = python
        self._folder = folder

    def outcomes(self, reactor: str, names: Iterable[str]) -> Outcomes:
        """Run modules, packages or tests on a reactor."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        path = folder / "outcomes"
        script = Path(__file__).with_name("trial_outcomes.py")
        command: list[str | Path] = [self._python, "-W", "ignore", script, reactor, path, *names]
        status: int | None = None
        with (folder / "log").open("wb") as log, suppress(subprocess.TimeoutExpired):
            status = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=LIMIT, check=False
            ).returncode
        outcomes = read_outcomes(path) if path.exists() else {}
        if status != 0:
            outcomes[INCOMPLETE] = FAILED
        return outcomes

    def confirmed(self, reactor: str, tests: Iterable[str]) -> list[str]:
        """Return the tests whose outcome on the reactor differs from that on EPollReactor each time."""
        return [test for test in tests if all(self._differs(reactor, test) for _ in range(RETRIES))]

    def _differs(self, reactor: str, test: str) -> bool:
        """Run a test alone. A test that cannot run alone counts as different."""
        expected = self.outcomes(BASELINE, [test]).get(test)
        return expected is None or self.outcomes(reactor, [test]).get(test) != expected


def read_outcomes(path: Path) -> Outcomes:
    """Return the outcome of each test. A test that has failed once has failed."""
    outcomes: Outcomes = {}
    for line in path.read_text().splitlines():
        test, outcome = json.loads(line)
        if outcomes.get(test) != FAILED:
            outcomes[test] = outcome
    return outcomes


def differences(expected: Outcomes, outcomes: Outcomes) -> list[str]:
    return sorted(test for test in expected.keys() | outcomes.keys() if expected.get(test) != outcomes.get(test))


def all_differences(comparisons: Iterable[Comparison]) -> set[str]:
    return {test for comparison in comparisons for tests in comparison.differences.values() for test in tests}


def baseline_ran(comparison: Comparison) -> bool:
    """Return whether the suite ran to its end on EPollReactor. Otherwise, there is nothing to compare with."""
    outcomes = comparison.outcomes[BASELINE]
    return INCOMPLETE not in outcomes and PASSED in outcomes.values()


def table(version: str, comparisons: Sequence[Comparison]) -> str:
    """Return the result as a Markdown table, followed by a list of the differences."""
    lines = [
        f"| Python {version} | tests | passed | skipped | failed | differ on `AsyncioReactor` | on `UvloopReactor` |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    total: Counter[str] = Counter()
    for each in comparisons:
        counts = Counter(each.outcomes[BASELINE].values())
        counts.update({reactor: len(tests) for reactor, tests in each.differences.items()})
        total.update(counts)
        lines.append(row(each.suite, counts))
    lines.append(row("all", total))
    lines += [f"- `{test}`" for test in sorted(all_differences(comparisons))]
    return "\n".join(lines)


def row(name: str, counts: Mapping[str, int]) -> str:
    tests = sum(counts.get(outcome, 0) for outcome in (PASSED, SKIPPED, FAILED, STARTED))
    cells = [tests, *(counts.get(key, 0) for key in (PASSED, SKIPPED, FAILED, *REACTORS))]
    return f"| {name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
