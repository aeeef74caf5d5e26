"""``netsvc completion``: print the script that completes the command line in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from netsvc.cli.parameters import CONTEXT_SETTINGS

#: The shells, and where the script of each belongs.
SHELLS = {
    "bash": "~/.local/share/bash-completion/completions/netsvc",
    "zsh": "a file _netsvc in a folder of $fpath",
    "fish": "~/.config/fish/completions/netsvc.fish",
}

#: The variable by which the script asks the command what is possible.
VARIABLE = "_NETSVC_COMPLETE"


def _print_script(shell: str) -> None:
    kind = get_completion_class(shell)
    commands = click.get_current_context().find_root().command
    assert kind is not None, shell
    click.echo(kind(commands, {}, "netsvc", VARIABLE).source(), nl=False)


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
