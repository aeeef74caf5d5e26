"""Hostile peers, as far as a test is quick: on the simulated network, where time costs nothing, and in memory.

The rest are commands: ``python -m hostile``, ``hostile.fuzz`` and ``hostile.soak``.
"""

from __future__ import annotations

import signal
import tracemalloc
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.python.failure import Failure

from hostile.__main__ import found
from hostile.finding import Finding
from hostile.fuzz import PARSERS, fuzz
from hostile.target import ANY, NotPossibleError, Serving, running_already
from netsvc import (
    AcknowledgeFactory,
    ChatFactory,
    Config,
    ReplyTemplate,
    StreamFactory,
    netsvc_service,
)
from netsvc.testing import Network
from tests.connections import connect, lose, terms

LINE_FLOOD = b"\n" * 65_536


class Peer(Protocol):
    """Keeps what it is told, and says when its connection was over.

    :param clock: tells the time.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.told = b""
        self._saying: LoopingCall | None = None
        self.over: Deferred[float] = Deferred()

    def connectionMade(self) -> None:
        self.began = self.clock.seconds()

    def say_on(self, data: bytes, every: float) -> None:
        """Say ``data`` now and each so many seconds, until the connection is over."""
        assert self.transport is not None
        self._saying = LoopingCall(self.transport.write, data)
        self._saying.clock = self.clock
        self._saying.start(every)

    def dataReceived(self, data: bytes) -> None:
        self.told += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._saying is not None:
            self._saying.stop()
        self.over.callback(self.clock.seconds() - self.began)


async def peer_of(network: Network, port: int, trickle: bytes = b"", every: float = 10.0) -> Peer:
    """Serve with the defaults, connect, and say ``trickle`` now and then until the connection is over."""
    server, client = network.host("server"), network.host("client")
    service = netsvc_service(server.reactor, Config(tcp=["1314"], chat=["1400"]))
    service.startService()
    peer = Peer(client.reactor)
    await connectProtocol(TCP4ClientEndpoint(client.reactor, server.address, port), peer)
    if trickle:
        peer.say_on(trickle, every)
    return peer


async def time_until_over(network: Network, port: int, trickle: bytes = b"") -> float:
    peer = await peer_of(network, port, trickle)
    return await peer.over


def test_a_silent_echo_peer_is_gone_after_ten_minutes(network: Network) -> None:
    assert 600 <= network.run(time_until_over(network, 1314)) < 605


def test_a_silent_member_is_gone_after_two_minutes_and_a_half(network: Network) -> None:
    assert 150 <= network.run(time_until_over(network, 1400)) < 155


def test_a_member_that_says_a_byte_every_ten_seconds_and_ends_no_line_is_gone_after_thirty(network: Network) -> None:
    assert 30 <= network.run(time_until_over(network, 1400, b"x")) < 35


def test_a_member_that_says_an_empty_line_now_and_then_stays(network: Network) -> None:
    async def scenario() -> bool:
        peer = await peer_of(network, 1400, b"\n", every=100)
        await deferLater(peer.clock, 3_600, lambda: None)
        stays = not peer.over.called
        assert peer.transport is not None
        peer.transport.loseConnection()
        await peer.over
        return stays

    assert network.run(scenario())


def in_lines(clock: Clock) -> StreamFactory:
    return AcknowledgeFactory(terms(clock), ReplyTemplate("ok"), "line")


def chat(clock: Clock) -> StreamFactory:
    return ChatFactory(terms(clock))


@pytest.mark.parametrize("piece", [LINE_FLOOD, b"x" * 65_536], ids=["empty lines", "an endless line"])
@pytest.mark.parametrize("factory", [in_lines, chat])
def test_a_flood_of_lines_or_a_line_without_end_holds_128_kib_at_most(factory: Any, piece: bytes) -> None:
    clock = Clock()
    protocol, transport = connect(factory(clock))
    held = []
    tracemalloc.start()
    try:
        for _ in range(2):
            if transport.producerState == "producing":  # as a transport, which reads nothing while it is paused
                protocol.dataReceived(piece)
            held.append(tracemalloc.get_traced_memory()[0])
            clock.advance(0)
            transport.clear()
    finally:
        tracemalloc.stop()
    assert 0 < max(held) < 131_072
    lose(protocol)


@pytest.mark.parametrize("parser", PARSERS)
def test_a_parser_takes_whatever_comes(parser: str) -> None:
    assert fuzz(parser, 500, seed=1).holds


def test_of_a_server_of_another_make_only_what_shows_from_outside_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    def attack(serving: Serving, seconds: float) -> Iterator[Finding]:
        with serving("--tcp", ANY) as target:
            yield Finding("port", target.ports[0], seconds, "")
            yield Finding("memory", target.memory(), 8, "MiB")
            target.signal(signal.SIGTERM)

    at = partial(running_already, {"tcp": 7}, 0, False)
    assert list(found("some-attack", attack, at, 9)) == [Finding("port", 7, 9, "")]
    assert capsys.readouterr().err == "hostile: some-attack is left out: it has to end the server\n"


def test_an_attack_for_which_a_server_is_missing_says_which() -> None:
    with pytest.raises(NotPossibleError, match="it takes --at chat=PORT"):
        running_already({"tcp": 7}, 0, False, "--tcp", ANY, "--chat", ANY).__enter__()


def test_an_attack_that_asks_for_more_flags_is_only_made_anyway() -> None:
    flags = ("--tcp", ANY, "--idle-timeout", 3)
    with pytest.raises(NotPossibleError, match="runs with --idle-timeout 3; --anyway"):
        running_already({"tcp": 7}, 0, False, *flags).__enter__()
    with running_already({"tcp": 7}, 0, True, *flags) as target:
        assert target.ports == [7]


def test_a_server_that_breaks_an_attack_has_not_held() -> None:
    def attack(serving: Serving, seconds: float) -> Iterator[Finding]:
        yield Finding("first", 1, 2, "")
        raise ConnectionRefusedError("nobody there")

    [first, failure] = found("some-attack", attack, partial(running_already, {}, 0, False), 1)
    assert first.holds
    assert not failure.holds
