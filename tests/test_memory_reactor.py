from __future__ import annotations

import pytest
from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.interfaces import IListeningPort, IReactorTCP, IReactorTime, IReactorUDP, IUDPTransport
from twisted.internet.protocol import ConnectedDatagramProtocol, DatagramProtocol
from zope.interface.verify import verifyObject

from tests.memory_reactor import MemoryReactor


class Recorder(DatagramProtocol):
    def __init__(self) -> None:
        self.received: list[tuple[bytes, object]] = []
        self.refused = 0

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        self.received.append((datagram, addr))

    def connectionRefused(self) -> None:
        self.refused += 1


@pytest.fixture
def reactor() -> MemoryReactor:
    return MemoryReactor()


def test_it_provides_what_it_says(reactor: MemoryReactor) -> None:
    for interface in (IReactorUDP, IReactorTCP, IReactorTime):
        verifyObject(interface, reactor)
    port = reactor.listenUDP(0, Recorder())
    verifyObject(IListeningPort, port)
    verifyObject(IUDPTransport, port)


@pytest.mark.parametrize(("interface", "loopback"), [("", "127.0.0.1"), ("::", "::1")])
def test_a_datagram_goes_from_port_to_port_in_the_next_turn(
    reactor: MemoryReactor, interface: str, loopback: str
) -> None:
    recorder = Recorder()
    reactor.listenUDP(7, recorder, interface)
    sender = reactor.listenUDP(0, Recorder(), interface)
    sender.write(b"hello", (loopback, 7))
    assert recorder.received == []
    reactor.advance(0)
    assert recorder.received == [(b"hello", (loopback, sender.getHost().port))]


def test_what_is_sent_to_nobody_is_kept_and_goes_nowhere(reactor: MemoryReactor) -> None:
    sender = reactor.listenUDP(0, Recorder())
    sender.write(b"hello", ("192.0.2.1", 7))
    sender.write(b"hello", ("127.0.0.1", 7))
    reactor.advance(0)
    assert len(sender.sent) == 2


def test_a_number_that_is_taken_is_refused(reactor: MemoryReactor) -> None:
    reactor.listenUDP(7, Recorder())
    with pytest.raises(CannotListenError):
        reactor.listenUDP(7, Recorder())


def test_a_port_that_closed_is_free_and_hears_nothing(reactor: MemoryReactor) -> None:
    recorder = Recorder()
    port = reactor.listenUDP(7, recorder)
    closed = port.stopListening()
    port.deliver(b"late", ("192.0.2.1", 1))
    reactor.advance(0)
    assert closed is not None
    assert closed.called
    assert port.stopListening() is None
    assert recorder.received == []
    assert recorder.transport is None
    reactor.listenUDP(7, recorder)


def test_a_connected_port_hears_its_peer_only_and_of_its_refusal(reactor: MemoryReactor) -> None:
    recorder = Recorder()
    port = reactor.listenUDP(0, recorder)
    port.connect("127.0.0.1", 7)
    port.deliver(b"stranger", ("192.0.2.1", 7))
    port.deliver(b"peer", ("127.0.0.1", 7))
    assert recorder.received == [(b"peer", ("127.0.0.1", 7))]
    port.write(b"anybody?")
    reactor.advance(0)
    assert recorder.refused == 1
    with pytest.raises(RuntimeError):
        port.connect("127.0.0.1", 8)


def test_a_long_datagram_is_cut_as_twisted_cuts_it(reactor: MemoryReactor) -> None:
    recorder = Recorder()
    reactor.listenUDP(7, recorder, maxPacketSize=4).deliver(b"hello", ("192.0.2.1", 1))
    assert recorder.received == [(b"hell", ("192.0.2.1", 1))]


def test_what_no_socket_would_do_is_refused_at_the_call(reactor: MemoryReactor) -> None:
    port = reactor.listenUDP(0, ConnectedDatagramProtocol())
    with pytest.raises(MessageLengthError):
        port.write(b"x" * 65_508, ("127.0.0.1", 7))
    with pytest.raises(ValueError, match="IP address"):
        port.write(b"x", ("localhost", 7))
    with pytest.raises(ValueError, match="IP address"):
        port.write(b"x")
    with pytest.raises(ValueError, match="IP address"):
        port.connect("localhost", 7)
    with pytest.raises(ValueError, match="connected port"):
        port.refuse()


def test_broadcast_is_a_setting(reactor: MemoryReactor) -> None:
    port = reactor.listenUDP(0, Recorder())
    assert not port.getBroadcastAllowed()
    port.setBroadcastAllowed(True)
    assert port.getBroadcastAllowed()
