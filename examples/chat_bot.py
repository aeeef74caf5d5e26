"""A bot of the chat. It answers ``!time`` and each mention of its nick, and connects again after a loss.

    python chat_bot.py HOST:PORT NICK

Ctrl-C ends it.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import react
from twisted.python.failure import Failure

from netsvc import ChatClient
from netsvc.chat.chat_events import NickSet, Refused, Resumed, RoomEntered, Whispered
from netsvc.chat.client import ClientEvent, Disconnected, NotSaidError
from netsvc.chat.entries import EntryKind
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.requests import Whisper


class Bot:
    """Answers what members say.

    :param endpoint: where the chat is.
    :param nick: the wanted nick. If it is not free, the bot has the one that the server gives it.
    """

    def __init__(self, reactor: Any, endpoint: IStreamClientEndpoint, nick: str) -> None:
        self.client = ChatClient(endpoint, self._received, reactor, nick=nick)

    def _received(self, event: ClientEvent) -> None:
        match event:
            case ReceivedEntry(entry, is_own=False) if entry.kind is EntryKind.SAID:
                answer = self._answer(entry.text)
                if answer:
                    self.client.say(answer).addErrback(_not_said)
            case Whispered(sender, _, text) if sender != self.client.nick:
                # A private message is not sent again after a loss, and so can get lost.
                self.client.request(Whisper(sender, self._answer(text) or "I know only !time"))
            case NickSet(nick):
                _print(f"I am {nick}")
            case RoomEntered(room):
                _print(f"I am in {room}")
            case Resumed(_, verdict, lost):
                _print(f"resumed: {verdict.value}, {lost} entries are lost")
            case Refused(_, text):
                _print(f"refused: {text}")
            case Disconnected(reason):
                _print(f"not connected: {reason}")

    def _answer(self, text: str) -> str:
        """Return the answer to a line; empty for none."""
        if text.strip() == "!time":
            return f"it is {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        if re.search(rf"(?<![\w-]){re.escape(self.client.nick)}(?![\w-])", text, re.IGNORECASE):
            return "I tell the time. Ask me with !time"  # without a nick: otherwise two bots would talk for ever
        return ""


def _not_said(failure: Failure) -> None:
    failure.trap(NotSaidError)
    _print(f"not said: {failure.getErrorMessage()}")


def _print(text: str) -> None:
    print(text, flush=True)


async def main(reactor: Any, where: str, nick: str) -> None:
    """Run the bot until the process is ended."""
    host, _, port = where.rpartition(":")
    bot = Bot(reactor, HostnameEndpoint(reactor, host.strip("[]"), int(port)), nick)
    bot.client.start()
    reactor.addSystemEventTrigger("before", "shutdown", bot.client.stop)
    await Deferred()  # until Ctrl-C


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python chat_bot.py HOST:PORT NICK")
    react(main, sys.argv[1:])
