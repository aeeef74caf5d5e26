"""An application that runs the chat and stores each entry as a line of JSON, for another program.

    twistd -n -y chat_bridge.tac

The chat is on port 1400 and the lines are added to entries.jsonl. The environment variables CHAT and ENTRIES change
that.
"""

import json
import os
from datetime import UTC, datetime

from netsvc import ChatFactory, ChatHub, StreamLimits, StreamService, Terms
from netsvc.chat.entries import EntryKind
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.logger import Logger


class Bridge:
    """Stores the entries of a chat, and tells members of this.

    Its methods run in the thread of the reactor. A place that takes longer to write to than a local file needs
    ``terms.run_blocking``.
    """

    log = Logger()

    def __init__(self, hub, path):
        self._hub = hub
        self._file = open(path, "a", encoding="utf-8", buffering=1)  # each line is written at once
        hub.listen(self.entry_added)

    def entry_added(self, entry):
        """Called with each entry of each room, after the members have it."""
        row = {
            "room": entry.room,
            "epoch": entry.epoch,
            "offset": entry.offset,
            "time": datetime.fromtimestamp(entry.time, UTC).isoformat(),
            "kind": entry.kind.value,
            "nick": entry.nick,
            "text": entry.text,
        }
        print(json.dumps(row, ensure_ascii=False), file=self._file)
        if entry.kind is EntryKind.JOINED and len(self._hub.members(entry.room)) == 1:
            announced = self._hub.announce(entry.room, "what is said here is stored")
            announced.addErrback(lambda failure: self.log.failure("the announcement failed", failure))


application = Application("a chat with a bridge")

# By default a silent connection is closed after 10 minutes. Members of a chat may read for longer.
terms = Terms.on(reactor, service="chat", limits=StreamLimits(idle_timeout=12 * 3600))
hub = ChatHub(terms)
Bridge(hub, os.environ.get("ENTRIES", "entries.jsonl"))
where = os.environ.get("CHAT", "1400")
StreamService(reactor, [where], ChatFactory(terms, hub), setting="chat").setServiceParent(application)
