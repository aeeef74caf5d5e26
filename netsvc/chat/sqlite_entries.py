"""Entries as rows of the SQLite file and of its index of words."""

from __future__ import annotations

from collections.abc import Sequence

from netsvc.chat.entries import ERASABLE, SHOWN_LATER, Entry, EntryKind
from netsvc.chat.words import words_of

#: The key of an entry in the index is the number of its room and its offset, in so many bits.
_OFFSET_BITS = 40

#: The kinds by what the column has.
KINDS = {kind.value: kind for kind in EntryKind}

_SHOWN = ", ".join(f"'{kind.value}'" for kind in sorted(SHOWN_LATER, key=lambda kind: kind.value))
_ERASABLE = ", ".join(f"'{kind.value}'" for kind in sorted(ERASABLE, key=lambda kind: kind.value))
#: The condition that a history shows an entry, and the columns of an entry.
IS_SHOWN = f"kind IN ({_SHOWN}) AND (text <> '' OR kind NOT IN ({_ERASABLE}))"
COLUMNS = "kind, nick, text, time, author, message_id, offset"


def entry_of(room: str, epoch: str, row: Sequence[object]) -> Entry:
    """Return the entry of a row of ``COLUMNS``."""
    kind, *columns, offset = row
    return Entry(room, KINDS[kind], *columns, epoch, offset)  # type: ignore[index,arg-type,call-arg]


def indexed_words(text: str) -> str:
    """Return what the index is given of a text."""
    return " ".join(words_of(text))


def index_key(number: int, offset: int) -> int:
    """Return the key of an entry in the index."""
    return (number << _OFFSET_BITS) + offset
