"""The README and the book: every block of code runs or is checked, and every link leads somewhere.

An HTML comment in the line before a block says what is done with it:

``<!-- run -->``
    Python runs in a process of its own, or under pytest where it defines tests. The commands of a console run in a
    shell, in the page's own folder, and print what the page shows.
``<!-- serve -->``
    The command starts a server that runs until the end of the page, or until the next one. The port numbers of the page
    stand for free ports. The server logs what the page shows.
``<!-- signal NAME -->``
    The block is how a reader sends a signal to the server. The test sends it itself.
``<!-- log -->``, ``<!-- stop -->``
    The text is what the server has logged by now, or by the end, for which it is interrupted.
``<!-- file NAME -->``
    The block is a file in the page's own folder, for the blocks that run after it.
``<!-- check -->``, ``<!-- test -->``
    Python compiles, and netsvc has the names that it imports. The flags of netsvc's commands exist.
``<!-- output -->``
    The text is what the Python block before it prints.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

import netsvc
from netsvc.cli.main import COMMANDS
from netsvc.server.tap import Options as ServerOptions
from tests.programs import SECONDS, serving, started
from tests.redis_server import RedisServer

PROJECT = Path(__file__).parent.parent
BOOK = sorted(path for path in (PROJECT / "docs").rglob("*.md") if "_build" not in path.parts)
PAGES = [*(PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")), *BOOK]

#: Languages of blocks that nothing can execute.
INERT = {"text", "ini", "toml", "yaml"}

PYTHON = {"python"}
SHELL = {"console", "sh"}
MARKERS = {"run", "serve", "signal", "log", "stop", "file", "check", "test", "output"}

#: No plugins but netsvc's: to load the others takes longer than the tests of a page.
PYTEST_OPTIONS = " ".join(
    f"-p no:{name}" for name in ("cacheprovider", "hypothesispytest", "pytest_cov", "randomly", "twisted", "xdist")
)

#: What differs from run to run, and how it is compared.
VARIABLE = [
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[[^]]*] "), ""),  # of a log line, with its module
    (re.compile(r"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}\]"), "[CTIME]"),
    (re.compile(r"\d+(\.\d+)? ?m?s\b"), "SECONDS"),
    (re.compile(r'"(port|round_trip|time)": [^,}]+'), r'"\1": VALUE'),
    (re.compile(r"(127\.0\.0\.1|localhost|\[::1?\]):\d+"), r"\1:PORT"),
    # Of netsvc check: ports and the columns behind them, the end of a certificate, and the size of a first packet.
    (re.compile(r"\b(tcp|tls|udp)/\d+ *"), r"\1/PORT "),
    (re.compile(r"^ +(certificate|not trusted|also) +", re.MULTILINE), r"\1 "),
    (re.compile(r"\bends \d{4}-\d\d-\d\d, in \d+ days"), "ends DATE"),
    (re.compile(r"\bMTU \d+ to\b"), "MTU N to"),
]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    marker: str
    argument: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Give the fenced blocks of a page, except the directives of Sphinx."""
    lines = page.read_text().splitlines()
    before = ""
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"(```+)([\w{}-]*)(?: .*)?", lines[number])
        if fence is None:
            before = lines[number] if lines[number] else before
            number += 1
            continue
        end = lines.index(fence[1], number + 1)
        if not fence[2].startswith("{"):
            comment = re.fullmatch(r"<!-- (\w+) ?(\S*) -->", before)
            marker, argument = comment.groups() if comment else ("", "")
            text = "\n".join(lines[number + 1 : end]) + "\n"
            yield Block(page, number + 1, fence[2], marker, argument, text)
        before = ""
        number = end + 1


def named(page: Path) -> str:
    return str(page.relative_to(PROJECT))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def test_every_block_that_can_run_says_what_is_done_with_it() -> None:
    unmarked = [str(b) for b in BLOCKS if not b.marker and b.language not in INERT]
    assert unmarked == []
    unknown = [str(block) for block in BLOCKS if block.marker and block.marker not in MARKERS]
    assert unknown == []
    unfit = [str(b) for b in BLOCKS if b.marker in ("run", "check", "test") and b.language not in PYTHON | SHELL]
    assert unfit == []


