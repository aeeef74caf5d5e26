"""Two nodes with a store in one simulated Redis, and what Redis and the network do to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from netsvc.chat.entries import Draft, Entry, EntryKind, Position
from netsvc.chat.redis_node import LEASE
from netsvc.chat.redis_store import CHECK_EVERY, OUTCOME_AFTER, RedisStore
from netsvc.chat.store import NewLog, Outcome, Retried, StoreError, Unconfirmed
from netsvc.net.store_counters import StoreCounters
from netsvc.testing import Host, Network
from tests.redis_nodes import SimulatedRedisHost, node_on
from tests.simulated_redis_stores import Simulation

ROOM = "#room"


class Node:
    """A node with a store that is subscribed to a room.

    :ivar delivered: the texts that it has delivered, each with its offset.
    :ivar begun_anew: what it was told of logs that were begun anew.
    :ivar outcomes: what became of each text, one after another.
    :ivar late: by how many seconds its clock is late.
    """

    def __init__(self, network: Network, host: Host, **bounds: Any) -> None:
        self.network = network
        self.host = host
        self.delivered: list[tuple[int, str]] = []
        self.begun_anew: list[NewLog] = []
        self.outcomes: dict[str, list[Outcome]] = {}
        self.counters = StoreCounters("redis")
        self.late = 0.0
        reactor: Any = host.reactor
        self.node = node_on(host)
        self.store = RedisStore(self.node, reactor, reactor.seconds, counters=self.counters, **bounds)
        self.store.open(lambda entry: self.delivered.append((entry.offset, entry.text)), self.begun_anew.append)
        self.state = network.run(self.store.subscribe(ROOM))

    def append(self, text: str, message_id: str = "") -> None:
        """Append a text."""
        self.outcomes[text] = []
        now = self.host.reactor.seconds() - self.late
        draft = Draft(ROOM, EntryKind.SAID, "ann", text, now, "a1", message_id)
        self.store.append(draft, self.outcomes[text].append)

    def appended(self, text: str, message_id: str = "") -> Outcome:
        """Append a text, and return what becomes of it."""
        self.append(text, message_id)
        self.network.advance(0.1)
        return self.outcomes[text][-1]


class Nodes:
    """Two nodes and a Redis."""

    def __init__(self, **bounds: Any) -> None:
        self.network = Network()
        self.redis = SimulatedRedisHost(self.network)
        self.network.links().set(latency=0.001)
        self.one, self.two = (Node(self.network, self.network.host(name), **bounds) for name in ("one", "two"))

    def cut_off(self, node: Node) -> Callable[[], None]:
        """Cut a node off from Redis. Return a function that ends that."""
        link = self.network.link(node.host.name, "redis")
        link.partition()
        return link.heal

    def log(self) -> list[bytes]:
        """Return the offsets of what is in the log."""
        found: Any = self.redis.data.execute([b"XRANGE", b"netsvc:entries:#room", b"-", b"+"])
        return [place for place, _ in found]


def _ignore(_event: object) -> None:
    """Do nothing with what a store delivers."""


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    """Two nodes, which are closed in the end."""
    nodes = Nodes()
    yield nodes
    nodes.redis.data.maxmemory = nodes.redis.data.disk_full = nodes.redis.data.loading = False
    nodes.redis.run()
    for node in (nodes.one, nodes.two):
        nodes.network.link(node.host.name, "redis").heal()
        nodes.network.run(node.store.close())


def test_what_one_node_appends_every_node_delivers_at_the_same_place(nodes: Nodes) -> None:
    first = nodes.one.appended("a")
    second = nodes.two.appended("b")
    assert isinstance(first, Entry)
    assert isinstance(second, Entry)
    assert (first.epoch, first.offset, second.offset) == (nodes.two.state.end.epoch, 1, 2)
    assert nodes.one.delivered == nodes.two.delivered == [(1, "a"), (2, "b")]


def test_wrong_clocks_of_nodes_change_no_order(nodes: Nodes) -> None:
    nodes.one.late = -3_600.0
    for number in range(5):
        nodes.one.appended(f"one {number}")
        nodes.two.appended(f"two {number}")
    texts = [text for _, text in nodes.one.delivered]
    assert texts == [f"{node} {number}" for number in range(5) for node in ("one", "two")]
    history = nodes.network.run(nodes.two.store.newest(ROOM, 10, 10))
    assert [entry.text for entry in history] == texts


def test_what_two_nodes_append_at_the_same_time_has_one_order(nodes: Nodes) -> None:
    for number in range(50):
        nodes.one.append(f"one {number}")
        nodes.two.append(f"two {number}")
    nodes.network.advance(1.0)
    assert nodes.one.delivered == nodes.two.delivered
    assert [offset for offset, _ in nodes.one.delivered] == list(range(1, 101))
    assert nodes.one.counters.gaps == nodes.one.counters.filled == 0


def test_a_retry_on_another_node_is_recognised(nodes: Nodes) -> None:
    first = nodes.one.appended("a", "m1")
    retried = nodes.two.appended("a", "m1")
    assert retried == Retried(first)  # type: ignore[arg-type]
    assert nodes.two.delivered == [(1, "a")]


def test_a_retry_of_an_erased_line_that_is_no_longer_kept_is_appended() -> None:
    nodes = Nodes(entries_max=5)
    first = nodes.one.appended("a", "m1")
    assert isinstance(first, Entry)
    nodes.network.run(nodes.one.store.erase(ROOM, first.offset))
    assert nodes.redis.data.execute([b"HLEN", b"netsvc:retries:#room"]) == 1
    for number in range(10):
        nodes.one.appended(str(number))
    assert nodes.redis.data.execute([b"EXISTS", b"netsvc:retries:#room"]) == 0
    again = nodes.one.appended("again", "m1")
    assert isinstance(again, Entry)
    assert again.text == "again"


def test_each_room_with_a_counter_of_a_node_is_noted_so_that_the_counter_can_be_removed(nodes: Nodes) -> None:
    nodes.one.appended("a", "m1")
    assert isinstance(nodes.two.appended("a", "m1"), Retried)
    for node in (nodes.one, nodes.two):
        assert nodes.redis.data.execute([b"SMEMBERS", b"netsvc:counted:" + node.node.id.encode()]) == [ROOM.encode()]


def test_an_answer_that_is_lost_with_the_connection_loses_and_doubles_nothing(nodes: Nodes) -> None:
    nodes.one.append("a")
    nodes.one.append("b", "m1")
    while not nodes.log():
        nodes.network.advance(0.000_01)
    heal = nodes.cut_off(nodes.one)  # while the answers are on the way
    nodes.network.advance(0.5)
    assert nodes.one.outcomes == {"a": [], "b": []}
    assert len(nodes.log()) == 2
    nodes.redis.server.kill()
    nodes.redis.server.start()
    heal()
    nodes.network.advance(5.0)
    assert [type(each[-1]) for each in nodes.one.outcomes.values()] == [Entry, Entry]
    assert nodes.one.delivered == nodes.two.delivered == [(1, "a"), (2, "b")]


def test_while_redis_is_away_a_line_that_was_never_sent_is_refused_after_two_seconds(nodes: Nodes) -> None:
    nodes.redis.server.kill()
    nodes.network.advance(0.5)
    nodes.one.append("a")
    nodes.network.advance(OUTCOME_AFTER - 0.1)
    assert nodes.one.outcomes["a"] == []
    nodes.network.advance(1.0)
    [refusal] = nodes.one.outcomes["a"]
    assert isinstance(refusal, StoreError)
    assert "refused" in str(refusal)
    nodes.redis.server.start()
    nodes.network.advance(2.0)
    assert nodes.log() == []


def test_a_line_without_an_answer_is_not_confirmed_after_two_seconds_and_then_acknowledged(nodes: Nodes) -> None:
    nodes.redis.server.pause()
    nodes.one.append("a")
    nodes.network.advance(OUTCOME_AFTER + 1.0)
    assert nodes.one.outcomes["a"] == [Unconfirmed()]
    assert nodes.one.counters.waiting()[0] == 1
    nodes.redis.server.resume()
    nodes.network.advance(2.0)
    assert [type(each) for each in nodes.one.outcomes["a"]] == [Unconfirmed, Entry]
    assert nodes.one.delivered == nodes.two.delivered == [(1, "a")]
    assert nodes.one.counters.waiting() == (0, 0.0)


def test_a_restart_of_redis_is_over_for_the_nodes_within_half_a_second(nodes: Nodes) -> None:
    nodes.one.appended("a")
    nodes.redis.server.kill()
    nodes.network.advance(3.0)
    nodes.redis.server.start()
    nodes.one.append("b")
    nodes.network.advance(0.5)
    assert isinstance(nodes.one.outcomes["b"][-1], Entry)
    assert nodes.one.begun_anew == []


@pytest.mark.parametrize(
    ("fault", "reason"), [("maxmemory", "Redis has no memory left"), ("disk_full", "Redis cannot write to its disk")]
)
def test_what_redis_refuses_is_refused_with_the_reason_and_later_lines_pass(
    nodes: Nodes, fault: str, reason: str
) -> None:
    nodes.one.appended("a")
    setattr(nodes.redis.data, fault, True)
    for text in ("b", "c"):
        nodes.one.append(text)
    nodes.network.advance(OUTCOME_AFTER + 1.0)
    for text in ("b", "c"):
        [refusal] = nodes.one.outcomes[text]
        assert str(refusal) == reason
    setattr(nodes.redis.data, fault, False)
    nodes.network.advance(2.0)
    assert isinstance(nodes.one.appended("d"), Entry)
    assert nodes.one.delivered == nodes.two.delivered == [(1, "a"), (2, "d")]


def test_scripts_that_redis_has_forgotten_are_loaded_again(nodes: Nodes) -> None:
    nodes.redis.data.execute([b"SCRIPT", b"FLUSH"])
    for text in ("a", "b", "c"):
        nodes.one.append(text)
    nodes.network.advance(2.0)
    assert nodes.two.delivered == [(1, "a"), (2, "b"), (3, "c")]
    assert all(isinstance(each[-1], Entry) for each in nodes.one.outcomes.values())


def test_messages_that_are_missed_are_read(nodes: Nodes) -> None:
    heal = nodes.cut_off(nodes.two)
    for text in ("a", "b"):
        nodes.one.appended(text)
    nodes.network.advance(1.0)
    heal()
    nodes.network.advance(30.0)
    assert nodes.two.delivered == [(1, "a"), (2, "b")]
    assert nodes.two.begun_anew == []


def test_a_subscriber_that_redis_drops_misses_nothing(nodes: Nodes) -> None:
    for number in range(20):
        nodes.one.append(f"{number}")
        if number == 10:
            nodes.redis.server.close_subscribers()
        nodes.network.advance(0.01)
    nodes.network.advance(2.0)
    assert [offset for offset, _ in nodes.two.delivered] == list(range(1, 21))
    assert nodes.one.delivered == nodes.two.delivered


def test_the_comparison_of_positions_finds_what_no_message_has_told(nodes: Nodes) -> None:
    # An entry without a message, as if the message were lost without a trace.
    nodes.one.appended("a")
    nodes.redis.data.publish = lambda *_: 0
    nodes.one.appended("b")
    nodes.network.advance(2 * CHECK_EVERY + 1.0)
    assert nodes.two.delivered == [(1, "a"), (2, "b")]
    assert nodes.two.counters.filled == 1


def test_what_is_no_longer_kept_is_told_and_the_rest_delivered() -> None:
    nodes = Nodes(entries_max=5)
    nodes.one.appended("0")
    heal = nodes.cut_off(nodes.two)
    for number in range(1, 20):
        nodes.one.appended(str(number))
    nodes.network.advance(10.0)
    heal()
    nodes.network.advance(30.0)
    [new] = nodes.two.begun_anew
    assert new.state.end == Position(nodes.one.state.end.epoch, 15)
    assert nodes.two.delivered == [(1, "0"), *((offset, str(offset - 1)) for offset in range(16, 21))]


def test_every_line_has_an_outcome_though_the_log_forgets_it_before_it_is_delivered() -> None:
    nodes = Nodes(entries_max=3)
    nodes.redis.server.close_subscribers()
    for number in range(400):
        nodes.two.append(f"two {number}")
        if number % 10 == 0:
            nodes.one.append(f"one {number}")
        nodes.network.advance(0.0005)
    nodes.network.advance(2 * CHECK_EVERY + 2.0)
    for node in (nodes.one, nodes.two):
        for text, [*_, outcome] in node.outcomes.items():
            assert isinstance(outcome, Retried) or (
                isinstance(outcome, Entry) and (outcome.offset, text) in node.delivered
            )


def test_entries_that_are_too_old_do_not_hide_those_after_them() -> None:
    nodes = Nodes(age_max=10.0)
    for number in range(120):
        nodes.one.append(f"old {number}")
    nodes.network.advance(9.0)
    nodes.one.appended("a")
    nodes.one.appended("b")
    nodes.network.advance(2.0)
    for limit in (1, 100):
        found = nodes.network.run(nodes.two.store.read(ROOM, 0, limit))
        assert [entry.text for entry in found] == ["a", "b"][:limit]
    nodes.network.advance(10.0)
    assert nodes.network.run(nodes.two.store.read(ROOM, 0, 1)) == []


def test_a_log_that_is_in_use_does_not_end_though_its_entries_are_kept_for_a_second_only() -> None:
    nodes = Nodes(age_max=1.0)
    nodes.one.appended("a")
    nodes.network.advance(10 * CHECK_EVERY)
    assert nodes.one.begun_anew == nodes.two.begun_anew == []
    assert nodes.network.run(nodes.one.store.newest(ROOM, 1, 10)) == []


def test_an_emptied_redis_is_noticed_and_the_last_lines_are_appended_again(nodes: Nodes) -> None:
    nodes.one.appended("old")
    nodes.network.advance(10.0)
    nodes.one.appended("a")
    nodes.redis.data.flushall()
    nodes.network.advance(5.0)
    for node in (nodes.one, nodes.two):
        [new] = node.begun_anew
        assert new.state.end.epoch != nodes.one.state.end.epoch
        assert new.unseen == []
        assert node.delivered == [(1, "old"), (2, "a")]
    assert len(nodes.log()) == 1  # the one of the last seconds
    nodes.two.appended("b")
    assert nodes.one.delivered == nodes.two.delivered == [(1, "old"), (2, "a"), (2, "b")]


def test_lines_of_a_quiet_room_are_not_appended_again_after_a_long_time(nodes: Nodes) -> None:
    nodes.one.appended("old")
    nodes.network.advance(3_600.0)
    nodes.redis.data.flushall()
    nodes.network.advance(5.0)
    assert nodes.log() == []


def test_a_promoted_replica_that_lacks_the_last_lines_gets_them_again(nodes: Nodes) -> None:
    nodes.one.appended("a")
    behind = nodes.redis.data.snapshot()
    for text in ("b", "c"):
        nodes.one.appended(text)
    nodes.redis.server.kill(losing=behind)
    nodes.redis.server.start()
    nodes.network.advance(5.0)
    nodes.two.appended("d")
    assert len(nodes.log()) == 4
    assert nodes.one.delivered == nodes.two.delivered == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    [new] = nodes.two.begun_anew
    assert new.state.end.offset == 3
    assert new.unseen == []


def test_after_lost_data_members_see_what_others_have_said_meanwhile(nodes: Nodes) -> None:
    nodes.one.appended("a")
    nodes.redis.data.flushall()
    heal = nodes.cut_off(nodes.two)
    nodes.network.advance(3.0)
    nodes.one.appended("b")
    heal()
    nodes.network.advance(30.0)
    [new] = nodes.two.begun_anew
    assert [entry.text for entry in new.unseen] == ["b"]


def test_a_node_without_a_lease_may_not_append_and_goes_on_as_another_one(nodes: Nodes) -> None:
    nodes.one.appended("a")
    before = nodes.one.node.id
    heal = nodes.cut_off(nodes.one)
    nodes.one.append("b")
    nodes.network.advance(LEASE + 1.0)
    assert not nodes.one.node.has_lease
    nodes.redis.data.execute([b"ZADD", b"netsvc:dead", b"1", before.encode()])
    nodes.redis.data.execute([b"ZREM", b"netsvc:nodes", before.encode()])
    heal()
    nodes.network.advance(40.0)
    assert nodes.one.node.id != before
    assert nodes.one.node.has_lease
    outcome = nodes.one.outcomes["b"][-1]
    assert isinstance(outcome, Entry | StoreError)
    assert isinstance(nodes.one.appended("c"), Entry)
    texts = [text for _, text in nodes.two.delivered]
    assert texts.count("b") == isinstance(outcome, Entry)
    assert nodes.one.delivered == nodes.two.delivered


def test_closing_waits_for_the_outcome_of_what_was_appended(nodes: Nodes) -> None:
    nodes.one.append("a")
    closed = nodes.one.store.close()
    nodes.network.run(closed)
    assert isinstance(nodes.one.outcomes["a"][-1], Entry)
    nodes.one.store.open(_ignore, _ignore)  # for the fixture
    assert nodes.two.delivered == [(1, "a")]


def test_closing_while_redis_is_away_refuses_what_waits_and_ends(nodes: Nodes) -> None:
    nodes.redis.server.pause()
    nodes.one.append("a")
    nodes.network.run(nodes.one.store.close())
    assert isinstance(nodes.one.outcomes["a"][-1], StoreError)
    nodes.one.store.open(_ignore, _ignore)  # for the fixture


def test_a_room_that_is_left_keeps_its_subscription_until_the_outcome_of_all_lines_is_known(nodes: Nodes) -> None:
    nodes.one.append("a")
    nodes.one.store.unsubscribe(ROOM)
    nodes.network.advance(0.1)
    assert isinstance(nodes.one.outcomes["a"][-1], Entry)
    assert nodes.one.delivered == []
    state = nodes.network.run(nodes.one.store.subscribe(ROOM))
    assert state.end.offset == 1
    assert isinstance(nodes.one.appended("b"), Entry)


def test_a_subscription_fails_while_redis_is_away_and_succeeds_later(nodes: Nodes) -> None:
    nodes.redis.server.kill()
    with pytest.raises(StoreError, match="refused"):
        nodes.network.run(nodes.one.store.subscribe("#other"))
    nodes.redis.server.start()
    assert nodes.network.run(nodes.one.store.subscribe("#other")).end.offset == 0


@pytest.mark.parametrize("first", [0, 15])
def test_stores_keep_their_guarantees_whatever_fails(first: int) -> None:
    for seed in range(first, first + 15):
        Simulation(seed).run()
