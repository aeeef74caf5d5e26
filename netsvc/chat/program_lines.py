"""The lines that programs read, after ``/positions on``. No other module formats or parses them.

``@OFFSET TIME BODY`` is an entry of the current room; ``@OFFSET=ID TIME BODY`` is one of the reader's own, with the ID
that it gave, if any. BODY is ``<nick> text``, ``<nick *> text`` (in the third person), or one of the words ``joined``,
``left``, ``renamed``, ``topic``, ``notice`` and ``erased`` with its arguments. ``& WORD ARGUMENTS`` is an event,
``<nick -> nick> text`` a private message, and ``* text`` a sentence for people. TIME is in UTC, by RFC 3339.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from netsvc.chat.chat_events import (
    AwaySet,
    Confirmed,
    Entries,
    Event,
    MemberList,
    NickSet,
    NotConfirmed,
    Notice,
    RecipientAway,
    Refused,
    Replaced,
    Resumed,
    Review,
    RoomEntered,
    RoomLeft,
    RoomList,
    SessionToken,
    TopicShown,
    Verdict,
    Welcome,
    Whispered,
)
from netsvc.chat.entries import Entry, EntryKind, Position
from netsvc.chat.request_lines import MessageError
from netsvc.limits.cause import Cause
from netsvc.wire.text import clean

#: Bytes of the longest prefix of a line: offset, ID, time, and a nick of 24 bytes.
PREFIX_MAX = 128

#: Old entries of one event. A server could otherwise fill the memory of a client.
_ENTRIES_MAX = 1_000

#: Stands for an empty argument.
_NONE = "-"


class ProgramLines:
    """The form of the chat for programs. Each result is whole lines, with their line ends."""

    def entry(self, entry: Entry) -> bytes:
        """Return the line of an entry for the other members."""
        return f"@{entry.offset} {_time(entry.time)} {_body(entry)}\n".encode()

    def own_entry(self, entry: Entry) -> bytes:
        """Return the line of an entry for its author. It acknowledges what the author said."""
        return f"@{entry.offset}={entry.message_id} {_time(entry.time)} {_body(entry)}\n".encode()

    def event(self, event: Event) -> bytes:
        """Return the lines of an event."""
        if isinstance(event, Entries):
            heading = f"& entries {event.room} {event.review.value} {len(event.entries)}\n"
            return heading.encode() + b"".join(map(self.entry, event.entries))
        if isinstance(event, Confirmed):
            return b""  # the entry says so
        return f"{_line(event)}\n".encode()


def _body(entry: Entry) -> str:
    nick, text = entry.nick, entry.text
    match entry.kind:
        case EntryKind.SAID:
            return f"<{nick}> {text}"
        case EntryKind.ACTION:
            return f"<{nick} *> {text}"
        case EntryKind.NOTICE:
            return f"notice {text}"
        case _:
            return f"{entry.kind.value} {nick} {text}".rstrip()


def _line(event: Event) -> str:  # noqa: PLR0912  one branch for each event
    match event:
        case Welcome(nick):
            return f"& welcome {nick}"
        case SessionToken(token):
            return f"& session {token}"
        case NickSet(nick):
            return f"& nick {nick}"
        case RoomEntered(room, position, count, others):
            return f"& room {room} {position.epoch} {position.offset} {count} {' '.join(others)}".rstrip()
        case RoomLeft(room):
            return f"& left {room}"
        case Resumed(room, verdict, lost):
            return f"& resumed {room} {verdict.value} {lost}"
        case Whispered(sender, recipient, text):
            return f"<{sender} -> {recipient}> {text}"
        case Refused(cause, text, message_id):
            return f"& refused {cause.label} {message_id or _NONE} {text}"
        case NotConfirmed(message_id):
            return f"& not-confirmed {message_id or _NONE}"
        case TopicShown(room, text, nick, time):
            return f"& topic {room} {nick or _NONE} {_time(time)} {text}".rstrip()
        case AwaySet(text):
            return f"& away {text}".rstrip()
        case RecipientAway(nick, text):
            return f"& recipient-away {nick} {text}"
        case MemberList(room, count, nicks):
            return f"& members {room} {count} {' '.join(nicks)}".rstrip()
        case RoomList(count, rooms):
            return f"& rooms {count} {' '.join(f'{name}={number}' for name, number in rooms)}".rstrip()
        case Replaced():
            return "& replaced"
        case Notice(text):
            return f"* {text}"
        case _:
            raise TypeError(f"no line for {event!r}")


@dataclass(frozen=True, slots=True)
class ReceivedEntry:
    """An entry of the current room, as a program receives it.

    :ivar entry: the entry. Its author is empty: only the server knows authors.
    :ivar is_own: whether the program wrote it.
    """

    entry: Entry
    is_own: bool


class ProgramLineDecoder:
    """Parses the lines that a server sends to a program. The server may be hostile.

    :ivar room: the current room; empty before it is known.
    :ivar epoch: of the room's log.
    """

    def __init__(self) -> None:
        self.room = ""
        self.epoch = ""
        self._old: tuple[str, Review, int] | None = None  # room, review, and how many are to come
        self._old_entries: list[Entry] = []

    def decode(self, line: bytes) -> Event | ReceivedEntry | None:
        """Parse one line, without its delimiter. Return None if more lines belong to the event.

        :raises MessageError: and nothing else, whatever the bytes.
        """
        try:
            text = clean(line.decode("utf-8"))
        except UnicodeDecodeError as e:
            raise MessageError(f"not UTF-8 at byte {e.start}") from None
        if text.startswith("@"):
            received = self._entry(text)
            return received if self._old is None else self._old_entry(received.entry)
        if text.startswith("& "):
            word, _, rest = text[2:].partition(" ")
            decode = _EVENTS.get(word)
            try:
                if word == "entries":
                    return self._begin_entries(rest)
                event = None if decode is None else decode(rest)
            except (ValueError, KeyError):
                raise MessageError(f"the arguments of {word!r} are wrong") from None
            if event is None:
                raise MessageError(f"there is no event {word[:32]!r}")
            if isinstance(event, RoomEntered):
                self.room, self.epoch = event.room, event.position.epoch
            return event
        if text.startswith("* "):
            return Notice(text[2:])
        if match := _WHISPERED.fullmatch(text):
            return Whispered(*match.groups())
        raise MessageError("the line comes neither from a member nor from the server")

    def _entry(self, text: str) -> ReceivedEntry:
        match = _ENTRY.fullmatch(text)
        if match is None:
            raise MessageError("the entry is malformed")
        offset, own, message_id, time, body = match.groups()
        kind, nick, said = _parse_body(body)
        try:
            seconds = datetime.fromisoformat(time).timestamp()
        except ValueError:
            raise MessageError("the time of the entry is malformed") from None
        entry = Entry(self.room, kind, nick, said, seconds, "", message_id or "", self.epoch, int(offset))
        return ReceivedEntry(entry, own is not None)

    def _begin_entries(self, rest: str) -> Event | None:
        room, review, count = rest.split(" ")
        if not 0 <= int(count) <= _ENTRIES_MAX:
            raise ValueError
        self._old = (room, Review(review), int(count))
        self._old_entries = []
        return self._end_entries()

    def _old_entry(self, entry: Entry) -> Event | None:
        self._old_entries.append(entry)
        return self._end_entries()

    def _end_entries(self) -> Event | None:
        assert self._old is not None
        room, review, count = self._old
        if len(self._old_entries) < count:
            return None
        self._old = None
        return Entries(room, review, tuple(self._old_entries))


_ENTRY = re.compile(r"@(\d{1,18})(=([A-Za-z0-9_-]{0,32}))? (\S+) (.*)", re.DOTALL)
_SAID = re.compile(r"<([^\s<>*]+)( \*)?> (.*)", re.DOTALL)
_WHISPERED = re.compile(r"<([^\s<>*]+) -> ([^\s<>*]+)> (.*)", re.DOTALL)
_CAUSES = {cause.label: cause for cause in Cause}


def _parse_body(body: str) -> tuple[EntryKind, str, str]:
    if match := _SAID.fullmatch(body):
        nick, action, text = match.groups()
        return (EntryKind.ACTION if action else EntryKind.SAID), nick, text
    word, _, rest = body.partition(" ")
    if word == EntryKind.NOTICE.value:
        return EntryKind.NOTICE, "", rest
    try:
        kind = EntryKind(word)
    except ValueError:
        raise MessageError(f"there is no kind of entry {word[:32]!r}") from None
    nick, _, text = rest.partition(" ")
    return kind, nick, text


def _room_entered(rest: str) -> Event:
    room, epoch, offset, count, *others = rest.split(" ")
    return RoomEntered(room, Position(epoch, int(offset)), int(count), tuple(others))


def _resumed(rest: str) -> Event:
    room, verdict, lost = rest.split(" ")
    return Resumed(room, Verdict(verdict), int(lost))


def _refused(rest: str) -> Event:
    label, message_id, text = rest.split(" ", 2)
    return Refused(_CAUSES[label], text, "" if message_id == _NONE else message_id)


def _topic(rest: str) -> Event:
    room, nick, time, *text = rest.split(" ", 3)
    seconds = datetime.fromisoformat(time).timestamp()
    return TopicShown(room, " ".join(text), "" if nick == _NONE else nick, seconds)


def _recipient_away(rest: str) -> Event:
    nick, text = rest.split(" ", 1)
    return RecipientAway(nick, text)


def _members(rest: str) -> Event:
    room, count, *nicks = rest.split(" ")
    return MemberList(room, int(count), tuple(nicks))


def _rooms(rest: str) -> Event:
    count, *rooms = rest.split(" ")
    pairs = (room.rpartition("=") for room in rooms)
    return RoomList(int(count), tuple((name, int(number)) for name, _, number in pairs))


_EVENTS: dict[str, Callable[[str], Event]] = {
    "welcome": Welcome,
    "session": SessionToken,
    "nick": NickSet,
    "room": _room_entered,
    "left": RoomLeft,
    "resumed": _resumed,
    "refused": _refused,
    "not-confirmed": lambda rest: NotConfirmed("" if rest == _NONE else rest),
    "topic": _topic,
    "away": AwaySet,
    "recipient-away": _recipient_away,
    "members": _members,
    "rooms": _rooms,
    "replaced": lambda _rest: Replaced(),
}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


PROGRAM_LINES = ProgramLines()
