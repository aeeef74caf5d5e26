"""The messages of the chat over WebSocket: one JSON object in each, whose ``type`` says what it is.

This module is the schema. msgspec checks each message against it, and writes it as a JSON Schema for the documentation.
The version of the protocol is the name of the subprotocol. A change that an existing client would not understand gets
another name.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

#: The subprotocol of the WebSocket, which names the version.
SUBPROTOCOL = "chat.v1.netsvc"

#: Bytes of UTF-8 of the longest text: a line of netcat has as many, without its line end.
TEXT_MAX = 1_023

#: Old entries that one request may ask for.
HISTORY_MAX_COUNT = 100

#: Rooms in which a session may be continued.
POSITIONS_MAX = 64

Id = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9_-]{0,32}$(?!\n)", description="The client's name for a request; empty for none."),
]
Name = Annotated[str, Meta(min_length=1, max_length=64, description="A nick or the name of a room.")]
Line = Annotated[str, Meta(description="One line, at most 1,023 bytes of UTF-8.")]
Offset = Annotated[int, Meta(ge=0, le=10**17, description="The place of an entry in the log of its room, from 1.")]
Epoch = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,32}$(?!\n)", description="Which log of the room.")]
Token = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$(?!\n)", description="Secret. It identifies the session.")]


class _Request(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    """A message of a client."""


class RoomPosition(Struct, frozen=True, forbid_unknown_fields=True):
    """The last entry that the client has of a room; the offset is 0 if it has none."""

    room: Name
    epoch: Epoch
    offset: Offset


class BeginRequest(_Request, frozen=True, tag="begin"):
    """Begin a session: with a nick such as guest-7, in the lobby."""


class ResumeRequest(_Request, frozen=True, tag="resume"):
    """Continue a session in the named rooms. The entries that were missed there follow."""

    token: Token
    nick: Name
    positions: Annotated[list[RoomPosition], Meta(max_length=POSITIONS_MAX)]
    id: Id = ""


class SayRequest(_Request, frozen=True, tag="say"):
    """Say something in a room; with ``action``, in the third person."""

    room: Name
    text: Line
    action: bool = False
    id: Id = ""


class WhisperRequest(_Request, frozen=True, tag="whisper"):
    """Say something to one member, who may be in any room."""

    nick: Name
    text: Line
    id: Id = ""


class NickRequest(_Request, frozen=True, tag="nick"):
    """Change the nick."""

    nick: Name
    id: Id = ""


class JoinRequest(_Request, frozen=True, tag="join"):
    """Join a room, which is opened if it does not exist. With ``only``, leave all other rooms for it."""

    room: Name
    only: bool = False
    id: Id = ""


class PartRequest(_Request, frozen=True, tag="part"):
    """Leave a room."""

    room: Name
    id: Id = ""


class TopicRequest(_Request, frozen=True, tag="topic"):
    """Set the topic of a room; an empty text removes it."""

    room: Name
    text: Line
    id: Id = ""


class ShowTopicRequest(_Request, frozen=True, tag="show-topic"):
    """Ask for the topic of a room."""

    room: Name


class AwayRequest(_Request, frozen=True, tag="away"):
    """Say that one is away, and why; with an empty text, that one is back."""

    text: Line = ""


class RoomsRequest(_Request, frozen=True, tag="rooms"):
    """Ask for the list of rooms."""


class MembersRequest(_Request, frozen=True, tag="members"):
    """Ask for the members of a room."""

    room: Name


class HistoryRequest(_Request, frozen=True, tag="history"):
    """Ask for the last ``count`` entries of a room, 50 by default, at most 100; with ``before``, of those before it."""

    room: Name
    count: Annotated[int, Meta(ge=1, le=HISTORY_MAX_COUNT)] = 50
    before: Offset | None = None


class SearchRequest(_Request, frozen=True, tag="search"):
    """Ask for the last 20 entries of a room that have all of the words."""

    room: Name
    words: Line


class EraseRequest(_Request, frozen=True, tag="erase"):
    """Erase an entry of one's own within ten minutes; without an offset, the last one."""

    room: Name
    offset: Offset | None = None
    id: Id = ""


class PingRequest(_Request, frozen=True, tag="ping"):
    """Ask for a ``pong``: whether the connection is alive."""


class QuitRequest(_Request, frozen=True, tag="quit"):
    """Leave the chat. The nick is free at once."""


JsonRequest: TypeAlias = (
    BeginRequest
    | ResumeRequest
    | SayRequest
    | WhisperRequest
    | NickRequest
    | JoinRequest
    | PartRequest
    | TopicRequest
    | ShowTopicRequest
    | AwayRequest
    | RoomsRequest
    | MembersRequest
    | HistoryRequest
    | SearchRequest
    | EraseRequest
    | PingRequest
    | QuitRequest
)


