"""Twisted's own tests of reactors, run on a reactor of choice: ``python -m tests.twisted_suite``.

Twisted tests its reactors with mixins that build each test class once for every reactor. Here they build it for one:
that of a simulated host, or the one that ``--reactor`` names. What cannot be expected of that reactor is left out by a
table that gives the reason; whatever else does not pass makes the command fail, and so does an entry of the table that
no test matches. At the end a summary is printed, as a table in Markdown.

The tests need ``pyhamcrest`` and ``httpx`` besides Twisted.
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

#: Seconds of real time that the tests of one module may take.
TIMEOUT = 60.0

PASSED, SKIPPED, LEFT_OUT, FAILED, STARTED = "passed", "skipped by Twisted", "left out", "failed", "started"

_SIGNALS = "watches the process's signal handlers, which a simulated reactor leaves alone"
_ZONE = "looks for the zone of a link-local address, which names one of the real host's interfaces"
_DESCRIPTORS = "has the reactor watch real file descriptors"
_CLIENT = "connects a real socket to the port under test"
_EMFILE = "fills the process's table of descriptors (EMFILE), in which simulated sockets have no place"
_PASSING = "passes real file descriptors over UNIX sockets"
_MODE = "looks at the mode of a UNIX socket's file, where a simulated one has no file"
_PATCH = "patches the method by which Twisted's ports open real sockets, which a simulated port has no use for"
_PULL = (
    "has a pull producer that never writes: Twisted's Cooperator asks it for 10 ms of real time in each turn, "
    "in which virtual time hardly moves"
)

_LOST = "is one that Twisted skips for EPollReactor, by the name of its class, and these are EPollReactors"
_ROOT = "fails for every reactor if it is run by root"
_LOOPS = {
    "test_fdset.ReactorFDSetTestsBuilder.test_lostFileDescriptor": _LOST,
    "test_process.*.test_changeUID": _ROOT,
}

#: By reactor: which tests are not run, as patterns of ``module.Class.test``, and why.
LEFT_OUT_OF: Mapping[str, Mapping[str, str]] = {
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
        "test_tcp.TCP6ClientTestsBuilder.test_addresses": _ZONE,
        "test_tcp.TCPPortTestsBuilder.test_portGetHostOnIPv6ScopeID": _ZONE,
        "test_tcp.TCPTransportTestsBuilder.test_serverAddressTCP6": _ZONE,
    },
}


def SimulatedReactor(case: SynchronousTestCase) -> Any:
    """Return the reactor of a host that has the addresses which the tests use, on a network of its own."""
    # Importing this builds test classes, which has to wait until it is known for which reactor.
    from twisted.internet.test.test_tcp import getLinkLocalIPv6Addresses

    link_local = dict.fromkeys(address.partition("%")[0] for address in getLinkLocalIPv6Addresses())
    return Network().host("host", "127.0.0.1", "::1", *link_local).reactor


def _on_loop(case: SynchronousTestCase, reactor: Any, hand_over_at: int) -> Any:
    """Return a reactor that hands its connections over at that read or write; its loop is closed at the end."""
    reactor.hand_over_at = hand_over_at
    case.addCleanup(reactor.loop.close)
    return reactor


def AsyncioReactor(case: SynchronousTestCase) -> Any:
    return _on_loop(case, reactors.AsyncioReactor(), 12)


def EagerAsyncioReactor(case: SynchronousTestCase) -> Any:
    return _on_loop(case, reactors.AsyncioReactor(), 0)


def EarlyAsyncioReactor(case: SynchronousTestCase) -> Any:
    return _on_loop(case, reactors.AsyncioReactor(), 1)


def UvloopReactor(case: SynchronousTestCase) -> Any:
    return _on_loop(case, reactors.UvloopReactor(), 12)


def EagerUvloopReactor(case: SynchronousTestCase) -> Any:
    return _on_loop(case, reactors.UvloopReactor(), 0)


def EarlyUvloopReactor(case: SynchronousTestCase) -> Any:
    return _on_loop(case, reactors.UvloopReactor(), 1)


# One module's tests, in a process of their own


@dataclass(frozen=True)
class Outcome:
    """What became of a test.

    :ivar test: its ``module.Class.test``.
    :ivar what: one of ``PASSED``, ``SKIPPED``, ``LEFT_OUT``, ``FAILED``, and ``STARTED`` before it is known.
    :ivar why: the reason, or the traceback.
    """

    test: str
    what: str
    why: str = ""


class Recorder(TestResult):
    """Writes outcomes to a file as they come, so that a process that hangs has told how far it got."""

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
        self._note(test, STARTED)

    def addSuccess(self, test: Any) -> None:
        self._note(test, PASSED)

    def addFailure(self, test: Any, fail: Any) -> None:
        self._note(test, FAILED, self._getFailure(fail))

    def addError(self, test: Any, error: Any) -> None:
        self._note(test, FAILED, self._getFailure(error))

    def addSkip(self, test: Any, reason: Any) -> None:
        self._note(test, SKIPPED, reason)

    def addExpectedFailure(self, test: Any, error: Any, todo: Any = None) -> None:
        self._note(test, PASSED)

    def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
        self._note(test, FAILED, "It passed, which Twisted did not expect.")

    def _note(self, test: Any, what: str, why: Any = "") -> None:
        name = self._names.get(test.id(), test.id())  # an error that is no test's has a name of trial's
        self.record(Outcome(name, what, why.getTraceback() if isinstance(why, Failure) else str(why)))


def run_module(module: str, reactor: str, file: TextIO) -> None:
    """Run what ``module`` builds for ``reactor``, and write the outcomes to ``file``."""
    ReactorBuilder._reactors = [reactor]
    ending = f"_{reactor.rpartition('.')[2]}Tests"
    loader = TestLoader()
    cases: dict[str, Any] = {}
    for name, built in vars(import_module(f"{PACKAGE}.{module}")).items():
        if name.endswith(ending) and issubclass(built, SynchronousTestCase):
            cases |= {
                f"{module}.{name.removesuffix(ending)}.{method}": built(method)
                for method in loader.getTestCaseNames(built)
            }
    recorder = Recorder(file, {case.id(): name for name, case in cases.items()})
    table = LEFT_OUT_OF.get(reactor, {})
    for name in list(cases):
        reason = next((why for pattern, why in table.items() if fnmatchcase(name, pattern)), "")
        if reason:
            del cases[name]
            recorder.record(Outcome(name, LEFT_OUT, reason))
    LoggedSuite(cases.values()).run(recorder)


# All modules, and what comes of them


def modules() -> list[str]:
    """Return which modules of Twisted's tests build classes for reactors."""
    folder = Path(next(iter(twisted.internet.test.__path__)))
    return sorted(
        path.stem for path in folder.glob("test_*.py") if ".makeTestCaseClasses())" in path.read_text("utf-8")
    )


