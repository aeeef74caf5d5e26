"""The nicks of members. No two members have nicks that are the same or look alike."""

from __future__ import annotations

from collections import OrderedDict

from netsvc.chat.names import ASCII_NAMES, Names

#: Nicks that are kept for members whose connection was lost. The one that was lost first is given up first.
RESERVED_MAX = 4_096


class Nicks:
    """The nicks of members, and those that are kept for members whose connection was lost.

    Authors identify the members across connections.

    :param names: the rules for names.
    """

    def __init__(self, names: Names = ASCII_NAMES) -> None:
        self.names = names
        self._nicks: dict[str, str] = {}  # by author
        self._owners: dict[str, str] = {}  # the author, by key
        self._reserved: OrderedDict[str, tuple[str, float, set[str]]] = OrderedDict()  # by author
        self._reserved_by: dict[str, str] = {}  # the author, by key
        self._guests = 0

    def __len__(self) -> int:
        """Return the number of members with a nick."""
        return len(self._nicks)

    def nick(self, author: str) -> str:
        """Return the nick of a member; empty if it has none."""
        return self._nicks.get(author, "")

    def owner(self, nick: str) -> str | None:
        """Return the author who has this nick, or one that looks like it."""
        owners = self._owners
        return next((owners[key] for key in self.names.keys(nick) if key in owners), None)

    def problem(self, nick: str, author: str, now: float) -> str:
        """Return why a member cannot have a nick, such as ``looks like ann``; empty if it can.

        :param now: the time in seconds.
        """
        present = self.owner(nick)
        if present is not None and present != author:
            taken = self._nicks[present]
            return "is taken" if taken.casefold() == nick.casefold() else f"looks like {taken}"
        self._forget_reserved(now)
        if any(self._reserved_by.get(key, author) != author for key in self.names.keys(nick)):
            return "is kept for a member whose connection was lost"
        return ""

    def claim(self, nick: str, author: str) -> None:
        """Give a member a nick, in place of its present one. There must be no :meth:`problem` with it."""
        self.release(author)
        self._drop_reservation(author)
        self._nicks[author] = nick
        self._owners.update(dict.fromkeys(self.names.keys(nick), author))

    def claim_guest_nick(self, author: str, now: float) -> str:
        """Give a member a free nick such as ``guest-7``. Return it."""
        while True:
            self._guests += 1
            nick = f"guest-{self._guests}"
            if not self.problem(nick, author, now):
                self.claim(nick, author)
                return nick

    def release(self, author: str) -> None:
        """Take the nick from a member. One that has none is ignored."""
        nick = self._nicks.pop(author, None)
        if nick is not None:
            for key in self.names.keys(nick):
                del self._owners[key]

    def reserve(self, nick: str, author: str, until: float) -> None:
        """Keep a free nick for an author until a time in seconds."""
        self._drop_reservation(author)
        keys = self.names.keys(nick)
        self._reserved[author] = (nick, until, keys)
        self._reserved_by.update(dict.fromkeys(keys, author))
        if len(self._reserved) > RESERVED_MAX:
            self._drop_reservation(next(iter(self._reserved)))

    def reserved_for(self, author: str, now: float) -> str | None:
        """Return the nick that is kept for an author."""
        self._forget_reserved(now)
        return self._reserved[author][0] if author in self._reserved else None

    def _forget_reserved(self, now: float) -> None:
        while self._reserved:
            author, (_, until, _) = next(iter(self._reserved.items()))
            if now < until:
                return
            self._drop_reservation(author)

    def _drop_reservation(self, author: str) -> None:
        if author in self._reserved:
            for key in self._reserved.pop(author)[2]:
                del self._reserved_by[key]
