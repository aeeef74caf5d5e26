"""The events of the chat as messages of JSON, and such messages as events."""

from __future__ import annotations

from collections.abc import Mapping

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
from netsvc.chat.json_messages import (
    ENCODER,
    AwayEvent,
    ConfirmedEvent,
    EntriesEvent,
    EntryEvent,
    JsonEvent,
    LeftEvent,
    ListedRoom,
    MembersEvent,
    NickEvent,
    NotConfirmedEvent,
    NoticeEvent,
    OldEntry,
    RecipientAwayEvent,
    RefusedEvent,
    ReplacedEvent,
    ResumedEvent,
    RoomEvent,
    RoomsEvent,
    SessionEvent,
    TopicEvent,
    WelcomeEvent,
    WhisperEvent,
)
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.limits.cause import Cause
from netsvc.web.websocket_messages import text_frame
from netsvc.wire.text import clean

_CAUSES = {cause.label: cause for cause in Cause}


class JsonFormat:
    """The form of the chat over WebSocket. Each result is whole frames."""

    def entry(self, entry: Entry) -> bytes:
        """Return the frame of an entry for the other members."""
        return text_frame(ENCODER.encode(_entry(entry)))

    def own_entry(self, entry: Entry) -> bytes:
        """Return the frame of an entry for its author. It acknowledges what the author said."""
        return text_frame(ENCODER.encode(_entry(entry, own=True)))

    def event(self, event: Event) -> bytes:
        """Return the frame of an event."""
        return message_frame(encode_event(event))


JSON_FORMAT = JsonFormat()


def message_frame(event: JsonEvent) -> bytes:
    """Return the frame of a message."""
    return text_frame(ENCODER.encode(event))


def encode_event(event: Event) -> JsonEvent:  # noqa: PLR0912  one branch for each event
    """Return the message that tells an event."""
    match event:
        case Welcome(nick):
            return WelcomeEvent(nick)
        case SessionToken(token):
            return SessionEvent(token)
        case NickSet(nick):
            return NickEvent(nick)
        case RoomEntered(room, position, count, others):
            return RoomEvent(room, position.epoch, position.offset, count, list(others))
        case RoomLeft(room):
            return LeftEvent(room)
        case Resumed(room, verdict, lost):
            return ResumedEvent(room, verdict.value, lost)
        case Entries(room, review, entries):
            return EntriesEvent(room, review.value, [_old_entry(entry) for entry in entries])
        case Whispered(sender, recipient, text, message_id):
            return WhisperEvent(sender, recipient, text, message_id)
        case Refused(cause, text, message_id):
            return RefusedEvent(cause.label, text, message_id)
        case NotConfirmed(message_id):
            return NotConfirmedEvent(message_id)
        case Confirmed(message_id):
            return ConfirmedEvent(message_id)
        case TopicShown(room, text, nick, time):
            return TopicEvent(room, text, nick, _milliseconds(time))
        case AwaySet(text):
            return AwayEvent(text)
        case RecipientAway(nick, text):
            return RecipientAwayEvent(nick, text)
        case MemberList(room, count, nicks):
            return MembersEvent(room, count, list(nicks))
        case RoomList(count, rooms):
            return RoomsEvent(count, [ListedRoom(*each) for each in rooms])
        case Replaced():
            return ReplacedEvent()
        case Notice(text):
            return NoticeEvent(text)


def decode_event(message: JsonEvent, epochs: Mapping[str, str]) -> Event | ReceivedEntry | None:  # noqa: PLR0912
    """Return the event that a message tells; None for one that is of no interest. The server may be hostile.

    :param epochs: of the logs of the rooms in which the client is.
    """
    match message:
        case WelcomeEvent(nick):
            return Welcome(clean(nick))
        case SessionEvent(token):
            return SessionToken(clean(token))
        case NickEvent(nick):
            return NickSet(clean(nick))
        case RoomEvent(room, epoch, offset, count, members):
            return RoomEntered(clean(room), Position(clean(epoch), offset), count, tuple(map(clean, members)))
        case LeftEvent(room):
            return RoomLeft(clean(room))
        case ResumedEvent(room, verdict, lost):
            return Resumed(clean(room), Verdict(verdict), lost)
        case EntryEvent():
            entry = _received(message, message.room, epochs.get(message.room, ""), message.id)
            return ReceivedEntry(entry, message.own)
        case EntriesEvent(room, review, entries):
            epoch = epochs.get(room, "")
            return Entries(clean(room), Review(review), tuple(_received(each, room, epoch) for each in entries))
        case WhisperEvent(sender, recipient, text, message_id):
            return Whispered(clean(sender), clean(recipient), clean(text), clean(message_id))
        case RefusedEvent(label, text, message_id):
            return Refused(_CAUSES.get(label, Cause.INVALID_MESSAGE), clean(text), clean(message_id))
        case NotConfirmedEvent(message_id):
            return NotConfirmed(clean(message_id))
        case ConfirmedEvent(message_id):
            return Confirmed(clean(message_id))
        case TopicEvent(room, text, nick, time):
            return TopicShown(clean(room), clean(text), clean(nick), time / 1000)
        case AwayEvent(text):
            return AwaySet(clean(text))
        case RecipientAwayEvent(nick, text):
            return RecipientAway(clean(nick), clean(text))
        case MembersEvent(room, count, nicks):
            return MemberList(clean(room), count, tuple(map(clean, nicks)))
        case RoomsEvent(count, rooms):
            return RoomList(count, tuple((clean(each.room), each.members) for each in rooms))
        case ReplacedEvent():
            return Replaced()
        case NoticeEvent(text):
            return Notice(clean(text))
        case _:
            return None


def _entry(entry: Entry, *, own: bool = False) -> EntryEvent:
    return EntryEvent(
        entry.room,
        entry.offset,
        _milliseconds(entry.time),
        entry.kind.value,
        entry.nick,
        entry.text,
        own,
        entry.message_id if own else "",
    )


def _old_entry(entry: Entry) -> OldEntry:
    time = _milliseconds(entry.time)
    return OldEntry(entry.offset, time, entry.kind.value, entry.nick, entry.text)


def _received(message: EntryEvent | OldEntry, room: str, epoch: str, message_id: str = "") -> Entry:
    nick, text, kind = clean(message.nick), clean(message.text), EntryKind(message.kind)
    time = message.time / 1000
    return Entry(clean(room), kind, nick, text, time, "", clean(message_id), epoch, message.offset)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
