from __future__ import annotations

import pytest
from hypothesis import given
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from netsvc.chat.hub import ChatHub
from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.net.drain import CHECK_INTERVAL, SILENCE
from netsvc.net.message_protocol import DRAIN_INPUT_MAX
from netsvc.net.send_queue import OVER_LIMIT_SECONDS
from tests.connections import TCPTransport, attach, connect, lose, taken, terms
from tests.strategies import split, split_places


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> ChatFactory:
    unlimited = terms(clock)
    return ChatFactory(unlimited, ChatHub(unlimited, total=0), rate=0)


def member(factory: ChatFactory, nick: str) -> tuple[ChatProtocol, TCPTransport]:
    """Connect a member and give it a nick."""
    protocol, transport = connect(factory)
    assert isinstance(protocol, ChatProtocol)
    protocol.dataReceived(b"/nick %s\n" % nick.encode())
    factory.hub.announce_arrival(protocol)
    taken(transport)
    return protocol, transport


def test_netcat_is_a_full_client(factory: ChatFactory) -> None:
    ann, to_ann = member(factory, "ann")
    bob, to_bob = member(factory, "bob")
    taken(to_ann)
    ann.dataReceived(b"hello\r\n")
    assert taken(to_bob) == b"<ann> hello\n"
    bob.dataReceived(b"/msg ann psst\n/who\n")
    assert taken(to_ann) == b"<bob -> ann> psst\n"
    assert taken(to_bob) == b"<bob -> ann> psst\n* 2 in #lobby: ann, bob\n"


def test_a_new_member_is_told_its_nick_and_its_room(factory: ChatFactory) -> None:
    _, transport = connect(factory)
    assert taken(transport) == (
        b"* welcome, you are guest-1; /nick NAME changes that, /help lists the commands\n"
        b"* you are the only one in #lobby\n"
    )


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"/dance", b"* unknown command /dance; /help lists the commands\n"),
        (b"\xff", b"* not UTF-8 at byte 0; the line was not sent\n"),
        (b"x" * 2000, b"* line too long: at most 1024 bytes with its line end; the line was not sent\n"),
        (b"/nick server", b"* server is reserved; take another nick\n"),
    ],
)
def test_the_sender_of_a_bad_line_is_told_and_the_connection_stays_open(
    factory: ChatFactory, line: bytes, answer: bytes
) -> None:
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    taken(to_ann)
    ann.dataReceived(line + b"\nstill here\n")
    assert taken(to_ann) == answer
    assert taken(to_bob) == b"<ann> still here\n"


def test_control_characters_are_removed_from_a_members_text(factory: ChatFactory) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived("\x1b[2J\u202eevil\u200b\x9b\x07\n".encode())
    assert taken(to_bob) == b"<ann> [2Jevil\n"


def test_a_line_of_1024_bytes_passes(factory: ChatFactory) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"x" * 1023 + b"\n")
    assert taken(to_bob) == b"<ann> " + b"x" * 1023 + b"\n"


STREAM = "/nick bob\nhi 收到\n\n/join dev\n/bad\n/leave\nbye\n".encode()


@given(split_places)
def test_how_the_network_splits_a_members_stream_does_not_matter(places: list[int]) -> None:
    def received(pieces: list[bytes]) -> tuple[bytes, bytes]:
        factory = ChatFactory(terms(Clock()), rate=0)
        _, to_ann = member(factory, "ann")
        bob, to_bob = connect(factory)
        for piece in pieces:
            bob.dataReceived(piece)
        return to_ann.value(), to_bob.value()

    assert received(split(STREAM, places)) == received([STREAM])


def test_quit_sends_the_goodbye_and_closes(factory: ChatFactory) -> None:
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    taken(to_ann)
    ann.dataReceived(b"/quit\nignored\n")
    assert taken(to_ann) == b"* bye\n"
    assert to_ann.write_closed
    assert taken(to_bob) == b"* ann left\n"
    lose(ann)
    assert taken(to_bob) == b""


def test_a_member_that_ends_its_input_leaves(factory: ChatFactory) -> None:
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"one more thing")
    ann.readConnectionLost()
    assert taken(to_bob) == b"<ann> one more thing\n* ann left\n"
    assert to_ann.disconnecting
    lose(ann)


