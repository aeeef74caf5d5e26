"""A simulated chat of eight members, with all faults that the network can have. It checks the guarantees of the chat.

``python -m tests.simulated_chat 5000`` runs it with the seeds 0 to 4,999, for each store. ``--seed N`` runs one seed
and prints the trace of the network. ``tests/test_simulated_chat.py`` runs some of the seeds. With the store ``redis``
there are two servers, each a node, and a Redis on a host of its own, which fails as well. A member connects to either.

Half of the members are programs that resume, two of them over WebSocket; half are like netcat. For every seed:

- A program sees each room without a gap, in one order and without duplicates, or it is told what it lost. It sees the
  same entries as the log of the room has.
- A line that was acknowledged is in the log once. A line that was refused is not in it. No line is in it twice, also if
  the server has crashed (unless the log was lost with it).
- A member like netcat sees lines in the order of the log, each once, and while its connection lasts none is missing.
- No member receives lines of another room. No two members have the same nick.
- A member that stops reading is disconnected when its send queue is too long.
- When all members have left, the server keeps no state of them.
"""

from __future__ import annotations

import argparse
import gc
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol
from zope.interface import implementer

from netsvc.chat.chat_events import Resumed, RoomEntered, Verdict
from netsvc.chat.client import ChatClient, ClientEvent, NotSaidError
from netsvc.chat.directory import Directory
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.hub import ChatHub
from netsvc.chat.lines import ChatFactory
from netsvc.chat.member_protocol import MemberFactory
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.redis_directory import RedisDirectory
from netsvc.chat.redis_node import RedisNode
from netsvc.chat.redis_store import RedisStore
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Erase, History, Join, Leave, Rename, Whisper, Who
from netsvc.chat.sqlite_store import SqliteStore
from netsvc.chat.store import Store
from netsvc.chat.web_member import WebChatFactory
from netsvc.chat.web_socket_client import WebSocketChatClient
from netsvc.limits.stream_limits import TRANSPORT_BUFFER
from netsvc.net.blocking import blocking_runner
from netsvc.net.stream_protocol import StreamProtocol
from netsvc.server.assembly import StreamService
from netsvc.testing import Host, Network, splits
from tests.connections import terms
from tests.redis_nodes import SimulatedRedisHost, node_on

MEMBERS = 8
STEPS = 30
STALL = 2.0
HOME = "#home"
ROOMS = (HOME, "#den", "#attic")
NICKS = ("ann", "bob", "Ann", "cy", "dee", "eve", "flo")
LONG_TEXT = "x" * 970  # the line is nearly as long as a line may be
PORT, WEB_PORT = 1400, 8080
SPOKEN = (EntryKind.SAID, EntryKind.ACTION)

STORES = ("memory", "sqlite", "redis")

_SAID = re.compile(r"<[^ >]+(?: \*)?> (.*)")

MakeStore = Callable[[Host], Store]


class Logs:
    """The entries that the server has appended to the logs of rooms, whatever became of the server.

    :ivar entries: by room, epoch and offset.
    :ivar places: where each text is.
    :ivar may_begin_later: whether a log may begin in the middle: entries that were stored just before a crash were not
        delivered.
    """

    def __init__(self) -> None:
        self.may_begin_later = False
        self.entries: dict[tuple[str, str, int], Entry] = {}
        self.places: dict[str, list[tuple[str, str, int]]] = {}

    def add(self, entry: Entry, delivered: dict[str, Position]) -> None:
        """Take note of an entry that a hub delivers.

        :param delivered: what this hub has delivered last, for each room.
        """
        place = (entry.room, entry.epoch, entry.offset)
        last = delivered.get(entry.room)
        assert last is None or last < entry.position or last.epoch != entry.epoch, f"{place} is delivered after {last}"
        delivered[entry.room] = entry.position
        assert entry.offset == 1 or (entry.room, entry.epoch, entry.offset - 1) in self.entries or self.may_begin_later
        if place in self.entries:
            before = self.entries[place]  # the text may have been erased meanwhile
            is_same = (entry.kind, entry.nick) == (before.kind, before.nick) and entry.text in (before.text, "")
            assert is_same or not before.text, f"{place} is {entry}, and was {before}"
            if before.text or not entry.text:
                self.entries[place] = entry
                return
        self.entries[place] = entry
        if entry.kind in SPOKEN:
            places = self.places.setdefault(entry.text, [])
            if place not in places:
                places.append(place)
        elif entry.kind is EntryKind.ERASED:
            erased = (entry.room, entry.epoch, int(entry.text))
            if erased in self.entries:
                self.entries[erased] = self.entries[erased]._replace(text="")


