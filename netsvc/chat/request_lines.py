"""The lines by which a member asks for something. No other module parses or formats them.

A line that does not begin with ``/`` is said in the current room; ``//text`` says ``/text``. A program may put ``@ID``
and a space before a line, once it has switched to lines for programs. The entry, or the refusal, then names that ID.
Without an ID, a text that begins with ``@`` needs ``@`` and a space before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from netsvc.chat.entries import Position
from netsvc.chat.names import ASCII_NAMES, InvalidNameError, Names
from netsvc.chat.requests import (
    Act,
    Away,
    Erase,
    Help,
    History,
    Join,
    Leave,
    ListRooms,
    Positions,
    Quit,
    Rename,
    Request,
    Resume,
    Say,
    Search,
    SetTopic,
    ShowTopic,
    Whisper,
    Who,
)
from netsvc.chat.words import search_refusal
from netsvc.errors import NetsvcError
from netsvc.wire.text import clean, is_blank

HELP = (
    "/nick NAME, /join ROOM, /leave, /rooms, /who, /msg NICK TEXT, /me TEXT, /topic [TEXT], /history [N], "
    "/search WORDS, /erase, /away [TEXT], /help, /quit; //TEXT sends /TEXT"
)

#: Entries that ``/history`` shows without a number.
HISTORY_DEFAULT = 20

#: The text of ``/topic`` that removes the topic.
NO_TOPIC = "-"

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{0,32}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_EPOCH = re.compile(r"[0-9a-f]{1,32}")

_Bare = Leave | ListRooms | Who | Help | Quit
_BARE: dict[str, type[_Bare]] = {"leave": Leave, "rooms": ListRooms, "who": Who, "help": Help, "quit": Quit}


class MessageError(NetsvcError, ValueError):
    """The line is not a message; the error's text says why and is sent to the peer."""


def split_message_id(line: bytes) -> tuple[str, bytes]:
    """Split ``@ID`` off a line. Return the ID, which is empty if there is none, and the rest.

    :raises MessageError: if it is not an ID.
    """
    if not line.startswith(b"@"):
        return "", line
    given, _, rest = line[1:].partition(b" ")
    message_id = given.decode("utf-8", "replace")
    if not _MESSAGE_ID.fullmatch(message_id):
        raise MessageError("after @ comes an ID of at most 32 letters, digits, _ and -, and a space")
    return message_id, rest


def decode_request(line: bytes, names: Names = ASCII_NAMES) -> Request:
    """Parse a member's line, without its delimiter and its ID. Unsafe characters are removed from the text.

    :param names: the rules for names.
    :raises MessageError: and nothing else, whatever the bytes.
    """
    try:
        text = clean(line.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise MessageError(f"not UTF-8 at byte {e.start}; the line was not sent") from None
    if not text.startswith("/"):
        return Say(text)
    if text.startswith("//"):
        return Say(text[1:])
    verb, _, rest = text[1:].partition(" ")
    verb = verb.lower()
    if verb in _BARE:
        return _BARE[verb]()
    parse = _COMMANDS.get(verb)
    if parse is None:
        raise MessageError(f"unknown command /{verb[:32]}; /help lists the commands")
    try:
        return parse(rest.strip(), names)
    except InvalidNameError as e:
        raise MessageError(str(e)) from None


def encode_request(request: Request, message_id: str = "") -> bytes:
    """Return the line of ``request`` of a program, without its delimiter."""
    line = _line(request)
    return (f"@{message_id} {line}" if message_id or line.startswith("@") else line).encode()


def _line(request: Request) -> str:  # noqa: PLR0912  one branch for each request
    match request:
        case Say(text):
            return "/" + text if text.startswith("/") else text
        case Act(text):
            return f"/me {text}"
        case Whisper(nick, text):
            return f"/msg {nick} {text}"
        case Rename(nick):
            return f"/nick {nick}"
        case Join(room):
            return f"/join {room}"
        case ShowTopic():
            return "/topic"
        case SetTopic(text):
            return f"/topic {text or NO_TOPIC}"
        case Away(text):
            return f"/away {text}".rstrip()
        case History(count):
            return f"/history {count}"
        case Search(words):
            return f"/search {words}"
        case Erase(offset):
            return "/erase" if offset is None else f"/erase {offset}"
        case Positions(on):
            return f"/positions {'on' if on else 'off'}"
        case Resume(token, nick, room, position):
            return f"/resume {token} {nick} {room} {position.epoch} {position.offset}"
        case _:
            return "/" + next(verb for verb, kind in _BARE.items() if isinstance(request, kind))


def _whisper(rest: str, names: Names) -> Request:
    nick, _, text = rest.partition(" ")
    if is_blank(text):
        raise MessageError("usage: /msg NICK TEXT")
    return Whisper(names.nick(nick), text)


def _act(rest: str, _names: Names) -> Request:
    if is_blank(rest):
        raise MessageError("usage: /me TEXT")
    return Act(rest)


def _topic(rest: str, _names: Names) -> Request:
    return ShowTopic() if is_blank(rest) else SetTopic("" if rest == NO_TOPIC else rest)


def _history(rest: str, _names: Names) -> Request:
    return History(_number(rest, "usage: /history [N]") if rest else HISTORY_DEFAULT)


def _search(rest: str, _names: Names) -> Request:
    if not rest:
        raise MessageError("usage: /search WORDS")
    refusal = search_refusal(rest)
    if refusal:
        raise MessageError(refusal)
    return Search(rest)


def _erase(rest: str, _names: Names) -> Request:
    return Erase(_number(rest.removeprefix("@"), "usage: /erase [OFFSET]") if rest else None)


def _positions(rest: str, _names: Names) -> Request:
    if rest not in ("on", "off"):
        raise MessageError("usage: /positions on or /positions off")
    return Positions(rest == "on")


def _resume(rest: str, names: Names) -> Request:
    match rest.split():
        case [token, nick, room, epoch, offset] if _TOKEN.fullmatch(token) and _EPOCH.fullmatch(epoch):
            place = _number(offset, "the offset is a number", least=0)
            return Resume(token, names.nick(nick), names.room(room), Position(epoch, place))
    raise MessageError("usage: /resume TOKEN NICK ROOM EPOCH OFFSET")


def _number(text: str, usage: str, least: int = 1) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < least:
        raise MessageError(usage)
    return int(text)


_COMMANDS: dict[str, Callable[[str, Names], Request]] = {
    "nick": lambda rest, names: Rename(names.nick(rest)),
    "join": lambda rest, names: Join(names.room(rest)),
    "msg": _whisper,
    "me": _act,
    "topic": _topic,
    "history": _history,
    "search": _search,
    "erase": _erase,
    "away": lambda rest, _names: Away("" if is_blank(rest) else rest),
    "positions": _positions,
    "resume": _resume,
}
