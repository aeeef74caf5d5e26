"""Tests of the deadlines: for the end of a line, and for any input."""

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


def seconds_until_closed(clock: Clock, transport: TCPTransport, maximum: int) -> int | None:
    """Advance the clock by one second at a time. Return the seconds until the close; None if it stays open."""
    for second in range(1, maximum + 1):
        clock.advance(1)
        if transport.write_closed:
            return second
    return None


def test_an_idle_echo_peer_is_closed_after_the_idle_timeout(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(terms(clock, idle_timeout=600)))
    assert seconds_until_closed(clock, transport, 700) in range(600, 603)
    lose(protocol)


def test_a_peer_that_sends_within_the_idle_timeout_stays_connected(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(terms(clock, idle_timeout=60)))
    for _ in range(20):
        assert seconds_until_closed(clock, transport, 55) is None
        protocol.dataReceived(b"x")
    lose(protocol)


def test_zero_means_no_limit(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(terms(clock, idle_timeout=0, line_timeout=0)))
    assert seconds_until_closed(clock, transport, 5_000) is None
    lose(protocol)
    assert not clock.getDelayedCalls()


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
    protocol, transport = chat(clock, idle_timeout=1_000)
    assert seconds_until_closed(clock, transport, 699) is None
    assert taken(transport) == b""
    clock.advance(1)
    clock.advance(1)
    clock.advance(1)
    assert taken(transport) == b"* still there? send a line within 300 seconds; an empty line is enough\n"
    assert seconds_until_closed(clock, transport, 310) in range(298, 302)
    assert taken(transport) == b"* you said nothing for too long; bye\n"
    lose(protocol)


def test_a_member_that_answers_the_warning_stays_and_is_warned_again(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=150)
    for _ in range(3):
        assert seconds_until_closed(clock, transport, 130) is None
        assert taken(transport).startswith(b"* still there?")
        protocol.dataReceived(b"\n")
    lose(protocol)


def test_a_short_idle_timeout_warns_after_half_of_it(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=25)
    assert seconds_until_closed(clock, transport, 12) is None
    assert taken(transport) == b""
    assert seconds_until_closed(clock, transport, 3) is None
    assert taken(transport).startswith(b"* still there?")
    lose(protocol)


@pytest.mark.parametrize(
    ("limits", "lines", "seconds"),
    [
        pytest.param({"idle_timeout": 50}, b"one\ntwo\nthree\n", 190, id="silent"),
        pytest.param({"line_timeout": 30}, b"one\ntwo\nthree\nfo", 120, id="late with a line"),
    ],
)
def test_a_throttled_member_reaches_no_deadline(
    clock: Clock, limits: dict[str, float], lines: bytes, seconds: int
) -> None:
    protocol, transport = connect(ChatFactory(terms(clock, **limits), rate=0.01, burst=1))
    protocol.dataReceived(lines)
    assert seconds_until_closed(clock, transport, seconds) is None
    lose(protocol)


def test_a_throttled_member_gets_a_notice_at_intervals_so_that_a_lost_connection_is_detected(clock: Clock) -> None:
    protocol, transport = connect(ChatFactory(terms(clock, idle_timeout=50), rate=5, burst=1))
    protocol.dataReceived(b"\n" * 1_000)
    taken(transport)
    assert seconds_until_closed(clock, transport, 100) is None
    notice = b"* slow down: at most 5 lines per second are accepted; your other lines wait\n"
    assert taken(transport) == notice * 2
    lose(protocol)


def test_a_member_that_is_throttled_for_a_short_time_gets_no_notice(clock: Clock) -> None:
    clock.advance(1e6)
    protocol, transport = connect(ChatFactory(terms(clock, idle_timeout=50)))
    protocol.dataReceived(b"\n" * 1_000)
    taken(transport)
    assert seconds_until_closed(clock, transport, 20) is None
    assert taken(transport) == b""
    lose(protocol)


def test_a_limited_number_of_idle_members_is_closed_in_one_reactor_iteration(clock: Clock) -> None:
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


LINE_SERVICES = ["chat", "acknowledge"]


def line_service(clock: Clock, kind: str) -> StreamFactory:
    limits = {"line_timeout": 30, "idle_timeout": 0}
    if kind == "chat":
        return ChatFactory(terms(clock, **limits))
    return AcknowledgeFactory(terms(clock, **limits), ReplyTemplate("ok"), "line")


@pytest.mark.parametrize("kind", LINE_SERVICES)
def test_a_line_that_arrives_too_slowly_is_refused_at_its_deadline(clock: Clock, kind: str) -> None:
    protocol, transport = connect(line_service(clock, kind))
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


@pytest.mark.parametrize("kind", LINE_SERVICES)
def test_a_peer_may_pause_between_two_lines(clock: Clock, kind: str) -> None:
    protocol, transport = connect(line_service(clock, kind))
    protocol.dataReceived(b"hello\n")
    assert seconds_until_closed(clock, transport, 500) is None
    for _ in range(10):  # each line ends within its deadline
        protocol.dataReceived(b"hel")
        assert seconds_until_closed(clock, transport, 25) is None
        protocol.dataReceived(b"lo\n")
    lose(protocol)