def test_a_lost_connection_leaves_no_member_and_no_timer(factory: ChatFactory, clock: Clock) -> None:
    ann, _ = member(factory, "ann")
    lose(ann, ConnectionLost)
    assert len(factory.hub) == 0
    assert not factory.connections
    assert not clock.getDelayedCalls()


def test_lines_before_an_orderly_close_are_delivered(factory: ChatFactory, clock: Clock) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"x\n" * 100)  # more than one iteration processes
    lose(ann, ConnectionDone)
    clock.advance(0)
    assert taken(to_bob) == b"<ann> x\n" * 100 + b"* ann left\n"


@pytest.mark.parametrize("reason", [ConnectionDone, ConnectionLost])
def test_lines_that_were_read_are_delivered_at_the_usual_rate_after_a_close_or_a_reset(
    clock: Clock, reason: type[Exception]
) -> None:
    factory = ChatFactory(terms(clock))
    ann, _ = member(factory, "ann")
    bob, to_bob = member(factory, "bob")
    clock.advance(10)
    ann.dataReceived(b"".join(b"%d\n" % number for number in range(30)))
    lose(ann, reason)
    bob.dataReceived(b"/who\n")
    assert taken(to_bob).endswith(b"* 2 in #lobby: ann, bob\n")
    clock.pump([0.21] * 10)
    assert taken(to_bob).count(b"\n") == 10
    clock.pump([0.21] * 10)
    assert taken(to_bob).splitlines() == [*(b"<ann> %d" % number for number in range(20, 30)), b"* ann left"]
    assert factory.connections == {bob}
    assert factory.terms.counters.dropped_lines == 0


@pytest.mark.parametrize(("reason", "said"), [(ConnectionDone, b"<ann> unfinished\n"), (ConnectionLost, b"")])
def test_an_unfinished_line_is_delivered_after_an_orderly_close_only(
    factory: ChatFactory, reason: type[Exception], said: bytes
) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    taken(to_bob)
    ann.dataReceived(b"unfinished")
    lose(ann, reason)
    assert taken(to_bob) == said + b"* ann left\n"


def test_an_unfinished_line_of_a_program_is_not_said(factory: ChatFactory) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"/positions on\n@m1 cut in the midd")
    ann.readConnectionLost()
    assert taken(to_bob) == b"* ann left\n"


@pytest.mark.parametrize("rest", [b"", b"unfinished", b"x" * 2000])
def test_a_member_without_a_waiting_line_leaves_at_once(clock: Clock, rest: bytes) -> None:
    factory = ChatFactory(terms(clock))
    ann, _ = member(factory, "ann")  # this used the one line that a new member has
    _, to_bob = member(factory, "bob")
    ann.dataReceived(rest)
    lose(ann, ConnectionLost)
    assert taken(to_bob).endswith(b"* ann left\n")
    assert ann not in factory.connections


def test_lines_that_cannot_be_delivered_before_the_idle_timeout_are_counted_and_logged_once(clock: Clock) -> None:
    factory = ChatFactory(terms(clock, idle_timeout=2.0))
    members = [member(factory, nick)[0] for nick in ("ann", "bob")]
    _, to_cy = member(factory, "cy")
    with capturedLogs() as events:
        for protocol in members:
            protocol.dataReceived(b"x\n" * 100)
            lose(protocol, ConnectionLost)
        clock.pump([0.01] * 220)
    delivered = taken(to_cy).count(b"> x\n")
    assert factory.terms.counters.dropped_lines == 200 - delivered > 100
    assert [formatEvent(event) for event in events if "dropped" in formatEvent(event)] == [
        "dropped 91 lines of 192.0.2.1:40000 (91 in all): the connection ended before their time"
    ]
    assert not [protocol for protocol in members if protocol in factory.hub]


def test_a_member_that_pastes_is_told_how_many_of_its_lines_wait_and_for_how_long(clock: Clock) -> None:
    factory = ChatFactory(terms(clock, idle_timeout=0, line_timeout=0))
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    clock.advance(10)
    taken(to_ann)
    ann.dataReceived(b"".join(b"%d\n" % number for number in range(200)))
    assert taken(to_ann) == b"* 190 lines wait; the last is sent in 38 s\n"
    clock.pump([0.21] * 191)
    assert taken(to_bob).splitlines() == [b"<ann> %d" % number for number in range(200)]
    assert taken(to_ann) == b""
    ann.dataReceived(b"x\n" * 50)
    assert taken(to_ann).endswith(b"* 40 lines wait; the last is sent in 8 s\n")


