"""Bytes between streams and files or pipes: they arrive as they were, whatever program is at the other end."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pytest
import trustme
from twisted.internet.testing import MemoryReactor

from netsvc.cli.output_descriptor import OutputDescriptor
from tests.programs import NETSVC, SECONDS, in_thread, listening, netsvc, port_of, running, started

NOWHERE = "127.0.0.1:0"
RANDOM = os.urandom(3_000_000)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def waiting(*arguments: object, **streams: Any) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a netsvc command that listens, and yield it and its port."""
    with started(*NETSVC, *arguments, NOWHERE, stderr=subprocess.PIPE, **streams) as process:
        yield process, int(line_of(process.stderr, rb"waiting on 127\.0\.0\.1:(\d+)")[1])


def line_of(stream: IO[bytes] | None, pattern: bytes) -> re.Match[bytes]:
    """Read lines until one has ``pattern``."""
    assert stream is not None
    while not (match := re.search(pattern, line := stream.readline())):
        assert line, f"ended without {pattern!r}"
    return match


@pytest.fixture
def random_file(tmp_path: Path) -> Path:
    (tmp_path / "random").write_bytes(RANDOM)
    return tmp_path / "random"


def test_talk_carries_random_bytes_to_nc_and_back(random_file: Path) -> None:
    answer = os.urandom(2_000_000)
    with listening() as server:
        received: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                in_thread(lambda: connection.sendall(answer) or connection.shutdown(socket.SHUT_WR))  # type: ignore[func-returns-value]
                while piece := connection.recv(65_536):
                    received.append(piece)

        thread = in_thread(serve)
        done = netsvc("talk", port_of(server), stdin=RANDOM)
        thread.join(SECONDS)
    assert done.returncode == 0, done.stderr
    assert sha(done.stdout) == sha(answer)
    assert sha(b"".join(received)) == sha(RANDOM)


def test_a_listening_talk_exchanges_files_with_nc(random_file: Path, tmp_path: Path) -> None:
    with (
        random_file.open("rb") as ours,
        (tmp_path / "out").open("wb") as out,
        waiting("talk", "--listen", stdin=ours, stdout=out) as (talk, port),
    ):
        reverse = RANDOM[::-1]
        done = subprocess.run(
            ["nc", "-N", "127.0.0.1", str(port)], input=reverse, capture_output=True, timeout=SECONDS, check=True
        )
        assert talk.wait(SECONDS) == 0
    assert sha(done.stdout) == sha(RANDOM)
    assert sha((tmp_path / "out").read_bytes()) == sha(reverse)


@pytest.mark.parametrize(
    "client",
    [
        "nc -N 127.0.0.1 {port}",
        "ncat --send-only 127.0.0.1 {port}",
        "socat -u - TCP:127.0.0.1:{port}",
        f"{sys.executable} -m netsvc send 127.0.0.1:{{port}}",
        f"{sys.executable} -m netsvc talk 127.0.0.1:{{port}}",
    ],
)
def test_receive_writes_what_each_program_sends(client: str, tmp_path: Path) -> None:
    with waiting("receive", "--count", "1", "-o", tmp_path / "out") as (receive, port):
        subprocess.run(client.format(port=port).split(), input=RANDOM, timeout=SECONDS, check=True)
        assert receive.wait(SECONDS) == 0
    assert sha((tmp_path / "out").read_bytes()) == sha(RANDOM)


def test_a_piped_bye_is_sent_like_any_other_line() -> None:
    with waiting("receive", "--count", "1", stdout=subprocess.PIPE) as (receive, port):
        assert netsvc("talk", port, stdin=b"bye\nmore\n").returncode == 0
        assert receive.communicate(timeout=SECONDS)[0] == b"bye\nmore\n"


