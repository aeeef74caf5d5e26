from __future__ import annotations

import pytest
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionLost,
    ConnectionRefusedError,  # noqa: A004
    TimeoutError,  # noqa: A004
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from netsvc.talk import Conversation, DatagramConversation, SayError, TLSConversation
from netsvc.talk.partner import FAREWELL
from netsvc.talk.stream_conversation import QUIET
from tests.connections import TCPTransport, attach, lose, taken
from tests.memory_reactor import DatagramPort, MemoryReactor


class Talk:
    """A conversation and what it led to."""

    def __init__(self, **options: object) -> None:
        self.clock = Clock()
        self.heard: list[str] = []
        self.noticed: list[str] = []
        self.side = Conversation(self.clock, self.heard.append, self.noticed.append, **options)  # type: ignore[arg-type]
        self.transport: TCPTransport = attach(self.side)


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_lines_are_said_and_heard(talk: Talk) -> None:
    talk.side.say(b"hello")
    talk.side.dataReceived(b"hi\r\nthere\nhal")
    assert taken(talk.transport) == b"hello\n"
    assert talk.heard == ["hi", "there"]
    talk.side.dataReceived(b"f\n")
    assert talk.heard[2:] == ["half"]
    lose(talk.side)


def test_raw_messages_are_said_bare_and_heard_as_they_come() -> None:
    talk = Talk(framing="raw")
    talk.side.say(b"hello")
    talk.side.dataReceived("收到".encode()[:4])
    talk.side.dataReceived("收到".encode()[4:])
    assert taken(talk.transport) == b"hello"
    assert talk.heard == ["收", "到"]
    lose(talk.side)


def test_a_partner_that_ends_no_line_is_answered_in_kind(talk: Talk) -> None:
    talk.side.dataReceived(b"hello")
    talk.clock.advance(QUIET)
    assert talk.heard == ["hello"]
    talk.side.say(b"hi")
    assert taken(talk.transport) == b"hi"
    lose(talk.side)


def test_a_slow_line_is_still_a_line(talk: Talk) -> None:
    talk.side.dataReceived(b"one\n")
    talk.side.dataReceived(b"tw")
    talk.clock.advance(10 * QUIET)
    assert talk.heard == ["one"]
    talk.side.dataReceived(b"o\n")
    assert talk.heard == ["one", "two"]
    talk.side.say(b"hi")
    assert taken(talk.transport) == b"hi\n"
    lose(talk.side)


def test_a_partner_that_was_taken_for_one_without_lines_may_show_that_it_has_them(talk: Talk) -> None:
    talk.side.dataReceived(b"login: ")
    talk.clock.advance(QUIET)
    talk.side.dataReceived(b"welcome\n")
    talk.side.say(b"hi")
    assert taken(talk.transport) == b"hi\n"
    assert talk.heard == ["login: ", "welcome\n"]
    lose(talk.side)


def test_a_message_in_several_pieces_is_heard_when_it_is_quiet(talk: Talk) -> None:
    talk.side.dataReceived(b"hel")
    talk.clock.advance(QUIET / 2)
    talk.side.dataReceived(b"lo")
    talk.clock.advance(QUIET / 2)
    assert talk.heard == []
    talk.clock.advance(QUIET / 2)
    assert talk.heard == ["hello"]
    lose(talk.side)


def test_nothing_cannot_be_said_without_line_ends() -> None:
    talk = Talk(framing="raw")
    with pytest.raises(SayError, match="nothing"):
        talk.side.say(b"")
    lose(talk.side)


def test_a_line_that_is_too_long_is_noticed(talk: Talk) -> None:
    talk.side.dataReceived(b"x" * 1_100_000 + b"\nnext\n")
    assert talk.heard == ["next"]
    assert talk.noticed == ["line too long: at most 1048576 bytes with its line end; it was left out"]
    lose(talk.side)


@pytest.mark.parametrize("word", [b"bye", b"BYE", b" Bye "])
def test_a_bye_word_that_is_said_is_sent_and_ends_this_side(talk: Talk, word: bytes) -> None:
    talk.side.say(word)
    assert taken(talk.transport) == word + b"\n"
    assert talk.transport.write_closed
    with pytest.raises(SayError, match="over"):
        talk.side.say(b"more")
    talk.side.readConnectionLost()
    assert talk.transport.disconnecting
    lose(talk.side)
    assert talk.side.ended.called


