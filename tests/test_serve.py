"""Tests of ``netsvc serve`` as a process. Its service is that of ``twist netsvc`` (tests/test_operations.py)."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from netsvc.server.config import SETTINGS
from tests.programs import NETSVC, SECONDS, TWIST, Program, listening, netsvc, port_of, running, started

ANY_PORT = "127.0.0.1:0"


@contextmanager
def serve(*flags: object) -> Iterator[tuple[Program, int]]:
    """Run ``netsvc serve`` during a block. Yield the program and its last port."""
    with running(*NETSVC, "serve", *flags) as server:
        server.wait_for("Starting reactor")
        yield server, int(re.findall(r"listening on \S*:(\d+)\n", server.output)[-1])


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), SECONDS)


def errors(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return done.stderr.decode().splitlines()


def as_logged(output: str) -> list[str]:
    """Return a log without its times and ports, and without the names of the programs that started the reactor."""
    text = re.sub(r"^\S+ ", "", output, flags=re.MULTILINE)
    text = re.sub(r"\[\S*(Runner|Serve)#info]", "[RUNNER]", text)
    return re.sub(r"127\.0\.0\.1:\d+|Port \d+", "PORT", text).splitlines()


# The process


@pytest.mark.parametrize("reactor", ["epoll", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_its_log_and_its_end_are_those_of_twist(reactor: str, number: signal.Signals) -> None:
    ends = []
    for command in (
        [*NETSVC, "serve", "--reactor", reactor],
        [*TWIST[:-1], f"--reactor={reactor}", TWIST[-1]],
    ):
        with running(*command, "--tcp", ANY_PORT) as server:
            server.wait_for("Starting reactor")
            port = int(server.wait_for(r"tcp: listening on \S*:(\d+)\n")[1])
            with connect(port) as client:  # the signals are handled by now
                client.sendall(b"x")
                assert client.recv(1) == b"x"
            status = server.stop(number)
            ends.append((status, as_logged(server.output)))
    assert ends[0] == ends[1]
    assert ends[0][0] == (0 if number == signal.SIGTERM else -signal.SIGINT)


def test_a_second_sigterm_ends_the_process_at_once() -> None:
    flags = ("--chat", ANY_PORT, "--drain-timeout", "0", "--close-timeout", "0")
    with serve(*flags) as (server, port), connect(port) as client, client.makefile("rb") as lines:
        lines.readline()
        server.process.terminate()
        assert b"* the server stops; bye\n" in lines
        server.process.terminate()
        assert server.end() == -signal.SIGTERM


def test_sighup_reads_the_certificate_again_and_sigusr1_logs_the_counters(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    with serve("--tcp", ANY_PORT, "--tls-cert", pem) as (server, _):
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("server.pem: certificate reloaded")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("tcp: connections: 0 open")
        assert server.stop() == 0


def test_an_ignored_sigint_stays_ignored() -> None:
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *NETSVC, "serve", "--tcp", ANY_PORT]
    with running(*ignoring) as server:
        server.wait_for("Starting reactor")
        port = int(server.wait_for(r"tcp: listening on \S*:(\d+)\n")[1])
        server.process.send_signal(signal.SIGINT)
        with connect(port) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        assert server.stop() == 0


def test_a_log_that_nobody_reads_stops_neither_the_service_nor_the_end() -> None:
    source, entry = os.pipe()
    fcntl.fcntl(entry, fcntl.F_SETPIPE_SZ, 4096)
    with started(*NETSVC, "serve", "--tcp", ANY_PORT, "--log-connections", stdout=entry) as server:
        os.close(entry)
        output = b""
        while b"Starting reactor" not in output:
            output += os.read(source, 4096)
        [port] = re.findall(rb"listening on 127.0.0.1:(\d+)", output)
        for _ in range(150):  # each connection is a line of about 100 bytes
            with connect(int(port)) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"x"
        server.terminate()
        assert server.wait(SECONDS) == 0
    os.close(source)


def test_the_soft_limit_of_open_files_is_raised() -> None:
    limit = "import os, resource, sys; resource.setrlimit(7, (128, 500)); os.execv(sys.argv[1], sys.argv[1:])"
    with running(sys.executable, "-c", limit, *NETSVC, "serve", "--tcp", ANY_PORT) as server:
        server.wait_for("Starting reactor")
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    assert re.search(r"Max open files +500 +500 ", limits)


def test_uvloop_is_used_if_it_is_installed_and_another_reactor_on_request() -> None:
    assert b"reactor: uvloop\n" in netsvc("serve", "--check").stdout
    assert b"reactor: epoll\n" in netsvc("serve", "--check", "--reactor", "epoll").stdout
    hidden = "import sys; sys.modules['uvloop'] = None; from netsvc.cli.main import main; main(['serve', '--check'])"
    command = [sys.executable, "-c", hidden]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    assert b"reactor: default\n" in done.stdout, done.stderr


def test_a_used_port_is_one_line_of_error_and_status_1() -> None:
    with listening() as taken:
        port = port_of(taken)
        done = netsvc("serve", "--tcp", ANY_PORT, "--tcp", f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (1, b"")
    [line] = errors(done)
    assert line.startswith(f"netsvc: --tcp 127.0.0.1:{port}: already in use; ")


# The flags and the file


def test_every_setting_is_a_flag_in_the_group_of_the_help() -> None:
    text = netsvc("serve", "--help").stdout.decode()
    sections = dict(re.findall(r"^([A-Z][\w ]+):\n((?:  .*\n|\n)+)", text, re.MULTILINE))
    for name, setting in SETTINGS.items():
        assert f"  --{name.replace('_', '-')}" in sections[setting.group], name


def test_settings_are_read_from_a_file_and_flags_replace_them(tmp_path: Path) -> None:
    path = tmp_path / "netsvc.toml"
    path.write_text('tcp = ["127.0.0.1:0", "127.0.0.1:0"]\nreply = "file"\nreactor = "epoll"\nudp_rate = 5\n')
    done = netsvc("serve", "--config", path, "--check")
    assert done.stdout.decode().splitlines() == [
        "tcp: a free port of 127.0.0.1",
        "tcp: a free port of 127.0.0.1",
        "--reply file (default: echo)",
        "--udp-rate 5 (default: 100)",
        "reactor: epoll",
    ]
    with serve("--config", path, "--tcp", ANY_PORT, "--reply", "flag") as (server, port), connect(port) as client:
        assert server.output.count("listening on") == 1
        client.sendall(b"x")
        assert client.recv(10) == b"flag"


@pytest.mark.parametrize(
    ("content", "flags", "error"),
    [
        ("udp-rat = 1", (), "udp-rat: there is no such key; write udp-rate"),
        ("tcp = 1314", (), 'tcp: 1314 is not a list of strings; write tcp = ["1314"]'),
        ("udp_rate = -1", (), "udp-rate -1: out of range; give a number from 0, which means no limit"),
        ('framing = "line"', ("--tcp", "1"), "framing line: an echo has no messages to frame; add --reply"),
    ],
)
def test_a_wrong_file_is_one_line_of_error_that_names_file_and_key(
    content: str, flags: tuple[str, ...], error: str, tmp_path: Path
) -> None:
    path = tmp_path / "netsvc.toml"
    path.write_text(content)
    done = netsvc("serve", "--config", path, *flags)
    assert (done.returncode, done.stdout) == (64, b"")
    assert errors(done) == [f"netsvc: {path}: {error}; see netsvc serve --help"]


def test_a_setting_of_the_file_that_cannot_be_served_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "netsvc.toml"
    path.write_text('tcp = ["1"]\ntls-cert = "/nowhere/c.pem"')
    for check in ((), ("--check",)):
        done = netsvc("serve", "--config", path, *check)
        assert (done.returncode, done.stdout) == (64, b"")
        [line] = errors(done)
        assert line.startswith(f"netsvc: {path}: tls-cert /nowhere/c.pem: cannot be read: no such file or directory; ")


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--udp-rate", "fast"], "--udp-rate fast: not a number; give a number from 0, which means no limit"),
        (["--framing", "words", "--reply", "x"], "--framing words: the choices are raw and line; choose one of them"),
        (["--tcp"], "--tcp: the value is missing; write it after the option"),
        (["1314"], "unexpected argument 1314"),
        (["--udp-rat", "1"], "--udp-rat: there is no such option; write --udp-rate"),
        (["--reactor", "nosuch"], "--reactor nosuch: there is no such reactor; choose one of asyncio, "),
        (["--tcp", "nosuch:1"], "--tcp nosuch:1: 'nosuch' is neither an IP address nor a kind of endpoint; write PORT"),
    ],
)
def test_wrong_flags_are_one_line_of_error_and_status_64(flags: list[str], error: str) -> None:
    done = netsvc("serve", *flags)
    assert (done.returncode, done.stdout) == (64, b"")
    [line] = errors(done)
    assert line.startswith(f"netsvc: {error}")


def test_a_reactor_that_cannot_be_used_is_one_line_of_error_and_status_1() -> None:
    done = netsvc("serve", "--reactor", "win32", "--check")
    assert (done.returncode, done.stdout) == (1, b"")
    [line] = errors(done)
    assert line.startswith("netsvc: --reactor win32: No module named ")


# The check


def test_the_check_opens_no_port_and_makes_no_file(tmp_path: Path) -> None:
    with listening() as taken:
        flags = ("--tcp", f"127.0.0.1:{port_of(taken)}", "--chat", ANY_PORT, "--chat-store", f"sqlite:{tmp_path}/c.db")
        done = netsvc("serve", "--check", *flags)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines() == [
        f"tcp: port {port_of_flag(flags[1])} of 127.0.0.1",
        "chat: a free port of 127.0.0.1",
        f"store of the chat: sqlite:{tmp_path}/c.db",
        "reactor: uvloop",
    ]
    assert list(tmp_path.iterdir()) == []


def port_of_flag(flag: str) -> str:
    return flag.rpartition(":")[2]


def test_the_check_shows_the_certificate_and_its_end(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    issued = trustme.CA().issue_cert("chat.example.org", "*.example.net", "192.0.2.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    done = netsvc("serve", "--check", "--tcp", "1", "--tls-cert", pem)
    line = rf"certificate: {pem} for chat\.example\.org, \*\.example\.net, 192\.0\.2\.1, ends on \d{{4}}-\d\d-\d\d"
    assert re.search(line + r" \(in \d+ days\)\n", done.stdout.decode()), done.stdout


def test_the_check_warns_of_ports_that_need_root_and_succeeds() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if lowest <= 520:
        pytest.skip("every user may open port 520 here")
    # PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE: not even root keeps the capability.
    drop = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 10); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", drop, *NETSVC, "serve", "--check", "--udp", "520"]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert b"warning: --udp 520: port 520 needs root, CAP_NET_BIND_SERVICE or a socket of systemd's; " in done.stdout


def test_the_check_lists_all_problems_and_exits_with_status_1(tmp_path: Path) -> None:
    flags = ("--tcp", "1314", "--chat", "127.0.0.1:1314", "--chat-store", f"sqlite:{tmp_path}/none/c.db")
    done = netsvc("serve", "--check", *flags)
    assert done.returncode == 1
    assert errors(done) == [
        "netsvc: --chat 127.0.0.1:1314: already used by --tcp 1314; choose another port or address",
        f"netsvc: --chat-store sqlite:{tmp_path}/none/c.db: {tmp_path}/none/c.db: there is no such folder; make it",
    ]


def test_the_check_says_that_only_systemd_can_pass_a_socket() -> None:
    done = netsvc("serve", "--check", "--tcp", "systemd:domain=INET6:name=web", "--udp", "systemd:domain=INET:index=0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": systemd must pass this socket; it was not checked\n") == 2


def test_an_output_that_is_full_or_closed_is_no_traceback() -> None:
    check = " ".join([*NETSVC, "serve", "--check"])
    done = subprocess.run(["sh", "-c", f"{check} >/dev/full"], capture_output=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (1, b"netsvc: standard output: no space left on device\n")
    done = subprocess.run(["sh", "-c", f"{check} | true"], capture_output=True, timeout=SECONDS, check=False)
    assert done.stderr == b""
