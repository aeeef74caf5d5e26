"""Lines of results on standard output."""

from __future__ import annotations

import os

from netsvc.cli.command import CommandError
from netsvc.wire.text import clean


def print_line(line: str) -> None:
    """Print one line to standard output at once, without characters that a terminal would interpret.

    :raises CommandError: if it cannot be written, to a full disk for example.
    :raises BrokenPipeError: if the reader of the output has closed it.
    """
    rest = memoryview(f"{clean(line)}\n".encode())
    while rest:
        try:
            rest = rest[os.write(1, rest) :]
        except BrokenPipeError:
            raise
        except OSError as e:
            raise CommandError(f"standard output: {(e.strerror or str(e)).lower()}") from None
