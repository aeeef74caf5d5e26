"""Tests of ``twist netsvc`` as a process: signals, limits and certificates, with each reactor."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from tests.programs import SECONDS, TWIST, Program, running, started

ANY_PORT = "127.0.0.1:0"

reactors = pytest.mark.parametrize("reactor", ["epoll", "asyncio-native", "uvloop"])


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """Create a PEM file with a certificate and its key."""
    path = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


@contextmanager
def twist(reactor: str, *flags: object) -> Iterator[tuple[Program, int]]:
    """Run ``twist netsvc`` during a block. Yield the program and its last port."""
    command = [*TWIST[:-1], f"--reactor={reactor}", TWIST[-1], *flags]
    with running(*command) as server:
        server.wait_for("Starting reactor")
        yield server, int(server.wait_for(r"(?:tcp|chat): listening on \S*:(\d+)\n")[1])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), SECONDS)


def echoes(port: int) -> bool:
    """Return whether the server echoes a byte. It may close or reset the connection instead."""
    with connect(port) as client:
        try:
            client.sendall(b"x")
            return client.recv(100) == b"x"
        except OSError:
            return False


@reactors
def test_the_first_sigterm_stops_gracefully_with_status_0(reactor: str) -> None:
    with twist(reactor, "--chat", ANY_PORT) as (server, port), connect(port) as client:
        client.recv(100)
        assert server.process.poll() is None
        server.process.terminate()
        with client.makefile("rb") as lines:
            assert lines.read().endswith(b"* the server stops; bye\n")
        client.close()
        assert server.end() == 0
        assert "Traceback" not in server.output


@reactors
def test_a_second_sigterm_ends_the_process_at_once(reactor: str) -> None:
    # The client never closes, so the drain would wait for it.
    flags = ("--chat", ANY_PORT, "--drain-timeout", "0", "--close-timeout", "0")
    with twist(reactor, *flags) as (server, port), connect(port) as client, client.makefile("rb") as lines:
        lines.readline()
        server.process.terminate()
        assert b"* the server stops; bye\n" in lines
        server.process.terminate()
        assert server.end() == -signal.SIGTERM


@reactors
def test_ctrl_c_stops_gracefully(reactor: str) -> None:
    with twist(reactor, "--tcp", ANY_PORT) as (server, port):
        assert echoes(port)
        server.process.send_signal(signal.SIGINT)
        assert server.end() in (0, -signal.SIGINT)
        assert f"(TCP Port {port} Closed)" in server.output
        assert "Traceback" not in server.output


@reactors
def test_a_full_server_refuses_connections_and_the_open_ones_stay(reactor: str) -> None:
    with twist(reactor, "--tcp", ANY_PORT, "--max-connections", "3") as (_, port), ExitStack() as stack:
        accepted = [stack.enter_context(connect(port)) for _ in range(3)]
        for client in accepted:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        for _ in range(100):
            with connect(port) as refused, refused.makefile("rb") as notice:
                assert notice.read() == b"server full\n"
        accepted.pop().close()
        while not echoes(port):
            pass  # until the server has processed the close


def with_file_limits(soft: int, hard: int, reactor: str) -> list[str]:
    """Return the command that runs ``twist netsvc`` with these limits of open files."""
    set_limits = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
os.execv(sys.argv[1], sys.argv[1:])
"""
    return [TWIST[0], "-c", set_limits, *TWIST[:-1], f"--reactor={reactor}", TWIST[-1]]


@pytest.mark.parametrize(("reactor", "files"), [("epoll", 500), ("uvloop", 500), ("select", 128)])
def test_the_soft_limit_of_open_files_is_raised_to_the_hard_limit(reactor: str, files: int) -> None:
    with running(*with_file_limits(128, 500, reactor), "--tcp", ANY_PORT, "--metrics", ANY_PORT) as server:
        port = server.wait_for(r"metrics: listening on 127.0.0.1:(\d+)")[1]
        server.wait_for("Starting reactor")
        assert f"process_max_fds {files}.0" in page(port, "/metrics")[1]


