"""The pytest plugin: the fixture ``network`` is a simulated network; the test's name determines its seed.

This module is outside of the package, so that pytest imports neither netsvc nor Twisted unless a test uses a fixture.
"""

from __future__ import annotations

import functools
import gc
import inspect
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from netsvc.testing import Network

_REPORTED = pytest.StashKey[bool]()

#: The traces of tests that will run again, by their names.
_TRACES = pytest.StashKey[dict[str, str]]()

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
    group.addoption(
        "--netsvc-check-determinism",
        action="store_true",
        help="run each test with a network twice with the same seed, and fail if an event differs",
    )
    group.addoption(
        "--netsvc-artifacts",
        metavar="DIR",
        help="write the trace of each failed test with a network to this folder: a page, and a capture for Wireshark",
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
    runs = 2 if metafunc.config.getoption("netsvc_check_determinism") else 1
    if count * runs > 1 and "network_seed" in metafunc.fixturenames:
        first = _first_seed(metafunc.config, metafunc.definition.nodeid)
        seeds = [seed for seed in range(first, first + count) for _ in range(runs)]
        ids = [f"seed{seed}{'again' if index % runs else ''}" for index, seed in enumerate(seeds)]
        metafunc.parametrize("network_seed", seeds, ids=ids)


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
    from netsvc.testing.diagnosis import LoggedFailures

    with LoggedFailures() as logged:
        yield logged.failures
        gc.collect()  # a Deferred logs its unhandled failure when it is garbage-collected
    if logged.failures:
        tracebacks = "\n".join(failure.getTraceback() for failure in logged.failures)
        pytest.fail(f"the test logged failures:\n{tracebacks}", pytrace=False)


@pytest.fixture
def network(
    request: pytest.FixtureRequest,
    network_seed: int,
    logged_failures: list[Failure],  # noqa: ARG001  the fixture checks the log
) -> Iterator[Network]:
    """A simulated network without hosts. The report of a failed test shows its seed and the end of its trace."""
    from netsvc.testing import Network, NotSimulatedError
    from netsvc.testing.diagnosis import left_on_the_real_reactor
    from netsvc.testing.global_reactor import is_installed, simulation

    network = Network(network_seed, payloads=request.config.getoption("netsvc_artifacts") is not None)
    if is_installed():
        try:
            with simulation():
                yield network
        except NotSimulatedError as e:
            pytest.fail(str(e), pytrace=False)
        _check_determinism(request, str(network.trace))
        return
    before = left_on_the_real_reactor()
    yield network
    _check_determinism(request, str(network.trace))
    left = [each for each in left_on_the_real_reactor() if each not in before]
    if left:
        pytest.fail(
            f"the test left something on the real reactor: {', '.join(map(str, left))}; the code uses "
            "twisted.internet.reactor, which is that of a host with the option netsvc_global_reactor = true",
            pytrace=False,
        )


def _check_determinism(request: pytest.FixtureRequest, trace: str) -> None:
    """Compare the trace of a test with that of the run before, with the same seed."""
    if not request.config.getoption("netsvc_check_determinism"):
        return
    name = re.sub(r"(seed\d+)again", r"\1", request.node.nodeid)
    traces = request.config.stash.setdefault(_TRACES, {})
    before = traces.pop(name, None)
    if before is None:  # it is the first run, in whatever order they come
        traces[name] = trace
        return
    for number, (one, other) in enumerate(zip_longest(before.splitlines(), trace.splitlines()), 1):
        if one != other:
            pytest.fail(
                f"the same seed gave another run; event {number} was\n  {one}\nand then\n  {other}", pytrace=False
            )


def _network_of(item: pytest.Item) -> Any:
    """Return the simulated network of a test, or None."""
    network = getattr(item, "funcargs", {}).get("network")
    testing = sys.modules.get("netsvc.testing")
    return network if testing is not None and isinstance(network, testing.Network) else None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """Run what a test with a network returns, a coroutine or a Deferred, in virtual time.

    For pytest, and for pytest-twisted, which would wait for the real reactor, such a test is an ordinary function.
    """
    __tracebackhide__ = True
    network = _network_of(pyfuncitem)
    function = pyfuncitem.obj
    if network is None:
        return (yield)
    if hasattr(function, "hypothesis"):
        with _fresh_networks(pyfuncitem, network):
            return (yield)

    def run(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return _run(network, function(*args, **kwargs))

    pyfuncitem.obj = run
    try:
        return (yield)
    finally:
        pyfuncitem.obj = function


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tell Hypothesis that the fixture ``network`` may be used: each example has a network of its own."""
    function: Any = getattr(item, "obj", None)
    if not hasattr(function, "hypothesis") or not _may_renew(item):
        return
    from hypothesis import HealthCheck, settings

    function = getattr(function, "__func__", function)  # of a method
    own: Any = getattr(function, "_hypothesis_internal_use_settings", None) or settings.default
    suppressed = {*own.suppress_health_check, HealthCheck.function_scoped_fixture}
    function._hypothesis_internal_use_settings = settings(own, suppress_health_check=suppressed)


def _may_renew(item: pytest.Item) -> bool:
    """Whether ``network`` is the only fixture for one test that a test of Hypothesis asks for.

    Another one may use the network of the first example.
    """
    own = {"network", "network_seed", "logged_failures"}
    asked = set(inspect.signature(item.obj).parameters) & set(getattr(item, "fixturenames", ()))  # type: ignore[attr-defined]
    definitions = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    others = [name for name in asked - own if any(each.scope == "function" for each in definitions.get(name, ()))]
    return "network" in asked and not others


@contextmanager
def _fresh_networks(item: pytest.Function, network: Network) -> Iterator[None]:
    """Give each example of a test of Hypothesis a network of its own, and run what it returns in virtual time."""
    from netsvc.testing import Network

    handle: Any = item.obj.hypothesis
    inner_test = handle.inner_test
    if not _may_renew(item):
        yield
        return

    @functools.wraps(inner_test)
    def with_fresh_network(*args: Any, **kwargs: Any) -> None:
        fresh = Network(network.seed, payloads=network.trace.keeps_payloads)
        item.funcargs["network"] = fresh  # the report shows that of the last example, which is the one that fails
        _run(fresh, inner_test(*args, **{**kwargs, "network": fresh}))

    handle.inner_test = with_fresh_network
    try:
        yield
    finally:
        handle.inner_test = inner_test


def _run(network: Network, result: Any) -> Any:
    """Run a coroutine or a Deferred in virtual time, and return its result. Return anything else as it is."""
    __tracebackhide__ = True
    is_deferred = isinstance(result, sys.modules["twisted.internet.defer"].Deferred)
    return network.run(result) if is_deferred or inspect.iscoroutine(result) else result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    report = yield
    network = _network_of(item)
    if report.failed and network is not None and not item.stash.get(_REPORTED, False):
        item.stash[_REPORTED] = True
        test = re.sub(r"\[seed\d+(again)?]|-seed\d+(again)?(?=[]-])|(?<=\[)seed\d+(again)?-", "", item.nodeid)
        trace = str(network.trace).splitlines()
        omitted = [f"... {len(trace) - TRACE_LINES:,} earlier events"] if len(trace) > TRACE_LINES else []
        lines = [
            f"seed {network.seed}; run it again with: pytest '{test}' --netsvc-seed {network.seed}",
            *omitted,
            *trace[-TRACE_LINES:],
        ]
        lines[1:1] = _write_artifacts(item, network, test)
        report.sections.append(("simulated network", "\n".join(lines)))
    return report


def _write_artifacts(item: pytest.Item, network: Network, test: str) -> list[str]:
    """Write the trace of a test as a page and as a capture. Return lines about them for the report."""
    folder: str | None = item.config.getoption("netsvc_artifacts")
    if folder is None:
        return []
    name = _file_name(item.nodeid)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        network.trace.html(Path(folder, f"{name}.html"), f"{test}, seed {network.seed}")
        network.trace.pcap(Path(folder, f"{name}.pcap"))
    except OSError as e:
        return [f"--netsvc-artifacts {folder}: {e.strerror}; name a folder that can be written"]
    return [f"the trace as a page and as a capture: {Path(folder, name)}.html and .pcap"]


def _file_name(test: str) -> str:
    """Return a name for the files of a test, with a checksum if it does not contain the whole name of the test."""
    name = test.replace("::", "-").replace("/", "-")
    if re.fullmatch(r"[\w.-]{1,150}", name, re.ASCII):
        return name
    plain = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)
    return f"{plain[:150]}-{zlib.crc32(test.encode()):08x}"


def _first_seed(config: pytest.Config, test: str) -> int:
    option: int | None = config.getoption("netsvc_seed")
    if option is not None:
        return option
    # The name of the test without its path, so that the seed does not depend on the folder. At most six digits, so that
    # it is easy to type.
    return zlib.crc32(test.partition("::")[2].encode()) % 1_000_000
