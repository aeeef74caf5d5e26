"""Run a test suite with trial on a reactor and write the outcome of each test to a file.

It runs as a script, in an environment that has the suite, Twisted and netsvc, but not these tests::

    python trial_outcomes.py MODULE-OF-THE-REACTOR FILE NAME...

The file has one JSON array for each event: ``[test, outcome]``. The outcome ``started`` precedes each other one, so
that a test that ends the process is known.
"""

from __future__ import annotations

import json
import resource
import sys
from importlib import import_module
from typing import Any, TextIO

STARTED, PASSED, FAILED, SKIPPED = "started", "passed", "failed", "skipped"


#: Bytes. A suite that never ends must not fill the disk with its log.
FILE_MAX = 2**28


def main(reactor: str, path: str, *names: str) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_MAX, FILE_MAX))
    import_module(reactor).install()
    # Twisted must be imported after the reactor is installed.
    from twisted.trial import reporter, runner

    with open(path, "a", buffering=1) as file:

        class Recorder(reporter.Reporter):
            """Writes each outcome down as soon as it is known."""

            def startTest(self, test: Any) -> None:
                super().startTest(test)
                record(file, test, STARTED)

            def addSuccess(self, test: Any) -> None:
                super().addSuccess(test)
                record(file, test, PASSED)

            def addSkip(self, test: Any, reason: Any) -> None:
                super().addSkip(test, reason)
                record(file, test, SKIPPED)

            def addError(self, test: Any, error: Any) -> None:
                super().addError(test, error)
                record(file, test, FAILED)

            addFailure = addError

            def addExpectedFailure(self, test: Any, failure: Any, todo: Any = None) -> None:
                super().addExpectedFailure(test, failure, todo)
                record(file, test, PASSED)

            def addUnexpectedSuccess(self, test: Any, todo: Any = None) -> None:
                super().addUnexpectedSuccess(test, todo)
                record(file, test, FAILED)

        loader = runner.TestLoader()
        suite = runner.TestSuite([loader.loadByName(name, True) for name in names])
        runner.TrialRunner(Recorder, workingDirectory=f"{path}.trial").run(suite)


def record(file: TextIO, test: Any, outcome: str) -> None:
    file.write(json.dumps([test.id(), outcome]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
