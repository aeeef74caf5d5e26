"""Tests of ``netsvc check`` with real programs. Each verdict is also tested in tests/test_check_on_a_network.py."""

from __future__ import annotations

import json
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme

from netsvc.cli.name_service import host_addresses
from tests.programs import NETSVC, SECONDS, in_thread, listening, netsvc, port_of, running, serving, started

NOWHERE = "127.0.0.1:0"


def lines(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    """Return the rows of the table, with one space for many, and without times."""
    assert done.stderr == b""
    text = re.sub(r"\d+\.\d+ ms", "TIME", done.stdout.decode())
    return [" ".join(line.split()) for line in text.splitlines()]


def objects(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, object]]:
    assert done.stderr == b""
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    with serving("--tcp", NOWHERE, "--chat", NOWHERE, "--udp", NOWHERE) as (_, (tcp, chat, udp)):
        yield {"tcp": tcp, "chat": chat, "udp": udp}


@pytest.fixture
def closed_port() -> int:
    """A port on which no program listens."""
    with listening() as opened:
        return port_of(opened)


def test_open_ports_are_rows_with_their_times_and_status_0(servers: dict[str, int]) -> None:
    tcp, udp = f"tcp/{servers['tcp']}", f"udp/{servers['udp']}"
    done = netsvc("check", "127.0.0.1", tcp, str(servers["chat"]), udp)
    assert (done.returncode, lines(done)) == (
        0,
        [
            f"{tcp} open 127.0.0.1 connect TIME, path MTU at most 65535",
            f"{servers['chat']} open 127.0.0.1 connect TIME, path MTU at most 65535",
            f"{udp} open 127.0.0.1 answer after TIME, path MTU at most 65535",
        ],
    )


def test_the_columns_are_aligned(servers: dict[str, int], closed_port: int) -> None:
    done = netsvc("check", "127.0.0.1", f"tcp/{servers['tcp']}", "udp/9", f"{closed_port}", "-w", "0.2")
    rows = done.stdout.decode().splitlines()
    assert len({row.index("127.0.0.1") for row in rows}) == 1


def test_closed_ports_are_refused_and_status_1(servers: dict[str, int], closed_port: int) -> None:
    done = netsvc("check", "localhost", f"tcp/{closed_port}", f"udp/{closed_port}", f"tls/{closed_port}", "-4")
    why = "refused 127.0.0.1 no program listens on the port, or a firewall refuses"
    expected = [f"{protocol}/{closed_port} {why}" for protocol in ("tcp", "udp", "tls")]
    assert (done.returncode, lines(done)) == (1, expected)
    assert netsvc("check", "127.0.0.1", servers["tcp"], closed_port).returncode == 1  # one of two


def test_a_port_that_does_not_answer_is_filtered() -> None:
    with socket.socket() as full, ExitStack() as clients:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # the system answers no further one
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        done = netsvc("check", "127.0.0.1", f"tcp/{port_of(full)}", "-w", "0.3")
    assert done.returncode == 1
    assert lines(done) == [
        f"tcp/{port_of_name(done)} filtered 127.0.0.1 "
        "no answer within 0.3 s; the host is down, or a firewall drops the packets"
    ]


def port_of_name(done: subprocess.CompletedProcess[bytes]) -> str:
    return done.stdout.decode().split()[0].rpartition("/")[2]


def test_a_silent_udp_port_is_neither_open_nor_filtered() -> None:
    with listening(socket.SOCK_DGRAM) as silent:
        done = netsvc("check", "127.0.0.1", f"udp/{port_of(silent)}", "-w", "0.3")
        questions = [silent.recv(100) for _ in range(3)]
    assert done.returncode == 1
    assert "no answer 127.0.0.1 no answer to 3 questions (timestamp) within 0.3 s; open or filtered" in lines(done)[0]
    assert len(set(questions)) == 3
    assert all(re.fullmatch(rb"netsvc check [0-9a-f]{16}", question) for question in questions)


def test_any_answer_shows_that_a_udp_port_is_open() -> None:
    with listening(socket.SOCK_DGRAM) as server:

        def answer() -> None:
            _, peer = server.recvfrom(100)
            server.sendto(b"hello", peer)

        in_thread(answer)
        done = netsvc("check", "127.0.0.1", f"udp/{port_of(server)}")
    assert (done.returncode, lines(done)[0].split(" ", 1)[1]) == (
        0,
        "open 127.0.0.1 answer after TIME, path MTU at most 65535",
    )


