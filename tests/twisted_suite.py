"""Run Twisted's own tests of reactors on a given reactor: ``python -m tests.twisted_suite``.

Twisted tests its reactors with mixins that build each test class once for every reactor. Here, they build it for one
reactor: by default the simulated one, otherwise the one that ``--reactor`` names.

A table lists the tests that do not apply to a reactor, with a reason for each; these tests are excluded. The command
fails if any other test fails, or if an entry of the table matches no test. At the end, it prints a summary as a
Markdown table.

The tests need ``pyhamcrest`` and ``httpx`` in addition to Twisted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, TextIO
from unittest import TestLoader

import twisted.internet.test
from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.python.failure import Failure
from twisted.trial.reporter import TestResult
from twisted.trial.runner import LoggedSuite
from twisted.trial.unittest import SynchronousTestCase

from netsvc import reactor as reactors
from netsvc.testing import Network

PACKAGE = "twisted.internet.test"
SIMULATED = "tests.twisted_suite.SimulatedReactor"

#: Timeout of the tests of one module, in seconds of real time.
TIMEOUT = 60.0

PASSED, SKIPPED, EXCLUDED, FAILED, STARTED = "passed", "skipped by Twisted", "excluded", "failed", "started"

_SIGNALS = "checks the signal handlers of the process, which a simulated reactor does not change"
_ZONE = "expects the zone of a link-local address, which names an interface of the real host"
_DESCRIPTORS = "uses real file descriptors"
_CLIENT = "connects a real socket to the port under test"
_EMFILE = "fills the descriptor table of the process (EMFILE), which simulated sockets do not use"
_PASSING = "passes real file descriptors over UNIX sockets"
_MODE = "checks the file mode of a UNIX socket; a simulated socket has no file"
_PATCH = "patches the method with which Twisted's ports create real sockets; simulated ports do not call it"
_THREADS = "needs a pool of real threads; a simulated host runs such functions at once, in virtual time"
_PULL = (
    "has a pull producer that never writes: Twisted's Cooperator calls it for 10 ms of real time in each reactor "
    "iteration, during which virtual time hardly advances"
)

_LOST = "is skipped by Twisted for EPollReactor, by the name of the class; these reactors are subclasses of it"
_ROOT = "fails on every reactor if root runs it"
_LOOPS = {
    "test_fdset.ReactorFDSetTestsBuilder.test_lostFileDescriptor": _LOST,
    "test_process.*.test_changeUID": _ROOT,
}

#: The excluded tests of each reactor, as patterns of ``module.Class.test``, with the reasons.
EXCLUDED_TESTS: Mapping[str, Mapping[str, str]] = {
    **{
        f"tests.twisted_suite.{when}{loop}Reactor": _LOOPS
        for when in ("", "Eager", "Early")
        for loop in ("Asyncio", "Uvloop")
    },
    SIMULATED: {
        "test_core.SystemEventTestsBuilder.test_signalHandlersInstalledDuringStartup": _SIGNALS,
        "test_fdset.ReactorFDSetTestsBuilder.*": _DESCRIPTORS,
        "test_stdio.StdioFilesTests.*": _DESCRIPTORS,
        "test_tcp.TCPPortTestsBuilder.test_buildProtocolIPv*": _CLIENT,
        "test_tcp.TCPPortTestsBuilder.test_serverGet*": _CLIENT,
        "test_tcp.TCP*PortTestsBuilder.test_closePeerOnEMFILE": _EMFILE,
        "test_tls.TLSPortTestsBuilder.test_closePeerOnEMFILE": _EMFILE,
        "test_unix.UNIXPortTestsBuilder.test_closePeerOnEMFILE": _EMFILE,
        "test_unix.UNIXTestsBuilder.test_avoidLeakingFileDescriptors": _PASSING,
        "test_unix.UNIXTestsBuilder.test_descriptorDeliveredBeforeBytes": _PASSING,
        "test_unix.UNIXTestsBuilder.test_sendFileDescriptor*": _PASSING,
        "test_unix.UNIXTestsBuilder.test_mode": _MODE,
        "test_unix.UNIXTestsBuilder.test_listenFailure": _PATCH,
        "test_tls.AbortSSLConnectionTests.test_fullWriteBufferAfterByteExchange": _PULL,
        "test_threads.ThreadTestsBuilder.test_getThreadPool": _THREADS,
        "test_threads.ThreadTestsBuilder.test_suggestThreadPoolSize": _THREADS,
        "test_threads.ThreadTestsBuilder.test_stopThreadPool*": _THREADS,
        "test_threads.ThreadTestsBuilder.test_cleanUpThreadPoolEvenBeforeReactorIsRun": _THREADS,
        "test_threads.ThreadTestsBuilder.test_isInIOThread": _THREADS,
        "test_tcp.TCP6ClientTestsBuilder.test_addresses": _ZONE,
        "test_tcp.TCPPortTestsBuilder.test_portGetHostOnIPv6ScopeID": _ZONE,
        "test_tcp.TCPTransportTestsBuilder.test_serverAddressTCP6": _ZONE,
    },
}


def SimulatedReactor(case: SynchronousTestCase) -> Any:
    """Create a network with one host, which has the addresses that the tests use. Returns its reactor."""
    # This import builds test classes. It has to be late, because the reactor must be set before.
    from twisted.internet.test.test_tcp import getLinkLocalIPv6Addresses

    link_local = dict.fromkeys(address.partition("%")[0] for address in getLinkLocalIPv6Addresses())
    return Network().host("host", "127.0.0.1", "::1", *link_local).reactor


def AsyncioReactor(case: SynchronousTestCase) -> Any:
    reactor = reactors.AsyncioReactor()
    case.addCleanup(reactor.loop.close)
    return reactor


def UvloopReactor(case: SynchronousTestCase, hand_over_at: int = reactors.UvloopReactor.hand_over_at) -> Any:
    """Create a reactor that hands connections over at this read or write."""
    reactor = reactors.UvloopReactor()
    reactor.hand_over_at = hand_over_at
    case.addCleanup(reactor.loop.close)
    return reactor


def EagerUvloopReactor(case: SynchronousTestCase) -> Any:
    return UvloopReactor(case, 0)


def EarlyUvloopReactor(case: SynchronousTestCase) -> Any:
    return UvloopReactor(case, 1)


# The tests of one module, in a new process


@dataclass(frozen=True)
class Outcome:
    """The outcome of a test.

    :ivar test: its ``module.Class.test``.
    :ivar status: one of ``PASSED``, ``SKIPPED``, ``EXCLUDED`` and ``FAILED``, or ``STARTED`` while it runs.
    :ivar reason: the reason for skipping or excluding it, or its traceback.
    """

    test: str
    status: str
    reason: str = ""


class Recorder(TestResult):
    """Writes each outcome to a file at once, so that the file shows at which test a process has stopped."""

    def __init__(self, file: TextIO, names: Mapping[str, str]) -> None:
        super().__init__()
        self._file = file
        self._names = names

    def record(self, outcome: Outcome) -> None:
        """Write one line."""
        self._file.write(json.dumps(asdict(outcome)) + "\n")
        self._file.flush()

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._record(test, STARTED)

    def addSuccess(self, test: Any) -> None:
        self._record(test, PASSED)

    def addFailure(self, test: Any, fail: Any) -> None:
        self._record(test, FAILED, self._getFailure(fail))

    def addError(self, test: Any, error: Any) -> None:
        self._record(test, FAILED, self._getFailure(error))

    def addSkip(self, test: Any, reason: Any) -> None:
        self._record(test, SKIPPED, reason)

    def addExpectedFailure(self, test: Any, error: Any, todo: Any = None) -> None:
        self._record(test, PASSED)

    def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
        self._record(test, FAILED, "The test passed, but Twisted expects it to fail.")

    def _record(self, test: Any, status: str, reason: Any = "") -> None:
        name = self._names.get(test.id(), test.id())  # errors outside of tests have names that trial invents
        text = reason.getTraceback() if isinstance(reason, Failure) else str(reason)
        self.record(Outcome(name, status, text))


def run_module(module: str, reactor: str, file: TextIO) -> None:
    """Run the tests that ``module`` builds for ``reactor``, and write the outcomes to ``file``."""
    ReactorBuilder._reactors = [reactor]
    suffix = f"_{reactor.rpartition('.')[2]}Tests"
    loader = TestLoader()
    cases: dict[str, Any] = {}
    for name, built in vars(import_module(f"{PACKAGE}.{module}")).items():
        if name.endswith(suffix) and issubclass(built, SynchronousTestCase):
            cases |= {
                f"{module}.{name.removesuffix(suffix)}.{method}": built(method)
                for method in loader.getTestCaseNames(built)
            }
    recorder = Recorder(file, {case.id(): name for name, case in cases.items()})
    table = EXCLUDED_TESTS.get(reactor, {})
    for name in list(cases):
        reason = next((reason for pattern, reason in table.items() if fnmatchcase(name, pattern)), "")
        if reason:
            del cases[name]
            recorder.record(Outcome(name, EXCLUDED, reason))
    LoggedSuite(cases.values()).run(recorder)


# All modules, and the report


def modules() -> list[str]:
    """Return the modules of Twisted's tests that build test classes for reactors."""
    folder = Path(next(iter(twisted.internet.test.__path__)))
    return sorted(
        path.stem for path in folder.glob("test_*.py") if ".makeTestCaseClasses())" in path.read_text("utf-8")
    )