@reactors
def test_more_connections_than_files_do_not_affect_the_open_connections(reactor: str) -> None:
    flags = ("--tcp", ANY_PORT, "--max-per-host", "0", "--connect-rate", "0")
    with (
        running(*with_file_limits(128, 128, reactor), *flags) as server,
        ExitStack() as stack,
    ):
        port = int(server.wait_for(r"(?:tcp|chat): listening on \S*:(\d+)\n")[1])
        accepted = stack.enter_context(connect(port))
        for _ in range(300):
            stack.enter_context(connect(port))
            accepted.sendall(b"x")
            assert accepted.recv(1) == b"x"
        server.process.terminate()
        server.end()
        assert "EMFILE" not in server.output
        assert 1 <= server.output.count("server full") <= 5


@contextmanager
def tls_server(reactor: str, folder: Path, *flags: object) -> Iterator[tuple[Program, int, ssl.SSLContext, trustme.CA]]:
    """Run ``twist netsvc --tls-cert`` during a block. Yield it, its port, the context of its clients, and the CA."""
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with twist(reactor, "--tls-cert", folder / "server.pem", *flags) as (server, port):
        yield server, port, context, authority


def serial_number(port: int, context: ssl.SSLContext) -> object:
    with connect(port) as client, context.wrap_socket(client, server_hostname="localhost") as secure:
        certificate = secure.getpeercert()
        assert certificate
        return certificate["serialNumber"]


@reactors
def test_sighup_reloads_a_renewed_certificate(reactor: str, tmp_path: Path) -> None:
    with tls_server(reactor, tmp_path, "--tcp", ANY_PORT) as (server, port, context, authority):
        first = serial_number(port, context)
        renewed = tmp_path / "renewed.pem"
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(renewed))
        os.replace(renewed, tmp_path / "server.pem")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("server.pem: certificate reloaded")
        assert serial_number(port, context) != first


def test_a_peer_that_does_not_complete_its_handshake_is_disconnected(tmp_path: Path) -> None:
    with tls_server("epoll", tmp_path, "--chat", ANY_PORT, "--handshake-timeout", "0.2") as (server, port, _, _):
        with connect(port) as silent, suppress(ConnectionResetError):
            assert silent.recv(1) == b""
        server.wait_for("no complete TLS handshake in time")


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--tls-key", "key.pem"], "netsvc: --tls-key key.pem: there is no certificate; add --tls-cert\n"),
        (
            ["--tls-cert", "c.pem", "--udp", "1"],
            "netsvc: --tls-cert c.pem: it applies to stream services, and none is served; "
            "add one: --tcp, --chat, --web, --discard, --chargen, --daytime, --time\n",
        ),
        (
            ["--tls-cert", "/nowhere/c.pem", "--tcp", ANY_PORT],
            "netsvc: --tls-cert /nowhere/c.pem: cannot be read: no such file or directory; "
            "name PEM files that belong together and that you may read\n",
        ),
    ],
)
def test_an_unusable_certificate_is_one_line_of_error(flags: list[str], line: str) -> None:
    finished = subprocess.run([*TWIST, *flags], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (finished.returncode, finished.stderr) == (1, line)


def test_a_peer_from_a_network_that_is_not_allowed_is_closed_without_a_message() -> None:
    with twist("epoll", "--tcp", ANY_PORT, "--allow", "192.0.2.0/24", "--allow", "tcp=198.51.100.7") as (server, port):
        with suppress(ConnectionResetError), connect(port) as client:
            assert client.recv(1) == b""
        server.wait_for("refused 127.0.0.1: the address is not allowed")


def page(port: str, path: str) -> tuple[int, str]:
    """Return the status and the body of a page."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


@reactors
def test_metrics_and_health_are_served_until_the_drain_ends(reactor: str) -> None:
    flags = ("--tcp", ANY_PORT, "--drain-timeout", "0", "--close-timeout", "0", "--stall-timeout", "0")
    with twist(reactor, "--metrics", ANY_PORT, *flags) as (server, port), connect(port) as stalled:
        metrics_port = server.wait_for(r"metrics: listening on 127.0.0.1:(\d+)")[1]
        assert echoes(port)
        assert page(metrics_port, "/readyz") == (200, "ready\n")
        assert 'netsvc_connections_opened_total{service="tcp"} 2.0' in page(metrics_port, "/metrics")[1]
        stalled.setblocking(False)
        with suppress(BlockingIOError):
            while True:  # until the server stops reading; the drain then waits for this connection
                stalled.send(bytes(65_536))
        server.process.terminate()
        while page(metrics_port, "/readyz") != (503, "not ready\n"):
            pass
        assert page(metrics_port, "/healthz") == (200, "ok\n")
        stalled.close()
        assert server.end() == 0


@reactors
def test_sigusr1_and_the_stop_log_the_counters(reactor: str) -> None:
    with twist(reactor, "--tcp", ANY_PORT) as (server, port):
        assert echoes(port)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("tcp: connections: . open, 1 in all; bytes: 1 received, 1 sent, 0 dropped; replies: 1")
        assert echoes(port)
        server.process.terminate()
        assert server.end() == 0
        assert "tcp: connections: 0 open, 2 in all; bytes: 2 received, 2 sent, 0 dropped; replies: 2" in server.output


@reactors
@pytest.mark.parametrize(
    "listening_string", ["127.0.0.1:0", "ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"]
)
def test_a_peer_that_is_refused_over_tls_is_closed_and_leaves_no_open_file(
    reactor: str, listening_string: str, pem: Path
) -> None:
    flags = ("--tls-cert", pem, "--tcp", listening_string.format(pem=pem), "--deny", "127.0.0.0/8")
    with twist(reactor, *flags) as (server, port):
        files = 1_000
        for number in range(40):
            with suppress(ConnectionResetError), connect(port) as client:
                assert client.recv(1) == b""
            if number == 10:  # by then the server has opened all files that it keeps open
                files = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        while len(os.listdir(f"/proc/{server.process.pid}/fd")) > files:
            pass
        server.process.terminate()
        assert server.end() == 0
        assert "Traceback" not in server.output


def over_tls(port: int) -> ssl.SSLSocket:
    """Connect to a port over TLS without verifying its certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connect(port))


