from __future__ import annotations

import pytest
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004
    TimeoutError,  # noqa: A004
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from netsvc import Conversation, DatagramConversation, NotSentError, TLSConversation
from netsvc.talk.base_conversation import PEER_SILENCE
from netsvc.talk.conversation_state import (
    CONVERSATION_TRANSITIONS,
    ConversationEvent,
    ConversationState,
    next_state,
)
from netsvc.talk.learned_framing import LearnedFraming
from netsvc.talk.stream_conversation import MESSAGE_SILENCE
from netsvc.testing import Network
from netsvc.wire.framing import messages_in
from tests.connections import TCPTransport, attach, lose, taken

# The states


@pytest.mark.parametrize("state", ConversationState)
@pytest.mark.parametrize("event", ConversationEvent)
def test_an_event_that_is_not_in_the_table_is_illegal(state: ConversationState, event: ConversationEvent) -> None:
    following = CONVERSATION_TRANSITIONS[state].get(event)
    if following is None:
        with pytest.raises(ValueError, match=f"{event.name} is illegal in a conversation that is {state.name}"):
            next_state(state, event)
    else:
        assert next_state(state, event) is following


def test_every_state_but_the_last_can_be_lost_and_the_last_one_is_final() -> None:
    for state in set(ConversationState) - {ConversationState.ENDED}:
        assert next_state(state, ConversationEvent.LOST) is ConversationState.ENDED
    assert CONVERSATION_TRANSITIONS[ConversationState.ENDED] == {}


def test_every_state_can_be_reached_and_none_leads_back_to_an_earlier_one() -> None:
    order = list(ConversationState)
    reached = {ConversationState.CONNECTING}
    for state in order:
        for following in CONVERSATION_TRANSITIONS[state].values():
            assert order.index(following) >= order.index(state)
            reached.add(following)
    assert reached == set(order)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ("CONNECTED INPUT_ENDED FLUSHED", "HALF_CLOSED"),
        ("CONNECTED INPUT_ENDED BYE", "CLOSING"),
        ("CONNECTED INPUT_ENDED FLUSHED BYE", "DISCONNECTING"),
        ("CONNECTED BYE BYE FLUSHED", "DISCONNECTING"),
        ("CONNECTED ABORTED BYE", "DISCONNECTING"),
        ("CONNECTED BYE LOST", "ENDED"),
        ("ABORTED LOST", "ENDED"),
    ],
)
def test_events_lead_from_state_to_state(events: str, state: str) -> None:
    reached = ConversationState.CONNECTING
    for event in events.split():
        reached = next_state(reached, ConversationEvent[event])
    assert reached is ConversationState[state]


def test_a_conversation_raises_at_an_illegal_event(talk: Talk) -> None:
    with pytest.raises(ValueError, match="FLUSHED is illegal in a conversation that is OPEN"):
        talk.side.writeConnectionLost()
    lose(talk.side)


# The framing that is learned


def test_a_learned_framing_is_undecided_until_a_line_end_or_a_silence() -> None:
    framing = LearnedFraming(100)
    dropped: list[str] = []
    assert list(messages_in(framing, b"hel", dropped.append)) == []
    assert framing.undecided
    assert framing.has_partial()
    framing.switch_to_raw()
    assert list(messages_in(framing, b"", dropped.append)) == [b"hel"]
    assert not framing.undecided
    assert framing.encode(b"x") == b"x"
    assert list(messages_in(framing, b"lo\n", dropped.append)) == [b"lo\n"]
    assert framing.encode(b"x") == b"x\n"
    assert list(messages_in(framing, b"a\r\nb", dropped.append)) == [b"a"]
    assert not framing.undecided
    assert framing.end() == b"b"


def test_a_silence_without_an_unfinished_line_decides_nothing() -> None:
    framing = LearnedFraming(100)
    framing.switch_to_raw()
    assert framing.undecided
    assert framing.encode(b"x") == b"x\n"


# Streams


class Talk:
    """A conversation and what it has reported."""

    def __init__(self, **options: object) -> None:
        self.clock = Clock()
        self.received: list[str] = []
        self.notices: list[str] = []
        self.side = Conversation(self.clock, self.received.append, self.notices.append, **options)  # type: ignore[arg-type]
        self.transport: TCPTransport = attach(self.side)


@pytest.fixture
def talk() -> Talk:
    return Talk()


def failure_of(side: Conversation | DatagramConversation) -> Failure:
    """Return the failure with which a conversation has ended."""
    failures: list[Failure] = []
    side.ended.addErrback(failures.append)
    [failure] = failures
    return failure


