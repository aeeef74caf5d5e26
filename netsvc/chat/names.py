"""What members and rooms may be called. By default in ASCII, where little looks like something else."""

from __future__ import annotations

import re

#: The longest nick or room name, in bytes of UTF-8.
NAME_MAX = 24

#: Names that nobody may take, because they would lend their bearer the server's voice.
RESERVED_NICKS = ("admin", "server", "system")

_ASCII_NAME = re.compile(r"[A-Za-z0-9_-]+")


class NameRefusedError(ValueError):
    """A nick or a room name that cannot be used. The text says why and fits in one line."""


class Names:
    """Names of 1 to 24 ASCII letters, digits, ``_`` and ``-``, compared without case."""

    def __init__(self) -> None:
        self._reserved = {key for nick in RESERVED_NICKS for key in self.keys(nick)}

    def nick(self, text: str) -> str:
        """Return ``text``, as it is to be shown, if a member may be called so.

        :raises NameRefusedError: otherwise, and for the reserved names, whatever their case.
        """
        nick = self.parse(text, "a nick")
        if not self._reserved.isdisjoint(self.keys(nick)):
            raise NameRefusedError(f"{nick} is reserved; take another nick")
        return nick

    def room(self, text: str) -> str:
        """Return the room's name in small letters and with its ``#``, which may be left out.

        :raises NameRefusedError: if no room may be called so.
        """
        return "#" + self.parse(text.removeprefix("#"), "a room's name").lower()

    def keys(self, name: str) -> set[str]:
        """Return what stands for a name. Two that have one of it in common would be taken for each other."""
        return {name.lower()}

    def parse(self, text: str, what: str) -> str:
        """Return ``text`` as it is to be shown.

        :param what: what to call it in the error.
        :raises NameRefusedError: if it is no name.
        """
        if not 0 < len(text) <= NAME_MAX or not _ASCII_NAME.fullmatch(text):
            raise NameRefusedError(f"{what} is 1 to {NAME_MAX} letters (a-z), digits, _ and -")
        return text


ASCII_NAMES = Names()
