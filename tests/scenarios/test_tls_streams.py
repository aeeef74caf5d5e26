"""Scenarios with TLS. Lean TLS and Twisted's own give the same events in the same order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme
from cryptography.hazmat.bindings.openssl.binding import Binding
from twisted.internet import ssl
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import SSL4ServerEndpoint, TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import ClientFactory, Factory
from twisted.protocols import tls
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python import log

from netsvc.reactor.lean_tls import LeanTLS
from tests.scenarios.environments import Environment
from tests.scenarios.protocols import RecordingProtocol, Writer

Connect = Callable[[Environment, RecordingProtocol, RecordingProtocol], Awaitable[None]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> ssl.PrivateCertificate:
    pem = authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
    loaded: ssl.PrivateCertificate = ssl.PrivateCertificate.loadPEM(pem)
    return loaded


@pytest.fixture(params=["ssl", "startTLS"])
def connect(
    request: pytest.FixtureRequest,
    environment: Environment,
    authority: trustme.CA,
    certificate: ssl.PrivateCertificate,
    monkeypatch: pytest.MonkeyPatch,
) -> Connect:
    """A function that connects two protocols with TLS."""
    # Twisted's TLS asks the global reactor for the time, which does not run here.
    monkeypatch.setattr(tls, "_get_default_clock", lambda: environment.server)
    trust = ssl.Certificate.loadPEM(authority.cert_pem.bytes())
    client_options = ssl.optionsForClientTLS("localhost", trustRoot=trust)
    server_options = certificate.options()

    async def connect(environment: Environment, server: RecordingProtocol, client: RecordingProtocol) -> None:
        factory: Factory[Any] = Factory.forProtocol(lambda: server)
        factory.noisy = False
        endpoint = SSL4ServerEndpoint(environment.server, 0, server_options, interface=environment.address)
        if request.param == "startTLS":
            opened = environment.server.listenTCP(0, factory, interface=environment.address)
        else:
            opened = await endpoint.listen(factory)
        port = environment.close_at_end(opened)
        plain = TCP4ClientEndpoint(environment.client, environment.address, port)
        if request.param == "endpoints":
            await connectProtocol(wrapClientTLS(client_options, plain), client)
            await server.happened("connected")
        elif request.param == "ssl":
            connecting: Any = ClientFactory.forProtocol(lambda: client)
            connecting.noisy = False
            environment.client.connectSSL(environment.address, port, connecting, client_options)
            await client.happened("connected")
            await server.happened("connected")
        else:
            await connectProtocol(plain, client)
            await server.happened("connected")
            server.transport.startTLS(server_options)
            client.transport.startTLS(client_options)

    return connect


def tls_of(protocol: RecordingProtocol) -> TLSMemoryBIOProtocol:
    """Return the TLS connection of a protocol: its transport, or the protocol of its transport after startTLS."""
    transport = protocol.transport
    found = transport if isinstance(transport, TLSMemoryBIOProtocol) else transport.protocol
    assert isinstance(found, TLSMemoryBIOProtocol)
    return found


async def finish_handshake(sender: RecordingProtocol, receiver: RecordingProtocol) -> None:
    """Send a byte, which arrives when the handshake is done."""
    sender.transport.write(b"x")
    await receiver.has_received(1)


class Producer(RecordingProtocol):
    """A producer that ignores its consumer."""

    def resumeProducing(self) -> None: ...

    def pauseProducing(self) -> None: ...

    def stopProducing(self) -> None: ...


async def close(client: RecordingProtocol, server: RecordingProtocol) -> None:
    client.transport.loseConnection()
    await client.lost
    await server.lost


@pytest.mark.parametrize("connect", ["ssl", "startTLS", "endpoints"], indirect=True)
def test_the_fast_reactors_use_lean_tls(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        is_fast = environment.kind == "native"
        assert (type(tls_of(server)) is LeanTLS, type(tls_of(client)) is LeanTLS) == (is_fast, is_fast)
        await finish_handshake(client, server)
        await close(client, server)

    environment.run(scenario())


def test_bytes_arrive_in_order_in_both_directions(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        for word in (b"one ", b"", b"two ", b"three"):
            client.transport.write(word)
            server.transport.writeSequence([word.upper(), b""])
        await server.has_received(13)
        await client.has_received(13)
        for word in (b"four", b"five"):
            client.transport.write(word)
            await server.has_received(len(server.received) + 4)
        assert (bytes(server.received), bytes(client.received)) == (b"one two threefourfive", b"ONE TWO THREE")
        await close(client, server)
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_bytes_written_before_closing_arrive(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        await finish_handshake(client, server)
        client.transport.write(b"x" * environment.big)
        client.transport.write(b"y")
        client.transport.loseConnection()
        client.transport.write(b"dropped")
        await server.lost
        await client.lost
        assert server.received == b"x" * (environment.big + 1) + b"y"
        assert server.events == client.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


def test_big_transfers_in_both_directions_at_once_arrive_completely(environment: Environment, connect: Connect) -> None:
    size = environment.big
    data = bytes(range(256)) * (size // 256)

    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        for start in range(0, size, 1_000):
            server.transport.write(data[start : start + 1_000])
        client.transport.write(data)
        await server.has_received(size)
        await client.has_received(size)
        assert server.received == client.received == data
        await close(client, server)

    environment.run(scenario())


def test_a_paused_reader_pauses_the_writer_and_loses_nothing(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), Writer(10 * environment.big)
        await connect(environment, server, client)
        await finish_handshake(server, client)
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


def test_bytes_of_a_producer_that_has_closed_arrive(environment: Environment, connect: Connect) -> None:
    """A connection that is told to close waits for its producer."""

    async def scenario() -> None:
        server, client = RecordingProtocol(), Producer()
        await connect(environment, server, client)
        await finish_handshake(server, client)
        client.transport.registerProducer(client, True)
        client.transport.write(b"first ")
        client.transport.loseConnection()
        client.transport.write(b"second ")
        await server.has_received(13)
        client.transport.write(b"third")
        client.transport.unregisterProducer()
        await server.lost
        await client.lost
        if environment.kind == "native":  # Twisted's TLS has dropped the rest
            assert server.received == b"first second third"
        else:
            assert server.received.startswith(b"first second ")

    environment.run(scenario())


def test_a_protocol_that_aborts_receives_nothing_more(environment: Environment, connect: Connect) -> None:
    class Aborting(RecordingProtocol):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            if len(self.received) > 1:
                self.record("received")
                tls_of(self).abortConnection()

    async def scenario() -> None:
        server, client = Aborting(), RecordingProtocol()
        await connect(environment, server, client)
        await finish_handshake(client, server)
        client.transport.write(b"y" * 64_000)  # several records
        await server.lost
        await client.lost
        assert server.events == ["connected", "received", "lost: ConnectionLost"]

    environment.run(scenario())


def test_aborting_loses_the_connection(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        await finish_handshake(client, server)
        server.transport.write(b"not sent")
        server.transport.abortConnection()
        await server.lost
        await client.lost
        assert server.events == ["connected", "lost: ConnectionLost"]
        assert client.events == ["connected", "lost: ConnectionLost"]

    environment.run(scenario())


def test_the_end_of_the_stream_without_that_of_tls_is_a_lost_connection(
    environment: Environment, connect: Connect
) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        await finish_handshake(client, server)
        under: Any = tls_of(client).transport
        under.loseConnection()
        await server.lost
        await client.lost
        assert server.events == ["connected", "lost: ConnectionLost"]

    environment.run(scenario())


def test_a_record_that_was_changed_on_its_way_ends_the_connection(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        await finish_handshake(client, server)
        under: Any = tls_of(client).transport
        under.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        await server.lost
        await client.lost
        assert server.events == ["connected", "lost: Error"]
        assert server.received == b"x"

    environment.run(scenario())


@pytest.mark.logs_failure("ZeroDivisionError")
def test_an_exception_in_data_received_closes_the_connection(environment: Environment, connect: Connect) -> None:
    class FailingProtocol(RecordingProtocol):
        def dataReceived(self, data: bytes) -> None:
            raise ZeroDivisionError

    async def scenario() -> None:
        server, client = FailingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        client.transport.write(b"x")
        await server.lost
        await client.lost
        assert server.events == ["connected", "lost: ConnectionLost"]

    environment.run(scenario())


def test_text_cannot_be_written(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        with pytest.raises(TypeError):
            client.transport.write("text")
        client.transport.write(bytearray(b"mutable"))
        await server.has_received(7)
        await close(client, server)
        client.transport.write(b"nothing happens")

    environment.run(scenario())


def test_a_protocol_can_close_in_the_middle_of_what_it_receives(environment: Environment, connect: Connect) -> None:
    class Closing(RecordingProtocol):
        def dataReceived(self, data: bytes) -> None:
            super().dataReceived(data)
            self.transport.write(b"bye")
            self.transport.loseConnection()

    async def scenario() -> None:
        server, client = Closing(), RecordingProtocol()
        await connect(environment, server, client)
        client.transport.write(b"x" * 100_000)
        await server.lost
        await client.lost
        assert client.received == b"bye"

    environment.run(scenario())


def test_a_pause_between_handshake_and_first_bytes_loses_nothing(environment: Environment, connect: Connect) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), RecordingProtocol()
        await connect(environment, server, client)
        resumed: Deferred[None] = Deferred()
        server.transport.pauseProducing()
        client.transport.write(b"hello")
        environment.server.callLater(0.01, resumed.callback, None)
        await resumed
        server.transport.resumeProducing()
        await server.has_received(5)
        await close(client, server)

    environment.run(scenario())


def test_what_a_producer_writes_when_it_is_resumed_is_sent_at_once(environment: Environment, connect: Connect) -> None:
    """No other event wakes the reactor then."""

    class Resumed(Producer):
        paused = False

        def pauseProducing(self) -> None:
            self.paused = True

        def resumeProducing(self) -> None:
            if self.paused:
                self.paused = False
                self.transport.write(b"the last")
                self.transport.unregisterProducer()

    async def scenario() -> None:
        server, client = RecordingProtocol(), Resumed()
        await connect(environment, server, client)
        await finish_handshake(server, client)
        client.transport.registerProducer(client, True)
        written = 0
        while not client.paused:
            client.transport.write(b"x" * 70_000)
            written += 70_000
        await server.has_received(written + 8)
        await close(client, server)

    environment.run(scenario())


class Closing(Producer):
    """A producer that closes the connection when it is paused, after some last bytes.

    :param last: the bytes. Twisted's own TLS would drop them.
    """

    def __init__(self, last: bytes) -> None:
        super().__init__()
        self._last = last

    def pauseProducing(self) -> None:
        if self._last:
            self.transport.write(self._last)
        self.transport.unregisterProducer()
        self.transport.loseConnection()


async def write_until_closed(client: Closing, server: RecordingProtocol) -> None:
    """Write so much that the transport pauses the producer, and wait until both sides are closed."""
    await finish_handshake(server, client)
    client.transport.registerProducer(client, True)
    client.transport.write(b"x" * 1_000_000)
    await client.lost
    await server.lost


@pytest.mark.parametrize("environment", ["native", "native-uvloop"], indirect=True)  # Twisted's own TLS drops some
def test_all_bytes_of_a_producer_that_closes_when_it_is_paused_arrive_in_order(
    environment: Environment, connect: Connect
) -> None:
    async def scenario() -> None:
        server, client = RecordingProtocol(), Closing(b"the last")
        await connect(environment, server, client)
        await write_until_closed(client, server)
        assert server.received == b"x" * 1_000_000 + b"the last"
        assert client.events == server.events == ["connected", "lost: ConnectionDone"]

    environment.run(scenario())


@pytest.mark.logs_failure("ZeroDivisionError")
def test_tls_goes_on_after_an_exception_of_a_producer_that_is_paused(
    environment: Environment, connect: Connect
) -> None:
    class Failing(Producer):
        failed = False

        def pauseProducing(self) -> None:
            if not self.failed:
                self.failed = True
                raise ZeroDivisionError

    async def scenario() -> None:
        server, client = RecordingProtocol(), Failing()
        await connect(environment, server, client)
        await finish_handshake(server, client)
        client.transport.registerProducer(client, True)
        written = 0
        while not client.failed:
            try:
                client.transport.write(b"x" * 200_000)
            except ZeroDivisionError:
                log.err()
            written += 200_000
            await environment.wait_briefly()
        client.transport.write(b"small")
        await server.until(lambda: server.received.endswith(b"small"))
        if environment.kind == "native":  # Twisted's own TLS has lost the rest of what was written before
            assert len(server.received) == written + 5
        client.transport.unregisterProducer()
        await close(client, server)

    environment.run(scenario())


def test_a_producer_that_closes_when_it_is_paused_leaves_no_error_to_other_connections(
    environment: Environment, connect: Connect
) -> None:
    """OpenSSL keeps errors in a queue of the thread. It would report one that is left there for any connection."""

    async def scenario() -> None:
        server, client = RecordingProtocol(), Closing(b"")
        await connect(environment, server, client)
        await write_until_closed(client, server)
        assert Binding.lib.ERR_peek_error() == 0

    environment.run(scenario())
