"""Stream connections of the server over TLS. The client is Python's own TLS."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
import trustme
from pytest_twisted import ensureDeferred
from twisted.internet import reactor  # noqa: TID251  real sockets
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from netsvc.net.listening import stream_listener
from netsvc.net.stream_factory import StreamFactory
from netsvc.net.stream_protocol import StreamProtocol
from tests.connections import terms

SECONDS = 10
LOT = b"x" * 200_000


class Flooder(StreamProtocol):
    """Sends a lot of data for each request."""

    def received(self, data: bytes) -> None:
        for start in range(0, len(LOT), 1000):
            self.send(LOT[start : start + 1000])

    def connectionLost(self, reason: Failure | None = None) -> None:
        super().connectionLost()
        assert isinstance(self.factory, FlooderFactory)
        self.factory.lost.callback(None)


class FlooderFactory(StreamFactory):
    def __init__(self, **limits: float) -> None:
        super().__init__(terms(reactor, **limits))
        self.lost: Deferred[None] = Deferred()

    def build_connection(self) -> Flooder:
        return Flooder()


class Client:
    """A TLS client that reads and closes on request."""

    def __init__(self, port: int, certificate: Path) -> None:
        context = ssl.create_default_context(cafile=str(certificate))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.read = b""

    def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                self.incoming.write(self.socket.recv(1000))
            else:
                self.socket.sendall(self.outgoing.read())
                return

    def ask_and_end(self) -> None:
        """Send a request and close_notify in one piece, and read nothing."""
        self.tls.write(b"go on")
        with pytest.raises(ssl.SSLError):
            self.tls.unwrap()
        self.socket.sendall(self.outgoing.read())

    def read_all(self) -> int:
        """Read to the end and return the number of encrypted bytes."""
        count = 0
        while data := self.socket.recv(10_000):
            count += len(data)
        self.socket.close()
        return count


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(directory / "key.pem"))
    return directory


@ensureDeferred
async def test_a_peer_that_closes_tls_is_closed_once_it_has_read_its_queue(key: Path) -> None:
    factory = FlooderFactory(stall_timeout=0, close_timeout=0)  # no deadline ends the connection
    listener = stream_listener(reactor, "t", f"ssl:0:interface=127.0.0.1:privateKey={key}/key.pem", factory)
    listener.startService()
    client = Client(int(listener.where().rpartition(":")[2]), key / "ca.pem")
    await deferToThread(client.shake_hands).addTimeout(SECONDS, reactor)
    await deferToThread(client.ask_and_end).addTimeout(SECONDS, reactor)
    read = await deferToThread(client.read_all).addTimeout(SECONDS, reactor)
    await factory.lost.addTimeout(SECONDS, reactor)
    assert read > 65_536
    await listener.stopService().addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_a_peer_that_stops_during_the_handshake_is_sent_nothing_and_is_closed_with_the_server(key: Path) -> None:
    factory = FlooderFactory()
    listener = stream_listener(reactor, "t", f"ssl:0:interface=127.0.0.1:privateKey={key}/key.pem", factory)
    listener.startService()
    client = Client(int(listener.where().rpartition(":")[2]), key / "ca.pem")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.socket.sendall(client.outgoing.read()[:100])
    while not factory.connections:
        iteration: Deferred[None] = Deferred()
        reactor.callLater(0, iteration.callback, None)
        await iteration
    [connection] = factory.connections
    assert not connection.output_blocked
    assert connection.terms.counters.sent_bytes == 0
    await listener.stopService().addTimeout(SECONDS, reactor)
    await factory.drain(1.0).addTimeout(SECONDS, reactor)
    await factory.lost
    client.socket.close()
