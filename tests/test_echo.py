from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.test.iosim import connectedServerAndClient

from netsvc.echo.client import Echo, EchoClient, EchoError
from netsvc.echo.reply_template import ReplyTemplate
from netsvc.echo.server import AcknowledgeFactory, EchoFactory
from tests.connections import attach, connect, lose, taken, terms
from tests.strategies import split, split_places


def acknowledge(reply: str, framing: str = "raw") -> AcknowledgeFactory:
    clock = Clock()
    clock.advance(1_000_000)
    return AcknowledgeFactory(terms(clock), ReplyTemplate(reply), framing)


@given(st.binary(), split_places)
def test_bytes_come_back_unchanged_however_the_stream_is_split(data: bytes, places: list[int]) -> None:
    protocol, transport = connect(EchoFactory(terms(Clock())))
    for piece in split(data, places):
        protocol.dataReceived(piece)
    assert transport.value() == data


def test_each_piece_is_acknowledged_without_a_line_end() -> None:
    protocol, transport = connect(acknowledge("got it"))
    protocol.dataReceived(b"one")
    protocol.dataReceived(b"two")
    assert taken(transport) == b"got itgot it"
    lose(protocol)


def test_each_line_is_acknowledged_with_a_line() -> None:
    protocol, transport = connect(acknowledge("got {message}", "line"))
    protocol.dataReceived(b"one\r\ntw")
    protocol.dataReceived(b"o\n\n")
    assert taken(transport) == b"got one\ngot two\ngot \n"
    lose(protocol)


def test_an_acknowledgement_names_the_peer_and_the_time() -> None:
    protocol, transport = connect(acknowledge("{peer} {time}"))
    protocol.dataReceived(b"x")
    assert taken(transport) == f"192.0.2.1:40000 {time.ctime(1_000_000)}".encode()
    lose(protocol)


def test_a_character_that_the_network_splits_is_acknowledged_whole() -> None:
    protocol, transport = connect(acknowledge("<{message}>"))
    for byte in "收到".encode():
        protocol.dataReceived(bytes([byte]))
    assert taken(transport).decode() == "<收><到>"
    lose(protocol)


def test_an_incomplete_line_is_acknowledged_at_half_close() -> None:
    protocol, transport = connect(acknowledge("got {message}", "line"))
    protocol.dataReceived(b"half")
    protocol.readConnectionLost()
    assert taken(transport) == b"got half\n"
    lose(protocol)


def test_a_line_that_is_too_long_is_refused_and_the_next_one_is_acknowledged() -> None:
    protocol, transport = connect(acknowledge("ok", "line"))
    protocol.dataReceived(b"x" * 5000 + b"\nnext\n")
    assert taken(transport) == b"line too long: at most 1024 bytes with its line end\nok\n"
    lose(protocol)


def test_the_client_verifies_its_echoes_and_measures_their_time() -> None:
    clock = Clock()
    factory = EchoFactory(terms(clock))
    client, _, pump = connectedServerAndClient(lambda: factory.buildProtocol(None), lambda: EchoClient(clock))
    first, second = client.ask(b"hello"), client.ask(b"world")
    echoes: list[Echo] = []
    first.addCallback(echoes.append)
    second.addCallback(echoes.append)
    clock.advance(0.25)
    pump.flush()
    assert echoes == [Echo(b"hello", 0.25), Echo(b"world", 0.25)]


@pytest.fixture
def client() -> EchoClient:
    client = EchoClient(Clock())
    attach(client)
    return client


def test_an_echo_may_arrive_in_pieces(client: EchoClient) -> None:
    answer = client.ask(b"hello")
    client.dataReceived(b"he")
    assert not answer.called
    client.dataReceived(b"llo")
    assert answer.called


def test_the_client_aborts_if_the_echo_differs(client: EchoClient) -> None:
    errors: list[object] = []
    client.ask(b"hello").addErrback(lambda failure: errors.append(failure.value))
    client.dataReceived(b"HELLO")
    assert isinstance(errors[0], EchoError)
    assert client.transport.aborted


def test_the_client_aborts_if_the_server_sends_more_than_it_received(client: EchoClient) -> None:
    client.dataReceived(b"welcome")
    assert client.transport.aborted


def test_a_pending_request_fails_when_the_connection_is_lost(client: EchoClient) -> None:
    answer = client.ask(b"hello")
    lose(client, ConnectionLost)
    answer.addErrback(lambda failure: failure.trap(ConnectionLost))
    assert answer.called


def test_a_cancelled_request_closes_the_connection(client: EchoClient) -> None:
    answer = client.ask(b"hello")
    answer.cancel()
    answer.addErrback(lambda failure: failure.trap(CancelledError))
    assert client.transport.aborted
    lose(client)


def test_an_empty_request_is_refused(client: EchoClient) -> None:
    with pytest.raises(ValueError, match="nothing to echo"):
        client.ask(b"")
