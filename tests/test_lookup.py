"""``netsvc lookup``, beside the programs of the system that tell the same: getent and ip."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netsvc.cli.name_service import address_kind, addresses_of, host_name, name_servers, names_of
from netsvc.linux.interface_addresses import interface_addresses
from netsvc.linux.services_database import services_at, services_named
from tests.namespaces import namespace, with_hosts
from tests.programs import NETSVC, SECONDS, netsvc, running

needs_services = pytest.mark.skipif(not Path("/etc/services").exists(), reason="this host has no services file")
needs_getent = pytest.mark.skipif(shutil.which("getent") is None, reason="this host has no getent")
needs_ip = pytest.mark.skipif(shutil.which("ip") is None, reason="this host has no program ip")


def lookup(*arguments: str) -> tuple[list[dict[str, Any]], list[str], int]:
    """Return the objects that ``netsvc lookup --json`` prints, its notices, and its exit status."""
    done = netsvc("lookup", "--json", *arguments)
    objects = [json.loads(line) for line in done.stdout.decode("ascii").splitlines()]
    return objects, done.stderr.decode().removesuffix("\n").splitlines(), done.returncode


def printed(*command: str) -> list[str]:
    """Return the lines that a program prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False).stdout.splitlines()


# Addresses


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


#: An interface with addresses of every kind: a point-to-point link, a label, two in one network, and link scope.
INTERFACE = """
ip link set lo up
ip tuntap add d0 mode tun && ip link set d0 up
ip address add 10.0.0.1 peer 10.0.0.2/30 dev d0
ip address add 192.0.2.7/24 dev d0 label d0:x
ip address add 192.0.2.8/24 dev d0
ip address add 169.254.3.3/16 scope link dev d0
ip address add fe80::77/64 dev lo nodad
ip address add fd00::5 peer fd00::6/128 dev lo nodad
"""


def of_ip(lines: list[str]) -> set[tuple[str, ...]]:
    """Return interface, address, peer, prefix length and scope of each line of ``ip -o address``."""
    found = set()
    for line in lines:
        match = re.match(r"\d+: (\S+) +inet6? (\S+?)(?: peer (\S+?))?/(\d+) .*?scope (\w+)", line)
        assert match, line
        found.add(tuple(each or "" for each in match.groups()))
    return found


def of_objects(objects: list[dict[str, Any]]) -> set[tuple[str, ...]]:
    return {
        (each["interface"], each["address"], each["peer"] or "", str(each["prefix_length"]), each["scope"])
        for each in objects
    }


@needs_ip
@pytest.mark.parametrize("family", ["-4", "-6", None])
def test_the_addresses_of_this_host_are_those_of_ip(family: str | None) -> None:
    options = [family] if family else []
    [host, *addresses], notices, status = lookup(*options)
    assert (host, notices, status) == ({"type": "host", "name": socket.gethostname()}, [], 0)
    assert of_objects(addresses) == of_ip(printed("ip", "-o", *options, "address"))


@needs_ip
def test_the_addresses_of_every_kind_of_interface_are_those_of_ip() -> None:
    lines = printed(*namespace(f"{INTERFACE}\nip -o address\necho --"), *NETSVC, "lookup", "--json")
    end = lines.index("--")
    objects = [json.loads(line) for line in lines[end + 2 :]]
    assert of_objects(objects) == of_ip(lines[:end])
    assert len(objects) >= 4
    assert {each["family"] for each in objects} == {"ipv4", "ipv6"}


def test_this_host_is_described_for_people_too() -> None:
    lines = netsvc("lookup").stdout.decode().splitlines()
    assert lines[0] == f"host name: {host_name()}"
    assert "address: 127.0.0.1/8 on lo, scope host (loopback)" in lines
    assert len(lines) == 1 + len(interface_addresses())


# Names


@needs_getent
@pytest.mark.parametrize("name", ["localhost", socket.gethostname(), "ip6-localhost", "nosuchhost.invalid", "127.1"])
@pytest.mark.parametrize(("database", "option"), [("ahosts", None), ("ahostsv4", "-4")])
def test_the_addresses_of_a_name_are_those_of_getent(name: str, database: str, option: str | None) -> None:
    expected = list(dict.fromkeys(line.split()[0] for line in printed("getent", database, name)))
    objects, notices, status = lookup(*([option] if option else []), name)
    assert [each["address"] for each in objects if each["type"] == "address"] == expected
    assert (status, len(notices)) == ((0, 0) if expected else (1, 1))