def run_in_process(module: str, reactor: str) -> list[Outcome]:
    """Run the tests of one module in a new process and directory. A failure of the process is an outcome, too."""
    root = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="twisted_suite-") as directory:
        outcomes, output = Path(directory, "outcomes"), Path(directory, "output")
        outcomes.touch()
        problem = ""
        with output.open("wb") as out:
            try:
                status = subprocess.run(
                    [sys.executable, "-m", "tests.twisted_suite", "--reactor", reactor, "--child", module, outcomes],
                    cwd=directory,
                    env={**os.environ, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    timeout=TIMEOUT,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                problem = f"still running after {TIMEOUT:g} s"
            else:
                problem = f"ended with status {status}:\n{output.read_text('utf-8', 'replace')}" if status else ""
        found = [Outcome(**json.loads(line)) for line in outcomes.read_text("utf-8").splitlines()]
    if problem:
        failed = found[-1].test if found and found[-1].status == STARTED else module
        found.append(Outcome(failed, FAILED, problem))
    return found


@dataclass
class Report:
    """The outcomes of all tests.

    :ivar outcomes: the outcome of each test, by its name.
    """

    reactor: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Add an outcome. If a test has several outcomes, a failure replaces the others."""
        before = self.outcomes.get(outcome.test)
        if before is not None and before.status == FAILED:
            if outcome.status == FAILED:
                self.outcomes[outcome.test] = Outcome(outcome.test, FAILED, f"{before.reason}\n{outcome.reason}")
        else:
            self.outcomes[outcome.test] = outcome

    @property
    def problems(self) -> list[str]:
        """The reasons why the command fails: failed tests with tracebacks, and unused entries of the table."""
        problems = [
            f"{outcome.test} {'failed' if outcome.status == FAILED else 'has no outcome'}\n{outcome.reason}".rstrip()
            for outcome in self.outcomes.values()
            if outcome.status in (FAILED, STARTED)
        ]
        unused = [
            f"the pattern {pattern!r} of an excluded test matches no test"
            for pattern in EXCLUDED_TESTS.get(self.reactor, {})
            if not any(fnmatchcase(test, pattern) for test in self.outcomes)
        ]
        return problems + unused + ([] if self.outcomes else ["there are no tests"])

    def summary(self) -> Iterator[str]:
        """Return the lines of a table in Markdown."""
        counts = Counter(outcome.status for outcome in self.outcomes.values())
        run = len(self.outcomes) - counts[EXCLUDED]
        yield f"`{PACKAGE}` of Twisted {version('Twisted')}, on `{self.reactor}`: {run} tests run."
        yield ""
        yield "| outcome | tests | reason |"
        yield "|---|---:|---|"
        yield f"| {PASSED} | {counts[PASSED]} | |"
        yield f"| {FAILED} | {counts[FAILED] + counts[STARTED]} | |"
        for status in (SKIPPED, EXCLUDED):
            reasons = Counter(
                _one_line(outcome.reason) for outcome in self.outcomes.values() if outcome.status == status
            )
            for reason, count in reasons.most_common():
                yield f"| {status} | {count} | {reason} |"


def _one_line(reason: str) -> str:
    """Return a reason in one line, without the name of the reactor, which some tests include."""
    return re.sub(r"^\S+ does not provide", "the reactor does not provide", " ".join(reason.split())).replace(
        "|", r"\|"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.twisted_suite", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--reactor", default=SIMULATED, help="dotted name of its class, or of a function that returns a new reactor"
    )
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)  # the module, and the file for the outcomes
    options = parser.parse_args(arguments)
    if options.child:
        module, outcomes = options.child
        with open(outcomes, "w", encoding="utf-8") as file:
            run_module(module, options.reactor, file)
        return 0
    report = Report(options.reactor)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in chain.from_iterable(pool.map(lambda module: run_in_process(module, options.reactor), modules())):
            report.add(outcome)
    problems = report.problems
    for problem in problems:
        sys.stdout.write(f"{problem}\n{'=' * 79}\n")
    sys.stdout.write("\n".join([*report.summary(), ""]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
