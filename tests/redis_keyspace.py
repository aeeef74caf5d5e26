"""The keys of a Redis server in memory, its replies, and the table of its commands. It does no I/O."""

from __future__ import annotations

import enum
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeVar, Union, cast


@dataclass(frozen=True, slots=True)
class Status:
    """A simple status such as ``OK``."""

    text: bytes


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An error as the client sees it. The text begins with the code word."""

    text: bytes


@dataclass(frozen=True, slots=True)
class NullArray:
    """The missing array, which is not the missing string."""


Reply = Union[int, bytes, None, Status, ErrorReply, NullArray, "list[Reply]"]

NULL_ARRAY = NullArray()
OK = Status(b"OK")


class CommandError(Exception):
    """A command is refused.

    :ivar text: the error for the client.
    """

    def __init__(self, text: str | bytes) -> None:
        super().__init__(text)
        self.text = text.encode() if isinstance(text, str) else text


SYNTAX = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_FLOAT = "ERR value is not a valid float"
OVERFLOW = "ERR increment or decrement would overflow"
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


# Commands


class Flag(enum.Flag):
    """What a server must know of a command before it runs it."""

    NONE = 0
    WRITES = enum.auto()
    GROWS = enum.auto()  # it may need more memory
    NOT_IN_SCRIPTS = enum.auto()
    WHILE_LOADING = enum.auto()


@dataclass(frozen=True, slots=True)
class Command:
    """A command. The counts of its arguments include its name."""

    name: str
    function: Callable[..., Reply]
    words: int  # of its name
    least: int
    most: float
    writes: bool
    grows: bool
    in_scripts: bool
    while_loading: bool


#: All commands, by their name in upper case. A subcommand has the name ``CONFIG|GET``.
COMMANDS: dict[bytes, Command] = {}

#: The first words of all commands of two words.
CONTAINERS: set[bytes] = set()

F = TypeVar("F", bound=Callable[..., Reply])


def command(*names: str, flags: Flag = Flag.NONE, least: int = 0) -> Callable[[F], F]:
    """Add a function to the commands. Its parameters are the keyspace and the arguments of the command.

    :param least: the smallest number of arguments, if the signature does not tell it.
    """

    def add(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())[1:]
        required = sum(each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty for each in parameters)
        endless = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        for name in names:
            words = 1 + name.count("|")
            if words > 1:
                CONTAINERS.add(name.encode().partition(b"|")[0])
            COMMANDS[name.encode()] = Command(
                name.lower(),
                function,
                words,
                max(words + required, least),
                math.inf if endless else words + len(parameters),
                Flag.WRITES in flags or Flag.GROWS in flags,
                Flag.GROWS in flags,
                Flag.NOT_IN_SCRIPTS not in flags,
                Flag.WHILE_LOADING in flags,
            )
        return function

    return add


def find_command(arguments: Sequence[bytes]) -> Command | None:
    """Return the command of a request, whose name may have lower-case letters and a second word.

    :raises CommandError: if the second word is missing or unknown.
    """
    name = arguments[0].upper()
    found = COMMANDS.get(name)
    if found is not None or name not in CONTAINERS:
        return found
    if len(arguments) == 1:
        raise wrong_arguments(name.decode().lower())
    found = COMMANDS.get(name + b"|" + arguments[1].upper())
    if found is None:
        raise CommandError(b"ERR unknown subcommand '%.128s'. Try %s HELP." % (arguments[1], name))
    return found


def wrong_arguments(name: str) -> CommandError:
    return CommandError(f"ERR wrong number of arguments for '{name}' command")


# Numbers

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_FLOAT = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?)", re.IGNORECASE)
_INTEGER_MAX = 2**63 - 1


def fits(number: int) -> bool:
    """Return whether a number has at most 64 bits."""
    return -_INTEGER_MAX - 1 <= number <= _INTEGER_MAX


def integer(data: bytes, error: str = NOT_AN_INTEGER) -> int:
    """Parse an integer of 64 bits.

    :raises CommandError: if it is none.
    """
    if _INTEGER.fullmatch(data):
        number = int(data)
        if fits(number):
            return number
    raise CommandError(error)


def floating(data: bytes, error: str = NOT_A_FLOAT) -> float:
    """Parse a floating-point number.

    :raises CommandError: if it is none.
    """
    if _FLOAT.fullmatch(data):
        return float(data)
    raise CommandError(error)


def number_text(number: float) -> bytes:
    """Return a floating-point number as Redis 7.0 writes it."""
    return b"%.17g" % number


# Values


class Hash(dict[bytes, bytes]):
    """The fields of a hash. ``dict`` keeps their order, so that runs can be repeated."""

    def copy(self) -> Hash:
        return Hash(self)


class Set(dict[bytes, None]):
    """The members of a set, in the order in which they were added."""

    def copy(self) -> Set:
        return Set(self)


class Value(Protocol):
    """What a key refers to, unless it is a string."""

    def copy(self) -> Value:
        """Return an independent copy."""

    def __len__(self) -> int: ...


V = TypeVar("V", bound=Value | bytes)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A copy of all keys. It may be restored more than once."""

    values: dict[bytes, Value | bytes]
    expiries: dict[bytes, int]


