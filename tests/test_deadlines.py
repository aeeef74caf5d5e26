"""When a peer is late: with its handshake, with the end of a line, or with saying anything at all."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from netsvc.chat.lines import ChatFactory
from netsvc.chat.room import Room
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from netsvc.net.stream_protocol import ENDS_A_TURN, Limits, StreamFactory, StreamProtocol
from tests.connections import TCPTransport, connect, lose, taken


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


def test_a_silent_echo_peer_is_closed_when_its_time_is_over(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(clock, Limits(idle_timeout=600)))
    assert seconds_until_closed(clock, transport, 700) in range(600, 603)
    lose(protocol)


def test_a_peer_that_says_something_now_and_then_stays(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(clock, Limits(idle_timeout=60)))
    for _ in range(20):
        assert seconds_until_closed(clock, transport, 55) is None
        protocol.dataReceived(b"x")
    lose(protocol)


def test_zero_is_no_limit(clock: Clock) -> None:
    protocol, transport = connect(EchoFactory(clock, Limits(idle_timeout=0, line_timeout=0)))
    assert seconds_until_closed(clock, transport, 5_000) is None
    assert not clock.getDelayedCalls()
    lose(protocol)


def test_nothing_is_due_any_more_when_the_last_connection_is_gone(clock: Clock) -> None:
    factory = EchoFactory(clock)
    one, _ = connect(factory)
    other, _ = connect(factory)
    lose(one)
    assert clock.getDelayedCalls()
    lose(other)
    assert not clock.getDelayedCalls()


def chat(clock: Clock, **limits: float) -> tuple[StreamProtocol, TCPTransport]:
    protocol, transport = connect(ChatFactory(Room(), clock, Limits(**limits)))  # type: ignore[arg-type]
    taken(transport)
    return protocol, transport


def test_a_silent_member_is_asked_before_it_is_closed(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=150)
    assert seconds_until_closed(clock, transport, 119) is None
    assert taken(transport) == b""
    clock.advance(1)
    clock.advance(1)
    clock.advance(1)
    assert taken(transport) == b"* still there? say something within 30 seconds; an empty line will do\n"
    assert seconds_until_closed(clock, transport, 40) in range(28, 32)
    assert taken(transport) == b"* you have said nothing for too long; bye\n"
    lose(protocol)


def test_a_member_that_answers_stays_and_is_asked_again(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=150)
    for _ in range(3):
        assert seconds_until_closed(clock, transport, 130) is None
        assert taken(transport).startswith(b"* still there?")
        protocol.dataReceived(b"\n")
    lose(protocol)


def test_a_short_time_is_not_all_asking(clock: Clock) -> None:
    protocol, transport = chat(clock, idle_timeout=25)
    assert seconds_until_closed(clock, transport, 12) is None
    assert taken(transport) == b""
    assert seconds_until_closed(clock, transport, 3) is None
    assert taken(transport).startswith(b"* still there?")
    lose(protocol)


@pytest.mark.parametrize(
    ("limits", "said", "seconds"),
    [
        pytest.param(Limits(idle_timeout=50), b"one\ntwo\nthree\n", 190, id="silent"),
        pytest.param(Limits(line_timeout=30), b"one\ntwo\nthree\nfo", 120, id="late with a line"),
    ],
)
def test_who_is_read_from_more_slowly_is_neither_silent_nor_late(
    clock: Clock, limits: Limits, said: bytes, seconds: int
) -> None:
    protocol, transport = connect(ChatFactory(Room(), clock, limits, rate=0.01, burst=1))
    protocol.dataReceived(said)
    assert seconds_until_closed(clock, transport, seconds) is None
    lose(protocol)


def test_who_is_not_read_from_is_written_to_now_and_then_so_that_its_absence_shows(clock: Clock) -> None:
    protocol, transport = connect(ChatFactory(Room(), clock, Limits(idle_timeout=50), rate=5, burst=1))
    protocol.dataReceived(b"\n" * 1_000)
    taken(transport)
    assert seconds_until_closed(clock, transport, 55) is None
    notice = b"* slow down: your lines wait their turn, 5 a second at most\n"
    assert taken(transport) == notice * 2
    lose(protocol)


def test_who_has_only_begun_to_say_too_much_is_not_told_so(clock: Clock) -> None:
    clock.advance(1e6)
    protocol, transport = connect(ChatFactory(Room(), clock, Limits(idle_timeout=50)))
    protocol.dataReceived(b"\n" * 1_000)
    taken(transport)
    assert seconds_until_closed(clock, transport, 20) is None
    assert taken(transport) == b""
    lose(protocol)


def test_those_who_fall_silent_together_are_not_all_ended_in_one_turn(clock: Clock) -> None:
    factory = ChatFactory(Room(), clock, Limits(idle_timeout=50))
    members = [connect(factory) for _ in range(100)]
    turns: list[int] = []
    ended = 0
    while ended < 100:
        clock.rightNow += 1 if clock.getDelayedCalls()[0].getTime() > clock.rightNow else 0
        due = [call for call in clock.calls if call.getTime() <= clock.rightNow]
        for call in due:  # a turn of the reactor, where Clock.advance would take them all
            clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        before, ended = ended, sum(transport.write_closed for _, transport in members)
        turns.append(ended - before)
    assert max(turns) == ENDS_A_TURN
    for protocol, _ in members:
        lose(protocol)


LINES: list[str] = ["chat", "acknowledge"]


def lines(clock: Clock, kind: str) -> StreamFactory:
    limits = Limits(line_timeout=30, idle_timeout=0)
    if kind == "chat":
        return ChatFactory(Room(), clock, limits)
    return AcknowledgeFactory(clock, ReplyTemplate("ok"), "line", limits)


@pytest.mark.parametrize("kind", LINES)
def test_a_line_that_trickles_in_is_given_up_at_its_deadline(clock: Clock, kind: str) -> None:
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
def test_a_peer_between_two_lines_may_take_its_time(clock: Clock, kind: str) -> None:
    protocol, transport = connect(lines(clock, kind))
    protocol.dataReceived(b"hello\n")
    assert seconds_until_closed(clock, transport, 500) is None
    for _ in range(10):  # each of them in time
        protocol.dataReceived(b"hel")
        assert seconds_until_closed(clock, transport, 25) is None
        protocol.dataReceived(b"lo\n")
    lose(protocol)
