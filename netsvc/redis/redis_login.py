"""The first commands of a connection: they log in, select the database, and ask whether Redis works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from netsvc.redis.redis_address import RedisCredentials
from netsvc.redis.redis_protocol import PING, RedisConnectionLost, RedisProtocol, RedisReplyError, Reply, pack_command

#: Errors that go away by themselves.
_TEMPORARY = {
    "LOADING": "Redis is loading its data",
    "MASTERDOWN": "this replica of Redis is not connected to its master",
    "BUSY": "Redis is busy with a script",
}

_AUTH_PROBLEMS = {
    "WRONGPASS": "the user or the password is wrong",
    "NOAUTH": "the user or the password is missing",
    "NOPERM": "the user does not have the right",
    "ERR": "it requires no password, or it does not know users",
}

#: Redis answers PING so while it cannot write to its disk. It can still read.
_USABLE = ("MISCONF",)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why Redis cannot be used.

    :ivar reason: in words, without a secret.
    :ivar is_temporary: whether it goes away by itself.
    """

    reason: str
    is_temporary: bool


class RedisLogin:
    """Logs in on a connection. All commands are sent at once, so it takes one round trip.

    :param credentials: None if Redis requires none.
    :param database: the number of the database.
    :param done: called with None, or with the first reason why it failed; not if the connection is lost before.
    """

    def __init__(
        self, credentials: RedisCredentials | None, database: int, done: Callable[[Refusal | None], object]
    ) -> None:
        self._credentials = credentials
        self._database = database
        self._done = done
        self._refusal: Refusal | None = None

    def begin(self, protocol: RedisProtocol) -> None:
        """Send the commands."""
        if self._credentials is not None:
            user = (self._credentials.username,) if self._credentials.username else ()
            protocol.send(pack_command((b"AUTH", *user, self._credentials.password)), self._authenticated)
        if self._database:
            protocol.send(pack_command((b"SELECT", self._database)), self._selected)
        protocol.send(PING, self._answered)

    def _authenticated(self, reply: Reply) -> None:
        if isinstance(reply, RedisReplyError):
            # The text of the error is not shown: a server that does not know AUTH repeats the password in it.
            problem = _AUTH_PROBLEMS.get(reply.code, "the reason is unknown")
            self._refuse(f"Redis refuses the login ({reply.code}): {problem}", reply.code)

    def _selected(self, reply: Reply) -> None:
        if isinstance(reply, RedisReplyError):
            self._refuse(f"Redis refuses the database {self._database} ({reply})", reply.code)

    def _answered(self, reply: Reply) -> None:
        if isinstance(reply, RedisConnectionLost):
            return
        if isinstance(reply, RedisReplyError):
            if reply.code not in _USABLE:
                self._refuse(f"Redis refuses PING ({reply})", reply.code)
        elif reply != b"PONG":
            self._refuse("the server does not answer PING as Redis does")
        self._done(self._refusal)

    def _refuse(self, problem: str, code: str = "") -> None:
        """Keep the first reason. The others follow from it."""
        if self._refusal is None:
            self._refusal = Refusal(_TEMPORARY.get(code, problem), code in _TEMPORARY)