# Python


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in PYTHON], ids=str)
def test_python_compiles_and_imports_what_netsvc_has(block: Block) -> None:
    tree = ast.parse(block.text, filename=str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "netsvc":
            module = importlib.import_module(node.module or "")
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert missing == [], f"{block}: {node.module} has no {', '.join(missing)}"


def is_a_test(block: Block) -> bool:
    return "def test_" in block.text


def python(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=SECONDS, cwd=folder, env=environment(), check=False
    )


def environment() -> dict[str, str]:
    """Return the environment of the programs: netsvc's commands are found, and tests are as quiet as on the page."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTEST_"))}
    fixed = {"PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "80", "NO_COLOR": "1", "PYTEST_ADDOPTS": PYTEST_OPTIONS}
    return {**kept, **fixed, "PATH": path}


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in PYTHON and b.marker == "run"], ids=str)
def test_python_runs(block: Block, tmp_path: Path) -> None:
    script = tmp_path / ("test_page.py" if is_a_test(block) else "page.py")
    script.write_text(block.text)
    runner = ["-m", "pytest", "-q"] if is_a_test(block) else []
    done = python(*runner, script.name, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    following = BLOCKS[BLOCKS.index(block) + 1 :][:1]
    if following and following[0].marker == "output":
        assert done.stdout == following[0].text


# The shell


def commands_of(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a block, each with what it prints."""
    joined = block.text.replace("\\\n", " ")
    if block.language == "sh":
        return [(joined, "")]
    found: list[tuple[str, str]] = []
    for line in joined.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip(), ""))
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def normalized(text: str) -> str:
    """Return a text with everything replaced that differs from run to run."""
    for pattern, word in VARIABLE:
        text = pattern.sub(word, text)
    return text


