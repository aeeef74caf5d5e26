"""The commands of a Redis server in memory for keys, strings, hashes and sets."""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from tests.redis_keyspace import (
    NOT_AN_INTEGER,
    OK,
    OVERFLOW,
    SYNTAX,
    CommandError,
    Flag,
    Hash,
    Keyspace,
    Reply,
    Set,
    Status,
    command,
    fits,
    glob,
    integer,
    wrong_arguments,
)
from tests.redis_sorted_set import SortedSet
from tests.redis_stream import Stream

WRITES = Flag.WRITES
GROWS = Flag.GROWS

NOT_POSITIVE = "ERR value is out of range, must be positive"


# Keys


@command("DEL", "UNLINK", flags=WRITES)
def delete(keys: Keyspace, key: bytes, *others: bytes) -> Reply:
    return sum(keys.value(each) is not None and keys.remove(each) for each in (key, *others))


@command("EXISTS")
def exists(keys: Keyspace, key: bytes, *others: bytes) -> Reply:
    return sum(keys.value(each) is not None for each in (key, *others))


_TYPES = {bytes: b"string", Hash: b"hash", Set: b"set", SortedSet: b"zset", Stream: b"stream", type(None): b"none"}


@command("TYPE")
def type_of(keys: Keyspace, key: bytes) -> Reply:
    return Status(_TYPES[type(keys.value(key))])


@command("KEYS")
def keys_matching(keys: Keyspace, pattern: bytes) -> Reply:
    matches = glob(pattern).fullmatch
    return [key for key in keys.all_keys() if matches(key)]


@command("DBSIZE")
def dbsize(keys: Keyspace) -> Reply:
    return len(keys.all_keys())


@command("FLUSHALL", "FLUSHDB", flags=WRITES)
def flushall(keys: Keyspace, mode: bytes = b"SYNC") -> Reply:
    if mode.upper() not in (b"SYNC", b"ASYNC"):
        raise CommandError(SYNTAX)
    keys.flushall()
    return OK


def _scanned(members: Iterable[bytes], cursor: bytes, options: tuple[bytes, ...]) -> tuple[bytes, list[bytes]]:
    """Return the next cursor and the members of this step.

    The order is that of a hash of each member, so members that stay are returned whatever is added or removed.
    """
    pattern, count, kind = b"*", 10, None
    if not cursor.isdigit() or int(cursor) >= 2**64:
        raise CommandError("ERR invalid cursor")
    if len(options) % 2:
        raise CommandError(SYNTAX)
    for name, value in zip(options[::2], options[1::2], strict=True):
        if name.upper() == b"MATCH":
            pattern = value
        elif name.upper() == b"COUNT":
            count = integer(value)
            if count < 1:
                raise CommandError(SYNTAX)
        elif name.upper() == b"TYPE" and kind is None:
            kind = value
        else:
            raise CommandError(SYNTAX)
    start = int(cursor)
    ordered = sorted((crc32(member) + 1, member) for member in members)
    rest = [each for each in ordered if each[0] >= start]
    following = rest[count][0] if len(rest) > count else 0
    step = [member for place, member in rest if not following or place < following or place == rest[0][0]]
    if following and following == rest[0][0]:  # more members than COUNT have the same hash
        following = next((place for place, _ in rest if place > following), 0)
    matches = glob(pattern).fullmatch
    return b"%d" % following, [member for member in step if matches(member)]


@command("SCAN")
def scan(keys: Keyspace, cursor: bytes, *options: bytes) -> Reply:
    following, found = _scanned(keys.all_keys(), cursor, options)
    names = [value for name, value in zip(options[::2], options[1::2], strict=True) if name.upper() == b"TYPE"]
    if names:
        found = [key for key in found if _TYPES[type(keys.value(key))] == names[0].lower()]
    return [following, list(found)]


# Expiry


