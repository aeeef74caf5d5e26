"""A Redis 7 server in memory, without its connections: commands, scripts and faults. It does no I/O.

The differences from the real server are listed in ``tests/test_simulated_redis.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests import redis_commands, redis_sorted_set, redis_stream  # noqa: F401  they add their commands
from tests.redis_keyspace import (
    COMMANDS,
    OK,
    Command,
    CommandError,
    ErrorReply,
    Flag,
    Keyspace,
    Reply,
    Status,
    command,
    find_command,
    glob,
    integer,
    wrong_arguments,
)
from tests.redis_scripts import NO_SCRIPT, Scripts

VERSION = b"7.0.15"

OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'."
DISK_FULL = "MISCONF Errors writing to the AOF file: No space left on device"
LOADING = "LOADING Redis is loading the dataset in memory"


class RedisData(Keyspace):
    """The state of a server.

    :param now: returns the time since the epoch in seconds.
    :param random: chooses random members and the ``run_id``.
    :ivar config: what CONFIG GET returns.
    :ivar maxmemory: whether the memory is full, so that commands that need more are refused.
    :ivar disk_full: whether the disk is full, so that commands that write are refused.
    :ivar loading: whether the server still loads its file, so that nearly all commands are refused.
    :ivar publish: passes a message to the subscribers of a channel; returns how many there are.
    """

    def __init__(self, now: Callable[[], float], random: Random | None = None) -> None:
        super().__init__(now, random or Random(0))
        self.config = {b"appendonly": b"yes", b"save": b"", b"maxmemory-policy": b"noeviction", b"maxmemory": b"0"}
        self.maxmemory = False
        self._script_may_grow = False
        self.disk_full = False
        self.loading = False
        self.publish: Callable[[bytes, bytes], int] = lambda _channel, _message: 0
        self.run_id = b""
        self.scripts = Scripts(self._run_in_script)
        self._script_has_written = False
        self.restarted()

    def restarted(self) -> None:
        """Do what a new process does: forget the scripts and take another ``run_id``. The keys stay."""
        self.scripts.restart()
        self.run_id = b"%040x" % self.random.getrandbits(160)

    def execute(self, arguments: list[bytes]) -> Reply:
        """Run a command and return its reply."""
        try:
            found = COMMANDS.get(arguments[0]) or find_command(arguments)
            if found is None:
                raise unknown_command(arguments)
            if not found.least <= len(arguments) <= found.most:
                raise wrong_arguments(found.name)
            self._script_may_grow = False
            if self.maxmemory or self.disk_full or self.loading:
                self._check_faults(found)
            return found.function(self, *arguments[found.words :])
        except CommandError as e:
            return ErrorReply(e.text)

    def run_script(self, sha: bytes, count: bytes, arguments: tuple[bytes, ...]) -> Reply:
        """Run a script.

        :param count: how many of the arguments are keys.
        """
        keys = _key_count(count, arguments)
        self._script_has_written = False
        self._script_may_grow = sha.lower() in self.scripts.without_memory
        return self.scripts.run(sha, list(arguments[:keys]), list(arguments[keys:]))

    def _run_in_script(self, arguments: list[bytes]) -> Reply:
        found = COMMANDS.get(arguments[0]) or find_command(arguments)
        if found is None:
            raise CommandError("ERR Unknown Redis command called from script")
        if not found.least <= len(arguments) <= found.most:
            raise CommandError("ERR Wrong number of args calling Redis command from script")
        if not found.in_scripts:
            raise CommandError("ERR This Redis command is not allowed from script")
        if (self.maxmemory or self.disk_full) and not self._script_has_written:
            self._check_faults(found)
            self._script_has_written = found.writes
        return found.function(self, *arguments[found.words :])

    def _check_faults(self, found: Command) -> None:
        if self.maxmemory and found.grows and not self._script_may_grow:
            raise CommandError(OUT_OF_MEMORY)
        if self.disk_full and (found.writes or found.name == "ping"):
            raise CommandError(DISK_FULL)
        if self.loading and not found.while_loading:
            raise CommandError(LOADING)


def unknown_command(arguments: list[bytes]) -> CommandError:
    quoted = b""
    for argument in arguments[1:]:
        if len(quoted) >= 128:
            break
        quoted += b"'%s' " % argument[: 128 - len(quoted)]
    return CommandError(b"ERR unknown command '%s', with args beginning with: %s" % (arguments[0][:128], quoted))


def _key_count(count: bytes, arguments: tuple[bytes, ...]) -> int:
    keys = integer(count)
    if keys > len(arguments):
        raise CommandError("ERR Number of keys can't be greater than number of args")
    if keys < 0:
        raise CommandError("ERR Number of keys can't be negative")
    return keys


# Scripts


@command("EVAL", flags=Flag.NOT_IN_SCRIPTS)
def eval_(data: RedisData, text: bytes, count: bytes, *arguments: bytes) -> Reply:
    _key_count(count, arguments)
    return data.run_script(data.scripts.load(text), count, arguments)


@command("EVALSHA", flags=Flag.NOT_IN_SCRIPTS)
def evalsha(data: RedisData, sha: bytes, count: bytes, *arguments: bytes) -> Reply:
    if len(sha) != 40:
        raise CommandError(NO_SCRIPT)
    return data.run_script(sha, count, arguments)


@command("SCRIPT|LOAD", flags=Flag.NOT_IN_SCRIPTS)
def script_load(data: RedisData, text: bytes) -> Reply:
    return data.scripts.load(text)


@command("SCRIPT|EXISTS", flags=Flag.NOT_IN_SCRIPTS)
def script_exists(data: RedisData, sha: bytes, *others: bytes) -> Reply:
    return [int(data.scripts.knows(each)) for each in (sha, *others)]


@command("SCRIPT|FLUSH", flags=Flag.NOT_IN_SCRIPTS)
def script_flush(data: RedisData, mode: bytes = b"SYNC") -> Reply:
    if mode.upper() not in (b"SYNC", b"ASYNC"):
        raise CommandError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    data.scripts.clear()
    return OK


# The server and its clients


@command("PUBLISH", flags=Flag.WHILE_LOADING)
def publish(data: RedisData, channel: bytes, message: bytes) -> Reply:
    return data.publish(channel, message)


@command("PING")
def ping(data: RedisData, message: bytes | None = None) -> Reply:
    return Status(b"PONG") if message is None else message


@command("ECHO", flags=Flag.WHILE_LOADING)
def echo(data: RedisData, message: bytes) -> Reply:
    return message


@command("TIME", flags=Flag.WHILE_LOADING)
def time(data: RedisData) -> Reply:
    return [b"%d" % part for part in divmod(data.microseconds(), 1_000_000)]


@command("WAIT", flags=Flag.NOT_IN_SCRIPTS)
def wait(data: RedisData, replicas: bytes, timeout: bytes) -> Reply:
    integer(replicas)
    if integer(timeout, "ERR timeout is not an integer or out of range") < 0:
        raise CommandError("ERR timeout is negative")
    return 0


@command("AUTH", flags=Flag.NOT_IN_SCRIPTS | Flag.WHILE_LOADING)
def auth(data: RedisData, name: bytes, password: bytes | None = None, *more: bytes) -> Reply:
    if more:
        raise CommandError("ERR syntax error")
    if password is None:
        raise CommandError(
            "ERR AUTH <password> called without any password configured for the default user. "
            "Are you sure your configuration is correct?"
        )
    if name != b"default":
        raise CommandError("WRONGPASS invalid username-password pair or user is disabled.")
    return OK


@command("SELECT", flags=Flag.WHILE_LOADING)
def select(data: RedisData, number: bytes) -> Reply:
    if not 0 <= integer(number) < 16:
        raise CommandError("ERR DB index is out of range")
    return OK


@command("HELLO", flags=Flag.NOT_IN_SCRIPTS | Flag.WHILE_LOADING)
def hello(data: RedisData, version: bytes = b"2", *options: bytes) -> Reply:
    if integer(version, "ERR Protocol version is not an integer or out of range") != 2:
        raise CommandError("NOPROTO unsupported protocol version")
    facts: list[Reply] = [b"server", b"redis", b"version", VERSION, b"proto", 2, b"id", 1, b"mode", b"standalone"]
    return [*facts, b"role", b"master", b"modules", []]


@command("CLIENT|SETNAME", flags=Flag.NOT_IN_SCRIPTS | Flag.WHILE_LOADING)
def client_setname(data: RedisData, name: bytes) -> Reply:
    if any(not 33 <= byte <= 126 for byte in name):
        raise CommandError("ERR Client names cannot contain spaces, newlines or special characters.")
    return OK


@command("CLIENT|NO-EVICT", flags=Flag.NOT_IN_SCRIPTS | Flag.WHILE_LOADING)
def client_no_evict(data: RedisData, switch: bytes) -> Reply:
    if switch.upper() not in (b"ON", b"OFF"):
        raise CommandError("ERR syntax error")
    return OK


@command("CLIENT|ID", flags=Flag.NOT_IN_SCRIPTS | Flag.WHILE_LOADING)
def client_id(data: RedisData) -> Reply:
    return 1


@command("CONFIG|GET", flags=Flag.NOT_IN_SCRIPTS | Flag.WHILE_LOADING)
def config_get(data: RedisData, pattern: bytes, *others: bytes) -> Reply:
    patterns = [glob(each.lower()) for each in (pattern, *others)]
    found = [pair for pair in data.config.items() if any(each.fullmatch(pair[0]) for each in patterns)]
    return [each for pair in found for each in pair]


@command("INFO", flags=Flag.WHILE_LOADING)
def info(data: RedisData, *sections: bytes) -> Reply:
    appends = data.config[b"appendonly"] == b"yes"
    facts = {
        b"server": {b"redis_version": VERSION, b"redis_mode": b"standalone", b"run_id": data.run_id},
        b"persistence": {
            b"loading": b"%d" % data.loading,
            b"rdb_bgsave_in_progress": b"0",
            b"rdb_last_bgsave_status": b"ok",
            b"aof_enabled": b"%d" % appends,
            b"aof_last_write_status": b"err" if data.disk_full else b"ok",
        },
        b"replication": {b"role": b"master", b"connected_slaves": b"0", b"master_replid": data.run_id},
    }
    names = {section.lower() for section in sections} or set(facts)
    if names & {b"all", b"default", b"everything"}:
        names = set(facts)
    return b"\r\n".join(
        b"# %s\r\n" % name.capitalize() + b"".join(b"%s:%s\r\n" % fact for fact in section.items())
        for name, section in facts.items()
        if name in names
    )
