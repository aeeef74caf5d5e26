"""One connection to Redis (RESP2): commands are pipelined, and each answer is given to the callback of its command."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import hiredis
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.errors import NetsvcError
from netsvc.redis.connection_problems import connection_problem
from netsvc.wire.text import clean

#: Bytes of one incomplete reply after which the connection is aborted. Redis limits a string to 512 MiB.
REPLY_MAX = 64 * 1024 * 1024

#: Characters of the text of an error that are kept.
ERROR_MAX = 300

_CODE = re.compile(r"[A-Z][A-Z0-9_]*")

#: Packs a command and its arguments for :meth:`RedisProtocol.send`. The types of hiredis allow one argument only.
pack_command: Callable[[tuple[bytes | str | int, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]

#: Asks whether Redis works.
PING = pack_command((b"PING",))

#: What the reader returns if the next reply is incomplete.
_INCOMPLETE = object()


class RedisReplyError(NetsvcError):
    """Redis answered with an error. The command was executed up to this error.

    :ivar code: its first word, such as ``NOSCRIPT``; ``ERR`` if that is no word in capitals.
    """

    def __init__(self, text: str) -> None:
        text = clean(text[:ERROR_MAX])
        super().__init__(text)
        code = text.partition(" ")[0]
        self.code = code if _CODE.fullmatch(code) else "ERR"


class RedisConnectionLost(NetsvcError):  # noqa: N818  the connection was lost; Redis reported no error
    """There is no answer, because the connection was lost, or there was none.

    :ivar was_sent: whether the command was sent. If so, Redis may have executed it or not; if not, it has not.
    """

    def __init__(self, reason: str, *, was_sent: bool) -> None:
        super().__init__(reason)
        self.was_sent = was_sent


#: The answer to a command. Errors are values, also inside of lists; a lost connection is one only by itself.
Reply: TypeAlias = "bytes | int | list[Reply] | RedisReplyError | RedisConnectionLost | None"

#: Receives the answer to one command.
Answered: TypeAlias = Callable[[Reply], object]

#: Receives a message: its channel and its data.
Pushed: TypeAlias = Callable[[bytes, bytes], object]


class RedisProtocol(Protocol):
    """Sends commands and gives each answer to the callback of its command, in the order of the commands.

    A callback may send further commands. If it raises, that is logged, and the next ones are called all the same. When
    the connection is lost, each callback that waits is called with a :class:`RedisConnectionLost`, and then ``lost`` is
    called.

    In RESP2 a connection with subscriptions accepts no other commands but PING. So a connection is for either: with
    ``pushed`` it is for subscriptions, and a list that begins with ``message`` is a message. Messages for patterns are
    not supported.

    :param monotonic: returns the monotonic time in seconds.
    :param lost: called once with the reason when the connection was lost.
    :param pushed: called with each message, if the connection is for subscriptions.
    :param reply_max: bytes of one incomplete reply that are accepted.
    :ivar is_broken: whether Redis sent what is no reply. The connection was then aborted.
    :ivar last_sent: the monotonic time at which the last command was sent.
    """

    log = Logger()

    def __init__(
        self,
        monotonic: Callable[[], float],
        lost: Callable[[str], object],
        pushed: Pushed | None = None,
        *,
        reply_max: int = REPLY_MAX,
    ) -> None:
        self._monotonic = monotonic
        self._lost = lost
        self._pushed = pushed
        self._reply_max = reply_max
        self._reader = hiredis.Reader(replyError=RedisReplyError, notEnoughData=_INCOMPLETE)
        self._outstanding: deque[tuple[Answered | None, float]] = deque()
        self._incomplete = 0  # bytes of an incomplete reply
        self._reason = ""  # why the connection ends; empty while it does not
        self._is_lost = False
        self.is_broken = False
        self.last_sent = monotonic()

    @property
    def outstanding(self) -> int:
        """How many commands wait for their answers."""
        return len(self._outstanding)

    @property
    def oldest(self) -> float | None:
        """The monotonic time at which the oldest command without an answer was sent; None if there is none."""
        return self._outstanding[0][1] if self._outstanding else None

    @property
    def is_ending(self) -> bool:
        """Whether the connection is lost, or this side ends it. Commands are then not sent."""
        return bool(self._reason)

    def connectionMade(self) -> None:
        # A command need not wait until the one before is acknowledged. A UNIX socket has no such option.
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            with suppress(OSError):  # some systems refuse this for a socket that was reset meanwhile
                set_no_delay(True)

    def send(self, command: bytes, answered: Answered | None = None) -> None:
        """Send one command that has one answer.

        :param command: packed by :data:`pack_command`.
        """
        if self._reason:
            self._call(answered, RedisConnectionLost(self._reason, was_sent=False))
            return
        self.last_sent = now = self._monotonic()
        self._outstanding.append((answered, now))
        self.transport.write(command)  # type: ignore[union-attr]

    def close(self) -> None:
        """Close the connection once everything is written. Messages are ignored from now on."""
        if self._pushed is not None:
            self._pushed = _ignore
        if not self._reason:
            self._reason = "the connection was closed"
            self.transport.loseConnection()  # type: ignore[union-attr]

    def abort(self, reason: str) -> None:
        """Close the connection at once.

        :param reason: given to ``lost`` and to the callbacks that wait, unless there is a reason already.
        """
        self._reason = self._reason or reason
        if not self._is_lost:
            self.transport.abortConnection()  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        # Hot: a message costs 0.4 us in all, 0.25 of them in hiredis.
        if self.is_broken:
            return
        outstanding = self._outstanding
        gets = self._reader.gets
        self._reader.feed(data)
        received = 0
        while True:
            try:
                reply = gets()
            except Exception as e:  # hiredis raises ProtocolError, but also TypeError for some answers of RESP3
                self._break(str(e))
                return
            if reply is _INCOMPLETE:
                break
            received += 1
            if self._pushed is not None and type(reply) is list and len(reply) == 3 and reply[0] == b"message":
                try:
                    _, channel, message = reply
                    self._pushed(channel, message)
                except Exception:
                    self.log.failure("a user of the Redis connection failed")
                continue
            if not outstanding:
                if not self._is_lost:
                    self._break("an answer without a command")
                return
            answered, _ = outstanding.popleft()
            if answered is not None:
                try:
                    answered(reply)
                except Exception:
                    self.log.failure("a user of the Redis connection failed")
        self._incomplete = 0 if received else self._incomplete + len(data)
        if self._incomplete > self._reply_max:
            self._break("a reply is too long")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._reason = self._reason or connection_problem(reason)
        self._is_lost = True
        while self._outstanding:
            answered, _ = self._outstanding.popleft()
            self._call(answered, RedisConnectionLost(self._reason, was_sent=True))
        self._lost(self._reason)

    def _break(self, problem: str) -> None:
        self.is_broken = True
        self.abort(f"the answer of Redis is broken: {clean(problem)}")

    def _call(self, answered: Answered | None, reply: Reply) -> None:
        if answered is None:
            return
        try:
            answered(reply)
        except Exception:
            self.log.failure("a user of the Redis connection failed")


def _ignore(channel: bytes, data: bytes) -> None:
    """Do nothing with a message."""