def test_a_bye_word_that_is_heard_ends_this_side_too() -> None:
    talk = Talk(framing="raw", bye=["q", "exit"])
    talk.side.dataReceived(b"EXIT")
    assert talk.transport.write_closed
    lose(talk.side)


def test_a_partner_that_ignores_a_bye_is_left_at_the_deadline(talk: Talk) -> None:
    talk.side.say(b"bye")
    talk.side.writeConnectionLost()
    talk.clock.advance(4.9)
    assert not talk.transport.aborted
    talk.clock.advance(0.1)
    assert talk.transport.aborted
    lose(talk.side, ConnectionAborted)
    assert talk.side.ended.result is None


def test_a_bye_that_the_partner_never_took_is_a_failure(talk: Talk) -> None:
    talk.side.say(b"bye")
    talk.clock.advance(5.0)
    lose(talk.side, ConnectionAborted)
    failed: list[Failure] = []
    talk.side.ended.addErrback(failed.append)
    assert failed[0].check(ConnectionAborted)


def test_a_character_that_is_cut_while_it_is_learnt_that_there_are_no_lines_is_heard_whole(talk: Talk) -> None:
    talk.side.dataReceived("aé".encode()[:2])
    talk.clock.advance(QUIET)
    talk.side.dataReceived("é".encode()[1:])
    talk.clock.advance(QUIET)
    assert talk.heard == ["a", "é"]
    talk.side.dataReceived(b"x\n" + "é".encode()[:1])
    talk.side.dataReceived("é".encode()[1:] + b"\n")
    assert talk.heard[2:] == ["x\n", "é"]
    lose(talk.side)


def over_tls() -> tuple[TLSConversation, TCPTransport, Clock]:
    clock = Clock()
    side = TLSConversation(clock, print)
    return side, attach(side), clock


def test_a_partner_that_shakes_no_hands_is_left() -> None:
    side, transport, clock = over_tls()
    clock.advance(10.0)
    assert transport.aborted
    lose(side, ConnectionAborted)
    failed: list[Failure] = []
    side.ready.addErrback(failed.append)
    assert failed[0].check(TimeoutError)


def test_over_tls_this_side_ends_when_it_has_been_quiet_and_is_heard() -> None:
    side, transport, clock = over_tls()
    side.handshakeCompleted()
    side.end()
    clock.advance(FAREWELL / 2)
    side.dataReceived(b"late\n")
    clock.advance(FAREWELL / 2)
    side.pauseProducing()  # nobody takes what was heard
    clock.advance(3600)
    assert not transport.disconnecting
    side.resumeProducing()
    clock.advance(FAREWELL)
    assert transport.disconnecting
    clock.advance(5.0)
    assert transport.aborted  # the partner never answered to the end
    lose(side, ConnectionAborted)
    assert side.ended.result is None


def test_the_end_of_what_is_said_leaves_the_partner_to_finish(talk: Talk) -> None:
    talk.side.say(b"question")
    talk.side.end()
    talk.side.end()
    assert talk.transport.write_closed
    assert not talk.transport.disconnecting
    talk.clock.advance(3600)
    talk.side.dataReceived(b"answer\nunended")
    talk.side.readConnectionLost()
    assert talk.heard == ["answer", "unended"]
    lose(talk.side)


def test_when_the_partner_has_said_all_this_side_ends_too_unless_it_has_more_to_say() -> None:
    polite = Talk()
    polite.side.readConnectionLost()
    assert polite.transport.disconnecting
    lose(polite.side)
    left: list[bool] = []
    busy = Talk(left=lambda: left.append(True))
    busy.side.readConnectionLost()
    busy.side.say(b"and another thing")
    assert left == [True]
    assert not busy.transport.disconnecting
    lose(busy.side)


def test_a_lost_connection_is_a_failure(talk: Talk) -> None:
    lose(talk.side, ConnectionLost)
    failed: list[Failure] = []
    talk.side.ended.addErrback(failed.append)
    assert failed[0].check(ConnectionLost)
    with pytest.raises(SayError):
        talk.side.say(b"anybody?")