def _expire(keys: Keyspace, name: str, key: bytes, expiry: int, options: tuple[bytes, ...]) -> Reply:
    conditions = {option.upper() for option in options}
    for option in options:
        if option.upper() not in (b"NX", b"XX", b"GT", b"LT"):
            raise CommandError(b"ERR Unsupported option " + option)
    if b"NX" in conditions and len(conditions) > 1:
        raise CommandError("ERR NX and XX, GT or LT options at the same time are not compatible")
    if {b"GT", b"LT"} <= conditions:
        raise CommandError("ERR GT and LT options at the same time are not compatible")
    if not fits(expiry):
        raise CommandError(f"ERR invalid expire time in '{name}' command")
    if keys.value(key) is None:
        return 0
    current = keys.expiry(key)
    if (b"NX" in conditions and current is not None) or (b"XX" in conditions and current is None):
        return 0
    if b"GT" in conditions and (current is None or expiry <= current):
        return 0
    if b"LT" in conditions and current is not None and expiry >= current:
        return 0
    if expiry <= keys.milliseconds():
        keys.remove(key)
    else:
        keys.set_expiry(key, expiry)
    return 1


@command("EXPIRE", flags=WRITES)
def expire(keys: Keyspace, key: bytes, seconds: bytes, *options: bytes) -> Reply:
    return _expire(keys, "expire", key, keys.milliseconds() + integer(seconds) * 1000, options)


@command("PEXPIRE", flags=WRITES)
def pexpire(keys: Keyspace, key: bytes, milliseconds: bytes, *options: bytes) -> Reply:
    return _expire(keys, "pexpire", key, keys.milliseconds() + integer(milliseconds), options)


@command("EXPIREAT", flags=WRITES)
def expireat(keys: Keyspace, key: bytes, seconds: bytes, *options: bytes) -> Reply:
    return _expire(keys, "expireat", key, integer(seconds) * 1000, options)


@command("PEXPIREAT", flags=WRITES)
def pexpireat(keys: Keyspace, key: bytes, milliseconds: bytes, *options: bytes) -> Reply:
    return _expire(keys, "pexpireat", key, integer(milliseconds), options)


@command("PTTL")
def pttl(keys: Keyspace, key: bytes) -> Reply:
    if keys.value(key) is None:
        return -2
    expiry = keys.expiry(key)
    return -1 if expiry is None else expiry - keys.milliseconds()


@command("TTL")
def ttl(keys: Keyspace, key: bytes) -> Reply:
    milliseconds = pttl(keys, key)
    assert isinstance(milliseconds, int)
    return milliseconds if milliseconds < 0 else (milliseconds + 500) // 1000


@command("PERSIST", flags=WRITES)
def persist(keys: Keyspace, key: bytes) -> Reply:
    if keys.value(key) is None or keys.expiry(key) is None:
        return 0
    keys.set_expiry(key, None)
    return 1


# Strings


@command("GET")
def get(keys: Keyspace, key: bytes) -> Reply:
    return keys.find(key, bytes)


@command("STRLEN")
def strlen(keys: Keyspace, key: bytes) -> Reply:
    return len(keys.find(key, bytes) or b"")


@command("SET", flags=GROWS)
def set_(keys: Keyspace, key: bytes, value: bytes, *options: bytes) -> Reply:
    given: dict[bytes, bytes] = {}
    rest = list(options)
    while rest:
        name = rest.pop(0).upper()
        timed = name in (b"EX", b"PX", b"EXAT", b"PXAT")
        if name not in (b"NX", b"XX", b"GET", b"KEEPTTL") and not (timed and rest):
            raise CommandError(SYNTAX)
        given[name] = rest.pop(0) if timed else b""
    times = given.keys() - {b"NX", b"XX", b"GET"}
    if len(times) > 1 or given.keys() >= {b"NX", b"XX"}:
        raise CommandError(SYNTAX)
    expiry = keys.expiry(key) if b"KEEPTTL" in given else None
    for name in times - {b"KEEPTTL"}:
        number = integer(given[name]) * (1000 if name in (b"EX", b"EXAT") else 1)
        expiry = number if name in (b"EXAT", b"PXAT") else keys.milliseconds() + number
        if number <= 0 or not fits(expiry):
            raise CommandError("ERR invalid expire time in 'set' command")
    old = keys.find(key, bytes) if b"GET" in given else keys.value(key)
    refused = (b"NX" in given and old is not None) or (b"XX" in given and old is None)
    if not refused:
        keys.store(key, value, expiry)
    if b"GET" in given:
        return old if isinstance(old, bytes) else None
    return None if refused else OK


