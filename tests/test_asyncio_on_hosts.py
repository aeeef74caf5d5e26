"""Futures, tasks and ``asyncio.sleep`` on a simulated host are refused at the call, with the remedy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from netsvc.testing import Network, NotSimulatedError


async def nothing() -> None:
    pass


async def sleep() -> None:
    await asyncio.sleep(1)


async def future_of_the_loop() -> None:
    await asyncio.get_event_loop().create_future()


async def future() -> None:
    await asyncio.Future()


async def task() -> None:
    await asyncio.create_task(nothing())


async def ensured_future() -> None:
    await asyncio.ensure_future(nothing())


async def gathered() -> None:
    await asyncio.gather(nothing())


async def deferred_with_timeout() -> None:
    await asyncio.wait_for(Deferred(), 1)


async def task_group() -> None:
    async with asyncio.TaskGroup():
        pass


async def queue() -> None:
    await asyncio.Queue[int]().get()


async def event() -> None:
    await asyncio.Event().wait()


async def thread() -> None:
    await asyncio.to_thread(print)


async def connection() -> None:
    await asyncio.open_connection("server", 7)


async def deferred_from_future() -> None:
    await Deferred.fromFuture(asyncio.get_event_loop().create_future())


async def future_from_deferred() -> None:
    await Deferred().asFuture(asyncio.get_event_loop())


REFUSED = [
    *(sleep, future_of_the_loop, future, task, ensured_future, gathered, deferred_with_timeout, task_group),
    *(queue, event, thread, connection, deferred_from_future, future_from_deferred),
]


@pytest.mark.parametrize("function", REFUSED)
def test_a_coroutine_that_waits_for_asyncio_is_refused_at_the_call(
    network: Network, function: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    with pytest.raises(NotSimulatedError, match=r"await deferLater\(host\.reactor, seconds\)") as error:
        network.run(function())
    assert any(entry.name == function.__name__ for entry in error.traceback)
    assert network.now == 0


def test_code_of_a_host_in_a_callback_and_in_a_block_is_refused(network: Network) -> None:
    host = network.host("host")
    called: list[Deferred[None]] = []
    host.reactor.callLater(1, lambda: called.append(ensureDeferred(sleep())))
    network.advance(1)
    called.append(host.run(ensureDeferred, sleep()))
    for deferred in called:
        with pytest.raises(NotSimulatedError):
            network.run(deferred)
    with host, pytest.raises(NotSimulatedError):
        asyncio.get_event_loop().call_later(1, print)


def test_the_loop_of_a_real_reactor_is_hidden_while_the_network_runs_and_is_back_afterwards(network: Network) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(NotSimulatedError):
            network.run(sleep())
        with pytest.raises(ZeroDivisionError):
            network.host("host").run(lambda: 1 // 0)
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)

    asyncio.run(main())


def test_what_the_error_says_to_write_works(network: Network) -> None:
    host = network.host("host")

    async def wait(seconds: float) -> float:
        await deferLater(host.reactor, seconds)
        return network.now

    async def main() -> list[float]:
        started = [Deferred.fromCoroutine(wait(seconds)) for seconds in (2, 1)]
        return [await each for each in started]

    assert network.run(main()) == [2, 1]


def test_a_coroutine_that_advances_the_network_itself_is_told_how_to_wait(network: Network) -> None:
    async def main() -> None:
        network.advance(1)

    with pytest.raises(RuntimeError, match=r"await deferLater\(host\.reactor, seconds\)"):
        network.run(main())
