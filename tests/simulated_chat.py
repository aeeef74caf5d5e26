"""A chat of eight on a simulated network where everything happens, and what must hold all the same.

``python -m tests.simulated_chat 5000`` plays it under the seeds from 0 to 4,999; ``--seed N`` plays one and shows the
network's trace. ``tests/test_simulated_chat.py`` plays some of them.

What must hold, whatever the seed:

- a member whose connection stays gets every message of its room, and every private one, once and in the order in which
  the server took them, which is therefore one that all share; of one whose connection breaks that is the beginning;
- nobody hears another room, and no nick is held twice; who stops reading is cut, once too much waits for it;
- nothing is owed to anybody who is gone, and once all have left nothing is held for members any more.
"""

from __future__ import annotations

import argparse
import gc
import sys
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
from netsvc.net.stream_protocol import TRANSPORT_BUFFER, Limits
from netsvc.server.assembly import StreamService
from netsvc.testing import Host, Network, cuts

MEMBERS = 8
STEPS = 26
STALL = 2.0
ROOMS = ("#den", "#attic")
NICKS = ("ann", "bob", "Ann", "cy", "dee", "eve", "flo")
LONG = "x" * 980  # makes a line as long as a line may be, nearly
Heard = Said | Whispered


class Oracle(Room[ChatProtocol]):
    """A room that is watched by a simpler one, which knows who has to hear what.

    :ivar owed: what each connection has to hear, by the address of its client.
    """

    def __init__(self) -> None:
        super().__init__()
        self.owed: dict[tuple[str, int], list[Heard]] = {}
        self._names: dict[ChatProtocol, str] = {}
        self._place: dict[ChatProtocol, str] = {}
        self._key: dict[ChatProtocol, tuple[str, int]] = {}

    def enter(self, member: ChatProtocol) -> list[Delivery[ChatProtocol]]:
        peer = member.transport.getPeer()
        key = self._key[member] = (peer.host, peer.port)
        self.owed[key] = []
        self._place[member] = "#lobby"
        deliveries = super().enter(member)
        self._names[member] = self.nick(member)
        self._assert_nicks_differ()
        return self._watched(deliveries)

    def receive(self, member: ChatProtocol, request: Request) -> list[Delivery[ChatProtocol]]:
        match request:
            case Say(text):
                for other, place in self._place.items():
                    if other is not member and place == self._place[member] and text.strip():
                        self.owed[self._key[other]].append(Said(self._names[member], text))
            case Whisper(nick, text):
                for other, name in self._names.items():
                    if ASCII_NAMES.keys(name) == ASCII_NAMES.keys(nick):
                        said = Whispered(self._names[member], name, text)
                        for party in {member, other}:
                            self.owed[self._key[party]].append(said)
            case Rename(nick):
                keys = ASCII_NAMES.keys(nick)
                if all(keys != ASCII_NAMES.keys(name) or other is member for other, name in self._names.items()):
                    self._names[member] = nick
            case Join(room):
                self._place[member] = room
            case Leave():
                self._place[member] = "#lobby"
        deliveries = self._watched(super().receive(member, request), leaving=member)
        if isinstance(request, Rename):
            assert self.nick(member) == self._names[member]
            self._assert_nicks_differ()
        return deliveries

    def leave(self, member: ChatProtocol, why: str = "left") -> list[Delivery[ChatProtocol]]:
        self._place.pop(member, None)
        self._names.pop(member, None)
        return self._watched(super().leave(member, why))

    def _watched(
        self, deliveries: list[Delivery[ChatProtocol]], leaving: ChatProtocol | None = None
    ) -> list[Delivery[ChatProtocol]]:
        for delivery in deliveries:
            for member in delivery.members:
                assert member in self or member is leaving, f"{delivery.event} is owed to somebody who is gone"
        return deliveries

    def _assert_nicks_differ(self) -> None:
        nicks = [key for member in self._place for key in ASCII_NAMES.keys(self.nick(member))]
        assert len(nicks) == len(set(nicks)), f"a nick is held twice: {sorted(nicks)}"

    def present(self) -> set[tuple[str, int]]:
        """Return the addresses of those who are in the room."""
        return {self._key[member] for member in self._place}

    def assert_empty(self) -> None:
        """Nothing is held for anybody."""
        held = {
            name: value
            for name, value in vars(self).items()
            if name not in ("owed", "names", "_called", "_key", "_guests") and value
        }
        assert not held, f"held after all have left: {held}"