@reactors
def test_a_peer_that_reads_while_it_sends_gets_every_byte_echoed_over_tls(reactor: str, pem: Path) -> None:
    size = 4_000_000
    with twist(reactor, "--tls-cert", pem, "--tcp", ANY_PORT) as (_, port), over_tls(port) as client:
        client.setblocking(False)
        to_send, received = memoryview(bytes(size)), 0
        while received < size:
            select.select([client], [client] if to_send else [], [], SECONDS)
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                to_send = to_send[client.send(to_send[:200_000]) :] if to_send else to_send
            with suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                piece = client.recv(100_000)
                assert piece
                received += len(piece)


@reactors
def test_a_member_that_closes_tls_in_reply_to_the_server_is_not_aborted(reactor: str, pem: Path) -> None:
    with twist(reactor, "--tls-cert", pem, "--chat", ANY_PORT) as (server, port), over_tls(port) as member:
        member.recv(100)
        server.process.terminate()
        while member.recv(100):
            pass
        member.unwrap().close()
        assert server.end() == 0
        assert "not finished" not in server.output


@reactors
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_every_line_from_just_before_sigterm_reaches_every_listener_in_order(
    reactor: str, tls: bool, pem: Path
) -> None:
    certificate = ("--tls-cert", pem) if tls else ()
    with twist(reactor, *certificate, "--chat", ANY_PORT) as (server, port), ExitStack() as members:

        def member() -> socket.socket:
            joined = members.enter_context(over_tls(port) if tls else connect(port))
            joined.settimeout(SECONDS)
            assert joined.recv(10_000)
            return joined

        listeners = [member() for _ in range(20)]
        for count in (30, 60, 200, 2_000):
            speaker = member()
            lines = b"".join(b"%d of %d\n" % (number, count) for number in range(count))
            speaker.sendall(lines)
        server.process.terminate()
        for listener in listeners:
            received = b""
            while piece := listener.recv(100_000):
                received += piece
            for count in (30, 60, 200, 2_000):
                numbers = [int(number) for number in re.findall(rb"> (\d+) of %d\n" % count, received)]
                assert numbers == list(range(count))
            assert received.endswith(b"* the server stops; bye\n")
        members.close()
        assert server.end() == 0
        assert "not finished" not in server.output


