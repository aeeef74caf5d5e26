"""Members of a chat for tests: they record what they are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from netsvc.chat.chat_events import Event, Refused
from netsvc.chat.entries import Draft, Entry
from netsvc.chat.hub import ChatHub
from netsvc.chat.memory_store import MemoryStore
from netsvc.chat.participant import EntryFormat
from netsvc.chat.people_lines import PEOPLE_LINES
from netsvc.chat.store import Appended, BegunAnew, Deliver, LogState, Store, StoreError, Unconfirmed
from tests.connections import terms

E = TypeVar("E")
T = TypeVar("T")


class RecordingMember:
    """A member that records what it is sent.

    :ivar lines: the lines of entries, without line ends.
    :ivar events: the other events.
    :ivar paused: whether its input is paused.
    """

    def __init__(self, host: str | None = "192.0.2.1", entry_format: EntryFormat = PEOPLE_LINES) -> None:
        self.host = host
        self.peer = "192.0.2.1:40000"
        self.entry_format: EntryFormat = entry_format
        self.output_blocked = False
        self.lines: list[str] = []
        self.events: list[Event] = []
        self.paused = False
        self.was_replaced = False

    def send(self, data: bytes) -> None:
        self.lines += data.decode().splitlines()

    def tell(self, event: Event) -> None:
        self.events.append(event)

    def pause_input(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_input(self) -> None:
        assert self.paused
        self.paused = False

    def replaced(self) -> None:
        self.was_replaced = True

    def taken(self) -> list[str]:
        """Return the lines since the last call."""
        lines, self.lines = self.lines, []
        return lines

    def told(self, kind: type[E]) -> list[E]:
        """Return the events of one kind since the last call of this or of :meth:`clear`."""
        found: list[E] = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found

    def refusals(self) -> list[str]:
        """Return the texts of the refusals since the last call."""
        return [refused.text for refused in self.told(Refused)]

    def clear(self) -> None:
        """Forget what it was sent and told."""
        self.lines.clear()
        self.events.clear()


class SlowStore(MemoryStore):
    """Answers when the test says so, or fails."""

    def __init__(self) -> None:
        super().__init__(Clock().seconds)
        self.is_slow = False
        self.deliver: Deliver
        self.begun_anew: BegunAnew
        self.waiting: list[tuple[Callable[[], None], Callable[[StoreError], None]]] = []

    def open(self, deliver: Deliver, begun_anew: BegunAnew) -> None:
        self.deliver, self.begun_anew = deliver, begun_anew
        super().open(deliver, begun_anew)

    def append(self, draft: Draft, appended: Appended) -> None:
        if self.is_slow:
            self.waiting.append((partial(self._append_now, draft, appended), appended))
        else:
            super().append(draft, appended)

    def _append_now(self, draft: Draft, appended: Appended) -> None:
        is_subscribed = draft.room in self._subscribed
        if not is_subscribed:  # as a store that had the draft in its queue when the subscription ended
            super().subscribe(draft.room)
        super().append(draft, appended)
        if not is_subscribed:
            super().unsubscribe(draft.room)

    def subscribe(self, room: str) -> Deferred[LogState]:
        return self._later(super().subscribe, room)

    def read(self, room: str, after: int, limit: int) -> Deferred[Sequence[Entry]]:
        return self._later(super().read, room, after, limit)

    def newest(self, room: str, until: int, limit: int) -> Deferred[Sequence[Entry]]:
        return self._later(super().newest, room, until, limit)

    def entry_at(self, room: str, offset: int) -> Deferred[Entry | None]:
        return self._later(super().entry_at, room, offset)

    def erase(self, room: str, offset: int) -> Deferred[None]:
        return self._later(super().erase, room, offset)

    def _later(self, method: Callable[..., Deferred[T]], *arguments: object) -> Deferred[T]:
        if not self.is_slow:
            return method(*arguments)
        answer: Deferred[T] = Deferred()

        def answer_now() -> None:
            room = arguments[0]
            if method.__name__ == "subscribe" or room in self._subscribed:
                method(*arguments).chainDeferred(answer)
            else:
                answer.errback(StoreError("the room is closed"))

        self.waiting.append((answer_now, answer.errback))
        return answer

    def answer(self, count: int = 1_000_000) -> None:
        """Answer what waits, and what waits then, but at most ``count`` requests."""
        while self.waiting and count:
            count -= 1
            self.waiting.pop(0)[0]()

    def unconfirm(self) -> None:
        """Say of the drafts that wait that their outcome is not known yet."""
        for _, appended in self.waiting:
            appended(Unconfirmed())  # type: ignore[arg-type]

    def refuse(self) -> None:
        """Fail what waits."""
        waiting, self.waiting = self.waiting, []
        for _, fail in waiting:
            fail(StoreError("the disk is full"))


def new_hub(clock: Clock | None = None, store: Store | None = None, **limits: int | float) -> ChatHub:
    """Return a chat, without a limit of deliveries unless one is given."""
    hub = ChatHub(terms(clock or Clock()), store, **{"total": 0, **limits})  # type: ignore[arg-type]
    hub.open("the test")
    return hub


def entered(hub: ChatHub, nick: str, room: str = "#lobby", host: str | None = "192.0.2.1") -> RecordingMember:
    """Return a new member with this nick, in this room, of which the room was told."""
    member = RecordingMember(host)
    hub.enter(member)
    hub.rename(member, nick)
    if room != "#lobby":
        hub.join(member, room, leaving=["#lobby"])
    hub.announce_arrival(member)
    assert not member.refusals()
    member.clear()
    return member