def test_lines_are_sent_and_received(talk: Talk) -> None:
    talk.side.send(b"hello")
    talk.side.dataReceived(b"hi\r\nthere\nhal")
    assert taken(talk.transport) == b"hello\n"
    assert talk.received == ["hi", "there"]
    talk.side.dataReceived(b"f\n")
    assert talk.received[2:] == ["half"]
    lose(talk.side)


def test_raw_messages_are_sent_without_a_line_end_and_received_as_they_arrive() -> None:
    talk = Talk(framing="raw")
    talk.side.send(b"hello")
    talk.side.dataReceived("收到".encode()[:4])
    talk.side.dataReceived("收到".encode()[4:])
    assert taken(talk.transport) == b"hello"
    assert talk.received == ["收", "到"]
    lose(talk.side)


def test_a_peer_that_sends_no_line_end_gets_none(talk: Talk) -> None:
    talk.side.dataReceived(b"hello")
    talk.clock.advance(MESSAGE_SILENCE)
    assert talk.received == ["hello"]
    talk.side.send(b"hi")
    assert taken(talk.transport) == b"hi"
    lose(talk.side)


def test_a_slow_line_is_still_a_line(talk: Talk) -> None:
    talk.side.dataReceived(b"one\n")
    talk.side.dataReceived(b"tw")
    talk.clock.advance(10 * MESSAGE_SILENCE)
    assert talk.received == ["one"]
    talk.side.dataReceived(b"o\n")
    assert talk.received == ["one", "two"]
    talk.side.send(b"hi")
    assert taken(talk.transport) == b"hi\n"
    lose(talk.side)


def test_the_framing_changes_back_to_lines_at_the_first_line_end(talk: Talk) -> None:
    talk.side.dataReceived(b"login: ")
    talk.clock.advance(MESSAGE_SILENCE)
    talk.side.dataReceived(b"welcome\n")
    talk.side.send(b"hi")
    assert taken(talk.transport) == b"hi\n"
    assert talk.received == ["login: ", "welcome\n"]
    lose(talk.side)


def test_a_message_in_several_pieces_is_delivered_after_a_silence(talk: Talk) -> None:
    talk.side.dataReceived(b"hel")
    talk.clock.advance(MESSAGE_SILENCE / 2)
    talk.side.dataReceived(b"lo")
    talk.clock.advance(MESSAGE_SILENCE / 2)
    assert talk.received == []
    talk.clock.advance(MESSAGE_SILENCE / 2)
    assert talk.received == ["hello"]
    lose(talk.side)


def test_an_empty_message_cannot_be_sent_without_line_ends() -> None:
    talk = Talk(framing="raw")
    with pytest.raises(NotSentError, match="empty message"):
        talk.side.send(b"")
    lose(talk.side)


def test_a_line_that_is_too_long_is_dropped_with_a_notice(talk: Talk) -> None:
    talk.side.dataReceived(b"x" * 1_100_000 + b"\nnext\n")
    assert talk.received == ["next"]
    assert talk.notices == ["line too long: at most 1048576 bytes with its line end; the line was dropped"]
    lose(talk.side)


@pytest.mark.parametrize("word", [b"bye", b"BYE", b" Bye "])
def test_sending_a_bye_word_ends_this_side(talk: Talk, word: bytes) -> None:
    talk.side.send(word)
    assert taken(talk.transport) == word + b"\n"
    assert talk.transport.write_closed
    with pytest.raises(NotSentError, match="over"):
        talk.side.send(b"more")
    talk.side.readConnectionLost()
    assert talk.transport.disconnecting
    lose(talk.side)
    assert talk.side.ended.called


def test_receiving_a_bye_word_ends_this_side_too() -> None:
    talk = Talk(framing="raw", bye=["q", "exit"])
    talk.side.dataReceived(b"EXIT")
    assert talk.transport.write_closed
    lose(talk.side)


def test_a_peer_that_ignores_a_bye_word_is_disconnected_at_the_deadline(talk: Talk) -> None:
    talk.side.send(b"bye")
    talk.side.writeConnectionLost()
    talk.clock.advance(4.9)
    assert not talk.transport.aborted
    talk.clock.advance(0.1)
    assert talk.transport.aborted
    lose(talk.side, ConnectionAborted)
    assert talk.side.ended.result is None


def test_a_bye_word_that_the_peer_never_read_is_a_failure(talk: Talk) -> None:
    talk.side.send(b"bye")
    talk.clock.advance(5.0)
    lose(talk.side, ConnectionAborted)
    assert failure_of(talk.side).check(ConnectionAborted)


def test_a_bye_word_after_the_end_of_input_ends_both_sides(talk: Talk) -> None:
    talk.side.end()
    talk.side.writeConnectionLost()
    talk.side.dataReceived(b"bye\nbye\n")
    talk.clock.advance(5.0)
    assert talk.transport.aborted
    lose(talk.side, ConnectionAborted)
    assert talk.side.ended.result is None


