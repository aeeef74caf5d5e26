"""Streams of a Redis server in memory, and their commands (without consumer groups)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace

from tests.redis_keyspace import (
    NOT_AN_INTEGER,
    NULL_ARRAY,
    OK,
    SYNTAX,
    CommandError,
    Flag,
    Keyspace,
    Reply,
    command,
    integer,
    wrong_arguments,
)

StreamId = tuple[int, int]

_LARGEST = 2**64 - 1
_INVALID_ID = "ERR Invalid stream ID specified as stream command argument"

#: Entries in a node of a real stream. Approximate trimming removes whole nodes only.
_NODE = 100


@dataclass(slots=True)
class Stream:
    """Entries in the order of their identifiers."""

    ids: list[StreamId] = field(default_factory=list)
    entries: list[tuple[bytes, ...]] = field(default_factory=list)
    last_id: StreamId = (0, 0)
    max_deleted_id: StreamId = (0, 0)
    added: int = 0

    def copy(self) -> Stream:
        """Return an independent copy."""
        return replace(self, ids=list(self.ids), entries=list(self.entries))

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, entry_id: StreamId, fields: tuple[bytes, ...]) -> None:
        """Add an entry with an identifier that is larger than the last."""
        self.ids.append(entry_id)
        self.entries.append(fields)
        self.last_id = entry_id
        self.added += 1

    def delete(self, entry_id: StreamId) -> bool:
        """Remove an entry. Returns whether there was one."""
        index = bisect_left(self.ids, entry_id)
        if index == len(self.ids) or self.ids[index] != entry_id:
            return False
        del self.ids[index], self.entries[index]
        self.max_deleted_id = max(self.max_deleted_id, entry_id)
        return True

    def delete_first(self, count: int) -> int:
        """Remove the first entries. Returns how many."""
        count = max(0, min(count, len(self.ids)))
        del self.ids[:count], self.entries[:count]
        return count


def id_text(entry_id: StreamId) -> bytes:
    return b"%d-%d" % entry_id


def _number(text: bytes) -> int:
    if not text.isdigit() or int(text) > _LARGEST:
        raise CommandError(_INVALID_ID)
    return int(text)


def parse_id(text: bytes, missing: int = 0) -> StreamId:
    """Parse an identifier. ``missing`` stands for a part that is not given.

    :raises CommandError: if it is none.
    """
    milliseconds, dash, sequence = text.partition(b"-")
    return _number(milliseconds), _number(sequence) if dash else missing


def _parse_end(text: bytes, missing: int) -> StreamId:
    """Parse the end of a range, which may be excluded."""
    excluded = text[:1] == b"("
    if text in (b"-", b"+"):
        return (0, 0) if text == b"-" else (_LARGEST, _LARGEST)
    milliseconds, sequence = parse_id(text[excluded:], missing)
    if not excluded:
        return milliseconds, sequence
    if missing == 0:  # the smallest identifier that is larger
        if (milliseconds, sequence) == (_LARGEST, _LARGEST):
            raise CommandError("ERR invalid start ID for the interval")
        return (milliseconds, sequence + 1) if sequence < _LARGEST else (milliseconds + 1, 0)
    if (milliseconds, sequence) == (0, 0):
        raise CommandError("ERR invalid end ID for the interval")
    return (milliseconds, sequence - 1) if sequence else (milliseconds - 1, _LARGEST)


class Trim:
    """The options of a command that trims: MAXLEN or MINID, ``=`` or ``~``, and the limit.

    :param options: the arguments from MAXLEN or MINID on. Those of this trim are removed.
    """

    def __init__(self, options: list[bytes]) -> None:
        self._strategy = options.pop(0).upper()
        self._approximate = False
        if options and options[0] in (b"=", b"~"):
            self._approximate = options.pop(0) == b"~"
        if not options:
            raise CommandError(SYNTAX)
        text = options.pop(0)
        self._length, self._minimum = 0, (0, 0)
        if self._strategy == b"MAXLEN":
            self._length = integer(text)
            if self._length < 0:
                raise CommandError("ERR The MAXLEN argument must be >= 0.")
        else:
            self._minimum = parse_id(text)
        self._limit = 0
        if len(options) >= 2 and options[0].upper() == b"LIMIT":
            self._limit = integer(options[1])
            if self._limit < 0:
                raise CommandError("ERR The LIMIT argument must be >= 0.")
            if not self._approximate:
                raise CommandError("ERR syntax error, LIMIT cannot be used without the special ~ option")
            del options[:2]

    def apply(self, stream: Stream) -> int:
        """Trim a stream. Returns how many entries were removed."""
        too_many = len(stream) - self._length
        count = too_many if self._strategy == b"MAXLEN" else bisect_left(stream.ids, self._minimum)
        if self._approximate:
            count = min(count, self._limit or 100 * _NODE) // _NODE * _NODE
        return stream.delete_first(count)


@command("XADD", flags=Flag.GROWS, least=5)
def xadd(keys: Keyspace, key: bytes, *arguments: bytes) -> Reply:
    rest = list(arguments)
    trim, creates = None, True
    while rest and rest[0].upper() in (b"NOMKSTREAM", b"MAXLEN", b"MINID"):
        if rest[0].upper() == b"NOMKSTREAM":
            creates = False
            del rest[0]
        elif trim is None:
            trim = Trim(rest)
        else:
            raise CommandError("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")
    if not rest:
        raise wrong_arguments("xadd")
    text, *fields = rest
    given = None if text == b"*" else parse_id(text.removesuffix(b"-*"))
    if len(fields) < 2 or len(fields) % 2:
        raise wrong_arguments("xadd")
    if given == (0, 0) and not text.endswith(b"-*"):
        raise CommandError("ERR The ID specified in XADD must be greater than 0-0")
    stream = keys.find(key, Stream)
    if stream is None and not creates:
        return None
    last = stream.last_id if stream is not None else (0, 0)
    if last == (_LARGEST, _LARGEST):
        raise CommandError("ERR The stream has exhausted the last possible ID, unable to add more items")
    if given is None or text.endswith(b"-*"):
        given = _next_id(keys.milliseconds() if given is None else given[0], last, text == b"*")
    if given <= last or given[1] > _LARGEST:
        raise CommandError("ERR The ID specified in XADD is equal or smaller than the target stream top item")
    stream = keys.create(key, Stream)
    stream.append(given, tuple(fields))
    if trim is not None:
        trim.apply(stream)
    return id_text(given)


def _next_id(milliseconds: int, last: StreamId, may_be_later: bool) -> StreamId:
    if milliseconds > last[0]:
        return milliseconds, 0
    return (last[0], last[1] + 1) if may_be_later or milliseconds == last[0] else (milliseconds, 0)


def _range(keys: Keyspace, key: bytes, first: bytes, last: bytes, options: tuple[bytes, ...], step: int) -> Reply:
    low, high = _parse_end(first, 0), _parse_end(last, _LARGEST)
    count = None
    if options:
        if len(options) % 2 or any(name.upper() != b"COUNT" for name in options[::2]):
            raise CommandError(SYNTAX)
        count = integer(options[-1])
    stream = keys.find(key, Stream)
    if stream is None:
        return []
    if count is not None and count <= 0:
        return NULL_ARRAY
    begin, end = bisect_left(stream.ids, low), bisect_right(stream.ids, high)
    if count is not None and step > 0:
        end = min(end, begin + count)
    elif count is not None:
        begin = max(begin, end - count)
    found: list[Reply] = [[id_text(stream.ids[at]), list(stream.entries[at])] for at in range(begin, end)]
    return found[::step]


@command("XRANGE")
def xrange(keys: Keyspace, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
    return _range(keys, key, first, last, options, 1)


@command("XREVRANGE")
def xrevrange(keys: Keyspace, key: bytes, last: bytes, first: bytes, *options: bytes) -> Reply:
    return _range(keys, key, first, last, options, -1)


@command("XLEN")
def xlen(keys: Keyspace, key: bytes) -> Reply:
    return len(keys.find(key, Stream) or ())


@command("XDEL", flags=Flag.WRITES)
def xdel(keys: Keyspace, key: bytes, entry_id: bytes, *others: bytes) -> Reply:
    stream = keys.find(key, Stream)
    if stream is None:
        return 0
    return sum([stream.delete(each) for each in [parse_id(text) for text in (entry_id, *others)]])


@command("XTRIM", flags=Flag.WRITES, least=4)
def xtrim(keys: Keyspace, key: bytes, *arguments: bytes) -> Reply:
    rest = list(arguments)
    if rest[0].upper() not in (b"MAXLEN", b"MINID"):
        raise CommandError(SYNTAX)
    trim = Trim(rest)
    if rest:
        raise CommandError(SYNTAX)
    stream = keys.find(key, Stream)
    return trim.apply(stream) if stream is not None else 0


@command("XSETID", flags=Flag.GROWS)
def xsetid(keys: Keyspace, key: bytes, last_id: bytes, *options: bytes) -> Reply:
    new = parse_id(last_id)
    added, deleted = None, None
    if len(options) % 2:
        raise CommandError(SYNTAX)
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name.upper() == b"ENTRIESADDED":
            added = integer(value, NOT_AN_INTEGER)
            if added < 0:
                raise CommandError("ERR entries_added must be positive")
        elif name.upper() == b"MAXDELETEDID":
            deleted = parse_id(value)
            if new < deleted:
                raise CommandError("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
        else:
            raise CommandError(SYNTAX)
    stream = keys.find(key, Stream)
    if stream is None:
        raise CommandError("ERR no such key")
    if stream.ids and new < stream.ids[-1]:
        raise CommandError("ERR The ID specified in XSETID is smaller than the target stream top item")
    if stream.ids and added is not None and added < len(stream):
        raise CommandError("ERR The entries_added specified in XSETID is smaller than the target stream length")
    stream.last_id = new
    stream.added = stream.added if added is None else added
    stream.max_deleted_id = stream.max_deleted_id if deleted is None else deleted
    return OK


@command("XINFO|STREAM")
def xinfo_stream(keys: Keyspace, key: bytes) -> Reply:
    stream = keys.find(key, Stream)
    if stream is None:
        raise CommandError("ERR no such key")
    ends: list[Reply] = [[id_text(stream.ids[at]), list(stream.entries[at])] if stream.ids else None for at in (0, -1)]
    nodes = -(-len(stream) // _NODE)
    return [
        *(b"length", len(stream), b"radix-tree-keys", nodes, b"radix-tree-nodes", nodes + 1),
        *(b"last-generated-id", id_text(stream.last_id), b"max-deleted-entry-id", id_text(stream.max_deleted_id)),
        *(b"entries-added", stream.added),
        *(b"recorded-first-entry-id", id_text(stream.ids[0] if stream.ids else (0, 0)), b"groups", 0),
        *(b"first-entry", ends[0], b"last-entry", ends[1]),
    ]
