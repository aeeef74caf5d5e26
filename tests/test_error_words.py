"""The errors of the network, in words and with the remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import trustme
from OpenSSL import SSL
from twisted.internet import error

from netsvc.cli.command import explain
from netsvc.net.host_names import AddressFamilyError
from netsvc.net.tls_records import begins_with_tls
from netsvc.wire.address import HostPort
from tests.namespaces import namespace
from tests.programs import NETSVC, SECONDS, in_thread, listening, netsvc, port_of, running

WHERE = HostPort("192.0.2.1", 1314)

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="this host has no openssl")


def failures(number: int) -> list[Exception]:
    """Return the exceptions by which Python and Twisted report an error of the system."""
    system = OSError(number, os.strerror(number))
    return [
        system,
        error.getConnectError((number, os.strerror(number))),
        error.ConnectBindError(number, os.strerror(number)),
        error.CannotListenError("", 0, system),
    ]


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_no_error_of_the_system_is_a_bare_number(number: int) -> None:
    for failure in failures(number):
        line = explain(failure, WHERE)
        assert line.startswith("192.0.2.1:1314: ")
        assert re.search("[a-z]{4}", line.removeprefix("192.0.2.1:1314: ")), line
        assert str(number) not in line.removeprefix("192.0.2.1:1314: ").split(), line


@pytest.mark.parametrize(
    ("number", "words", "remedy"),
    [
        (errno.ENETUNREACH, "network is unreachable", "ip route"),
        (errno.EHOSTUNREACH, "no route to host", "the host is down"),
        (errno.EACCES, "permission denied", "broadcast"),
        (errno.EPERM, "operation not permitted", "firewall"),
        (errno.EADDRNOTAVAIL, "cannot assign requested address", "netsvc lookup"),
        (errno.EMFILE, "too many open files", "ulimit -n"),
        (errno.ETIMEDOUT, "no answer", "firewall"),
        (errno.ECONNREFUSED, "connection refused", "no program listens"),
        (errno.EAFNOSUPPORT, "address family not supported", "no IPv6"),
    ],
)
def test_the_usual_errors_have_a_remedy(number: int, words: str, remedy: str) -> None:
    for failure in failures(number)[:2]:
        line = explain(failure, WHERE)
        assert re.match(rf"192\.0\.2\.1:1314: {words}.*; .*{remedy}", line), line


@pytest.mark.parametrize(
    ("number", "source", "line"),
    [
        (errno.EADDRNOTAVAIL, HostPort("10.9.9.9", 0), "source address 10.9.9.9: this host has no such address; "),
        (errno.EADDRINUSE, HostPort(None, 520), "source port 520: already in use; choose another source port, or none"),
        (errno.EACCES, HostPort("127.0.0.1", 520), "source address 127.0.0.1:520: ports below 1024 are reserved "),
        (errno.EMFILE, HostPort(None, 520), "source port 520: too many open files; "),
        (errno.EMFILE, None, "192.0.2.1:1314: too many open files; "),
    ],
)
def test_an_error_of_the_source_address_names_it(number: int, source: HostPort | None, line: str) -> None:
    for failure in failures(number)[2:]:
        assert explain(failure, WHERE, source).startswith(line)


def test_other_failures_are_words_too() -> None:
    assert explain(error.ConnectError(string="no such thing"), WHERE) == "192.0.2.1:1314: no such thing"
    assert explain(error.ConnectError(), WHERE) == "192.0.2.1:1314: the system gives no reason"
    line = "name: no IPv6 address, although -4, -6 or the source address asks for one"
    assert explain(AddressFamilyError("name", socket.AF_INET6), HostPort("name", 9)) == line
    assert "host not found" in explain(socket.gaierror(-2, "Name or service not known"), HostPort("name", 9))


def test_a_mistake_of_the_program_is_not_explained() -> None:
    with pytest.raises(ZeroDivisionError):
        explain(ZeroDivisionError(), WHERE)


# Programs


@pytest.mark.parametrize("command", ["talk", "send", "send -u", "talk -u", "timestamp"])
def test_a_host_without_routes_says_that_the_network_is_unreachable(command: str) -> None:
    text = [] if "talk" in command else ["hello"]
    done = subprocess.run(
        [*namespace(), *NETSVC, *command.split(), "192.0.2.1:1314", *text],
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    remedy = "this host has no route there; ip route shows its routes"
    assert done.stderr == f"netsvc: 192.0.2.1:1314: network is unreachable; {remedy}\n"


def test_a_source_address_that_cannot_be_used_is_named() -> None:
    with listening(socket.SOCK_DGRAM) as taken:
        done = netsvc("timestamp", "-s", "192.0.2.199", port_of(taken), "hello")
        assert done.returncode == 1
        assert b"source address 192.0.2.199: this host has no such address; netsvc lookup" in done.stderr
        done = netsvc("timestamp", "-p", port_of(taken), "9", "hello")
        assert done.returncode == 1
        assert f"source port {port_of(taken)}: already in use; choose another".encode() in done.stderr


# TLS where it is not expected


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("15030300020232"),  # a fatal alert, decode error
        bytes.fromhex("15030100020246"),
        bytes.fromhex("16030100f8010000f40303"),  # a ClientHello
    ],
)
def test_the_beginning_of_tls_is_recognised(data: bytes) -> None:
    assert begins_with_tls(data)


@pytest.mark.parametrize("data", [b"", b"\x15\x03", b"hello", b"\x15\x03\x03\x00\x50\x02", b"\x16\x03\x01\0\x05\x02"])
def test_other_bytes_are_not_taken_for_tls(data: bytes) -> None:
    assert not begins_with_tls(data)


def test_an_alert_of_a_tls_server_gives_the_hint() -> None:
    with listening() as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(bytes.fromhex("15030300020232"))
                connection.recv(100)

        in_thread(refuse)
        done = netsvc("talk", "--text", port_of(server), stdin=b"hello\n")
        assert (done.returncode, done.stdout) == (1, b"")
        [_, line] = done.stderr.decode().splitlines()
        assert line == f"netsvc: 127.0.0.1:{port_of(server)}: the other side speaks TLS; add --tls"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for localhost."""
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@needs_openssl
def test_a_tls_server_that_closes_a_plain_conversation_gives_the_hint(key: Path) -> None:
    with running("openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", key, "-key", key, "-naccept", 1) as server:
        port = server.wait_for(r"ACCEPT \S*:(\d+)")[1]
        with running(*NETSVC, "talk", port) as client:
            client.wait_for("talking to")
            client.type("this is a line of plain text\n")
            client.wait_for("the other side sent nothing before it closed the connection; if it expects TLS, add --tls")
            client.end()


