"""Members of a chat for tests: they record what they are told."""

from __future__ import annotations

from typing import TypeVar

from twisted.internet.task import Clock

from netsvc.chat.chat_events import Event, Refused
from netsvc.chat.hub import ChatHub
from netsvc.chat.participant import EntryFormat
from netsvc.chat.people_lines import PEOPLE_LINES
from netsvc.chat.store import Store
from tests.connections import terms

E = TypeVar("E")


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
        hub.join(member, room, leaving="#lobby")
    hub.announce_arrival(member)
    assert not member.refusals()
    member.clear()
    return member
