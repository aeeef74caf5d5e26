"""A simulated chat of eight members, with all faults that the network can have. It checks the guarantees of the chat.

``python -m tests.simulated_chat 5000`` runs it with the seeds 0 to 4,999. ``--seed N`` runs one seed and prints the
trace of the network. ``tests/test_simulated_chat.py`` runs some of the seeds.

The guarantees, for every seed:

- A member whose connection lasts receives every message of its room and every private message to it, once and in the
  order in which the server received them. All members see the same order. A member whose connection is lost has
  received the beginning of that sequence.
- No member receives messages of another room.
- No two members have the same nick.
- A member that stops reading is disconnected when its send queue is too long.
- The server sends nothing to members that have left. When all members have left, it keeps no state of them.
"""

from __future__ import annotations

import argparse
import gc
import sys
from dataclasses import dataclass
from itertools import zip_longest
from random import Random
from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.python.failure import Failure

from netsvc.chat.client import ChatClient
from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.chat.messages import Event, Join, Leave, Quit, Rename, Request, Said, Say, Whisper, Whispered
from netsvc.chat.names import ASCII_NAMES
from netsvc.chat.room import Delivery, Room
from netsvc.limits.stream_limits import TRANSPORT_BUFFER
from netsvc.server.assembly import StreamService
from netsvc.testing import Host, Network, splits
from tests.connections import terms

MEMBERS = 8
STEPS = 26
STALL = 2.0
ROOMS = ("#den", "#attic")
NICKS = ("ann", "bob", "Ann", "cy", "dee", "eve", "flo")
LONG_TEXT = "x" * 980  # the line is nearly as long as a line may be
ChatMessage = Said | Whispered


class CheckedRoom(Room[ChatProtocol]):
    """A room with a second, simpler implementation, which determines the messages that each member must receive.

    :ivar expected: the messages that each connection must receive, by the address of its client.
    """

    def __init__(self) -> None:
        super().__init__()
        self.expected: dict[tuple[str, int], list[ChatMessage]] = {}
        self._model_nicks: dict[ChatProtocol, str] = {}
        self._model_rooms: dict[ChatProtocol, str] = {}
        self._model_addresses: dict[ChatProtocol, tuple[str, int]] = {}

    def enter(self, member: ChatProtocol) -> list[Delivery[ChatProtocol]]:
        peer = member.transport.getPeer()
        address = self._model_addresses[member] = (peer.host, peer.port)
        self.expected[address] = []
        self._model_rooms[member] = "#lobby"
        deliveries = super().enter(member)
        self._model_nicks[member] = self.nick(member)
        self._assert_nicks_differ()
        return self._checked(deliveries)

    def receive(self, member: ChatProtocol, request: Request) -> list[Delivery[ChatProtocol]]:
        match request:
            case Say(text):
                for other, room in self._model_rooms.items():
                    if other is not member and room == self._model_rooms[member] and text.strip():
                        self.expected[self._model_addresses[other]].append(Said(self._model_nicks[member], text))
            case Whisper(nick, text):
                for other, other_nick in self._model_nicks.items():
                    if ASCII_NAMES.keys(other_nick) == ASCII_NAMES.keys(nick):
                        whispered = Whispered(self._model_nicks[member], other_nick, text)
                        for participant in {member, other}:
                            self.expected[self._model_addresses[participant]].append(whispered)
            case Rename(nick):
                keys = ASCII_NAMES.keys(nick)
                if all(keys != ASCII_NAMES.keys(name) or other is member for other, name in self._model_nicks.items()):
                    self._model_nicks[member] = nick
            case Join(room):
                self._model_rooms[member] = room
            case Leave():
                self._model_rooms[member] = "#lobby"
        deliveries = self._checked(super().receive(member, request), leaving=member)
        if isinstance(request, Rename):
            assert self.nick(member) == self._model_nicks[member]
            self._assert_nicks_differ()
        return deliveries

    def leave(self, member: ChatProtocol, why: str = "left") -> list[Delivery[ChatProtocol]]:
        self._model_rooms.pop(member, None)
        self._model_nicks.pop(member, None)
        return self._checked(super().leave(member, why))

    def _checked(
        self, deliveries: list[Delivery[ChatProtocol]], leaving: ChatProtocol | None = None
    ) -> list[Delivery[ChatProtocol]]:
        for delivery in deliveries:
            for member in delivery.members:
                assert member in self or member is leaving, f"{delivery.event} is sent to a member that has left"
        return deliveries

    def _assert_nicks_differ(self) -> None:
        nicks = [key for member in self._model_rooms for key in ASCII_NAMES.keys(self.nick(member))]
        assert len(nicks) == len(set(nicks)), f"two members have the same nick: {sorted(nicks)}"

    def present(self) -> set[tuple[str, int]]:
        """Return the addresses of the members."""
        return {self._model_addresses[member] for member in self._model_rooms}

    def assert_empty(self) -> None:
        """Assert that the room keeps no state of members."""
        state = {
            name: value
            for name, value in vars(self).items()
            if name not in ("expected", "names", "_room_by_key", "_model_addresses", "_guests") and value
        }
        assert not state, f"the room keeps state of members that have left: {state}"


