from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IHostnameResolver, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from netsvc.net.host_names import AddressFamilyError, resolve
from netsvc.net.name_resolver import NameResolver, ascii_name
from netsvc.testing import Network

[LOOPBACK] = [number for number, name in socket.if_nameindex() if name == "lo"]


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("localhost", "localhost"),
        ("example.org.", "example.org."),
        ("my_host", "my_host"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),  # by IDNA 2003: strasse.example, another host
        ("_sip._tcp.bücher.example", "_sip._tcp.xn--bcher-kva.example"),
        ("例え。jp", "xn--r8jz45g.jp"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_a_host_name_is_encoded_as_browsers_do(name: str, encoded: str) -> None:
    assert ascii_name(name) == encoded


@pytest.mark.parametrize("name", ["a..b", "x" * 64, "ü" * 64, "☃.example", "\udc80", "."])
def test_a_text_that_is_no_host_name_is_refused(name: str) -> None:
    with pytest.raises(UnicodeError):
        ascii_name(name)


@implementer(IHostnameResolver)
class Scoped:
    """A resolver that knows one host, whose address has a scope."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        self.asked.append(hostName)
        resolutionReceiver.addressResolved(IPv6Address("TCP", "fe80::1", portNumber, 0, LOOPBACK))
        resolutionReceiver.addressResolved(IPv4Address("TCP", "192.0.2.1", portNumber))
        resolutionReceiver.resolutionComplete()
        resolution: IHostResolution = object()  # type: ignore[assignment]
        return resolution


@implementer(IResolutionReceiver)
class Receiver:
    def __init__(self) -> None:
        self.began = self.complete = False
        self.hosts: list[str] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self.began = True
        resolutionInProgress.cancel()

    def addressResolved(self, address: IAddress) -> None:
        self.hosts.append(address.host)  # type: ignore[attr-defined]

    def resolutionComplete(self) -> None:
        self.complete = True


def test_a_resolved_address_keeps_its_zone() -> None:
    resolver, receiver = Scoped(), Receiver()
    NameResolver(resolver).resolveHostName(receiver, "bücher", 9)
    assert receiver.hosts == ["fe80::1%lo", "192.0.2.1"]
    assert resolver.asked == ["xn--bcher-kva"]


def test_a_text_that_is_no_host_name_has_no_address_and_nobody_is_asked() -> None:
    resolver, receiver = Scoped(), Receiver()
    NameResolver(resolver).resolveHostName(receiver, "a..b")
    assert (receiver.began, receiver.complete, receiver.hosts, resolver.asked) == (True, True, [], [])


def test_one_family_of_addresses_can_be_asked_for(network: Network) -> None:
    host = network.host("host")
    network.name("name", "192.0.2.1", "fd00::9")
    assert network.run(resolve(host.reactor, "name", socket.AF_INET6)) == ["fd00::9"]
    assert network.run(resolve(host.reactor, "name", socket.AF_INET)) == ["192.0.2.1"]
    assert network.run(resolve(host.reactor, "fd00::9", socket.AF_INET6)) == ["fd00::9"]


def test_a_host_without_an_address_of_the_family_is_told_from_an_unknown_one(network: Network) -> None:
    host = network.host("host")
    network.name("name", "192.0.2.1")
    for name in ("name", "192.0.2.1"):
        with pytest.raises(AddressFamilyError, match=f"^{name}: no IPv6 address$"):
            network.run(resolve(host.reactor, name, socket.AF_INET6))
