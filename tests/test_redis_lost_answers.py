"""Answers of a simulated Redis that are lost: what its stores then tell."""

from __future__ import annotations

from netsvc.chat.entries import Draft, Entry, EntryKind
from netsvc.chat.redis_store import RedisStore
from netsvc.chat.store import NewLog, Outcome, Retried
from netsvc.testing import Network
from tests.redis_nodes import SimulatedRedisHost, store_on

ROOM = "#room"


class Node:
    """A node with a store that is subscribed to a room.

    :ivar outcomes: what became of the drafts, in the order in which that was told.
    """

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self.outcomes: list[Outcome] = []
        self.delivered: list[Entry] = []
        self.store: RedisStore = store_on(network.host(name))
        network.link(name, "redis").set(latency=0.01)
        self.store.open(self.delivered.append, self.begun_anew)
        network.run(self.store.subscribe(ROOM))

    def begun_anew(self, new: NewLog) -> None:
        """No log is begun anew here."""
        raise AssertionError(str(new))

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
