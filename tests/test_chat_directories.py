"""The directories of the chat: what both do, and what the one in Redis does for several nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from netsvc.chat.chat_events import Whispered
from netsvc.chat.directory import Adopted, Directory, Recipient, RoomMembers
from netsvc.chat.entries import EntryKind
from netsvc.chat.memory_directory import MemoryDirectory
from netsvc.chat.names import ASCII_NAMES, Names
from netsvc.chat.redis_directory import RedisDirectory
from netsvc.chat.redis_directory_scripts import CROWD, REAPED_AT_ONCE, REGISTER
from netsvc.chat.redis_entries import decode_entry
from netsvc.chat.redis_log import RedisLog
from netsvc.chat.redis_log_scripts import BEGIN
from netsvc.chat.redis_node import LEASE
from netsvc.chat.store import StoreError
from netsvc.chat.unicode_names import UnicodeNames
from netsvc.testing import Host, Network
from tests.redis_nodes import SimulatedRedisHost, node_on


class Members:
    """The members of a node: they record what they are told."""

    def __init__(self) -> None:
        self.whispers: list[tuple[str, Whispered]] = []
        self.taken: list[str] = []
        self.new_nicks: list[tuple[str, str]] = []
        self.back: list[tuple[str, str]] = []

    def whispered(self, author: str, whispered: Whispered) -> None:
        self.whispers.append((author, whispered))

    def taken_over(self, author: str) -> None:
        self.taken.append(author)

    def renamed(self, author: str, nick: str) -> None:
        self.new_nicks.append((author, nick))

    def returned(self, author: str, nick: str) -> None:
        self.back.append((author, nick))


class Known:
    """A directory in a test, with its members and its network."""

    def __init__(self, network: Network, directory: Directory) -> None:
        self.network = network
        self.directory = directory
        self.members = Members()
        directory.open(self.members)

    def wait(self, answer: Deferred[Any]) -> Any:
        return self.network.run(answer)

    def enter(self, author: str, nick: str = "", *rooms: str) -> str:
        """Add a member with a nick, which is in some rooms."""
        guest: str = self.wait(self.directory.enter(author))
        if nick:
            assert self.claim(author, nick) == ""
        for room in rooms:
            self.directory.join(author, room, is_announced=True)
        self.network.advance(0.1)
        return nick or guest

    def claim(self, author: str, nick: str) -> str:
        problem: str = self.wait(self.directory.claim(author, nick))
        return problem

    def adopt(self, author: str, nick: str, *rooms: str, before: str) -> Adopted:
        adopted: Adopted = self.wait(self.directory.adopt(author, nick, rooms, before))
        return adopted

    def whisper(self, sender: str, nick: str, text: str = "psst") -> Recipient | None:
        recipient: Recipient | None = self.wait(self.directory.whisper(sender, Whispered(sender, nick, text)))
        self.network.advance(0.1)
        return recipient

    def in_room(self, room: str, limit: int = 10) -> tuple[int, list[str]]:
        members: RoomMembers = self.wait(self.directory.members(room, limit))
        return members.count, sorted(members.nicks)


class Nodes:
    """Two nodes and a Redis."""

    def __init__(self, names: Names = ASCII_NAMES) -> None:
        self.names = names
        self.network = Network()
        self.redis = SimulatedRedisHost(self.network)
        self.hosts = [self.network.host(name) for name in ("one", "two")]
        self.network.links().set(latency=0.001)
        self.one, self.two = (self._known(host) for host in self.hosts)
        self.network.advance(2 * LEASE)  # the nodes have renewed their leases for so long that they may reap

    def _known(self, host: Host) -> Known:
        reactor: Any = host.reactor
        return Known(self.network, RedisDirectory(node_on(host), reactor, reactor.seconds, self.names))

    def directory(self, known: Known) -> RedisDirectory:
        assert isinstance(known.directory, RedisDirectory)
        return known.directory

    def cut_off(self, number: int) -> Callable[[], None]:
        """Cut a node off from Redis. Return a function that ends that."""
        link = self.network.link(self.hosts[number].name, "redis")
        link.partition()
        return link.heal

    def begin_log(self, room: str) -> RedisLog:
        """Begin the log of a room."""
        log = RedisLog(room)
        self.redis.data.execute([b"EVAL", BEGIN.text.encode(), b"4", *log.keys, b"abcd", b"0"])
        return log

    def entries(self, log: RedisLog) -> list[tuple[EntryKind, str, str]]:
        """Return the kind, the nick and the text of each entry of a log."""
        found: Any = self.redis.data.execute([b"XRANGE", log.keys[1], b"-", b"+"])
        entries = [decode_entry(log.room, "", 0, fields[1]).entry for _, fields in found]
        return [(entry.kind, entry.nick, entry.text) for entry in entries]

    def keys(self, pattern: str) -> Any:
        return self.redis.data.execute([b"KEYS", pattern.encode()])


@pytest.fixture(params=["memory", "redis"])
def known(request: pytest.FixtureRequest) -> Iterator[Known]:
    """A directory."""
    if request.param == "redis":
        nodes = Nodes()
        yield nodes.one
        nodes.network.run(nodes.one.directory.close())
        nodes.network.run(nodes.two.directory.close())
    else:
        network = Network()
        yield Known(network, MemoryDirectory(lambda: network.now))


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


# What both do


def test_each_guest_has_a_nick_of_its_own(known: Known) -> None:
    assert [known.enter("a1"), known.enter("a2")] == ["guest-1", "guest-2"]


def test_a_guest_does_not_get_a_nick_that_somebody_has(known: Known) -> None:
    known.enter("a1", "Guest-2")
    assert known.enter("a2") == "guest-3"


@pytest.mark.parametrize(("wanted", "problem"), [("Ann", "is taken"), ("ann", "is taken"), ("anN", "is taken")])
def test_a_nick_has_one_member(known: Known, wanted: str, problem: str) -> None:
    known.enter("a1", "ann")
    known.enter("a2")
    assert known.claim("a2", wanted) == problem
    assert known.claim("a1", wanted) == ""


def test_a_nick_that_looks_like_a_taken_one_is_refused(known: Known) -> None:
    known.enter("a1", "pau1")
    known.enter("a2")
    assert known.claim("a2", "paul") == "looks like pau1"


def test_a_nick_that_was_given_up_is_free(known: Known) -> None:
    known.enter("a1", "ann")
    known.claim("a1", "eve")
    known.enter("a2", "ann")
    known.directory.leave("a2")
    known.network.advance(0.1)
    known.enter("a3", "ann")


def test_a_nick_is_kept_for_its_member_for_some_time(known: Known) -> None:
    known.enter("a1", "ann")
    known.directory.leave("a1", 10.0)
    known.network.advance(5.0)
    known.enter("a2")
    assert known.claim("a2", "ann") == "is kept for a member whose connection was lost"
    known.network.advance(6.0)
    assert known.claim("a2", "ann") == ""


def test_a_member_that_resumes_gets_the_nick_that_was_kept(known: Known) -> None:
    known.enter("a1", "ann")
    known.directory.leave("a1", 10.0)
    known.enter("new")
    assert known.adopt("a1", "other", before="new") == Adopted("ann")
    known.enter("a2")
    assert known.claim("a2", "guest-2") == ""  # the nick that it had
    assert known.claim("a2", "ann") == "is taken"


def test_a_member_that_resumes_while_it_is_connected_gets_its_nick_and_what_it_said_of_being_away(known: Known) -> None:
    known.enter("a1", "ann")
    known.directory.set_away("a1", "lunch")
    known.network.advance(0.1)
    known.enter("new")
    assert known.adopt("a1", "other", before="new") == Adopted("ann", "lunch")


def test_a_member_that_resumes_after_a_long_time_gets_the_nick_that_it_wants_if_it_is_free(known: Known) -> None:
    known.enter("a2", "eve")
    known.enter("new")
    assert known.adopt("a1", "ann", before="new") == Adopted("ann")
    known.enter("new2", "bob")
    assert known.adopt("a3", "Eve", before="new2") == Adopted("bob")
    assert known.claim("a2", "bob") == "is taken"


def test_members_of_a_room_are_counted_and_listed(known: Known) -> None:
    for author, nick in (("a1", "ann"), ("a2", "bob"), ("a3", "cy")):
        known.enter(author, nick, "#room")
    assert known.in_room("#room") == (3, ["ann", "bob", "cy"])
    count, nicks = known.in_room("#room", 2)
    assert (count, len(nicks)) == (3, 2)
    known.claim("a1", "dee")
    known.directory.part("a2", "#room")
    known.network.advance(0.1)
    assert known.in_room("#room") == (2, ["cy", "dee"])
    assert known.in_room("#other") == (0, [])


def test_the_largest_rooms_are_listed_first(known: Known) -> None:
    known.enter("a1", "ann", "#one", "#two")
    known.enter("a2", "bob", "#two")
    rooms = known.wait(known.directory.rooms(10))
    assert (rooms.count, rooms.rooms) == (2, (("#two", 2), ("#one", 1)))
    rooms = known.wait(known.directory.rooms(1))
    assert (rooms.count, rooms.rooms) == (2, (("#two", 2),))
    known.directory.part("a1", "#one")
    known.network.advance(0.1)
    assert known.wait(known.directory.rooms(10)).rooms == (("#two", 2),)


def test_a_private_message_reaches_its_recipient_who_may_be_away(known: Known) -> None:
    known.enter("a1", "ann")
    known.enter("a2", "bob")
    assert known.whisper("a1", "BOB") == Recipient("bob", "")
    assert known.members.whispers == [("a2", Whispered("a1", "bob", "psst"))]
    known.directory.set_away("a2", "lunch, at 12")
    known.network.advance(0.1)
    assert known.whisper("a1", "bob") == Recipient("bob", "lunch, at 12")
    assert known.whisper("a1", "eve") is None


def test_a_member_that_writes_to_itself_is_not_told(known: Known) -> None:
    known.enter("a1", "ann")
    assert known.whisper("a1", "ann") == Recipient("ann", "")
    assert known.members.whispers == []


# Several nodes


def test_nicks_rooms_and_private_messages_are_those_of_all_nodes(nodes: Nodes) -> None:
    nodes.one.enter("a1", "ann", "#room")
    assert nodes.two.enter("a2") == "guest-2"
    assert nodes.two.claim("a2", "Ann") == "is taken"
    nodes.two.enter("a3", "bob", "#room")
    assert nodes.one.in_room("#room") == nodes.two.in_room("#room") == (2, ["ann", "bob"])
    assert nodes.one.whisper("a1", "bob", "a\\b: [c]") == Recipient("bob", "")
    assert nodes.two.members.whispers == [("a3", Whispered("a1", "bob", "a\\b: [c]"))]


def test_names_in_any_script_that_look_alike_are_one_name_on_all_nodes() -> None:
    nodes = Nodes(UnicodeNames())
    nodes.one.enter("a1", "Боб", "#комната")
    nodes.two.enter("a2")
    assert nodes.two.claim("a2", "боб") == "is taken"
    nodes.two.enter("a3", "王芳", "#комната")
    assert nodes.one.in_room("#комната") == (2, sorted(["Боб", "王芳"]))
    assert nodes.one.whisper("a1", "王芳", "здравствуйте") == Recipient("王芳", "")
    assert nodes.two.claim("a2", "pаul") == ""  # with a Cyrillic letter
    assert nodes.one.claim("a1", "paul") == "looks like pаul"


def test_rooms_whose_names_look_alike_are_one_room_on_all_nodes(nodes: Nodes) -> None:
    one, two = nodes.one, nodes.two
    assert one.wait(one.directory.room_name("#dev-1")) == "#dev-1"
    assert two.wait(two.directory.room_name("#dev-l")) == "#dev-1"
    one.enter("a1", "ann", "#dev-1")
    nodes.network.advance(300.0)  # the node renews the name as long as the room has members
    assert two.wait(two.directory.room_name("#dev-l")) == "#dev-1"
    one.directory.part("a1", "#dev-1")
    nodes.network.advance(100.0)
    assert two.wait(two.directory.room_name("#dev-l")) == "#dev-l"


def test_a_member_that_resumes_on_another_node_takes_everything_along_at_once(nodes: Nodes) -> None:
    log = nodes.begin_log("#left")
    nodes.one.enter("a1", "ann", "#room", "#left")
    nodes.one.directory.set_away("a1", "lunch")
    nodes.network.advance(0.1)
    nodes.two.enter("new")
    assert nodes.two.adopt("a1", "other", "#room", before="new") == Adopted("ann", "lunch", frozenset({"#room"}))
    nodes.two.directory.join("a1", "#room", is_announced=True)
    nodes.network.advance(0.1)
    assert nodes.one.members.taken == ["a1"]
    nodes.one.directory.part("a1", "#room")  # as the hub does then
    nodes.network.advance(0.1)
    assert nodes.two.in_room("#room") == (1, ["ann"])
    assert nodes.two.in_room("#left") == (0, [])
    assert nodes.entries(log) == [(EntryKind.LEFT, "ann", "left")]


def test_a_directory_that_is_opened_again_gets_private_messages(nodes: Nodes) -> None:
    nodes.one.enter("a1", "ann")
    nodes.network.run(nodes.one.directory.close())
    nodes.one.directory.open(nodes.one.members)
    nodes.network.advance(1.0)
    nodes.one.enter("a2", "bob")
    nodes.two.enter("a3")
    assert nodes.two.whisper("a3", "bob") == Recipient("bob", "")
    assert nodes.one.members.whispers == [("a2", Whispered("a3", "bob", "psst"))]


def test_a_member_that_resumes_elsewhere_costs_its_node_nothing_for_the_others(nodes: Nodes) -> None:
    for number in range(20):
        nodes.one.enter(f"a{number}")
    nodes.two.enter("new")
    registered: list[bytes] = []
    execute = nodes.redis.data.execute

    def record(arguments: list[bytes]) -> Any:
        if REGISTER.digest.encode() in arguments:
            registered.append(arguments[4])
        return execute(arguments)

    nodes.redis.data.execute = record  # type: ignore[method-assign]
    nodes.two.adopt("a7", "x", before="new")
    nodes.network.advance(1.0)
    assert nodes.one.members.taken == ["a7"]
    assert registered == [b"a7"]


def test_of_two_connections_that_resume_at_once_on_two_nodes_one_stays(nodes: Nodes) -> None:
    nodes.one.enter("new1")
    nodes.two.enter("new2")
    link = nodes.network.link(nodes.hosts[0].name, "redis")
    first = nodes.one.directory.adopt("a1", "ann", (), "new1")
    nodes.network.advance(0.000_5)
    link.set(latency=0.1)  # for the answer, which the message of the next one overtakes
    nodes.network.advance(0.001)
    link.set(latency=0.001)
    nodes.two.adopt("a1", "ann", before="new2")
    nodes.network.advance(0.05)
    assert not first.called
    nodes.network.advance(2.0)
    assert nodes.network.run(first) == Adopted("ann")
    assert nodes.one.members.taken == ["a1"]
    assert nodes.two.members.taken == []


def test_members_of_a_dead_node_are_announced_as_gone_and_their_nicks_are_free_after_the_lease(nodes: Nodes) -> None:
    log = nodes.begin_log("#room")
    nodes.one.enter("a1", "ann", "#room")
    nodes.one.directory.join("a1", "#quiet", is_announced=False)
    nodes.network.advance(0.1)
    nodes.two.enter("a2")
    nodes.hosts[0].crash()
    nodes.network.advance(LEASE - 1.5)
    assert nodes.two.claim("a2", "ann") == "is taken"
    nodes.network.advance(2.5)
    assert nodes.two.claim("a2", "ann") == ""
    assert nodes.two.in_room("#room") == nodes.two.in_room("#quiet") == (0, [])
    assert nodes.entries(log) == [(EntryKind.LEFT, "ann", "left: its server failed")]


def test_a_crowd_of_a_dead_node_is_summed_up(nodes: Nodes) -> None:
    log = nodes.begin_log("#room")
    count = CROWD + REAPED_AT_ONCE + 10
    for number in range(count):
        nodes.one.enter(f"a{number}", "", "#room")
    nodes.hosts[0].crash()
    nodes.network.advance(LEASE + 1.0)
    entries = nodes.entries(log)
    notices = [text for kind, _, text in entries if kind is EntryKind.NOTICE]
    left = [nick for kind, nick, _ in entries if kind is EntryKind.LEFT]
    assert sum(int(text.split()[0]) for text in notices) == count
    assert left == []
    assert nodes.keys("netsvc:member*") == nodes.keys("netsvc:in:*") == nodes.keys("netsvc:nick:*") == []


def test_after_redis_was_away_nobody_is_removed(nodes: Nodes) -> None:
    nodes.one.enter("a1", "ann", "#room")
    nodes.two.enter("a2", "bob", "#room")
    nodes.redis.server.kill()
    nodes.network.advance(5 * LEASE)
    nodes.redis.server.start()
    nodes.network.advance(5 * LEASE)
    assert nodes.one.in_room("#room") == (2, ["ann", "bob"])
    assert nodes.one.members.new_nicks == nodes.one.members.back == []


def test_a_node_that_was_cut_off_registers_its_members_again(nodes: Nodes) -> None:
    nodes.begin_log("#room")
    nodes.one.enter("a1", "ann", "#room")
    nodes.one.enter("a2", "bob", "#room")
    nodes.two.enter("a3")
    heal = nodes.cut_off(0)
    nodes.network.advance(LEASE + 2.0)
    assert nodes.two.claim("a3", "ann") == ""
    heal()
    nodes.network.advance(40.0)
    assert nodes.one.members.new_nicks == []
    assert sorted(nodes.one.members.back) == [("a1", "guest-4"), ("a2", "bob")]
    assert nodes.two.in_room("#room") == (2, ["bob", "guest-4"])


def test_a_member_that_resumed_elsewhere_while_its_node_was_cut_off_is_taken_over(nodes: Nodes) -> None:
    nodes.one.enter("a1", "ann", "#room")
    heal = nodes.cut_off(0)
    nodes.network.advance(LEASE + 2.0)
    nodes.two.enter("new")
    assert nodes.two.adopt("a1", "ann", "#room", before="new").nick == "ann"
    heal()
    nodes.network.advance(40.0)
    assert nodes.one.members.taken == ["a1"]
    assert nodes.one.members.new_nicks == []


def test_what_happens_while_redis_is_away_is_made_good(nodes: Nodes) -> None:
    nodes.one.enter("a1", "ann", "#room")
    nodes.one.enter("a2", "bob", "#room")
    nodes.redis.server.kill()
    nodes.network.advance(1.0)
    nodes.one.directory.leave("a1")
    nodes.one.directory.part("a2", "#room")
    nodes.one.directory.join("a2", "#other", is_announced=True)
    nodes.redis.server.start()
    nodes.network.advance(2.0)
    assert nodes.two.in_room("#room") == (0, [])
    assert nodes.two.in_room("#other") == (1, ["bob"])
    nodes.two.enter("a3", "ann")


@pytest.mark.parametrize("delay", [0.0, 0.000_5, 0.002])
def test_a_nick_that_is_claimed_while_its_member_is_registered_again_is_the_one_in_redis(
    nodes: Nodes, delay: float
) -> None:
    nodes.one.enter("a1", "ann")
    nodes.redis.data.flushall()
    while not nodes.keys("netsvc:nodes"):  # a renewal of the lease reveals the loss
        nodes.network.advance(0.000_2)
    nodes.network.advance(delay)
    assert nodes.one.claim("a1", "eve") == ""
    nodes.two.enter("a2")
    assert nodes.two.claim("a2", "eve") == "is taken"
    assert nodes.two.claim("a2", "ann") == ""


def test_a_member_that_enters_while_all_are_registered_again_is_told_the_nick_that_it_has(nodes: Nodes) -> None:
    entered = nodes.one.directory.enter("a1")
    nodes.network.advance(0.002_5)  # it is about to be guest-1
    heal = nodes.cut_off(0)
    nodes.redis.data.flushall()
    nodes.redis.server.kill()
    nodes.redis.server.start()
    nodes.network.advance(0.5)
    assert nodes.two.enter("a2") == "guest-1"
    heal()
    nick = nodes.network.run(entered)
    nodes.network.advance(5.0)
    [(_, new_nick)] = nodes.one.members.new_nicks or [("a1", nick)]
    assert nodes.redis.data.execute([b"HGET", b"netsvc:member:a1", b"nick"]) == nick.encode() == new_nick.encode()


def test_an_emptied_redis_is_filled_again(nodes: Nodes) -> None:
    nodes.one.enter("a1", "ann", "#room")
    nodes.two.enter("a2", "", "#room")
    nodes.redis.data.flushall()
    nodes.redis.server.kill()
    nodes.redis.server.start()
    nodes.network.advance(3.0)
    assert nodes.one.in_room("#room") == (2, ["ann", "guest-2"])
    assert nodes.one.members.new_nicks == nodes.one.members.back == nodes.two.members.back == []
    assert nodes.one.enter("a3") == "guest-3"


def test_a_request_fails_with_the_reason_while_redis_is_away(nodes: Nodes) -> None:
    nodes.redis.server.kill()
    nodes.network.advance(1.0)
    with pytest.raises(StoreError, match="refused"):
        nodes.one.wait(nodes.one.directory.enter("a1"))
    nodes.redis.server.start()
    nodes.network.advance(1.0)
    assert nodes.one.enter("a1") == "guest-1"


def test_a_member_that_leaves_while_it_enters_is_not_left_behind(nodes: Nodes) -> None:
    entering = nodes.one.directory.enter("a1")
    nodes.network.advance(0.0015)
    nodes.one.directory.leave("a1")
    nodes.network.run(entering)
    nodes.one.directory.leave("a1")
    nodes.network.advance(1.0)
    assert nodes.keys("netsvc:member*") == nodes.keys("netsvc:nick:*") == []


def test_nothing_of_a_dead_node_is_left(nodes: Nodes) -> None:
    nodes.one.enter("a1", "ann", "#room")
    before = set(nodes.keys("netsvc:*"))
    assert before
    nodes.hosts[0].crash()
    nodes.network.advance(3 * LEASE)
    left = sorted(nodes.keys("netsvc:*"))
    assert left == [b"netsvc:dead", b"netsvc:guests", b"netsvc:nodes"]
    assert nodes.redis.data.execute([b"ZCARD", b"netsvc:nodes"]) == 1
