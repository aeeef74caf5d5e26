"""Sorted sets of a Redis server in memory, and their commands."""

from __future__ import annotations

import math
from bisect import bisect_left, insort

from tests.redis_keyspace import SYNTAX, CommandError, Flag, Keyspace, Reply, command, floating, integer, number_text

NOT_A_RANGE = "ERR min or max is not a float"


class SortedSet:
    """Members with scores, in the order of their scores, and of their bytes where the scores are equal.

    :ivar scores: the score of each member.
    """

    def __init__(self) -> None:
        self.scores: dict[bytes, float] = {}
        self._ordered: list[tuple[float, bytes]] = []

    def copy(self) -> SortedSet:
        """Return an independent copy."""
        copy = SortedSet()
        copy.scores = dict(self.scores)
        copy._ordered = list(self._ordered)
        return copy

    def __len__(self) -> int:
        return len(self.scores)

    def set(self, member: bytes, score: float) -> None:
        """Add a member or change its score."""
        self.remove(member)
        score += 0.0  # no negative zero
        self.scores[member] = score
        insort(self._ordered, (score, member))

    def remove(self, member: bytes) -> bool:
        """Remove a member. Returns whether there was one."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        del self._ordered[bisect_left(self._ordered, (score, member))]
        return True

    def ranked(self, first: int, last: int, *, reverse: bool = False) -> list[tuple[float, bytes]]:
        """Return the members with the ranks from ``first`` to ``last``. Negative ranks count from the end."""
        count = len(self._ordered)
        first = max(first + count, 0) if first < 0 else first
        last = last + count if last < 0 else last
        return (self._ordered[::-1] if reverse else self._ordered)[first : max(last + 1, 0)]

    def between(self, low: Bound, high: Bound) -> list[tuple[float, bytes]]:
        """Return the members whose scores are between two bounds."""
        return self._ordered[low.place(self._ordered, after=False) : high.place(self._ordered, after=True)]


class Bound:
    """An end of a range of scores, as the client writes it: ``1.5``, ``(1.5``, ``-inf``.

    :raises CommandError: if it is none.
    """

    def __init__(self, text: bytes) -> None:
        self._excluded = text[:1] == b"("
        self._score = floating(text[self._excluded :], NOT_A_RANGE)

    def place(self, ordered: list[tuple[float, bytes]], *, after: bool) -> int:
        """Return the index of the first member after the end of the range (or from its begin)."""
        if after is self._excluded:
            return bisect_left(ordered, (self._score, b""))
        return (
            bisect_left(ordered, (math.nextafter(self._score, math.inf), b""))
            if self._score < math.inf
            else len(ordered)
        )


def _reply(members: list[tuple[float, bytes]], with_scores: bool) -> Reply:
    if with_scores:
        return [each for score, member in members for each in (member, number_text(score))]
    return [member for _, member in members]


@command("ZADD", flags=Flag.GROWS, least=4)
def zadd(keys: Keyspace, key: bytes, *arguments: bytes) -> Reply:  # noqa: PLR0912  one branch for each option
    options = set()
    rest = list(arguments)
    while rest and rest[0].upper() in (b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"):
        options.add(rest.pop(0).upper())
    if not rest or len(rest) % 2:
        raise CommandError(SYNTAX)
    if {b"NX", b"XX"} <= options:
        raise CommandError("ERR XX and NX options at the same time are not compatible")
    if len(options & {b"NX", b"GT", b"LT"}) > 1:
        raise CommandError("ERR GT, LT, and/or NX options at the same time are not compatible")
    increments = b"INCR" in options
    if increments and len(rest) > 2:
        raise CommandError("ERR INCR option supports a single increment-element pair")
    pairs = [(floating(score), member) for score, member in zip(rest[::2], rest[1::2], strict=True)]
    scored = keys.find(key, SortedSet)
    if scored is None:
        if b"XX" in options:
            return None if increments else 0
        scored = keys.create(key, SortedSet)
    added = changed = 0
    new: float | None = None
    for given, member in pairs:
        old = scored.scores.get(member)
        score = given + (old or 0.0) if increments else given
        if math.isnan(score):
            raise CommandError("ERR resulting score is not a number (NaN)")
        if old is None:
            if b"XX" in options:
                continue
            added += 1
        elif b"NX" in options or (b"GT" in options and score <= old) or (b"LT" in options and score >= old):
            continue
        elif score != old:
            changed += 1
        new = score
        if score != old:
            scored.set(member, score)
    if increments:
        return None if new is None else number_text(new)
    return added + changed if b"CH" in options else added


@command("ZINCRBY", flags=Flag.GROWS)
def zincrby(keys: Keyspace, key: bytes, amount: bytes, member: bytes) -> Reply:
    return zadd(keys, key, b"INCR", amount, member)


@command("ZREM", flags=Flag.WRITES)
def zrem(keys: Keyspace, key: bytes, member: bytes, *others: bytes) -> Reply:
    scored = keys.find(key, SortedSet)
    if scored is None:
        return 0
    removed = sum(scored.remove(each) for each in (member, *others))
    keys.remove_empty(key, scored)
    return removed


@command("ZSCORE")
def zscore(keys: Keyspace, key: bytes, member: bytes) -> Reply:
    scored = keys.find(key, SortedSet)
    score = scored.scores.get(member) if scored else None
    return None if score is None else number_text(score)


@command("ZCARD")
def zcard(keys: Keyspace, key: bytes) -> Reply:
    return len(keys.find(key, SortedSet) or ())


@command("ZCOUNT")
def zcount(keys: Keyspace, key: bytes, low: bytes, high: bytes) -> Reply:
    bounds = Bound(low), Bound(high)
    scored = keys.find(key, SortedSet)
    return len(scored.between(*bounds)) if scored else 0


@command("ZREMRANGEBYSCORE", flags=Flag.WRITES)
def zremrangebyscore(keys: Keyspace, key: bytes, low: bytes, high: bytes) -> Reply:
    bounds = Bound(low), Bound(high)
    scored = keys.find(key, SortedSet)
    if scored is None:
        return 0
    members = scored.between(*bounds)
    for _, member in members:
        scored.remove(member)
    keys.remove_empty(key, scored)
    return len(members)


def _range(keys: Keyspace, key: bytes, first: bytes, last: bytes, options: list[bytes], allowed: set[bytes]) -> Reply:
    given: dict[bytes, tuple[int, int]] = {}
    rest = list(options)
    while rest:
        name = rest.pop(0).upper()
        if name not in allowed or (name == b"LIMIT" and len(rest) < 2):
            raise CommandError(SYNTAX)
        given[name] = (integer(rest.pop(0)), integer(rest.pop(0))) if name == b"LIMIT" else (0, 0)
    if b"LIMIT" in given and b"BYSCORE" not in given:
        raise CommandError("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX")
    reverse = b"REV" in given
    if b"BYSCORE" in given:
        bounds = (Bound(last), Bound(first)) if reverse else (Bound(first), Bound(last))
        scored = keys.find(key, SortedSet) or SortedSet()
        members = scored.between(*bounds)[:: -1 if reverse else 1]
        offset, count = given.get(b"LIMIT", (0, -1))
        members = [] if offset < 0 else members[offset:][: None if count < 0 else count]
    else:
        ranks = integer(first), integer(last)
        scored = keys.find(key, SortedSet) or SortedSet()
        members = scored.ranked(*ranks, reverse=reverse)
    return _reply(members, b"WITHSCORES" in given)


@command("ZRANGE")
def zrange(keys: Keyspace, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
    return _range(keys, key, first, last, list(options), {b"BYSCORE", b"REV", b"LIMIT", b"WITHSCORES"})


@command("ZREVRANGE")
def zrevrange(keys: Keyspace, key: bytes, first: bytes, last: bytes, *options: bytes) -> Reply:
    return _range(keys, key, first, last, [b"REV", *options], {b"REV", b"WITHSCORES"})


@command("ZRANGEBYSCORE")
def zrangebyscore(keys: Keyspace, key: bytes, low: bytes, high: bytes, *options: bytes) -> Reply:
    return _range(keys, key, low, high, [b"BYSCORE", *options], {b"BYSCORE", b"LIMIT", b"WITHSCORES"})


@command("ZREVRANGEBYSCORE")
def zrevrangebyscore(keys: Keyspace, key: bytes, high: bytes, low: bytes, *options: bytes) -> Reply:
    allowed = {b"BYSCORE", b"REV", b"LIMIT", b"WITHSCORES"}
    return _range(keys, key, high, low, [b"BYSCORE", b"REV", *options], allowed)
