"""A service of your own with netsvc's limits, tested on the simulated network: without a socket and without a sleep.

The greeter says hello, and goodbye after a minute. A peer that does not read costs a bounded amount, and every
connection ends, because the base class takes care of that.

    pytest test_greeter.py
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc import StreamFactory, StreamProtocol, StreamService, Terms
from netsvc.testing import Network


class Greeter(StreamProtocol):
    """Greets a peer, which has one minute."""

    _goodbye: IDelayedCall | None = None

    def connection_ready(self) -> None:
        self.send(f"hello {self.peer}\n".encode())
        self._goodbye = self.terms.clock.callLater(60, self.say_goodbye)

    def received(self, data: bytes) -> None:
        """Ignore what the peer sends."""

    def say_goodbye(self) -> None:
        self.send(b"goodbye\n")
        self.finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._goodbye is not None and self._goodbye.active():
            self._goodbye.cancel()
        super().connectionLost(reason)


class GreeterFactory(StreamFactory):
    """Greets every peer."""

    def build_connection(self) -> Greeter:
        return Greeter()


class Client(Protocol):
    """Keeps what it receives."""

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.closed: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.closed.callback(None)


def test_a_peer_is_greeted_and_closed_after_a_minute(network: Network) -> None:
    server, client = network.host("server"), network.host("client", "10.0.0.7")
    StreamService(server.reactor, ["2000"], GreeterFactory(Terms.on(server.reactor))).startService()
    peer = network.run(connectProtocol(HostnameEndpoint(client.reactor, "server", 2000), Client()))
    network.advance(59)
    assert peer.received.startswith(b"hello 10.0.0.7:")
    assert not peer.closed.called
    network.run(peer.closed)
    assert peer.received.endswith(b"goodbye\n")
    assert 60 <= network.now < 62