def test_a_member_whose_lines_wait_for_less_than_a_second_is_not_told(clock: Clock) -> None:
    factory = ChatFactory(terms(clock))
    ann, to_ann = member(factory, "ann")
    clock.advance(10)
    ann.dataReceived(b"x\n" * 14)
    assert to_ann.producerState == "paused"
    assert taken(to_ann) == b""


@pytest.mark.parametrize("count", [30, 60, 200, 2_000])
def test_every_line_from_just_before_the_stop_reaches_every_listener_in_order(clock: Clock, count: int) -> None:
    factory = ChatFactory(terms(clock))
    ann, _ = member(factory, "ann")
    listeners = [member(factory, f"listener-{number}")[1] for number in range(20)]
    lines = [b"line %d" % number for number in range(count)]
    half = count // 2
    ann.dataReceived(b"".join(line + b"\n" for line in lines[:half]))
    for listener in listeners:
        taken(listener)
    factory.drain(5.0)
    clock.pump([0.0] * 20)
    ann.dataReceived(b"".join(line + b"\n" for line in lines[half:]))  # was still on its way
    clock.pump([CHECK_INTERVAL] * 40)
    received = [taken(listener).splitlines() for listener in listeners]
    assert len({tuple(lines) for lines in received}) == 1
    told = [line for line in received[0] if line.startswith(b"<ann>")]
    assert told == [b"<ann> " + line for line in lines][-len(told) :]
    assert len(told) >= count - 1  # the first line was delivered before the listeners' output was emptied
    assert received[0][-1] == b"* the server stops; bye"
    assert all(listener.write_closed for listener in listeners)


def test_a_member_that_floods_while_the_server_stops_is_read_no_further_than_a_bound(clock: Clock) -> None:
    factory = ChatFactory(terms(clock))
    ann, to_ann = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    factory.drain(5.0)
    clock.advance(0)
    sent = 0
    while to_ann.producerState == "producing" and sent < 2 * DRAIN_INPUT_MAX:
        ann.dataReceived(b"x" * 99 + b"\n")
        sent += 100
        clock.advance(0)
    assert DRAIN_INPUT_MAX <= sent < DRAIN_INPUT_MAX + 200
    assert taken(to_bob).count(b"x\n") == sent // 100
    clock.pump([CHECK_INTERVAL] * 20)
    assert to_ann.write_closed


def test_a_lost_member_does_not_delay_the_stop_by_its_rate(clock: Clock) -> None:
    factory = ChatFactory(terms(clock))
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"x\n" * 100)
    lose(ann, ConnectionLost)
    factory.drain(5.0)
    clock.pump([0.0, 0.0, SILENCE, CHECK_INTERVAL])
    assert taken(to_bob) == b"<ann> x\n" * 100 + b"* the server stops; bye\n"


def test_lines_after_a_quit_are_discarded_even_at_an_orderly_close(factory: ChatFactory, clock: Clock) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"\n" * 300 + b"/quit\nfoo\nbar")
    lose(ann, ConnectionDone)
    clock.pump([0.0] * 5)
    assert taken(to_bob) == b"* ann left\n"
    assert len(factory.connections) == 1


def test_a_member_above_its_rate_is_throttled_and_loses_nothing(clock: Clock) -> None:
    factory = ChatFactory(terms(clock))
    ann, to_ann = member(factory, "ann")  # this used the one line that a new member has
    _, to_bob = member(factory, "bob")
    clock.advance(10)
    ann.dataReceived(b"x\n" * 20)
    assert taken(to_bob).count(b"\n") == 10
    assert to_ann.producerState == "paused"
    clock.advance(0.21)
    assert taken(to_bob).count(b"\n") == 1
    clock.pump([0.21] * 10)
    assert taken(to_bob).count(b"\n") == 9
    clock.advance(0.21)
    assert to_ann.producerState == "producing"
    taken(to_bob)
    ann.dataReceived(b"x\n" * 20)
    factory.drain(5.0)  # what was read is now processed
    clock.pump([0.0, 0.0, SILENCE])
    assert taken(to_bob) == b"<ann> x\n" * 20 + b"* the server stops; bye\n"
    assert to_ann.write_closed
    lose(ann)


