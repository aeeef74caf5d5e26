"""A service of one's own, tested with Twisted's ``MemoryReactorClock``: no socket, no sleep.

The greeter says hello and good-bye after a minute. It takes its limits from netsvc: a caller that does not read
costs a bounded amount, and every close ends.

    pytest test_greeter.py
"""

from __future__ import annotations

from twisted.internet.address import IPv4Address
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from netsvc import StreamFactory, StreamProtocol


class Greeter(StreamProtocol):
    """Greets a caller, who has a minute."""

    _minute: IDelayedCall | None = None

    def opened(self) -> None:
        self.send(f"hello {self.peer}\n".encode())
        self._minute = self.factory.clock.callLater(60, self.farewell)

    def farewell(self) -> None:
        self.send(b"good-bye\n")
        self.finish()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._minute is not None and self._minute.active():
            self._minute.cancel()
        super().connectionLost(reason)


class GreeterFactory(StreamFactory):
    """Greets everybody."""

    def connection(self) -> Greeter:
        return Greeter()


def test_a_caller_is_greeted_and_dismissed_after_a_minute() -> None:
    reactor = MemoryReactorClock()
    TCP4ServerEndpoint(reactor, 2000).listen(GreeterFactory(reactor))
    _, factory, _, _ = reactor.tcpServers[0]
    address = IPv4Address("TCP", "192.0.2.1", 4000)
    protocol = factory.buildProtocol(address)
    assert protocol is not None
    transport = StringTransport(peerAddress=address)

    protocol.makeConnection(transport)
    assert transport.value() == b"hello 192.0.2.1:4000\n"

    reactor.advance(59)
    assert not transport.disconnecting
    reactor.advance(1)
    assert transport.value().endswith(b"good-bye\n")
    assert transport.disconnecting