def test_whole_connections_are_written_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with (
        waiting("receive", "--count", "2", "-o", path) as (receive, port),
        socket.create_connection(("127.0.0.1", port), SECONDS) as first,
        socket.create_connection(("127.0.0.1", port), SECONDS) as second,
    ):
        first.sendall(b"1")
        line_of(receive.stderr, b"from 127.0.0.1")
        sent = 0
        second.setblocking(False)
        while sent < 50_000_000 and select.select([], [second], [], 0.5)[1]:
            with suppress(BlockingIOError):
                sent += second.send(b"2" * 65_536)
        second.shutdown(socket.SHUT_WR)
        assert path.read_bytes() == b"1"  # the second waits, and is not read
        first.sendall(b"1" * 100_000)
        first.shutdown(socket.SHUT_WR)
        assert receive.wait(SECONDS) == 0
    assert path.read_bytes() == b"1" * 100_001 + b"2" * sent


def test_a_stream_that_is_cut_is_reported_and_what_arrived_stays(tmp_path: Path) -> None:
    with waiting("receive", "--count", "1", "-o", tmp_path / "out") as (receive, port):
        with socket.create_connection(("127.0.0.1", port), SECONDS) as sender:
            sender.sendall(b"beginning")
            line_of(receive.stderr, b"from 127.0.0.1")
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert receive.wait(SECONDS) == 1
        assert receive.stderr is not None
        assert b"connection lost; what was received of it is not whole" in receive.stderr.read()
    assert (tmp_path / "out").read_bytes() == b"beginning"


def test_more_than_max_bytes_is_an_error_and_the_bytes_before_stay(tmp_path: Path) -> None:
    with waiting("receive", "--max-bytes", "10", "-o", tmp_path / "out") as (receive, port):
        with socket.create_connection(("127.0.0.1", port), SECONDS) as sender:
            sender.sendall(b"0123456789and more")
            assert receive.wait(SECONDS) == 1
        assert receive.stderr is not None
        assert b"netsvc: more than 10 bytes have arrived" in receive.stderr.read()
    assert (tmp_path / "out").read_bytes() == b"0123456789"


def test_datagrams_from_a_pipe_keep_their_line_ends_and_arrive_as_they_were() -> None:
    with waiting("receive", "--udp", "--count", "3", stdout=subprocess.PIPE) as (receive, port):
        data = b"one\r\n\xff\x00two\nthree"
        assert netsvc("send", "--udp", f"127.0.0.1:{port}", stdin=data).returncode == 0
        assert receive.communicate(timeout=SECONDS)[0] == data


@pytest.mark.parametrize("command", ["talk", "receive"])
def test_a_full_disk_is_one_line_and_status_1(command: str) -> None:
    arguments = ["talk", "--listen"] if command == "talk" else ["receive"]
    with Path("/dev/full").open("wb") as full:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": full}
        with waiting(*arguments, **streams) as (process, port):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as sender:
                sender.sendall(b"x")
                assert process.wait(SECONDS) == 1
            assert process.stderr is not None
            lines = process.stderr.read().decode().splitlines()
    assert lines[-1] == "netsvc: standard output: no space left on device"
    assert len(lines) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_the_part_that_fits_on_a_full_disk_stays(small_disk: Path) -> None:
    with waiting("receive", "-o", small_disk / "out") as (receive, port):
        netsvc("send", f"127.0.0.1:{port}", stdin=RANDOM)
        assert receive.wait(SECONDS) == 1
        assert receive.stderr is not None
        assert receive.stderr.read().endswith(f"netsvc: {small_disk}/out: no space left on device\n".encode())
    kept = (small_disk / "out").read_bytes()
    assert len(kept) > 900_000
    assert RANDOM.startswith(kept)


def test_a_closed_pipe_is_silence() -> None:
    with waiting("receive", stdout=subprocess.PIPE) as (receive, port):
        assert receive.stdout is not None
        receive.stdout.close()
        assert receive.wait(SECONDS) == 0  # without a byte: the reader is gone
        assert receive.stderr is not None
        assert receive.stderr.read() == b""
    assert port


