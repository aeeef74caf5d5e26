"""``netsvc chat`` in a terminal and in pipes, against a real server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pytest
import trustme

from tests.programs import NETSVC, SECONDS, in_thread, listening, netsvc, port_of, serving
from tests.terminals import Terminal, at_terminal

NOWHERE = "127.0.0.1:0"

#: Ends the status line of a client that is in the chat, and that has sent everything.
CONNECTED = r"\d  connected$"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, int]]:
    with serving("--chat", NOWHERE, "--web", NOWHERE) as (_, (chat, web)):
        yield {"chat": chat, "web": web}


@pytest.fixture
def port(servers: dict[str, int]) -> int:
    return servers["chat"]


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room that no other test uses."""
    return f"r{abs(hash(request.node.nodeid)) % 10**12}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


class Member:
    """A member with netcat's lines, who is in a room."""

    def __init__(self, port: int, nick: str, room: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self.say(f"/nick {nick}")
        self.say(f"/join {room}")
        self.wait_for(r"in #r\d+")

    def __enter__(self) -> Member:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.say("/quit")  # its nick is free at once
            self._lines.read()
        self._lines.close()
        self._socket.close()

    def say(self, line: str) -> None:
        self._socket.sendall(f"{line}\n".encode())

    def wait_for(self, pattern: str) -> str:
        """Read lines until one matches."""
        for line in self._lines:
            if re.search(pattern, line):
                return line
        raise AssertionError(f"the connection was closed without {pattern!r}")


def chat_in_terminal(
    port: object, *options: object, state: Path, columns: int = 80, rows: int = 24, **env: str
) -> AbstractContextManager[Terminal]:
    settings = {"XDG_STATE_HOME": str(state), "TZ": "UTC", "NO_COLOR": "", **env}
    return at_terminal(*NETSVC, "chat", port, *options, env=settings, columns=columns, rows=rows)


def piped(port: object, *options: object, stdin: str, state: Path) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "XDG_STATE_HOME": str(state)}
    return netsvc("chat", port, *options, stdin=stdin.encode(), env=env)


# The screen


def test_the_screen_has_lines_with_times_and_a_status_line_above_the_editor(port: int, room: str, state: Path) -> None:
    with (
        Member(port, "bob", room) as bob,
        chat_in_terminal(port, "--nick", "ann", "--room", room, state=state) as terminal,
    ):
        terminal.wait_for(CONNECTED)
        bob.say("good morning")
        terminal.wait_for(r"^\d\d:\d\d <bob> good morning$")
        terminal.type("hello bob\r")
        bob.wait_for("<ann> hello bob")
        terminal.wait_for(r"^\d\d:\d\d <ann> hello bob$")
        assert terminal.screen.display[22].split() == [f"#{room}", "ann", f"127.0.0.1:{port}", "connected"]
        assert terminal.screen.display[23].rstrip() == ">"
        assert terminal.screen.buffer[22][0].reverse
        assert terminal.screen.buffer[22][79].reverse
        bobs = terminal.style_at(terminal.row_with("good morning"), "<bob>")
        own = terminal.style_at(terminal.row_with("hello bob"), "<ann>")
        assert (bobs.fg != "default", bobs.bold, own.fg, own.bold) == (True, False, "default", True)


def test_an_arriving_line_does_not_break_the_line_that_is_typed(port: int, room: str, state: Path) -> None:
    with Member(port, "bob", room) as bob, chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.type("half a li")
        terminal.wait_for("^> half a li$")
        for number in range(8):
            bob.say(f"line {number}")
        terminal.wait_for("line 7")
        assert terminal.screen.display[23].rstrip() == "> half a li"
        terminal.type("ne\x01my \r")  # Ctrl-A goes to the beginning
        bob.wait_for("my half a line")


def test_wide_and_right_to_left_text_is_divided_at_the_width_of_the_screen(port: int, room: str, state: Path) -> None:
    with Member(port, "bob", room) as bob, chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        bob.say("你好" * 40)
        bob.say("family 👨‍👩‍👧 ❤️ 👍🏽 end")
        bob.say("שלום עולם")
        terminal.wait_for("שלום עולם")
        first = terminal.row_with("<bob> 你")
        # 12 columns before the text leave room for 34 characters; 6 before the rest.
        assert terminal.screen.display[first].count("你") + terminal.screen.display[first].count("好") == 34
        assert terminal.screen.display[first + 1].startswith(" " * 6 + "你")
        assert terminal.row_with("family 👨👩👧 ❤ 👍 end") == first + 3
        assert not re.search("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", terminal.text)