def _incremented(current: bytes, amount: int, error: str) -> int:
    number = integer(current, error) + amount
    if not fits(number):
        raise CommandError(OVERFLOW)
    return number


@command("INCRBY", flags=GROWS)
def incrby(keys: Keyspace, key: bytes, amount: bytes) -> Reply:
    return _increment(keys, key, integer(amount))


@command("INCR", flags=GROWS)
def incr(keys: Keyspace, key: bytes) -> Reply:
    return _increment(keys, key, 1)


@command("DECR", flags=GROWS)
def decr(keys: Keyspace, key: bytes) -> Reply:
    return _increment(keys, key, -1)


def _increment(keys: Keyspace, key: bytes, amount: int) -> int:
    number = _incremented(keys.find(key, bytes) or b"0" if keys.value(key) != b"" else b"", amount, NOT_AN_INTEGER)
    keys.replace_string(key, b"%d" % number)
    return number


# Hashes


@command("HSET", flags=GROWS, least=4)
def hset(keys: Keyspace, key: bytes, *pairs: bytes) -> Reply:
    if len(pairs) % 2:
        raise wrong_arguments("hset")
    fields = keys.create(key, Hash)
    before = len(fields)
    fields.update(zip(pairs[::2], pairs[1::2], strict=True))
    return len(fields) - before


@command("HMSET", flags=GROWS, least=4)
def hmset(keys: Keyspace, key: bytes, *pairs: bytes) -> Reply:
    if len(pairs) % 2:
        raise wrong_arguments("hmset")
    hset(keys, key, *pairs)
    return OK


@command("HSETNX", flags=GROWS)
def hsetnx(keys: Keyspace, key: bytes, field: bytes, value: bytes) -> Reply:
    fields = keys.create(key, Hash)
    if field in fields:
        return 0
    fields[field] = value
    return 1


@command("HGET")
def hget(keys: Keyspace, key: bytes, field: bytes) -> Reply:
    fields = keys.find(key, Hash)
    return fields.get(field) if fields else None


@command("HMGET")
def hmget(keys: Keyspace, key: bytes, field: bytes, *others: bytes) -> Reply:
    fields = keys.find(key, Hash) or Hash()
    return [fields.get(each) for each in (field, *others)]


@command("HGETALL")
def hgetall(keys: Keyspace, key: bytes) -> Reply:
    return [each for pair in (keys.find(key, Hash) or Hash()).items() for each in pair]


@command("HDEL", flags=WRITES)
def hdel(keys: Keyspace, key: bytes, field: bytes, *others: bytes) -> Reply:
    fields = keys.find(key, Hash)
    if fields is None:
        return 0
    removed = sum(fields.pop(each, None) is not None for each in (field, *others))
    keys.remove_empty(key, fields)
    return removed


@command("HLEN")
def hlen(keys: Keyspace, key: bytes) -> Reply:
    return len(keys.find(key, Hash) or ())


@command("HEXISTS")
def hexists(keys: Keyspace, key: bytes, field: bytes) -> Reply:
    return int(field in (keys.find(key, Hash) or ()))


@command("HINCRBY", flags=GROWS)
def hincrby(keys: Keyspace, key: bytes, field: bytes, amount: bytes) -> Reply:
    change = integer(amount)
    fields = keys.create(key, Hash)
    number = _incremented(fields.get(field, b"0"), change, "ERR hash value is not an integer")
    fields[field] = b"%d" % number
    return number