@pytest.mark.skipif(shutil.which("nc") is None, reason="no nc here")
def test_netcat_is_open_and_does_not_speak_tls() -> None:
    with listening() as free:
        port = port_of(free)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with started("nc", "-lk", "-v", "127.0.0.1", port, **pipes) as nc:
        assert nc.stderr is not None
        assert b"Listening on" in nc.stderr.readline()
        done = netsvc("check", "127.0.0.1", f"tcp/{port}", f"tls/{port}", "-w", "0.5")
    assert done.returncode == 1
    assert lines(done) == [
        f"tcp/{port} open 127.0.0.1 connect TIME, path MTU at most 65535",
        f"tls/{port} no answer 127.0.0.1 connect TIME; no answer to the handshake within 0.5 s; "
        f"if the server does not speak TLS, try tcp/{port}",
    ]


def test_a_server_without_tls_gets_the_hint(servers: dict[str, int]) -> None:
    done = netsvc("check", "127.0.0.1", f"tls/{servers['tcp']}", f"tls/{servers['chat']}")
    assert done.returncode == 1
    for row, port in zip(lines(done), (servers["tcp"], servers["chat"]), strict=True):
        assert row == f"tls/{port} no TLS 127.0.0.1 connect TIME; the server does not speak TLS; try tcp/{port}"


# TLS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and server.pem for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA(organization_name="Tests")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder


@contextmanager
def s_server(folder: Path, *options: str) -> Iterator[str]:
    """Run ``openssl s_server`` during a block. Yield its port."""
    pem = str(folder / "server.pem")
    with running("openssl", "s_server", "-accept", NOWHERE, "-cert", pem, "-key", pem, *options) as server:
        yield server.wait_for(r"ACCEPT 127\.0\.0\.1:(\d+)")[1]


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


@needs_openssl
def test_a_tls_server_is_shown_with_version_alpn_and_certificate(folder: Path) -> None:
    with s_server(folder, "-alpn", "http/1.1") as port:
        done = netsvc("check", "localhost", f"tls/{port}", f"tcp/{port}", "--ca", folder / "ca.pem", "-4")
    tls, certificate, tcp = lines(done)
    handshake = r"connect TIME, handshake TIME, TLS 1\.3, ALPN http/1\.1, path MTU \d{3,4} to 65535"
    assert re.fullmatch(rf"tls/{port} open 127\.0\.0\.1 {handshake}", tls)
    assert re.fullmatch(r"certificate localhost; issued by Tests; ends \d{4}-\d\d-\d\d, in \d+ days", certificate)
    assert tcp == f"tcp/{port} open 127.0.0.1 connect TIME, path MTU at most 65535"
    assert done.returncode == 0


@needs_openssl
def test_a_certificate_that_is_not_trusted_is_shown_with_the_reason_and_the_port_is_open(folder: Path) -> None:
    with s_server(folder) as port:
        done = netsvc("check", "localhost", f"tls/{port}", "-4")
        [row] = objects(netsvc("check", "127.0.0.1", f"tls/{port}", "--json", "--ca", folder / "ca.pem"))
    assert done.returncode == 0
    assert lines(done)[-1].startswith("not trusted its authority is not among those of this host")
    certificate = row["certificate"]
    assert isinstance(certificate, dict)
    assert (certificate["trusted"], certificate["problems"]) == (False, ["it is not for 127.0.0.1"])


@needs_openssl
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["-tls1_2", "-Verify", "1"], "the server refuses the handshake: handshake failure"),
        (["-servername", "other", "-servername_fatal", "-cert2", "PEM", "-key2", "PEM"], "unrecognized name"),
    ],
)
def test_a_handshake_that_fails_has_the_reason(folder: Path, options: list[str], reason: str) -> None:
    pem = str(folder / "server.pem")
    with s_server(folder, *[pem if option == "PEM" else option for option in options]) as port:
        done = netsvc("check", "localhost", f"tls/{port}", "-4")
    assert done.returncode == 1
    assert reason in lines(done)[0]
    assert " TLS failed " in lines(done)[0]


# Addresses


