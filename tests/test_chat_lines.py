from __future__ import annotations

import pytest
from hypothesis import given
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.test.iosim import connectedServerAndClient

from netsvc.chat.client import ChatClient
from netsvc.chat.lines import ChatFactory, ChatProtocol
from netsvc.chat.messages import Event, Join, MessageError, Notice, Rename, Said, Say, Whisper, Whispered
from netsvc.net.send_queue import OVER_LIMIT_SECONDS
from tests.connections import TCPTransport, attach, connect, lose, taken, terms
from tests.strategies import split, split_places


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> ChatFactory:
    return ChatFactory(terms(clock), rate=0)


def member(factory: ChatFactory, nick: str) -> tuple[ChatProtocol, TCPTransport]:
    """Connect a member and give it a nick."""
    protocol, transport = connect(factory)
    assert isinstance(protocol, ChatProtocol)
    protocol.dataReceived(b"/nick %s\n" % nick.encode())
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
    assert len(factory.room) == 0
    assert not factory.connections
    assert not clock.getDelayedCalls()


def test_lines_before_an_orderly_close_are_delivered(factory: ChatFactory) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"x\n" * 100)  # more than one iteration processes
    lose(ann, ConnectionDone)
    assert taken(to_bob) == b"<ann> x\n" * 100 + b"* ann left\n"


def test_lines_after_a_quit_are_discarded_even_at_an_orderly_close(factory: ChatFactory) -> None:
    ann, _ = member(factory, "ann")
    _, to_bob = member(factory, "bob")
    ann.dataReceived(b"\n" * 300 + b"/quit\nfoo\nbar")
    lose(ann, ConnectionDone)
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
    ann.dataReceived(b"x\n" * 20)
    factory.drain(5.0)  # what was read is now processed
    clock.advance(0)
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
    for protocol in (bob, *others):
        lose(protocol)
    assert not factory._members_of_host._counts
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


def test_members_are_told_that_the_server_stops(factory: ChatFactory) -> None:
    ann, to_ann = member(factory, "ann")
    bob, to_bob = member(factory, "bob")
    taken(to_ann)
    drained = factory.drain(5.0)
    assert taken(to_ann) == taken(to_bob) == b"* the server stops; bye\n"
    assert to_ann.write_closed
    lose(ann)
    lose(bob)
    assert drained.called


def test_a_peer_that_is_not_a_member_is_closed_without_a_notice(factory: ChatFactory) -> None:
    protocol = factory.buildProtocol(None)
    assert isinstance(protocol, ChatProtocol)
    transport = attach(protocol)
    factory.room.leave(protocol)
    taken(transport)
    protocol.drain()
    assert taken(transport) == b""
    lose(protocol)


def test_two_clients_talk_through_the_server(factory: ChatFactory, clock: Clock) -> None:
    events: list[Event] = []
    ann, _, ann_pump = connectedServerAndClient(
        lambda: factory.buildProtocol(None), lambda: ChatClient(lambda _: None), clock=clock
    )
    _, _, bob_pump = connectedServerAndClient(
        lambda: factory.buildProtocol(None), lambda: ChatClient(events.append), clock=clock
    )
    ann.send(Rename("ann"))
    ann.send(Say("/slashes are fine"))
    ann.send(Whisper("guest-2", "psst"))
    ann.send(Join("#dev"))
    ann_pump.flush()
    bob_pump.flush()
    assert events[2:] == [
        Notice("guest-1 is now ann"),
        Said("ann", "/slashes are fine"),
        Whispered("ann", "guest-2", "psst"),
        Notice("ann moved to #dev"),
    ]


def test_a_client_closes_in_order(factory: ChatFactory, clock: Clock) -> None:
    client, _, pump = connectedServerAndClient(
        lambda: factory.buildProtocol(None), lambda: ChatClient(lambda _: None), clock=clock
    )
    closed = client.quit()
    pump.flush()
    clock.advance(5)  # iosim does not half-close
    pump.flush()
    assert closed.called


@pytest.mark.parametrize("request_", [Say("two\nlines"), Say("x" * 1024), Whisper("ann", "x\n/quit")])
def test_a_client_sends_nothing_that_is_not_one_line(request_: Say | Whisper) -> None:
    client = ChatClient(lambda _: None)
    transport = attach(client)
    with pytest.raises(MessageError):
        client.send(request_)
    assert transport.value() == b""
    lose(client)


def test_a_hostile_server_cannot_control_a_clients_terminal() -> None:
    events: list[Event] = []
    client = ChatClient(events.append)
    attach(client)
    client.dataReceived(b"<bob> \x1b[2J\n" + b"x" * 2000 + b"\nno shape\n* \x9b\n")
    assert events == [Said("bob", "[2J")]
    assert client.ignored == 3
    lose(client)


def test_a_client_fails_with_the_reason_of_its_loss() -> None:
    client = ChatClient(lambda _: None)
    attach(client)
    lose(client, ConnectionLost)
    failed: list[object] = []
    client.closed.addErrback(lambda failure: failed.append(failure.type))
    assert failed == [ConnectionLost]