class Member:
    """One person, who comes back after a loss."""

    def __init__(self, host: Host, port: tuple[str, int]) -> None:
        self.host = host
        self.visits: list[
            tuple[tuple[str, int], list[Heard], bool]
        ] = []  # where from, what was heard, and whether whole
        self.client: ChatClient | None = None
        self._port = port
        self._coming = False

    def come(self) -> None:
        """Connect, unless it is about to."""
        if self._coming:
            return
        self._coming = True
        heard: list[Heard] = []

        def hear(event: Event) -> None:
            if isinstance(event, Heard):
                heard.append(event)

        client = ChatClient(hear)
        client.lost.addErrback(lambda _: None)
        endpoint = TCP4ClientEndpoint(self.host.reactor, *self._port)

        def connected(client: ChatClient) -> None:
            at = client.transport.getHost()
            self._coming = False
            self.client = client
            self.visits.append(((at.host, at.port), heard, False))

        def failed(failure: Failure) -> None:
            self._coming = False

        connectProtocol(endpoint, client).addCallbacks(connected, failed)

    @property
    def here(self) -> ChatClient | None:
        """Its connection, if it has one that lasts."""
        if self.client is None or self.client.lost.called or not self.host.up:
            return None
        return self.client

    def crash(self) -> None:
        """Lose everything."""
        self.host.crash()
        self.client = None
        self._coming = False

    def stays(self) -> None:
        """Its last visit was never broken."""
        at, heard, _ = self.visits[-1]
        self.visits[-1] = (at, heard, True)


