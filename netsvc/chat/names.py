"""Names of members and rooms. By default they are ASCII. Names that look alike count as the same name."""

from __future__ import annotations

import re

from netsvc.errors import NetsvcError

#: Bytes of UTF-8 of the longest nick or room name.
NAME_MAX = 24

#: Nicks that no member may take, because people would believe them to be someone else.
RESERVED_NICKS = (
    *("chat", "netsvc", "null", "server", "service", "system", "-"),  # the server; programs write "-" for no nick
    *("admin", "administrator", "moderator", "mod", "operator", "op", "owner", "root"),  # those who run it
    *("help", "official", "security", "staff", "support"),  # those whom people trust with a password
    *("all", "channel", "everyone", "here", "nobody", "you"),  # no single member: "* you left"
)

_ASCII_NAME = re.compile(r"[A-Za-z0-9_-]+")


class InvalidNameError(NetsvcError, ValueError):
    """A nick or a room name that is not allowed; the message says why."""


class Names:
    """Names of 1 to 24 ASCII letters, digits, ``_`` and ``-``.

    They are compared without case, and as :func:`look_alike_key` says.
    """

    def __init__(self) -> None:
        self._reserved = {key for nick in RESERVED_NICKS for key in self.keys(nick)}

    def nick(self, text: str) -> str:
        """Return ``text`` as a nick, in the form that is shown.

        :raises InvalidNameError: if it is not a name, or if it looks like a reserved one.
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
        return {look_alike_key(name)}

    def parse(self, text: str, what: str) -> str:
        """Return ``text`` in the form that is shown.

        :param what: the term for it in the error message.
        :raises InvalidNameError: if it is not a name.
        """
        if not 0 < len(text) <= NAME_MAX or not _ASCII_NAME.fullmatch(text):
            raise InvalidNameError(f"{what} is 1 to {NAME_MAX} letters (a-z), digits, _ and -")
        return text


def look_alike_key(name: str) -> str:
    """Return a key that is the same for names that are the same without case, or look alike in ASCII.

    A small i does not look like an l, but a capital I does, and both are the same name. So i, I, l, L and 1 are one
    character, and so are o, O and 0; rn is m, and vv is w. Other pairs, such as cl and d, 5 and s, or - and _, can be
    told apart in most fonts, and common words differ in nothing else (clay, day).
    """
    # The long form replaces the short one, so that "vvv", "vw" and "wv" have one key. A table takes four times as long.
    return name.lower().replace("i", "l").replace("1", "l").replace("0", "o").replace("m", "rn").replace("w", "vv")


ASCII_NAMES = Names()