class Member:
    """A member: a host on the network."""

    def __init__(self, simulation: Simulation, host: Host) -> None:
        self.simulation = simulation
        self.host = host

    def start(self) -> None:
        """Connect."""


class Program(Member):
    """A program that resumes.

    :param over_web: whether it connects over WebSocket.
    """

    def __init__(self, simulation: Simulation, host: Host, *, over_web: bool) -> None:
        super().__init__(simulation, host)
        self._over_web = over_web
        self.client: ChatClient | None = None
        self.room = ""
        self.epoch = ""
        self.offset = 0
        self.resuming = False
        self.entered: RoomEntered | None = None

    def start(self) -> None:
        reactor = self.host.reactor
        self.room = ""
        options: dict[str, Any] = {"room": HOME, "retry_policy": lambda _: 0.5}
        if self._over_web:
            endpoint = self.simulation.endpoint(reactor, WEB_PORT)
            self.client = WebSocketChatClient(endpoint, "ws://chat/ws", self.receive, reactor, **options)
        else:
            self.client = ChatClient(self.simulation.endpoint(reactor, PORT), self.receive, reactor, **options)
        self.client.start()

    def receive(self, event: ClientEvent) -> None:
        """Check that the view of the room has no gap, and is what the log says."""
        with self.simulation.checking():
            self._check(event)

    def _check(self, event: ClientEvent) -> None:
        match event:
            case RoomEntered():
                self.entered = event
                if not self.room or event.room != self.room:
                    self._enter(event)
            case Resumed(room, verdict, lost):
                assert room == self.room
                assert self.entered is not None
                if verdict is Verdict.UNKNOWN:
                    self._enter(self.entered)
                else:
                    assert self.entered.position.epoch == self.epoch
                    self.offset += lost
            case ReceivedEntry(entry):
                place = (entry.room, entry.epoch, entry.offset)
                name = self.host.name
                assert (entry.room, entry.epoch) == (self.room, self.epoch), f"{name} is in {self.room}, not in {place}"
                assert entry.offset == self.offset + 1, f"{name} has seen {self.offset}, and now {place}"
                self.offset += 1
                self.simulation.saw(self, entry)

    def _enter(self, entered: RoomEntered) -> None:
        self.room = entered.room
        self.epoch, self.offset = entered.position

    def say(self, text: str) -> None:
        """Say something, and take note of what becomes of it."""
        assert self.client is not None
        try:
            said = self.client.say(text)
        except MessageError:
            return
        said.addCallbacks(
            lambda position: self.simulation.acknowledged(text, position),
            lambda failure: self.simulation.refused(text, failure.value),
        )

    def request(self, request: Any) -> None:
        """Ask for something, if it is connected."""
        if self.client is not None and self.client.is_connected:
            self.client.request(request)

    @property
    def transport(self) -> Any:
        """The transport of its connection; None without one."""
        connection = self.client.connection if self.client is not None else None
        return connection.transport if connection is not None and self.host.up else None

    def crash(self) -> None:
        """Crash the host. The program forgets everything."""
        self.host.crash()
        self.client = None


