"""The rules for every test: it leaves no timer and no open socket behind, and it logs no unexpected failure."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings
from twisted.internet import reactor  # noqa: TID251  shared by the tests that need a real reactor
from twisted.internet.interfaces import IListeningPort, ITransport
from twisted.logger import capturedLogs

settings.register_profile("netsvc", derandomize=True, deadline=None, max_examples=200)
settings.load_profile("netsvc")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "logs_failure(name): the test expects a logged failure whose exception type has this name"
    )


def pytest_collection_finish() -> None:
    # The garbage collector need not scan all imported modules after each test. This saves 0.1 s per test.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def check_for_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it leaves a logged failure, an unhandled Deferred, a delayed call or an open port behind."""
    readers = set(reactor.getReaders())
    calls = set(reactor.getDelayedCalls())
    with capturedLogs() as events:
        yield
        gc.collect()  # a Deferred logs its unhandled failure when it is garbage-collected
    expected = tuple(mark.args[0] for mark in request.node.iter_markers("logs_failure"))
    # The first key is twisted.logger's. The second is that of twisted.python.log, with which transports log exceptions.
    failures = [event[key] for event in events for key in ("log_failure", "failure") if key in event]
    unexpected = [failure.getTraceback() for failure in failures if failure.type.__name__ not in expected]
    assert not unexpected, "the test logged failures:\n" + "\n".join(unexpected)
    assert len(failures) >= len(expected), f"the test did not log {expected}"
    new_calls = set(reactor.getDelayedCalls()) - calls
    assert not new_calls, f"the test left delayed calls: {new_calls}"
    new_readers = set(reactor.getReaders()) - readers
    ports = {reader for reader in new_readers if IListeningPort.providedBy(reader) or ITransport.providedBy(reader)}
    assert not ports, f"the test left open: {ports}"