def matches(shown: str, printed: str) -> bool:
    """Whether a program printed what a page shows. ``...`` stands for any lines."""
    if "..." not in shown.splitlines():  # standard output may come later than standard error
        return sorted(normalized(shown).splitlines()) == sorted(normalized(printed).splitlines())
    lines = [r"(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in normalized(shown).splitlines()]
    return re.fullmatch("".join(lines), normalized(printed)) is not None


class Server:
    """A server of a page, whose port numbers stand for free ports.

    :ivar ports: the free ports, by those on the page.
    :ivar output: what it has logged so far.
    """

    def __init__(self, command: str, folder: Path, stack: ExitStack) -> None:
        self.ports: dict[str, str] = {}
        self.output = ""
        self._written: dict[str, list[str]] = {}
        command = re.sub(r"--(tcp|udp|udp-echo|chat|stamp|metrics) (\d+)\b", self._free_port, command)
        command = re.sub(r"^twist (?!--log-format)", "twist --log-format=text ", command)
        name, *arguments = shlex.split(command)
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
        program = Path(sys.executable).parent / name
        self._process: Any = stack.enter_context(started(program, *arguments, cwd=folder, env=environment(), **pipes))
        while "Starting reactor" not in self.output:
            self._read_line()
        for service, port in re.findall(r" (\w+): listening on \S+:(\d+)$", self.output, re.MULTILINE):
            self.ports[self._written[service].pop(0)] = port

    def _free_port(self, match: re.Match[str]) -> str:
        self._written.setdefault(match[1].replace("-", "_"), []).append(match[2])
        return f"--{match[1]} 0"

    def _read_line(self) -> None:
        line = self._process.stdout.readline()
        assert line, f"the server ended:\n{self.output}"
        self.output += line

    def on_free_ports(self, command: str) -> str:
        """Return a command of the page, with the free ports in it."""
        for written, port in self.ports.items():
            command = re.sub(rf"\b{written}\b", port, command)
        return command

    def log(self) -> list[str]:
        """Return the lines of the log, with the ports of the page in it."""
        text = self.output
        for written, port in self.ports.items():
            text = re.sub(rf"\b{port}\b", written, text)
        return normalized(text).splitlines()

    def wait_for_lines(self, shown: str) -> None:
        """Read the log until it has all the lines that a page shows."""
        for line in normalized(shown).splitlines():
            while line != "..." and line not in self.log():
                self._read_line()

    def signal(self, name: str) -> None:
        """Send a signal."""
        self._process.send_signal(getattr(signal, name))


RUNNING = sorted({b.page for b in BLOCKS if b.language in SHELL and b.marker in ("run", "serve")})


@pytest.mark.parametrize("page", RUNNING, ids=named)
def test_the_commands_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    server: Server | None = None
    with ExitStack() as stack:
        for block in (block for block in BLOCKS if block.page == page):
            match block.marker:
                case "file":
                    (tmp_path / block.argument).write_text(block.text)
                case "serve":
                    [(command, shown)] = commands_of(block)
                    server = Server(command, tmp_path, stack)
                    server.wait_for_lines(shown)
                case "run" if block.language in SHELL:
                    for command, shown in commands_of(block):
                        run(server.on_free_ports(command) if server else command, shown, block, tmp_path)
                case "signal" if server is not None:
                    server.signal(block.argument)
                case "log" if server is not None:
                    server.wait_for_lines(block.text)
                case "stop" if server is not None:
                    server.signal("SIGINT")
                    server.wait_for_lines(block.text)


def run(command: str, shown: str, block: Block, folder: Path) -> None:
    """Run a command of a page and compare what it prints. A program that is not installed is not run."""
    missing = [words[0] for words in programs_in(command) if words and not which(words[0], environment()["PATH"])]
    if missing:
        return
    done = subprocess.run(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=SECONDS,
        cwd=folder,
        env={**environment(), "XDG_STATE_HOME": str(folder)},
        check=False,
    )
    assert matches(shown, done.stdout), f"{block}: $ {command}\n{done.stdout}"


def which(program: str, path: str) -> bool:
    return program == "." or shutil.which(program, path=path) is not None


def programs_in(command: str) -> Iterator[list[str]]:
    """Give the words of each program that a command line starts."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if set(word) <= set("|&;()"):
            yield words
            words = []
        elif redirected or set(word) <= set("<>&"):
            redirected = not redirected
        else:
            words.append(word)
    yield words


def netsvc_flags(words: list[str]) -> Iterator[tuple[str, set[str]]]:
    """Give each flag of a netsvc command, with all the flags that the command has."""
    names = [os.path.basename(word) for word in words]
    if "netsvc" not in names or names[:2] == ["docker", "build"]:
        return
    at = names.index("netsvc")
    rest = words[at + 1 :]
    options = ServerOptions()
    known = set(options.synonyms) | {"help", "version"}
    if not {"twist", "twistd", "twisted", "docker"} & set(names[:at]):
        if at and not set(names[:at]) & {"sudo", "-m"}:  # a word like any other: "useradd --system netsvc"
            return
        command = (COMMANDS.get_command(click.Context(COMMANDS), rest[0]) if rest else None) or COMMANDS
        flags = [name for parameter in command.params for name in parameter.opts if isinstance(parameter, click.Option)]
        known = {flag.lstrip("-") for flag in flags} | {"help", "h"}
    for word in rest:
        if word == "--":
            return
        if flag := re.match(r"--([a-z][a-z-]*)|-([a-z])$", word):
            yield flag[1] or flag[2], known


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in SHELL], ids=str)
def test_the_flags_of_commands_exist(block: Block) -> None:
    for text, _ in commands_of(block):
        for command in text.splitlines():
            for words in programs_in(command.partition(" #")[0]):
                for flag, known in netsvc_flags(words):
                    assert flag in known, f"{block}: there is no {flag} in {command}"


# Links


def slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and MyST make it."""
    text = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def without_blocks(text: str) -> str:
    return re.sub(r"^(```+).*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", without_blocks(page.read_text()), re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    names = re.findall(r"`((?:\w+/)+[\w@.-]+\.(?:py|md|service|socket|tac|txt))`", page.read_text())
    installed = Path(netsvc.__file__).parent.parent  # the package may be elsewhere than the rest: in a wheel
    assert [name for name in names if not (PROJECT / name).exists() and not (installed / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", without_blocks(page.read_text()))
    targets = re.findall(r"]\(([^)\s]+)\)", text) + re.findall(r"^\[[^]]+]: (\S+)$", text, re.MULTILINE)
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{named(page)}: no file {target}"
        if anchor:
            assert anchor in anchors_of(linked), f"{named(page)}: no heading for {target}"


def test_the_index_lists_every_page() -> None:
    index = (PROJECT / "docs" / "index.md").read_text()
    pages = {str(page.relative_to(PROJECT / "docs").with_suffix("")) for page in BOOK} - {"index"}
    assert pages - set(index.splitlines()) == set()


def test_the_page_of_the_api_is_made_from_the_public_names() -> None:
    assert "<!-- api -->" in (PROJECT / "docs" / "reference" / "api.md").read_text()
    assert [name for name in netsvc.__all__ if not hasattr(netsvc, name)] == []


# What the pages repeat


#: The conversation on the page of the chat: who types which line, and what that member sees before the next line.
#: The server is started again at each row without a name.
CONVERSATION = (
    ("bob", "", "in #lobby"),
    ("ann", "", "with guest-1"),
    ("bob", "", "guest-2 joined"),
    ("ann", "/nick ann", "now ann"),
    ("bob", "/nick bob", "you are now bob"),
    ("ann", "good morning", ""),
    ("bob", "", "<ann> good morning"),
    ("bob", "hello ann", ""),
    ("ann", "", "<bob> hello ann"),
    ("ann", "/me makes tea", ""),
    ("ann", "/msg bob psst", "psst"),
    ("bob", "/away lunch until two", "you are away"),
    ("ann", "/msg bob are you there?", "bob is away"),
    ("bob", "/away", "you are back"),
    ("ann", "/topic plans for today", "topic"),
    ("bob", "/join tea", "#tea"),
    ("bob", "/leave", "ann set the topic"),
    ("bob", "/search morn", "good morning"),
    ("ann", "/who", "2 in"),
    ("ann", "/rooms", "rooms"),
    ("ann", "my-password-1", ""),
    ("ann", "/erase", "ann erased"),
    ("ann", "/nonsense", "unknown"),
    ("ann", "/quit", "bye"),
    ("bob", "/quit", "bye"),
    ("", "", ""),
    ("ann", "/nick ann", "now ann"),
    ("ann", "this line stays", ""),
    ("ann", "/quit", "bye"),
    ("", "", ""),
    ("bob", "/quit", "bye"),
)


def test_the_tutorial_of_the_chat_shows_what_members_see(tmp_path: Path) -> None:
    page = PROJECT / "docs" / "tutorials" / "chat.md"
    shown = [line for block in blocks_of(page) for line in block.text.splitlines() if line.startswith(("* ", "<", "["))]
    typed = [each for _, each, _ in CONVERSATION if each]
    assert [each for each in typed if each not in page.read_text()] == []
    seen = ""
    store = ("--chat-store", f"sqlite:{tmp_path / 'chat.db'}")
    for lines in conversations():
        seen += converse(lines, store if seen else ())
    assert [line for line in shown if undated(line) not in undated(seen).splitlines()] == []


def conversations() -> Iterator[list[tuple[str, str, str]]]:
    """Give the parts of the conversation between two starts of the server."""
    part: list[tuple[str, str, str]] = []
    for line in CONVERSATION:
        if line[0]:
            part.append(line)
        else:
            yield part
            part = []
    yield part


class Member:
    """A member of the chat, as netcat is one.

    :ivar seen: all that it has read.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._lines = self._socket.makefile("rw", encoding="utf-8")
        self.seen = ""

    def type(self, line: str) -> None:
        print(line, file=self._lines, flush=True)

    def read_line(self) -> str:
        line = self._lines.readline()
        assert line, f"the server closed the connection after\n{self.seen}"
        self.seen += line
        return line.removesuffix("\n")

    def wait_for(self, awaited: str) -> None:
        """Read lines until one has this text."""
        while awaited not in self.read_line():
            pass

    def close(self) -> None:
        """Read the rest and close the connection."""
        self._socket.shutdown(socket.SHUT_WR)
        self.seen += self._lines.read()
        self._lines.close()
        self._socket.close()


def converse(lines: list[tuple[str, str, str]], flags: tuple[str, ...]) -> str:
    """Let members talk on a new server. Return all that they see."""
    with serving("--chat", "127.0.0.1:0", *flags) as (server, [port]):
        members: dict[str, Member] = {}
        for name, typed, awaited in lines:
            member = members.get(name) or members.setdefault(name, Member(port))
            if typed:
                member.type(typed)
            if awaited:
                member.wait_for(awaited)
        for member in members.values():
            member.close()
        assert server.stop() == 0, server.output
    return "".join(member.seen for member in members.values())


@pytest.mark.redis
def test_the_page_about_several_nodes_shows_what_a_member_sees_and_gives_all_rights(tmp_path: Path) -> None:
    page = PROJECT / "docs" / "how-to" / "run-a-chat-on-several-nodes.md"
    files = {block.argument: block.text for block in blocks_of(page) if block.marker == "file"}
    [shown] = (block.text for block in blocks_of(page) if block.text.startswith("* welcome"))
    redis = RedisServer([line for line in files["redis.conf"].splitlines() if not line.startswith("bind ")])
    try:
        redis.start()
        assert command_redis(redis, files["users.txt"].splitlines()) == {"+OK"}
        secret = tmp_path / "redis.secret"
        secret.write_text("netsvc:choose-a-password\n")
        store = ("--chat-store", f"redis://127.0.0.1:{redis.port}", "--chat-store-credentials", secret)
        node = ("--chat", "127.0.0.1:0", *store)
        with serving(*node) as (_, [first]), serving(*node) as (_, [second]):
            assert ann_sees(first, second) == shown
        assert command_redis(redis, ["AUTH netsvc choose-a-password", "SELECT 1"]) == {"+OK"}
        denied = command_redis(redis, ["AUTH choose-another-password", "ACL LOG"])
        assert denied == {"+OK", "*0"}
    finally:
        redis.remove()


def command_redis(redis: RedisServer, lines: list[str]) -> set[str]:
    """Send commands to Redis, as ``redis-cli`` does. Return the answers, which are one line each."""
    with socket.create_connection(("127.0.0.1", redis.port), SECONDS) as connection:
        stream = connection.makefile("rw", encoding="utf-8", newline="\r\n")
        answers = set()
        for line in lines:
            print(line, file=stream, flush=True)
            answers.add(stream.readline().rstrip())
        stream.close()
        return answers


def ann_sees(first: int, second: int) -> str:
    """Let Ann on the first node and Bob on the second one talk. Return what Ann sees."""
    ann = Member(first)
    ann.wait_for("only one")
    ann.type("/nick ann")
    ann.wait_for("now ann")
    bob = Member(second)
    bob.wait_for("with ann")
    bob.type("/nick bob")
    bob.type("hello from the other node")
    ann.wait_for("hello from the other node")
    bob.type("/msg ann psst")
    ann.wait_for("psst")
    ann.type("/who")
    ann.wait_for("2 in")
    seen = ann.seen
    for member in (bob, ann):
        member.type("/join tea")
        member.type("/topic tea only")
        member.type("/search hello")
        member.type("/rooms")
        member.type("/away")
        member.type("/erase")
        member.type("/quit")
        member.wait_for("bye")
        member.close()
    return seen


def undated(text: str) -> str:
    """Return a text of the chat without its times."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", text)


def test_the_example_of_a_resume_is_what_a_program_sees() -> None:
    page = (PROJECT / "docs" / "reference" / "wire-formats.md").read_text()
    first, second = (block for block in re.findall(r"```text\n(.*?)```", page, re.DOTALL) if "C: /" in block)
    values: dict[str, str] = {}
    with serving("--chat", "127.0.0.1:0") as (_, [port]):
        bob = Member(port)
        bob.type("/nick bob\n/who")
        bob.wait_for("1 in #lobby")
        ann = Member(port)
        follow(first, ann, values)
        bob.wait_for("is anybody here?")
        ann.close()
        bob.wait_for("ann left")
        bob.type("yes\n/who")
        bob.wait_for("1 in #lobby")
        ann = Member(port)
        follow(second, ann, values)
        ann.close()
        bob.close()


#: Tokens and epochs, which are different in each run.
SECRET = re.compile(r"\b(?:[0-9a-f]{32}|[0-9a-f]{8})\b")


def follow(example: str, member: Member, values: dict[str, str]) -> None:
    """Send and receive the lines of an example.

    :param values: the tokens and epochs of this run, by those of the example.
    """
    for line in example.splitlines():
        side, _, shown = line.partition(": ")
        if side == "C":
            member.type(SECRET.sub(lambda match: values[match[0]], shown))
            continue
        received = ""
        while not received.startswith(("& ", "@")):
            received = member.read_line()
        values.update(zip(SECRET.findall(shown), SECRET.findall(received), strict=True))
        assert untimed(received) == untimed(SECRET.sub(lambda match: values[match[0]], shown))


def untimed(line: str) -> str:
    """Return a line for programs without its time."""
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME", line)


def test_the_page_of_the_metrics_has_every_cause() -> None:
    page = (PROJECT / "docs" / "reference" / "metrics.md").read_text()
    rows = set(re.findall(r"^\| `(\w+)` \|", page[page.index("## Causes") :], re.MULTILINE))
    assert rows == {cause.label for cause in netsvc.Cause}


def test_each_difference_of_the_simulated_network_to_linux_names_a_test() -> None:
    page = (PROJECT / "docs" / "reference" / "testing.md").read_text()
    table = page[page.index("| subject | here | Linux |") :].partition("\n\n")[0]
    named = [re.fullmatch(r".* \| `(test_\w+)` \|", row) for row in table.splitlines()[2:]]
    tests = "".join(path.read_text() for path in (PROJECT / "tests").rglob("test_*.py"))
    assert [name for name in named if name is None or f"\ndef {name[1]}(" not in tests] == []


def test_contributing_lists_every_session_of_nox() -> None:
    page = (PROJECT / "CONTRIBUTING.md").read_text()
    noxfile = ast.parse((PROJECT / "noxfile.py").read_text())
    functions = [node for node in noxfile.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    sessions = {function.name.replace("_", "-") for function in functions}
    assert set(re.findall(r"^\| `nox -s ([\w-]+)`", page, re.MULTILINE)) == sessions