def test_hanging_up_ends_both_sides_at_once(talk: Talk) -> None:
    talk.side.throttle(talk.transport)
    talk.side.hang_up()
    assert talk.transport.aborted
    lose(talk.side, ConnectionAborted)
    assert talk.side.ended.result is None


def test_a_throttled_side_lets_go_of_its_source_before_it_ends(talk: Talk) -> None:
    talk.side.throttle(talk.transport)
    talk.side.end()
    assert talk.transport.producer is None
    lose(talk.side)


# Datagrams

PARTNER = ("127.0.0.1", 9000)


class Datagrams:
    """A conversation in datagrams and what it led to."""

    def __init__(self, partner: tuple[str, int] | None = None) -> None:
        self.reactor = MemoryReactor()
        self.heard: list[str] = []
        self.noticed: list[str] = []
        self.side = DatagramConversation(self.reactor, self.heard.append, self.noticed.append, partner=partner)
        self.port: DatagramPort = self.reactor.listenUDP(0, self.side)


def test_one_datagram_is_one_message_in_either_direction() -> None:
    talk = Datagrams(PARTNER)
    talk.side.say(b"hello")
    talk.side.say(b"")
    talk.port.deliver(b"hi\nthere", PARTNER)
    assert talk.port.sent == [(b"hello", PARTNER), (b"", PARTNER)]
    assert talk.heard == ["hi\nthere"]


def test_who_speaks_first_is_answered_and_a_stranger_is_neither_heard_nor_answered() -> None:
    talk = Datagrams()
    with pytest.raises(SayError, match="nobody has spoken"):
        talk.side.say(b"hello?")
    talk.port.deliver(b"hi", ("192.0.2.1", 1))
    talk.port.deliver(b"bye", ("192.0.2.66", 1))
    talk.port.deliver(b"bye", ("192.0.2.66", 1))
    talk.side.say(b"hello")
    assert talk.heard == ["hi"]
    assert talk.port.sent == [(b"hello", ("192.0.2.1", 1))]
    assert talk.noticed == [
        "talking to 192.0.2.1:1",
        "192.0.2.66:1 was not heard: this is a talk with 192.0.2.1:1",
    ]
    assert not talk.side.ended.called


def test_a_bye_of_the_partner_ends_it() -> None:
    talk = Datagrams()
    talk.port.deliver(b"Bye", PARTNER)
    assert talk.side.ended.called


def test_a_bye_of_ones_own_is_sent_and_ends_it() -> None:
    talk = Datagrams(PARTNER)
    talk.side.say(b"bye")
    assert talk.port.sent == [(b"bye", PARTNER)]
    assert talk.side.ended.called
    with pytest.raises(SayError):
        talk.side.say(b"more")


def test_after_the_end_of_input_the_partner_is_heard_until_it_is_quiet() -> None:
    talk = Datagrams(PARTNER)
    talk.side.end()
    talk.reactor.advance(FAREWELL / 2)
    talk.port.deliver(b"late answer", PARTNER)
    talk.reactor.advance(FAREWELL / 2)
    assert not talk.side.ended.called
    talk.reactor.advance(FAREWELL / 2)
    assert talk.side.ended.called


def test_a_listener_without_input_goes_on_listening() -> None:
    talk = Datagrams()
    talk.side.end()
    talk.reactor.advance(3600)
    talk.port.deliver(b"hi", PARTNER)
    assert talk.heard == ["hi"]
    assert not talk.side.ended.called


def test_what_no_datagram_holds_is_not_said() -> None:
    with pytest.raises(SayError, match="too long"):
        Datagrams(PARTNER).side.say(b"x" * 70_000)


def test_a_refusal_ends_it_with_a_failure() -> None:
    talk = Datagrams(PARTNER)
    talk.side.say(b"anybody?")
    talk.reactor.advance(0)
    failed: list[Failure] = []
    talk.side.ended.addErrback(failed.append)
    assert failed[0].check(ConnectionRefusedError)


def test_a_closed_port_ends_it() -> None:
    talk = Datagrams(PARTNER)
    talk.side.hang_up()
    talk.port.stopListening()
    talk.reactor.advance(0)
    assert talk.side.ended.called