def test_a_terminal_gets_safe_text_and_a_file_the_bytes(tmp_path: Path) -> None:
    unsafe = b"\x1b[2J\xffboo\n"
    for flag, expected in (("--text", b"[2J\xef\xbf\xbdboo\n"), ("--raw", unsafe)):
        with waiting("receive", flag, "--count", "1", stdout=subprocess.PIPE) as (receive, port):
            assert netsvc("send", f"127.0.0.1:{port}", stdin=unsafe).returncode == 0
            assert receive.communicate(timeout=SECONDS)[0] == expected
    ours, theirs = pty.openpty()
    with waiting("receive", "--count", "1", stdout=theirs) as (receive, port):
        assert netsvc("send", f"127.0.0.1:{port}", stdin=unsafe).returncode == 0
        assert receive.wait(SECONDS) == 0
    os.close(theirs)
    seen = os.read(ours, 1000)
    os.close(ours)
    assert seen == b"[2J\xef\xbf\xbdboo\r\n"


def test_ctrl_c_ends_a_transfer_with_status_130(tmp_path: Path) -> None:
    with (
        waiting("receive", "-o", tmp_path / "out") as (receive, port),
        socket.create_connection(("127.0.0.1", port), SECONDS) as sender,
    ):
        sender.sendall(b"x" * 100_000)
        line_of(receive.stderr, b"from 127.0.0.1")
        receive.send_signal(signal.SIGINT)
        assert receive.wait(SECONDS) == 130
    assert (tmp_path / "out").read_bytes().strip(b"x") == b""


def test_talk_neither_reads_its_input_nor_the_stream_while_nothing_takes_it() -> None:
    with listening() as server:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with started(*NETSVC, "talk", port_of(server), **pipes) as talk:
            connection, _ = server.accept()
            line_of(talk.stderr, b"talking to")
            assert talk.stdin is not None
            connection.settimeout(1.0)
            with connection:
                with pytest.raises(TimeoutError):  # its standard output is not read
                    connection.sendall(b"x" * 100_000_000)
                assert memory_of(talk.pid) < 80_000_000
                fill(talk.stdin.fileno(), talk.pid)  # the connection is not read
                assert memory_of(talk.pid) < 80_000_000


def fill(fd: int, pid: int) -> None:
    """Write to a pipe until nobody has read from it for a second. It takes far less than is offered."""
    os.set_blocking(fd, False)
    offered = 0
    while select.select([], [fd], [], 1.0)[1]:
        with suppress(BlockingIOError):
            offered += os.write(fd, b"x" * 65_536)
        assert offered < 100_000_000, f"{pid} reads all of it"


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


@pytest.mark.parametrize(
    ("flag", "end", "most"), [("--text", b"\n", 10**9), ("--raw", b"", 10**9), ("--text", b"", 1_000_000)]
)
def test_200_greedy_peers_cost_at_most_32_mib(flag: str, end: bytes, most: int) -> None:
    """Each sends lines, bytes, or one line without an end, as much as it can while the output is not read."""
    with waiting("receive", flag, stdout=subprocess.PIPE) as (receive, port):
        before = memory_of(receive.pid)
        peers = []
        for number in range(200):
            peer = socket.socket()
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # so that little waits on this side
            peer.bind((f"127.0.0.{1 + number % 2}", 0))
            peer.connect(("127.0.0.1", port))
            peer.setblocking(False)
            peers.append(peer)
        sent, piece = dict.fromkeys(peers, 0), (b"x" * 999 + end) * 60
        deadline = time.monotonic() + SECONDS
        hungry = peers
        while (ready := select.select([], hungry, [], 1.0)[1]) and time.monotonic() < deadline:
            for peer in ready:
                with suppress(BlockingIOError):
                    sent[peer] += peer.send(piece)
            hungry = [peer for peer in hungry if sent[peer] < most]
        cost = memory_of(receive.pid) - before
        for peer in peers:
            peer.close()
    assert cost < 32 * 1024 * 1024, f"{cost:,}"


def test_receive_refuses_connections_above_its_bounds() -> None:
    with waiting("receive", "--max-per-host", "1", "--max-connections", "2", stdout=subprocess.PIPE) as (_, port):
        peers = []
        for host in ("127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.3"):
            peer = socket.create_connection(("127.0.0.1", port), SECONDS, (host, 0))
            peers.append(peer)
        assert peers[1].recv(100) == b"too many connections from one host\n"
        assert peers[3].recv(100) == b"server full\n"
        for peer in peers:
            peer.close()


