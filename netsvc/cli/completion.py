"""``netsvc completion``: print the script that completes the command line in a shell."""

from __future__ import annotations

from collections.abc import Mapping

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from netsvc.cli.parameters import CONTEXT_SETTINGS

#: The shells, and where the script of each belongs.
SHELLS = {
    "bash": "~/.local/share/bash-completion/completions/netsvc",
    "zsh": "a file _netsvc in a folder of $fpath",
    "fish": "~/.config/fish/completions/netsvc.fish",
}

#: The variable by which the script asks the command what is possible.
VARIABLE = "_NETSVC_COMPLETE"


class _Zsh(ZshComplete):
    """Without click's mistake: the function that zsh has loaded from a file did nothing when it was called again."""

    source_template = ZshComplete.source_template.replace(
        "$zsh_eval_context[-1] == loadautofunc", "$funcstack[1] == _%(prog_name)s"
    )


class _Fish(FishComplete):
    """Without click's mistake: a help text was cut at its first comma."""

    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


_SCRIPTS: Mapping[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": _Zsh, "fish": _Fish}


def _print_script(shell: str) -> None:
    commands = click.get_current_context().find_root().command
    click.echo(_SCRIPTS[shell](commands, {}, "netsvc", VARIABLE).source(), nl=False)


COMMAND = click.Command(
    "completion",
    callback=_print_script,
    context_settings=CONTEXT_SETTINGS,
    short_help="Print the script for completion in bash, zsh or fish.",
    help=(
        "Print the script that completes commands, flags and file names of netsvc in a shell. Put it into "
        + "; ".join(f"{place} ({shell})" for shell, place in SHELLS.items())
        + ". A new shell then completes after Tab."
    ),
    params=[click.Argument(["shell"], metavar="bash|zsh|fish", type=click.Choice(list(SHELLS)))],
)
