"""Chat messages and their lines: the one place where bytes become chat messages.

A member sends requests, the server sends events. What another member says is ``<nick> text``, in private
``<nick -> nick> text``; what the server says is ``* text``. A nick holds neither ``<``, ``>``, ``*`` nor a
space, so no member can forge the one or the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from netsvc.chat.names import ASCII_NAMES, NameRefusedError, Names
from netsvc.wire.text import clean

#: The longest prefix an event puts before a text: ``<nick -> nick> ``, with two nicks of 24.
PREFIX_MAX = 55


class MessageError(ValueError):
    """A line that is no message; the text says why and goes to the peer."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say something to everybody in one's room. An empty text is nothing."""

    text: str


@dataclass(frozen=True, slots=True)
class Whisper:
    """Say something to one member only, wherever they are."""

    nick: str
    text: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Take another nick."""

    nick: str


@dataclass(frozen=True, slots=True)
class Join:
    """Go to a room, which begins when somebody goes there."""

    room: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Go back to the lobby."""


@dataclass(frozen=True, slots=True)
class ListRooms:
    """Ask which rooms there are."""


@dataclass(frozen=True, slots=True)
class Who:
    """Ask who is in one's room."""


@dataclass(frozen=True, slots=True)
class Help:
    """Ask for the commands."""


@dataclass(frozen=True, slots=True)
class Quit:
    """End the visit."""


Request = Say | Whisper | Rename | Join | Leave | ListRooms | Who | Help | Quit


@dataclass(frozen=True, slots=True)
class Said:
    """A member of one's room said something."""

    nick: str
    text: str


@dataclass(frozen=True, slots=True)
class Whispered:
    """A member said something to another alone; both of them see it."""

    sender: str
    recipient: str
    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """The server says something."""

    text: str


Event = Said | Whispered | Notice

HELP = (
    "/nick NAME, /join ROOM, /leave, /rooms, /who, /msg NICK TEXT, /help, /quit; "
    "//TEXT says a text that begins with a slash"
)

_Bare = Leave | ListRooms | Who | Help | Quit
_BARE: dict[str, type[_Bare]] = {"leave": Leave, "rooms": ListRooms, "who": Who, "help": Help, "quit": Quit}
_SAID = re.compile(r"<([^\s<>*]+)> (.*)", re.DOTALL)
_WHISPERED = re.compile(r"<([^\s<>*]+) -> ([^\s<>*]+)> (.*)", re.DOTALL)


def decode_request(line: bytes, names: Names = ASCII_NAMES) -> Request:
    """Parse a member's line, its delimiter already removed. The text in it comes out clean.

    :param names: what members and rooms may be called.

    :raises MessageError: and nothing else, whatever the bytes.
    """
    text = _decode(line)
    if not text.startswith("/"):
        return Say(text)
    if text.startswith("//"):
        return Say(text[1:])
    verb, _, rest = text[1:].partition(" ")
    return _command(verb.lower(), rest.strip(), names)


def encode_request(request: Request) -> bytes:
    """Return the line, without its delimiter, with which a client asks for ``request``."""
    match request:
        case Say(text):
            line = "/" + text if text.startswith("/") else text
        case Whisper(nick, text):
            line = f"/msg {nick} {text}"
        case Rename(nick):
            line = f"/nick {nick}"
        case Join(room):
            line = f"/join {room}"
        case _:
            line = "/" + next(verb for verb, kind in _BARE.items() if isinstance(request, kind))
    return line.encode("utf-8")


def decode_event(line: bytes) -> Event:
    """Parse a server's line, its delimiter already removed. The text comes out clean: a server may lie.

    :raises MessageError: and nothing else, whatever the bytes.
    """
    text = _decode(line)
    if text.startswith("* "):
        return Notice(text[2:])
    if match := _SAID.fullmatch(text):
        return Said(*match.groups())
    if match := _WHISPERED.fullmatch(text):
        return Whispered(*match.groups())
    raise MessageError("neither a member's line nor the server's")


def encode_event(event: Event) -> bytes:
    """Return the line, without its delimiter, that tells a member of ``event``."""
    match event:
        case Said(nick, text):
            line = f"<{nick}> {text}"
        case Whispered(sender, recipient, text):
            line = f"<{sender} -> {recipient}> {text}"
        case Notice(text):
            line = f"* {text}"
    return line.encode("utf-8")


def _decode(line: bytes) -> str:
    try:
        return clean(line.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise MessageError(f"not UTF-8 at byte {e.start}; nothing was sent on") from None


def _command(verb: str, rest: str, names: Names) -> Request:
    if verb in _BARE:
        return _BARE[verb]()
    try:
        match verb:
            case "nick":
                return Rename(names.nick(rest))
            case "join":
                return Join(names.room(rest))
            case "msg":
                nick, _, text = rest.partition(" ")
                if not text.strip():
                    raise MessageError("usage: /msg NICK TEXT")
                return Whisper(names.nick(nick), text)
    except NameRefusedError as e:
        raise MessageError(str(e)) from None
    raise MessageError(f"unknown command /{verb[:32]}; /help lists them")