def test_a_character_that_is_split_while_the_framing_is_learned_is_delivered_whole(talk: Talk) -> None:
    talk.side.dataReceived("aé".encode()[:2])
    talk.clock.advance(MESSAGE_SILENCE)
    talk.side.dataReceived("é".encode()[1:])
    talk.clock.advance(MESSAGE_SILENCE)
    assert talk.received == ["a", "é"]
    talk.side.dataReceived(b"x\n" + "é".encode()[:1])
    talk.side.dataReceived("é".encode()[1:] + b"\n")
    assert talk.received[2:] == ["x\n", "é"]
    lose(talk.side)


def test_the_end_of_input_lets_the_peer_finish(talk: Talk) -> None:
    talk.side.send(b"question")
    talk.side.end()
    talk.side.end()
    assert talk.transport.write_closed
    assert not talk.transport.disconnecting
    talk.clock.advance(3600)
    talk.side.dataReceived(b"answer\nunended")
    talk.side.readConnectionLost()
    assert talk.received == ["answer", "unended"]
    lose(talk.side)


def test_this_side_ends_when_the_peer_has_ended_its_input() -> None:
    talk = Talk()
    talk.side.readConnectionLost()
    assert talk.transport.disconnecting
    lose(talk.side)


def test_this_side_may_go_on_sending_when_the_peer_has_ended_its_input() -> None:
    calls: list[bool] = []
    talk = Talk(peer_ended_input=lambda: calls.append(True))
    talk.side.readConnectionLost()
    talk.side.send(b"and another thing")
    assert calls == [True]
    assert not talk.transport.disconnecting
    lose(talk.side)


def test_a_lost_connection_is_a_failure(talk: Talk) -> None:
    lose(talk.side, ConnectionLost)
    assert failure_of(talk.side).check(ConnectionLost)
    with pytest.raises(NotSentError):
        talk.side.send(b"hello?")


def test_an_abort_ends_both_sides_at_once(talk: Talk) -> None:
    talk.side.register_producer(talk.transport)
    talk.side.abort()
    assert talk.transport.aborted
    lose(talk.side, ConnectionAborted)
    assert talk.side.ended.result is None
    talk.side.abort()


def test_the_producer_is_unregistered_before_the_end(talk: Talk) -> None:
    talk.side.register_producer(talk.transport)
    talk.side.end()
    assert talk.transport.producer is None
    lose(talk.side)


def test_a_message_cannot_be_sent_before_the_connection_is_complete() -> None:
    with pytest.raises(NotSentError, match="not complete"):
        Conversation(Clock(), print).send(b"hello")


# TLS


def over_tls() -> tuple[TLSConversation, TCPTransport, Clock]:
    clock = Clock()
    side = TLSConversation(clock, print)
    return side, attach(side), clock


def test_a_peer_that_does_not_complete_the_handshake_is_disconnected() -> None:
    side, transport, clock = over_tls()
    clock.advance(10.0)
    assert transport.aborted
    lose(side, ConnectionAborted)
    failures: list[Failure] = []
    side.ready.addErrback(failures.append)
    assert failures[0].check(TimeoutError)


def test_over_tls_this_side_ends_when_the_peer_is_silent_and_is_read() -> None:
    side, transport, clock = over_tls()
    side.handshakeCompleted()
    side.end()
    clock.advance(PEER_SILENCE / 2)
    side.dataReceived(b"late\n")
    clock.advance(PEER_SILENCE / 2)
    side.pauseProducing()  # the output is full
    clock.advance(3600)
    assert not transport.disconnecting
    side.resumeProducing()
    clock.advance(PEER_SILENCE)
    assert transport.disconnecting
    clock.advance(5.0)
    assert transport.aborted  # the peer never confirmed the end
    lose(side, ConnectionAborted)
    assert side.ended.result is None


# Datagrams

STRANGER_PORT = 1


class Recorder(DatagramProtocol):
    """A peer that records what it receives."""

    noisy = False

    def __init__(self) -> None:
        self.received: list[tuple[bytes, tuple[str, int]]] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append((datagram, addr))


