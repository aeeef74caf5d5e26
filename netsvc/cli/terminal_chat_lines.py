"""Entries and events of a chat as lines for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable

from netsvc.chat.chat_events import (
    Confirmed,
    Entries,
    Event,
    NotConfirmed,
    Refused,
    Resumed,
    Review,
    SessionToken,
    TopicShown,
    Verdict,
    Whispered,
)
from netsvc.chat.entries import Entry, EntryKind
from netsvc.chat.people_lines import PEOPLE_LINES
from netsvc.cli.terminal_text import Fragment, StyledLine, clock_text, day_text, nick_style


def notice_line(time: float, text: str, style: str = "notice") -> StyledLine:
    """Return a line that no member said."""
    return StyledLine(time, ((style, f"* {text}"),))


def problem_line(time: float, text: str) -> StyledLine:
    """Return a line about what went wrong."""
    return notice_line(time, text, "problem")


def entry_line(entry: Entry, nick: str, *, is_own: bool) -> StyledLine | None:
    """Return the line of an entry; None if it shows nothing.

    :param nick: of the reader.
    :param is_own: whether the reader wrote it.
    """
    key = entry_key(entry.epoch, entry.offset)
    if entry.kind not in (EntryKind.SAID, EntryKind.ACTION):
        shown = PEOPLE_LINES.entry(entry).decode().removesuffix("\n")
        return StyledLine(entry.time, (("notice", shown),), key) if shown else None
    if entry.erased:
        return erased_line(entry.time, key)
    action = " *" if entry.kind is EntryKind.ACTION else ""
    is_mention = not is_own and mentions(entry.text, nick)
    text: Fragment = ("mention" if is_mention else "", entry.text)
    return StyledLine(entry.time, (*_speaker(f"{entry.nick}{action}", entry.nick, is_own), text), key, is_mention)


def erased_line(time: float, key: str) -> StyledLine:
    """Return the line that takes the place of one that its author erased."""
    return StyledLine(time, (("notice", "* this line was erased"),), key)


def entry_key(epoch: str, offset: int) -> str:
    """Return the key of the line of an entry."""
    return f"{epoch}/{offset}"


def event_lines(event: Event, nick: str, time: float) -> Iterable[StyledLine]:
    """Return the lines of an event.

    :param nick: of the reader.
    :param time: now, in seconds since the epoch of UNIX.
    """
    match event:
        case Entries(room, review, entries):
            yield notice_line(time, _heading(room, review, len(entries)))
            for entry in entries:
                if line := entry_line(entry, nick, is_own=entry.nick == nick):
                    yield line
            if review is not Review.REPLAY and entries:
                yield notice_line(time, "end of the list")
        case Whispered(sender, recipient, text):
            is_own = sender == nick
            shown = ("" if is_own else "mention", text)
            speaker = _speaker(f"{sender} -> {recipient}", recipient if is_own else sender, is_own)
            yield StyledLine(time, (*speaker, shown), is_for_reader=not is_own)
        case Resumed():
            yield verdict_line(event, time)
        case TopicShown(room, text, author, set_at) if text:
            when = f"{day_text(set_at)} {clock_text(set_at)}"
            yield notice_line(time, f"topic of {room}: {text} (set by {author}, {when})")
        case Refused() | NotConfirmed():
            for shown_line in PEOPLE_LINES.event(event).decode().splitlines():
                yield problem_line(time, shown_line.removeprefix("* "))
        case SessionToken() | Confirmed():
            return
        case _:
            for shown_line in PEOPLE_LINES.event(event).decode().splitlines():
                yield notice_line(time, shown_line.removeprefix("* "))


def verdict_line(resumed: Resumed, time: float) -> StyledLine:
    """Return the line that says whether something was missed while there was no connection."""
    match resumed.verdict:
        case Verdict.RECOVERED:
            return notice_line(time, "connected again; no message was lost")
        case Verdict.LOST:
            messages = "1 message" if resumed.lost == 1 else f"{resumed.lost:,} messages"
            return problem_line(time, f"connected again; {messages} lost, because the server no longer keeps them")
    return problem_line(time, f"connected again; the log of {resumed.room} was begun anew, so messages may be missing")


def mentions(text: str, nick: str) -> bool:
    """Return whether a text contains a nick as a word, in any case of letters."""
    return bool(nick) and re.search(rf"(?<![\w-]){re.escape(nick)}(?![\w-])", text, re.IGNORECASE) is not None


def _speaker(shown: str, nick: str, is_own: bool) -> tuple[Fragment, Fragment]:
    return (("own" if is_own else nick_style(nick)), f"<{shown}>"), ("", " ")


def _heading(room: str, review: Review, count: int) -> str:
    if not count:
        return f"nothing was {'found' if review is Review.SEARCH else 'said'} in {room}"
    if review is Review.SEARCH:
        return f"found in {room}:"
    return f"the last {'line' if count == 1 else f'{count} lines'} of {room}:"