def test_a_tcp_endpoint_uses_the_tls_certificate(pem: Path) -> None:
    with twist("epoll", "--tls-cert", pem, "--tcp", "tcp:0:interface=127.0.0.1") as (_, port), over_tls(port) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_an_ignored_sigint_stays_ignored() -> None:
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *TWIST, "--tcp", ANY_PORT]
    with running(*ignoring) as server:
        server.wait_for("Starting reactor")
        port = int(server.wait_for(r"tcp: listening on \S*:(\d+)\n")[1])
        for _ in range(3):
            server.process.send_signal(signal.SIGINT)
        assert echoes(port)
        server.process.terminate()
        assert server.end() == 0
        assert "Traceback" not in server.output


def test_the_log_names_services_and_not_the_classes_inside(tmp_path: Path, pem: Path) -> None:
    twistd = Path(sys.executable).with_name("twistd")
    ports = ("--tcp", ANY_PORT, "--chat", ANY_PORT, "--chat", f"unix:{tmp_path}/chat.sock", "--udp", ANY_PORT)
    flags = (*ports, "--metrics", ANY_PORT, "--tls-cert", pem, "--proxy-from", "127.0.0.1")
    with running(twistd, "-n", "--pidfile=", "netsvc", *flags) as server:
        metrics_port = server.wait_for(r"metrics: listening on 127.0.0.1:(\d+)")[1]
        assert page(metrics_port, "/readyz") == (200, "ready\n")
        server.process.terminate()
        assert server.end() == 0
        names = set(re.findall(r"[A-Za-z_]+(?:Factory|Site|Protocol|Port|Socket)\b", server.output))
        assert not names, server.output


def test_twistd_rotates_its_log_file_at_sigusr1(tmp_path: Path) -> None:
    log = tmp_path / "netsvc.log"
    twistd = Path(sys.executable).with_name("twistd")
    with running(twistd, "-n", "--pidfile=", "-l", log, "netsvc", "--tcp", ANY_PORT) as server:
        while not log.exists() or "listening on" not in log.read_text():
            assert server.process.poll() is None
        port = int(re.findall(r"listening on \S*:(\d+)", log.read_text())[0])
        while not echoes(port):
            pass
        server.process.send_signal(signal.SIGUSR1)
        while not log.with_name("netsvc.log.1").exists():
            assert server.process.poll() is None


@reactors
def test_a_log_that_nobody_reads_stops_neither_the_service_nor_the_end(reactor: str) -> None:
    source, entry = os.pipe()
    fcntl.fcntl(entry, fcntl.F_SETPIPE_SZ, 4096)
    command = [*TWIST[:-1], f"--reactor={reactor}", TWIST[-1], "--tcp", ANY_PORT, "--log-connections"]
    with started(*command, stdout=entry) as server:
        os.close(entry)
        output = b""
        while b"Starting reactor" not in output:
            output += os.read(source, 4096)
        [port] = re.findall(rb"listening on 127.0.0.1:(\d+)", output)
        assert all(echoes(int(port)) for _ in range(150))  # each connection is a line of about 100 bytes
        server.terminate()
        assert server.wait(SECONDS) == 0
    os.close(source)


@reactors
def test_a_full_disk_stops_neither_the_service_nor_the_end(reactor: str, tmp_path: Path) -> None:
    path = tmp_path / "echo"
    command = [*TWIST[:-1], f"--reactor={reactor}", TWIST[-1], "--tcp", f"unix:{path}", "--log-connections"]
    with Path("/dev/full").open("wb") as full, started(*command, stdout=full) as server:
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(SECONDS)
                while client.connect_ex(str(path)):
                    assert server.poll() is None
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        server.terminate()
        assert server.wait(SECONDS) == 0
