"""The reasons for which a start would fail, as far as that can be seen without opening ports and files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from netsvc.chat.sqlite_file import LogFileError, check_log_file
from netsvc.server.config import Config
from netsvc.server.start_plan import conflicts_in, folders_of_sockets


def problems_of(config: Config) -> Iterator[str]:
    """Give a line for each problem, with its remedy."""
    yield from conflicts_in(config)
    for where, folder in folders_of_sockets(config):
        if not os.path.isdir(folder):
            yield f"{where}: there is no folder {folder}; make it, or choose another path"
        elif not os.access(folder, os.W_OK | os.X_OK):
            yield f"{where}: you may not write to the folder {folder}; choose another path"
    if config.chat_store_path is not None:
        try:
            check_log_file(config.chat_store_path)
        except LogFileError as e:
            yield f"--chat-store {config.chat_store}: {e}"
