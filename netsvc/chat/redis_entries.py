"""The form of entries in Redis.

An entry is a JSON list that begins with its *tag*, which says who appended it: the node, a colon, and the node's
counter for the room. Counters of a node rise from entry to entry of a log. So the highest counter of each node says
which entries of a log one has seen, even if the log was set back and some of them were appended again.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from netsvc.chat.entries import SHOWN_LATER, Draft, Entry, EntryKind

_KIND_BY_VALUE = {kind.value: kind for kind in EntryKind}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Tag(NamedTuple):
    """The node that appended an entry, and its counter.

    :ivar node: the node; ``gone`` for what the scripts append for nodes that are dead.
    :ivar counter: rises from entry to entry of one node in one log.
    """

    node: str
    counter: int

    @property
    def text(self) -> str:
        """Its form in Redis."""
        return f"{self.node}:{self.counter}"


class TaggedEntry(NamedTuple):
    """An entry and its tag."""

    tag: Tag
    entry: Entry


def encode_entry(tag: Tag, draft: Draft) -> bytes:
    """Return an entry in its form."""
    _, kind, nick, text, time, author, message_id = draft
    return _encode([tag.text, kind.value, nick, text, time, author, message_id]).encode()


def parse_tag(text: str) -> Tag:
    """Return a tag.

    :raises ValueError: if the text is none.
    """
    node, _, counter = text.rpartition(":")
    return Tag(node, int(counter))


def decode_entry(room: str, epoch: str, offset: int, data: bytes) -> TaggedEntry:
    """Return the entry at a position.

    :raises ValueError: if it has another form.
    """
    try:
        tag, kind, nick, text, time, author, message_id = json.loads(data)
        entry = Entry(room, _KIND_BY_VALUE[kind], nick, text, time, author, message_id, epoch, offset)
        return TaggedEntry(parse_tag(tag), entry)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise ValueError(f"not an entry: {data[:80]!r}") from e


def mark(draft: Draft) -> str:
    """Return what the append script has to know of a draft: ``topic``, ``no topic``, ``shown`` or ``not shown``."""
    if draft.kind is EntryKind.TOPIC:
        return "topic" if draft.text else "no topic"
    return "shown" if draft.kind in SHOWN_LATER else "not shown"


def retry_key(draft: Draft) -> str:
    """Return the key by which a retry is recognised; empty if none is possible."""
    return f"{draft.author}:{draft.message_id}" if draft.message_id else ""
