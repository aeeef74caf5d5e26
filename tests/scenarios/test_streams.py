"""Scenarios of streams: the same events in the same order, simulated and real."""

from __future__ import annotations

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from tests.scenarios.actors import Actor, HalfActor, Writer, connected
from tests.scenarios.worlds import World


def test_a_port_where_nobody_listens_refuses(world: World) -> None:
    async def scenario() -> None:
        endpoint = TCP4ClientEndpoint(world.client, world.address, world.free_port())
        with pytest.raises(error.ConnectionRefusedError):
            await connectProtocol(endpoint, Actor())

    world.play(scenario())


def test_both_sides_know_the_addresses_of_both(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        assert client.transport.getPeer() == server.transport.getHost()
        assert server.transport.getPeer() == client.transport.getHost()
        assert client.transport.getPeer().host == world.address
        client.transport.loseConnection()
        await server.lost
        await client.lost

    world.play(scenario())


def test_bytes_arrive_in_order_in_both_directions(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        for word in (b"one ", b"", b"two ", b"three"):
            client.transport.write(word)
            server.transport.write(word.upper())
        await server.got(13)
        await client.got(13)
        assert (bytes(server.received), bytes(client.received)) == (b"one two three", b"ONE TWO THREE")
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_what_was_written_before_closing_arrives(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        client.transport.write(b"x" * world.big)
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.received == b"x" * world.big
        assert server.events == client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_both_sides_may_close_at_once(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        client.transport.loseConnection()
        server.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_the_server_may_close_first(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        server.transport.loseConnection()
        await client.lost
        await server.lost
        assert server.events == client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_a_half_closed_side_still_hears(world: World) -> None:
    async def scenario() -> None:
        server, client = HalfActor(), HalfActor()
        await connected(world, server, client)
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await server.happened("ended")
        assert server.received == b"question"
        server.transport.write(b"answer")
        server.transport.loseConnection()
        await client.happened("ended")
        assert client.received == b"answer"
        client.transport.loseConnection()
        await client.lost
        await server.lost
        assert client.events == ["made", "closed", "ended", "lost: ConnectionDone"]
        assert server.events == ["made", "ended", "lost: ConnectionDone"]

    world.play(scenario())


def test_both_sides_may_half_close(world: World) -> None:
    async def scenario() -> None:
        server, client = HalfActor(), HalfActor()
        await connected(world, server, client)
        client.transport.loseWriteConnection()
        await server.happened("ended")
        server.transport.loseWriteConnection()
        await client.happened("ended")
        client.transport.loseConnection()
        server.transport.loseConnection()
        await client.lost
        await server.lost
        # A socket that is closed in both directions is a hang-up (POLLHUP), which Twisted's poll-like reactors take
        # for a loss, if they see it before loseConnection is called.
        assert client.events[:3] == ["made", "closed", "ended"]
        assert server.events[:3] == ["made", "ended", "closed"]
        assert {client.events[3], server.events[3]} <= {"lost: ConnectionDone", "lost: ConnectionLost"}

    world.play(scenario())


def test_a_protocol_that_cannot_half_close_is_lost_when_its_peer_has_said_all(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), HalfActor()
        await connected(world, server, client)
        client.transport.loseWriteConnection()
        await server.lost
        await client.happened("ended")
        client.transport.loseConnection()
        await client.lost
        assert server.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_aborting_resets_the_other_side(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        client.transport.abortConnection()
        await client.lost
        await server.lost
        assert client.events == ["made", "lost: ConnectionAborted"]
        assert server.events == ["made", "lost: ConnectionLost"]

    world.play(scenario())


def test_what_arrived_before_a_reset_is_read_before_it(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        client.transport.write(b"last words")
        await server.got(10)
        client.transport.write(b", and more")
        client.transport.abortConnection()  # which drops what is queued
        await server.lost
        assert server.events == ["made", "lost: ConnectionLost"]
        assert server.received == b"last words"
        await client.lost

    world.play(scenario())


def test_a_server_that_closes_with_unread_bytes_ends_in_order_for_its_peer(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        server.transport.pauseProducing()
        client.transport.write(b"unread")
        second = Actor()  # by the time it is connected, those bytes have arrived
        await connected(world, second, Actor())
        second.transport.loseConnection()
        await second.lost
        # The kernel resets a connection that is closed with unread bytes, but Twisted's loseConnection calls shutdown
        # before close, and the end that this sends is what the peer reads first.
        server.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_writing_to_a_peer_that_has_closed_loses_the_connection(world: World) -> None:
    async def scenario() -> None:
        server, client = HalfActor(), Actor()
        await connected(world, server, client)
        client.transport.loseConnection()
        await client.lost
        await server.happened("ended")
        for _ in range(100):  # the first is answered by a reset, and one that follows fails
            if server.lost.called:
                break
            server.transport.write(b"anybody there?")
            turn: Deferred[None] = Deferred()
            world.server.callLater(0.01, turn.callback, None)
            await turn
        await server.lost
        assert server.events == ["made", "ended", "lost: ConnectionLost"]

    world.play(scenario())


def test_a_reader_that_stops_pauses_the_writer_and_gets_all_once_it_reads_again(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Writer(10 * world.big)
        await connected(world, server, client)
        server.transport.pauseProducing()
        client.write_all()
        await client.happened("paused")
        assert client.written < 10 * world.big
        server.transport.resumeProducing()
        await client.happened("all written")
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert len(server.received) == client.written
        assert client.events == ["made", "paused", "resumed", "all written", "lost: ConnectionDone"]

    world.play(scenario())


def test_losing_a_connection_stops_its_producer(world: World) -> None:
    async def scenario() -> None:
        server, client = Actor(), Writer(100 * world.big)
        await connected(world, server, client)
        server.transport.pauseProducing()
        client.write_all()
        await client.happened("paused")
        server.transport.abortConnection()
        await client.lost
        await server.lost
        client.events.remove("resumed") if "resumed" in client.events else None  # as the kernel's buffers filled
        assert client.events == ["made", "paused", "stopped", "lost: ConnectionLost"]

    world.play(scenario())


def test_a_big_transfer_in_both_directions_at_once_arrives_whole(world: World) -> None:
    size = world.big
    data = bytes(range(256)) * (size // 256)

    async def scenario() -> None:
        server, client = Actor(), Actor()
        await connected(world, server, client)
        server.transport.write(data)
        client.transport.write(data)
        await server.got(size)
        await client.got(size)
        assert server.received == client.received == data
        client.transport.loseConnection()
        await client.lost
        await server.lost

    world.play(scenario())


@pytest.mark.logs_failure("ZeroDivisionError")
def test_an_exception_in_data_received_closes_the_connection_with_it(world: World) -> None:
    class Faulty(Actor):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def scenario() -> None:
        server, client = Faulty(), Actor()
        await connected(world, server, client)
        client.transport.write(b"x")
        await server.lost
        await client.lost
        assert server.events == ["made", "lost: ZeroDivisionError"]
        assert client.events == ["made", "lost: ConnectionDone"]

    world.play(scenario())


def test_connecting_can_be_given_up(world: World) -> None:
    async def scenario() -> None:
        endpoint = TCP4ClientEndpoint(world.client, world.address, world.free_port())
        attempt = connectProtocol(endpoint, Actor())
        attempt.cancel()
        with pytest.raises(error.ConnectingCancelledError):
            await attempt

    world.play(scenario())
