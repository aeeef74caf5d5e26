"""Environments for scenarios: the simulated network, and real loopback sockets with several reactors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import deferLater

from netsvc.reactor import UvloopReactor
from netsvc.reactor.loop import LoopReactor
from netsvc.testing import Network

#: Timeout of a scenario, in real or virtual seconds.
SECONDS = 20.0


class Environment:
    """The place where a scenario runs.

    :ivar kind: ``simulated``, ``epoll``, ``asyncio``, or ``native`` for netsvc's own reactors.
    :ivar big: number of bytes of a big transfer, a multiple of 256.
    :ivar server: the reactor of the host that listens for connections.
    :ivar client: the reactor of the host that connects. It may be the same.
    :ivar address: the address of the server.
    :ivar hostname: a name that resolves to this address.
    """

    kind: str
    big = 1_048_576
    server: Any
    client: Any
    address: str
    hostname: str

    def __init__(self) -> None:
        self._clean_up: list[Callable[[], Any]] = []

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario, and check that it leaves no timer and no socket behind."""
        raise NotImplementedError

    def at_end(self, call: Callable[[], Any]) -> None:
        """Register a call for the end of the scenario. The last registered call is made first."""
        self._clean_up.append(call)

    async def wait_briefly(self) -> None:
        """Wait until both hosts have processed their pending events."""
        for _ in range(5):
            await deferLater(self.client, 0.001, lambda: None)

    def free_port(self, kind: int = socket.SOCK_STREAM) -> int:
        """Return a port on which no socket listens."""
        raise NotImplementedError

    def close_at_end(self, port: Any) -> int:
        """Register a port to be closed at the end. Returns its number."""
        self.at_end(port.stopListening)
        number: int = port.getHost().port
        return number

    async def _run_with_cleanup(self, scenario: Coroutine[Any, Any, None]) -> None:
        try:
            await ensureDeferred(scenario).addTimeout(SECONDS, self.client)
        finally:
            while self._clean_up:
                await maybeDeferred(self._clean_up.pop())


class SimulatedEnvironment(Environment):
    """Two simulated hosts. They are checked for leftovers when no packet is in flight any more."""

    kind = "simulated"
    hostname = "server"

    def __init__(self, buffer: int = 131_072, **conditions: Any) -> None:
        super().__init__()
        self.network = Network(seed=1)
        server, client = self.network.host("server", buffer=buffer), self.network.host("client", buffer=buffer)
        self.network.links().set(**conditions)
        self.server, self.client, self.address = server.reactor, client.reactor, server.address

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        self.network.run(self._run_with_cleanup(scenario))
        self.network.settle()
        for reactor in (self.server, self.client):
            _assert_no_leftovers(reactor)

    def free_port(self, kind: int = socket.SOCK_STREAM) -> int:
        return 9


class LoopbackEnvironment(Environment):
    """Loopback sockets and a new reactor."""

    address = "127.0.0.1"
    hostname = "localhost"

    def __init__(self, kind: str, reactor: Any, close: Callable[[], object]) -> None:
        super().__init__()
        self.kind = kind
        self._close = close
        self.server = self.client = self._reactor = reactor

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        results: list[Any] = []

        def start() -> None:
            finished: Deferred[None] = ensureDeferred(self._run_with_cleanup(scenario))
            finished.addBoth(results.append)
            finished.addBoth(lambda _: self._reactor.callLater(0, self._stop))

        self._reactor.callWhenRunning(start)
        try:
            self._reactor.run(installSignalHandlers=False)
        finally:
            for reader in set(self._reactor._internalReaders):
                self._reactor._removeInternalReader(reader)
                reader.connectionLost(None)
            self._close()
        if results[0] is not None:
            results[0].raiseException()
        assert not self.leftovers, self.leftovers

    def _stop(self) -> None:
        try:
            self.leftovers = ""
            _assert_no_leftovers(self._reactor)
        except AssertionError as e:
            self.leftovers = str(e)
        self._reactor.stop()

    def free_port(self, kind: int = socket.SOCK_STREAM) -> int:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind((self.address, 0))
            port: int = probe.getsockname()[1]
            return port


def _assert_no_leftovers(reactor: Any) -> None:
    calls = [call for call in reactor.getDelayedCalls() if call.active()]
    assert not calls, f"the scenario left delayed calls: {calls}"
    internal: set[Any] = getattr(reactor, "_internalReaders", set())
    readers = [reader for reader in reactor.getReaders() if reader not in internal]
    assert not readers, f"the scenario left open: {readers}"


def epoll() -> Environment:
    reactor = EPollReactor()
    return LoopbackEnvironment("epoll", reactor, reactor._poller.close)


def native(reactor: LoopReactor) -> Environment:
    """Use one of netsvc's reactors. That on uvloop hands connections over before their first read."""
    if isinstance(reactor, UvloopReactor):
        reactor.hand_over_at = 0

    def close() -> None:
        reactor.loop.close()
        reactor._poller.close()

    return LoopbackEnvironment("native", reactor, close)


def asyncio_() -> Environment:
    loop = asyncio.new_event_loop()
    return LoopbackEnvironment("asyncio", AsyncioSelectorReactor(loop), loop.close)


def all_listening(service: Any) -> list[Any]:
    """Return the addresses of all listeners in a tree of services."""
    if hasattr(service, "addresses"):
        return list(service.addresses())
    return [address for child in service for address in all_listening(child)]
