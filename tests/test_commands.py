from __future__ import annotations

import array
import fcntl
import json
import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest
import trustme

from netsvc import __version__
from netsvc.cli.main import COMMANDS, NAMES, main
from tests.namespaces import with_hosts
from tests.programs import (
    NETSVC,
    SECONDS,
    TWIST,
    backlog_of,
    in_thread,
    listening,
    netsvc,
    port_of,
    running,
    serving,
    started,
)

NOWHERE = "127.0.0.1:0"

CHOICE = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    with serving("--tcp", NOWHERE, "--chat", NOWHERE, "--udp", NOWHERE) as (_, (tcp, chat, udp)):
        yield {"tcp": tcp, "chat": chat, "udp": udp}


@pytest.fixture
def closed_port() -> int:
    """A port on which no program listens."""
    with listening() as opened:
        return port_of(opened)


def notices(stderr: bytes) -> list[str]:
    lines = stderr.decode().splitlines()
    assert all(line.startswith("netsvc: ") for line in lines), stderr.decode()
    return [line.removeprefix("netsvc: ") for line in lines]


# talk


def test_talk_through_pipes_prints_every_answer_and_ends(servers: dict[str, int]) -> None:
    done = netsvc("talk", servers["tcp"], stdin=b"a\nb\n")
    assert (done.returncode, done.stdout) == (0, b"a\nb\n")
    assert notices(done.stderr) == [f"talking to 127.0.0.1:{servers['tcp']}"]


def test_talk_carries_more_than_any_buffer_holds(servers: dict[str, int]) -> None:
    lines = b"".join(b"%0999d\n" % n for n in range(5000))
    done = netsvc("talk", servers["tcp"], stdin=lines)
    assert (done.returncode, done.stdout == lines) == (0, True)


def test_talk_to_a_closed_port_prints_one_line_and_exits_with_status_1(closed_port: int) -> None:
    done = netsvc("talk", closed_port, stdin=b"hello?\n")
    assert (done.returncode, done.stdout) == (1, b"")
    assert notices(done.stderr) == [
        f"127.0.0.1:{closed_port}: connection refused; no program listens on this port, or a firewall blocks it"
    ]


def test_talk_to_an_unknown_host_prints_one_line_and_exits_with_status_1() -> None:
    done = netsvc("talk", "nosuchhost.invalid:1")
    assert done.returncode == 1
    assert notices(done.stderr) == ["nosuchhost.invalid: host not found; the name is wrong, or no name server answers"]


def test_talk_reports_how_many_lines_came_after_the_end(servers: dict[str, int]) -> None:
    done = netsvc("talk", "--bye", "bye", servers["tcp"], stdin=b"a\nBye\nc\nd\n")
    assert (done.returncode, done.stdout) == (1, b"a\nBye\n")
    assert notices(done.stderr)[1:] == ["2 lines were not sent, because the conversation was over"]
    done = netsvc("talk", "--bye", "bye", servers["tcp"], stdin=b"bye\nc\n")
    assert notices(done.stderr)[1:] == ["1 line was not sent, because the conversation was over"]


def test_talk_prints_no_characters_that_a_terminal_interprets() -> None:
    with listening() as server:

        def send_control_characters() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall("\x1b[2J\u202eboo\x9b\n".encode())

        in_thread(send_control_characters)
        done = netsvc("talk", "--text", port_of(server))
    assert (done.returncode, done.stdout) == (0, b"[2Jboo\n")


def test_talk_reports_a_connection_that_was_reset() -> None:
    with listening() as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()

        in_thread(reset)
        done = netsvc("talk", port_of(server), stdin=b"hello\n")
    assert done.returncode == 1
    assert notices(done.stderr)[1:] == [
        f"127.0.0.1:{port_of_text(done.stderr)}: connection lost; "
        "the data that was sent last may not have arrived; if the server expects TLS, add --tls"
    ]


def port_of_text(stderr: bytes) -> str:
    match = re.search(rb"talking to 127\.0\.0\.1:(\d+)", stderr)
    assert match
    return match[1].decode()


def test_talk_reports_a_line_that_was_sent_to_a_closed_connection() -> None:
    with listening() as server, running(*NETSVC, "talk", port_of(server)) as client:
        connection, _ = server.accept()
        connection.close()
        client.wait_for("talking to")
        client.type("hello?\n")
        assert client.end() == 1
    assert "connection lost; the data that was sent last may not have arrived" in client.output