@needs_getent
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "192.0.2.123", "127.0.0.77"])
def test_the_names_of_an_address_are_those_of_getent(address: str) -> None:
    expected = [name for line in printed("getent", "hosts", address)[:1] for name in line.split()[1:]]
    [first, *names], notices, status = lookup(address)
    assert (first["type"], first["address"]) == ("address", address)
    assert [each["name"] for each in names] == expected
    assert (status, notices) == ((0, []) if expected else (1, [f"netsvc: {address}: no name found"]))


def test_a_host_without_an_address_of_the_family_is_reported() -> None:
    missing = "-6" if ":" not in "".join(addresses_of("localhost")) else "-4"
    if addresses_of("localhost", socket.AF_INET6 if missing == "-6" else socket.AF_INET):
        pytest.skip("localhost has addresses of both families")
    _, notices, status = lookup(missing, "localhost")
    assert (notices, status) == ([f"netsvc: localhost: no IPv{missing[1]} address"], 1)


def test_each_subject_that_is_not_found_is_reported() -> None:
    objects, notices, status = lookup("localhost", "nosuch.invalid", "straße.invalid", "a..b", "", "99999", "8/foo")
    assert {each["subject"] for each in objects} == {"localhost"}
    assert status == 1
    assert notices == [
        "netsvc: nosuch.invalid: not found",
        "netsvc: straße.invalid: not found",
        "netsvc: a..b: not found; this is not a host name",
        "netsvc: (empty): not found; this is not a host name",
        "netsvc: 99999: no service has this port",
        "netsvc: 8/foo: no service has this port",
    ]


@pytest.mark.parametrize("name", ["nosuchhost.invalid", "", "x" * 300, "a..b", "\udc80"])
def test_an_unknown_name_has_no_addresses_and_no_services(name: str) -> None:
    assert addresses_of(name) == []
    assert services_named(name) == []


def test_a_text_that_is_no_address_has_no_names() -> None:
    assert names_of("not an address") == []


HOSTS = """
127.0.0.1 localhost
::1 localhost ip6-localhost
192.0.2.1 several first
192.0.2.2 several
2001:db8::1 several
192.0.2.3 my_host with-a-dot. xn--bcher-kva.example xn--strae-oqa.example
192.0.2.4 strasse.example
"""


@needs_getent
@pytest.mark.parametrize(
    ("subject", "known_as"),
    [
        ("localhost", "localhost"),
        ("several", "several"),
        ("my_host", "my_host"),
        ("with-a-dot.", "with-a-dot."),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
    ],
)
def test_the_addresses_of_a_name_come_in_the_order_of_getent(tmp_path: Path, subject: str, known_as: str) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    place = with_hosts(hosts)
    for database, options in (("ahosts", []), ("ahostsv4", ["-4"])):
        expected = list(dict.fromkeys(line.split()[0] for line in printed(*place, "getent", database, known_as)))
        assert expected
        lines = printed(*place, *NETSVC, "lookup", "--json", *options, subject)
        assert [json.loads(line)["address"] for line in lines] == expected


@needs_getent
def test_all_names_of_an_address_are_those_of_getent(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(HOSTS)
    place = with_hosts(hosts)
    expected = [word for line in printed(*place, "getent", "hosts", "192.0.2.3") for word in line.split()[1:]]
    _, *names = [json.loads(line) for line in printed(*place, *NETSVC, "lookup", "--json", "192.0.2.3")]
    assert [each["name"] for each in names] == expected
    assert len(names) == 4


# Services


def of_getent(line: str) -> tuple[str, int, str, list[str]]:
    """Return name, port, protocol and aliases of a line of ``getent services``."""
    name, port, *aliases = line.split()
    number, _, protocol = port.partition("/")
    return name, int(number), protocol, aliases


@needs_getent
@needs_services
@pytest.mark.parametrize("subject", ["https", "www", "domain", "amqp", "443", "53", "5672", "1", "ntp", "60001"])
def test_the_services_of_a_name_or_a_port_are_those_of_getent(subject: str) -> None:
    protocols = ("tcp", "udp", "sctp", "dccp")
    expected = [of_getent(line) for each in protocols for line in printed("getent", "services", f"{subject}/{each}")]
    objects, _, status = lookup(subject)
    services = [each for each in objects if each["type"] == "service"]
    assert [(each["service"], each["port"], each["protocol"], each["aliases"]) for each in services] == expected
    assert status == (0 if expected else 1)


@needs_getent
@needs_services
@pytest.mark.parametrize("subject", ["443/tcp", "53/udp", "https/udp", "www/tcp", "5672/sctp", "443/sctp", "www/sctp"])
def test_a_subject_may_have_a_protocol(subject: str) -> None:
    expected = [of_getent(line) for line in printed("getent", "services", subject)]
    objects, _, status = lookup(subject)
    found = [(each["service"], each["port"], each["protocol"], each["aliases"]) for each in objects]
    assert found == expected
    assert status == (0 if expected else 1)


@needs_services
def test_services_and_ports_are_printed_for_people_too() -> None:
    done = netsvc("lookup", "www", "80/tcp", "https/tcp")
    assert done.stdout.decode().splitlines() == [
        "www: port 80/tcp",
        "80/tcp: service http/tcp (www)",
        "https/tcp: port 443/tcp",
    ]


@needs_services
def test_a_service_has_its_aliases() -> None:
    [http] = services_at(80, "tcp")
    assert (http.name, http.port, http.protocol) == ("http", 80, "tcp")
    assert "www" in http.aliases
    assert services_named("www", "tcp") == [http]


# Name servers


@pytest.fixture(scope="module")
def name_server() -> Iterator[str]:
    """The address and port of a name server."""
    with running(sys.executable, "-m", "tests.name_servers", seconds=10 * SECONDS) as server:
        yield f"127.0.0.1:{server.wait_for('listening on ([0-9]+)')[1]}"


def test_the_servers_of_a_service_are_looked_up(name_server: str) -> None:
    done = netsvc("lookup", "--name-server", name_server, "_sip._tcp.example.org")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "_sip._tcp.example.org: server big.example.org:5061, priority 10, weight 95",
        "_sip._tcp.example.org: server small.example.org:5062, priority 10, weight 5",
        "_sip._tcp.example.org: server spare.example.org:5060, priority 20, weight 0",
    ]
    objects, _, _ = lookup("--name-server", name_server, "_sip._tcp.example.org")
    assert objects[0] == {
        "type": "srv",
        "subject": "_sip._tcp.example.org",
        "target": "big.example.org",
        "port": 5061,
        "priority": 10,
        "weight": 95,
        "ttl": 300.0,
    }