def test_after_a_resize_the_lines_are_divided_anew_and_nothing_old_is_left(port: int, room: str, state: Path) -> None:
    with Member(port, "bob", room) as bob, chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        bob.say("word " * 30 + "end")
        terminal.wait_for("end")
        terminal.resize(40, 12)
        terminal.wait_for(r"^\d\d:\d\d <bob>( word){5}\n( {6}word( word){6}\n){3} {6}(word ){4}end$")
        terminal.wait_for(rf"^ #{room} [^\n]*\n>")  # the last rows are drawn last
        assert terminal.screen.display[10].startswith(f" #{room} ")
        assert terminal.screen.display[11].rstrip() == ">"
        terminal.resize(100, 30)
        terminal.wait_for(r"^\d\d:\d\d <bob>( word){17}\n {6}(word ){13}end$")
        terminal.wait_for(r"connected[^\n]*\n>")
        assert [number for number, line in enumerate(terminal.screen.display) if "connected" in line] == [28]
        assert [number for number, line in enumerate(terminal.screen.display) if line.startswith(">")] == [29]


def test_page_up_shows_older_lines_and_stays_there_when_lines_arrive(room: str, state: Path) -> None:
    with (
        serving("--chat", NOWHERE, "--chat-rate", "0") as (_, (free_port,)),
        Member(free_port, "bob", room) as bob,
        chat_in_terminal(free_port, "--room", room, state=state) as terminal,
    ):
        terminal.wait_for(CONNECTED)
        for number in range(60):
            bob.say(f"line {number}.")
        terminal.wait_for(r"line 59\.")
        terminal.type("\x1b[5~")
        terminal.wait_for(r"line 39\.$\n.*20 below")
        bob.say("one more")
        terminal.wait_for("21 below")
        assert "line 39." in terminal.screen.display[21]
        terminal.type("\x1b[6~\x1b[6~")
        terminal.wait_for("one more")
        assert "below" not in terminal.text


def test_tab_completes_commands_nicks_and_rooms(port: int, room: str, state: Path) -> None:
    with Member(port, "bartholomew", room) as bob, chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.type("/ms\tBart\tpsst")
        terminal.wait_for("^> /msg bartholomew psst$")
        terminal.type("\r")
        bob.wait_for("-> bartholomew> psst")
        terminal.type("bar\thi\r")
        bob.wait_for("> bartholomew: hi")


def test_up_shows_what_was_typed_before(port: int, room: str, state: Path) -> None:
    with chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.type("first\rsecond\r")
        terminal.wait_for("second$")
        terminal.type("\x1b[A\x1b[A")
        terminal.wait_for("^> first$")


def test_private_messages_and_mentions_are_counted_until_a_key_is_pressed(port: int, room: str, state: Path) -> None:
    nick = f"a{room[1:9]}"
    with (
        Member(port, f"b{room[1:9]}", room) as bob,
        chat_in_terminal(port, "--nick", nick, "--room", room, state=state) as terminal,
    ):
        terminal.wait_for(CONNECTED)
        bob.say(f"is {nick} there?")
        bob.say(f"/msg {nick} psst")
        terminal.wait_for("2 for you")
        assert terminal.style_at(terminal.row_with("there?"), "is").bold
        terminal.type("x")
        terminal.wait_for("^> x$")
        assert "for you" not in terminal.text


def test_an_erased_line_disappears_from_the_screen(port: int, room: str, state: Path) -> None:
    with Member(port, "bob", room) as bob, chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        bob.say("my-password-1")
        terminal.wait_for("my-password-1")
        bob.say("/erase")
        terminal.wait_for("this line was erased")
        assert "my-password-1" not in terminal.text