def test_a_lost_connection_without_an_answer_gives_the_hint_too() -> None:
    with listening() as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.recv(1)  # the rest is not read, so the system resets the connection
            connection.close()

        in_thread(reset)
        done = netsvc("talk", port_of(server), stdin=b"hello\n")
        assert done.returncode == 1
        [_, line] = done.stderr.decode().splitlines()
        assert line.startswith(f"netsvc: 127.0.0.1:{port_of(server)}: connection lost; ")
        assert line.endswith("; if the server expects TLS, add --tls")


@needs_openssl
def test_a_tls_client_of_a_plain_listener_gives_the_hint() -> None:
    with running(*NETSVC, "talk", "--text", "--listen", "127.0.0.1:0") as listener:
        port = listener.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1]
        with running("openssl", "s_client", "-connect", f"127.0.0.1:{port}"):
            listener.wait_for("the other side speaks TLS; add --tls")
            assert listener.end() == 1


def test_a_peer_that_has_sent_something_gives_no_hint() -> None:
    with listening() as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"welcome\n")

        in_thread(answer)
        done = netsvc("talk", port_of(server), stdin=b"hello\n")
    assert done.stdout == b"welcome\n"
    assert b"TLS" not in done.stderr


@pytest.mark.parametrize("reply", [b"220 welcome\r\n", b"", b"\0\0\0\0\0\0\0\0"])
def test_a_server_without_tls_gives_the_hint_to_leave_it_out(reply: bytes) -> None:
    with listening() as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(reply)

        in_thread(answer)
        done = netsvc("talk", "--tls", port_of(server), stdin=b"hello\n")
    assert done.returncode == 1
    if reply:
        assert b"if the server does not speak TLS, leave out --tls" in done.stderr


def test_the_reasons_of_openssl_are_given() -> None:
    cause = SSL.Error([("SSL routines", "", "certificate verify failed")])
    assert explain(cause, WHERE).startswith("192.0.2.1:1314: TLS failed: certificate verify failed; --ca FILE ")
    assert "TLS failed: the peer closed the connection; " in explain(SSL.Error(), WHERE)
    assert explain(SSL.Error([("", "", "tlsv1 alert unknown ca")]), WHERE).endswith(
        "TLS failed: tlsv1 alert unknown ca"
    )