def test_a_name_server_tells_addresses_and_names(name_server: str) -> None:
    subjects = ("host.example.org.", "BÜCHER.example.org", "my_host.example.org", "192.0.2.7", "2001:db8::7")
    done = netsvc("lookup", "--name-server", name_server, *subjects)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        "host.example.org.: address 2001:db8::7 (private)",
        "host.example.org.: address 192.0.2.7 (private)",
        "host.example.org.: address 192.0.2.8 (private)",
        "BÜCHER.example.org: address 192.0.2.11 (private)",
        "my_host.example.org: address 192.0.2.10 (private)",
        "192.0.2.7: private address",
        "192.0.2.7: name host.example.org",
        "2001:db8::7: private address",
        "2001:db8::7: name host.example.org",
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["_nosuch._tcp.example.org"], "no SRV record found"),
        (["_none._tcp.example.org"], "the domain does not offer this service"),
        (["nosuch.example.org"], "not found"),
        (["-6", "v4.example.org"], "no IPv6 address"),
        (["192.0.2.99"], "no name found"),
    ],
)
def test_what_a_name_server_does_not_know_is_reported(name_server: str, arguments: list[str], problem: str) -> None:
    done = netsvc("lookup", "--name-server", name_server, *arguments)
    assert (done.returncode, done.stderr.decode()) == (1, f"netsvc: {arguments[-1]}: {problem}\n")


@pytest.mark.parametrize("subject", ["_sip._tcp.example.org", "example.org"])
def test_a_name_server_that_does_not_answer_is_one_line_and_status_1(subject: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{silent.getsockname()[1]}"
        done = netsvc("lookup", "--name-server", where, "-w", "0.2", subject)
    assert done.returncode == 1
    assert done.stderr.decode() == f"netsvc: {subject}: no name server answers; asked: {where}\n"


def test_the_name_servers_of_this_host_are_those_of_resolv_conf(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("# nameserver 192.0.2.1\nsearch example.org\nnameserver 192.0.2.2\n nameserver\t::1 \nnameserver\n")
    assert name_servers(conf) == ["192.0.2.2", "::1"]
    assert name_servers(tmp_path / "missing") == ["127.0.0.1"]


def test_this_host_has_a_loopback_address() -> None:
    addresses = [each.address for each in interface_addresses()]
    assert "127.0.0.1" in addresses
    for address in addresses:
        ipaddress.ip_address(address)


# The output


@pytest.mark.parametrize("arguments", [[], ["127.0.0.1"], ["--json", "127.0.0.1"]])
def test_a_full_disk_is_one_line_and_status_1(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [*NETSVC, "lookup", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (1, b"netsvc: standard output: no space left on device\n")


def test_no_character_that_a_terminal_interprets_is_printed() -> None:
    for arguments in ([], ["--json"]):
        done = netsvc("lookup", *arguments, "\x1b[2J\u202eboo")
        assert b"\x1b" not in done.stdout + done.stderr
        assert "\u202e" not in (done.stdout + done.stderr).decode()
