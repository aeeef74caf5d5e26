from __future__ import annotations

import pytest

from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory
from netsvc.limits.message_share import MESSAGES_OF_ALL, MESSAGES_PER_ITERATION, MessageShare
from tests.connections import IterationClock, TCPTransport, connect, lose, taken, terms

LINES = b"\n" * 60_000


@pytest.fixture
def clock() -> IterationClock:
    return IterationClock()


@pytest.fixture
def factory(clock: IterationClock) -> AcknowledgeFactory:
    return AcknowledgeFactory(terms(clock), ReplyTemplate("{message}"), "line")


def answers(transports: list[TCPTransport]) -> list[int]:
    return [taken(transport).count(b"\n") for transport in transports]


@pytest.mark.parametrize(
    ("busy", "messages"), [(0, MESSAGES_PER_ITERATION), (7, MESSAGES_PER_ITERATION), (63, 8), (10_000, 1)]
)
def test_connections_share_the_messages_of_an_iteration(busy: int, messages: int) -> None:
    share = MessageShare()
    share.busy = busy
    assert share.messages() == messages


def test_64_floods_together_are_bounded_and_each_other_peer_is_answered_in_every_iteration(
    clock: IterationClock, factory: AcknowledgeFactory
) -> None:
    flooders = [connect(factory) for _ in range(64)]
    other, its_transport = connect(factory)
    for protocol, _ in flooders:
        protocol.dataReceived(LINES)
    transports = [transport for _, transport in flooders]
    answers(transports)
    for _ in range(20):
        other.dataReceived(b"hello\n")
        clock.iterate()
        each = answers(transports)
        assert taken(its_transport) == b"hello\n"
        assert min(each) > 0
        assert sum(each) <= MESSAGES_OF_ALL + 64
    for protocol, _ in [*flooders, (other, its_transport)]:
        lose(protocol)


def test_connections_that_end_leave_their_share_to_the_others(
    clock: IterationClock, factory: AcknowledgeFactory
) -> None:
    for protocol, transport in [connect(factory) for _ in range(64)]:
        protocol.dataReceived(LINES)
        transport.reads = True
        protocol.abort()
        lose(protocol)
    assert factory.terms.message_share.busy == 0