def test_one_ctrl_c_suffices_while_the_output_is_not_read(servers: dict[str, int]) -> None:
    with started(*NETSVC, "talk", servers["tcp"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        os.set_blocking(client.stdin.fileno(), False)
        capacity = fcntl.fcntl(client.stdout, fcntl.F_GETPIPE_SZ)
        unread = array.array("i", [0])
        blocked = False
        while not blocked or unread[0] < capacity // 2:  # a full pipe may have pages that are not full
            blocked = False
            try:
                os.write(client.stdin.fileno(), b"y\n" * 30_000)
            except BlockingIOError:
                blocked = True
            fcntl.ioctl(client.stdout, termios.FIONREAD, unread)
        client.send_signal(signal.SIGINT)
        assert client.wait(SECONDS) == 130


def test_talk_at_a_terminal_ends_with_ctrl_c_and_status_130(servers: dict[str, int]) -> None:
    ours, theirs = pty.openpty()
    with started(*NETSVC, "talk", servers["tcp"], stdin=theirs, stdout=theirs, stderr=theirs) as client:
        os.close(theirs)
        seen = b""
        os.write(ours, b"hello\n")
        while seen.count(b"hello") < 2:  # the terminal's echo and the server's
            seen += os.read(ours, 1000)
        client.send_signal(signal.SIGINT)
        assert client.wait(SECONDS) == 130
    os.close(ours)
    assert b"Traceback" not in seen


def rest_of(terminal: int) -> bytes:
    """Read the rest of a terminal whose other end is closed, and close it."""
    seen = b""
    with suppress(OSError):  # a pseudo-terminal reports its end as an error
        while data := os.read(terminal, 1000):
            seen += data
    os.close(terminal)
    return seen


def test_talk_at_a_terminal_ends_when_the_other_side_ends() -> None:
    ours, theirs = pty.openpty()
    with (
        listening() as server,
        started(*NETSVC, "talk", port_of(server), stdin=theirs, stdout=theirs, stderr=theirs) as client,
    ):
        connection, _ = server.accept()
        connection.sendall(b"so long\n")
        connection.close()
        assert client.wait(SECONDS) == 0
    os.close(theirs)
    seen = rest_of(ours)
    assert b"so long" in seen
    assert b"the other side has ended its input" in seen


def test_talk_leaves_the_terminal_in_blocking_mode(servers: dict[str, int]) -> None:
    ours, theirs = pty.openpty()
    with started(*NETSVC, "talk", servers["tcp"], stdin=theirs, stdout=theirs) as client:
        os.write(ours, b"bye\n")
        assert client.wait(SECONDS) == 0
    assert os.get_blocking(theirs)
    os.close(ours)
    os.close(theirs)


def test_talk_ends_when_its_output_is_closed(servers: dict[str, int]) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(*NETSVC, "talk", servers["tcp"], **pipes) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        client.stderr.readline()
        client.stdout.close()
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        assert client.wait(SECONDS) in (0, 1)  # 1 if the line was read after the end
        assert b"Traceback" not in client.stderr.read()


def test_talk_reads_from_a_file_and_writes_to_a_file(servers: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"one\ntwo\n")
    with (tmp_path / "in").open("rb") as stdin, (tmp_path / "out").open("wb") as stdout:
        subprocess.run([*NETSVC, "talk", str(servers["tcp"])], stdin=stdin, stdout=stdout, check=True, timeout=SECONDS)
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\n"


def test_talk_runs_without_standard_streams(servers: dict[str, int]) -> None:
    command = " ".join([*NETSVC, "talk", str(servers["tcp"]), "<&- >&- 2>&-"])
    assert subprocess.run(["sh", "-c", command], timeout=SECONDS, check=False).returncode == 0


def test_the_listening_side_may_send_first() -> None:
    with running(*NETSVC, "talk", "--bye", "bye", "--listen", NOWHERE) as listener:
        port = listener.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1]
        with running(*NETSVC, "talk", "--bye", "bye", port) as client:
            listener.wait_for("talking to")
            listener.type("welcome\n")
            client.wait_for("welcome")
            client.type("thanks\nbye\n")
            assert client.end() == 0
        assert listener.end() == 0
        assert "thanks\nbye\n" in listener.output


def test_a_second_client_is_told_that_the_listener_is_busy() -> None:
    with running(*NETSVC, "talk", "--listen", NOWHERE) as listener:
        port = int(listener.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1])
        with socket.create_connection(("127.0.0.1", port)) as first:
            listener.wait_for("talking to")
            done = netsvc("talk", port, stdin=b"hello?\n")
            assert (done.returncode, done.stdout) == (1, b"busy: one conversation at a time\n")
            assert notices(done.stderr)[-1] == f"127.0.0.1:{port}: the other side is busy; try again later"
            first.sendall(b"hello\n")
            listener.wait_for("hello\n")
            listener.close_input()
        assert listener.end() == 0


