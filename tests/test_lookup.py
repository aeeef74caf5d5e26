from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

from netsvc.cli.lookup import look_up
from netsvc.cli.name_service import (
    address_kind,
    addresses_of,
    host_addresses,
    host_name,
    names_of,
    ports_of,
    services_of,
)

needs_services = pytest.mark.skipif(not Path("/etc/services").exists(), reason="this host has no services file")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("10.1.2.3", "private"),
        ("192.168.1.1", "private"),
        ("fd00::1", "private"),
        ("169.254.1.1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("0.0.0.0", "unspecified"),
        ("::", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("100.64.0.1", "reserved"),
        ("8.8.8.8", "public"),
        ("2606:4700::1", "public"),
    ],
)
def test_the_kind_of_an_address(address: str, kind: str) -> None:
    assert address_kind(address) == kind


def test_this_host_has_a_name_and_a_loopback_address() -> None:
    assert host_name() == socket.gethostname()
    addresses = host_addresses()
    assert "127.0.0.1" in addresses
    assert len(set(addresses)) == len(addresses)
    for address in addresses:
        ipaddress.ip_address(address)


def test_names_and_addresses_are_looked_up_in_both_directions() -> None:
    assert "127.0.0.1" in addresses_of("localhost")
    assert "localhost" in names_of("127.0.0.1")


@needs_services
def test_services_and_ports_are_looked_up_in_both_directions() -> None:
    assert ports_of("https")[0] == "443/tcp"
    assert "https/tcp" in services_of(443)


@pytest.mark.parametrize("name", ["nosuchhost.invalid", "", "x" * 300, "a..b", "\udc80"])
def test_an_unknown_name_has_no_results(name: str) -> None:
    assert addresses_of(name) == []
    assert ports_of(name) == []
    assert look_up(name) == []


def test_a_number_that_is_not_a_port_has_no_results() -> None:
    assert look_up("99999") == []
    assert look_up("9" * 5000) == []
    assert names_of("not an address") == []
