"""Deadlines of a peer: for its handshake, for the end of a line, and for any input at all."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from netsvc.chat.lines import ChatFactory
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.net.stream_factory import CLOSES_PER_ITERATION, StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from tests.connections import TCPTransport, connect, lose, taken, terms


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seconds_until_closed(clock: Clock, transport: TCPTransport, most: int) -> int | None:
    """Let time pass a second at a time."""
    for second in range(1, most + 1):
        clock.advance(1)
        if transport.write_closed:
            return second
    return None


def test_an_idle_echo_peer_is_closed_after_the_idle_timeout(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(terms(clock, idle_timeout=600)))
    assert seconds_until_closed(clock, transport, 700) in range(600, 603)
    lose(protocol)


def test_a_peer_that_sends_something_now_and_then_stays(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(terms(clock, idle_timeout=60)))
    for _ in range(20):
        assert seconds_until_closed(clock, transport, 55) is None
        protocol.dataReceived(b"x")
    lose(protocol)


def test_zero_means_no_limit(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(terms(clock, idle_timeout=0, line_timeout=0)))
    assert seconds_until_closed(clock, transport, 5_000) is None
    assert not clock.getDelayedCalls()
    lose(protocol)


def test_no_timer_is_left_when_the_last_connection_is_closed(clock: Clock) -> None:
    factory = EchoFactory(terms(clock))
    one, _ = connect(factory)
    other, _ = connect(factory)
    lose(one)
    assert clock.getDelayedCalls()
    lose(other)
    assert not clock.getDelayedCalls()


def chat(clock: Clock, **limits: float) -> tuple[StreamProtocol, TCPTransport]:
    protocol, transport = connect(ChatFactory(terms(clock, **limits)))
    taken(transport)
    return protocol, transport


def test_an_idle_member_is_warned_before_it_is_closed(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=150)
    assert seconds_until_closed(clock, transport, 119) is None
    assert taken(transport) == b""
    clock.advance(1)
    clock.advance(1)
    clock.advance(1)
    assert taken(transport) == b"* still there? send a line within 30 seconds; an empty line is enough\n"
    assert seconds_until_closed(clock, transport, 40) in range(28, 32)
    assert taken(transport) == b"* you said nothing for too long; bye\n"
    lose(protocol)


def test_a_member_that_answers_stays_and_is_warned_again(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=150)
    for _ in range(3):
        assert seconds_until_closed(clock, transport, 130) is None
        assert taken(transport).startswith(b"* still there?")
        protocol.dataReceived(b"\n")
    lose(protocol)


def test_with_a_short_timeout_the_warning_comes_after_half_of_it(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=25)
    assert seconds_until_closed(clock, transport, 12) is None
    assert taken(transport) == b""
    assert seconds_until_closed(clock, transport, 3) is None
    assert taken(transport).startswith(b"* still there?")
    lose(protocol)


@pytest.mark.parametrize(
    ("limits", "said", "seconds"),
    [
        pytest.param({"idle_timeout": 50}, b"one\ntwo\nthree\n", 190, id="silent"),
        pytest.param({"line_timeout": 30}, b"one\ntwo\nthree\nfo", 120, id="late with a line"),
    ],
)
def test_a_throttled_member_is_neither_idle_nor_late(
    clock: Clock, limits: dict[str, float], said: bytes, seconds: int
) -> None:
    protocol, transport = connect(ChatFactory(terms(clock, **limits), rate=0.01, burst=1))
    protocol.dataReceived(said)
    assert seconds_until_closed(clock, transport, seconds) is None
    lose(protocol)


def test_a_throttled_member_is_sent_a_notice_now_and_then_so_that_its_absence_shows(clock: Clock) -> None:
    protocol, transport = connect(ChatFactory(terms(clock, idle_timeout=50), rate=5, burst=1))
    protocol.dataReceived(b"\n" * 1_000)
    taken(transport)
    assert seconds_until_closed(clock, transport, 55) is None
    notice = b"* slow down: at most 5 lines per second are accepted; your other lines wait\n"
    assert taken(transport) == notice * 2
    lose(protocol)


def test_a_member_that_has_just_begun_to_send_too_much_is_not_told(clock: Clock) -> None:
    clock.advance(1e6)
    protocol, transport = connect(ChatFactory(terms(clock, idle_timeout=50)))
    protocol.dataReceived(b"\n" * 1_000)
    taken(transport)
    assert seconds_until_closed(clock, transport, 20) is None
    assert taken(transport) == b""
    lose(protocol)


def test_members_that_become_idle_together_are_not_all_closed_in_one_iteration(clock: Clock) -> None:
    factory = ChatFactory(terms(clock, idle_timeout=50))
    members = [connect(factory) for _ in range(100)]
    closed_per_iteration: list[int] = []
    ended = 0
    while ended < 100:
        clock.rightNow += 1 if clock.getDelayedCalls()[0].getTime() > clock.rightNow else 0
        due = [call for call in clock.calls if call.getTime() <= clock.rightNow]
        for call in due:  # one reactor iteration; Clock.advance would run them all
            clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        before, ended = ended, sum(transport.write_closed for _, transport in members)
        closed_per_iteration.append(ended - before)
    assert max(closed_per_iteration) == CLOSES_PER_ITERATION
    for protocol, _ in members:
        lose(protocol)


LINES: list[str] = ["chat", "acknowledge"]


def lines(clock: Clock, kind: str) -> StreamFactory:
    limits = {"line_timeout": 30, "idle_timeout": 0}
    if kind == "chat":
        return ChatFactory(terms(clock, **limits))
    return AcknowledgeFactory(terms(clock, **limits), ReplyTemplate("ok"), "line")


@pytest.mark.parametrize("kind", LINES)
def test_a_line_that_trickles_in_is_refused_at_its_deadline(clock: Clock, kind: str) -> None:
    protocol, transport = connect(lines(clock, kind))
    taken(transport)
    closed = None
    for second in range(60):
        protocol.dataReceived(b"x")
        clock.advance(1)
        if transport.write_closed:
            closed = second
            break
    assert closed in range(29, 33)
    assert b"line not ended in time" in taken(transport)
    lose(protocol)


@pytest.mark.parametrize("kind", LINES)
def test_a_peer_may_pause_between_two_lines(clock: Clock, kind: str) -> None:
    protocol, transport = connect(lines(clock, kind))
    protocol.dataReceived(b"hello\n")
    assert seconds_until_closed(clock, transport, 500) is None
    for _ in range(10):  # each of them in time
        protocol.dataReceived(b"hel")
        assert seconds_until_closed(clock, transport, 25) is None
        protocol.dataReceived(b"lo\n")
    lose(protocol)
