"""The interface between the chat's hub and the front ends, and what the hub knows of each member."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.defer import Deferred

from netsvc.chat.chat_events import Event
from netsvc.chat.entries import Entry, Position
from netsvc.chat.room import Membership


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a member continues an earlier session.

    :ivar token: told in a :class:`~netsvc.chat.chat_events.SessionToken`.
    :ivar nick: a valid nick, which it gets if no other member has it.
    :ivar positions: the position of the last entry that it has, for each room in which it was.
    :ivar message_id: is named in a refusal.
    """

    token: str
    nick: str
    positions: Mapping[str, Position]
    message_id: str = ""


class EntryFormat(Protocol):
    """The form in which a front end shows the entries of a room. All members with the same form share the bytes."""

    def entry(self, entry: Entry) -> bytes:
        """Return what a member is sent for an entry; empty for nothing."""

    def own_entry(self, entry: Entry) -> bytes:
        """Return what the entry's author is sent for it; empty for nothing."""


class Member(Protocol):
    """A member of the chat: a connection of some front end.

    :ivar host: its IP address; None if it has none.
    :ivar peer: its address, for the log.
    :ivar entry_format: the form of the entries that :meth:`send` is called with.
    :ivar output_blocked: whether much is queued because it does not read. When it has read that, it calls
        :meth:`~netsvc.chat.hub.ChatHub.output_drained`.
    """

    host: str | None

    @property
    def peer(self) -> str: ...

    @property
    def entry_format(self) -> EntryFormat: ...

    @property
    def output_blocked(self) -> bool: ...

    def send(self, data: bytes) -> None:
        """Send an entry in its form."""

    def tell(self, event: Event) -> None:
        """Send an event."""

    def pause_input(self) -> None:
        """Pass no further request to the hub until :meth:`resume_input` is called."""

    def resume_input(self) -> None:
        """Pass requests to the hub again."""

    def replaced(self) -> None:
        """Another connection of the same member has taken its place. Close."""


class Participant:
    """The state of one member in the hub.

    :ivar member: its connection.
    :ivar token: the secret by which a later connection is recognised as the same member.
    :ivar author: identifies it across connections and nicks, and is not secret.
    :ivar nick: its nick.
    :ivar memberships: where it is, by the names of the rooms.
    :ivar is_present: whether it is in the chat.
    :ivar is_appending: whether the store has not answered for its line yet.
    :ivar is_unconfirmed: whether it was told that its line is not confirmed.
    :ivar waits_for_store: whether its input is paused until then.
    """

    __slots__ = (
        "_drained",
        "_waits",
        "author",
        "is_appending",
        "is_present",
        "is_unconfirmed",
        "member",
        "memberships",
        "nick",
        "token",
        "waits_for_store",
    )

    def __init__(self, member: Member) -> None:
        self.member = member
        self.token = secrets.token_hex(16)
        self.author = author_of(self.token)
        self.memberships: dict[str, Membership[Participant]] = {}
        self.nick = ""
        self.is_present = True
        self.is_appending = False
        self.is_unconfirmed = False
        self.waits_for_store = False
        self._waits = 0
        self._drained: Deferred[None] | None = None

    @property
    def send(self) -> Callable[[bytes], None]:
        """Sends it an entry in its form."""
        return self.member.send

    def begin_wait(self) -> None:
        """Something that the member asked for is not done yet. Pause its input."""
        self._waits += 1
        if self._waits == 1:
            self.member.pause_input()

    def end_wait(self) -> None:
        """It is done. Resume the input if nothing else is waited for."""
        self._waits -= 1
        if not self._waits and self.is_present:
            self.member.resume_input()

    def drained(self) -> Deferred[None]:
        """Return a Deferred that fires when the member has read what was queued, or has left."""
        if self._drained is None:
            self._drained = Deferred()
        waiting: Deferred[None] = Deferred()
        self._drained.addCallback(lambda _: waiting.callback(None))
        return waiting

    def output_drained(self) -> None:
        """The member has read what was queued, or has left."""
        if self._drained is not None:
            drained, self._drained = self._drained, None
            drained.callback(None)


def author_of(token: str) -> str:
    """Return the author of a session's token."""
    return hashlib.sha256(token.encode("ascii", "replace")).hexdigest()[:16]
