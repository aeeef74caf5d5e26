from __future__ import annotations

import socket
import time

from twisted.internet.task import Clock

from netsvc import DaytimeFactory
from netsvc.limits.admission import Admission
from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.rfc.daytime_line import daytime_line
from tests.connections import connect, lose, taken, terms
from tests.programs import SECONDS, serving

NOW = time.mktime((2026, 11, 21, 0, 33, 33, 0, 0, -1))
LINE = b"Sat Nov 21 00:33:33 2026\r\n"


def test_the_line_is_the_local_time_and_ends_with_cr_lf() -> None:
    assert daytime_line(NOW) == LINE


def test_a_peer_is_sent_the_time_and_closed() -> None:
    clock = Clock()
    clock.advance(NOW)
    protocol, transport = connect(DaytimeFactory(terms(clock)))
    assert taken(transport) == LINE
    assert transport.write_closed
    protocol.readConnectionLost()
    assert transport.disconnecting
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_what_the_peer_sends_is_discarded() -> None:
    protocol, transport = connect(DaytimeFactory(terms(Clock())))
    taken(transport)
    protocol.dataReceived(b"hello")
    assert taken(transport) == b""
    lose(protocol)


def test_a_peer_that_does_not_close_its_side_is_closed_all_the_same() -> None:
    clock = Clock()
    service = terms(clock, Admission(ConnectionCounter(1), connect_rate=0))
    protocol, transport = connect(DaytimeFactory(service))
    protocol.writeConnectionLost()
    clock.advance(1)
    assert transport.disconnecting
    lose(protocol)
    assert len(service.admission.connections) == 0


def test_a_blocking_socket_gets_the_time() -> None:
    with serving("--daytime", "127.0.0.1:0") as (_, [port]):
        before = int(time.time())  # noqa: TID251  of the same host as the server's
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            line = b"".join(iter(lambda: client.recv(100), b""))
        assert line in {daytime_line(before + second) for second in range(12)}
