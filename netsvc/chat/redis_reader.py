"""Reads the logs of rooms in Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twisted.logger import Logger

from netsvc.chat.entries import SHOWN_LATER, Draft, Entry, EntryKind, Position
from netsvc.chat.redis_entries import Tag, TaggedEntry, decode_entry, encode_entry, parse_tag, retry_key
from netsvc.chat.redis_log import RedisLog
from netsvc.chat.redis_log_scripts import BEGIN, ERASE, FIND, READ
from netsvc.chat.redis_node import RedisNode
from netsvc.chat.words import folded, spaced_words, wanted_words, word_finder
from netsvc.redis.redis_protocol import Reply

#: Entries that are read at once, and that a search reads at once. Finding the words of one takes up to 0.9 ms.
READ_AT_ONCE = 100
SEARCHED_AT_ONCE = 50

#: Seconds for which a log without a user is kept at least. Nodes use it each 2 s, and may be cut off for some seconds.
UNUSED_MIN = 60.0


@dataclass(frozen=True, slots=True)
class LogBeginning:
    """The state of a log when a subscription begins.

    :ivar end: the position of the last entry.
    :ivar tag: of that entry; None if it is not kept.
    :ivar counters: the highest counter of each node.
    :ivar topic: the entry that set the topic.
    :ivar is_new_log: whether the log has had no other epoch. If not, it was set back.
    """

    end: Position
    tag: Tag | None
    counters: Mapping[str, int]
    topic: Entry | None
    is_new_log: bool


class RedisReader:
    """Reads logs. Each method raises :class:`~netsvc.chat.store.StoreError` if Redis does not answer.

    :param node: sends the requests.
    :param wall: returns the seconds since the epoch of UNIX.
    :param age_max: seconds for which an entry is shown; 0 for no limit.
    """

    log = Logger()

    def __init__(self, node: RedisNode, wall: Callable[[], float], age_max: float) -> None:
        self._node = node
        self._wall = wall
        self._age_max = age_max

    @property
    def age_in_ms(self) -> int:
        """Milliseconds after which a log that no node uses ends; 0 for no limit."""
        return int(max(self._age_max, UNUSED_MIN) * 1_000) if self._age_max else 0

    def oldest(self) -> float:
        """Return the time before which entries are too old; 0 if there is no limit."""
        return self._wall() - self._age_max if self._age_max else 0.0

    async def begin(self, room: str, new_epoch: str) -> LogBeginning:
        """Return the state of a log, which is begun if it does not exist.

        :param new_epoch: the epoch that it gets then.
        """
        reply = await self._node.request(BEGIN, RedisLog(room).keys, (new_epoch, self.age_in_ms))
        assert isinstance(reply, list)
        tag, pairs = reply
        assert isinstance(tag, bytes)
        assert isinstance(pairs, list)
        fields: dict[bytes, bytes] = dict(zip(pairs[::2], pairs[1::2], strict=True))  # type: ignore[arg-type]
        epoch = fields[b"epoch"].decode()
        return LogBeginning(
            Position(epoch, int(fields[b"offset"])),
            parse_tag(tag.decode()) if tag else None,
            {name[2:].decode(): int(value) for name, value in fields.items() if name.startswith(b"n:")},
            self._topic(room, epoch, fields.get(b"topic", b"")),
            b"forked" not in fields,
        )

    async def tagged(self, room: str, after: int, limit: int) -> tuple[str, int, list[TaggedEntry]]:
        """Return the epoch of a log, its last offset, and at most ``limit`` entries after an offset."""
        reply = await self._node.request(READ, RedisLog(room).keys, (after, limit))
        assert isinstance(reply, list)
        epoch, end, pairs = reply
        assert isinstance(epoch, bytes)
        assert isinstance(end, int)
        assert isinstance(pairs, list)
        name = epoch.decode()
        found = (self.decoded(room, name, *pair) for pair in pairs)  # type: ignore[misc]
        return name, end, [tagged for tagged in found if tagged is not None]

    async def read(self, room: str, after: int, limit: int) -> Sequence[Entry]:
        """Return at most ``limit`` entries after an offset."""
        oldest = self.oldest()
        while True:
            _, end, found = await self.tagged(room, after, READ_AT_ONCE if oldest else limit)
            kept = [tagged.entry for tagged in found if tagged.entry.time >= oldest]
            if kept or not found or found[-1].entry.offset >= end:
                return kept[:limit]
            after = found[-1].entry.offset  # those that are too old are removed step by step

    async def newest(self, room: str, until: int, limit: int) -> Sequence[Entry]:
        """Return the last ``limit`` entries up to an offset that a history shows."""
        return await self._backwards(room, until, limit, READ_AT_ONCE, _shows_everything)

    async def search(self, room: str, words: str, until: int, limit: int) -> Sequence[Entry]:
        """Return the last ``limit`` entries up to an offset with all of the words."""
        has_all = word_finder(wanted_words(words))

        def shows(entry: Entry) -> bool:
            return has_all(spaced_words(folded(entry.text)))

        return await self._backwards(room, until, limit, SEARCHED_AT_ONCE, shows)

    async def entry_at(self, room: str, offset: int) -> Entry | None:
        """Return one entry; None if it is not kept."""
        tagged = await self._tagged_at(room, offset)
        return None if tagged is None or tagged.entry.time < self.oldest() else tagged.entry

    async def earlier(self, draft: Draft) -> TaggedEntry | None:
        """Return the entry of which a draft is a retry."""
        reply = await self._node.request(FIND, RedisLog(draft.room).keys, (retry_key(draft),))
        if not isinstance(reply, list):
            return None
        epoch, offset, data = reply
        assert isinstance(epoch, bytes)
        assert isinstance(offset, int)
        return self.decoded(draft.room, epoch.decode(), offset, data)

    async def erase(self, room: str, offset: int) -> None:
        """Remove the text of an entry. One that is not kept is ignored."""
        tagged = await self._tagged_at(room, offset)
        if tagged is not None:
            data = encode_entry(tagged.tag, Draft._make(tagged.entry[:7])._replace(text=""))
            await self._node.request(ERASE, RedisLog(room).keys, (offset, data, self.age_in_ms))

    def decoded(self, room: str, epoch: str, offset: int, data: Reply) -> TaggedEntry | None:
        """Return the entry that Redis has at a position; None, and a line in the log, if it is none."""
        try:
            if not isinstance(data, bytes):
                raise ValueError("nothing is there")
            return decode_entry(room, epoch, offset, data)
        except ValueError as e:
            self.log.error("what Redis has at {room} {offset} is no entry: {e}", room=room, offset=offset, e=str(e))
            return None

    async def _backwards(
        self, room: str, until: int, limit: int, at_once: int, shows: Callable[[Entry], bool]
    ) -> Sequence[Entry]:
        """Return the last entries up to an offset that are shown."""
        oldest = self.oldest()
        found: list[Entry] = []
        while until > 0 and len(found) < limit:
            after = max(0, until - at_once)
            _, _, read = await self.tagged(room, after, until - after)
            for tagged in reversed(read):
                entry = tagged.entry
                if entry.time < oldest:
                    return found[::-1]
                if entry.offset <= until and entry.kind in SHOWN_LATER and not entry.erased and shows(entry):
                    found.append(entry)
                    if len(found) == limit:
                        break
            if not read or read[0].entry.offset > after + 1:
                break  # what is older is no longer kept
            until = after
        return found[::-1]

    async def _tagged_at(self, room: str, offset: int) -> TaggedEntry | None:
        _, _, found = await self.tagged(room, offset - 1, 1)
        return found[0] if found and found[0].entry.offset == offset else None

    def _topic(self, room: str, epoch: str, data: bytes) -> Entry | None:
        offset, _, entry = data.partition(b" ")
        tagged = self.decoded(room, epoch, int(offset), entry) if entry else None
        return None if tagged is None or tagged.entry.kind is not EntryKind.TOPIC else tagged.entry


def _shows_everything(_entry: Entry) -> bool:
    return True
