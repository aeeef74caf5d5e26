from __future__ import annotations

import socket
import time
from datetime import UTC, datetime

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from netsvc import TimeFactory
from netsvc.limits.admission import Admission
from netsvc.limits.connection_counter import ConnectionCounter
from netsvc.net.stream_factory import RefusalProtocol
from netsvc.rfc.time_octets import time_octets
from tests.connections import attach, connect, lose, taken, terms
from tests.programs import SECONDS, serving

#: When the number starts again from 0.
NEXT_ERA = datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC).timestamp()


def seconds_of(octets: bytes) -> int:
    """Return the seconds since 1970, as a client finds them: the highest bit tells the era."""
    number = int.from_bytes(octets, "big")
    first = datetime(1900, 1, 1, tzinfo=UTC).timestamp() if number >= 2**31 else NEXT_ERA
    return int(first) + number


def test_the_octets_are_those_of_the_examples_of_the_rfc() -> None:
    for number, moment in [
        (2_208_988_800, (1970, 1, 1)),
        (2_398_291_200, (1976, 1, 1)),
        (2_524_521_600, (1980, 1, 1)),
        (2_629_584_000, (1983, 5, 1)),
    ]:
        assert int.from_bytes(time_octets(datetime(*moment, tzinfo=UTC).timestamp()), "big") == number
    assert int.from_bytes(time_octets(datetime(1858, 11, 17, tzinfo=UTC).timestamp()), "big") == 2**32 - 1_297_728_000


def test_the_number_starts_again_in_2036() -> None:
    assert time_octets(NEXT_ERA - 0.001) == b"\xff\xff\xff\xff"
    assert time_octets(NEXT_ERA) == b"\0\0\0\0"
    assert time_octets(NEXT_ERA + 1.9) == b"\0\0\0\1"


@given(st.integers(seconds_of(b"\x80\0\0\0"), seconds_of(b"\x7f\xff\xff\xff")), st.sampled_from([0.0, 0.25, 0.875]))
@example(int(NEXT_ERA) - 1, 0.875)
@example(int(NEXT_ERA), 0.0)
def test_the_highest_bit_tells_the_era(second: int, fraction: float) -> None:
    now = second + fraction
    octets = time_octets(now)
    assert len(octets) == 4
    assert 0 <= now - seconds_of(octets) < 1


def test_a_peer_is_sent_four_octets_and_closed() -> None:
    clock = Clock()
    clock.advance(NEXT_ERA + 256)
    protocol, transport = connect(TimeFactory(terms(clock)))
    assert taken(transport) == b"\0\0\1\0"
    assert transport.write_closed
    protocol.dataReceived(b"hello")
    assert taken(transport) == b""
    lose(protocol)
    assert not clock.getDelayedCalls()


def test_a_peer_that_is_refused_gets_no_sentence_that_it_would_take_for_a_time() -> None:
    factory = TimeFactory(terms(Clock(), Admission(ConnectionCounter(1), connect_rate=0)))
    connect(factory)
    refusal = factory.buildProtocol(None)
    assert isinstance(refusal, RefusalProtocol)
    transport = attach(refusal)
    assert taken(transport) == b""
    assert transport.disconnecting


def test_a_blocking_socket_gets_the_time() -> None:
    with serving("--time", "127.0.0.1:0") as (_, [port]):
        before = int(time.time())  # noqa: TID251  of the same host as the server's
        with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
            octets = b"".join(iter(lambda: client.recv(100), b""))
        assert seconds_of(octets) - before in range(12)
