"""``netsvc talk`` on the full screen of a terminal."""

from __future__ import annotations

import re
import signal
import socket

from tests.programs import NETSVC, SECONDS, listening, port_of
from tests.terminals import at_terminal

SETTINGS = {"TZ": "UTC", "NO_COLOR": ""}


def lines_of(connection: socket.socket, count: int) -> bytes:
    connection.settimeout(SECONDS)
    data = b""
    while data.count(b"\n") < count:
        piece = connection.recv(1000)
        assert piece, data
        data += piece
    return data


def test_an_arriving_line_does_not_break_the_line_that_is_typed() -> None:
    with listening() as server, at_terminal(*NETSVC, "talk", port_of(server), env=SETTINGS) as terminal:
        connection, _ = server.accept()
        with connection:
            terminal.wait_for("^ talking to 127")
            terminal.type("half a li")
            terminal.wait_for("^> half a li$")
            connection.sendall("你好\n\x1b[2Junsafe\n".encode())
            terminal.wait_for(r"^\d\d:\d\d \[2Junsafe$")
            assert terminal.screen.display[23].rstrip() == "> half a li"
            terminal.type("ne\x01my \r")
            assert lines_of(connection, 1) == b"my half a line\n"
            terminal.wait_for(r"^\d\d:\d\d > my half a line$")
            assert terminal.style_at(terminal.row_with("my half"), ">").bold


def test_a_paste_is_sent_line_by_line_after_enter() -> None:
    with listening() as server, at_terminal(*NETSVC, "talk", port_of(server), env=SETTINGS) as terminal:
        connection, _ = server.accept()
        with connection:
            terminal.wait_for("^ talking to 127")
            terminal.paste("".join(f"line {number}\n" for number in range(200)))
            terminal.wait_for("200 lines: Enter sends, Ctrl-C drops them")
            terminal.type("\r")
            assert lines_of(connection, 200).splitlines()[::199] == [b"line 0", b"line 199"]


def test_after_the_end_the_conversation_is_on_the_terminal_in_its_order() -> None:
    with listening() as server, at_terminal(*NETSVC, "talk", port_of(server), env=SETTINGS) as terminal:
        connection, _ = server.accept()
        with connection:
            terminal.type("hello\r")
            assert lines_of(connection, 1) == b"hello\n"
            connection.sendall(b"hi\n")
            terminal.wait_for("hi$")
            terminal.type("\x04")
            assert connection.recv(100) == b""
        assert (terminal.end(), terminal.is_restored()) == (0, True)
        rest = terminal.received.rpartition(b"\x1b[?1049l")[2].decode()
        assert re.search(r"talking to \S+\r\n> hello\r\nhi\r\n", rest)


def test_after_control_d_lines_arrive_and_a_line_that_is_typed_stays_in_the_editor() -> None:
    with listening() as server, at_terminal(*NETSVC, "talk", port_of(server), env=SETTINGS) as terminal:
        connection, _ = server.accept()
        with connection:
            terminal.wait_for("^ talking to 127")
            terminal.type("\x04")
            assert connection.recv(100) == b""
            terminal.type("too late\r")
            terminal.wait_for(r"not sent, because Ctrl-D has ended the input")
            terminal.wait_for("^> too late$")
            connection.sendall(b"still here\n")
            terminal.wait_for(r"^\d\d:\d\d still here$")
        assert (terminal.end(), terminal.is_restored()) == (0, True)


def test_a_lost_connection_is_one_line_after_the_screen_and_status_1() -> None:
    with listening() as server, at_terminal(*NETSVC, "talk", port_of(server), env=SETTINGS) as terminal:
        connection, _ = server.accept()
        terminal.wait_for("^ talking to 127")
        terminal.type("half a li")
        terminal.wait_for("^> half a li$")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # the end is a reset
        connection.close()
        assert (terminal.end(), terminal.is_restored()) == (1, True)
        assert terminal.text.count("netsvc: ") == 1
        assert "connection lost" in terminal.text


def test_control_z_suspends_it_and_fg_shows_the_screen_again() -> None:
    shell = ("bash", "--norc", "--noprofile", "-i")
    with listening() as server, at_terminal(*shell, env={**SETTINGS, "PS1": "$ "}) as terminal:
        terminal.wait_for(r"\$$")
        terminal.type(f"{' '.join(NETSVC)} talk {port_of(server)}\r")
        connection, _ = server.accept()
        with connection:
            terminal.wait_for("^ talking to 127")
            terminal.type("half a li\x1a")
            terminal.wait_for(r"Stopped")
            terminal.type("echo $((6 * 7)) in the shell\r")
            terminal.wait_for("^42 in the shell$")
            connection.sendall(b"meanwhile\n")
            terminal.type("fg\r")
            terminal.wait_for(r"^\d\d:\d\d meanwhile$")
            terminal.wait_for("^> half a li$")
            terminal.type("ne\r")
            assert lines_of(connection, 1) == b"half a line\n"
            terminal.type("\x03")
            terminal.wait_for(r"^\$$")
            terminal.type("echo status $?\r")
            terminal.wait_for("^status 130$")


def test_control_c_and_sigterm_end_it_and_the_terminal_is_as_before() -> None:
    for status in (130, 143):
        with listening() as server, at_terminal(*NETSVC, "talk", port_of(server), env=SETTINGS) as terminal:
            connection, _ = server.accept()
            with connection:
                terminal.wait_for("^ talking to 127")
                if status == 130:
                    terminal.type("\x03")
                else:
                    terminal.process.send_signal(signal.SIGTERM)
                assert (terminal.end(), terminal.is_restored()) == (status, True)


def test_a_closed_port_is_one_line_after_the_screen() -> None:
    with listening() as opened:
        closed_port = port_of(opened)
    with at_terminal(*NETSVC, "talk", closed_port, env=SETTINGS) as terminal:
        assert (terminal.end(), terminal.is_restored()) == (1, True)
        assert "connection refused" in terminal.text
