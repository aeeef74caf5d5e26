"""Addresses with a zone, such as ``[fe80::1%eth0]:1314``, at clients and servers, on TCP and UDP.

The programs run on this host, if it has a link-local address, or in a network namespace whose loopback interface gets
one.
"""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest
from twisted.internet.address import IPv6Address

from netsvc.linux.interface_addresses import interface_addresses
from netsvc.wire.address import format_peer, format_socket_address
from netsvc.wire.zones import needs_zone, socket_address, without_zone, zoned_host
from tests.namespaces import namespace
from tests.programs import NETSVC, SECONDS, TWIST, Program, running

[LOOPBACK] = [number for number, name in socket.if_nameindex() if name == "lo"]

#: Adds an address to the loopback interface of a new namespace.
ADDRESS = "ip link set lo up\nip address add fe80::77/64 dev lo nodad\necho ready"


# The functions


@pytest.mark.parametrize("host", ["fe80::1", "febf::1", "ff02::1", "ff01::1", "fe80::1%lo"])
def test_a_link_local_address_needs_a_zone(host: str) -> None:
    assert needs_zone(host)


@pytest.mark.parametrize("host", ["::1", "fd00::1", "2001:db8::1", "ff05::1", "169.254.1.1", "localhost", "", "fe80"])
def test_other_hosts_need_no_zone(host: str) -> None:
    assert not needs_zone(host)


def test_the_scope_of_a_socket_address_becomes_the_zone_of_its_host() -> None:
    assert zoned_host("fe80::1", LOOPBACK) == "fe80::1%lo"
    assert zoned_host("fe80::1", 0) == "fe80::1"
    assert zoned_host("fe80::1%lo", 0) == "fe80::1%lo"
    assert zoned_host("::1", LOOPBACK) == "::1"
    assert zoned_host("fe80::1", 987_654) == "fe80::1%987654"  # there is no such interface


def test_the_zone_of_a_host_becomes_the_scope_of_its_socket_address() -> None:
    assert socket_address("fe80::1%lo", 9) == ("fe80::1", 9, 0, LOOPBACK)
    assert socket_address("fe80::1%7", 9) == ("fe80::1", 9, 0, 7)
    assert socket_address("::1", 9) == ("::1", 9, 0, 0)
    assert socket_address("127.0.0.1", 9) == ("127.0.0.1", 9)


def test_a_zone_can_be_left_out() -> None:
    assert without_zone("[fe80::1%eth0]:9") == "[fe80::1]:9"
    assert without_zone("fe80::1%eth0") == "fe80::1"
    assert without_zone("192.0.2.1:9") == "192.0.2.1:9"


@pytest.mark.parametrize("zone", ["nosuch0", "a b", "\0", "x" * 99, "9" * 99])
def test_a_zone_that_is_no_interface_is_an_error(zone: str) -> None:
    with pytest.raises(OSError, match="this host has no interface"):
        socket_address(f"fe80::1%{zone}", 9)


def test_a_peer_is_shown_with_its_zone() -> None:
    assert format_peer(IPv6Address("TCP", "fe80::1", 9, 0, LOOPBACK)) == "[fe80::1%lo]:9"
    assert format_socket_address(("fe80::1", 9, 0, LOOPBACK)) == "[fe80::1%lo]:9"
    assert format_socket_address(("::ffff:192.0.2.1", 9, 0, 0)) == "192.0.2.1:9"
    assert format_socket_address(("192.0.2.1", 9)) == "192.0.2.1:9"


# The programs