def test_a_paste_is_sent_at_the_pace_of_the_server_and_the_rest_can_be_dropped(
    port: int, room: str, state: Path
) -> None:
    lines = [f"/path/{number}" for number in range(200)]
    with Member(port, "bob", room) as bob, chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.paste("\n".join(lines))
        terminal.wait_for("200 lines: Enter sends, Ctrl-C drops them")
        terminal.type("\r")
        terminal.wait_for(r"1\d\d to send")
        bob.wait_for("> /path/12$")
        terminal.type("\x03")
        terminal.wait_for(r"1\d\d lines are dropped")
        terminal.type("the end\r")
        bob.wait_for("the end")
        terminal.wait_for(CONNECTED)


def test_quit_asks_first_if_lines_are_not_sent_yet(port: int, room: str, state: Path) -> None:
    with chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.paste("".join(f"line {number}\n" for number in range(50)))
        terminal.wait_for("50 lines: Enter sends")
        terminal.type("\r")
        terminal.wait_for(r"\d\d to send")
        terminal.type("/quit\r")
        terminal.wait_for("quit again drops them")
        terminal.type("/quit\r")
        assert terminal.end() == 0


def test_a_line_that_is_too_long_stays_in_the_editor(port: int, room: str, state: Path) -> None:
    with chat_in_terminal(port, "--room", room, state=state, columns=120) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.paste("x" * 1_050)
        terminal.wait_for("x{40}$")
        terminal.type("\r")
        terminal.wait_for(r"too long: 1,\d{3} of at most 1,024 bytes")
        terminal.type("\x7f" * 60 + " end\r")
        terminal.wait_for("x end$")


def test_no_color_and_color_never_print_no_colors(port: int, room: str, state: Path) -> None:
    for options, no_color in (((), "1"), (("--color", "never"), "")):
        with (
            Member(port, "bob", room) as bob,
            chat_in_terminal(port, *options, "--room", room, state=state, NO_COLOR=no_color) as terminal,
        ):
            terminal.wait_for(CONNECTED)
            bob.say("good morning")
            terminal.wait_for("<bob> good morning")
            assert not re.search(rb"\x1b\[[0-9;]*\b[34]8;", terminal.received)


# The end