class Datagrams:
    """A conversation in datagrams, a peer, and a stranger, each on a host of its own."""

    def __init__(self, network: Network, *, client: bool) -> None:
        self.network = network
        here, there, elsewhere = (network.host(name) for name in ("here", "there", "elsewhere"))
        self.peer = Recorder()
        self.stranger = Recorder()
        self.peer_address = (there.address, 9000)
        there.reactor.listenUDP(9000, self.peer)
        elsewhere.reactor.listenUDP(STRANGER_PORT, self.stranger)
        self.stranger_text = f"{elsewhere.address}:{STRANGER_PORT}"
        self.received: list[str] = []
        self.notices: list[str] = []
        self.side = DatagramConversation(
            here.reactor,
            self.received.append,
            self.notices.append,
            peer=self.peer_address if client else None,
        )
        self.port = here.reactor.listenUDP(0, self.side)
        number: int = self.port.getHost().port  # type: ignore[attr-defined]  # an IPv4 address
        self.address = (here.address, number)

    def deliver(self, datagram: bytes, sender: Recorder | None = None) -> None:
        """Let a datagram of the peer, or of another sender, arrive."""
        transport = (sender or self.peer).transport
        assert transport is not None
        transport.write(datagram, self.address)
        self.network.settle()

    def sent(self) -> list[bytes]:
        """Return the datagrams that have arrived at the peer."""
        self.network.settle()
        assert all(sender == self.address for _, sender in self.peer.received)
        return [datagram for datagram, _ in self.peer.received]


@pytest.fixture
def client(network: Network) -> Datagrams:
    return Datagrams(network, client=True)


@pytest.fixture
def server(network: Network) -> Datagrams:
    return Datagrams(network, client=False)


def test_each_datagram_is_one_message_in_both_directions(client: Datagrams) -> None:
    client.side.send(b"hello")
    client.side.send(b"")
    assert client.sent() == [b"hello", b""]
    client.deliver(b"hi\nthere")
    assert client.received == ["hi\nthere"]


def test_the_first_sender_becomes_the_peer_and_datagrams_of_others_are_ignored(server: Datagrams) -> None:
    with pytest.raises(NotSentError, match="no peer yet"):
        server.side.send(b"hello?")
    server.deliver(b"hi")
    server.deliver(b"bye", server.stranger)
    server.deliver(b"bye", server.stranger)
    server.side.send(b"hello")
    assert server.received == ["hi"]
    assert server.sent() == [b"hello"]
    assert server.stranger.received == []
    host, port = server.peer_address
    assert server.notices == [
        f"talking to {host}:{port}",
        f"a datagram from {server.stranger_text} was ignored, because the conversation is with {host}:{port}",
    ]
    assert not server.side.ended.called


def test_receiving_a_bye_word_ends_a_conversation_in_datagrams(server: Datagrams) -> None:
    server.deliver(b"Bye")
    assert server.side.ended.called
    server.deliver(b"more")
    assert server.received == ["Bye"]


def test_sending_a_bye_word_ends_a_conversation_in_datagrams(client: Datagrams) -> None:
    client.side.send(b"bye")
    assert client.sent() == [b"bye"]
    assert client.side.ended.called
    with pytest.raises(NotSentError):
        client.side.send(b"more")


def test_after_the_end_of_input_a_client_receives_until_the_peer_is_silent(client: Datagrams) -> None:
    client.side.end()
    client.network.advance(PEER_SILENCE / 2)
    client.deliver(b"late answer")
    client.network.advance(PEER_SILENCE / 2)
    assert not client.side.ended.called
    client.network.advance(PEER_SILENCE / 2)
    assert client.side.ended.called
    client.side.end()


def test_after_the_end_of_input_a_server_goes_on_receiving(server: Datagrams) -> None:
    server.side.end()
    server.network.advance(3600)
    server.deliver(b"hi")
    assert server.received == ["hi"]
    assert not server.side.ended.called


def test_a_message_that_is_too_long_for_a_datagram_is_not_sent(client: Datagrams) -> None:
    with pytest.raises(NotSentError, match="too long"):
        client.side.send(b"x" * 70_000)


def test_a_refusal_ends_the_conversation_with_a_failure(client: Datagrams) -> None:
    client.network.hosts["there"].crash()
    client.network.hosts["there"].restart()
    client.side.send(b"hello?")
    client.network.settle()
    assert failure_of(client.side).check(ConnectionRefusedError)


def test_a_refusal_that_the_reactor_reports_is_a_failure_as_well(client: Datagrams) -> None:
    client.side.connectionRefused()
    assert failure_of(client.side).check(ConnectionRefusedError)


def test_an_abort_and_the_end_of_the_port_end_a_conversation_in_datagrams(client: Datagrams) -> None:
    client.side.abort()
    assert client.side.ended.called
    client.port.stopListening()
    client.network.settle()
    assert client.side.ended.result is None


def test_the_end_of_the_port_ends_a_conversation_in_datagrams(client: Datagrams) -> None:
    client.port.stopListening()
    client.network.settle()
    assert client.side.ended.result is None


def test_a_datagram_cannot_be_sent_before_the_port_is_open() -> None:
    with pytest.raises(NotSentError, match="not complete"):
        DatagramConversation(Clock(), print).send(b"hello")
