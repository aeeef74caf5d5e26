"""Tests of the Redis server in memory: beside a real one, and on the simulated network.

The known differences from Redis 7.0 are:

- There is one database: SELECT accepts the numbers 0 to 15, and they are the same database.
- There are no transactions, consumer groups, patterns of channels, and no RESP3; ZRANGE has no BYLEX.
- Sets and hashes keep the order of insertion. Random members are others than those of the real server.
- Approximate trimming keeps up to 99 entries more than asked, whatever the size of the entries.
- XINFO STREAM invents the size of the radix tree, HELLO and CLIENT ID the number of the client.
- Scripts have no ``bit``, ``cmsgpack``, ``struct`` and ``load``; ``pairs`` does not list the members of a library.
  Of the flags after ``#!lua``, only ``allow-oom`` counts.
"""

from __future__ import annotations

import gc
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any
from weakref import ref

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from netsvc.testing import Host, Network
from tests.redis_data import RedisData
from tests.redis_keyspace import COMMANDS, ErrorReply
from tests.simulated_redis import SimulatedRedis, encode


class RealRedis:
    """A real server, with one connection of a client that waits."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(path)

    def execute(self, *arguments: bytes) -> bytes:
        """Run a command and return the bytes of its reply."""
        self._socket.sendall(encode(list(arguments)))
        reader, received = hiredis.Reader(), b""
        while reader.gets() is False:
            data = self._socket.recv(65_536)
            assert data, "the server has closed the connection"
            reader.feed(data)
            received += data
        return received

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def real() -> Iterator[RealRedis]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "redis.sock")
        options = ["--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--appendonly", "no"]
        with subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert any("eady to accept connections" in line for line in process.stdout), "redis-server did not start"
            client = RealRedis(path)
            yield client
            client.close()
            process.terminate()
            process.stdout.read()


# The order of these replies is not defined.
UNORDERED = {b"SMEMBERS", b"HGETALL", b"HKEYS", b"HVALS", b"KEYS", b"SCAN", b"HSCAN", b"SSCAN"}
# These have values of the moment.
OF_THE_MOMENT = {b"PTTL"}


def parse(reply: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(reply)
    return reader.gets()


def comparable(name: bytes, reply: bytes) -> Any:
    """Return what must be equal for both servers."""
    if reply[:1] == b"-":
        return reply
    if name in UNORDERED:
        value = parse(reply)
        if name in (b"SCAN", b"HSCAN", b"SSCAN"):
            value = value[1]
        if name in (b"HGETALL", b"HSCAN"):
            value = list(zip(value[::2], value[1::2], strict=True))
        return sorted(value)
    if name in OF_THE_MOMENT:
        return (parse(reply) + 5_000) // 10_000
    return reply


class Both:
    """A real server and one in memory, both empty."""

    def __init__(self, real: RealRedis) -> None:
        real.execute(b"FLUSHALL")
        real.execute(b"SCRIPT", b"FLUSH")
        seconds, microseconds = parse(real.execute(b"TIME"))
        offset = int(seconds) + int(microseconds) / 1_000_000 - monotonic()
        self.real = real
        self.data = RedisData(lambda: monotonic() + offset)
        self.data.config[b"appendonly"] = b"no"

    def difference(self, *arguments: bytes) -> str:
        """Run a command on both, and describe how the replies differ."""
        expected, found = self.real.execute(*arguments), encode(self.data.execute(list(arguments)))
        name = arguments[0].upper()
        if comparable(name, expected) == comparable(name, found):
            return ""
        return f"{arguments}: the real server replied {expected!r}, not {found!r}"


def parse_command(line: str) -> list[bytes]:
    return [
        word.encode().decode("unicode_escape").encode("latin-1") for word in shlex.split(line.replace("\\", "\\\\"))
    ]


CASES = {
    "keys": """
        exists a; set a 1; EXISTS a a b; type a; type b; hset h f v; type h; sadd s m; type s; zadd z 1 m; type z
        xadd x 1-1 f v; type x; dbsize; keys *; keys ?; keys [a-h]; keys [^a]; keys h*; keys \\\\h; keys [; keys a[
        scan 0; scan 0 count 100; scan 0 match h* count 100; scan 0 count 0; scan 0 match; scan x
        scan 0 type hash count 99; scan 0 foo bar; del a b h; unlink s; dbsize; del; del z x; dbsize; flushall
        flushall foo; flushall async; keys
    """,
    "expiry": """
        expire a 10; set a 1; ttl a; pttl a; expire a 100; ttl a; pttl a; persist a; persist a; persist b; ttl a
        ttl b; pttl b; pexpire a 100000; pttl a; ttl a; expire a x; expire a 9223372036854775807
        pexpire a 9223372036854775807; expire a 10 foo; expire a 10 nx gt; expire a 10 gt lt; expire a 1000 nx
        expire a 1000 gt; ttl a; expire a 10 lt; ttl a; persist a; expire a 10 xx; expire a 10 gt; expire a 100 lt
        ttl a; pexpire a -1; exists a; set a 1; pexpireat a 1; exists a; set a 1; pexpireat a 99999999999999; ttl a x
        expireat a 99999999999; persist a; set a 1 ex 100; incr a; ttl a; set a 2; ttl a; hset h a 1; pexpire h 0
        exists h; pexpire; pexpire a
    """,
    "strings": """
        get a; set a 1; get a; set a; set a 2 nx; get a; set b 2 xx; get b; set a 2 xx get; set b 1 nx get; get b
        set a 1 nx xx; set a 1 ex; set a 1 ex 0; set a 1 px -1; set a 1 ex x; set a 1 ex 10 px 10; set a 1 foo
        set a 5 px 100000 keepttl; set a 5 px 100000; set a 6 keepttl; ttl a; set a 7; ttl a; incr a; incrby a 10
        incrby a -20; incrby a x; incrby a 1.5; incrby a; set a abc; incr a; set a ""; incr a; set a " 1"; incr a
        set a 01; incr a; set a -0; incr a; set a 9223372036854775807; incr a; decr a; set a -9223372036854775808
        decr a; incr n; incr n; decr n; hset h a 1; get h; incr h; set h 1 get; set h 1; get h; strlen h; strlen none
        set b \\x00\\xff; get b; set a 1 exat 99999999999; ttl n; set a 1 pxat 1; get a; set a 1 exat 0
    """,
    "hashes": """
        hget h a; hset h a 1; hset h a 2 b 3; hset h a; hset h a 1 b; hset h; hget h a; hget h c; hget h
        hmget h a b c; hmget none a; hmget h; hgetall h; hgetall none; hlen h; hlen none; hexists h a; hexists h z
        hexists none a; hkeys h; hvals h; hkeys none; hincrby h a 5; hincrby h n -3; hincrby h n x; hset h t text
        hincrby h t 1; hincrby h t; hset h m 9223372036854775807; hincrby h m 1; hincrby h m -1; hsetnx h a 9
        hsetnx h q 1; hget h a; hdel h a z; hdel h; hdel none a; hdel h b n t m q; exists h; hlen h; hsetnx h a 1
        hdel h a a; exists h; set s 1; hget s a; hset s a 1; hdel s a; hlen s; hgetall s; hincrby s a 1; hrandfield s
        hrandfield none; hrandfield none 3; hset one f v; hrandfield one; hrandfield one 5; hrandfield one -3
        hrandfield one 2 withvalues; hrandfield one 0; hrandfield one -2 withvalues; hrandfield one x
        hrandfield one 1 foo; hrandfield none 2 withvalues; hscan one 0; hscan one 0 match g*
        hscan one 0 match f* count 5; hscan none 0; hscan one x; hset bin \\x00 \\xff\\r\\n; hget bin \\x00
        hgetall bin; hmset h2 a 1; hset h3 "" ""; hget h3 ""
    """,
    "sets": """
        sadd s a b c; sadd s a d; sadd s; smembers s; smembers none; scard s; scard none; sismember s a; sismember s z
        sismember none a; srem s a z; srem none a; srem s; scard s; spop none; spop none 2; sadd one x
        srandmember one; srandmember one 3; srandmember one -3; srandmember none; srandmember none 2; spop one
        exists one; sadd one x; spop one 5; exists one; sadd one x; spop one 0; spop one -1; spop one x; exists one
        srem one x; exists one; set t 1; sadd t a; srem t a; smembers t; scard t; sismember t a; spop t; srandmember t
        spop one 2 foo; srandmember s 1 foo; sscan none 0; sadd s \\xff; sscan s 0; srandmember one x; spop one 1 2
    """,
    "sorted sets": """
        zadd z 1 a; zadd z 2 b 1 a; zadd z; zadd z 1; zadd z x a; zadd z 1 a 2; zadd z nx 5 a; zscore z a
        zadd z xx 5 a; zscore z a; zadd z xx 5 new; zadd z gt 3 a; zadd z gt 7 a; zscore z a; zadd z lt 9 a
        zadd z lt 1 a; zscore z a; zadd z nx xx 1 a; zadd z nx gt 1 a; zadd z gt lt 1 a; zadd z ch 8 a 1 c
        zadd z incr 2 a; zadd z incr 1 a 2 b; zadd z nx incr 2 a; zadd z xx incr 2 none; zadd none xx 1 a
        zadd none xx incr 1 a; exists none; zadd z foo 1 a; zadd z inf i -inf j +inf k 1e3 l 0.1 m .5 n 5. o -0 p
        zrange z 0 -1 withscores; zadd z incr -inf i; zadd z nan a; zadd z 1_0 a; zadd z "" a; zadd z " 1" a
        zincrby z 1.5 a; zincrby z x a; zincrby z 1 fresh; zincrby z; zscore z fresh; zscore z none; zscore none a
        zcard z; zcard none; zcount z 1 5; zcount z (1 5; zcount z 1 (5; zcount z -inf +inf; zcount z x 1
        zcount none 1 2; zcount z (inf +inf; zcount z inf inf; zcount z 5 1; zrange z 0 0; zrange z -2 -1
        zrange z 5 1; zrange z 0 -100; zrange z -100 1; zrange z x 1; zrange z 0 1 rev; zrange z 0 1 rev withscores
        zrange z 1 5 byscore; zrange z 5 1 byscore rev; zrange z (1 +inf byscore limit 1 2
        zrange z -inf +inf byscore limit 0 -1; zrange z -inf +inf byscore limit -1 3; zrange z 0 1 limit 0 1
        zrange z +inf -inf byscore rev limit 1 2 withscores; zrange z 0 1 foo; zrange z 0 1 byscore limit 1
        zrange z 0 1 byscore limit a b; zrange none 0 1; zrange z x y byscore; zrangebyscore z 1 5
        zrangebyscore z (1 5; zrangebyscore z -inf +inf withscores limit 1 3; zrangebyscore z 1 x; zrangebyscore z 1
        zrangebyscore z 0 2 foo; zrangebyscore none 0 1; zrangebyscore z -inf inf limit 2 100
        zrangebyscore z -inf inf limit 100 1; zrevrange z 0 1; zrevrange z 0 -1 withscores; zrevrange z 2 1
        zrevrange z 0 1 foo; zrevrange none 0 1; zrevrangebyscore z 5 1
        zrevrangebyscore z +inf -inf withscores limit 0 2; zrem z a x; zrem z; zrem none a; zremrangebyscore z 1 5
        zremrangebyscore z x 5; zremrangebyscore none 1 2; zrange z 0 -1 withscores; zremrangebyscore z -inf +inf
        exists z; zadd y 1 a; zrem y a; exists y; zadd y 1 b 1 a 1 \\xff 1 ""; zrange y 0 -1; zadd y incr nan a
        zadd y 3.0 a 3.14159265358979 b 1e21 c 123456789012345678 d; zrange y 0 -1 withscores; set s 1; zadd s 1 a
        zrem s a; zscore s a; zrange s 0 1; zcard s; zincrby s 1 a; zrangebyscore s 0 1
    """,
    "streams": """
        xadd x 1-1 f v; xadd x 1-1 f v; xadd x 0-5 f v; xadd x 1-0 f v; xadd x 0-0 f v; xadd x 2 f v; xadd x 2-* f v
        xadd x 1-* f v; xadd x 5-* f v; xadd x 6-1 f; xadd x 6-1; xadd x; xadd x a f v; xadd x 1-a f v
        xadd x -1-1 f v; xadd x 6-1 a 1 b; xadd x 6-1 a 1 b 2; xlen x; xlen none; xadd new nomkstream 1-1 f v
        exists new; xadd y 0-0 f v; exists y; xadd y 0-* f v; xadd x nomkstream 7-1 f v; xrange x - +; xrange x + -
        xrange x 2 5; xrange x 2 2; xrange x (1-1 +; xrange x - (6-1; xrange x (1-1 (2-0; xrange x (6-1 +
        xrange x - + count 2; xrange x - + count -1; xrange x - + count; xrange x - + count x; xrange x - + foo 1
        xrange none - +; xrange x a b; xrange x -; xrange x 2-0 2-0; xrange x 2-1 2-1; xrevrange x + -
        xrevrange x + - count 2; xrevrange x 5 2; xrevrange x (6-1 -; xrevrange x + (2-1; xrevrange none + -
        xrevrange x + - count 1 count 2; xrange x (18446744073709551615 +
        xrange x (18446744073709551615-18446744073709551615 +; xrange x - (0-0; xrange x - (0
        xrange x 18446744073709551616 +; xdel x 2-0; xdel x 2-0 9-9; xdel x a; xdel x; xdel none 1-1; xlen x
        xadd x maxlen 3 8-1 f v; xlen x; xadd x maxlen = 2 8-2 f v; xlen x; xadd x maxlen -1 9-1 f v
        xadd x maxlen x 9-1 f v; xadd x maxlen ~ 1 9-1 f v; xlen x; xadd x minid 8-2 9-2 f v; xrange x - +
        xadd x minid = 9 9-3 f v; xrange x - +; xadd x minid x 9-9 f v; xadd x maxlen 1 minid 1 9-9 f v
        xadd x maxlen 5 limit 3 9-9 f v; xtrim x maxlen 1; xrange x - +; xtrim x maxlen; xtrim x; xtrim x foo 1
        xtrim x maxlen 1 foo; xtrim none maxlen 1; xtrim x minid 10-0; xlen x; exists x; xadd x 9-1 f v
        xinfo stream x; xsetid x 20-1; xadd x 20-0 f v; xadd x 20-2 f v; xsetid x 20-1; xsetid none 1-1; xsetid x a
        xsetid x 30-1 entriesadded 100 maxdeletedid 20-1; xsetid x 30-1 foo; xinfo stream x; xinfo stream none
        xinfo stream; xinfo; xinfo foo x; xdel x 20-2; xinfo stream x; xtrim x maxlen ~ 0; xsetid x 19-0
        xadd x 18446744073709551615-18446744073709551615 f v; xadd x * f v; xadd z 1-18446744073709551615 f v
        xadd z 1-18446744073709551616 f v; set s 1; xadd s 1-1 f v; xrange s - +; xlen s; xdel s 1-1; xtrim s maxlen 1
        xsetid s 1-1; xinfo stream s; xadd x 99999999999999-1 \\x00 \\xff; xadd x 01-1 f v; xtrim x maxlen = 0 limit 1
        xadd x nomkstream; xadd x maxlen; xadd x maxlen 1
    """,
    "server": """
        ping; ping a; ping a b; echo a; echo; foo; foo a b; FOO "a b"; select 0; select 16; select x; select -1
        auth x; auth default x; auth other x; auth; auth a b c; config get appendonly; config get maxmemory-policy
        config get nothing; config; config foo; config get; client setname a; client setname "a b"; client no-evict on
        client no-evict x; client foo; client; wait 0 0; wait x 0; wait 0 x; wait 0 -1; wait; publish a b; publish a
        hello 3x; hello 4; time x; info; script; script foo; script exists; script load; script flush; script flush x
        script exists a; script load "return 1"; script exists e0e1f9fabfc9d4800c877a703b823ac0578ff8db
        script exists E0E1F9FABFC9D4800C877A703B823AC0578FF8DB; evalsha e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
        evalsha E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0; script flush
        evalsha e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0; eval "return 1" x; eval "return 1" 1; eval "return 1" -1
        eval "return 1"; evalsha x 1; eval "return 1" 0; evalsha e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
        script load "foo bar"; eval "foo bar" 0; eval "return" 0
    """
    + f"foo {'y' * 100} {'z' * 100}; {'f' * 200} x",
}


@pytest.mark.redis
@pytest.mark.parametrize("topic", CASES)
def test_commands_reply_as_those_of_the_real_server(real: RealRedis, topic: str) -> None:
    both = Both(real)
    lines = [line.strip() for line in CASES[topic].replace("\n", ";").split(";") if line.strip()]
    different = [both.difference(*parse_command(line)) for line in lines if line not in ("info", "xadd x * f v")]
    assert not list(filter(None, different)), "\n".join(filter(None, different))


def test_each_command_is_compared_with_the_real_server() -> None:
    words = {word for text in CASES.values() for line in re.split(r"[;\n]", text) for word in line.upper().split()[:2]}
    names = {part for name in COMMANDS for part in name.decode().split("|")}
    assert names - words == {"FLUSHDB", "ID"}


SCRIPTS = [
    # Conversions of what a script returns
    "return",
    "return nil",
    "return {}",
    "return 1",
    "return 3.99",
    "return -3.99",
    "return 2^53",
    "return 2^62",
    "return 2^63",
    "return -2^63",
    "return 2^70",
    "return 0/0",
    "return 1/0",
    "return true",
    "return false",
    "return 'a\\0\\255\\r\\n'",
    "return ''",
    "return function() end",
    "return print",
    "return {1, 2.5, 'a', true, false, {}, {1, {2}}, {ok = 'fine'}, {err = 'bad'}}",
    "return {1, 2, nil, 4}",
    "return {nil, 2}",
    "return {[1] = 1, [2] = 2, [4] = 4, x = 5}",
    "return {ok = 'fine'}",
    "return {err = 'ERR bad'}",
    "return {err = 'two\\r\\nlines'}",
    "return {ok = 'two\\r\\nlines'}",
    "return {ok = 1}",
    "return {err = 1}",
    "return {err = 'a', ok = 'b'}",
    "return {double = 3.1}",
    "return {map = {a = 1}}",
    "local r = {} for i = 1, 3000 do r[i] = i end return r",
    "return redis.error_reply('ERR bad')",
    "return redis.error_reply('BAD thing')",
    "return redis.error_reply('-BAD thing')",
    "return redis.error_reply('bad')",
    "return redis.error_reply(1)",
    "return redis.status_reply('fine')",
    "return redis.status_reply(1)",
    # Keys and arguments
    "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2]}",
    "return {#KEYS, #ARGV}",
    "return {type(KEYS[1]), ARGV[1] == 'v\\0\\255'}",
    "return KEYS[3]",
    # Conversions of what commands return
    "return redis.call('SET', KEYS[1], 'x')",
    "return redis.call('SET', KEYS[1], 'x').ok",
    "return type(redis.call('GET', 'none'))",
    "return redis.call('GET', 'none') == false",
    "return {type(redis.call('INCR', 'n')), redis.call('INCR', 'n') + 0.5}",
    "return redis.call('HMGET', 'none', 'a', 'b')",
    "return #redis.call('HMGET', 'none', 'a', 'b')",
    "return redis.call('XRANGE', 'none', '-', '+')",
    "redis.call('XADD', 'st', '1-1', 'a', '\\0\\255') return redis.call('XRANGE', 'st', '-', '+')",
    "return redis.call('PING')",
    "return redis.call('ECHO', ARGV[1])",
    "redis.call('ZADD', 'z', 0.1, 'm') return redis.call('ZSCORE', 'z', 'm')",
    "return tonumber(redis.call('ZSCORE', 'z', 'm')) * 10",
    "return type(redis.call('TIME')[1])",
    # Arguments of commands
    "redis.call('SET', 'n', 1.5) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 10) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1e15) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1e17) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 2^53) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 0.1) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', 1/0) return redis.call('GET', 'n')",
    "redis.call('SET', 'n', '\\0\\255') return redis.call('GET', 'n')",
    "return redis.call('set', 'n', nil)",
    "return redis.call('set', 'n', true)",
    "return redis.call('set', 'n', {})",
    "return redis.call()",
    "return redis.pcall()",
    "return redis.call({})",
    # Errors
    "return redis.call('FOO')",
    "return redis.call('GET')",
    "return redis.call('GET', 'a', 'b')",
    "return redis.call('SCRIPT', 'FLUSH')",
    "return redis.call('EVAL', 'return 1', 0)",
    "return redis.call('CONFIG', 'GET', 'save')",
    "redis.call('SET', 's', 'x')\n\nreturn redis.call('HGET', 's', 'x')",
    "redis.call('SET', 's', 'x') redis.call('INCR', 's') redis.call('SET', 's', 'y')",
    "redis.call('SET', 'kept', 'x') error('stop')",
    "return redis.call('GET', 'kept')",
    "return redis.pcall('INCR', 's')",
    "return redis.pcall('INCR', 's').err",
    "return redis.pcall('FOO')",
    "return redis.pcall('HGET', 's')",
    "local r = redis.pcall('INCR', 's') return {type(r), r.err, r.ok == nil}",
    "return {redis.pcall('INCR', 's'), 1}",
    "return error(redis.pcall('INCR', 's'))",
    "error('text')",
    "\n\nerror('text')",
    "error('text', 0)",
    "error({err = 'MY error'})",
    "error()",
    "error(5)",
    "local f\nf()",
    "return 1 + {}",
    "return 'a' < 1",
    "return #nil",
    "local function f() error('inside') end\nf()",
    "local function f() return redis.call('INCR', 's') end\nreturn f()",
    "local function f()\nlocal x = redis.call('INCR', 's')\nreturn x\nend\nreturn f()",
    "return string.rep()",
    "return tonumber({})",
    "return {pcall(redis.call, 'INCR', 's')}",
    "local ok, err = pcall(redis.call, 'INCR', 's') return {ok and 1 or 0, type(err), err}",
    "local ok, err = pcall(function() return redis.call('INCR', 's') end) return {ok and 1 or 0, type(err), err}",
    "local ok, err = pcall(error, 'x') return err",
    "local ok, err = pcall(error, {err = 'X y'}) return {type(err), err}",
    "local ok, a, b, c = pcall(function(...) return 1, nil, ... end, 3) return {tostring(ok), a, tostring(b), c}",
    "return pcall",
    "return #{pcall(function() end)}",
    # Globals
    "x = 1",
    "\nfunction f() end",
    "return x",
    "return type(_G)",
    "_G.x = 1",
    "redis = 1",
    "redis.x = 1",
    "redis.call = 1",
    "return rawget(_G, 'x')",
    "return type(os)",
    "return type(io)",
    "return type(debug)",
    "return type(require)",
    "return python",
    "return {type(redis.call), type(redis.pcall), type(string.len), type(math.floor), type(tonumber)}",
    # Libraries
    "return redis.sha1hex('abc')",
    "return redis.sha1hex('')",
    "return redis.sha1hex()",
    "return {string.format('%d %s %.3f', 3, 'a', 1.5), ('x'):rep(3), #'abc', ('abc'):sub(2)}",
    "return {unpack({1, 2, 3})}",
    "return table.concat({1, 2, 'x'}, ',')",
    "local t = {3, 1, 2} table.sort(t) return t",
    "return {tostring(10), tostring(1.5), tostring(2^53), 1 .. '', 10 / 2 .. ''}",
    "return {tonumber('10'), tonumber('0x10'), tonumber('1e3'), tonumber('x'), 5}",
    "return {math.floor(1.5), math.max(1, 5), math.huge > 1}",
    "return {math.random(1000), math.random(10, 20), math.floor(math.random() * 1000000)}",
    "math.randomseed(42) return {math.random(1000), math.random(1000)}",
    "return {select('#', 1, 2), select(2, 'a', 'b')}",
    "local r = {} for k, v in pairs({a = 1}) do r[#r + 1] = k end return r",
    "local r = {} for i, v in ipairs({5, 6, nil, 7}) do r[#r + 1] = v end return r",
    "local t = setmetatable({}, {__index = function(t, k) return k .. '!' end}) return t.x",
    "return string.gsub('hello', 'l', 'L')",
    "return {string.byte('a\\255', 1, 2)}",
    "return cjson.encode({1, 2.5, 'a', true, {x = 'y/z'}})",
    'return cjson.decode(\'{"a": [1, "x", {"b": 2}]}\').a[3].b',
    'return cjson.encode(cjson.decode(\'[1,[],{"a":"b"}]\')[3])',
    "local co = coroutine.wrap(function() coroutine.yield(1) coroutine.yield(2) end) return {co(), co()}",
    "return loadstring('return 5')()",
    "return (function(...) return select('#', ...) end)(nil, nil)",
    "#!lua\nreturn 1",
]


@pytest.mark.redis
def test_scripts_behave_as_on_the_real_server(real: RealRedis) -> None:
    both = Both(real)
    different = [both.difference(b"EVAL", text.encode(), b"2", b"k", b"l", b"v\0\xff", b"") for text in SCRIPTS]
    different.append(both.difference(b"KEYS", b"*"))
    assert not list(filter(None, different)), "\n".join(filter(None, different))


KEYS = st.sampled_from([b"a", b"b", b"c"])
MEMBERS = st.sampled_from([b"m", b"n", b"o", b"\0\xff"])
NUMBERS = st.sampled_from([b"0", b"1", b"-1", b"2", b"3", b"100"])
SCORES = st.sampled_from([b"0", b"1", b"-1.5", b"(1", b"2.25", b"inf", b"-inf", b"x"])
IDS = st.sampled_from([b"1-1", b"1-2", b"2-0", b"3", b"4-5", b"9-9", b"50-1", b"-", b"+", b"(2-0", b"x"])
COUNTED = [(b"COUNT", b"1"), (b"COUNT", b"2"), ()]


def shapes() -> st.SearchStrategy[list[bytes]]:
    """Return commands whose reply does not depend on chance."""
    table: list[tuple[str, tuple[st.SearchStrategy[Any], ...]]] = [
        ("GET TYPE DEL EXISTS TTL PERSIST INCR HGETALL HLEN HKEYS SMEMBERS SCARD ZCARD XLEN", ()),
        ("SET HGET HEXISTS HDEL SADD SREM SISMEMBER ZSCORE ZREM", (MEMBERS,)),
        ("INCRBY EXPIRE", (NUMBERS,)),
        ("HSET HSETNX", (MEMBERS, NUMBERS)),
        ("HINCRBY", (MEMBERS, NUMBERS)),
        ("HMGET SADD SREM HDEL ZREM", (MEMBERS, MEMBERS)),
        ("ZADD ZINCRBY", (SCORES, MEMBERS)),
        ("ZADD", (st.sampled_from([b"NX", b"XX", b"GT", b"LT", b"CH"]), SCORES, MEMBERS)),
        ("ZCOUNT ZRANGEBYSCORE ZREMRANGEBYSCORE", (SCORES, SCORES)),
        ("ZRANGE ZREVRANGE", (NUMBERS, NUMBERS)),
        ("ZRANGE ZREVRANGE", (NUMBERS, NUMBERS, st.just(b"WITHSCORES"))),
        ("XADD", (IDS, MEMBERS, MEMBERS)),
        ("XADD", (st.just(b"MAXLEN"), NUMBERS, IDS, MEMBERS, MEMBERS)),
        ("XRANGE XREVRANGE", (IDS, IDS)),
        ("XRANGE XREVRANGE", (IDS, IDS, st.just(b"COUNT"), st.sampled_from([b"1", b"2"]))),
        ("XDEL XSETID", (IDS,)),
        ("XTRIM", (st.just(b"MAXLEN"), NUMBERS)),
        ("XTRIM", (st.just(b"MINID"), IDS)),
    ]
    return st.one_of(
        [
            st.tuples(st.just(name.encode()), KEYS, *arguments).map(list)
            for names, arguments in table
            for name in names.split()
        ]
    )


@pytest.mark.redis
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=st.lists(shapes(), min_size=1, max_size=40))
def test_random_commands_reply_as_those_of_the_real_server(real: RealRedis, commands: list[list[bytes]]) -> None:
    both = Both(real)
    for arguments in commands:
        assert not both.difference(*arguments)
    for key in (b"a", b"b", b"c"):
        assert not both.difference(b"TYPE", key)


# Faults of the server


@pytest.fixture
def data() -> RedisData:
    return RedisData(lambda: 1000.25)


def error_code(data: RedisData, *arguments: bytes) -> bytes:
    """Run a command and return the code of its error; nothing if it succeeds."""
    reply = data.execute(list(arguments))
    return reply.text.split()[0] if isinstance(reply, ErrorReply) else b""


def test_a_full_memory_refuses_commands_that_add(data: RedisData) -> None:
    data.execute([b"SET", b"a", b"1"])
    data.maxmemory = True
    assert data.execute([b"SET", b"a", b"2"]) == ErrorReply(b"OOM command not allowed when used memory > 'maxmemory'.")
    assert error_code(data, b"XADD", b"x", b"1-1", b"f", b"v") == b"OOM"
    assert data.execute([b"GET", b"a"]) == b"1"
    assert data.execute([b"DEL", b"a"]) == 1


def test_a_full_memory_does_not_stop_a_script_that_has_written(data: RedisData) -> None:
    data.maxmemory = True
    assert error_code(data, b"EVAL", b"redis.call('SET', 'a', 1)", b"0") == b"OOM"
    assert error_code(data, b"EVAL", b"redis.call('DEL', 'a') redis.call('SET', 'a', 1)", b"0") == b""
    assert error_code(data, b"EVAL", b"redis.call('SET', 'a', 1)", b"0") == b"OOM"


@pytest.mark.redis
def test_a_full_memory_is_reported_as_by_the_real_server(real: RealRedis) -> None:
    both = Both(real)
    scripts = [
        b"return redis.call('SET', 'a', 1)",
        b"return redis.pcall('SET', 'a', 1)",
        b"redis.call('DEL', 'a') return redis.call('SET', 'a', 1)",
        b"return redis.call('GET', 'a')",
    ]
    commands = [
        "set a 1",
        "hset h a 1",
        "xadd x 1-1 f v",
        "zadd z 1 a",
        "incr n",
        "sadd s a",
        "get a",
        "del a",
        "hdel h a",
    ]
    commands += ["xdel x 1-1", "xtrim x maxlen 1", "zrem z a", "spop s", "expire a 1", "publish a b", "hincrby h a 1"]
    commands += ["zincrby z 1 a", "hsetnx h a 1", "zremrangebyscore z 1 2", "persist a", "xsetid x 1-1", "flushall"]
    real.execute(b"CONFIG", b"SET", b"maxmemory", b"1")
    both.data.maxmemory = True
    try:
        different = [both.difference(*parse_command(line)) for line in commands]
        different += [both.difference(b"EVAL", script, b"0") for script in scripts]
    finally:
        real.execute(b"CONFIG", b"SET", b"maxmemory", b"0")
    assert not list(filter(None, different)), "\n".join(filter(None, different))


def test_a_full_disk_refuses_commands_that_write(data: RedisData) -> None:
    data.execute([b"SET", b"a", b"1"])
    data.disk_full = True
    assert error_code(data, b"DEL", b"a") == b"MISCONF"
    assert error_code(data, b"EVAL", b"return redis.call('DEL', 'a')", b"0") == b"MISCONF"
    assert data.execute([b"GET", b"a"]) == b"1"
    data.disk_full = False
    assert data.execute([b"DEL", b"a"]) == 1


def test_a_server_that_loads_its_file_refuses_nearly_all_commands(data: RedisData) -> None:
    data.loading = True
    assert data.execute([b"GET", b"a"]) == ErrorReply(b"LOADING Redis is loading the dataset in memory")
    assert error_code(data, b"EVAL", b"return 1", b"0") == b"LOADING"
    assert error_code(data, b"INFO", b"persistence") == b""


def test_a_restart_forgets_scripts_and_keeps_keys(data: RedisData) -> None:
    data.execute([b"SET", b"a", b"1"])
    sha = data.execute([b"SCRIPT", b"LOAD", b"return 1"])
    assert isinstance(sha, bytes)
    assert data.execute([b"EVALSHA", sha, b"0"]) == 1
    run_id = data.run_id
    data.restarted()
    assert error_code(data, b"EVALSHA", sha, b"0") == b"NOSCRIPT"
    assert data.execute([b"GET", b"a"]) == b"1"
    assert data.run_id != run_id


def test_a_server_that_has_run_scripts_is_collected_as_garbage() -> None:
    servers = []
    for _ in range(3):
        data = RedisData(lambda: 0.0)
        for script in (
            b"return redis.call('GET', 'a')",
            b"return redis.call('FOO')",
            b"pcall(redis.call, 'FOO')",
            b"x()",
        ):
            data.execute([b"EVAL", script, b"0"])
        servers.append(ref(data))
    del data
    gc.collect()
    assert [server() for server in servers] == [None, None, None]


def test_a_snapshot_restores_all_kinds_of_values(data: RedisData) -> None:
    fill = ["set a 1 px 500", "hset h f v", "sadd s m", "zadd z 1 m", "xadd x 1-1 f v"]
    change = ["del a", "hset h f w", "sadd s n", "zadd z 2 m", "xadd x 2-1 f v"]
    read = ["pttl a", "hgetall h", "smembers s", "zrange z 0 -1 withscores", "xrange x - +"]
    for line in fill:
        data.execute(parse_command(line))
    snapshot = data.snapshot()
    before = [data.execute(parse_command(line)) for line in read]
    for _ in range(2):  # a snapshot may be restored more than once
        for line in change:
            data.execute(parse_command(line))
        assert [data.execute(parse_command(line)) for line in read] != before
        data.restore(snapshot)
        assert [data.execute(parse_command(line)) for line in read] == before


def test_keys_expire_with_the_clock() -> None:
    time = 1000.0
    data = RedisData(lambda: time)
    data.execute([b"SET", b"a", b"1", b"PX", b"100"])
    time = 1000.1
    assert data.execute([b"GET", b"a"]) == b"1"
    time = 1000.101
    assert data.execute([b"DBSIZE"]) == 0
    assert data.execute([b"GET", b"a"]) is None
    assert data.execute([b"TIME"]) == [b"1000", b"101000"]


def test_random_choices_follow_the_seed() -> None:
    def chosen(seed: int) -> list[Any]:
        data = RedisData(lambda: 0.0, Random(seed))
        data.execute([b"SADD", b"s", *(b"%d" % n for n in range(100))])
        return [data.execute([b"SPOP", b"s"]) for _ in range(5)]

    assert chosen(1) == chosen(1) != chosen(2)


def test_steps_of_a_scan_return_each_key_that_stays(data: RedisData) -> None:
    stay = {b"%d" % n for n in range(50)}
    for key in stay:
        data.execute([b"SET", key, b""])
    found: set[bytes] = set()
    cursor, step = b"0", 0
    while step == 0 or cursor != b"0":
        data.execute([b"SET", b"new%d" % step, b""])
        data.execute([b"DEL", b"new%d" % (step - 2)])
        reply = parse(encode(data.execute([b"SCAN", cursor, b"COUNT", b"7"])))
        cursor, step = reply[0], step + 1
        found |= set(reply[1])
    assert stay <= found
    assert step > 5


# On the simulated network


class Client(Protocol):
    """A connection to the server.

    :ivar replies: what it has received.
    :ivar lost: why it was closed.
    """

    transport: Any

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self.lost: Failure | None = None
        self._reader = hiredis.Reader()

    def send(self, *lines: str) -> None:
        self.transport.write(b"".join(encode(list(parse_command(line))) for line in lines))

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.replies.append(reply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class Site:
    """A server on one host of a network, and its clients on another."""

    def __init__(self) -> None:
        self.network = Network(seed=5)
        self.host: Host = self.network.host("redis")
        self.network.host("client")
        self.data = RedisData(self.host.reactor.seconds)
        self.server = SimulatedRedis(self.host.reactor, self.data)
        self.server.start()

    def client(self) -> Client:
        """Return a client, which is connected unless the server is not there."""
        client = Client()
        endpoint = TCP4ClientEndpoint(self.network.hosts["client"].reactor, self.host.address, 6379)
        connected: Deferred[Any] = connectProtocol(endpoint, client)
        connected.addErrback(lambda failure: setattr(client, "lost", failure))
        self.network.advance(1.0)
        return client


@pytest.fixture
def site() -> Site:
    return Site()


def test_requests_of_a_pipeline_are_answered_in_order(site: Site) -> None:
    client = site.client()
    client.send("set a 1", "incr a", "get a", "foo", "hgetall none")
    site.network.advance(1.0)
    assert client.replies[:3] == [b"OK", 2, b"2"]
    assert isinstance(client.replies[3], hiredis.ReplyError)
    assert client.replies[4:] == [[]]


def test_subscribers_receive_the_messages_of_a_channel_in_order(site: Site) -> None:
    first, second, other, publisher = (site.client() for _ in range(4))
    first.send("subscribe a b")
    second.send("subscribe a")
    other.send("subscribe c")
    site.network.advance(1.0)
    publisher.send("publish a 1", "publish b 2", "eval \"return redis.call('publish', 'a', '3')\" 0", "publish d 4")
    site.network.advance(1.0)
    assert publisher.replies == [2, 1, 2, 0]
    assert first.replies == [
        *([b"subscribe", b"a", 1], [b"subscribe", b"b", 2]),
        *([b"message", b"a", b"1"], [b"message", b"b", b"2"], [b"message", b"a", b"3"]),
    ]
    assert second.replies == [[b"subscribe", b"a", 1], [b"message", b"a", b"1"], [b"message", b"a", b"3"]]
    assert other.replies == [[b"subscribe", b"c", 1]]


def test_messages_of_one_script_arrive_in_its_order(site: Site) -> None:
    client, subscriber = site.client(), site.client()
    subscriber.send("subscribe c")
    site.network.advance(1.0)
    client.send("eval \"for i = 1, 3 do redis.call('publish', 'c', i) end\" 0")
    site.network.advance(1.0)
    assert [reply[2] for reply in subscriber.replies[1:]] == [b"1", b"2", b"3"]


def test_a_subscriber_may_not_run_other_commands(site: Site) -> None:
    client = site.client()
    client.send("subscribe a", "get b", "ping", "unsubscribe", "unsubscribe", "get b", "subscribe")
    site.network.advance(1.0)
    assert str(client.replies.pop(1)).startswith("ERR Can't execute 'get': only (P|S)SUBSCRIBE")
    assert str(client.replies.pop()) == "ERR wrong number of arguments for 'subscribe' command"
    assert client.replies == [
        *([b"subscribe", b"a", 1], [b"pong", b""], [b"unsubscribe", b"a", 0], [b"unsubscribe", None, 0]),
        None,
    ]


def test_quit_closes_the_connection_after_its_reply(site: Site) -> None:
    client = site.client()
    client.send("quit")
    site.network.advance(1.0)
    assert client.replies == [b"OK"]
    assert client.lost is not None
    assert not site.server.connections


def test_bytes_that_are_no_request_close_the_connection(site: Site) -> None:
    client = site.client()
    client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
    site.network.advance(1.0)
    assert str(client.replies[0]) == "ERR Protocol error"
    assert client.lost is not None


def test_a_killed_server_resets_connections_and_keeps_its_keys(site: Site) -> None:
    client = site.client()
    client.send("set a 1", "script load 'return 1'")
    site.network.advance(1.0)
    sha = client.replies[1].decode()
    site.server.kill()
    site.network.advance(1.0)
    assert client.lost is not None
    assert site.client().lost is not None  # nothing listens
    site.server.start()
    again = site.client()
    again.send("get a", f"evalsha {sha} 0", "publish x y")
    site.network.advance(1.0)
    assert again.replies[0] == b"1"
    assert str(again.replies[1]).startswith("NOSCRIPT")


def test_a_killed_server_can_start_at_once(site: Site) -> None:
    site.server.kill()
    site.server.start()
    client = site.client()
    client.send("ping")
    site.network.advance(1.0)
    assert client.replies == [b"PONG"]


def test_a_server_that_is_killed_while_it_starts_does_not_listen(site: Site) -> None:
    site.server.kill()
    site.server.start()
    site.server.kill()
    assert site.client().lost is not None
    site.server.start()
    assert site.client().lost is None


def test_a_stopped_server_closes_its_connections_and_its_port(site: Site) -> None:
    client = site.client()
    site.network.run(site.server.stop())
    site.network.advance(1.0)
    assert client.lost is not None
    assert client.lost.check(ConnectionDone)
    assert site.client().lost is not None
    site.network.run(site.server.stop())  # nothing is left to do


def test_a_kill_can_lose_the_last_writes(site: Site) -> None:
    client = site.client()
    client.send("set a 1")
    site.network.advance(1.0)
    snapshot = site.data.snapshot()
    client.send("set a 2")
    site.network.advance(1.0)
    site.server.kill(losing=snapshot)
    site.server.start()
    assert site.server.execute(b"GET", b"a") == b"1"


def test_a_server_whose_host_crashed_starts_again_with_its_data(site: Site) -> None:
    client = site.client()
    client.send("set a 1", "subscribe c")
    site.network.advance(1.0)
    site.host.crash()
    site.host.restart()
    SimulatedRedis(site.host.reactor, site.data).start()
    again = site.client()
    again.send("get a", "publish c x")
    site.network.advance(1.0)
    assert again.replies == [b"1", 0]


def test_a_paused_server_answers_when_it_is_resumed(site: Site) -> None:
    client, subscriber = site.client(), site.client()
    subscriber.send("subscribe c")
    site.network.advance(1.0)
    site.server.pause()
    client.send("incr a", "publish c x")
    late = site.client()
    late.send("incr a")
    site.network.advance(10.0)
    assert client.replies == late.replies == []
    assert late.lost is None  # the kernel has accepted the connection
    assert len(site.server.connections) == 2
    site.server.resume()
    site.network.advance(1.0)
    assert client.replies == [1, 1]
    assert late.replies == [2]
    assert subscriber.replies[-1] == [b"message", b"c", b"x"]


def test_a_paused_server_can_be_killed(site: Site) -> None:
    client = site.client()
    site.server.pause()
    client.send("incr a")
    site.network.advance(1.0)
    site.server.kill()
    site.network.advance(1.0)
    assert client.lost is not None
    site.server.start()
    assert site.server.execute(b"GET", b"a") is None


def test_subscribers_can_be_disconnected_alone(site: Site) -> None:
    client, subscriber = site.client(), site.client()
    subscriber.send("subscribe c")
    site.network.advance(1.0)
    site.server.close_subscribers()
    site.network.advance(1.0)
    assert subscriber.lost is not None
    assert client.lost is None
    assert site.server.execute(b"PUBLISH", b"c", b"x") == 0


def test_the_clock_of_the_server_is_that_of_the_network(site: Site) -> None:
    site.server.execute(b"SET", b"a", b"1", b"EX", b"10")
    site.network.advance(9.5)
    assert site.server.execute(b"GET", b"a") == b"1"
    site.network.advance(1.0)
    assert site.server.execute(b"GET", b"a") is None
