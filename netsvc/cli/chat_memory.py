"""The file in which a chat at a terminal remembers a server, the nick, and the session that it can resume.

There is one file for each server, below ``$XDG_STATE_HOME/netsvc/chat``. Only its owner can read it, because the token
of the session is in it. The program that uses a session holds a lock on the file, since two programs must not resume
the same one.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

#: Seconds for which a server keeps a session without a connection.
SESSION_KEPT = 120.0

#: Bytes that are read of a file.
_FILE_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class RememberedSession:
    """A session that can be resumed.

    :ivar saved: when it was written, in seconds since the epoch of UNIX.
    """

    token: str
    nick: str
    room: str
    epoch: str
    offset: int
    saved: float


@dataclass(frozen=True, slots=True)
class Remembered:
    """The facts that are remembered of a server.

    :ivar server: its address, or the URL of its WebSocket.
    :ivar tls: whether to connect with TLS.
    :ivar ca: the file of the authority; empty for those of the system.
    :ivar nick: the nick that the user chose; empty for none.
    """

    server: str
    tls: bool = False
    ca: str = ""
    nick: str = ""
    session: RememberedSession | None = None


class ChatMemory:
    """The file of one server. While it is open, no other program resumes the session.

    Failures are ignored: a chat works without its memory.

    :param directory: where the files are.
    """

    def __init__(self, directory: Path, server: str) -> None:
        self._server = server
        self._path = directory / f"{quote(server, safe='')[:200]}.json"
        self._fd = -1

    def open(self) -> Remembered:
        """Lock the file and return what is in it. The session is missing if another program uses it."""
        remembered = _read(self._path) or Remembered(self._server)
        if remembered.server != self._server:
            remembered = Remembered(self._server)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return replace(remembered, session=None)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(fd, 0o600)
        except OSError:
            os.close(fd)
            return replace(remembered, session=None)
        self._fd = fd
        return remembered

    def write(self, remembered: Remembered) -> None:
        """Replace what is in the file, unless another program uses it."""
        if self._fd < 0:
            return
        data = json.dumps(asdict(remembered)).encode()
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, data, 0)

    def close(self) -> None:
        """Release the lock. If nothing was written, no file stays: the address may be a wrong one."""
        if self._fd >= 0:
            with suppress(OSError):
                if not os.fstat(self._fd).st_size:
                    self._path.unlink()
            os.close(self._fd)
            self._fd = -1


def state_directory() -> Path:
    """Return where the files are."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return base / "netsvc" / "chat"


def latest_server(directory: Path) -> Remembered | None:
    """Return the server that was used last; None if there is none."""
    try:
        files = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return None
    return next((found for path in files if (found := _read(path))), None)


def _read(path: Path) -> Remembered | None:
    try:
        with path.open("rb") as file:
            values = json.loads(file.read(_FILE_MAX))
        session = values.pop("session", None)
        remembered = Remembered(**values, session=RememberedSession(**session) if session else None)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return remembered if _is_valid(remembered) else None


def _is_valid(remembered: Remembered) -> bool:
    texts = [remembered.server, remembered.ca, remembered.nick]
    numbers: list[object] = []
    if remembered.session is not None:
        session = remembered.session
        texts += [session.token, session.nick, session.room, session.epoch]
        numbers = [session.offset, session.saved]
    return (
        all(isinstance(text, str) and text.isprintable() for text in texts)
        and all(isinstance(number, int | float) for number in numbers)
        and isinstance(remembered.tls, bool)
    )
