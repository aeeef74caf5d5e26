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
