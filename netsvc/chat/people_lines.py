"""The lines that people read: what netcat shows of a chat. No other module formats them.

``<nick> text`` comes from a member, ``<nick *> text`` is said in the third person, ``<nick -> nick> text`` is a private
message, and ``* text`` comes from the server. An old entry has its time before it, in brackets. A nick contains none of
``<``, ``>``, ``*``, ``[`` and space. So a member can forge none of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
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
from netsvc.chat.entries import Entry, EntryKind


class PeopleLines:
    """The form of the chat for people. Each result is whole lines, with their line ends."""

    def entry(self, entry: Entry) -> bytes:
        """Return the line of an entry for the other members."""
        if entry.kind is EntryKind.SAID and entry.text:  # first, because it is the usual one
            return f"<{entry.nick}> {entry.text}\n".encode()
        return b"" if entry.erased else f"{_shown(entry)}\n".encode()

    def own_entry(self, entry: Entry) -> bytes:
        """Return the line of an entry for its author, who does not see what it said."""
        return f"{_shown(entry)}\n".encode() if entry.kind in (EntryKind.TOPIC, EntryKind.ERASED) else b""

    def event(self, event: Event) -> bytes:
        """Return the lines of an event. There may be none."""
        return "".join(f"{line}\n" for line in _lines(event)).encode()


def _shown(entry: Entry) -> str:
    nick, text = entry.nick, entry.text
    match entry.kind:
        case EntryKind.SAID:
            return f"<{nick}> {text}"
        case EntryKind.ACTION:
            return f"<{nick} *> {text}"
        case EntryKind.JOINED:
            return f"* {nick} joined {entry.room}"
        case EntryKind.LEFT:
            return f"* {nick} {text}"
        case EntryKind.RENAMED:
            return f"* {nick} is now {text}"
        case EntryKind.TOPIC:
            return f"* {nick} set the topic: {text}" if text else f"* {nick} removed the topic"
        case EntryKind.NOTICE:
            return f"* {text}"
        case EntryKind.ERASED:
            return f"* {nick} erased a line"


def _lines(event: Event) -> Iterable[str]:  # noqa: PLR0912  one branch for each event
    match event:
        case Welcome(nick):
            yield f"* welcome, you are {nick}; /nick NAME changes that, /help lists the commands"
        case RoomEntered(room, _, count, others):
            yield (
                f"* you are in {room} with {_listed(others, count - 1)}"
                if count > 1
                else (f"* you are the only one in {room}")
            )
        case NickSet(nick):
            yield f"* you are now {nick}"
        case Entries(room, review, entries):
            yield _heading(room, review, len(entries))
            for entry in entries:
                yield f"[{_minute(entry.time)}] {_shown(entry)}"
        case Whispered(sender, recipient, text):
            yield f"<{sender} -> {recipient}> {text}"
        case Refused(_, text) | Notice(text):
            yield f"* {text}"
        case NotConfirmed():
            yield "* not confirmed: your line may not be sent yet; please wait"
        case Confirmed():
            yield "* your line was sent"
        case TopicShown(room, text, nick, time):
            yield (
                f"* topic of {room}: {text} (set by {nick}, {_minute(time)} UTC)"
                if text
                else (f"* {room} has no topic; /topic TEXT sets it")
            )
        case AwaySet(text):
            yield "* you are away; /away alone ends that" if text else "* you are back"
        case RecipientAway(nick, text):
            yield f"* {nick} is away: {text}"
        case MemberList(room, count, nicks):
            yield f"* {count:,} in {room}: {_listed(nicks, count)}"
        case RoomList(count, rooms):
            yield f"* rooms: {_listed([f'{name} ({number})' for name, number in rooms], count)}"
        case Resumed(_, Verdict.RECOVERED, _):
            yield "* welcome back; you missed what follows"
        case Resumed(_, Verdict.LOST, lost):
            yield f"* welcome back; {lost:,} older lines are no longer kept"
        case Resumed(room, Verdict.UNKNOWN, _):
            yield f"* the log of {room} was begun anew; what you missed is unknown"
        case RoomLeft(room):
            yield f"* you left {room}"
        case Replaced():
            yield "* another connection of yours has taken over; bye"
        case SessionToken():
            pass


def _heading(room: str, review: Review, count: int) -> str:
    if not count:
        return f"* nothing was {'found' if review is Review.SEARCH else 'said'} in {room}"
    if review is Review.SEARCH:
        return f"* found in {room} (times in UTC):"
    return f"* the last {'line' if count == 1 else f'{count} lines'} of {room} (times in UTC):"


def _listed(names: Iterable[str], count: int) -> str:
    """Join names, and count those that are missing."""
    shown = list(names)
    rest = count - len(shown)
    return ", ".join(shown) + (f" and {rest:,} more" if rest > 0 else "")


def _minute(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M")


PEOPLE_LINES = PeopleLines()
