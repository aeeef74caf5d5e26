"""The lines that a person types in the chat at a terminal: requests to the server, and commands of the client."""

from __future__ import annotations

from enum import Enum

from netsvc.chat.names import InvalidNameError, Names
from netsvc.chat.request_lines import MessageError, decode_request
from netsvc.chat.requests import Help, Positions, Quit, Request, Resume

#: The commands, and what follows each.
CHAT_COMMANDS = {
    "nick": "NAME",
    "join": "ROOM",
    "leave": "",
    "rooms": "",
    "who": "",
    "msg": "NICK TEXT",
    "me": "TEXT",
    "topic": "[TEXT]",
    "history": "[N]",
    "search": "WORDS",
    "erase": "",
    "away": "[TEXT]",
    "cancel": "",
    "clear": "",
    "help": "",
    "quit": "",
}

HELP_LINES = (
    ", ".join(f"/{name} {argument}".rstrip() for name, argument in CHAT_COMMANDS.items()),
    "//TEXT sends /TEXT; /cancel drops the lines that are still to be sent; /clear empties the screen",
)

#: The keys of the full screen.
KEY_LINES = (
    "Tab completes commands, nicks and rooms; Up and Down show what was typed; Ctrl-R searches it",
    "PageUp and PageDown scroll; Ctrl-C empties the line; Ctrl-D on an empty line quits; Ctrl-Z suspends",
)


class ClientCommand(Enum):
    """The commands that the client does itself.

    :cvar HELP: show the commands.
    :cvar CANCEL: drop the lines that are still to be sent.
    :cvar CLEAR: empty the screen.
    :cvar QUIT: leave the chat.
    """

    HELP = "help"
    CANCEL = "cancel"
    CLEAR = "clear"
    QUIT = "quit"


class _ServerNames(Names):
    """Names that the server judges: it may allow other scripts than ASCII."""

    def nick(self, text: str) -> str:
        return self.parse(text, "a nick")

    def parse(self, text: str, what: str) -> str:
        if not text or any(character.isspace() for character in text):
            raise InvalidNameError(f"{what} is one word")
        return text


#: The rules that every server has at least.
SERVER_NAMES: Names = _ServerNames()


def parse_typed_line(text: str) -> Request | ClientCommand:
    """Parse a line that a person typed.

    :raises MessageError: if it is no command; the text says why.
    """
    verb = text.strip().lower()
    for command in ClientCommand:
        if verb == f"/{command.value}":
            return command
    request = decode_request(text.encode("utf-8", "replace"), SERVER_NAMES)
    match request:
        case Help():
            return ClientCommand.HELP
        case Quit():
            return ClientCommand.QUIT
        case Positions() | Resume():
            raise MessageError("this command is for programs; /help lists the commands")
    return request