def test_talk_to_a_full_server_exits_with_status_1() -> None:
    with (
        waiting("receive", "--max-connections", "1", stdout=subprocess.PIPE) as (_, port),
        socket.create_connection(("127.0.0.1", port), SECONDS),
    ):
        done = netsvc("talk", port)
    assert (done.returncode, done.stdout) == (1, b"server full\n")
    assert done.stderr.endswith(b": the server has refused the connection: server full\n")


def test_no_answer_in_time_is_an_error() -> None:
    with listening() as silent:
        for command in (["talk"], ["talk", "--udp"], ["send"]):
            with listening(socket.SOCK_DGRAM) as datagrams:
                port = port_of(datagrams if "--udp" in command else silent)
                done = netsvc(*command, "-w", "0.3", f"127.0.0.1:{port}", stdin=b"hello?\n")
            assert done.returncode == 1, command
            assert b"no answer" in done.stderr


def test_keep_takes_one_partner_after_another() -> None:
    with waiting("talk", "--listen", "--keep", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as (talk, port):
        for text in (b"one\n", b"two\n"):
            subprocess.run(["nc", "-N", "127.0.0.1", str(port)], input=text, timeout=SECONDS, check=True)
        talk.send_signal(signal.SIGINT)
        assert talk.communicate(timeout=SECONDS)[0] == b"one\ntwo\n"
        assert talk.returncode == 130


def test_talk_send_and_receive_use_unix_sockets(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    for listener, client in (
        (["receive", "--count", "1", "-U", path], ["send", "-U", path]),
        (["receive", "--count", "1", f"unix:{path}"], ["talk", f"unix:{path}"]),
        (["talk", "-l", "-U", path], ["send", f"unix:{path}"]),
    ):
        out = tmp_path / "out"
        with (
            out.open("wb") as stdout,
            started(*NETSVC, *listener, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE) as process,
        ):
            line_of(process.stderr, b"waiting on unix:")
            assert netsvc(*client, stdin=RANDOM).returncode == 0
            assert process.wait(SECONDS) == 0
        assert sha(out.read_bytes()) == sha(RANDOM)
    done = netsvc("talk", "-U", tmp_path / "none")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"no such file or directory" in done.stderr


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name in ("localhost", "client"):
        issued = ca.issue_cert(name)
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    return folder


def test_a_listening_talk_speaks_tls_and_asks_for_a_certificate(certificates: Path, tmp_path: Path) -> None:
    tls = ["--tls", "--tls-cert", certificates / "localhost.pem", "--tls-key", certificates / "localhost.key"]
    own = ["--cert", certificates / "client.pem", "--key", certificates / "client.key"]
    trusted = ["--tls", "--ca", certificates / "ca.pem"]
    client_ca = ["--client-ca", certificates / "ca.pem"]
    with (
        (tmp_path / "out").open("wb") as out,
        waiting("talk", "-l", "--keep", *tls, *client_ca, stdin=subprocess.DEVNULL, stdout=out) as (talk, port),
    ):
        assert netsvc("talk", *trusted, f"localhost:{port}", stdin=b"hello").returncode == 1
        done = netsvc("talk", *trusted, *own, f"localhost:{port}", stdin=RANDOM)
        assert done.returncode == 0, done.stderr
        talk.send_signal(signal.SIGINT)
        assert talk.wait(SECONDS) == 130
    assert sha((tmp_path / "out").read_bytes()) == sha(RANDOM)


def test_talk_presents_a_certificate_to_openssl(certificates: Path) -> None:
    with listening() as opened:
        port = port_of(opened)
    server = [
        *("openssl", "s_server", "-quiet", "-accept", f"127.0.0.1:{port}", "-naccept", "1", "-Verify", "1"),
        *("-cert", certificates / "localhost.pem", "-key", certificates / "localhost.key"),
        *("-CAfile", certificates / "ca.pem", "-verify_return_error"),
    ]
    with started(*server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        wait_for_port(port)
        own = ["--cert", certificates / "client.pem", "--key", certificates / "client.key"]
        done = netsvc("talk", "--tls", "--ca", certificates / "ca.pem", *own, f"localhost:{port}", stdin=b"hello\n")
        assert done.returncode == 0, done.stderr
        assert process.stdout is not None
        assert b"hello\n" in process.stdout.read()


def test_receive_accepts_tls_from_each_program(certificates: Path, tmp_path: Path) -> None:
    path, ca = tmp_path / "out", certificates / "ca.pem"
    tls = ["--tls-cert", certificates / "localhost.pem", "--tls-key", certificates / "localhost.key"]
    for client in (
        [*NETSVC, "send", "--tls", "--ca", ca, "localhost:PORT"],
        ["socat", "-u", "-", f"OPENSSL:localhost:PORT,cafile={ca}"],
    ):
        with waiting("receive", "--count", "1", "-o", path, *tls, stdin=subprocess.DEVNULL) as (receive, port):
            words = [str(word).replace("PORT", str(port)) for word in client]
            subprocess.run(words, input=RANDOM, timeout=SECONDS, check=True)
            assert receive.wait(SECONDS) == 0
        assert sha(path.read_bytes()) == sha(RANDOM), client[0]


def test_a_failed_handshake_is_reported_and_does_not_count(certificates: Path) -> None:
    tls = ["--tls-cert", certificates / "localhost.pem", "--tls-key", certificates / "localhost.key"]
    with waiting("receive", "--count", "1", *tls, stdout=subprocess.PIPE) as (receive, port):
        netsvc("send", f"localhost:{port}", "hello")
        line_of(receive.stderr, b"the TLS handshake failed")
        done = netsvc("send", "--tls", f"localhost:{port}", "hello")
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"certificate verify failed; --ca FILE" in done.stderr
        line_of(receive.stderr, b"the TLS handshake failed")
        assert netsvc("send", "--tls", "--ca", certificates / "ca.pem", f"localhost:{port}", "hello").returncode == 0
        assert receive.communicate(timeout=SECONDS)[0] == b"hello"
        assert receive.returncode == 0


def test_receive_demands_a_certificate_and_send_presents_one(certificates: Path) -> None:
    tls = ["--tls-cert", certificates / "localhost.pem", "--tls-key", certificates / "localhost.key"]
    own = ["--cert", certificates / "client.pem", "--key", certificates / "client.key"]
    trusted = ["--tls", "--ca", certificates / "ca.pem"]
    with waiting("receive", "--count", "1", *tls, "--client-ca", certificates / "ca.pem", stdout=subprocess.PIPE) as (
        receive,
        port,
    ):
        assert netsvc("send", *trusted, f"localhost:{port}", "stranger").returncode == 1
        assert netsvc("send", *trusted, *own, f"localhost:{port}", "hello").returncode == 0
        assert receive.communicate(timeout=SECONDS)[0] == b"hello"


@pytest.mark.parametrize(
    ("reads", "alert", "status"), [("all", True, 0), ("all", False, 0), ("nothing", True, 1), ("nothing", False, 1)]
)
def test_send_over_tls_tells_whether_everything_was_read(
    reads: str, alert: bool, status: int, certificates: Path
) -> None:
    """The other side is a classic program, which often closes a connection without an alert."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "localhost.pem", certificates / "localhost.key")
    with listening() as server:

        def serve() -> None:
            connection, _ = server.accept()
            raw = connection.dup()
            with context.wrap_socket(connection, server_side=True) as secured:
                with raw:  # everything has arrived, so that the client has ended its side
                    raw.recv(30_000, socket.MSG_PEEK | socket.MSG_WAITALL)
                while reads == "all" and secured.recv(65_536):
                    pass
                if alert:
                    with suppress(ssl.SSLError):
                        secured.unwrap()

        thread = in_thread(serve)
        trusted = ["--tls", "--ca", certificates / "ca.pem"]
        done = netsvc("send", *trusted, f"localhost:{port_of(server)}", "x" * 30_000)
        thread.join()
    assert done.returncode == status, done.stderr
    assert (b"connection lost" in done.stderr) == bool(status)


def test_send_that_receives_an_alert_of_tls_gives_a_hint() -> None:
    with listening() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(ConnectionResetError):
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x0a")
                while connection.recv(65_536):
                    pass

        in_thread(serve)
        done = netsvc("send", f"127.0.0.1:{port_of(server)}", "hello")
    assert (done.returncode, done.stderr.endswith(b": the other side speaks TLS; add --tls\n")) == (1, True)


def test_send_connects_to_this_host_if_only_a_port_is_given() -> None:
    with waiting("receive", "--count", "1", stdout=subprocess.PIPE) as (receive, port):
        done = netsvc("send", "-v", port, "x")
        assert receive.communicate(timeout=SECONDS)[0] == b"x"
    assert done.stderr.endswith(b"netsvc: sent 1 byte\n")


def wait_for_port(port: int) -> None:
    """Wait until a program listens, without a connection to it."""
    pattern = re.compile(rf"^\s*\d+: 0100007F:{port:04X} 00000000:0000 0A", re.MULTILINE)
    deadline = time.monotonic() + SECONDS
    while not pattern.search(Path("/proc/net/tcp").read_text()):
        assert time.monotonic() < deadline


def test_a_server_that_speaks_tls_leads_to_a_hint(certificates: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "localhost.pem", certificates / "localhost.key")
    with listening() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass

        in_thread(serve)
        done = netsvc("talk", port_of(server), stdin=b"GET / HTTP/1.0\r\n\r\n")
    assert done.returncode == 1
    assert b"--tls" in done.stderr or b"connection lost" in done.stderr


def test_an_alert_in_an_exact_conversation_leads_to_a_hint() -> None:
    with listening() as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x0a")

        in_thread(serve)
        done = netsvc("talk", port_of(server), stdin=b"hello\n")
    assert (done.returncode, done.stdout) == (1, b"\x15\x03\x01\x00\x02\x02\x0a")
    assert done.stderr.endswith(b": the other side speaks TLS; add --tls\n")


def test_progress_is_shown_on_a_terminal_and_erased(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with listening() as server:
        with started(
            *NETSVC, "talk", port_of(server), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs
        ) as talk:
            os.close(theirs)
            connection, _ = server.accept()
            seen = b""
            with connection:
                while b"B/s" not in seen and b"bytes/s" not in seen:
                    connection.sendall(b"x" * 1000)
                    seen += read_available(ours)
            assert talk.wait(SECONDS) == 0
        with suppress(OSError):
            while piece := os.read(ours, 1000):
                seen += piece
    os.close(ours)
    assert re.search(rb"\r[\d.]+ \w+, [\d.]+ \w+/s", seen)
    assert re.search(rb"\r +\r$", seen)


def read_available(fd: int) -> bytes:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1000)
    except BlockingIOError:
        return b""
    finally:
        os.set_blocking(fd, True)


def test_a_notice_waits_for_the_data_before_it_in_a_full_pipe() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    notices: list[str] = []
    reactor = MemoryReactor()
    output = OutputDescriptor(reactor, notices.append, writing)
    output.notice("before")
    output.write(b"x" * 200_000)
    output.notice("after")
    output.write(b"end")
    assert notices == ["before"]
    seen = b""
    while output.is_full:
        assert notices == ["before"]
        seen += os.read(reading, 200_000)
        output.doWrite()
    while len(seen) < 200_003:
        seen += os.read(reading, 200_000)
    assert notices == ["before", "after"]
    assert seen == b"x" * 200_000 + b"end"
    output.detach()
    assert not reactor.readers
    assert not reactor.writers
    os.close(reading)
    os.close(writing)


def test_talk_connects_from_the_chosen_address_and_port() -> None:
    with listening() as free:
        port = port_of(free)
    command = [*NETSVC, "talk", "-4", "-s", "127.0.0.2", "-p", port]
    with listening() as server, running(*command, f"localhost:{port_of(server)}"):
        connection, peer = server.accept()
        connection.close()
    assert peer == ("127.0.0.2", port)