def has_ipv6() -> bool:
    return "::1" in host_addresses()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_ipv6_addresses_are_checked_with_and_without_brackets() -> None:
    with serving("--tcp", "[::1]:0", "--udp", "[::1]:0") as (_, (tcp, udp)):
        for host in ("::1", "[::1]"):
            done = netsvc("check", host, f"tcp/{tcp}", f"udp/{udp}")
            assert done.returncode == 0
            assert [row.split()[2] for row in lines(done)] == ["::1", "::1"]


LINK_LOCAL = next((address for address in host_addresses() if address.startswith("fe80:")), "")


@pytest.mark.skipif(not LINK_LOCAL, reason="no link-local address here")
def test_a_link_local_address_with_its_zone_is_checked() -> None:
    with serving("--tcp", "[::]:0", "--udp", "[::]:0") as (_, (tcp, udp)):
        done = netsvc("check", LINK_LOCAL, f"tcp/{tcp}", f"udp/{udp}")
        assert (done.returncode, [row.split()[1] for row in lines(done)]) == (0, ["open", "open"])
        done = netsvc("check", LINK_LOCAL.partition("%")[0], f"tcp/{tcp}", f"udp/{udp}")
        assert done.returncode == 1
        assert all(
            "the address is valid on one link only; name the interface, as in fe80:" in row for row in lines(done)
        )


def test_a_zone_that_does_not_exist_is_unreachable() -> None:
    done = netsvc("check", "fe80::1%nosuch", "tcp/1", "udp/1")
    assert done.returncode == 1
    assert all("this host has no interface nosuch; netsvc lookup" in row for row in lines(done))


def test_an_unknown_host_is_one_line_of_error_and_status_1() -> None:
    done = netsvc("check", "nosuchhost.invalid", "tcp/1")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == (
        b"netsvc: nosuchhost.invalid: host not found; the name is wrong, or no name server answers\n"
    )


def test_a_family_that_the_host_does_not_have_is_one_line_of_error() -> None:
    done = netsvc("check", "-6", "127.0.0.1", "tcp/1")
    assert (done.returncode, done.stderr) == (1, b"netsvc: 127.0.0.1: it has no IPv6 address; leave out -6\n")


NAMES = """
import socket, sys
from netsvc.cli.main import main
real = socket.getaddrinfo
def addresses(host, port, *args, **kwargs):
    if host != "both.example":
        return real(host, port, *args, **kwargs)
    return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))]
socket.getaddrinfo = addresses
main(sys.argv[1:])
"""


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_the_address_that_is_open_is_shown_and_the_others_below_it() -> None:
    with serving("--tcp", NOWHERE) as (_, [port]):

        def check(*options: str) -> subprocess.CompletedProcess[bytes]:
            command = [sys.executable, "-c", NAMES, "check", "both.example", f"tcp/{port}", *options]
            return subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)

        done = check()
        assert (done.returncode, [row.split()[:3] for row in lines(done)]) == (
            0,
            [[f"tcp/{port}", "open", "127.0.0.1"], ["also", "::1:", "refused"], ["also", "127.0.0.2:", "refused"]],
        )
        done = check("-4")
        assert (done.returncode, [row.split()[1:3] for row in lines(done)]) == (
            1,
            [["open", "127.0.0.1"], ["refused", "127.0.0.2"]],
        )
        assert [row["address"] for row in objects(check("--json"))] == ["127.0.0.1"]
        assert [row["address"] for row in objects(check("--json", "-6"))] == ["::1"]


# Questions of well-known ports


