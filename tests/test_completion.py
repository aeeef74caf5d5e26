"""Completion of the command line in bash, zsh and fish, as the scripts of click ask for it."""

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
    assert completed("bash", "netsvc", "serve", "--config", "net")[0][0] == "file"
    assert completed("bash", "netsvc", "completion", "f") == [("plain", "fish")]


BASH = """
eval "$(netsvc completion bash)"
COMP_WORDS=(netsvc ta) COMP_CWORD=1
complete -p netsvc
_netsvc_completion netsvc
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "netsvc"
    program.write_text(f'#!/bin/sh\nexec {" ".join(NETSVC)} "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", BASH]
    done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, env=environment)
    assert (done.stdout, done.stderr) == (b"complete -o nosort -F _netsvc_completion netsvc\ntalk\n", b"")


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
