from __future__ import annotations

import pytest
from twisted.internet.error import DNSLookupError

from netsvc.net.host_names import resolve
from netsvc.testing import Network


def test_a_name_has_each_of_its_addresses_once_in_the_resolvers_order(network: Network) -> None:
    host = network.host("host")
    network.name("name", "192.0.2.1", "fd00::9", "192.0.2.1")
    assert network.run(resolve(host.reactor, "name")) == ["192.0.2.1", "fd00::9"]


def test_an_address_is_its_own_address(network: Network) -> None:
    assert network.run(resolve(network.host("host").reactor, "::1")) == ["::1"]


def test_an_unknown_name_fails(network: Network) -> None:
    with pytest.raises(DNSLookupError):
        network.run(resolve(network.host("host").reactor, "unknown"))