class Netcat(Member):
    """A member like netcat: it shows the lines that it receives, and connects again when it is told to."""

    def __init__(self, simulation: Simulation, host: Host) -> None:
        super().__init__(simulation, host)
        self.session: NetcatSession | None = None
        self.connecting = False

    def start(self) -> None:
        if self.connecting:
            return
        self.connecting = True
        session = NetcatSession(self)
        endpoint = self.simulation.endpoint(self.host.reactor, PORT)

        def connected(_: object) -> None:
            self.connecting = False
            self.session = session

        def failed(_: object) -> None:
            self.connecting = False

        connectProtocol(endpoint, session).addCallbacks(connected, failed)

    @property
    def transport(self) -> Any:
        """The transport of its connection; None without one."""
        if self.session is None or self.session.is_lost or not self.host.up:
            return None
        return self.session.transport

    def crash(self) -> None:
        """Crash the host."""
        self.host.crash()
        self.session = None
        self.connecting = False

    def send(self, line: str) -> None:
        """Send a line, if it is connected."""
        if self.transport is not None and self.session is not None:
            self.session.sent.add(line)
            self.transport.write(line.encode() + b"\n")


class NetcatSession(Protocol):
    """One connection of a member like netcat."""

    transport: Any

    def __init__(self, member: Netcat) -> None:
        self.member = member
        self.is_lost = False
        self.sent: set[str] = set()
        self.room = ""
        self.last: tuple[str, str, int] | None = None  # the place of the last line of this visit to its room
        self._buffer = b""

    def connectionMade(self) -> None:
        self.transport.write(f"/join {HOME}\n".encode())

    def dataReceived(self, data: bytes) -> None:
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            with self.member.simulation.checking():
                self._line(line.decode())

    def _line(self, line: str) -> None:
        if line.startswith("* you are in ") or line.startswith("* you are the only one in "):
            self.room = next(word for word in line.split() if word.startswith("#"))
            self.last = None
        elif said := _SAID.fullmatch(line):
            self.last = self.member.simulation.netcat_saw(self, said[1])

    def connectionLost(self, reason: object = None) -> None:
        self.is_lost = True


@implementer(IStreamClientEndpoint)
class AnyServer:
    """An endpoint that connects to one of the servers, as a load balancer does: to another one if it does not answer.

    :param choose: returns the address for the next attempt.
    """

    def __init__(self, reactor: Any, port: int, choose: Callable[[], str]) -> None:
        self._reactor = reactor
        self._port = port
        self._choose = choose

    def connect(self, factory: Any) -> Deferred[Any]:
        return TCP4ClientEndpoint(self._reactor, self._choose(), self._port, timeout=5).connect(factory)


class Server:
    """A server of the chat.

    :ivar hub: its part of the chat.
    :ivar node: its node, if it is one of several.
    """

    def __init__(self, simulation: Simulation, host: Host) -> None:
        self.host = host
        self._simulation = simulation
        self.start()

    def start(self) -> None:
        """Start, also after a crash."""
        reactor, simulation = self.host.reactor, self._simulation
        chat_terms = terms(reactor, stall_timeout=STALL)
        self.node: RedisNode | None = None
        directory: Directory | None = None
        if simulation.redis is None:
            self.store = simulation.make_store(self.host)
        else:
            self.node = node_on(self.host)
            self.store = RedisStore(self.node, reactor, reactor.seconds)
            directory = RedisDirectory(self.node, reactor, reactor.seconds)
        self.hub = ChatHub(chat_terms, self.store, directory=directory, rooms_per_host=0)
        delivered: dict[str, Position] = {}
        self.hub.listen(lambda entry: simulation.delivered(entry, delivered))
        self.services = MultiService()
        self.factories: list[MemberFactory] = []
        for port, kind in ((PORT, ChatFactory), (WEB_PORT, WebChatFactory)):
            factory = kind(chat_terms, self.hub, rate=0 if simulation.floods else 5)
            self.factories.append(factory)
            StreamService(reactor, [f"{self.host.address}:{port}"], factory).setServiceParent(self.services)
        self.services.startService()

    @property
    def connections(self) -> list[StreamProtocol]:
        """All connections of its front ends."""
        return [connection for factory in self.factories for connection in factory.connections]

    def crash(self) -> None:
        """Crash. Nobody is told."""
        self.host.crash()

    def restart(self) -> None:
        """Start again after a crash."""
        self.host.restart()
        self.start()