@pytest.mark.parametrize(("port", "size"), [(53, 17), (123, 48), (862, 44)])
def test_a_well_known_port_gets_its_question(port: int, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(SECONDS)
        try:
            server.bind(("127.0.0.77", port))
        except OSError:
            pytest.skip(f"port {port} cannot be opened here")
        received: list[bytes] = []

        def answer() -> None:
            datagram, peer = server.recvfrom(100)
            received.append(datagram)
            server.sendto(answer_to(port, datagram), peer)

        thread = in_thread(answer)
        [row] = objects(netsvc("check", "127.0.0.77", f"udp/{port}", "--json"))
        thread.join(SECONDS)
    assert (row["verdict"], row["questions"], len(received[0])) == ("open", 1, size)
    assert isinstance(row["answer_seconds"], float)
    assert row["path_mtu_at_least"] == size + 28


def answer_to(port: int, question: bytes) -> bytes:
    """Answer as a real server does, in the fields that tell which question it answers."""
    match port:
        case 53:
            return question[:2] + struct.pack("!H", 0x8180) + question[4:]
        case 123:
            return b"\x24" + bytes(23) + question[40:48] + bytes(16)
        case _:
            return bytes(24) + question[:14] + bytes(6)


# Results and usage


def test_each_result_is_one_json_object_in_the_order_of_the_targets(servers: dict[str, int], closed_port: int) -> None:
    targets = [f"udp/{servers['udp']}", f"tcp/{closed_port}", f"{servers['tcp']}"]
    done = netsvc("check", "localhost", *targets, "--json", "-4")
    rows = objects(done)
    assert (done.returncode, [row["target"] for row in rows]) == (1, targets)
    assert [(row["protocol"], row["port"], row["verdict"]) for row in rows] == [
        ("udp", servers["udp"], "open"),
        ("tcp", closed_port, "refused"),
        ("tcp", servers["tcp"], "open"),
    ]
    assert {(row["host"], row["address"]) for row in rows} == {("localhost", "127.0.0.1")}
    assert isinstance(rows[2]["connect_seconds"], float)
    assert (rows[2]["path_mtu_at_least"], rows[2]["path_mtu_at_most"]) == (None, 65_535)
    assert rows[1]["connect_seconds"] is None


def test_the_connect_time_is_that_of_the_kernel(servers: dict[str, int]) -> None:
    targets = [f"tcp/{servers['tcp']}"] * 10
    rows = objects(netsvc("check", "127.0.0.1", *targets, "--json"))
    times = sorted(row["connect_seconds"] for row in rows if isinstance(row["connect_seconds"], float))
    assert len(times) == 10
    assert all(round(seconds * 1e6, 3).is_integer() for seconds in times)  # it counts microseconds
    assert times[5] < 0.001


def test_a_port_may_be_the_name_of_a_service() -> None:
    try:
        socket.getservbyname("discard", "tcp")
    except OSError:
        pytest.skip("this host has no services file")
    [row] = objects(netsvc("check", "127.0.0.1", "discard", "--json"))
    assert (row["target"], row["protocol"], row["port"]) == ("discard", "tcp", 9)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], "HOST is missing"),
        (["localhost"], "TARGET... is missing"),
        (["localhost", "sctp/80"], "sctp/80: 'sctp' is neither tcp, tls nor udp; write tcp/80"),
        (["localhost:443", "tcp/1"], "localhost:443: the port follows the host; write localhost tcp/443"),
        (["tcp/443", "tcp/80"], "tcp/443: the host comes first; write HOST tcp/443"),
        (["443", "tcp/443"], "443: the host is missing; write HOST tcp/443"),
        (["a b", "1"], "'a b' is not a host; write a name or an IP address"),
        (["-4", "-6", "localhost", "1"], "-4 cannot be combined with -6; leave out one of them"),
        (["localhost", "1", "-w", "0"], "--timeout 0: not a number above 0; choose one, such as --timeout 3"),
        (
            ["localhost", "1", "--ca", "/nowhere"],
            "--ca /nowhere: cannot be read: no such file or directory; name a PEM",
        ),
        (["localhost", "1", "--nosuch"], "--nosuch: there is no such option; write -- before text that begins"),
    ],
)
def test_wrong_usage_is_one_line_of_error_and_status_64(arguments: list[str], error: str) -> None:
    done = netsvc("check", *arguments)
    assert (done.returncode, done.stdout) == (64, b"")
    [line] = done.stderr.decode().splitlines()
    assert line.startswith(f"netsvc: {error}")


def test_an_output_that_is_full_or_closed_is_no_traceback(servers: dict[str, int]) -> None:
    check = " ".join([*NETSVC, "check", "127.0.0.1", str(servers["tcp"])])
    done = subprocess.run(["sh", "-c", f"{check} >/dev/full"], capture_output=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (1, b"netsvc: standard output: no space left on device\n")
    done = subprocess.run(["sh", "-c", f"{check} 9 | head -0"], capture_output=True, timeout=SECONDS, check=False)
    assert done.stderr == b""


def test_ctrl_c_ends_a_check_with_status_130(servers: dict[str, int]) -> None:
    with listening(socket.SOCK_DGRAM) as silent:
        where = f"udp/{port_of(silent)}"
        with running(*NETSVC, "check", "127.0.0.1", str(servers["tcp"]), where, "-w", "60") as check:
            check.wait_for("open")
            check.process.send_signal(2)
            assert check.end() == 130
    assert "Traceback" not in check.output
