"""Where a scenario happens: on the simulated network, or on real loopback sockets with one of Twisted's reactors."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import deferLater

from netsvc.reactor.loop import LoopReactor
from netsvc.testing import Network

#: Seconds that a scenario may take, real or virtual.
SECONDS = 20.0


class World:
    """Where a scenario happens.

    :ivar kind: ``simulated``, ``epoll``, ``asyncio``, or ``native`` for netsvc's own reactors.
    :ivar big: bytes of a big transfer, a multiple of 256.
    :ivar server: the reactor of the host that listens.
    :ivar client: the reactor of the host that calls, which may be the same.
    :ivar address: the server's.
    :ivar hostname: which leads to that address.
    """

    kind: str
    big = 1_048_576
    server: Any
    client: Any
    address: str
    hostname: str

    def __init__(self) -> None:
        self._clean_up: list[Callable[[], Any]] = []

    def play(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Let it happen, and see that it leaves no timer and no socket behind."""
        raise NotImplementedError

    def afterwards(self, call: Callable[[], Any]) -> None:
        """Call at the end; what is called last of all was said first."""
        self._clean_up.append(call)

    async def turn(self) -> None:
        """Let both hosts do what they are about to."""
        for _ in range(5):
            await deferLater(self.client, 0.001, lambda: None)

    def free_port(self, kind: int = socket.SOCK_STREAM) -> int:
        """Return a port on which nobody listens."""
        raise NotImplementedError

    def listens(self, port: Any) -> int:
        """Close a port at the end. Returns its number."""
        self.afterwards(port.stopListening)
        number: int = port.getHost().port
        return number

    async def _whole(self, scenario: Coroutine[Any, Any, None]) -> None:
        try:
            await ensureDeferred(scenario).addTimeout(SECONDS, self.client)
        finally:
            while self._clean_up:
                await maybeDeferred(self._clean_up.pop())


class Simulated(World):
    """Two simulated hosts. What they leave behind is looked at after everything that is under way has arrived."""

    kind = "simulated"
    hostname = "server"

    def __init__(self, buffer: int = 131_072, **conditions: Any) -> None:
        super().__init__()
        self.network = Network(seed=1)
        server, client = self.network.host("server", buffer=buffer), self.network.host("client", buffer=buffer)
        self.network.links().set(**conditions)
        self.server, self.client, self.address = server.reactor, client.reactor, server.address

    def play(self, scenario: Coroutine[Any, Any, None]) -> None:
        self.network.run(self._whole(scenario))
        self.network.settle()
        for reactor in (self.server, self.client):
            _assert_nothing_left(reactor)

    def free_port(self, kind: int = socket.SOCK_STREAM) -> int:
        return 9


class Real(World):
    """Loopback sockets, and a reactor of the scenario's own."""

    address = "127.0.0.1"
    hostname = "localhost"

    def __init__(self, kind: str, reactor: Any, close: Callable[[], object]) -> None:
        super().__init__()
        self.kind = kind
        self._close = close
        self.server = self.client = self._reactor = reactor

    def play(self, scenario: Coroutine[Any, Any, None]) -> None:
        results: list[Any] = []

        def start() -> None:
            ended: Deferred[None] = ensureDeferred(self._whole(scenario))
            ended.addBoth(results.append)
            ended.addBoth(lambda _: self._reactor.callLater(0, self._stop))

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
        assert not self.left, self.left

    def _stop(self) -> None:
        try:
            self.left = ""
            _assert_nothing_left(self._reactor)
        except AssertionError as e:
            self.left = str(e)
        self._reactor.stop()

    def free_port(self, kind: int = socket.SOCK_STREAM) -> int:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind((self.address, 0))
            port: int = probe.getsockname()[1]
            return port


def _assert_nothing_left(reactor: Any) -> None:
    calls = [call for call in reactor.getDelayedCalls() if call.active()]
    assert not calls, f"delayed calls are left: {calls}"
    own: set[Any] = getattr(reactor, "_internalReaders", set())
    readers = [reader for reader in reactor.getReaders() if reader not in own]
    assert not readers, f"left open: {readers}"


def epoll() -> World:
    reactor = EPollReactor()
    return Real("epoll", reactor, reactor._poller.close)


def native(reactor: LoopReactor) -> World:
    """On one of netsvc's own reactors, which hands connections over before their first read."""
    reactor.hand_over_at = 0

    def close() -> None:
        reactor.loop.remove_reader(reactor._poller.fileno())
        reactor._poller.close()
        reactor.loop.close()

    return Real("native", reactor, close)


def asyncio_() -> World:
    loop = asyncio.new_event_loop()
    return Real("asyncio", AsyncioSelectorReactor(loop), loop.close)


def all_listening(service: Any) -> list[Any]:
    """Return the addresses of every listener in a tree of services."""
    if hasattr(service, "addresses"):
        return list(service.addresses())
    return [address for child in service for address in all_listening(child)]