class Simulation:
    """One run of the chat.

    :param seed: the seed of the network and of the members' actions.
    :param make_store: makes the store of the server, at its start and after a crash.
    :param keeps: whether the store keeps the logs when the server crashes.
    :param nodes: how many servers there are. With more than one, they share a Redis.
    """

    def __init__(self, seed: int, make_store: MakeStore | None = None, *, keeps: bool = False, nodes: int = 1) -> None:
        self.network = Network(seed)
        self._random = Random(seed)
        self.make_store = make_store or (lambda host: MemoryStore(host.reactor.seconds, host.reactor))
        self._keeps = keeps
        # In one of 16 runs, the lines are long, the buffers are small, and the last member stops reading.
        self._flood = self._below(16) == 0
        # In one of 4 runs, the server crashes.
        self._crashes = self._below(4) == 0
        self._buffer = 8_192 if self._flood else 65_536
        self.redis = SimulatedRedisHost(self.network) if nodes > 1 else None
        names = ["server", *(f"server{number}" for number in range(2, nodes + 1))]
        hosts = [
            self.network.host(name, f"10.0.0.{number}", buffer=self._buffer) for number, name in enumerate(names, 1)
        ]
        self.logs = Logs()
        self.logs.may_begin_later = keeps and (self._crashes or nodes > 1)
        self.failures: list[AssertionError] = []
        self._acknowledged: dict[str, Position] = {}
        self._refused: set[str] = set()
        self._said: set[str] = set()
        self._text_number = 0
        self.servers = [Server(self, host) for host in hosts]
        if self.redis is not None:
            for server in self.servers:
                self.network.link(server.host.name, "redis").set(latency=self._random.random() * 0.01)
            self.network.advance(0.5)
        self.members: list[Program | Netcat] = []
        for number in range(MEMBERS):
            host = self.network.host(f"m{number}", f"10.0.1.{number}", buffer=self._buffer)
            policies = (splits.nowhere, splits.nowhere, splits.at_random, splits.every(16))
            conditions: dict[str, Any] = {
                "latency": self._random.random() * 0.05,
                "jitter": 0.01 if self._below(2) else 0.0,
                "loss": 0.05 if self._below(4) == 0 else 0.0,
                "splits": policies[0 if self._flood else self._below(4)],
            }
            for server in self.servers:
                self.network.link(server.host.name, host.name).set(**conditions)
            self.members.append(Program(self, host, over_web=number % 4 == 3) if number % 2 else Netcat(self, host))
        self._stalled: Any = None

    @property
    def floods(self) -> bool:
        """Whether the lines are long and the buffers small."""
        return self._flood

    def endpoint(self, reactor: Any, port: int) -> IStreamClientEndpoint:
        """Return the endpoint of the chat."""
        return AnyServer(reactor, port, lambda: self.servers[self._below(len(self.servers))].host.address)

    def _below(self, count: int) -> int:
        return int(self._random.random() * count)

    # What members see

    def delivered(self, entry: Entry, delivered: dict[str, Position]) -> None:
        """Check an entry that a hub delivers."""
        with self.checking():
            self.logs.add(entry, delivered)
            if entry.kind in (EntryKind.JOINED, EntryKind.RENAMED) and self.redis is None:
                nicks = self._nicks()
                assert len(nicks) == len(set(nicks)), f"two members have the same nick: {sorted(nicks)}"

    def _nicks(self) -> list[str]:
        hubs = [server.hub for server in self.servers if server.host.up]
        return [nick.lower() for hub in hubs for room in hub.rooms() for nick in hub.members(room)]

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Keep what is found to be wrong: Twisted would only log it."""
        try:
            yield
        except AssertionError as e:
            self.failures.append(e)
            raise

    def saw(self, member: Program, entry: Entry) -> None:
        """Check an entry that a program has received."""
        logged = self.logs.entries.get((entry.room, entry.epoch, entry.offset))
        if logged is None:
            assert self.logs.may_begin_later, f"{member.host.name} has seen {entry}, which was never delivered"
            self.logs.entries[entry.room, entry.epoch, entry.offset] = entry
            if entry.kind in SPOKEN:
                self.logs.places.setdefault(entry.text, []).append((entry.room, entry.epoch, entry.offset))
            return
        same = (logged.kind, logged.nick) == (entry.kind, entry.nick) and "" in (entry.text, logged.text)
        same = same or (logged.kind, logged.nick, logged.text) == (entry.kind, entry.nick, entry.text)
        assert same, f"{member.host.name} has seen {entry} instead of {logged}"

    def netcat_saw(self, session: NetcatSession, text: str) -> tuple[str, str, int]:
        """Check a line that a member like netcat has received. Return its place."""
        name = session.member.host.name
        # It may see what it said on an earlier connection: that can arrive, or come into a log, after this one.
        assert text not in session.sent, f"{name} has seen its own line {text!r:.40}"
        places = [place for place in self.logs.places.get(text, []) if place[0] == session.room]
        assert places, f"{name} in {session.room} has seen {text!r:.40}, which was not said there"
        last = session.last
        if last is None:
            return places[-1]
        room, epoch, before = last
        later = [place for place in places if place[1] == epoch and place[2] > before]
        assert later, f"{name} has seen {text!r:.40} after {last}: {places}"
        place = later[0]
        for offset in range(before + 1, place[2]):
            between = self.logs.entries[room, epoch, offset]
            own = between.kind not in SPOKEN or between.erased or self._is_of(session, between)
            assert own, f"{name} has missed {between}"
        return place

    def _is_of(self, session: NetcatSession, entry: Entry) -> bool:
        return entry.text.startswith(f"{session.member.host.name} ")

    def acknowledged(self, text: str, position: Position) -> None:
        """The server has acknowledged a line."""
        assert text not in self._acknowledged
        self._acknowledged[text] = position

    def refused(self, text: str, error: Exception) -> None:
        """A line was not said."""
        if isinstance(error, NotSaidError) and error.cause is not None:
            self._refused.add(text)

    # What happens

    def run(self) -> None:
        """Run the chat and check the guarantees."""
        network = self.network
        for member in self.members:
            member.start()
        network.advance(0.5)
        if self._flood and self.members[0].transport is not None:
            self._stalled = self.members[0].transport
            self._stalled.pauseProducing()
        for _ in range(STEPS):
            member = self.members[self._flood + self._below(MEMBERS - self._flood)]
            if self._crashes and self._below(STEPS) == 0:
                self._crash_server()
            if self.redis is not None and self._below(STEPS // 2) == 0:
                self._fail_redis(self.redis)
            if not member.host.up:
                member.host.restart()
                member.start()
            elif isinstance(member, Netcat) and member.transport is None:
                member.start()
            else:
                self._act(member)
            network.advance(self._random.random() * 0.2)
        self._end_faults()
        if self.failures:
            raise self.failures[0]
        self._check()
        if self.failures:
            raise self.failures[0]

    def _crash_server(self) -> None:
        server = self.servers[self._below(len(self.servers))]
        server.crash()
        self.network.advance(self._random.random() * (12 if self.redis is not None and self._below(2) else 1))
        server.restart()

    def _fail_redis(self, redis: SimulatedRedisHost) -> None:
        """Begin a fault of Redis, or of the link to it. It ends by itself."""
        delay = self._random.random() * (10 if self._below(4) == 0 else 3)
        match self._below(4):
            case 0:
                redis.server.kill()
                self.network.call_later(delay, redis.run)
            case 1:
                redis.server.pause()
                self.network.call_later(delay, redis.run)
            case 2:
                link = self.network.link(self.servers[self._below(len(self.servers))].host.name, "redis")
                link.partition()
                self.network.call_later(delay, link.heal)
            case 3:
                redis.server.close_subscribers()

    def _text(self, member: Member) -> str:
        """Return a text that nobody has said before, and that says who says it."""
        self._text_number += 1
        text = f"{member.host.name} {self._text_number}"
        text = f"{text} {LONG_TEXT}" if self._flood else text
        self._said.add(text)
        return text

    def _act(self, member: Program | Netcat) -> None:  # noqa: PLR0912  one branch for each action
        action = self._below(24)
        link = self.network.link(self.servers[self._below(len(self.servers))].host.name, member.host.name)
        delay = self._random.random() * 3
        if action < 9:
            for _ in range(40 if self._flood and action < 4 else 1 + 3 * (action == 8)):
                text = self._text(member)
                member.say(text) if isinstance(member, Program) else member.send(text)
        elif action < 11:
            self._ask(member, Whisper(self._one_of(NICKS), "psst"), f"/msg {self._one_of(NICKS)} psst")
        elif action < 13:
            nick = self._one_of(NICKS)
            self._ask(member, Rename(nick), f"/nick {nick}")
        elif action < 15:
            room = self._one_of(ROOMS)
            self._ask(member, Join(room), f"/join {room}")
        elif action == 15:
            self._ask(member, Leave(), "/leave")
        elif action == 16 and member.transport is not None:
            member.transport.pauseProducing()
            member.host.reactor.callLater(delay, self._resume_reading, member, member.transport)
        elif action == 17 and member.transport is not None:
            member.host.run(member.transport.abortConnection)
        elif action == 18:
            member.crash()
        elif action == 19:
            link.partition()
            self.network.call_later(delay, link.heal)
        elif action == 20:
            self._ask(member, History(5), "/history 5")
        elif action == 21:
            self._ask(member, Erase(None), "/erase")
        else:
            self._ask(member, Who(), "/who")

    def _one_of(self, names: tuple[str, ...]) -> str:
        return names[self._below(len(names))]

    def _ask(self, member: Program | Netcat, request: Any, line: str) -> None:
        member.request(request) if isinstance(member, Program) else member.send(line)

    def _resume_reading(self, member: Program | Netcat, transport: Any) -> None:
        if member.transport is transport:
            transport.resumeProducing()

    def _end_faults(self) -> None:
        """End all faults, and wait until everything has arrived."""
        network = self.network
        for member in self.members:
            for server in self.servers:
                network.link(server.host.name, member.host.name).set(loss=0.0)
            if not member.host.up:
                member.host.restart()
                member.start()
        if self._stalled is not None:
            self._check_stalled_member()
        network.advance(30.0)  # long enough for all retransmissions; the last one of a SYN may come after 16 s
        for seconds in (40.0, 20.0):  # with the first request, a connection that is lost without knowing it finds out
            for member in self.members:
                if isinstance(member, Netcat) and member.transport is None:
                    member.start()
                self._ask(member, Join(HOME), f"/join {HOME}")
            network.advance(seconds)
        self._last = self._text(self.members[1])
        assert isinstance(self.members[1], Program)
        self.members[1].say(self._last)
        network.advance(20.0)

    def _check_stalled_member(self) -> None:
        """Check that the stalled member is disconnected if its queue is too long. Otherwise, let it read again."""
        member = self.members[0]
        assert isinstance(member, Netcat)
        host, port = self._stalled.getHost().host, self._stalled.getHost().port
        session = member.session
        queued = sum(len(entry.text) for entry in self.logs.entries.values() if session and entry.room == session.room)
        self.network.advance(STALL + 0.1)
        connections = [each for server in self.servers for each in server.connections]
        peers = {(peer.host, peer.port) for peer in (each.transport.getPeer() for each in connections)}
        within_limit = queued < TRANSPORT_BUFFER + 3 * self._buffer
        # Without Redis, lines that another server has delivered are not queued.
        is_disconnected = (host, port) not in peers or self.redis is not None
        assert within_limit or is_disconnected, "a stalled member is not disconnected"
        self._resume_reading(member, self._stalled)

    def _check(self) -> None:
        for member in self.members:
            where = member.host.name
            if isinstance(member, Program):
                assert member.client is not None
                assert member.client.is_connected, f"{where} is not connected"
                assert not member.client.unacknowledged, f"{where} has lines that are neither in the log nor refused"
                log_end = next(room for server in self.servers if (room := server.hub.room(HOME)) is not None)
                assert log_end is not None
                assert (member.room, member.epoch, member.offset) == (HOME, log_end.epoch, log_end.last), (
                    f"{where} is at {member.room} {member.offset}, not at {log_end.last}"
                )
            else:
                assert member.session is not None, where
                assert not member.session.is_lost, where
                assert member.session.last in self.logs.places[self._last], f"{where} has not seen the last line"
        nicks = self._nicks()
        assert len(nicks) == len(set(nicks)) == MEMBERS, nicks
        self._check_lines()
        for number, member in enumerate(self.members):
            if isinstance(member, Program):
                assert member.client is not None
                member.client.stop()
            else:
                leave = [lambda m=member: m.send("/quit"), member.transport.loseConnection][number // 2 % 2]
                leave()
        self.network.advance(5.0)
        for server in self.servers:
            assert len(server.hub) == 0
            assert server.hub.rooms() == {}
            assert not server.connections
        if self.redis is not None:
            self.redis.check_empty()
        for server in self.servers:
            stopped: Deferred[Any] = server.services.stopService()
            self.network.run(stopped)
        if self.redis is not None:
            self.network.run(self.redis.server.stop())
        calls = [call for host in self.network.hosts.values() if host.up for call in host.reactor.getDelayedCalls()]
        assert not calls, f"the chat left timers: {calls}"

    def _check_lines(self) -> None:
        epochs = Counter((room, epoch) for room, epoch, _ in self.logs.entries)
        lost_logs = len(epochs) > len({room for room, _ in epochs})
        for text, places in self.logs.places.items():
            assert len(places) == 1 or (lost_logs and not self._keeps), f"{text!r:.40} was appended at {places}"
            assert text not in self._refused, f"{text!r:.40} was refused, and is at {places}"
        for text, position in self._acknowledged.items():
            found = [place[1:] for place in self.logs.places.get(text, [])]
            assert tuple(position) in found, f"{text!r:.40} was acknowledged at {position}, and is at {found}"


class Simulations:
    """Runs simulations with one kind of store.

    :param store: ``memory``, ``sqlite`` or ``redis``.
    """

    def __init__(self, store: str) -> None:
        self.store = store

    def run(self, seed: int) -> Simulation:
        """Run one seed. Print how to run it again if it fails."""
        if self.store == "memory":
            return self._run(Simulation(seed))
        if self.store == "redis":
            return self._run(Simulation(seed, keeps=True, nodes=2))
        with tempfile.TemporaryDirectory() as folder:
            return self._run(Simulation(seed, SqliteFiles(Path(folder)).open_after_crash, keeps=True))

    def _run(self, simulation: Simulation) -> Simulation:
        try:
            simulation.run()
        except BaseException:
            seed = simulation.network.seed
            sys.stderr.write(f"{simulation.network.trace}\n")
            again = f"python -m tests.simulated_chat --store {self.store} --seed {seed}"
            sys.stderr.write(f"seed {seed}; run it again with: {again}\n")
            raise
        return simulation


class SqliteFiles:
    """The file of a chat. After a crash, a copy of it is used: what was on the disk when the process ended.

    :param folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0

    def open_after_crash(self, host: Host) -> Store:
        """Return a store with what the previous one had written. There need not be a previous one."""
        previous, self._number = self._number, self._number + 1
        for file in self._folder.glob(f"chat-{previous}.db*"):
            shutil.copy(file, self._folder / file.name.replace(f"chat-{previous}.", f"chat-{self._number}."))
        path = self._folder / f"chat-{self._number}.db"
        return SqliteStore(str(path), blocking_runner(host.reactor), host.reactor.seconds)


def main() -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Run a chat on a simulated network with many seeds.")
    parser.add_argument("seeds", nargs="?", type=int, default=200, help="number of seeds, from 0 on (default: 200)")
    parser.add_argument("--seed", type=int, help="run only this seed, and print the trace of the network")
    parser.add_argument("--store", choices=STORES, help="run only with this store (default: all)")
    options = parser.parse_args()
    # Each run leaves reference cycles behind. If the garbage collector scanned all imported modules for them, it would
    # take a sixth of the time.
    gc.freeze()
    gc.set_threshold(50_000)
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    for store in [options.store] if options.store else STORES:
        simulations = Simulations(store)
        for seed in seeds:
            simulation = simulations.run(seed)
            if options.seed is not None:
                sys.stdout.write(f"{simulation.network.trace}\n")
        sys.stdout.write(f"{store}: {len(seeds):,} seeds: all guarantees hold\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
