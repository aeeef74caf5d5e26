"""A client that keeps one connection to Redis and connects again after a loss."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.net.deadline import TOLERANCE, Deadline
from netsvc.net.reactors import Clock, monotonic_of
from netsvc.redis.connection_problems import connection_problem
from netsvc.redis.redis_address import RedisCredentials
from netsvc.redis.redis_login import RedisLogin, Refusal
from netsvc.redis.redis_protocol import (
    PING,
    Answered,
    Pushed,
    RedisConnectionLost,
    RedisProtocol,
    RedisReplyError,
    Reply,
    pack_command,
)
from netsvc.redis.redis_script import RedisScript

#: Seconds that an attempt may take, from its start until the login is answered.
ATTEMPT_TIMEOUT = 2.0

#: Seconds until the next attempt: the first, and the longest. Each failed attempt doubles it.
RETRY_FIRST = 0.05
RETRY_MAX = 0.25

#: The same after Redis has refused the login.
REFUSED_FIRST = 0.25
REFUSED_MAX = 1.0

#: The part of a delay that is random.
JITTER = 0.2

#: Seconds for which a connection must be up until the delays begin with the first one again.
STEADY = 1.0

#: Seconds without a command after which PING is sent.
PING_AFTER = 1.0

#: Seconds that an answer may take.
ANSWER_TIMEOUT = 5.0

#: Seconds that an overdue answer gets to be read. The process itself may have been stopped until then.
GRACE = 0.1

#: Seconds that the last commands may take to be written when the client stops.
CLOSE_TIMEOUT = 1.0


class _State(Enum):
    """How far the client is.

    :cvar STOPPED: it does nothing.
    :cvar WAITING: the next attempt is scheduled.
    :cvar CONNECTING: the endpoint connects.
    :cvar LOGGING_IN: there is a connection, and the answer to the login is not known yet.
    :cvar UP: commands are sent.
    :cvar STOPPING: the connection is being closed.
    """

    STOPPED = auto()
    WAITING = auto()
    CONNECTING = auto()
    LOGGING_IN = auto()
    UP = auto()
    STOPPING = auto()


class RedisClient:
    """Keeps one connection to Redis. After a loss it connects again, for as long as it is not stopped.

    Commands are pipelined. The callbacks of the commands are called in the order of the commands, each one exactly
    once: with the answer, or with a :class:`~netsvc.redis.redis_protocol.RedisConnectionLost` when the connection is
    lost. A command is never sent again. The client does not limit how many commands wait; see :attr:`outstanding`.

    ``up`` is called for each connection, once the login has succeeded. ``down`` is called once for each loss of such a
    connection, after the callbacks that waited, and when the first attempt fails. While further attempts fail, it is
    called again only if the reason is another one than before. So ``up`` follows each ``down`` sooner or later, several
    ``down`` may follow each other, and between two ``up`` there is at least one ``down``. Neither is called after
    :meth:`stop`.

    Exceptions of all these functions are logged.

    A client with ``pushed`` is for subscriptions only: in RESP2 a connection with subscriptions accepts no other
    commands. ``up`` must subscribe again.

    The user of Redis needs the right to PING.

    :param reactor: schedules the attempts.
    :param endpoint: where Redis is; see :func:`~netsvc.redis.redis_endpoint.redis_endpoint`.
    :param credentials: None if Redis requires none.
    :param database: the number of the database.
    :param up: called when commands can be sent.
    :param down: called with the reason, in words, when they cannot. It never contains a secret.
    :param pushed: called with the channel and the data of each message.
    :param answer_timeout: seconds that an answer may take. Then the connection is aborted.
    :param monotonic: returns the monotonic time in seconds; by default the one of the reactor.
    :param jitter: returns a random number from 0 to 1, for the delays between attempts.
    """

    log = Logger()

    def __init__(
        self,
        reactor: Clock,
        endpoint: IStreamClientEndpoint,
        credentials: RedisCredentials | None,
        database: int,
        *,
        up: Callable[[], object],
        down: Callable[[str], object],
        pushed: Pushed | None = None,
        answer_timeout: float = ANSWER_TIMEOUT,
        monotonic: Callable[[], float] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        self._credentials = credentials
        self._database = database
        self._up = up
        self._down = down
        self._pushed = pushed
        self._answer_timeout = answer_timeout
        self._monotonic = monotonic_of(reactor) if monotonic is None else monotonic
        self._jitter = jitter
        self._state = _State.STOPPED
        self._protocol: RedisProtocol | None = None
        self._attempt: Deferred[Any] | None = None
        self._deadline: Deadline | None = None  # the one thing that is scheduled in each state
        self._failures = 0  # in a row
        self._up_since = 0.0
        self._needs_help = False  # whether the current attempt fails until a person does something
        self._is_overdue = False  # whether an answer was overdue at the last check
        self._reported = ""  # the last reason that ``down`` was called with
        self._stopped: list[Deferred[None]] = []

    @property
    def is_up(self) -> bool:
        """Whether commands are sent."""
        return self._state is _State.UP and self._protocol is not None and not self._protocol.is_ending

    @property
    def outstanding(self) -> int:
        """How many commands wait for their answers."""
        return 0 if self._protocol is None else self._protocol.outstanding

    def start(self) -> None:
        """Connect. A client that was stopped can be started again, once it is closed."""
        if self._state is _State.STOPPED:
            self._reported = ""
            self._failures = 0
            self._connect()

    def stop(self) -> Deferred[None]:
        """Close the connection and do not connect again. Callbacks that wait are called, and ``down`` is not.

        :return: fires when the connection is closed.
        """
        if self._state is _State.STOPPED:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        if self._state is _State.STOPPING:
            return stopped
        self._state = _State.STOPPING
        self._cancel_deadline()
        if self._protocol is not None:
            self._schedule(CLOSE_TIMEOUT, partial(self._protocol.abort, "the connection was closed"))
            self._protocol.close()
        elif self._attempt is not None:
            self._attempt.cancel()
        else:
            self._closed()
        return stopped

    def send(self, arguments: tuple[bytes | str | int, ...], answered: Answered | None = None) -> None:
        """Send a command that has one answer. If there is no connection, ``answered`` is called at once."""
        self.send_packed(pack_command(arguments), answered)

    def send_packed(self, command: bytes, answered: Answered | None = None) -> None:
        """Send a command that :data:`~netsvc.redis.redis_protocol.pack_command` has packed. See :meth:`send`."""
        if self._state is _State.UP:
            self._protocol.send(command, answered)  # type: ignore[union-attr]  # there is one in this state
        elif answered is not None:
            self._call(answered, RedisConnectionLost("there is no connection to Redis", was_sent=False))

    def request(self, *arguments: bytes | str | int) -> Deferred[Reply]:
        """Send a command and return its answer. For what is not frequent: it costs more than :meth:`send`.

        :return: fails with ``RedisReplyError`` or ``RedisConnectionLost``.
        """
        answer: Deferred[Reply] = Deferred()
        self.send(arguments, lambda reply: _fire(answer, reply))
        return answer

    def subscribe(self, channels: Sequence[bytes], answered: Answered | None = None) -> None:
        """Subscribe to channels. ``answered`` is called once for each, with ``[b"subscribe", channel, count]``."""
        for channel in channels:
            self.send((b"SUBSCRIBE", channel), answered)

    def unsubscribe(self, channels: Sequence[bytes], answered: Answered | None = None) -> None:
        """End subscriptions. ``answered`` is called once for each, with ``[b"unsubscribe", channel, count]``."""
        for channel in channels:
            self.send((b"UNSUBSCRIBE", channel), answered)

    def evaluate(
        self,
        script: RedisScript,
        keys: Sequence[bytes | str],
        arguments: Sequence[bytes | str | int],
        answered: Answered | None = None,
    ) -> None:
        """Run a script.

        A Redis that does not know the script, because it was restarted or its scripts were flushed, answers with the
        code ``NOSCRIPT``. The client does not send the script then: commands that were sent meanwhile would be executed
        before it. The caller loads the script when the client is up, and decides what to do with such an answer.
        """
        self.send((b"EVALSHA", script.digest, len(keys), *keys, *arguments), answered)

    def load(self, script: RedisScript) -> Deferred[None]:
        """Make a script known to Redis. What is sent afterwards finds it; there is no need to wait.

        :return: fails with ``RedisReplyError`` or ``RedisConnectionLost``.
        """
        return self.request(b"SCRIPT", b"LOAD", script.text).addCallback(lambda _: None)

    # Attempts

    def _connect(self) -> None:
        self._state = _State.CONNECTING
        self._needs_help = False
        self._schedule(ATTEMPT_TIMEOUT, self._attempt_took_too_long)
        factory: Factory[RedisProtocol] = Factory.forProtocol(self._new_protocol)
        factory.noisy = False
        attempt: Deferred[Any] = self._endpoint.connect(factory)
        self._attempt = attempt
        attempt.addCallbacks(self._log_in, self._not_connected)
        attempt.addErrback(lambda failure: self.log.failure("the Redis client failed", failure))

    def _new_protocol(self) -> RedisProtocol:
        protocol = RedisProtocol(self._monotonic, lambda reason: self._lost(protocol, reason), self._pushed)
        return protocol

    def _attempt_took_too_long(self) -> None:
        if self._protocol is not None:
            self._protocol.abort(f"no answer to the login within {ATTEMPT_TIMEOUT:g} s")
        elif self._attempt is not None:
            self._attempt.cancel()

    def _not_connected(self, failure: Failure) -> None:
        self._attempt = None
        if self._state is _State.STOPPING:
            self._closed()
        elif failure.check(CancelledError, ConnectingCancelledError):
            self._attempt_failed(f"no connection within {ATTEMPT_TIMEOUT:g} s")
        else:
            self._attempt_failed(connection_problem(failure))

    def _log_in(self, protocol: RedisProtocol) -> None:
        self._attempt = None
        self._protocol = protocol
        self._state = _State.LOGGING_IN
        RedisLogin(self._credentials, self._database, self._login_answered).begin(protocol)

    def _login_answered(self, refusal: Refusal | None) -> None:
        if self._state is not _State.LOGGING_IN or self._protocol is None:
            return
        if refusal is not None:
            self._needs_help = not refusal.is_temporary
            self._protocol.abort(refusal.reason)
            return
        self._state = _State.UP
        self._is_overdue = False
        self._up_since = self._monotonic()
        self._schedule(min(PING_AFTER, self._answer_timeout), self._check)
        self._call(self._up)

    def _lost(self, protocol: RedisProtocol, reason: str) -> None:
        if protocol is not self._protocol:
            return
        self._protocol = None
        if self._state is _State.STOPPING:
            self._closed()
            return
        self._needs_help = self._needs_help or protocol.is_broken
        if self._state is _State.UP:
            self._reported = ""
            if self._monotonic() - self._up_since >= STEADY:
                self._failures = 0
        self._attempt_failed(reason)

    def _attempt_failed(self, reason: str) -> None:
        """Schedule the next attempt, and report why it is needed unless that is known."""
        first, longest = (REFUSED_FIRST, REFUSED_MAX) if self._needs_help else (RETRY_FIRST, RETRY_MAX)
        delay = min(longest, first * 2 ** min(self._failures, 10))
        self._failures += 1
        self._state = _State.WAITING
        self._schedule(delay * (1 - JITTER * self._jitter()), self._connect)
        if reason != self._reported:
            self._reported = reason
            if self._needs_help:
                self.log.error("{reason}", reason=reason)
            self._call(self._down, reason)

    def _closed(self) -> None:
        self._cancel_deadline()
        self._state = _State.STOPPED
        stopped, self._stopped = self._stopped, []
        for each in stopped:
            each.callback(None)

    # Liveness

    def _check(self) -> None:
        """Abort the connection if an answer is overdue, and send PING if there was no command for a while."""
        protocol = self._protocol
        if protocol is None:
            return
        now = self._monotonic()
        if protocol.oldest is not None and now - protocol.oldest >= self._answer_timeout:
            if self._is_overdue:
                protocol.abort("Redis does not answer")
                return
            self._is_overdue = True
            self._schedule(GRACE, self._check)
            return
        self._is_overdue = False
        if now - protocol.last_sent >= PING_AFTER:
            protocol.send(PING)
        due = protocol.last_sent + PING_AFTER
        if protocol.oldest is not None:
            due = min(due, protocol.oldest + self._answer_timeout)
        self._schedule(max(TOLERANCE, min(due - now, self._answer_timeout)), self._check)

    def _schedule(self, seconds: float, function: Callable[[], object]) -> None:
        self._cancel_deadline()
        self._deadline = Deadline(self._reactor, self._monotonic, seconds, function)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        try:
            function(*arguments)
        except Exception:
            self.log.failure("a user of the Redis client failed")


def _fire(answer: Deferred[Reply], reply: Reply) -> None:
    if isinstance(reply, RedisReplyError | RedisConnectionLost):
        answer.errback(reply)
    else:
        answer.callback(reply)
