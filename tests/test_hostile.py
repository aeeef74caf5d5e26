"""Fast tests with hostile peers: on the simulated network, in virtual time, and in memory.

The slow tests are commands: ``python -m hostile``, ``hostile.fuzz`` and ``hostile.soak``.
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
from hostile.forged_sessions import GROWTH_MAX, forge, traced
from hostile.fuzz import PARSERS, fuzz
from hostile.target import ANY, NotPossibleError, Serving, running_already
from netsvc import (
    AcknowledgeFactory,
    ChatFactory,
    Config,
    ReplyTemplate,
    StreamFactory,
    StreamService,
    Terms,
    netsvc_service,
)
from netsvc.testing import Network
from tests.connections import connect, lose, terms

LINE_FLOOD = b"\n" * 65_536


class Peer(Protocol):
    """A client that can send data at intervals.

    :ivar closed: fires at the end of the connection, with the seconds since its start.
    """

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.closed: Deferred[float] = Deferred()
        self._sending: LoopingCall | None = None

    def connectionMade(self) -> None:
        self._connected_at = self.clock.seconds()

    def send_repeatedly(self, data: bytes, interval: float) -> None:
        """Send ``data`` now and every ``interval`` seconds until the connection is closed."""
        assert self.transport is not None
        self._sending = LoopingCall(self.transport.write, data)
        self._sending.clock = self.clock
        self._sending.start(interval)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._sending is not None:
            self._sending.stop()
        self.closed.callback(self.clock.seconds() - self._connected_at)


async def connect_peer(network: Network, port: int, data: bytes = b"", interval: float = 10.0) -> Peer:
    """Start a server with the defaults, and connect a peer that sends ``data`` at intervals."""
    server, client = network.host("server"), network.host("client")
    service = netsvc_service(server.reactor, Config(tcp=["1314"], chat=["1400"]))
    service.startService()
    peer = Peer(client.reactor)
    await connectProtocol(TCP4ClientEndpoint(client.reactor, server.address, port), peer)
    if data:
        peer.send_repeatedly(data, interval)
    return peer


async def seconds_until_closed(network: Network, port: int, data: bytes = b"") -> float:
    peer = await connect_peer(network, port, data)
    return await peer.closed


def test_a_silent_echo_peer_is_closed_after_ten_minutes(network: Network) -> None:
    assert 600 <= network.run(seconds_until_closed(network, 1314)) < 605


def test_a_member_that_only_reads_stays_for_12_hours(network: Network) -> None:
    assert 43_200 <= network.run(seconds_until_closed(network, 1400), timeout=50_000) < 43_205


def test_a_member_whose_host_is_gone_is_noticed_within_2_minutes_although_nothing_is_sent(network: Network) -> None:
    server = network.host("server")
    factory = ChatFactory(Terms.on(server.reactor))
    StreamService(server.reactor, ["1400"], factory).startService()
    client = network.host("client")
    connectProtocol(TCP4ClientEndpoint(client.reactor, server.address, 1400), Peer(client.reactor))
    network.advance(1)
    assert len(factory.hub) == 1
    client.crash()
    network.advance(100)
    assert len(factory.hub) == 1
    network.advance(20)
    assert len(factory.hub) == 0


def test_a_member_that_sends_single_bytes_without_a_line_end_is_closed_after_30_seconds(network: Network) -> None:
    assert 30 <= network.run(seconds_until_closed(network, 1400, b"x")) < 35


def test_a_member_that_sends_an_empty_line_every_100_seconds_stays_connected(network: Network) -> None:
    async def scenario() -> bool:
        peer = await connect_peer(network, 1400, b"\n", interval=100)
        await deferLater(peer.clock, 3_600, lambda: None)
        connected = not peer.closed.called
        assert peer.transport is not None
        peer.transport.loseConnection()
        await peer.closed
        return connected

    assert network.run(scenario())


def acknowledge_lines(clock: Clock) -> StreamFactory:
    return AcknowledgeFactory(terms(clock), ReplyTemplate("ok"), "line")


def chat(clock: Clock) -> StreamFactory:
    return ChatFactory(terms(clock))


@pytest.mark.parametrize("piece", [LINE_FLOOD, b"x" * 65_536], ids=["empty lines", "an endless line"])
@pytest.mark.parametrize("factory", [acknowledge_lines, chat])
def test_a_flood_of_lines_or_an_endless_line_uses_at_most_128_kib(factory: Any, piece: bytes) -> None:
    clock = Clock()
    protocol, transport = connect(factory(clock))
    memory = []
    tracemalloc.start()
    try:
        for _ in range(2):
            if transport.producerState == "producing":  # a paused transport does not read
                protocol.dataReceived(piece)
            memory.append(tracemalloc.get_traced_memory()[0])
            clock.advance(0)
            transport.clear()
    finally:
        tracemalloc.stop()
    assert 0 < max(memory) < 131_072
    lose(protocol)


def test_20_000_forged_stamp_sessions_take_at_most_8_mib_and_each_question_is_answered() -> None:
    tracemalloc.start()
    try:
        growth, answers = forge(20_000, traced)
    finally:
        tracemalloc.stop()
    assert 0 < growth < GROWTH_MAX
    assert answers == 35_000


@pytest.mark.parametrize("parser", PARSERS)
def test_a_parser_survives_random_input(parser: str) -> None:
    assert fuzz(parser, 500, seed=1).within_bound


def test_only_figures_that_are_measurable_from_outside_are_found_for_another_server(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def attack(serving: Serving, seconds: float) -> Iterator[Finding]:
        with serving("--tcp", ANY) as target:
            yield Finding("port", target.ports[0], seconds, "")
            yield Finding("memory", target.memory(), 8, "MiB")
            target.signal(signal.SIGTERM)

    at = partial(running_already, {"tcp": 7}, 0, False)
    assert list(found("some-attack", attack, at, 9)) == [Finding("port", 7, 9, "")]
    assert capsys.readouterr().err == "hostile: some-attack is left out: it has to end the server\n"


def test_an_attack_without_its_service_names_the_missing_service() -> None:
    with pytest.raises(NotPossibleError, match="it takes --at chat=PORT"):
        running_already({"tcp": 7}, 0, False, "--tcp", ANY, "--chat", ANY).__enter__()


def test_an_attack_that_needs_more_flags_runs_only_with_anyway() -> None:
    flags = ("--tcp", ANY, "--idle-timeout", 3)
    with pytest.raises(NotPossibleError, match="runs with --idle-timeout 3; --anyway"):
        running_already({"tcp": 7}, 0, False, *flags).__enter__()
    with running_already({"tcp": 7}, 0, True, *flags) as target:
        assert target.ports == [7]


def test_an_attack_that_fails_is_a_broken_bound() -> None:
    def attack(serving: Serving, seconds: float) -> Iterator[Finding]:
        yield Finding("first", 1, 2, "")
        raise ConnectionRefusedError("connection refused")

    [first, failure] = found("some-attack", attack, partial(running_already, {}, 0, False), 1)
    assert first.within_bound
    assert not failure.within_bound
