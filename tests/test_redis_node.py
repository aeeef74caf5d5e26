"""One node of a chat on a simulated Redis: its lease, its requests, and what it says of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent

from netsvc.chat.redis_log_scripts import READ
from netsvc.chat.redis_node import LEASE, REQUEST_TIMEOUT, RedisNode
from netsvc.chat.store import StoreError
from netsvc.testing import Network
from tests.redis_nodes import SimulatedRedisHost, node_on

KEYS = (b"log", b"entries", b"retries", b"erased")


class User:
    """Records what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.dead: list[str] = []

    def connected(self, *, is_new: bool) -> None:
        self.told.append("connected, new" if is_new else "connected")

    def disconnected(self) -> None:
        self.told.append("disconnected")

    def resubscribed(self) -> None:
        self.told.append("resubscribed")

    def nodes_died(self, nodes: Sequence[str]) -> None:
        self.dead += nodes


class OneNode:
    """A node with one user, and a Redis."""

    def __init__(self) -> None:
        self.network = Network()
        self.redis = SimulatedRedisHost(self.network)
        self.host = self.network.host("node")
        self.network.links().set(latency=0.001)
        self.node = node_on(self.host)
        self.user = User()

    def open(self) -> RedisNode:
        self.node.open(self.user)
        self.network.advance(0.5)
        return self.node

    def read(self) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.node.request(READ, KEYS, (0, 10)))

    def cut_off(self) -> Callable[[], None]:
        link = self.network.link("node", "redis")
        link.partition()
        return link.heal


@pytest.fixture
def one() -> OneNode:
    return OneNode()


def test_a_node_serves_once_it_has_a_lease(one: OneNode) -> None:
    assert not one.node.is_serving
    node = one.open()
    assert node.is_serving
    assert node.has_lease
    assert one.user.told == ["connected, new"]


def test_a_lease_ends_by_the_clock_of_the_node_if_it_cannot_be_renewed(one: OneNode) -> None:
    node = one.open()
    one.network.advance(10 * LEASE)
    assert node.has_lease
    one.cut_off()
    one.network.advance(LEASE)
    assert not node.has_lease
    assert not node.is_serving
    assert one.user.told == ["connected, new", "disconnected"]


def test_a_lease_that_nobody_took_is_renewed_and_the_node_stays_the_same(one: OneNode) -> None:
    node = one.open()
    before = node.id
    heal = one.cut_off()
    one.network.advance(3 * LEASE)
    heal()
    one.network.advance(40.0)
    assert node.id == before
    assert node.has_lease
    assert one.user.told == ["connected, new", "disconnected", "connected"]


def test_a_node_that_others_found_dead_is_another_one_from_then_on(one: OneNode) -> None:
    node = one.open()
    before = node.id
    one.redis.data.execute([b"ZADD", b"netsvc:dead", b"1", before.encode()])
    one.network.advance(2.0)
    assert node.id != before
    assert node.is_serving
    assert one.user.told == ["connected, new", "disconnected", "connected, new"]


def test_a_redis_that_has_lost_its_data_is_noticed_within_a_second_or_two(one: OneNode) -> None:
    one.open()
    one.redis.data.flushall()
    one.network.advance(2.0)
    assert one.user.told == ["connected, new", "connected"]


def test_a_node_that_stops_gives_up_its_lease(one: OneNode) -> None:
    node = one.open()
    one.network.run(node.close(one.user))
    one.network.advance(0.1)
    score: Any = one.redis.data.execute([b"ZSCORE", b"netsvc:nodes", node.id.encode()])
    assert score == b"0"


def test_a_node_knows_how_many_nodes_are_alive_until_redis_is_away(one: OneNode) -> None:
    assert one.node.alive == 0
    node = one.open()
    assert node.alive == 1
    other, user = node_on(one.network.host("other")), User()
    other.open(user)
    one.network.advance(2.0)
    assert node.alive == other.alive == 2
    one.network.link("other", "redis").partition()
    one.network.advance(LEASE + 2.0)
    assert (node.alive, other.alive) == (1, 0)


def test_dead_nodes_are_told_only_after_a_whole_lease_of_renewals(one: OneNode) -> None:
    one.redis.data.execute([b"ZADD", b"netsvc:nodes", b"1", b"dead"])
    one.open()
    one.network.advance(LEASE - 1.0)
    assert one.user.dead == []
    one.network.advance(2.0)
    assert set(one.user.dead) == {"dead"}
    one.user.dead.clear()
    one.redis.server.pause()
    one.network.advance(4.5)
    one.redis.server.resume()
    one.network.advance(LEASE - 1.0)
    assert one.user.dead == []


