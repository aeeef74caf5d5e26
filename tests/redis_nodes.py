"""Nodes of a chat on a simulated Redis, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint

from netsvc.chat.redis_directory_scripts import DIRECTORY_SCRIPTS
from netsvc.chat.redis_log_scripts import LOG_SCRIPTS
from netsvc.chat.redis_node import RedisNode, client_maker
from netsvc.chat.redis_store import RedisStore
from netsvc.net.reactors import monotonic_of
from netsvc.testing import Host, Network
from tests.redis_data import RedisData
from tests.simulated_redis import SimulatedRedis

REDIS = ("10.0.0.9", 6379)


class SimulatedRedisHost:
    """A host with a Redis.

    :ivar data: its data.
    :ivar server: its process.
    """

    def __init__(self, network: Network) -> None:
        self.host = network.host("redis", REDIS[0])
        self.data = RedisData(self.host.reactor.seconds)
        self.server = SimulatedRedis(self.host.reactor, self.data, REDIS[1])
        self.server.start()

    def run(self) -> None:
        """End a fault: start the process, or let it continue."""
        if not self.server.is_running:
            self.server.start()
        elif self.server.is_paused:
            self.server.resume()

    def check_empty(self) -> None:
        """Check that no member is left."""
        keys: Any = self.data.execute([b"KEYS", b"netsvc:*"])
        left = [key for key in keys if key.split(b":")[1] in (b"member", b"members", b"in", b"rooms")]
        assert not left, f"Redis still has {left}"


def node_on(host: Host) -> RedisNode:
    """Return a node on a host."""
    reactor: Any = host.reactor
    endpoint = TCP4ClientEndpoint(reactor, *REDIS)
    scripts = (*LOG_SCRIPTS, *DIRECTORY_SCRIPTS)
    return RedisNode(reactor, monotonic_of(reactor), client_maker(reactor, endpoint), scripts)


def store_on(host: Host, wall: Callable[[], float] | None = None, **bounds: Any) -> RedisStore:
    """Return a store with a node of its own on a host."""
    reactor: Any = host.reactor
    return RedisStore(node_on(host), reactor, wall or reactor.seconds, **bounds)
