"""Scenarios with streams. Simulated and real networks give the same events in the same order."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import Any

import pytest
from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from netsvc.net.shared_ports import SharedPorts
from tests.scenarios.environments import Environment
from tests.scenarios.protocols import HalfCloseProtocol, RecordingProtocol, Writer, connect_pair


def test_connecting_to_a_closed_port_is_refused(environment: Environment) -> None:
    async def scenario() -> None:
        endpoint = TCP4ClientEndpoint(environment.client, environment.address, environment.free_port())
        with pytest.raises(error.ConnectionRefusedError):
            await connectProtocol(endpoint, RecordingProtocol())

    environment.run(scenario())


def test_both_sides_report_the_addresses_of_both_sides(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        assert client.transport.getPeer() == server.transport.getHost()
        assert server.transport.getPeer() == client.transport.getHost()
        assert client.transport.getPeer().host == environment.address
        client.transport.loseConnection()
        await server.lost
        await client.lost

    environment.run(scenario())


def test_bytes_arrive_in_order_in_both_directions(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        for word in (b"one ", b"", b"two ", b"three"):
            client.transport.write(word)
            server.transport.write(word.upper())
        await server.has_received(13)
        await client.has_received(13)
        assert (bytes(server.received), bytes(client.received)) == (b"one two three", b"ONE TWO THREE")
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_bytes_written_before_closing_arrive(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        client.transport.write(b"x" * environment.big)
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.received == b"x" * environment.big
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_both_sides_can_close_at_the_same_time(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        client.transport.loseConnection()
        server.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_the_server_can_close_first(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        server.transport.loseConnection()
        await client.lost
        await server.lost
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_a_side_that_has_half_closed_still_receives(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = HalfCloseProtocol(), HalfCloseProtocol()
        await connect_pair(environment, server, client)
        client.transport.write(b"question")
        client.transport.loseWriteConnection()
        await server.happened("read closed")
        assert server.received == b"question"
        server.transport.write(b"answer")
        server.transport.loseConnection()
        await client.happened("read closed")
        assert client.received == b"answer"
        client.transport.loseConnection()
        await client.lost
        await server.lost
        assert client.events == ["connected", "write closed", "read closed", "lost: ConnectionDone"]
        assert server.events == ["connected", "read closed", "lost: ConnectionDone"]

    environment.run(scenario())


def test_both_sides_can_half_close(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = HalfCloseProtocol(), HalfCloseProtocol()
        await connect_pair(environment, server, client)
        client.transport.loseWriteConnection()
        await server.happened("read closed")
        server.transport.loseWriteConnection()
        await client.happened("read closed")
        client.transport.loseConnection()
        server.transport.loseConnection()
        await client.lost
        await server.lost
        # poll() reports a socket that is closed in both directions as a hang-up (POLLHUP). If a poll-like reactor
        # gets the hang-up before loseConnection is called, it reports ConnectionLost.
        assert client.events[:3] == ["connected", "write closed", "read closed"]
        assert server.events[:3] == ["connected", "read closed", "write closed"]
        assert {client.events[3], server.events[3]} <= {"lost: ConnectionDone", "lost: ConnectionLost"}

    environment.run(scenario())


def test_a_half_close_by_the_peer_closes_a_protocol_without_half_close_support(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), HalfCloseProtocol()
        await connect_pair(environment, server, client)
        client.transport.loseWriteConnection()
        await server.lost
        await client.happened("read closed")
        client.transport.loseConnection()
        await client.lost
        assert server.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_aborting_resets_the_peer(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        client.transport.abortConnection()
        await client.lost
        await server.lost
        assert client.events == ["connected", "lost: ConnectionAborted"]
        assert server.events == ["connected", "lost: ConnectionLost"]

    environment.run(scenario())


def test_bytes_that_arrived_before_a_reset_are_received(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        client.transport.write(b"last words")
        await server.has_received(10)
        client.transport.write(b", and more")
        client.transport.abortConnection()  # this drops the unsent bytes
        await server.lost
        assert server.events == ["connected", "lost: ConnectionLost"]
        assert server.received == b"last words"
        await client.lost

    environment.run(scenario())


def test_closing_a_tcp_connection_with_unread_bytes_is_clean_for_the_peer(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        server.transport.pauseProducing()
        client.transport.write(b"unread")
        second, its_client = RecordingProtocol(), RecordingProtocol()  # when they are connected, the bytes have arrived
        await connect_pair(environment, second, its_client)
        second.transport.loseConnection()
        await second.lost
        await its_client.lost
        # The kernel resets a connection that is closed with unread bytes. But Twisted's loseConnection calls shutdown
        # before close, so the peer reads the end of the stream before the reset.
        server.transport.loseConnection()
        await server.lost
        await client.lost
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_writing_to_a_closed_peer_loses_the_connection(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = HalfCloseProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        client.transport.loseConnection()
        await client.lost
        await server.happened("read closed")
        for _ in range(100):  # the first write is answered by a reset, and a later one fails
            if server.lost.called:
                break
            server.transport.write(b"anybody there?")
            waited: Deferred[None] = Deferred()
            environment.server.callLater(0.01, waited.callback, None)
            await waited
        await server.lost
        assert server.events == ["connected", "read closed", "lost: ConnectionLost"]

    environment.run(scenario())


def test_a_paused_reader_pauses_the_writer_and_loses_nothing(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), Writer(10 * environment.big)
        await connect_pair(environment, server, client)
        server.transport.pauseProducing()
        client.write_all()
        await client.happened("paused")
        assert client.written < 10 * environment.big
        server.transport.resumeProducing()
        await client.happened("all written")
        client.transport.loseConnection()
        await server.lost
        await client.lost
        assert len(server.received) == client.written
        assert client.events == ["connected", "paused", "resumed", "all written", "lost: ConnectionDone"]

    environment.run(scenario())


def test_losing_a_connection_stops_its_producer(environment: Environment) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), Writer(100 * environment.big)
        await connect_pair(environment, server, client)
        server.transport.pauseProducing()
        client.write_all()
        await client.happened("paused")
        server.transport.abortConnection()
        await client.lost
        await server.lost
        client.events.remove("resumed") if "resumed" in client.events else None  # because the kernel's buffers grew
        assert client.events == ["connected", "paused", "stopped", "lost: ConnectionLost"]

    environment.run(scenario())


def test_big_transfers_in_both_directions_at_once_arrive_completely(environment: Environment) -> None:
    size = environment.big
    data = bytes(range(256)) * (size // 256)

    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        server.transport.write(data)
        client.transport.write(data)
        await server.has_received(size)
        await client.has_received(size)
        assert server.received == client.received == data
        client.transport.loseConnection()
        await client.lost
        await server.lost

    environment.run(scenario())


@pytest.mark.logs_failure("ZeroDivisionError")
def test_an_exception_in_data_received_closes_the_connection(environment: Environment) -> None:
    class FailingProtocol(RecordingProtocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def scenario() -> None:
        server, client = FailingProtocol(), RecordingProtocol()
        await connect_pair(environment, server, client)
        client.transport.write(b"x")
        await server.lost
        await client.lost
        assert server.events == ["connected", "lost: ZeroDivisionError"]
        assert client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_a_connection_attempt_can_be_cancelled(environment: Environment) -> None:
    async def scenario() -> None:
        endpoint = TCP4ClientEndpoint(environment.client, environment.address, environment.free_port())
        attempt = connectProtocol(endpoint, RecordingProtocol())
        attempt.cancel()
        with pytest.raises(error.ConnectingCancelledError):
            await attempt

    environment.run(scenario())


def test_the_port_of_a_client_that_closed_first_can_be_bound_again_at_once_only_on_a_simulated_host(
    environment: Environment,
) -> None:
    """A real kernel keeps it for 60 s, in the state TIME_WAIT. The simulated network has no such state."""

    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        factory: Factory[Any] = Factory.forProtocol(lambda: server)
        port = environment.close_at_end(environment.server.listenTCP(0, factory, interface=environment.address))
        endpoint = TCP4ClientEndpoint(
            environment.client, environment.address, port, bindAddress=("", environment.free_port())
        )
        await connectProtocol(endpoint, client)
        client.transport.loseConnection()
        await server.lost
        await client.lost
        server = RecordingProtocol()
        if environment.kind == "simulated":
            again = await connectProtocol(endpoint, RecordingProtocol())
            again.transport.loseConnection()
            await server.lost
            await again.lost
        else:
            with pytest.raises(error.ConnectBindError):
                await connectProtocol(endpoint, RecordingProtocol())

    environment.run(scenario())


def test_ports_that_share_a_number_divide_the_connections(environment: Environment) -> None:
    """A real kernel selects the port by a hash, and a simulated host by the client's port: another division each."""

    async def scenario() -> None:
        ports = SharedPorts(environment.server)
        divided: list[list[RecordingProtocol]] = [[], []]
        number = 0
        for accepted in divided:
            factory: Factory[Any] = Factory.forProtocol(partial(recorded, accepted))
            number = environment.close_at_end(ports.listenTCP(number, factory, interface=environment.address))
        for _ in range(20):  # the chance that one port gets all of them is 1 in 500,000
            client = RecordingProtocol()
            await connectProtocol(TCP4ClientEndpoint(environment.client, environment.address, number), client)
            client.transport.loseConnection()
            await client.lost
        while sum(map(len, divided)) < 20:
            await environment.wait_briefly()
        for server in chain(*divided):
            await server.lost
        assert all(divided)

    def recorded(accepted: list[RecordingProtocol]) -> RecordingProtocol:
        accepted.append(RecordingProtocol())
        return accepted[-1]

    environment.run(scenario())