def test_a_client_and_a_server_talk_in_datagrams() -> None:
    with running(*NETSVC, "talk", "--udp", "--bye", "bye", "--listen", NOWHERE) as listener:
        port = listener.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1]
        with running(*NETSVC, "talk", "--udp", "--bye", "bye", port) as client:
            client.type("hello\n")
            listener.wait_for("hello")
            listener.type("hi\n")
            client.wait_for("hi")
            client.type("bye\n")
            assert client.end() == 0
        assert listener.end() == 0


def test_talk_in_datagrams_to_a_closed_port_exits_with_status_1(closed_port: int) -> None:
    done = netsvc("talk", "--udp", closed_port, stdin=b"hello?\n")
    assert done.returncode == 1
    assert "connection refused" in notices(done.stderr)[0]


def test_a_second_listener_on_the_same_port_prints_one_line_and_exits_with_status_1() -> None:
    with listening() as taken:
        for command in ("talk --listen", "receive"):
            done = netsvc(*command.split(), f"127.0.0.1:{port_of(taken)}")
            assert done.returncode == 1
            [line] = notices(done.stderr)
            assert line.startswith(f"127.0.0.1:{port_of(taken)}: ")
            assert "in use" in line


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ca.pem, and server.pem for localhost."""
    directory = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(directory / "ca.pem"))
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
    trustme.CA().cert_pem.write_to_path(str(directory / "other.pem"))
    return directory


@pytest.fixture(scope="module")
def tls_servers(authority: Path) -> Iterator[tuple[int, int]]:
    ssl_ = f"ssl:0:interface=127.0.0.1:privateKey={authority}/server.pem"
    with serving("--tcp", ssl_, "--chat", ssl_) as (_, (tcp, chat)):
        yield tcp, chat


def test_talk_over_tls_verifies_the_server_and_prints_every_answer(
    tls_servers: tuple[int, int], authority: Path
) -> None:
    done = netsvc("talk", "--tls", "--ca", authority / "ca.pem", f"localhost:{tls_servers[0]}", stdin=b"a\nb\n")
    assert (done.returncode, done.stdout) == (0, b"a\nb\n"), done.stderr


def test_a_bye_word_ends_a_talk_over_tls_and_its_answer_is_printed(
    tls_servers: tuple[int, int], authority: Path
) -> None:
    where = f"localhost:{tls_servers[0]}"
    done = netsvc("talk", "--tls", "--ca", authority / "ca.pem", where, stdin=b"a\nbye\n")
    assert (done.returncode, done.stdout) == (0, b"a\nbye\n"), done.stderr


def test_talk_trusts_the_authorities_of_the_system_by_default(tls_servers: tuple[int, int], authority: Path) -> None:
    where = f"localhost:{tls_servers[0]}"
    done = netsvc("talk", "--tls", where, stdin=b"a\n", env={**os.environ, "SSL_CERT_FILE": str(authority / "ca.pem")})
    assert (done.returncode, done.stdout) == (0, b"a\n"), done.stderr
    assert netsvc("talk", "--tls", where).returncode == 1


def test_talk_refuses_the_certificate_of_another_host_or_authority(
    tls_servers: tuple[int, int], authority: Path
) -> None:
    for ca, host, why in (("other.pem", "localhost", "certificate verify failed"), ("ca.pem", "127.0.0.1", "host")):
        done = netsvc("talk", "--tls", "--ca", authority / ca, f"{host}:{tls_servers[0]}", stdin=b"secret\n")
        assert (done.returncode, done.stdout) == (1, b"")
        [line] = notices(done.stderr)
        assert "TLS failed" in line
        assert why in line


def test_talk_over_tls_with_a_server_without_tls_prints_one_line(servers: dict[str, int]) -> None:
    done = netsvc("talk", "--tls", servers["chat"], stdin=b"a\n")
    assert done.returncode == 1
    assert "TLS failed" in notices(done.stderr)[0]


def test_chat_over_tls_works_with_any_tls_client(tls_servers: tuple[int, int], authority: Path) -> None:
    context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", tls_servers[1]), SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
        client.makefile("rb") as lines,
    ):
        client.sendall(b"/nick ann\n/quit\n")
        assert lines.read().endswith(b"* you are now ann\n* bye\n")


# timestamp


def test_timestamp_prints_the_answer_and_the_round_trip_time(servers: dict[str, int]) -> None:
    done = netsvc("timestamp", servers["udp"], "hello", "world")
    assert done.returncode == 0
    assert re.fullmatch(rb"\[\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\] hello world\n", done.stdout)
    assert re.fullmatch(r"round trip \d+\.\d{3} ms", notices(done.stderr)[0])


def test_timestamp_asks_one_question_for_each_line(servers: dict[str, int]) -> None:
    done = netsvc("timestamp", f"localhost:{servers['udp']}", stdin="a\n\n收到".encode())
    assert done.returncode == 0
    assert [line.partition(b"] ")[2].decode() for line in done.stdout.splitlines()] == ["a", "", "收到"]


def test_timestamp_without_an_answer_prints_an_error_and_exits_with_status_1(closed_port: int) -> None:
    done = netsvc("timestamp", closed_port, "hello")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "connection refused" in notices(done.stderr)[0]
    with listening(socket.SOCK_DGRAM) as silent:
        done = netsvc("timestamp", "-w", "0.1", "--tries", "2", port_of(silent), stdin=b"a\nb\n")
        assert done.returncode == 1
        assert len([line for line in notices(done.stderr) if "no answer" in line]) == 2
        silent.setblocking(False)
        assert [silent.recv(10) for _ in range(4)] == [b"a", b"a", b"b", b"b"]
        with pytest.raises(BlockingIOError):
            silent.recv(10)


def test_the_time_without_an_answer_is_that_of_all_tries_and_addresses(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("".join(f"192.0.2.{n} silent\n" for n in range(2, 6)))
    place = with_hosts(tmp_path / "hosts")
    began = time.monotonic()
    done = subprocess.run(
        [*place, *NETSVC, "timestamp", "-v", "-w", "1.2", "silent:520", "hello"],
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert 1.2 <= time.monotonic() - began < 4.8
    *asked, failure = notices(done.stderr)
    assert sorted(asked) == [f"asking 192.0.2.{n}:520" for n in range(2, 6)]
    assert failure.startswith("silent:520: no answer")


def test_the_round_trip_ends_when_the_kernel_received_the_answer_not_when_the_program_read_it() -> None:
    with listening(socket.SOCK_DGRAM) as server, running(*NETSVC, "timestamp", port_of(server), "hello") as client:
        _, asker = server.recvfrom(100)
        client.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, client.process.pid, os.WSTOPPED | os.WNOWAIT)
        server.sendto(b"[Sat Nov 21 00:33:33 2026] hello", asker)
        server.settimeout(1.0)
        with pytest.raises(TimeoutError):  # nothing arrives meanwhile
            server.recv(100)
        client.process.send_signal(signal.SIGCONT)
        assert client.end() == 0
        match = re.search(r"round trip ([0-9.]+) ms", client.output)
        assert match
        assert float(match[1]) < 900


def test_a_lost_question_is_asked_again_and_the_round_trip_says_so() -> None:
    with (
        listening(socket.SOCK_DGRAM) as server,
        running(*NETSVC, "timestamp", "-w", "0.6", port_of(server), "hello") as client,
    ):
        server.recvfrom(100)
        _, asker = server.recvfrom(100)
        server.sendto(b"[Sat Nov 21 00:33:33 2026] hello", asker)
        assert client.end() == 0
    assert re.search(r"round trip 2\d\d\.\d{3} ms, from the first of 2 tries\n", client.output)


def test_timestamp_says_how_the_round_trip_was_measured_if_it_is_asked_to(servers: dict[str, int]) -> None:
    done = netsvc("timestamp", servers["udp"], "hello", "-v")
    asking, round_trip = notices(done.stderr)
    assert asking == f"asking 127.0.0.1:{servers['udp']}"
    assert re.fullmatch(
        r"round trip \d+\.\d{3} ms, from the send (to the receive stamp|until this program).*", round_trip
    )


def test_a_question_leaves_from_the_address_and_the_port_that_are_given() -> None:
    with listening(socket.SOCK_DGRAM) as server, listening(socket.SOCK_DGRAM) as free:
        chosen = port_of(free)
        free.close()
        arguments = ["-s", "127.0.0.5", "-p", str(chosen), str(port_of(server)), "hello"]
        with running(*NETSVC, "timestamp", *arguments) as client:
            _, asker = server.recvfrom(100)
            assert asker == ("127.0.0.5", chosen)
            server.sendto(b"[Sat Nov 21 00:33:33 2026] hello", asker)
            assert client.end() == 0


def test_timestamp_asks_one_family_only(servers: dict[str, int]) -> None:
    assert netsvc("timestamp", "-4", f"localhost:{servers['udp']}", "x").returncode == 0
    done = netsvc("timestamp", "-6", f"127.0.0.1:{servers['udp']}", "x")
    assert done.returncode == 1
    assert notices(done.stderr) == ["127.0.0.1: no IPv6 address, although -4, -6 or the source address asks for one"]


def test_timestamp_prints_an_object_for_each_answer(servers: dict[str, int]) -> None:
    done = netsvc("timestamp", "--json", servers["udp"], stdin=b"a\nb\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == ["a", "b"]


def test_timestamp_at_a_terminal_ends_at_an_empty_line(servers: dict[str, int]) -> None:
    ours, theirs = pty.openpty()
    with started(*NETSVC, "timestamp", servers["udp"], stdin=theirs, stdout=theirs, stderr=theirs) as client:
        os.write(ours, b"hello\n\n")
        assert client.wait(SECONDS) == 0
    os.close(theirs)
    seen = rest_of(ours)
    assert b"> " in seen
    assert b"] hello" in seen


# send and receive


def test_a_stream_is_received_line_by_line() -> None:
    with running(*NETSVC, "receive", "--text", "--count", "3", NOWHERE) as receiver:
        port = receiver.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1]
        assert netsvc("send", f"127.0.0.1:{port}", "one").returncode == 0
        receiver.wait_for("one")
        assert netsvc("send", f"127.0.0.1:{port}", stdin=b"two\nthr\x1bee").returncode == 0
        assert receiver.end() == 0
    printed = [line for line in receiver.output.splitlines() if not line.startswith("netsvc: ")]
    assert printed == ["one", "two", "three"]
    assert len(re.findall(r"netsvc: from 127\.0\.0\.1:\d+", receiver.output)) == 2


def test_datagrams_are_received_one_by_one() -> None:
    with running(*NETSVC, "receive", "--udp", "--text", "--count", "3", NOWHERE) as receiver:
        port = receiver.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1]
        assert netsvc("send", "--udp", f"127.0.0.1:{port}", "one", "more").returncode == 0
        assert netsvc("send", "--udp", f"127.0.0.1:{port}", stdin=b"two\nthree\n").returncode == 0
        assert receiver.end() == 0
    assert [line for line in receiver.output.splitlines() if not line.startswith("netsvc: ")] == [
        "one more",
        "two",
        "three",
    ]


def test_receive_ends_only_at_the_given_bye_words() -> None:
    with running(*NETSVC, "receive", "--udp", "--bye", "exit", NOWHERE) as receiver:
        port = receiver.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1]
        assert netsvc("send", "--udp", f"127.0.0.1:{port}", stdin=b"bye\nEXIT\n").returncode == 0
        assert receiver.end() == 0
    assert "bye\nEXIT\n" in receiver.output


def test_receive_reports_a_line_that_is_too_long() -> None:
    with running(*NETSVC, "receive", "--text", "--count", "1", NOWHERE) as receiver:
        port = receiver.wait_for(r"waiting on 127\.0\.0\.1:(\d+)")[1]
        netsvc("send", f"127.0.0.1:{port}", stdin=b"x" * 1_100_000 + b"\nnext\n")
        assert receiver.end() == 0
    assert re.search("line too long: .*; the line was dropped\n", receiver.output)
    assert receiver.output.endswith("next\n")


def test_the_exit_status_after_a_signal_tells_which_signal_it_was() -> None:
    with running(*NETSVC, "receive", "--udp", NOWHERE) as receiver:
        receiver.wait_for("waiting")
        assert receiver.stop(signal.SIGINT) == 130
    with running(*NETSVC, "receive", "--udp", NOWHERE) as receiver:
        receiver.wait_for("waiting")
        assert receiver.stop(signal.SIGTERM) == 143


def test_ctrl_c_while_the_modules_are_loaded_prints_no_text_and_is_status_130(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    interrupt = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    for module in ("click", "twisted"):  # the command line is parsed with the first; a command needs the second
        (tmp_path / f"{module}.py").write_text(interrupt)
        done = netsvc("talk", "1", env=environment)
        assert (done.returncode, done.stdout, done.stderr.strip()) == (130, b"", b""), module  # click ends the line
        (tmp_path / f"{module}.py").unlink()


def test_send_to_a_closed_port_prints_one_line_and_exits_with_status_1(closed_port: int) -> None:
    for how in ((), ("--udp",)):
        done = netsvc("send", *how, f"127.0.0.1:{closed_port}", "hello")
        assert done.returncode == 1
        assert notices(done.stderr) == [
            f"127.0.0.1:{closed_port}: connection refused; no program listens on this port, or a firewall blocks it"
        ]


def test_send_reports_a_line_that_is_too_long_for_a_datagram(servers: dict[str, int]) -> None:
    done = netsvc("send", "--udp", f"127.0.0.1:{servers['udp']}", stdin=b"x" * 70_000)
    assert done.returncode == 1
    assert "70,000 bytes are too long for a datagram" in notices(done.stderr)[0]


# lookup and usage


def test_lookup_describes_this_host_and_looks_up_in_both_directions() -> None:
    done = netsvc("lookup")
    assert done.returncode == 0
    assert f"host name: {socket.gethostname()}".encode() in done.stdout
    assert b"address: 127.0.0.1/8 on lo, scope host (loopback)" in done.stdout
    done = netsvc("lookup", "127.0.0.1", "localhost", "192.168.1.1", "nosuch.invalid")
    assert done.returncode == 1
    assert b"127.0.0.1: loopback address" in done.stdout
    assert b"localhost: address 127.0.0.1 (loopback)" in done.stdout
    assert b"192.168.1.1: private address" in done.stdout
    assert notices(done.stderr) == ["192.168.1.1: no name found", "nosuch.invalid: not found"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nosuch"],
        ["talk"],
        ["talk", "80000"],
        ["talk", "0"],
        ["talk", "a..b:1"],
        ["talk", "1", "2"],
        ["talk", "--nosuch", "1"],
        ["talk", "--framing", "words", "1"],
        ["talk", "--tls", "--listen", "1"],
        ["talk", "--tls", "--udp", "1"],
        ["talk", "--raw", "--text", "1"],
        ["talk", "--raw", "--bye", "q", "1"],
        ["talk", "--keep", "1"],
        ["talk", "--cert", "x", "1"],
        ["talk", "--key", "x", "--tls", "1"],
        ["talk", "--tls-cert", "x", "--tls", "1"],
        ["talk", "--listen", "-s", "127.0.0.1", "1"],
        ["talk", "-4", "-6", "1"],
        ["talk", "-4", "-s", "::1", "1"],
        ["talk", "-U", "x", "1"],
        ["talk", "unix:"],
        ["talk", "-w", "0", "1"],
        ["send", "-u", "-U", "x", "text"],
        ["receive", "--raw", "--text", "1"],
        ["receive", "-u", "-U", "x"],
        ["receive", "--max-bytes", "0", "1"],
        ["talk", "--ca", "x", "1"],
        ["talk", "--udp", "--framing", "raw", "1"],
        ["timestamp"],
        ["timestamp", "word"],
        ["timestamp", "--tries", "0", "1"],
        ["timestamp", "--timeout", "nan", "1"],
        ["timestamp", "--timeout", "x", "1"],
        ["timestamp", "-w", "0", "1"],
        ["timestamp", "-4", "-6", "1"],
        ["timestamp", "-4", "-s", "::1", "1"],
        ["timestamp", "-s", "localhost", "1"],
        ["timestamp", "-p", "0", "1"],
        ["timestamp", "-p", "1:1", "1"],
        ["timestamp", "☃.example:1"],
        ["lookup", "-4", "-6"],
        ["lookup", "--name-server", "name", "x"],
        ["lookup", "--name-server", "127.0.0.1:0", "x"],
        ["send"],
        ["send", "-u", "--tls", "1", "x"],
        ["send", "--ca", "x", "1", "x"],
        ["send", "--tls", "--key", "x", "1", "x"],
        ["receive", "--tls-key", "x", "1"],
        ["receive", "-u", "--tls-cert", "x", "1"],
        ["receive"],
        ["receive", "--count", "none", "1"],
    ],
)
def test_wrong_usage_prints_one_line_and_exits_with_status_64(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 64
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(notices(printed.err.encode())) == 1


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("", f"the command is missing; choose {CHOICE}; see netsvc --help"),
        ("talk 0", "0: port 0 cannot be connected to; choose 1 to 65535; see netsvc talk --help"),
        ("nosuch", f"nosuch: there is no such command; choose {CHOICE}; see netsvc --help"),
        ("talk", "[HOST:]PORT is missing; see netsvc talk --help"),
        ("talk 1 2", "unexpected argument 2; see netsvc talk --help"),
        ("talk --framing words 1", "--framing: 'words' is not one of 'line', 'raw'; see netsvc talk --help"),
        (
            "send host:1 hello --udq",
            "--udq: there is no such option; write --udp, or -- before text that begins with a dash; "
            "see netsvc send --help",
        ),
        (
            "timestamp 520 -x",
            "-x: there is no such option; write -- before text that begins with a dash; see netsvc timestamp --help",
        ),
        (
            "talk --tls --listen 1",
            "--tls with --listen needs a certificate; add --tls-cert FILE and --tls-key FILE; see netsvc talk --help",
        ),
        ("talk --ca x 1", "--ca has no effect without --tls; add --tls; see netsvc talk --help"),
        (
            "timestamp --timeout nan 1",
            "--timeout nan: not a number above 0; choose one, such as --timeout 3; see netsvc timestamp --help",
        ),
        ("send", "[HOST:]PORT is missing; see netsvc send --help"),
    ],
)
def test_an_error_names_the_flag_and_the_remedy(command: str, error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(command.split())
    assert notices(capsys.readouterr().err.encode()) == [error]


@pytest.mark.parametrize(
    "arguments",
    [
        ["talk", "--tls", "--ca", "/no/such/file", "127.0.0.1:1"],
        ["talk", "--tls", "--ca", "/dev/null", "127.0.0.1:1"],
        ["talk", "--listen", "80000"],
        ["receive", "80000"],
        ["receive", "--tls-cert", "/no/such/file", "127.0.0.1:0"],
        ["send", "--tls", "--ca", "/no/such/file", "127.0.0.1:1", "x"],
        ["receive", "--udp", "word"],
    ],
)
def test_wrong_usage_that_is_found_later_exits_with_status_64_too(arguments: list[str]) -> None:
    done = netsvc(*arguments)
    assert (done.returncode, done.stdout) == (64, b"")
    assert len(notices(done.stderr)) == 1


def test_the_address_to_listen_on_may_be_a_host_name() -> None:
    for command in (["receive", "--count", "1"], ["talk", "--listen"]):
        with running(*NETSVC, *command, "localhost:0") as listener:
            port = listener.wait_for(r"waiting on (?:127\.0\.0\.1|\[::1\]):(\d+)")[1]
            assert netsvc("send", f"localhost:{port}", stdin=b"bye\n").returncode == 0
            assert listener.end() == 0


def test_receive_listens_on_a_unix_socket(tmp_path: Path) -> None:
    with running(*NETSVC, "receive", "--text", "--count", "1", f"unix:{tmp_path}/socket") as receiver:
        receiver.wait_for("waiting on")
        with socket.socket(socket.AF_UNIX) as sender:
            sender.connect(f"{tmp_path}/socket")
            sender.sendall(b"hello\n")
            assert receiver.end() == 0
    assert receiver.output.endswith("netsvc: from a UNIX socket\nhello\n")


def test_receive_stops_reading_while_its_output_is_full() -> None:
    with started(*NETSVC, "receive", NOWHERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as receiver:
        assert receiver.stderr is not None
        match = re.search(rb"127\.0\.0\.1:(\d+)", receiver.stderr.readline())
        assert match
        with socket.create_connection(("127.0.0.1", int(match[1])), SECONDS) as sender:
            sender.settimeout(1.0)
            sent: list[int] = []

            def send_a_lot() -> None:
                while sum(sent) < 100_000_000:
                    sent.append(sender.send(b"x" * 9_999 + b"\n"))

            with pytest.raises(TimeoutError):  # the receiver does not read
                send_a_lot()
        assert sum(sent) < 30_000_000


def test_send_reports_a_stream_that_was_reset() -> None:
    with listening() as server:

        def reset() -> None:
            connection, _ = server.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.recv(1)
            connection.close()

        in_thread(reset)
        done = netsvc("send", f"127.0.0.1:{port_of(server)}", stdin=b"x" * 1_000_000)
    assert done.returncode == 1
    assert "connection lost" in notices(done.stderr)[0]


def test_timestamp_and_lookup_end_when_their_output_is_closed(servers: dict[str, int]) -> None:
    for command in ("yes | {} timestamp {} 2>&1 | head -1", "{} lookup localhost localhost {} | true"):
        line = command.format(" ".join(NETSVC), servers["udp"])
        done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=SECONDS, check=False)
        assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("command", [[], *([name] for name in NAMES)])
def test_help_is_printed_on_request(command: list[str]) -> None:
    done = netsvc(*command, "--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Usage: netsvc" in done.stdout.replace(b"__main__.py", b"netsvc")


def test_the_version_is_printed_on_request() -> None:
    assert netsvc("--version").stdout == f"netsvc {__version__}\n".encode()


def test_a_short_option_has_one_meaning_in_all_commands_and_is_in_the_table() -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "clients.md").read_text()
    rows = re.findall(r"^\| (`-[^|]*) \| (`--[^|]*) \|", page, re.MULTILINE)
    table = {
        short: long
        for shorts, longs in rows
        for short, long in zip(re.findall(r"`(-\w)", shorts), re.findall(r"`(--[\w-]+)", longs), strict=True)
    }
    assert set("46cdhilopsuUvw") == {short[1:] for short in table}
    context = click.Context(COMMANDS)
    for name in NAMES:
        command = COMMANDS.get_command(context, name)
        assert command is not None
        for parameter in command.get_params(context):
            for short in (flag for flag in parameter.opts if re.fullmatch(r"-\w", flag)):
                assert isinstance(parameter, click.Option)
                assert table[short] in parameter.opts, f"netsvc {name} {short}"


# the server


def test_the_server_reports_a_used_port_in_one_line() -> None:
    with listening() as taken:
        done = subprocess.run(
            [*TWIST, "--tcp", NOWHERE, "--tcp", f"127.0.0.1:{port_of(taken)}"],
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 1
    [line] = done.stderr.decode().splitlines()
    assert line.startswith(f"netsvc: --tcp 127.0.0.1:{port_of_line(line)}: ")
    assert "in use" in line


TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


def port_of_line(line: str) -> str:
    match = re.search(r"127\.0\.0\.1:(\d+)", line)
    assert match
    return match[1]


def test_twistd_reports_a_used_port_in_one_line_and_leaves_no_pid_file(tmp_path: Path) -> None:
    with listening() as taken:
        done = subprocess.run(
            [*TWISTD, "-n", "--logfile=log", "netsvc", "--tcp", f"127.0.0.1:{port_of(taken)}"],
            capture_output=True,
            timeout=SECONDS,
            cwd=tmp_path,
            check=False,
        )
    assert done.returncode == 1
    assert len(done.stderr.decode().splitlines()) == 1
    assert not (tmp_path / "twistd.pid").exists()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"))]
)
def test_a_bare_port_serves_ipv4_and_ipv6(host: str) -> None:
    with serving("--tcp", "0", "--udp", "0") as (_, (tcp, udp)):
        where = f"[{host}]" if ":" in host else host
        assert netsvc("talk", f"{where}:{tcp}", stdin=b"a\n").stdout == b"a\n"
        assert netsvc("timestamp", f"{where}:{udp}", "b").stdout.endswith(b"] b\n")


def test_the_server_runs_under_twistd(tmp_path: Path) -> None:
    with running(*TWISTD, "-n", "--pidfile=", f"--rundir={tmp_path}", "netsvc", "--tcp", NOWHERE) as server:
        port = server.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1]
        assert netsvc("talk", port, stdin=b"a\n").stdout == b"a\n"
        server.stop()
        assert "Traceback" not in server.output


def test_the_server_shuts_down_gracefully_at_a_signal_and_notifies_its_members() -> None:
    with serving("--chat", NOWHERE) as (server, [port]), socket.create_connection(("127.0.0.1", port), SECONDS) as nc:
        with nc.makefile("rb") as lines:
            lines.readline()
            server.process.terminate()
            assert lines.read().endswith(b"* the server stops; bye\n")
        nc.close()
        server.end()
        assert "Traceback" not in server.output
        assert "Main loop terminated" in server.output


SYSTEMD = """
import os, socket, sys
stream, datagram = int(sys.argv[1]), int(sys.argv[2])
kept = [os.dup(stream), os.dup(datagram)]
while min(kept) < 5:
    kept = [os.dup(fd) for fd in kept]
