"""Answers and data of a simulated Redis that are lost: what its stores then tell."""

from __future__ import annotations

from typing import Any

from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.redis_log import OwnEntry, RedisLog
from netsvc.chat.redis_store import RedisStore
from netsvc.chat.store import NewLog, Outcome, Retried
from netsvc.testing import Network
from tests.redis_nodes import SimulatedRedisHost, store_on

ROOM = "#room"


class Node:
    """A node with a store that is subscribed to a room.

    :ivar begun: what it was told of the logs that were begun anew.
    :ivar outcomes: what became of the drafts, in the order in which that was told.
    """

    def __init__(self, network: Network, name: str, *, may_begin_anew: bool = False) -> None:
        self.name = name
        self.may_begin_anew = may_begin_anew
        self.begun: list[NewLog] = []
        self.outcomes: list[Outcome] = []
        self.delivered: list[Entry] = []
        self.store: RedisStore = store_on(network.host(name))
        network.link(name, "redis").set(latency=0.01)
        self.store.open(self.delivered.append, self.begun_anew)
        network.run(self.store.subscribe(ROOM))

    def begun_anew(self, new: NewLog) -> None:
        """Take note of a log that was begun anew."""
        assert self.may_begin_anew, str(new)
        self.begun.append(new)

    def append(self, text: str, message_id: str = "") -> None:
        """Append, as an author that all nodes know."""
        self.store.append(Draft(ROOM, EntryKind.SAID, "nick", text, 0.0, "author", message_id), self.outcomes.append)


def lose_the_answer(network: Network, redis: SimulatedRedisHost, node: Node) -> None:
    """Redis does what the node has just sent, and is killed before the node gets the answer."""
    network.advance(0.015)
    network.link(node.name, "redis").partition()
    network.advance(0.1)
    redis.server.kill()
    network.advance(0.1)
    redis.server.start()
    network.link(node.name, "redis").heal()


def test_a_retry_whose_answer_is_lost_is_told_the_entry_of_the_first_attempt() -> None:
    network = Network(1)
    redis = SimulatedRedisHost(network)
    one, other = Node(network, "one"), Node(network, "other")
    one.append("first", "m1")
    one.append("second")
    network.advance(1.0)
    other.append("first, again", "m1")
    lose_the_answer(network, redis, other)
    network.advance(10.0)
    assert other.outcomes == [Retried(one.delivered[0])]
    assert [entry.text for entry in other.delivered] == ["first", "second"]
    for node in (one, other):
        network.run(node.store.close())


def test_an_entry_whose_answer_is_lost_is_told_where_it_is() -> None:
    network = Network(1)
    redis = SimulatedRedisHost(network)
    one, other = Node(network, "one"), Node(network, "other")
    other.append("first", "m1")
    lose_the_answer(network, redis, other)
    network.advance(10.0)
    assert other.outcomes == other.delivered == one.delivered
    assert [entry.text for entry in one.delivered] == ["first"]
    for node in (one, other):
        network.run(node.store.close())


def test_lines_that_were_sent_together_are_refused_together_when_redis_has_no_memory() -> None:
    network = Network(1)
    redis = SimulatedRedisHost(network)
    node = Node(network, "one")
    redis.data.maxmemory = True
    for number in range(100):
        node.append(f"line {number}")
    network.advance(1.0)
    assert [str(outcome) for outcome in node.outcomes] == ["Redis has no memory left"] * 100
    redis.data.maxmemory = False
    network.advance(1.0)
    node.append("later")
    network.advance(1.0)
    assert [entry.text for entry in node.delivered] == ["later"]
    network.run(node.store.close())


def test_a_room_is_told_a_few_times_only_that_its_log_was_begun_anew_and_gets_its_lines_again() -> None:
    network = Network(1)
    redis = SimulatedRedisHost(network)
    nodes = [Node(network, name, may_begin_anew=True) for name in ("one", "other")]
    for number in range(100):
        nodes[number % 2].append(f"line {number}")
        network.advance(0.01)
    network.advance(1.0)
    network.link("other", "redis").partition()
    redis.data.flushall()
    network.advance(2.5)
    network.link("other", "redis").heal()  # it appends its lines again when the first one has gone on already
    network.advance(20.0)
    for node in nodes:
        assert 1 <= len(node.begun) <= 6
        node.append("later")
    network.advance(1.0)
    entries: Any = redis.data.execute([b"XLEN", b"netsvc:entries:#room"])
    assert entries == 102
    for node in nodes:
        assert [entry.text for entry in node.delivered[-2:]] == ["later", "later"]
        network.run(node.store.close())


def test_a_node_appends_at_once_after_the_scripts_of_redis_were_flushed() -> None:
    network = Network(1)
    redis = SimulatedRedisHost(network)
    node = Node(network, "one")
    for number in range(20):
        redis.data.execute([b"SCRIPT", b"FLUSH"])
        network.advance(0.07 * number)  # now and then a renewal of the lease comes first
        node.append(f"line {number}")
        network.advance(0.4)
        assert len(node.delivered) == number + 1
    network.run(node.store.close())


def test_lost_entries_are_sent_again_by_their_counters_also_if_they_were_acknowledged_in_another_order() -> None:
    log = RedisLog(ROOM)
    log.count_as("node")
    for number in range(4):
        draft = Draft(ROOM, EntryKind.SAID, "nick", f"line {number}", 0.0, "author")
        log.unsent.append(OwnEntry(draft, None, 0.0))
    sent = [own.tag for own in log.to_send()]
    for tag in (sent[2], sent[0]):
        assert tag is not None
        log.resolved(tag, now=0.0)
    log.send_again(counter=0)
    assert [own.tag for own in log.unsent] == sent


def test_an_entry_that_a_log_has_seen_and_did_not_deliver_is_asked_for() -> None:
    log = RedisLog(ROOM)
    log.count_as("node")
    log.unsent.append(OwnEntry(Draft(ROOM, EntryKind.SAID, "nick", "line", 0.0, "author"), None, 0.0))
    list(log.to_send())
    log.counter_there = 1
    assert not log.has_undelivered  # the answer is to come
    log.in_flight = 0
    assert log.has_undelivered
