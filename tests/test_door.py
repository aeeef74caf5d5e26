from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from netsvc.echo.server import EchoFactory
from netsvc.limits.admission import Admission, Connections
from netsvc.limits.networks import Networks
from netsvc.net.door import TOLD_A_TURN, Door, TurnedAway
from netsvc.net.stream_protocol import StreamProtocol
from tests.connections import TCPTransport, attach, lose


@pytest.fixture
def clock() -> Clock:
    return Clock()


def factory(clock: Clock, *, most: int = 2, networks: Networks | None = None) -> EchoFactory:
    door = Door(clock, Admission(Connections(most), networks, connect_rate=0))
    return EchoFactory(clock, door=door)


def came(echo: EchoFactory, host: str = "192.0.2.1") -> object:
    protocol = echo.buildProtocol(IPv4Address("TCP", host, 40_000))
    if isinstance(protocol, StreamProtocol):
        attach(protocol)
    return protocol


def test_who_comes_when_it_is_full_is_told_so_and_closed(clock: Clock) -> None:
    echo = factory(clock)
    first, _ = came(echo), came(echo)
    refused = came(echo)
    assert isinstance(refused, TurnedAway)
    transport = TCPTransport()
    refused.makeConnection(transport)
    assert transport.value() == b"server full\n"
    assert transport.disconnecting
    assert isinstance(first, StreamProtocol)
    lose(first)
    assert isinstance(came(echo), StreamProtocol)


def test_who_was_turned_away_leaves_no_trace(clock: Clock) -> None:
    echo = factory(clock, most=1)
    first = came(echo)
    for _ in range(5):
        came(echo)
    assert isinstance(first, StreamProtocol)
    lose(first)
    lose(first)  # even if it is said twice
    assert [isinstance(came(echo), StreamProtocol) for _ in range(2)] == [True, False]


def test_only_some_in_a_turn_are_told_and_the_others_closed_at_once(clock: Clock) -> None:
    echo = factory(clock, most=1)
    came(echo)
    answers = [came(echo) for _ in range(TOLD_A_TURN + 10)]
    assert [answer is not None for answer in answers] == [True] * TOLD_A_TURN + [False] * 10
    clock.advance(0)
    assert came(echo) is not None


def test_who_is_not_allowed_is_closed_without_a_word(clock: Clock) -> None:
    echo = factory(clock, networks=Networks(deny=["192.0.2.0/24"]))
    assert came(echo, "192.0.2.1") is None
    assert isinstance(came(echo, "192.0.3.1"), StreamProtocol)


def test_a_local_peer_counts_but_has_no_host(clock: Clock) -> None:
    echo = factory(clock, most=1, networks=Networks(allow=["192.0.2.0/24"]))
    protocol = echo.buildProtocol(UNIXAddress(None))
    assert isinstance(protocol, StreamProtocol)
    protocol.makeConnection(StringTransport())
    assert isinstance(came(echo), TurnedAway)
    lose(protocol)