def test_a_peer_that_reconnects_again_and_again_says_no_more_than_one_that_stays(clock: Clock) -> None:
    factory = ChatFactory(terms(clock))
    _, to_bob = member(factory, "bob")
    for _ in range(10):
        ann, _ = connect(factory)
        ann.dataReceived(b"x\n" * 5)
        lose(ann)
    assert taken(to_bob).count(b"> x\n") == 10


def lines_in_10_seconds(clock: Clock, members: int, hosts: int) -> int:
    """Return how many lines bob receives when ``members`` members send as much as they can."""
    factory = ChatFactory(terms(clock, line_timeout=0, idle_timeout=0))
    bob, to_bob = member(factory, "bob")
    others = [connect(factory, f"198.51.100.{number % hosts}")[0] for number in range(members)]
    taken(to_bob)
    for protocol in others:
        protocol.dataReceived(b"x\n" * 500)
    for _ in range(1_000):
        clock.advance(0.01)
    received = taken(to_bob).count(b"> x\n")
    factory.drain(0)
    clock.pump([SILENCE, *[0.0] * 100])
    for protocol in (bob, *others):
        lose(protocol)
    assert not any(factory.hub.members_of_host(f"198.51.100.{number}") for number in range(hosts))
    return received


def test_more_than_eight_members_of_one_host_share_the_rate_of_eight(clock: Clock) -> None:
    assert lines_in_10_seconds(clock, members=8, hosts=1) in range(400, 420)
    assert lines_in_10_seconds(clock, members=64, hosts=1) in range(400, 500)
    assert lines_in_10_seconds(clock, members=64, hosts=8) in range(3_200, 3_300)


def test_a_member_that_does_not_read_does_not_delay_the_others(factory: ChatFactory, clock: Clock) -> None:
    ann, _ = member(factory, "ann")
    bob, to_bob = member(factory, "bob")
    _, to_cy = member(factory, "cy")
    to_bob.reads = False
    for _ in range(300):
        ann.dataReceived(b"x" * 1000 + b"\n")
    clock.advance(OVER_LIMIT_SECONDS)
    ann.dataReceived(b"one more\n")
    assert to_bob.aborted
    assert len(to_bob.value()) < 66 * 1024
    assert taken(to_cy).count(b"\n") == 301
    lose(bob, ConnectionLost)
    assert taken(to_cy) == b"* bob left\n"


def test_many_private_messages_at_once_do_not_disconnect_their_recipient(clock: Clock) -> None:
    factory = ChatFactory(terms(clock), burst=100)
    bob, to_bob = member(factory, "bob")
    others = [connect(factory)[0] for _ in range(64)]
    clock.advance(20)
    taken(to_bob)
    to_bob.reads = False  # until the reactor iteration is over
    for other in others:
        other.dataReceived((b"/msg bob " + b"x" * 1_000 + b"\n") * 10)
    to_bob.read_all()
    assert taken(to_bob).count(b"\n") == 640
    for protocol in (bob, *others):
        lose(protocol)


def test_members_are_told_that_the_server_stops(factory: ChatFactory, clock: Clock) -> None:
    ann, to_ann = member(factory, "ann")
    bob, to_bob = member(factory, "bob")
    taken(to_ann)
    drained = factory.drain(5.0)
    clock.advance(SILENCE)
    assert taken(to_ann) == taken(to_bob) == b"* the server stops; bye\n"
    assert to_ann.write_closed
    lose(ann)
    lose(bob)
    assert drained.called


def test_a_peer_that_is_not_a_member_is_closed_without_a_notice(factory: ChatFactory) -> None:
    protocol = factory.buildProtocol(None)
    assert isinstance(protocol, ChatProtocol)
    transport = attach(protocol)
    factory.hub.leave(protocol)
    taken(transport)
    protocol.end_drain()
    assert taken(transport) == b""
    assert transport.write_closed
    lose(protocol)