class _Event(Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """A message of the server. A client ignores fields, and types, that it does not know."""


Kind: TypeAlias = Literal["said", "action", "joined", "left", "renamed", "topic", "notice", "erased"]
Milliseconds = Annotated[int, Meta(ge=0, le=10**15, description="Milliseconds since 1970-01-01 UTC.")]


class WelcomeEvent(_Event, frozen=True, tag="welcome"):
    """The member is in the chat."""

    nick: str


class SessionEvent(_Event, frozen=True, tag="session"):
    """The secret with which a later connection continues the session."""

    token: str


class NickEvent(_Event, frozen=True, tag="nick"):
    """The nick of the member."""

    nick: str


class RoomEvent(_Event, frozen=True, tag="room"):
    """The member is in a room. ``offset`` is that of the last entry before; ``members`` are some of the others."""

    room: str
    epoch: str
    offset: int
    count: int
    members: list[str]


class LeftEvent(_Event, frozen=True, tag="left"):
    """The member is no longer in a room."""

    room: str


class ResumedEvent(_Event, frozen=True, tag="resumed"):
    """How much of the missed entries follows: all, all but ``lost`` of them, or it is unknown."""

    room: str
    verdict: Literal["recovered", "lost", "unknown"]
    lost: int = 0


class EntryEvent(_Event, frozen=True, tag="entry"):
    """A new entry of a room. ``own``: the member wrote it, and gave it this ``id``."""

    room: str
    offset: int
    time: Milliseconds
    kind: Kind
    nick: str = ""
    text: str = ""
    own: bool = False
    id: str = ""


class OldEntry(Struct, frozen=True, omit_defaults=True):
    """An entry that was said before."""

    offset: int
    time: Milliseconds
    kind: Kind
    nick: str = ""
    text: str = ""


class EntriesEvent(_Event, frozen=True, tag="entries"):
    """Old entries of a room, the oldest first."""

    room: str
    review: Literal["replay", "history", "search"]
    entries: list[OldEntry]


class WhisperEvent(_Event, frozen=True, tag="whisper"):
    """A private message. Its sender receives it as well, with the ``id`` that it gave."""

    sender: str
    recipient: str
    text: str
    id: str = ""


class RefusedEvent(_Event, frozen=True, tag="refused"):
    """A request was not done. ``cause`` is a stable label, ``text`` a sentence for people."""

    cause: str
    text: str
    id: str = ""


class NotConfirmedEvent(_Event, frozen=True, tag="not-confirmed"):
    """It is not known yet whether a line is in the log. The outcome follows."""

    id: str = ""


class ConfirmedEvent(_Event, frozen=True, tag="confirmed"):
    """A line that was not confirmed is in the log."""

    id: str = ""


class TopicEvent(_Event, frozen=True, tag="topic"):
    """The topic of a room; the text is empty if it has none."""

    room: str
    text: str = ""
    nick: str = ""
    time: Milliseconds = 0


class AwayEvent(_Event, frozen=True, tag="away"):
    """The member is away, or with an empty text is back."""

    text: str = ""


class RecipientAwayEvent(_Event, frozen=True, tag="recipient-away"):
    """The member to whom the member wrote is away."""

    nick: str
    text: str


class MembersEvent(_Event, frozen=True, tag="members"):
    """The members of a room: their number, and as many nicks as fit."""

    room: str
    count: int
    nicks: list[str]


class ListedRoom(Struct, frozen=True):
    """A room, and how many members it has."""

    room: str
    members: int


class RoomsEvent(_Event, frozen=True, tag="rooms"):
    """The rooms: their number, and those that fit, the largest first."""

    count: int
    rooms: list[ListedRoom]


class ReplacedEvent(_Event, frozen=True, tag="replaced"):
    """Another connection continues the session. This one is closed."""


class NoticeEvent(_Event, frozen=True, tag="notice"):
    """A sentence for people."""

    text: str


class PongEvent(_Event, frozen=True, tag="pong"):
    """The answer to a ``ping``."""


JsonEvent: TypeAlias = (
    WelcomeEvent
    | SessionEvent
    | NickEvent
    | RoomEvent
    | LeftEvent
    | ResumedEvent
    | EntryEvent
    | EntriesEvent
    | WhisperEvent
    | RefusedEvent
    | NotConfirmedEvent
    | ConfirmedEvent
    | TopicEvent
    | AwayEvent
    | RecipientAwayEvent
    | MembersEvent
    | RoomsEvent
    | ReplacedEvent
    | NoticeEvent
    | PongEvent
)


class _Identified(Struct, frozen=True):
    """The part that is read of a message that is not valid."""

    id: Id = ""


IDENTIFIED = msgspec.json.Decoder(_Identified)
REQUESTS: msgspec.json.Decoder[JsonRequest] = msgspec.json.Decoder(JsonRequest)
EVENTS: msgspec.json.Decoder[JsonEvent] = msgspec.json.Decoder(JsonEvent)
ENCODER = msgspec.json.Encoder()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the protocol: what a client sends, and what the server sends."""
    (requests, events), definitions = msgspec.json.schema_components([JsonRequest, JsonEvent])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:netsvc:{SUBPROTOCOL}",
        "title": f"The messages of {SUBPROTOCOL}",
        "properties": {"request": requests, "event": events},
        "$defs": definitions,
    }