@dataclass
class Session:
    """One connection of a member.

    :ivar address: the address of the client.
    :ivar received: the messages that the member received.
    :ivar lasted: whether the connection was never lost.
    """

    address: tuple[str, int]
    received: list[ChatMessage]
    lasted: bool = False


class Member:
    """A member of the chat. It can connect again after the loss of its connection."""

    def __init__(self, host: Host, port: tuple[str, int]) -> None:
        self.host = host
        self.sessions: list[Session] = []
        self.client: ChatClient | None = None
        self._port = port
        self._connecting = False

    def connect(self) -> None:
        """Connect, unless a connection attempt is in progress."""
        if self._connecting:
            return
        self._connecting = True
        received: list[ChatMessage] = []

        def receive(event: Event) -> None:
            if isinstance(event, ChatMessage):
                received.append(event)

        client = ChatClient(receive)
        client.closed.addErrback(lambda _: None)
        endpoint = TCP4ClientEndpoint(self.host.reactor, *self._port)

        def connected(client: ChatClient) -> None:
            local = client.transport.getHost()
            self._connecting = False
            self.client = client
            self.sessions.append(Session((local.host, local.port), received))

        def failed(failure: Failure) -> None:
            self._connecting = False

        connectProtocol(endpoint, client).addCallbacks(connected, failed)

    @property
    def connected_client(self) -> ChatClient | None:
        """The client of its connection, or None if it is not connected."""
        if self.client is None or self.client.closed.called or not self.host.up:
            return None
        return self.client

    def crash(self) -> None:
        """Crash the host of this member."""
        self.host.crash()
        self.client = None
        self._connecting = False


