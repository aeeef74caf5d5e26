"""Every example runs as its docstring says."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.programs import SECONDS, running, serving, started
from tests.test_commands import TWISTD

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_there_is_a_test_for_every_example() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{example.name}"' in text for example in EXAMPLES.iterdir() if example.is_file())


def test_one_protocol_runs_without_netsvc_service() -> None:
    finished = subprocess.run(
        [sys.executable, EXAMPLES / "one_protocol.py"], capture_output=True, timeout=SECONDS, check=False
    )
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, b"hello came back\n", b"")


def test_the_example_of_a_custom_service_passes_its_own_test() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES / "test_greeter.py")]
    finished = subprocess.run(command, capture_output=True, timeout=SECONDS, cwd=EXAMPLES, check=False)
    assert finished.returncode == 0, finished.stdout.decode()
    assert b"1 passed" in finished.stdout


def test_the_example_with_a_simulated_network_passes_with_many_seeds() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--netsvc-seeds=10", "test_adder.py"]
    finished = subprocess.run(command, capture_output=True, timeout=SECONDS, cwd=EXAMPLES, check=False)
    assert finished.returncode == 0, finished.stdout.decode()
    assert b"60 passed" in finished.stdout


def test_an_application_serves_a_web_page_beside_netsvc(tmp_path: Path) -> None:
    command = [*TWISTD, "-n", "--pidfile=", "-y", EXAMPLES / "with_web.tac"]
    environment = {**os.environ, "ECHO": "127.0.0.1:0", "CHAT": "127.0.0.1:0", "WEB": "0"}
    with started(
        *command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as application:
        assert application.stdout is not None
        output = ""
        while len(ports := dict(re.findall(r"(\w+)(?: \(TLS\))? starting on (\d+)", output))) < 3:
            line = application.stdout.readline()
            assert line, output
            output += str(line)
        with socket.create_connection(("127.0.0.1", int(ports["ChatFactory"])), SECONDS) as chat:
            assert chat.recv(100).startswith(b"* welcome")
            with urllib.request.urlopen(f"http://127.0.0.1:{ports['Site']}/", timeout=SECONDS) as page:
                assert page.read() == b"1 in the chat\n"
        with socket.create_connection(("127.0.0.1", int(ports["tcp"])), SECONDS) as echo:
            echo.sendall(b"hello")
            assert echo.recv(100) == b"hello"


def test_the_bot_answers_and_connects_again_after_a_restart_of_the_server(tmp_path: Path) -> None:
    where, store = "127.0.0.1:0", ("--chat-store", f"sqlite:{tmp_path / 'chat.db'}")
    with serving("--chat", where, *store) as (server, [port]):
        where = f"127.0.0.1:{port}"
        with running(sys.executable, EXAMPLES / "chat_bot.py", where, "clock", seconds=4 * SECONDS) as bot:
            bot.wait_for("I am clock")
            assert re.fullmatch(r"<clock> it is [\d-]+ [\d:]+ UTC\n", ask(port, "!time", "<clock>"))
            assert ask(port, "is Clock there?", "<clock>") == "<clock> I tell the time. Ask me with !time\n"
            assert ask(port, "/msg clock hello", "<clock ->").endswith("> I know only !time\n")
            server.stop()
            bot.wait_for("not connected")
            with serving("--chat", where, *store):
                bot.wait_for("resumed: recovered, 0 entries are lost")
                assert ask(port, "!time", "<clock>")
                assert bot.stop() == 0, bot.output


@pytest.mark.parametrize("scenario", ["websocket", "ssh_command"])
def test_the_sweeps_of_twisted_find_a_deferred_that_never_fires(scenario: str) -> None:
    for library in ("twisted.conch.ssh.transport", "wsproto"):
        pytest.importorskip(library)
    target = f"{EXAMPLES / 'sweep_twisted.py'}::{scenario}"
    command = [sys.executable, "-m", "netsvc.testing", "sweep", target, "--faults", "abort,close", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * SECONDS, check=False)
    assert done.returncode == 1, done.stderr
    assert re.search(
        rf"1\. abort@\d+ \S+ \(and \d+ more runs\)\n   no result: .*\n   - it waits for: {scenario} \(", done.stdout
    )


def ask(port: int, line: str, awaited: str) -> str:
    """Send a line to the chat. Return the line that begins with ``awaited``."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as member, member.makefile(encoding="utf-8") as lines:
        member.sendall(f"{line}\n".encode())
        return next(line for line in lines if line.startswith(awaited))


def test_the_bridge_stores_each_entry_and_tells_the_members_so(tmp_path: Path) -> None:
    command = [*TWISTD, "-n", "--pidfile=", "-y", EXAMPLES / "chat_bridge.tac"]
    environment = {**os.environ, "CHAT": "127.0.0.1:0", "ENTRIES": str(tmp_path / "entries.jsonl")}
    with started(
        *command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    ) as application:
        assert application.stdout is not None
        log = ""
        while not (opened := re.search(r"chat: listening on \S+:(\d+)", log)):
            line = application.stdout.readline()
            assert line, log
            log += str(line)
        assert ask(int(opened[1]), "/nick ann\ngrüße", "* what is") == "* what is said here is stored\n"
    rows = [json.loads(line) for line in (tmp_path / "entries.jsonl").read_text("utf-8").splitlines()]
    stored = [(row["offset"], row["kind"], row["nick"], row["text"]) for row in rows]
    assert stored[:3] == [
        (1, "joined", "ann", ""),
        (2, "notice", "", "what is said here is stored"),
        (3, "said", "ann", "grüße"),
    ]
    assert {row["room"] for row in rows} == {"#lobby"}


@pytest.mark.parametrize(
    "example",
    [
        "with_web.tac",
        "one_protocol.py",
        "test_greeter.py",
        "test_adder.py",
        "chat_bot.py",
        "chat_bridge.tac",
        "sweep_twisted.py",
    ],
)
def test_an_example_says_how_to_run_it(example: str) -> None:
    assert example in (EXAMPLES / example).read_text().split('"""')[1]
