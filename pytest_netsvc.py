"""A plugin of pytest: the fixture ``network``, a simulated network whose seed comes from the test's name.

It stands beside the package, so that a run of pytest that does not use it imports neither netsvc nor Twisted.
"""

from __future__ import annotations

import gc
import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from netsvc.testing import Network

_SHOWN = pytest.StashKey[bool]()

#: Lines of the trace that are shown when a test fails.
TRACE_SHOWN = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netsvc", "simulated networks")
    group.addoption("--netsvc-seed", type=int, metavar="N", help="the seed of networks (default: from the test's name)")
    group.addoption(
        "--netsvc-seeds", type=int, default=1, metavar="N", help="run each test that has a network under so many seeds"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("netsvc_seeds") < 1:
        raise pytest.UsageError("--netsvc-seeds: a test runs under at least one seed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = metafunc.config.getoption("netsvc_seeds")
    if count > 1 and "network_seed" in metafunc.fixturenames:
        first = _first_seed(metafunc.config, metafunc.definition.nodeid)
        seeds = range(first, first + count)
        metafunc.parametrize("network_seed", seeds, ids=[f"seed{seed}" for seed in seeds])


@pytest.fixture
def network_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test's network."""
    return _first_seed(request.config, request.node.nodeid)


@pytest.fixture
def logged_failures() -> Iterator[list[Failure]]:
    """The failures that were logged during the test. It fails if any is left in the list at its end.

    A test that expects one takes it out: ``logged_failures.pop().check(ZeroDivisionError)``.
    """
    from twisted.logger import globalLogPublisher

    failures: list[Failure] = []

    def observe(event: dict[str, Any]) -> None:
        # twisted.logger's key, and that of the older twisted.python.log, which transports still use.
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            failures.append(failure)

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    try:
        yield failures
        gc.collect()  # a Deferred logs the failure that nobody took when it is collected
    finally:
        globalLogPublisher.removeObserver(observer)
    if failures:
        pytest.fail("logged failures:\n" + "\n".join(failure.getTraceback() for failure in failures), pytrace=False)


@pytest.fixture
def network(network_seed: int, logged_failures: list[Failure]) -> Network:  # noqa: ARG001  for what it checks
    """A simulated network without hosts. When the test fails, its seed and the end of its trace are shown."""
    from netsvc.testing import Network

    return Network(network_seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    network: Any = getattr(item, "funcargs", {}).get("network")
    shown = report.failed and hasattr(network, "seed") and hasattr(network, "trace")
    if shown and not item.stash.get(_SHOWN, False):
        item.stash[_SHOWN] = True
        test = re.sub(r"\[seed\d+]|-seed\d+(?=])|(?<=\[)seed\d+-", "", item.nodeid)
        trace = str(network.trace).splitlines()
        before = [f"... {len(trace) - TRACE_SHOWN:,} events before"] if len(trace) > TRACE_SHOWN else []
        lines = [
            f"seed {network.seed}; again: pytest '{test}' --netsvc-seed {network.seed}",
            *before,
            *trace[-TRACE_SHOWN:],
        ]
        report.sections.append(("simulated network", "\n".join(lines)))
    return report


def _first_seed(config: pytest.Config, test: str) -> int:
    chosen: int | None = config.getoption("netsvc_seed")
    if chosen is not None:
        return chosen
    # Its name within its file, wherever the file is; and a number that is easy to type.
    return zlib.crc32(test.partition("::")[2].encode()) % 1_000_000
