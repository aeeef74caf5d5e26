"""Completion of the command line in bash, zsh and fish."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from netsvc.cli.completion import SHELLS
from netsvc.cli.main import NAMES
from tests.programs import NETSVC, SECONDS, netsvc
from tests.terminals import Terminal, at_terminal


def completed(shell: str, *words: str) -> list[tuple[str, str]]:
    """Return what may stand in the place of the last word, as the script of a shell asks for it: types and values."""
    place = str(len(words) - 1) if shell != "fish" else words[-1]
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": place, "_NETSVC_COMPLETE": f"{shell}_complete"}
    done = netsvc(env={**os.environ, **asked})
    assert (done.returncode, done.stderr) == (0, b"")
    if shell == "zsh":  # a type, a value and a help, each on a line
        lines = done.stdout.decode().splitlines()
        return list(zip(lines[::3], lines[1::3], strict=True))
    return [(kind, value.partition("\t")[0]) for kind, _, value in map(split, done.stdout.decode().splitlines())]


def split(line: str) -> tuple[str, str, str]:
    return line.partition(",")


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script_that_asks_the_command(shell: str) -> None:
    done = netsvc("completion", shell)
    assert (done.returncode, done.stderr) == (0, b"")
    assert f"_NETSVC_COMPLETE={shell}_complete".encode() in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_a_command_is_completed(shell: str) -> None:
    assert completed(shell, "netsvc", "ta") == [("plain", "talk")]
    assert [value for _, value in completed(shell, "netsvc", "")] == list(NAMES)


def test_flags_their_choices_and_their_files_are_completed() -> None:
    assert ("plain", "--tls-client-ca") in completed("bash", "netsvc", "serve", "--tls-")
    assert completed("bash", "netsvc", "serve", "--framing", "l") == [("plain", "line")]
    assert completed("bash", "netsvc", "serve", "--reactor", "uvl") == [("plain", "uvloop")]
    for command, flag in (
        ("serve", "--config"),
        ("talk", "--ca"),
        ("talk", "-U"),
        ("chat", "--log"),
        ("receive", "-o"),
    ):
        assert [kind for kind, _ in completed("bash", "netsvc", command, flag, "net")] == ["file"]
    assert completed("bash", "netsvc", "completion", "f") == [("plain", "fish")]


BASH = """
eval "$(netsvc completion bash)"
COMP_WORDS=(netsvc ta) COMP_CWORD=1
complete -p netsvc
_netsvc_completion netsvc
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell whose ``$PATH`` contains ``netsvc``, and whose files are below ``tmp_path``."""
    program = tmp_path / "bin" / "netsvc"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {" ".join(NETSVC)} "$@"\n')
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        **dict.fromkeys(["HOME", "ZDOTDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME"], str(tmp_path)),
    }


def needs(shell: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@needs("bash")
def test_bash_completes_with_the_script(environment: dict[str, str]) -> None:
    command = ["bash", "--norc", "-c", BASH]
    whole = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, env=whole)
    assert (done.stdout, done.stderr) == (b"complete -o nosort -F _netsvc_completion netsvc\ntalk\n", b"")


def complete_a_talk(terminal: Terminal, command: str, folder: Path) -> None:
    """Press Tab after the beginning of each word, and read what the shell makes of it."""
    for typed, shown in (
        (command, "netsvc talk"),
        ("--fr", "netsvc talk --framing"),
        ("li", "netsvc talk --framing line"),
        (f"--ca {folder}/auth", f"netsvc talk --framing line --ca {folder}/authority.pem"),
    ):
        terminal.type(f"{typed}\t")
        terminal.wait_for(f"^% {shown}$")


@needs("zsh")
@pytest.mark.parametrize("place", ["a folder of $fpath", "the shell that runs"])
def test_zsh_completes_commands_flags_choices_and_files(
    place: str, environment: dict[str, str], tmp_path: Path
) -> None:
    begin = "PS1='%% '\nfpath+=~/zfunc\nautoload -Uz compinit && compinit -D -u\n"
    if place == "the shell that runs":
        begin += 'eval "$(netsvc completion zsh)"\n'
    else:
        write(tmp_path / "zfunc" / "_netsvc", netsvc("completion", "zsh").stdout.decode())
    write(tmp_path / ".zshrc", begin)
    write(tmp_path / "authority.pem", "")
    with at_terminal("zsh", "-i", env=environment, columns=200) as terminal:
        terminal.wait_for("^%$")
        complete_a_talk(terminal, "netsvc ta", tmp_path)


@needs("fish")
def test_fish_completes_commands_flags_choices_and_files(environment: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "fish" / "completions" / "netsvc.fish", netsvc("completion", "fish").stdout.decode())
    write(tmp_path / "fish" / "config.fish", "function fish_prompt; echo '% '; end\nset fish_greeting\n")
    write(tmp_path / "authority.pem", "")
    with at_terminal("fish", "-i", env=environment, columns=200) as terminal:
        terminal.wait_for("^%$")
        terminal.type("netsvc \t")
        terminal.wait_for(r"\(Look up names, addresses, services and ports\.\)")
        complete_a_talk(terminal, "tal", tmp_path)


@pytest.mark.parametrize("arguments", [[], ["tcsh"], ["bash", "zsh"]])
def test_a_wrong_shell_is_one_line_of_error_and_status_64(arguments: list[str]) -> None:
    done = netsvc("completion", *arguments)
    assert (done.returncode, done.stdout) == (64, b"")
    assert done.stderr.count(b"\n") == 1


def test_a_command_loads_neither_twisted_nor_other_commands_before_it_needs_them() -> None:
    program = (
        "import sys\nfrom netsvc.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "loaded = {name for name in sys.modules if name.startswith(('netsvc.cli.', 'netsvc.server', 'twisted'))}\n"
        "print(*sorted(loaded), file=sys.stderr)\n"
    )

    def loaded(*arguments: str) -> set[str]:
        command = [sys.executable, "-c", program, *arguments]
        return set(subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stderr.split())

    own = {"netsvc.cli.main", "netsvc.cli.parameters", "netsvc.cli.statuses"}
    assert loaded("--version") == own
    assert loaded("completion", "zsh") == own | {"netsvc.cli.completion"}
    assert not {name for name in loaded("talk", "--help") if name.startswith(("netsvc.server", "netsvc.cli.serve"))}
