from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  a reactor with threads
from twisted.internet.task import Clock

from netsvc import (
    AcknowledgeFactory,
    Admission,
    ChatFactory,
    ConfigError,
    ConnectionCounter,
    DatagramGuard,
    EchoFactory,
    ReplyTemplate,
    SourceBuckets,
    StreamLimits,
    StreamService,
    Terms,
)
from netsvc.testing import Network


def test_terms_on_a_clock_measure_by_that_clock_with_the_default_limits() -> None:
    clock = Clock()
    clock.advance(7)
    terms = Terms.on(clock, service="echo")
    assert (terms.monotonic(), terms.wall()) == (7, 7)
    assert terms.limits == StreamLimits()
    assert terms.counters.service == "echo"


def test_terms_on_a_simulated_host_use_virtual_time(network: Network) -> None:
    terms = Terms.on(network.host("host").reactor)
    network.advance(100)
    assert terms.monotonic() == terms.wall() == 100


def test_terms_on_a_real_reactor_measure_durations_by_the_monotonic_clock() -> None:
    terms = Terms.on(reactor)
    assert terms.monotonic is time.monotonic
    assert abs(terms.wall() - reactor.seconds()) < 10


def test_terms_are_frozen() -> None:
    terms = Terms.on(Clock())
    with pytest.raises(FrozenInstanceError):
        terms.limits = StreamLimits()  # type: ignore[misc]


def test_each_terms_have_counters_and_an_admission_of_their_own() -> None:
    one, other = Terms.on(Clock()), Terms.on(Clock())
    assert one.counters is not other.counters
    assert one.admission.connections is not other.admission.connections


def test_a_blocking_call_takes_virtual_time_and_no_thread_on_the_simulated_network(network: Network) -> None:
    host = network.host("host")
    host.reactor.thread_pool.seconds = 3
    terms = Terms.on(host.reactor)
    assert network.run(terms.run_blocking(threading.current_thread)) is threading.current_thread()
    assert network.now == 3


def test_the_failure_of_a_blocking_call_is_its_own(network: Network) -> None:
    terms = Terms.on(network.host("host").reactor)
    with pytest.raises(ValueError, match="invalid literal"):
        network.run(terms.run_blocking(int, "x"))


@ensureDeferred
async def test_a_blocking_call_runs_in_another_thread_on_a_real_reactor() -> None:
    thread = await Terms.on(reactor).run_blocking(threading.current_thread).addTimeout(10, reactor)
    assert thread is not threading.current_thread()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"queue_max": -1}, "--queue-max -1: out of range; give a whole number from 0, which means no limit"),
        (
            {"receive_buffer": -1},
            "--receive-buffer -1: out of range; give a whole number from 0, which means the kernel's own size",
        ),
        ({"queue_max": 100}, "--queue-max 100: smaller than the transport's own buffer; give 65536 or more, or 0"),
        (
            {"stall_timeout": float("nan")},
            "--stall-timeout nan: out of range; give a number from 0, which means no limit",
        ),
        ({"idle_timeout": "5"}, "--idle-timeout 5: not a number; give a number from 0, which means no limit"),
    ],
)
def test_a_limit_without_a_meaning_is_refused(limits: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        StreamLimits(**limits)  # type: ignore[arg-type]
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: ConnectionCounter(-1), "--max-connections -1: out of range"),
        (lambda _: ConnectionCounter(max_per_host=1.5), "--max-per-host 1.5: not a whole number"),  # type: ignore[arg-type]
        (lambda _: Admission(connect_rate=float("nan")), "--connect-rate nan: out of range"),
        (lambda _: SourceBuckets(rate=-1), "--udp-rate -1: out of range"),
        (lambda _: DatagramGuard(max_size="9"), "--udp-max-size 9: not a whole number"),  # type: ignore[arg-type]
        (lambda terms: ChatFactory(terms, rate=-5), "--chat-rate -5: out of range"),
        (lambda terms: AcknowledgeFactory(terms, ReplyTemplate("ok"), "words"), "--framing words: the choices are"),
        (lambda terms: StreamService(reactor, "7", EchoFactory(terms)), "'7': a list of strings is needed"),
        (lambda terms: StreamService(reactor, ["7"], EchoFactory(terms), -1), "--drain-timeout -1: out of range"),
    ],
)
def test_a_part_refuses_a_value_without_a_meaning(make: Callable[[Terms], object], message: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        make(Terms.on(Clock()))
    assert str(refusal.value).startswith(message)