os.dup2(kept[0], 3)
os.dup2(kept[1], 4)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="echo:time")
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


@pytest.mark.parametrize("time", ["name=time", "index=1"])
def test_the_server_uses_sockets_that_systemd_opened(time: str) -> None:
    with listening() as stream, listening(socket.SOCK_DGRAM) as datagram:
        stream.listen(77)
        command = [sys.executable, "-c", SYSTEMD, str(stream.fileno()), str(datagram.fileno()), *TWIST[1:]]
        flags = ["--tcp", "systemd:domain=INET:name=echo", "--udp", f"systemd:domain=INET:{time}"]
        descriptors = (stream.fileno(), datagram.fileno())
        with started(*command, *flags, pass_fds=descriptors, stdout=subprocess.PIPE) as server:
            assert netsvc("talk", port_of(stream), stdin=b"a\n").stdout == b"a\n"
            assert backlog_of(stream) == 77
            assert netsvc("timestamp", port_of(datagram), "b").stdout.endswith(b"] b\n")
            server.terminate()
            server.communicate(timeout=SECONDS)


def test_the_server_refuses_a_socket_of_systemd_of_the_wrong_kind() -> None:
    with listening() as stream, listening(socket.SOCK_DGRAM) as datagram:
        command = [sys.executable, "-c", SYSTEMD, str(stream.fileno()), str(datagram.fileno()), *TWIST[1:]]
        done = subprocess.run(
            [*command, "--udp", "systemd:domain=INET:name=echo"],
            pass_fds=(stream.fileno(), datagram.fileno()),
            capture_output=True,
            timeout=SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert b"the socket is not a datagram socket of INET" in done.stderr
