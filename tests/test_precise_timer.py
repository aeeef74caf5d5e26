"""The precise timer, on a real reactor and on a simulated host."""

from __future__ import annotations

import time
from functools import partial

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  real time
from twisted.internet.defer import Deferred

from netsvc.linux import timer_descriptor
from netsvc.net.precise_timer import PreciseTimer
from netsvc.testing import Network

SECONDS = 10

needs_descriptors = pytest.mark.skipif(not timer_descriptor.AVAILABLE, reason="the system has no such timers")


@needs_descriptors
@ensureDeferred
async def test_a_timer_on_a_real_reactor_calls_at_its_time_and_within_fewer_than_the_milliseconds_of_a_reactor() -> (
    None
):
    late = []
    for _ in range(20):
        called: Deferred[None] = Deferred()
        timer = PreciseTimer(reactor, partial(called.callback, None))
        at = time.monotonic_ns() + 2_300_000
        timer.set(at)
        await called.addTimeout(SECONDS, reactor)
        late.append(time.monotonic_ns() - at)
        timer.close()
        timer.close()
    assert min(late) >= 0
    assert sorted(late)[5] < 500_000  # a busy machine may delay some of them


@needs_descriptors
@ensureDeferred
async def test_a_time_that_is_over_is_called_at_once_and_a_changed_one_only_once() -> None:
    calls: list[int] = []
    over: Deferred[None] = Deferred()

    def call() -> None:
        calls.append(1)
        over.callback(None)

    timer = PreciseTimer(reactor, call)
    timer.set(time.monotonic_ns() + 3_600_000_000_000)
    timer.set(-5)
    await over.addTimeout(SECONDS, reactor)
    timer.close()
    assert calls == [1]


def test_a_timer_of_a_simulated_host_calls_at_its_time(network: Network) -> None:
    host = network.host("host", "10.0.0.1")
    began = network.now
    calls: list[float] = []
    timer = PreciseTimer(host.reactor, lambda: calls.append(network.now - began))
    at = round(began * 1e9)
    timer.set(at + 5_000_000_000)
    timer.set(at + 1_500_000_000)
    network.advance(10)
    timer.set(at + 11_000_000_000)
    timer.close()
    network.advance(10)
    assert calls == [pytest.approx(1.5)]
