from __future__ import annotations

import socket
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import error, reactor  # noqa: TID251  real sockets, where the system has a say
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IHostnameResolver, IHostResolution, IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from zope.interface import implementer

from netsvc import TimestampProtocol, ask_timestamp
from netsvc.net.datagram_protocol import listen_for, resolve
from netsvc.talk import DatagramConversation
from netsvc.timestamp.format import is_stamped
from tests.memory_reactor import MemoryReactor
from tests.programs import listening, port_of

SECONDS = 10


@implementer(IHostnameResolver, IHostResolution)
class Names:
    """Knows some names."""

    name = ""

    def __init__(self, **names: list[str]) -> None:
        self._names = names

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: object = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        resolutionReceiver.resolutionBegan(self)
        for address in self._names.get(hostName, []):
            kind = IPv6Address if ":" in address else IPv4Address
            resolutionReceiver.addressResolved(kind("UDP", address, 0))
        resolutionReceiver.resolutionComplete()
        return self

    def cancel(self) -> None: ...


def reactor_with(**names: list[str]) -> MemoryReactor:
    memory = MemoryReactor()
    memory.installNameResolver(Names(**names))
    return memory


def test_a_name_has_its_addresses_once_each_in_the_resolvers_order() -> None:
    found: list[list[str]] = []
    resolve(reactor_with(host=["192.0.2.1", "::1", "192.0.2.1"]), "host").addCallback(found.append)
    assert found == [["192.0.2.1", "::1"]]


def test_an_address_is_its_own_address() -> None:
    found: list[list[str]] = []
    resolve(MemoryReactorClock(), "::1").addCallback(found.append)
    assert found == [["::1"]]


def test_an_unknown_name_fails() -> None:
    failed: list[Failure] = []
    resolve(reactor_with(), "host").addErrback(failed.append)
    assert failed[0].check(error.DNSLookupError)


def test_the_addresses_of_a_name_are_asked_one_after_another_until_one_answers() -> None:
    memory = reactor_with(host=["127.0.0.1", "::1"])
    memory.listenUDP(5200, TimestampProtocol(memory), interface="::")
    answers: list[Any] = []
    Deferred.fromCoroutine(ask_timestamp(memory, "host", 5200, b"x", timeout=1, tries=1)).addCallback(answers.append)
    memory.pump([0.0, 1.0, 0.0, 0.0, 0.0])
    assert [answer.payload for answer in answers] == [b"x"]


@ensureDeferred
async def test_a_refusal_by_the_system_is_a_refusal_whatever_the_reactor_makes_of_it() -> None:
    with listening(socket.SOCK_DGRAM) as gone:
        port = port_of(gone)
    with pytest.raises(error.ConnectionRefusedError):
        await Deferred.fromCoroutine(ask_timestamp(reactor, "127.0.0.1", port, b"x")).addTimeout(SECONDS, reactor)
    talk = DatagramConversation(reactor, print, partner=("127.0.0.1", port))
    listen_for(reactor, talk, "127.0.0.1")
    talk.say(b"anybody?")
    with pytest.raises(error.ConnectionRefusedError):
        await talk.ended.addTimeout(SECONDS, reactor)


@ensureDeferred
async def test_a_real_port_takes_so_many_datagrams_in_a_turn_and_no_more() -> None:
    server = TimestampProtocol(reactor)
    port = listen_for(reactor, server, "127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", port.getHost().port))  # type: ignore[attr-defined]
        for _ in range(100):
            client.send(b"")
        turns = []
        while server.counts.replies < 100:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)
            await turn
            turns.append(server.counts.replies)
        assert 64 in turns
        client.settimeout(SECONDS)
        assert is_stamped(client.recv(100))
    await maybeDeferred(port.stopListening)
