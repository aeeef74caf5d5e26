"""The file to which a chat at a terminal appends what it shows."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from netsvc.cli.terminal_text import StyledLine


class ChatLog:
    """Appends lines with their times. Only the owner can read a new file, because private messages are in it.

    :param path: of the file.
    :raises OSError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def append(self, line: StyledLine, room: str) -> None:
        """Append a line.

        :raises OSError: if it cannot be written.
        """
        time = datetime.fromtimestamp(line.time).astimezone().isoformat(timespec="seconds")
        data = f"{time} {room} {line.text}\n".encode()
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)
