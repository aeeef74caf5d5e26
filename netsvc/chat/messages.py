"""Chat messages and the lines that carry them. No other module parses or formats a chat line.

A member sends requests; the server sends events. ``<nick> text`` comes from a member, ``<nick -> nick> text`` is a
private message, and ``* text`` comes from the server. A nick contains none of ``<``, ``>``, ``*`` and space, so a
member can forge neither of the others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from netsvc.chat.names import ASCII_NAMES, InvalidNameError, Names
from netsvc.errors import NetsvcError
from netsvc.wire.text import clean

#: Bytes of the longest prefix of an event: ``<nick -> nick> ``, with two nicks of 24 bytes.
PREFIX_MAX = 55


class MessageError(NetsvcError, ValueError):
    """The line is not a message; the error's text says why and is sent to the peer."""


@dataclass(frozen=True, slots=True)
class Say:
    """Say something to the members of the current room. An empty text is ignored."""

    text: str


@dataclass(frozen=True, slots=True)
class Whisper:
    """Say something to one member, who may be in any room."""

    nick: str
    text: str


@dataclass(frozen=True, slots=True)
class Rename:
    """Change the nick."""

    nick: str


@dataclass(frozen=True, slots=True)
class Join:
    """Move to a room. It is created if it does not exist."""

    room: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Move back to the lobby."""


@dataclass(frozen=True, slots=True)
class ListRooms:
    """Ask for the list of rooms."""


@dataclass(frozen=True, slots=True)
class Who:
    """Ask for the members of the current room."""


@dataclass(frozen=True, slots=True)
class Help:
    """Ask for the list of commands."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Leave the chat."""


Request = Say | Whisper | Rename | Join | Leave | ListRooms | Who | Help | Quit


@dataclass(frozen=True, slots=True)
class Said:
    """A member of the room said something."""

    nick: str
    text: str


@dataclass(frozen=True, slots=True)
class Whispered:
    """A private message; sender and recipient both receive it."""

    sender: str
    recipient: str
    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice from the server."""

    text: str


Event = Said | Whispered | Notice

HELP = "/nick NAME, /join ROOM, /leave, /rooms, /who, /msg NICK TEXT, /help, /quit; //TEXT sends /TEXT"

_Bare = Leave | ListRooms | Who | Help | Quit
_BARE: dict[str, type[_Bare]] = {"leave": Leave, "rooms": ListRooms, "who": Who, "help": Help, "quit": Quit}
_SAID = re.compile(r"<([^\s<>*]+)> (.*)", re.DOTALL)
_WHISPERED = re.compile(r"<([^\s<>*]+) -> ([^\s<>*]+)> (.*)", re.DOTALL)


def decode_request(line: bytes, names: Names = ASCII_NAMES) -> Request:
    """Parse a member's line, without its delimiter. Unsafe characters are removed from the text.

    :param names: the rules for names.
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
    """Return the line of ``request``, without its delimiter."""
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
    """Parse a server's line, without its delimiter. Unsafe characters are removed: a server may be hostile.

    :raises MessageError: and nothing else, whatever the bytes.
    """
    text = _decode(line)
    if text.startswith("* "):
        return Notice(text[2:])
    if match := _SAID.fullmatch(text):
        return Said(*match.groups())
    if match := _WHISPERED.fullmatch(text):
        return Whispered(*match.groups())
    raise MessageError("the line comes neither from a member nor from the server")


def encode_event(event: Event) -> bytes:
    """Return the line of ``event``, without its delimiter."""
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
        raise MessageError(f"not UTF-8 at byte {e.start}; the line was not sent") from None


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
    except InvalidNameError as e:
        raise MessageError(str(e)) from None
    raise MessageError(f"unknown command /{verb[:32]}; /help lists the commands")
