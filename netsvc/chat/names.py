"""Names of members and rooms. By default they are ASCII, in which few characters look alike."""

from __future__ import annotations

import re

from netsvc.errors import NetsvcError

#: Bytes of UTF-8 of the longest nick or room name.
NAME_MAX = 24

#: Nicks that no member may take, because their messages would look like the server's.
RESERVED_NICKS = ("admin", "server", "system")

_ASCII_NAME = re.compile(r"[A-Za-z0-9_-]+")


class InvalidNameError(NetsvcError, ValueError):
    """A nick or a room name that is not allowed; the message says why."""


class Names:
    """Names of 1 to 24 ASCII letters, digits, ``_`` and ``-``, compared without case."""

    def __init__(self) -> None:
        self._reserved = {key for nick in RESERVED_NICKS for key in self.keys(nick)}

    def nick(self, text: str) -> str:
        """Return ``text`` as a nick, in the form that is shown.

        :raises InvalidNameError: if it is not a name, or if it is a reserved name in any case of letters.
        """
        nick = self.parse(text, "a nick")
        if not self._reserved.isdisjoint(self.keys(nick)):
            raise InvalidNameError(f"{nick} is reserved; take another nick")
        return nick

    def room(self, text: str) -> str:
        """Return ``text`` as a room's name: in lower case, with a ``#``. The text need not have the ``#``.

        :raises InvalidNameError: if it is not a name.
        """
        return "#" + self.parse(text.removeprefix("#"), "a room name").lower()

    def keys(self, name: str) -> set[str]:
        """Return the keys of a name. Two names with a key in common look alike."""
        return {name.lower()}

    def parse(self, text: str, what: str) -> str:
        """Return ``text`` in the form that is shown.

        :param what: the term for it in the error message.
        :raises InvalidNameError: if it is not a name.
        """
        if not 0 < len(text) <= NAME_MAX or not _ASCII_NAME.fullmatch(text):
            raise InvalidNameError(f"{what} is 1 to {NAME_MAX} letters (a-z), digits, _ and -")
        return text


ASCII_NAMES = Names()