def test_after_a_connection_no_node_is_dead_until_it_had_time_to_renew_its_lease(one: OneNode) -> None:
    one.open()
    one.network.advance(2 * LEASE)
    one.redis.data.execute([b"ZADD", b"netsvc:nodes", b"1", b"other"])
    behind = one.redis.data.snapshot()
    one.redis.data.execute([b"ZREM", b"netsvc:nodes", b"other"])
    one.redis.server.kill(losing=behind)
    one.redis.server.start()
    one.network.advance(LEASE - 1.0)
    assert one.user.dead == []
    one.network.advance(2.0)
    assert one.user.dead


def test_why_a_lease_is_refused_is_logged_once(one: OneNode) -> None:
    one.open()
    one.redis.data.maxmemory = True  # which does not matter
    one.network.advance(10.0)
    assert one.node.is_serving
    one.redis.data.disk_full = True
    with capturedLogs() as events:
        one.network.advance(10.0)
    errors = [str(formatEvent(event)) for event in events if event["log_level"] is LogLevel.error]
    assert errors == ["Redis: Redis cannot write to its disk"]
    assert not one.node.is_serving


def test_a_request_waits_for_the_connection_and_is_made_again_after_a_loss(one: OneNode) -> None:
    one.redis.server.kill()
    one.node.open(one.user)
    answer = one.read()
    one.network.advance(1.0)
    one.redis.server.start()
    assert one.network.run(answer) == [b"", 0, []]
    one.redis.server.pause()
    answer = one.read()
    one.network.advance(0.5)
    one.redis.server.kill()
    one.redis.server.start()
    assert one.network.run(answer) == [b"", 0, []]


def test_a_request_fails_with_the_reason_after_some_seconds(one: OneNode) -> None:
    one.open()
    one.redis.server.pause()
    answer = one.read()
    one.network.advance(REQUEST_TIMEOUT - 0.1)
    assert not answer.called
    with pytest.raises(StoreError, match="Redis does not answer"):
        one.network.run(answer)


def test_a_redis_that_loads_its_data_is_waited_for(one: OneNode) -> None:
    one.redis.data.loading = True
    one.node.open(one.user)
    one.network.advance(2.0)
    assert not one.node.is_serving
    one.redis.data.loading = False
    one.network.advance(1.0)
    assert one.node.is_serving


def test_scripts_that_were_flushed_are_loaded_again(one: OneNode) -> None:
    one.open()
    one.redis.data.execute([b"SCRIPT", b"FLUSH"])
    assert one.network.run(one.read()) == [b"", 0, []]
    one.redis.data.execute([b"SCRIPT", b"FLUSH"])
    one.network.advance(5.0)
    assert one.node.has_lease


def test_subscriptions_are_made_again_after_a_loss(one: OneNode) -> None:
    node = one.open()
    received: list[bytes] = []
    one.network.run(node.subscribe(b"channel", received.append))
    one.redis.server.close_subscribers()
    one.network.advance(0.5)
    one.redis.server.execute(b"PUBLISH", b"channel", b"hello")
    one.network.advance(0.1)
    assert received == [b"hello"]
    assert one.user.told == ["connected, new", "resubscribed"]
    node.unsubscribe(b"channel")
    one.network.advance(0.1)
    one.redis.server.execute(b"PUBLISH", b"channel", b"again")
    one.network.advance(0.1)
    assert received == [b"hello"]


@pytest.mark.parametrize(
    ("appendonly", "warnings"),
    [
        (b"yes", []),
        (b"no", ["it keeps no append-only file; it loses what was said since its last snapshot when it stops"]),
    ],
)
def test_a_redis_that_loses_the_logs_when_it_stops_is_warned_of_once(
    one: OneNode, appendonly: bytes, warnings: list[str]
) -> None:
    one.redis.data.config[b"appendonly"] = appendonly
    with capturedLogs() as events:
        one.open()
        one.redis.server.kill()
        one.redis.server.start()
        one.network.advance(2.0)
    warned = [str(formatEvent(event)) for event in events if event["log_level"] is LogLevel.warn]
    assert [line for line in warned if "append-only" in line] == [f"Redis: {warning}" for warning in warnings]
    assert any("netsvc connects again" in line for line in warned)
