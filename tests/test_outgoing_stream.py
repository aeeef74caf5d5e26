"""The stream of ``netsvc send``: the time without progress."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from netsvc.cli.outgoing_stream import OutgoingStream


class SocketTransport:
    """A transport with a real socket, of which only the kernel is asked. No reactor watches it.

    :ivar aborted: whether the protocol has given up.
    """

    aborted = False

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def registerProducer(self, producer: object, streaming: bool) -> None:
        assert streaming

    def abortConnection(self) -> None:
        self.aborted = True


@pytest.fixture
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection whose buffers are full."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        with theirs:
            ours.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    ours.send(b"x" * 65_536)
            yield ours, theirs


def queued_on(ours: socket.socket, clock: Clock) -> tuple[OutgoingStream, Any]:
    """Return a stream that waits for the peer for at most a second at a time, and its transport."""
    stream, transport = OutgoingStream(clock, 1.0), SocketTransport(ours)
    stream.makeConnection(transport)
    stream.pauseProducing()
    return stream, transport


def test_a_peer_that_takes_a_part_in_time_is_waited_for(connected: tuple[socket.socket, socket.socket]) -> None:
    clock = Clock()
    _, transport = queued_on(connected[0], clock)
    connected[1].recv(2_000_000, socket.MSG_WAITALL)
    clock.advance(1.0)
    assert not transport.aborted


def test_a_peer_that_takes_nothing_in_time_is_given_up(connected: tuple[socket.socket, socket.socket]) -> None:
    clock = Clock()
    stream, transport = queued_on(connected[0], clock)
    clock.advance(0.9)
    assert not transport.aborted
    clock.advance(0.1)
    assert transport.aborted
    stream.connectionLost(Failure(error.ConnectionAborted()))
    failed: list[Failure] = []
    stream.sent.addErrback(failed.append)
    assert failed[0].check(error.TimeoutError)