def run_apart(module: str, reactor: str) -> list[Outcome]:
    """Run one module's tests in a process and a directory of their own. Its failure is an outcome, too."""
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="twisted_suite-") as directory:
        outcomes, output = Path(directory, "outcomes"), Path(directory, "output")
        outcomes.touch()
        trouble = ""
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
                trouble = f"still running after {TIMEOUT:g} s"
            else:
                trouble = f"ended with status {status}:\n{output.read_text('utf-8', 'replace')}" if status else ""
        found = [Outcome(**json.loads(line)) for line in outcomes.read_text("utf-8").splitlines()]
    if trouble:
        culprit = found[-1].test if found and found[-1].what == STARTED else module
        found.append(Outcome(culprit, FAILED, trouble))
    return found


@dataclass
class Report:
    """What became of all tests.

    :ivar outcomes: of each test, by its name.
    """

    reactor: str
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Take one outcome. Of several that a test has, a failure outweighs the others."""
        before = self.outcomes.get(outcome.test)
        if before is not None and before.what == FAILED:
            if outcome.what == FAILED:
                self.outcomes[outcome.test] = Outcome(outcome.test, FAILED, f"{before.why}\n{outcome.why}")
        else:
            self.outcomes[outcome.test] = outcome

    @property
    def problems(self) -> list[str]:
        """What makes the command fail: tests, with their tracebacks, and entries of the table."""
        problems = [
            f"{one.test} {'failed' if one.what == FAILED else 'has no outcome'}\n{one.why}".rstrip()
            for one in self.outcomes.values()
            if one.what in (FAILED, STARTED)
        ]
        unused = [
            f"{pattern!r} is left out, but no test is called that"
            for pattern in LEFT_OUT_OF.get(self.reactor, {})
            if not any(fnmatchcase(test, pattern) for test in self.outcomes)
        ]
        return problems + unused + ([] if self.outcomes else ["there are no tests"])

    def summary(self) -> Iterator[str]:
        """Return the lines of a table in Markdown."""
        counts = Counter(one.what for one in self.outcomes.values())
        run = self.outcomes.keys() - {one.test for one in self.outcomes.values() if one.what == LEFT_OUT}
        yield f"`{PACKAGE}` of Twisted {version('Twisted')}, on `{self.reactor}`: {len(run)} tests run."
        yield ""
        yield "| outcome | tests | why |"
        yield "|---|---:|---|"
        yield f"| {PASSED} | {counts[PASSED]} | |"
        yield f"| {FAILED} | {counts[FAILED] + counts[STARTED]} | |"
        for what in (SKIPPED, LEFT_OUT):
            reasons = Counter(_reason(one.why) for one in self.outcomes.values() if one.what == what)
            for why, count in reasons.most_common():
                yield f"| {what} | {count} | {why} |"


def _reason(why: str) -> str:
    """Return a reason for skipping in one line, and without the name that some tests give the reactor."""
    return re.sub(r"^\S+ does not provide", "the reactor does not provide", " ".join(why.split())).replace("|", r"\|")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.twisted_suite", description=__doc__.split("\n")[0])
    parser.add_argument("--reactor", default=SIMULATED, help="dotted name of its class, or of what returns a new one")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)  # a module, and the file for its outcomes
    options = parser.parse_args(arguments)
    if options.child:
        module, outcomes = options.child
        with open(outcomes, "w", encoding="utf-8") as file:
            run_module(module, options.reactor, file)
        return 0
    report = Report(options.reactor)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for outcome in chain.from_iterable(pool.map(lambda module: run_apart(module, options.reactor), modules())):
            report.add(outcome)
    problems = report.problems
    for problem in problems:
        sys.stdout.write(f"{problem}\n{'=' * 79}\n")
    sys.stdout.write("\n".join([*report.summary(), ""]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