def test_control_d_quits_with_0_and_the_terminal_is_as_before(port: int, state: Path) -> None:
    with chat_in_terminal(port, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.type("\x04")
        assert (terminal.end(), terminal.is_restored()) == (0, True)


def test_quit_quits_with_0(port: int, state: Path) -> None:
    with chat_in_terminal(port, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.type("/quit\r")
        assert (terminal.end(), terminal.is_restored()) == (0, True)


def test_control_c_empties_the_line_then_asks_and_then_ends_with_130(port: int, state: Path) -> None:
    with chat_in_terminal(port, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.type("abc")
        terminal.wait_for("^> abc$")
        terminal.type("\x03")
        terminal.wait_for("^>$")
        terminal.type("\x03")
        terminal.wait_for("Ctrl-C again ends")
        terminal.type("\x03")
        assert (terminal.end(), terminal.is_restored()) == (130, True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_the_terminal_is_as_before(
    number: signal.Signals, status: int, port: int, state: Path
) -> None:
    with chat_in_terminal(port, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        assert not terminal.is_restored()
        terminal.process.send_signal(number)
        assert (terminal.end(), terminal.is_restored()) == (status, True)


def test_a_closed_port_is_one_line_and_status_1(state: Path) -> None:
    with listening() as opened:
        closed_port = port_of(opened)
    with chat_in_terminal(closed_port, state=state) as terminal:
        assert (terminal.end(), terminal.is_restored()) == (1, True)
        assert "netsvc: 127.0.0.1:" in terminal.text
        assert "connection refused" in terminal.text
    assert list((state / "netsvc" / "chat").iterdir()) == []  # a wrong address is not remembered


def test_the_reason_for_which_a_server_refuses_is_printed_and_is_exit_status_1(state: Path) -> None:
    with serving("--chat", NOWHERE, "--max-connections", "1") as (_, (port,)):
        with socket.create_connection(("127.0.0.1", port), SECONDS) as first:
            first.recv(100)
            done = piped(port, stdin="hello\n", state=state)
        assert done.returncode == 1
        assert done.stderr == f"netsvc: 127.0.0.1:{port}: the server closed the connection: server full\n".encode()


def test_control_c_ends_the_search_in_what_was_typed(port: int, room: str, state: Path) -> None:
    with chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        terminal.type("first\r\x12fi")
        terminal.wait_for("^I-search backward: fi$")
        terminal.type("\x03")
        terminal.wait_for(r"connected\n>$")


# Losses


def test_after_a_loss_it_counts_down_connects_again_and_says_what_was_lost(
    room: str, state: Path, tmp_path: Path
) -> None:
    with listening() as opened:
        port = port_of(opened)
    store = ("--chat", f"127.0.0.1:{port}", "--chat-store", f"sqlite:{tmp_path / 'chat.db'}")
    with serving(*store) as (server, _), chat_in_terminal(port, "--room", room, state=state) as terminal:
        terminal.wait_for(CONNECTED)
        server.process.kill()
        terminal.wait_for("the connection was lost; connecting again|the server closed the connection; connecting")
        terminal.wait_for(r"not connected, again in \d+ s")
        terminal.type("typed meanwhile\r")
        terminal.wait_for("1 to send")
        with serving(*store), Member(port, "bob", room):
            terminal.wait_for("connected again; ", 40)
            terminal.wait_for("> typed meanwhile$")
            terminal.wait_for(CONNECTED)


def test_a_restart_within_two_minutes_resumes_the_session(port: int, room: str, state: Path) -> None:
    nick = f"a{room[1:9]}"
    with Member(port, "bob", room) as bob:
        with chat_in_terminal(port, "--nick", nick, "--room", room, state=state) as terminal:
            terminal.wait_for(CONNECTED)
            bob.wait_for(f"{nick} joined")
            terminal.process.send_signal(signal.SIGTERM)
            assert terminal.end() == 143
        [memory] = (state / "netsvc" / "chat").iterdir()
        assert stat.S_IMODE(memory.stat().st_mode) == 0o600
        token = json.loads(memory.read_text())["session"]["token"]
        bob.say("said meanwhile")
        with at_terminal(*NETSVC, "chat", env={"XDG_STATE_HOME": str(state)}) as again:
            again.wait_for("connected again; no message was lost")
            again.wait_for("<bob> said meanwhile")
            assert again.text.splitlines()[22].split()[:2] == [f"#{room}", nick]
            assert token.encode() not in terminal.received + again.received
            again.type("\x04")
            assert again.end() == 0
        assert json.loads(memory.read_text())["session"] is None


def test_a_second_client_does_not_take_over_the_session_of_the_first(port: int, room: str, state: Path) -> None:
    with chat_in_terminal(port, "--room", room, state=state) as first:
        first.wait_for(CONNECTED)
        done = piped(port, "--room", room, stdin="from the second\n", state=state)
        assert done.returncode == 0, done.stderr
        first.wait_for("from the second")
        assert " connected" in first.text


# Pipes


def test_piped_lines_are_said_in_order_and_answers_are_printed(port: int, room: str, state: Path) -> None:
    with Member(port, "bob", room) as bob:
        done = piped(port, "--nick", f"a{room[1:9]}", "--room", room, stdin="hello\n//etc\n/who\n", state=state)
        assert (done.returncode, done.stderr) == (0, b"")
        assert f"* 2 in #{room}" in done.stdout.decode()
        assert "hello" not in done.stdout.decode()
        bob.wait_for("> hello$")
        bob.wait_for("> /etc$")


@pytest.mark.parametrize("output", ["a pipe", "/dev/full"])
def test_after_the_end_the_nick_is_free_at_once(output: str, port: int, room: str, state: Path) -> None:
    nick = f"a{room[1:9]}"
    with open("/dev/full" if output == "/dev/full" else state.parent / "output", "wb") as file:
        command = [*NETSVC, "chat", str(port), "--nick", nick, "--room", room]
        env = {**os.environ, "XDG_STATE_HOME": str(state)}
        subprocess.run(command, input=b"hello\n", stdout=file, env=env, timeout=SECONDS, check=False)
    with Member(port, nick, room) as again:
        again.say("/who")
        again.wait_for(f"1 in #{room}: {nick}$")


def test_an_unknown_command_in_a_pipe_is_reported_and_is_exit_status_1(port: int, room: str, state: Path) -> None:
    done = piped(port, "--room", room, stdin="/nonsense\n", state=state)
    assert (done.returncode, done.stderr) == (1, b"netsvc: unknown command /nonsense; /help lists the commands\n")


def test_over_a_web_socket_it_is_the_same_chat(servers: dict[str, int], port: int, room: str, state: Path) -> None:
    url = f"ws://127.0.0.1:{servers['web']}/ws"
    with Member(port, "bob", room) as bob:
        done = piped(url, "--nick", f"w{room[1:9]}", "--room", room, stdin="from the web\n", state=state)
        assert (done.returncode, done.stderr) == (0, b"")
        bob.wait_for("> from the web$")


@pytest.fixture
def tls_flags(tmp_path: Path) -> tuple[object, ...]:
    """The flags of a server with a certificate for localhost. ``ca.pem`` is its authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    return ("--tls-cert", tmp_path / "cert.pem")


def test_with_tls_the_certificate_is_verified(
    tls_flags: tuple[object, ...], room: str, state: Path, tmp_path: Path
) -> None:
    with serving("--chat", NOWHERE, "--web", NOWHERE, *tls_flags) as (_, (port, web)):
        for where, options in ((f"localhost:{port}", ["--tls"]), (f"WSS://localhost:{web}/ws", [])):
            trusting = (*options, "--ca", tmp_path / "ca.pem")
            done = piped(where, *trusting, "--room", room, stdin="hello\n", state=state)
            assert (done.returncode, done.stderr) == (0, b"")
            done = piped(where, *options, "--room", room, stdin="hello\n", state=state)
            assert done.returncode == 1
            assert b"TLS failed: certificate verify failed" in done.stderr
            assert done.stderr.count(b"\n") == 1


def test_a_web_socket_with_tls_and_its_self_signed_certificate_are_remembered(
    room: str, state: Path, tmp_path: Path
) -> None:
    subject = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem")
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files)
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=SECONDS)
    flags = ("--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem")
    with serving("--web", NOWHERE, *flags) as (_, (web,)):
        url, ca = f"wss://localhost:{web}/ws", tmp_path / "cert.pem"
        with chat_in_terminal(url, "--ca", ca, "--nick", "ann", "--room", room, state=state) as terminal:
            terminal.wait_for(rf"^ #{room}  ann  {url}  connected$")
            terminal.type("hello\r")
            terminal.wait_for("<ann> hello$")
            terminal.type("\x04")
            assert (terminal.end(), terminal.is_restored()) == (0, True)
        done = netsvc("chat", "--room", room, stdin=b"/who\n", env={**os.environ, "XDG_STATE_HOME": str(state)})
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"<ann> hello\n" in done.stdout


def test_a_server_that_expects_tls_gives_the_remedy(tls_flags: tuple[object, ...], state: Path) -> None:
    with serving("--chat", NOWHERE, "--web", NOWHERE, *tls_flags) as (_, (port, web)):
        for where, remedy in ((f"localhost:{port}", "add --tls"), (f"ws://localhost:{web}/ws", "write wss:")):
            done = piped(where, stdin="hello\n", state=state)
            assert done.returncode == 1
            assert done.stderr.decode().endswith(f"; if it expects TLS, {remedy}\n")


def test_a_version_of_ip_can_be_chosen(port: int, room: str, state: Path) -> None:
    done = piped(f"localhost:{port}", "-4", "--room", room, stdin="hello\n", state=state)
    assert (done.returncode, done.stderr) == (0, b"")
    done = piped(f"127.0.0.1:{port}", "-6", "--room", room, stdin="hello\n", state=state)
    assert (done.returncode, done.stderr) == (
        1,
        b"netsvc: 127.0.0.1: no IPv6 address, although -4, -6 or the source address asks for one\n",
    )


def test_a_unix_socket_is_used_and_remembered(room: str, state: Path, tmp_path: Path) -> None:
    path = tmp_path / "chat.sock"
    with serving("--chat", f"unix:{path}"):
        done = piped("-U", path, "--nick", "ann", "--room", room, stdin="hello\n", state=state)
        assert (done.returncode, done.stderr) == (0, b"")
        done = netsvc("chat", "--room", room, stdin=b"/who\n", env={**os.environ, "XDG_STATE_HOME": str(state)})
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"<ann> hello\n" in done.stdout
    done = piped(f"unix:{path}", stdin="hello\n", state=state)
    assert done.returncode == 1
    assert done.stderr.startswith(f"netsvc: unix:{path}: ".encode())
    assert done.stderr.count(b"\n") == 1


def test_a_server_that_sends_nothing_is_an_error_after_the_timeout(state: Path) -> None:
    with listening() as server:
        done = piped(port_of(server), "-w", "0.3", stdin="hello\n", state=state)
        assert done.returncode == 1
        assert done.stderr == f"netsvc: 127.0.0.1:{port_of(server)}: no answer within 0.3 s\n".encode()


def test_a_line_that_is_not_confirmed_is_an_error_after_the_timeout(port: int, room: str, state: Path) -> None:
    with (
        listening() as server,
        socket.create_connection(("127.0.0.1", port), SECONDS) as upstream,
        chat_in_terminal(port_of(server), "-w", "1", "--room", room, state=state) as terminal,
    ):
        connection, _ = server.accept()
        with connection:
            in_thread(lambda: forward_until(b"last", connection, upstream))
            in_thread(lambda: forward_until(b"nothing ends it", upstream, connection))
            terminal.wait_for(CONNECTED)
            terminal.type("first\r")
            terminal.wait_for("> first$")
            terminal.type("the last\r")
            assert (terminal.end(), terminal.is_restored()) == (1, True)
            assert "no answer within 1 s" in terminal.text


def forward_until(end: bytes, source: socket.socket, target: socket.socket) -> None:
    """Forward bytes until a piece contains ``end``, which is not forwarded, or the connection is closed."""
    with suppress(OSError):
        while (piece := source.recv(65536)) and end not in piece:
            target.sendall(piece)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-4", "-6", "1"], "-4 cannot be combined with -6; leave out one of them"),
        (["-U", "/s", "1"], "unexpected argument 1, because --unix names the peer"),
        (["-U", "/s", "-4"], "a UNIX socket cannot be combined with -4 or -6; leave them out"),
        (["ws://h/ws", "--tls"], "--tls cannot be combined with a ws: URL; write wss:"),
        (["1", "--ca", "f"], "--ca has no effect without --tls; add --tls"),
        (["http://h/ws"], "http://h/ws: this is no URL of a WebSocket; write ws://HOST:PORT/ws"),
        (["wss://h:99999/ws"], "wss://h:99999/ws: this is no URL of a WebSocket; write ws://HOST:PORT/ws"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(arguments: list[str], error: str) -> None:
    done = netsvc("chat", *arguments)
    assert (done.returncode, done.stderr.decode()) == (64, f"netsvc: {error}; see netsvc chat --help\n")


def test_the_log_has_what_was_shown_with_times(port: int, room: str, state: Path, tmp_path: Path) -> None:
    log = tmp_path / "chat.log"
    log.write_text("before\n")
    done = piped(port, "--nick", f"a{room[1:9]}", "--room", room, "--log", log, stdin="hello\n", state=state)
    assert done.returncode == 0
    first, *_, last = log.read_text().splitlines()
    assert first == "before"
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+\d\d:\d\d #{room} <a{room[1:9]}> hello", last)


def test_a_log_on_a_full_disk_is_one_line_and_status_1(port: int, room: str, state: Path) -> None:
    done = piped(port, "--room", room, "--log", "/dev/full", stdin="hello\n", state=state)
    assert done.returncode == 1
    assert done.stderr == b"netsvc: --log: no space left on device; nothing more is written to the file\n"


def test_without_prompt_toolkit_a_terminal_reads_and_prints_lines(port: int, room: str, state: Path) -> None:
    hide = "import sys; sys.modules['prompt_toolkit'] = None; from netsvc.cli.main import main; main()"
    command = (sys.executable, "-c", hide, "chat", port, "--room", room)
    with Member(port, "bob", room) as bob, at_terminal(*command, env={"XDG_STATE_HOME": str(state)}) as terminal:
        terminal.wait_for(f"you are in #{room} with bob")
        terminal.type("hello\n")
        bob.wait_for("> hello$")
        bob.say("hi")
        terminal.wait_for("^<bob> hi$")
        terminal.type("/quit\n")
        assert terminal.end() == 0


def test_without_an_address_and_a_memory_it_is_wrong_usage(state: Path) -> None:
    done = netsvc("chat", env={**os.environ, "XDG_STATE_HOME": str(state)})
    assert done.returncode == 64
    assert done.stderr == (
        b"netsvc: the server is missing, and none is remembered; write HOST:PORT; see netsvc chat --help\n"
    )