def _copies(values: dict[bytes, Value | bytes]) -> dict[bytes, Value | bytes]:
    return {key: value if isinstance(value, bytes) else value.copy() for key, value in values.items()}


class Keyspace:
    """The keys of one database and when they expire.

    :param now: returns the time since the epoch in seconds.
    :param random: chooses random members.
    """

    def __init__(self, now: Callable[[], float], random: Random) -> None:
        self.now = now
        self.random = random
        self._values: dict[bytes, Value | bytes] = {}
        self._expiries: dict[bytes, int] = {}  # the time in milliseconds since the epoch

    def microseconds(self) -> int:
        """Return the time since the epoch in microseconds."""
        return round(self.now() * 1_000_000)

    def milliseconds(self) -> int:
        """Return the time since the epoch in milliseconds."""
        return self.microseconds() // 1000

    def value(self, key: bytes) -> Value | bytes | None:
        """Return the value of a key; None if there is none or it has expired."""
        if self._expiries and key in self._expiries and self._expiries[key] < self.milliseconds():
            self.remove(key)
        return self._values.get(key)

    def find(self, key: bytes, kind: type[V]) -> V | None:
        """Return the value of a key; None if there is none.

        :raises CommandError: if the value is of another kind.
        """
        value = self.value(key)
        if value is None:
            return None
        if type(value) is not kind:
            raise CommandError(WRONG_TYPE)
        return cast(V, value)

    def create(self, key: bytes, kind: type[V]) -> V:
        """Return the value of a key; a new empty one if there is none.

        :raises CommandError: if the value is of another kind.
        """
        value = self.find(key, kind)
        if value is None:
            value = self._values[key] = kind()
        return value

    def store(self, key: bytes, value: Value | bytes, expiry: int | None = None) -> None:
        """Replace the value of a key and its expiry."""
        self._values[key] = value
        if expiry is None:
            self._expiries.pop(key, None)
        else:
            self._expiries[key] = expiry

    def replace_string(self, key: bytes, value: bytes) -> None:
        """Replace the value of a key and keep its expiry."""
        self._values[key] = value

    def remove(self, key: bytes) -> bool:
        """Remove a key. Returns whether there was one."""
        self._expiries.pop(key, None)
        return self._values.pop(key, None) is not None

    def remove_empty(self, key: bytes, value: Value) -> None:
        """Remove a key whose value has become empty."""
        if not len(value):
            self.remove(key)

    def expiry(self, key: bytes) -> int | None:
        """Return when a key expires, in milliseconds since the epoch."""
        return self._expiries.get(key)

    def set_expiry(self, key: bytes, expiry: int | None) -> None:
        """Set when a key expires, or that it does not."""
        if expiry is None:
            self._expiries.pop(key, None)
        else:
            self._expiries[key] = expiry

    def all_keys(self) -> list[bytes]:
        """Return all keys that have not expired."""
        if self._expiries:
            for key in list(self._expiries):
                self.value(key)
        return list(self._values)

    def flushall(self) -> None:
        """Remove all keys."""
        self._values.clear()
        self._expiries.clear()

    def snapshot(self) -> Snapshot:
        """Return a copy of all keys."""
        return Snapshot(_copies(self._values), dict(self._expiries))

    def restore(self, snapshot: Snapshot) -> None:
        """Replace all keys by those of a snapshot."""
        self._values = _copies(snapshot.values)
        self._expiries = dict(snapshot.expiries)


# Patterns and cursors


def glob(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern of KEYS and SCAN: ``*``, ``?``, ``[a-c]``, ``[^a]`` and a backslash before any byte."""
    parts = []
    for token in re.findall(rb"\\.|\[\^?(?:\\.|[^\]])*\]?|\*|.", pattern, re.DOTALL):
        if token == b"*":
            parts.append(b".*")
        elif token == b"?":
            parts.append(b".")
        elif token[:1] == b"[" and len(token) > 1:
            negated = token[1:2] == b"^"
            content = token[1 + negated :].removesuffix(b"]")
            escaped = re.sub(rb"[\[\]^&~|\\](?!.)|[\[\]^&~|]", rb"\\\g<0>", content, flags=re.DOTALL)
            parts.append(b"[" + b"^" * negated + escaped + b"]" if content else b"." if negated else b"(?!)")
        else:
            parts.append(re.escape(token[-1:]))
    return re.compile(b"".join(parts), re.DOTALL)
