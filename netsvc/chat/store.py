"""The interface of a store, which keeps the logs of rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from twisted.internet.defer import Deferred

from netsvc.chat.entries import Draft, Entry, Position
from netsvc.errors import NetsvcError

#: Called with each entry of a subscribed room, in the order of offsets.
Deliver = Callable[[Entry], None]


class StoreError(NetsvcError):
    """The store cannot do it now, and has written nothing. The text is the reason on one line."""


@dataclass(frozen=True, slots=True)
class Retried:
    """The draft is a retry, or its entry was not delivered, because the log no longer keeps it.

    :ivar entry: what was appended the first time.
    """

    entry: Entry


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """It is not known yet what became of the draft. It is kept, and the outcome follows."""


#: The outcome of a draft: the new entry, that it is a retry, why nothing was written, or that this is not known yet.
Outcome: TypeAlias = Entry | Retried | StoreError | Unconfirmed

#: Called with the outcome of a draft. A store that does not know it in time calls it with ``Unconfirmed`` before.
Appended = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class LogState:
    """The state of a room's log when a subscription begins.

    :ivar end: the position of the last entry. Later ones are delivered.
    :ivar topic: the entry that set the topic; None without one.
    """

    end: Position
    topic: Entry | None


@dataclass(frozen=True, slots=True)
class NewLog:
    """A log was begun anew, or has lost its last entries. It has another epoch, and what was lost is unknown.

    :ivar room: whose log it is.
    :ivar state: of the log. Later entries are delivered.
    :ivar unseen: entries of the log up to this position which were not delivered before, as far as is known.
    """

    room: str
    state: LogState
    unseen: Sequence[Entry]


#: Called when the log of a subscribed room was begun anew.
BegunAnew = Callable[[NewLog], None]


class Store(Protocol):
    """Keeps the logs of rooms. The hub is its only user.

    What may take time answers later. A store that is fast may answer at once, in the call itself. A method that returns
    a Deferred fails with :class:`StoreError` if the store cannot answer.

    The store bounds each log in entries and in age; a store in memory also bounds all of them in size. A bound
    removes the oldest.
    """

    def open(self, deliver: Deliver, begun_anew: BegunAnew) -> None:
        """Begin. It may be opened again after it was closed.

        :param deliver: called with each entry that is appended to a subscribed room, in the order of offsets.
        :param begun_anew: called when the log of a subscribed room was begun anew, which not every store can notice.
        :raises StoreError: if it cannot be used.
        """

    def close(self) -> Deferred[None]:
        """Finish what was begun and end all subscriptions. Fires when nothing is left to do."""

    def subscribe(self, room: str) -> Deferred[LogState]:
        """Deliver the entries of a room from now on. A log that does not exist is begun."""

    def unsubscribe(self, room: str) -> None:
        """End the subscription to a room. Its log stays, unless there is nothing in it that a history would show."""

    def append(self, draft: Draft, appended: Appended) -> None:
        """Append to the log of a subscribed room.

        A draft whose author and message id are those of an entry of the log is a retry. It is not appended again.

        :param appended: called with what became of it; with an entry only after that was delivered.
        """

    def read(self, room: str, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        """Return at most ``limit`` entries of a room after an offset, the oldest first.

        If the first of them has a larger offset than ``after + 1``, those between are no longer kept.
        """

    def newest(self, room: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        """Return the last ``limit`` entries up to the offset ``until`` that a history shows, the oldest first."""

    def search(self, room: str, words: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        """Return the last ``limit`` entries up to the offset ``until`` with all of the words, the oldest first.

        Which words a text has, and which are found, is told in :mod:`netsvc.chat.words`.
        """

    def entry_at(self, room: str, offset: int) -> Deferred[Entry | None]:
        """Return one entry; None if it is not kept."""

    def erase(self, room: str, offset: int) -> Deferred[None]:
        """Remove the text of an entry for good. Its position stays."""
