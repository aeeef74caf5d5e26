"""The pytest plugin: the fixture ``network`` is a simulated network; the test's name determines its seed.

This module is outside of the package, so that pytest imports neither netsvc nor Twisted unless a test uses a fixture.
"""

from __future__ import annotations

import gc
import re
import sys
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from netsvc.testing import Network

_REPORTED = pytest.StashKey[bool]()

#: Number of lines of the trace that the report of a failed test shows.
TRACE_LINES = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netsvc", "simulated networks")
    group.addoption(
        "--netsvc-seed", type=int, metavar="N", help="the seed of all networks (default: derived from the test's name)"
    )
    group.addoption(
        "--netsvc-seeds",
        type=int,
        default=1,
        metavar="N",
        help="run each test with a network N times, with consecutive seeds",
    )
    parser.addini(
        "netsvc_global_reactor",
        "let twisted.internet.reactor be the reactor of the simulated host whose code runs",
        type="bool",
        default=False,
    )


@pytest.hookimpl(trylast=True)  # after the plugin that installs a reactor
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("netsvc_seeds") < 1:
        raise pytest.UsageError("--netsvc-seeds must be at least 1")
    if config.getini("netsvc_global_reactor"):
        from netsvc.testing import install

        install()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    count = metafunc.config.getoption("netsvc_seeds")
    if count > 1 and "network_seed" in metafunc.fixturenames:
        first = _first_seed(metafunc.config, metafunc.definition.nodeid)
        seeds = range(first, first + count)
        metafunc.parametrize("network_seed", seeds, ids=[f"seed{seed}" for seed in seeds])


@pytest.fixture
def network_seed(request: pytest.FixtureRequest) -> int:
    """The seed of the network of this test."""
    return _first_seed(request.config, request.node.nodeid)


@pytest.fixture(scope="session")
def _frozen_heap() -> Iterator[None]:
    """Excludes what exists before the first test from garbage collection, which each test does at its end."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def logged_failures(_frozen_heap: None) -> Iterator[list[Failure]]:
    """The failures that were logged during the test. A test fails if the list is not empty at its end.

    A test that expects a failure removes it: ``logged_failures.pop().check(ZeroDivisionError)``.
    """
    from twisted.logger import globalLogPublisher

    failures: list[Failure] = []

    def observe(event: dict[str, Any]) -> None:
        # The first key is twisted.logger's. The second is that of twisted.python.log, which transports still use.
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None:
            failures.append(failure)

    observer: Any = observe
    globalLogPublisher.addObserver(observer)
    try:
        yield failures
        gc.collect()  # a Deferred logs its unhandled failure when it is garbage-collected
    finally:
        globalLogPublisher.removeObserver(observer)
    if failures:
        pytest.fail(
            "the test logged failures:\n" + "\n".join(failure.getTraceback() for failure in failures), pytrace=False
        )


@pytest.fixture
def network(network_seed: int, logged_failures: list[Failure]) -> Iterator[Network]:  # noqa: ARG001  the fixture checks the log
    """A simulated network without hosts. The report of a failed test shows its seed and the end of its trace."""
    from netsvc.testing import Network, NotSimulatedError
    from netsvc.testing.global_reactor import is_installed, simulation

    if is_installed():
        try:
            with simulation():
                yield Network(network_seed)
        except NotSimulatedError as e:
            pytest.fail(str(e), pytrace=False)
        return
    before = _left_on_the_real_reactor()
    yield Network(network_seed)
    left = [each for each in _left_on_the_real_reactor() if each not in before]
    if left:
        pytest.fail(
            f"the test left something on the real reactor: {', '.join(map(str, left))}; the code uses "
            "twisted.internet.reactor, which is that of a host with the option netsvc_global_reactor = true",
            pytrace=False,
        )


def _left_on_the_real_reactor() -> list[Any]:
    """Return the delayed calls, readers and writers of the real reactor, if one is installed."""
    reactor: Any = sys.modules.get("twisted.internet.reactor")
    if reactor is None:
        return []
    own = getattr(reactor, "_internalReaders", ())  # which it has as soon as it is imported
    readers = [reader for reader in reactor.getReaders() if reader not in own]
    return [*reactor.getDelayedCalls(), *readers, *reactor.getWriters()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    network: Any = getattr(item, "funcargs", {}).get("network")
    has_trace = hasattr(network, "seed") and hasattr(network, "trace")
    if report.failed and has_trace and not item.stash.get(_REPORTED, False):
        item.stash[_REPORTED] = True
        test = re.sub(r"\[seed\d+]|-seed\d+(?=])|(?<=\[)seed\d+-", "", item.nodeid)
        trace = str(network.trace).splitlines()
        omitted = [f"... {len(trace) - TRACE_LINES:,} earlier events"] if len(trace) > TRACE_LINES else []
        lines = [
            f"seed {network.seed}; run it again with: pytest '{test}' --netsvc-seed {network.seed}",
            *omitted,
            *trace[-TRACE_LINES:],
        ]
        report.sections.append(("simulated network", "\n".join(lines)))
    return report


def _first_seed(config: pytest.Config, test: str) -> int:
    option: int | None = config.getoption("netsvc_seed")
    if option is not None:
        return option
    # The name of the test without its path, so that the seed does not depend on the folder. At most six digits, so that
    # it is easy to type.
    return zlib.crc32(test.partition("::")[2].encode()) % 1_000_000