@command("HKEYS")
def hkeys(keys: Keyspace, key: bytes) -> Reply:
    return list(keys.find(key, Hash) or ())


@command("HVALS")
def hvals(keys: Keyspace, key: bytes) -> Reply:
    return list((keys.find(key, Hash) or Hash()).values())


@command("HSCAN")
def hscan(keys: Keyspace, key: bytes, cursor: bytes, *options: bytes) -> Reply:
    fields = keys.find(key, Hash) or Hash()
    following, found = _scanned(fields, cursor, options)
    return [following, [each for field in found for each in (field, fields[field])]]


def _random_members(keys: Keyspace, members: Iterable[bytes], count: int) -> list[bytes]:
    """Return random members: different ones, or with repetitions if the count is negative."""
    everything = list(members)
    if count < 0 and everything:
        return keys.random.choices(everything, k=-count)
    return everything if count >= len(everything) else keys.random.sample(everything, max(count, 0))


@command("HRANDFIELD")
def hrandfield(keys: Keyspace, key: bytes, count: bytes | None = None, *options: bytes) -> Reply:
    if count is not None:
        number = integer(count)
    if options and (len(options) > 1 or options[0].upper() != b"WITHVALUES"):
        raise CommandError(SYNTAX)
    fields = keys.find(key, Hash)
    if count is None:
        return keys.random.choice(list(fields)) if fields else None
    chosen = _random_members(keys, fields or (), number)
    if options and fields:
        return [each for field in chosen for each in (field, fields[field])]
    return list(chosen)


# Sets


@command("SADD", flags=GROWS)
def sadd(keys: Keyspace, key: bytes, member: bytes, *others: bytes) -> Reply:
    members = keys.create(key, Set)
    before = len(members)
    members.update(dict.fromkeys((member, *others)))
    return len(members) - before


@command("SREM", flags=WRITES)
def srem(keys: Keyspace, key: bytes, member: bytes, *others: bytes) -> Reply:
    members = keys.find(key, Set)
    if members is None:
        return 0
    before = len(members)
    for each in (member, *others):
        members.pop(each, None)
    removed = before - len(members)
    keys.remove_empty(key, members)
    return removed


@command("SMEMBERS")
def smembers(keys: Keyspace, key: bytes) -> Reply:
    return list(keys.find(key, Set) or ())


@command("SCARD")
def scard(keys: Keyspace, key: bytes) -> Reply:
    return len(keys.find(key, Set) or ())


@command("SISMEMBER")
def sismember(keys: Keyspace, key: bytes, member: bytes) -> Reply:
    return int(member in (keys.find(key, Set) or ()))


@command("SSCAN")
def sscan(keys: Keyspace, key: bytes, cursor: bytes, *options: bytes) -> Reply:
    following, found = _scanned(keys.find(key, Set) or (), cursor, options)
    return [following, list(found)]


@command("SPOP", flags=WRITES)
def spop(keys: Keyspace, key: bytes, count: bytes | None = None, *more: bytes) -> Reply:
    if more:
        raise CommandError(SYNTAX)
    number = 1 if count is None else integer(count, NOT_POSITIVE)
    if number < 0:
        raise CommandError(NOT_POSITIVE)
    members = keys.find(key, Set)
    if members is None:
        return None if count is None else []
    chosen = _random_members(keys, members, number)
    for each in chosen:
        del members[each]
    keys.remove_empty(key, members)
    return chosen[0] if count is None else list(chosen)


@command("SRANDMEMBER")
def srandmember(keys: Keyspace, key: bytes, count: bytes | None = None, *more: bytes) -> Reply:
    if more:
        raise CommandError(SYNTAX)
    if count is None:
        members = keys.find(key, Set)
        return keys.random.choice(list(members)) if members else None
    return list(_random_members(keys, keys.find(key, Set) or (), integer(count)))