class Simulation:
    """One run of the chat.

    :param seed: the seed of the network and of the members' actions.
    """

    def __init__(self, seed: int) -> None:
        self.network = Network(seed)
        self._random = Random(seed)
        # In one of 16 runs, the lines are long, the buffers are small, and the last member stops reading.
        self._flood = self._random_below(16) == 0
        self._buffer = 8_192 if self._flood else 65_536
        server = self.network.host("server", "10.0.0.1", buffer=self._buffer)
        self.room = CheckedRoom()
        service = terms(server.reactor, stall_timeout=STALL)
        self.factory = ChatFactory(service, self.room, rate=0 if self._flood else 5)
        self.service = StreamService(server.reactor, ["10.0.0.1:1400"], self.factory)
        self.service.startService()
        self.members = []
        for number in range(MEMBERS):
            host = self.network.host(f"m{number}", f"10.0.1.{number}", buffer=self._buffer)
            policies = (splits.nowhere, splits.nowhere, splits.at_random, splits.every(16))
            self.network.link("server", host.name).set(
                latency=self._random.random() * 0.05,
                jitter=0.01 if self._random_below(2) else 0.0,
                loss=0.05 if self._random_below(4) == 0 else 0.0,
                splits=policies[0 if self._flood else self._random_below(4)],
            )
            self.members.append(Member(host, (server.address, 1400)))
        self._stalled: tuple[str, int] | None = None  # the address of the member that has stopped reading
        self._text_number = 0

    def _random_below(self, count: int) -> int:
        return int(self._random.random() * count)

    def run(self) -> None:
        """Run the chat and check the guarantees."""
        network = self.network
        for member in self.members:
            member.connect()
        network.advance(0.5)
        if self._flood and self.members[-1].connected_client is not None:
            self._stalled = self.members[-1].sessions[-1].address
            self.members[-1].connected_client.transport.pauseProducing()
        for _ in range(STEPS):
            member = self.members[self._random_below(MEMBERS - self._flood)]
            if member.connected_client is None:
                self._reconnect(member)
            else:
                self._act(member, member.connected_client)
            network.advance(self._random.random() * 0.2)
        self._end_faults()
        self._check()

    def _reconnect(self, member: Member) -> None:
        if not member.host.up:
            member.host.restart()
        member.connect()

    def _act(self, member: Member, client: ChatClient) -> None:
        action = self._random_below(20)
        link = self.network.link("server", member.host.name)
        later = member.host.reactor.callLater
        delay = self._random.random() * 3
        if action < 8:
            for _ in range(40 if self._flood and action < 4 else 1):
                self._text_number += 1
                client.send(Say(f"{self._text_number} {LONG_TEXT}" if self._flood else f"{self._text_number}"))
        elif action < 10:
            self._text_number += 1
            client.send(Whisper(NICKS[self._random_below(len(NICKS))], f"{self._text_number}"))
        elif action < 12:
            client.send(Rename(NICKS[self._random_below(len(NICKS))]))
        elif action < 14:
            client.send(Join(ROOMS[self._random_below(len(ROOMS))]))
        elif action == 14:
            client.send(Leave())
        elif action == 15:
            client.transport.pauseProducing()
            later(delay, self._resume_reading, client)
        elif action == 16:
            client.transport.abortConnection()
        elif action == 17:
            member.crash()
        elif action == 18:
            link.partition()
            self.network.call_later(delay, link.heal)
        else:
            client.send(Quit())

    def _resume_reading(self, client: ChatClient) -> None:
        if not client.closed.called:
            client.transport.resumeProducing()

    def _end_faults(self) -> None:
        """End all faults, wait until everything has arrived, and determine the connections that have lasted."""
        network = self.network
        for member in self.members:
            # From now on nothing may be lost. Otherwise, the server could miss a reset and keep a member that has left.
            network.link("server", member.host.name).set(loss=0.0)
            if not member.host.up:
                member.host.restart()
        if self._stalled is not None:
            self._check_stalled_member(self._stalled)
        network.advance(20.0)  # long enough for all retransmissions; the last one of a SYN may come after 16 s
        # A connection has lasted if it is open at both ends. A member may not know that the server has disconnected it,
        # because the reset can be lost.
        present = self.room.present()
        for member in self.members:
            if member.connected_client is not None and member.sessions[-1].address in present:
                member.sessions[-1].lasted = True
        # A visitor sends a message to every room, so that the server notices the crashed members.
        visitor = Member(self.network.host("visitor", "10.0.2.1"), ("10.0.0.1", 1400))
        visitor.connect()
        network.advance(0.1)
        for room in (*ROOMS, "#lobby"):
            if visitor.connected_client is not None:
                visitor.connected_client.send(Join(room))
                visitor.connected_client.send(Say("anybody there?"))
            network.advance(1.0)
        assert visitor.connected_client is not None
        visitor.connected_client.send(Quit())
        network.advance(1.0)

    def _check_stalled_member(self, address: tuple[str, int]) -> None:
        """Check that the stalled member is disconnected if its queue is too long. Otherwise, let it read again."""
        queued = sum(len(message.text) for message in self.room.expected[address])
        self.network.advance(STALL + 0.1)
        within_limit = queued < TRANSPORT_BUFFER + 3 * self._buffer
        assert within_limit or address not in self.room.present(), "a stalled member is not disconnected"
        if self.members[-1].connected_client is not None:
            self._resume_reading(self.members[-1].connected_client)

    def _check(self) -> None:
        for member in self.members:
            for session in member.sessions:
                expected = self.room.expected.get(session.address, [])
                if not session.lasted:
                    expected = expected[: len(session.received)]
                pairs = zip_longest(session.received, expected)
                wrong = next(((received, correct) for received, correct in pairs if received != correct), None)
                where = f"{member.host.name} at {session.address}"
                assert wrong is None, f"{where} received {wrong[0]!r:.80} instead of {wrong[1]!r:.80}"
        lasted = {
            member.sessions[-1].address for member in self.members if member.sessions and member.sessions[-1].lasted
        }
        assert self.room.present() == lasted
        for number, member in enumerate(self.members):
            if member.connected_client is not None:
                transport = member.connected_client.transport
                [member.connected_client.quit, transport.loseConnection, transport.abortConnection][number % 3]()
        self.network.advance(3.0)
        self.room.assert_empty()
        assert not self.factory.connections
        stopped: Any = self.service.stopService()
        self.network.run(stopped)
        calls = [call for host in self.network.hosts.values() if host.up for call in host.reactor.getDelayedCalls()]
        assert not calls, f"the chat left timers: {calls}"


def main() -> int:
    """Run the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Run a chat on a simulated network with many seeds.")
    parser.add_argument("seeds", nargs="?", type=int, default=200, help="number of seeds, from 0 on (default: 200)")
    parser.add_argument("--seed", type=int, help="run only this seed, and print the trace of the network")
    options = parser.parse_args()
    # Each run leaves reference cycles behind. If the garbage collector scanned all imported modules for them, it would
    # take a sixth of the time.
    gc.freeze()
    gc.set_threshold(50_000)
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    for seed in seeds:
        simulation = Simulation(seed)
        try:
            simulation.run()
        except BaseException:
            sys.stderr.write(f"{simulation.network.trace}\n")
            sys.stderr.write(f"seed {seed}; run it again with: python -m tests.simulated_chat --seed {seed}\n")
            raise
        if options.seed is not None:
            sys.stdout.write(f"{simulation.network.trace}\n")
    sys.stdout.write(f"{len(seeds):,} seeds: all guarantees hold\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