class Play:
    """One seed's chat."""

    def __init__(self, seed: int) -> None:
        self.network = Network(seed)
        self._random = Random(seed)
        # In some of them the lines are long, the buffers short, and the last member falls asleep for good.
        self._flood = self._pick(16) == 0
        self._buffer = 8_192 if self._flood else 65_536
        server = self.network.host("server", "10.0.0.1", buffer=self._buffer)
        self.room = Oracle()
        self.factory = ChatFactory(self.room, server.reactor, Limits(stall_timeout=STALL), rate=0 if self._flood else 5)
        self.service = StreamService(server.reactor, ["10.0.0.1:1400"], self.factory)
        self.service.startService()
        self.members = []
        for number in range(MEMBERS):
            host = self.network.host(f"m{number}", f"10.0.1.{number}", buffer=self._buffer)
            self.network.link("server", host.name).set(
                latency=self._random.random() * 0.05,
                jitter=0.01 if self._pick(2) else 0.0,
                loss=0.05 if self._pick(4) == 0 else 0.0,
                cuts=(cuts.lumps, cuts.lumps, cuts.anywhere, cuts.every(16))[0 if self._flood else self._pick(4)],
            )
            self.members.append(Member(host, (server.address, 1400)))
        self._asleep: tuple[str, int] | None = None
        self._said = 0

    def _pick(self, count: int) -> int:
        return int(self._random.random() * count)

    def run(self) -> None:
        """Play it, and check what must hold."""
        network = self.network
        for member in self.members:
            member.come()
        network.advance(0.5)
        if self._flood and self.members[-1].here is not None:
            self._asleep = self.members[-1].visits[-1][0]
            self.members[-1].here.transport.pauseProducing()
        for _ in range(STEPS):
            member = self.members[self._pick(MEMBERS - self._flood)]
            if member.here is None:
                self._return(member)
            else:
                self._act(member, member.here)
            network.advance(self._random.random() * 0.2)
        self._calm_down()
        self._check()

    def _return(self, member: Member) -> None:
        if not member.host.up:
            member.host.restart()
        member.come()

    def _act(self, member: Member, client: ChatClient) -> None:
        chance = self._pick(20)
        link = self.network.link("server", member.host.name)
        later = member.host.reactor.callLater
        wait = self._random.random() * 3
        if chance < 8:
            for _ in range(40 if self._flood and chance < 4 else 1):
                self._said += 1
                client.send(Say(f"{self._said} {LONG}" if self._flood else f"{self._said}"))
        elif chance < 10:
            self._said += 1
            client.send(Whisper(NICKS[self._pick(len(NICKS))], f"{self._said}"))
        elif chance < 12:
            client.send(Rename(NICKS[self._pick(len(NICKS))]))
        elif chance < 14:
            client.send(Join(ROOMS[self._pick(len(ROOMS))]))
        elif chance == 14:
            client.send(Leave())
        elif chance == 15:
            client.transport.pauseProducing()
            later(wait, self._read_on, client)
        elif chance == 16:
            client.transport.abortConnection()
        elif chance == 17:
            member.crash()
        elif chance == 18:
            link.partition()
            self.network.call_later(wait, link.heal)
        else:
            client.send(Quit())

    def _read_on(self, client: ChatClient) -> None:
        if not client.lost.called:
            client.transport.resumeProducing()

    def _calm_down(self) -> None:
        """End all trouble, let everything arrive, and see who is still there."""
        network = self.network
        for member in self.members:
            # What is lost now might be a reset, and the server not know who has left.
            network.link("server", member.host.name).set(loss=0.0)
            if not member.host.up:
                member.host.restart()
        if self._asleep is not None:
            self._wake_up(self._asleep)
        network.advance(20.0)  # in which what was lost has been sent again, a SYN at the latest after 16 s
        # A connection stays if both ends think so: the reset that tells a member that it was cut may be lost.
        present = self.room.present()
        for member in self.members:
            if member.here is not None and member.visits[-1][0] in present:
                member.stays()
        # Somebody speaks up everywhere, so that the server learns whose power was cut.
        visitor = Member(self.network.host("visitor", "10.0.2.1"), ("10.0.0.1", 1400))
        visitor.come()
        network.advance(0.1)
        for room in (*ROOMS, "#lobby"):
            if visitor.here is not None:
                visitor.here.send(Join(room))
                visitor.here.send(Say("anybody there?"))
            network.advance(1.0)
        assert visitor.here is not None
        visitor.here.send(Quit())
        network.advance(1.0)

    def _wake_up(self, sleeper: tuple[str, int]) -> None:
        """See that who sleeps while much waits for it has been cut, and let it read if it was not."""
        waiting = sum(len(heard.text) for heard in self.room.owed[sleeper])
        self.network.advance(STALL + 0.1)
        bounded = waiting < TRANSPORT_BUFFER + 3 * self._buffer
        assert bounded or sleeper not in self.room.present(), "a sleeper is not cut"
        if self.members[-1].here is not None:
            self._read_on(self.members[-1].here)

    def _check(self) -> None:
        for member in self.members:
            for at, heard, whole in member.visits:
                owed = self.room.owed.get(at, [])
                rightly = owed if whole else owed[: len(heard)]
                wrong = next((pair for pair in zip_longest(heard, rightly) if pair[0] != pair[1]), None)
                assert wrong is None, f"{member.host.name} at {at} heard {wrong[0]!r:.80} and not {wrong[1]!r:.80}"
        stayed = {member.visits[-1][0] for member in self.members if member.visits and member.visits[-1][2]}
        assert self.room.present() == stayed
        for number, member in enumerate(self.members):
            if member.here is not None:
                transport = member.here.transport
                [member.here.quit, transport.loseConnection, transport.abortConnection][number % 3]()
        self.network.advance(3.0)
        self.room.assert_empty()
        assert not self.factory.connections
        stopped: Any = self.service.stopService()
        self.network.run(stopped)
        calls = [call for host in self.network.hosts.values() if host.up for call in host.reactor.getDelayedCalls()]
        assert not calls, f"timers are left: {calls}"


def main() -> int:
    """Play so many seeds, or one."""
    parser = argparse.ArgumentParser(description="A chat on a simulated network, under many seeds.")
    parser.add_argument("seeds", nargs="?", type=int, default=200, help="how many, from 0 on (default: 200)")
    parser.add_argument("--seed", type=int, help="play only this one, and show what happened on the network")
    options = parser.parse_args()
    # A play leaves circles behind; looking for them in all that was imported takes a sixth of the time.
    gc.freeze()
    gc.set_threshold(50_000)
    seeds = range(options.seeds) if options.seed is None else [options.seed]
    for seed in seeds:
        play = Play(seed)
        try:
            play.run()
        except BaseException:
            sys.stderr.write(
                f"{play.network.trace}\nseed {seed}; again: python -m tests.simulated_chat --seed {seed}\n"
            )
            raise
        if options.seed is not None:
            sys.stdout.write(f"{play.network.trace}\n")
    sys.stdout.write(f"{len(seeds):,} seeds: all holds\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