@dataclass(frozen=True)
class Link:
    """Where the programs of a test run, and the link-local address there, with its zone.

    :ivar prefix: the words before each command.
    """

    address: str
    prefix: tuple[str, ...] = ()

    def netsvc(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [*self.prefix, *NETSVC, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=SECONDS, check=False)

    def running(self, *arguments: str) -> AbstractContextManager[Program]:
        return running(*self.prefix, *NETSVC, *arguments)

    def at(self, port: object) -> str:
        return f"[{self.address}]:{port}"

    def waiting(self, program: Program) -> str:
        """Return where a program waits, with the port that it got."""
        return program.wait_for(rf"waiting on (\[{re.escape(self.address)}\]:\d+)")[1]


@pytest.fixture(scope="module")
def link() -> Iterator[Link]:
    own = [each for each in interface_addresses() if each.scope == "link" and ":" in each.address]
    if own:
        yield Link(f"{own[0].address}%{own[0].interface}")
        return
    with running(*namespace(ADDRESS), "cat", seconds=10 * SECONDS) as holder:
        holder.wait_for("ready")
        # unshare and the shell execute cat, so the process keeps its number.
        enter = ("nsenter", "--preserve-credentials", "--user", "--net", f"--target={holder.process.pid}")
        yield Link("fe80::77%lo", enter)


@pytest.fixture(scope="module", params=["default", "asyncio-native", "uvloop"])
def servers(link: Link, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """Where an echo server and a timestamp server listen, on each reactor."""
    reactor: list[str] = []
    if request.param != "default":
        reactor = [f"--reactor={request.param}"]
    twist = [*TWIST[:-1], *reactor, TWIST[-1]]
    flags = ["--tcp", link.at(0), "--udp", link.at(0)]
    with running(*link.prefix, *twist, *flags, seconds=10 * SECONDS) as server:
        server.wait_for("Starting reactor")
        [tcp] = re.findall(r" tcp: listening on (\S+)$", server.output, re.MULTILINE)
        [udp] = re.findall(r" udp: listening on (\S+)$", server.output, re.MULTILINE)
        yield tcp, udp


def test_a_client_talks_with_a_server_on_tcp(link: Link, servers: tuple[str, str]) -> None:
    done = link.netsvc("talk", servers[0], stdin="a\nb\n")
    assert (done.returncode, done.stdout) == (0, "a\nb\n"), done.stderr
    assert f"talking to {servers[0]}\n" in done.stderr


def test_a_client_asks_a_server_on_udp(link: Link, servers: tuple[str, str]) -> None:
    done = link.netsvc("timestamp", servers[1], "hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("] hello\n")


def test_a_question_may_leave_from_an_address_with_a_zone(link: Link, servers: tuple[str, str]) -> None:
    done = link.netsvc("timestamp", "-s", link.address, servers[1], "hello")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("] hello\n")


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_one_program_sends_and_another_receives(link: Link, udp: bool) -> None:
    options = ["--udp"] if udp else []
    with link.running("receive", *options, "--text", "--count", "1", link.at(0)) as receiver:
        where = link.waiting(receiver)
        assert link.netsvc("send", *options, where, "hello").returncode == 0
        assert receiver.end() == 0
    assert receiver.output.endswith("hello\n")


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_both_sides_of_a_conversation_send(link: Link, udp: bool) -> None:
    options = ["--bye", "bye", *(["--udp"] if udp else [])]
    with link.running("talk", *options, "--listen", link.at(0)) as listener:
        where = link.waiting(listener)
        with link.running("talk", *options, where) as client:
            client.type("hello\n")
            listener.wait_for("hello")
            assert re.search(rf"talking to \[{re.escape(link.address)}\]:\d+", listener.output)
            listener.type("welcome\n")
            client.wait_for("welcome")
            client.type("bye\n")
            assert client.end() == 0
        assert listener.end() == 0


def test_a_server_on_all_addresses_answers_over_the_link(link: Link) -> None:
    with running(*link.prefix, *TWIST, "--tcp", "0", "--udp", "0", seconds=10 * SECONDS) as server:
        server.wait_for("Starting reactor")
        tcp, udp = re.findall(r"listening on \S*:(\d+)$", server.output, re.MULTILINE)
        assert link.netsvc("talk", link.at(tcp), stdin="a\n").stdout == "a\n"
        assert link.netsvc("timestamp", link.at(udp), "b").stdout.endswith("] b\n")


def test_a_peer_is_not_told_the_name_of_the_servers_interface(link: Link) -> None:
    flags = ["--tcp", link.at(0), "--reply", "hello {peer}", "--framing", "line"]
    with running(*link.prefix, *TWIST, *flags, seconds=10 * SECONDS) as server:
        where = server.wait_for(r" tcp: listening on (\S+)\n")[1]
        server.wait_for("Starting reactor")
        answer = link.netsvc("talk", where, stdin="a\n").stdout
    assert re.fullmatch(rf"hello \[{link.address.partition('%')[0]}\]:\d+\n", answer)


COMMANDS = ["talk", "talk -u", "send", "send -u", "timestamp"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_zone_that_is_no_interface_is_named(command: str) -> None:
    done = Link("").netsvc(
        *command.split(), "[fe80::1%nosuch0]:9", *["hello"] * (command[:4] != "talk"), stdin="hello\n"
    )
    assert done.returncode == 1
    remedy = "netsvc lookup lists the interfaces of this host"
    assert done.stderr == f"netsvc: [fe80::1%nosuch0]:9: this host has no interface nosuch0; {remedy}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_local_address_without_its_zone_is_refused_with_the_remedy(command: str) -> None:
    done = Link("").netsvc(*command.split(), "[fe80::1]:9", *["hello"] * (command[:4] != "talk"), stdin="hello\n")
    assert done.returncode == 1
    assert "the address is valid on one link only; name the interface, as in fe80::1%eth0" in done.stderr


@pytest.mark.parametrize("command", ["receive", "receive -u", "talk -l", "talk -u -l"])
def test_a_server_on_a_zone_that_is_no_interface_is_refused_with_the_remedy(command: str) -> None:
    done = Link("").netsvc(*command.split(), "[fe80::1%nosuch0]:0")
    assert done.returncode == 1
    remedy = "netsvc lookup lists the interfaces of this host"
    assert done.stderr == f"netsvc: [fe80::1%nosuch0]:0: this host has no such interface; {remedy}\n"
