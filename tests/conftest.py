"""What holds for every test: nothing is left behind, and nothing fails in silence."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings
from twisted.internet import reactor  # noqa: TID251  the tests that need the real one share it
from twisted.internet.interfaces import IListeningPort, ITransport
from twisted.logger import capturedLogs

settings.register_profile("netsvc", derandomize=True, deadline=None, max_examples=200)
settings.load_profile("netsvc")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "logs_failure(name): the test makes netsvc log a failure of the type of that name"
    )


def pytest_collection_finish() -> None:
    # The collector need not look through all that was imported after each test: 0.1 s for each of a thousand.
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail on a logged failure, an unhandled Deferred, a delayed call or an open port that a test leaves."""
    readers = set(reactor.getReaders())
    calls = set(reactor.getDelayedCalls())
    with capturedLogs() as events:
        yield
        gc.collect()  # a Deferred reports its unhandled failure when it is collected
    expected = tuple(mark.args[0] for mark in request.node.iter_markers("logs_failure"))
    # twisted.logger's key, and that of the older twisted.python.log, by which transports report what a protocol raised.
    failures = [event[key] for event in events for key in ("log_failure", "failure") if key in event]
    surprises = [failure.getTraceback() for failure in failures if failure.type.__name__ not in expected]
    assert not surprises, "logged failures:\n" + "\n".join(surprises)
    assert len(failures) >= len(expected), f"no {expected} was logged"
    left = set(reactor.getDelayedCalls()) - calls
    assert not left, f"delayed calls are left: {left}"
    opened = set(reactor.getReaders()) - readers
    ports = {reader for reader in opened if IListeningPort.providedBy(reader) or ITransport.providedBy(reader)}
    assert not ports, f"left open: {ports}"
