"""This process as one node of a chat on Redis: its connections, its lease, and its requests.

A node has a *lease*, which it renews each second. A node whose lease has ended is dead for the others: they remove its
members. It may only be suspended, or cut off from Redis. So the scripts that append refuse a node without a lease, and
such a node begins anew, as another node, before it goes on.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.chat.redis_node_scripts import RENEW
from netsvc.chat.store import StoreError
from netsvc.net.deadline import Deadline
from netsvc.net.reactors import Clock
from netsvc.redis.redis_address import RedisCredentials
from netsvc.redis.redis_client import RedisClient
from netsvc.redis.redis_protocol import Answered, RedisConnectionLost, RedisReplyError, Reply
from netsvc.redis.redis_script import RedisScript

T = TypeVar("T")

#: Seconds of a lease, and between two renewals.
LEASE = 6.0
RENEW_EVERY = 1.0

#: Seconds between two renewals that succeed, above which the node does not know what it has missed.
GAP = 3.0

#: Seconds that a request may take, and until the next attempt after Redis has refused one for now.
REQUEST_TIMEOUT = 5.0
RETRY_AFTER = 0.1

#: The oldest major version of Redis and Valkey that has what the scripts use.
VERSION_MIN = 7

#: The leases of all nodes, and the nodes that others have found dead.
LEASES = b"netsvc:nodes"
DEAD = b"netsvc:dead"

#: The arguments of a script.
Arguments: TypeAlias = "Sequence[bytes | str | int]"

#: Errors after which the same may succeed: Redis starts, is busy, changes its role, or does not know a script.
TEMPORARY = frozenset({"BUSY", "COUNTER", "LEASE", "LOADING", "MASTERDOWN", "NOSCRIPT", "READONLY", "TRYAGAIN"})

#: Why a node refuses what it was asked to do under its id before.
CUT_OFF = "this server was cut off from Redis"

_CLUSTER = "this is a Redis Cluster, which netsvc cannot use"
_REASONS = {
    "CLUSTERDOWN": _CLUSTER,
    "CROSSSLOT": _CLUSTER,
    "MOVED": _CLUSTER,
    "BUSY": "Redis is busy with a script",
    "LEASE": CUT_OFF,
    "LOADING": "Redis is loading its data",
    "MASTERDOWN": "this replica of Redis is not connected to its master",
    "MISCONF": "Redis cannot write to its disk",
    "NOPERM": "the user of Redis has not the right",
    "NOREPLICAS": "too few replicas of Redis are connected",
    "OOM": "Redis has no memory left",
    "READONLY": "this Redis is a replica, which is read only",
}


def new_node_id() -> str:
    """Return an id that no other node has."""
    return secrets.token_hex(6)


#: Makes a client of Redis: of the function that is called when it is up, of the one that is called with the reason when
#: it is down, and of the one that is called with each message; without that it is for commands.
NewClient = Callable[
    [Callable[[], object], Callable[[str], object], Callable[[bytes, bytes], object] | None], RedisClient
]


def client_maker(
    reactor: Clock, endpoint: IStreamClientEndpoint, credentials: RedisCredentials | None = None, database: int = 0
) -> NewClient:
    """Return what makes the clients of a node.

    :param endpoint: where Redis is.
    """

    def new_client(
        up: Callable[[], object], down: Callable[[str], object], pushed: Callable[[bytes, bytes], object] | None
    ) -> RedisClient:
        return RedisClient(reactor, endpoint, credentials, database, up=up, down=down, pushed=pushed)

    return new_client


class NodeUser(Protocol):
    """A part of the chat that uses the node."""

    def connected(self, *, is_new: bool) -> None:
        """Commands can be sent, and it is unknown what became of those before.

        :param is_new: whether this is another node now: what it had claimed under its id before is no longer its own.
        """

    def disconnected(self) -> None:
        """Commands cannot be sent."""

    def resubscribed(self) -> None:
        """Messages may have been missed. All subscriptions are in effect again."""

    def nodes_died(self, nodes: Sequence[str]) -> None:
        """The leases of other nodes have ended."""


class RedisNode:
    """This process as one node of a chat.

    :param clock: schedules the renewals.
    :param monotonic: returns the monotonic time in seconds.
    :param new_client: makes a client of Redis.
    :param scripts: those that are used.
    :param name: of the Redis, for the log.
    :param new_id: returns another id at each call. An id must never be used twice, by whichever process.
    :ivar id: identifies the node. It changes when the lease is lost.
    :ivar alive: how many nodes had a lease at the last renewal, this one included; 0 if it is unknown.
    """

    log = Logger()

    def __init__(
        self,
        clock: Clock,
        monotonic: Callable[[], float],
        new_client: NewClient,
        scripts: Sequence[RedisScript],
        *,
        name: str = "Redis",
        new_id: Callable[[], str] = new_node_id,
    ) -> None:
        self._clock = clock
        self.monotonic = monotonic
        self._scripts = (RENEW, *scripts)
        self._name = name
        self._new_id = new_id
        self.id = new_id()
        self.alive = 0
        self._has_connected = False
        self._commands = new_client(self._up, self._down, None)
        self._messages = new_client(self._messages_up, self._messages_down, self._message)
        self._users: list[NodeUser] = []
        self._warned: set[str] = set()
        self._has_begun = False  # whether this id has had a lease
        self._is_renewing = False
        self._lease_until = 0.0
        self._renewed_at = -math.inf
        self._steady_since = 0.0
        self._reason = "Redis is not connected yet"
        self._timer: Deadline | None = None
        self._waiting: dict[Deferred[None], None] = {}
        self._received: dict[bytes, Callable[[bytes], object]] = {}
        self._subscribing: dict[bytes, list[Deferred[None]]] = {}

    @property
    def is_serving(self) -> bool:
        """Whether commands can be sent."""
        return self._has_connected and self._commands.is_up

    @property
    def has_lease(self) -> bool:
        """Whether the lease has not ended, by the clock of this process."""
        return self._has_begun and self.monotonic() < self._lease_until

    @property
    def reason(self) -> str:
        """Why there is no answer."""
        return "Redis does not answer" if self.is_serving else self._reason

    def open(self, user: NodeUser) -> None:
        """Begin, unless the node has begun."""
        self._users.append(user)
        if len(self._users) == 1:
            self._commands.start()
            self._messages.start()
            self._schedule()

    def close(self, user: NodeUser) -> Deferred[None]:
        """End, if this is the last user. Fires when what was sent is written and the connections are closed."""
        self._users.remove(user)
        if self._users:
            closed: Deferred[None] = Deferred()
            closed.callback(None)
            return closed
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.is_serving:
            self._commands.send((b"ZADD", LEASES, 0, self.id))  # the others need not wait for its end
        self._stop_serving("the store is closed")
        for waiting in list(self._waiting):
            waiting.errback(StoreError("the store is closed"))
        self._received.clear()
        return self._commands.stop().addCallback(lambda _: self._messages.stop())

    # Commands

    def evaluate(self, script: RedisScript, keys: Sequence[bytes], arguments: Arguments, answered: Answered) -> None:
        """Run a script once. It is for a node that is serving: if not, ``answered`` is told that it was not sent."""
        self._commands.evaluate(script, keys, arguments, answered)

    async def request(
        self, script: RedisScript, keys: Sequence[bytes], arguments: Arguments | Callable[[], Arguments]
    ) -> Reply:
        """Run a script that may be run again, until there is an answer.

        :param arguments: or a function that returns them for each attempt.
        :raises StoreError: if there is none within 5 s, or Redis refuses it.
        """
        deadline = self.monotonic() + REQUEST_TIMEOUT
        while True:
            reply = await self._attempt(script, keys, arguments, deadline)
            if isinstance(reply, RedisReplyError):
                self.repair(reply)
                if reply.code not in TEMPORARY or reply.code == "LEASE":
                    raise StoreError(redis_reason(reply))
                await self._pause_until_retry(deadline, redis_reason(reply))
            elif not isinstance(reply, RedisConnectionLost):
                return reply

    async def request_once(self, script: RedisScript, keys: Sequence[bytes], arguments: Arguments) -> Reply:
        """Run a script that must not be run twice.

        :raises StoreError: if there is no answer within 5 s, or Redis refuses it.
        """
        reply = await self._attempt(script, keys, arguments, self.monotonic() + REQUEST_TIMEOUT)
        if isinstance(reply, RedisReplyError):
            self.repair(reply)
            raise StoreError(redis_reason(reply))
        if isinstance(reply, RedisConnectionLost):
            raise StoreError("the connection to Redis was lost")
        return reply

    async def _attempt(
        self,
        script: RedisScript,
        keys: Sequence[bytes],
        arguments: Arguments | Callable[[], Arguments],
        deadline: float,
    ) -> Reply:
        """Run a script once the node is serving. Return its answer, which may be an error."""
        await self._until_serving(deadline)
        answer: Deferred[Reply] = Deferred()
        self.evaluate(script, keys, arguments() if callable(arguments) else arguments, answer.callback)
        return await self._within(answer, deadline)

    def repair(self, error: RedisReplyError) -> None:
        """Do what helps against an error of a script."""
        if error.code == "NOSCRIPT":
            self._load_scripts()
        elif error.code == "LEASE":
            self._renew()

    # Messages

    def subscribe(self, channel: bytes, received: Callable[[bytes], object]) -> Deferred[None]:
        """Call ``received`` with each message of a channel. Fires when the subscription is in effect.

        It fails with :class:`StoreError` if that takes longer than 5 s. Then the subscription may still come.
        """
        self._received[channel] = received
        subscribed: Deferred[None] = Deferred()
        self._subscribing.setdefault(channel, []).append(subscribed)
        if self._messages.is_up:
            self._messages.subscribe([channel], partial(self._subscribed, channel))
        deadline = self.monotonic() + REQUEST_TIMEOUT
        return Deferred.fromCoroutine(self._within(subscribed, deadline))

    def unsubscribe(self, channel: bytes) -> None:
        """End a subscription."""
        self._received.pop(channel, None)
        self._subscribing.pop(channel, None)
        if self._messages.is_up:
            self._messages.unsubscribe([channel])

    def _messages_up(self) -> None:
        channels = list(self._received)
        if channels:
            for channel in channels[:-1]:
                self._messages.subscribe([channel], partial(self._subscribed, channel))
            self._messages.subscribe(channels[-1:], self._all_subscribed)

    def _messages_down(self, reason: str) -> None:
        """The client connects again by itself."""

    def _subscribed(self, channel: bytes, reply: Reply) -> None:
        if isinstance(reply, list):
            for each in self._subscribing.pop(channel, []):
                each.callback(None)

    def _all_subscribed(self, reply: Reply) -> None:
        if isinstance(reply, list) and isinstance(reply[1], bytes):
            self._subscribed(reply[1], reply)
            for user in list(self._users):
                user.resubscribed()

    def _message(self, channel: bytes, data: bytes) -> None:
        received = self._received.get(channel)
        if received is not None:
            received(data)

    # The lease

    def _up(self) -> None:
        self._load_scripts()
        self._commands.send((b"INFO",), self._check_server)
        self._is_renewing = False
        self._renewed_at = -math.inf  # the data may be older, and with them the leases of other nodes
        self._renew()

    def _down(self, reason: str) -> None:
        self.log.warn("{name}: {reason}; netsvc connects again", name=self._name, reason=reason)
        self._stop_serving(reason if reason.startswith("Redis") else f"Redis cannot be reached ({reason})")

    def _stop_serving(self, reason: str) -> None:
        self._reason = reason
        self.alive = 0
        if self._has_connected:
            self._has_connected = False
            for user in list(self._users):
                user.disconnected()

    def _load_scripts(self) -> None:
        for script in self._scripts:
            self._commands.load(script).addErrback(self._not_loaded)

    def _not_loaded(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, RedisReplyError) and error.code not in TEMPORARY:
            self.log.error("Redis refuses a script of the chat: {reason}", reason=str(error))

    def _schedule(self) -> None:
        self._timer = Deadline(self._clock, self.monotonic, RENEW_EVERY, self._tick)

    def _tick(self) -> None:
        self._schedule()
        self._renew()

    def _renew(self) -> None:
        if not self._commands.is_up or self._is_renewing or not self._users:
            return
        if self._has_connected and not self.has_lease:
            # By its own clock the lease has ended: it was suspended, or cut off. Others may have removed its members.
            self._stop_serving(CUT_OFF)
        self._is_renewing = True
        arguments = (self.id, int(LEASE * 1_000))
        self.evaluate(RENEW, (LEASES, DEAD), arguments, partial(self._renewed, self.monotonic()))

    def _renewed(self, sent_at: float, reply: Reply) -> None:
        self._is_renewing = False
        if isinstance(reply, RedisConnectionLost):
            return
        if isinstance(reply, RedisReplyError):
            self._refused(reply)
            return
        assert isinstance(reply, list)
        has_lease, had_lease, expired, alive = reply
        assert isinstance(alive, int)
        if not has_lease:
            self._stop_serving(CUT_OFF)
            self.id = self._new_id()
            self._has_begun = False
            self._renew()
            return
        now = self.monotonic()
        if now - self._renewed_at > GAP:
            self._steady_since = now
        self._renewed_at = now
        self._lease_until = sent_at + LEASE
        self.alive = alive
        is_new, self._has_begun = not self._has_begun, True
        if not self._has_connected:
            self._has_connected = True
            self.log.info("{name}: connected, as node {id}", name=self._name, id=self.id)
            for user in list(self._users):
                user.connected(is_new=is_new)
            waiting, self._waiting = self._waiting, {}
            for each in waiting:
                each.callback(None)
        elif not had_lease:
            self.log.warn("{name}: it has lost its data", name=self._name)
            self._steady_since = now  # the other nodes have no leases yet
            for user in list(self._users):
                user.connected(is_new=False)
        if expired and now - self._steady_since >= LEASE:
            # Before that, the other nodes may only not have renewed yet: Redis was away.
            nodes = [node.decode() for node in expired if isinstance(node, bytes) and node.decode() != self.id]  # type: ignore[union-attr]
            for user in list(self._users):
                user.nodes_died(nodes)

    def _refused(self, error: RedisReplyError) -> None:
        """The lease was not renewed."""
        reason, was_serving = redis_reason(error), self._has_connected
        if error.code == "NOSCRIPT":
            self._load_scripts()
        elif reason != self._reason:
            self.log.error("{name}: {reason}", name=self._name, reason=reason)
        self._stop_serving(reason)
        if error.code == "NOSCRIPT" and was_serving:
            self._renew()  # at once, but only once

    def _check_server(self, reply: Reply) -> None:
        """Warn of what the operator may not know."""
        if not isinstance(reply, bytes):
            return
        facts = dict(line.split(":", 1) for line in reply.decode("utf-8", "replace").splitlines() if ":" in line)
        version = facts.get("valkey_version") or facts.get("redis_version", "")
        warnings = []
        if version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) < VERSION_MIN:
            warnings.append(f"version {version} is too old; netsvc needs {VERSION_MIN} or later")
        if facts.get("aof_enabled") == "0":
            warnings.append(
                "it keeps no append-only file; it loses what was said since its last snapshot when it stops"
            )
        if facts.get("maxmemory_policy", "noeviction") != "noeviction":
            warnings.append(f"it may remove the chat when its memory is full ({facts['maxmemory_policy']})")
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                self.log.warn("{name}: {warning}", name=self._name, warning=warning)

    # Waiting

    async def _until_serving(self, deadline: float) -> None:
        while not self.is_serving:
            serving: Deferred[None] = Deferred()
            self._waiting[serving] = None
            try:
                await self._within(serving, deadline)
            finally:
                self._waiting.pop(serving, None)

    def pause(self, seconds: float) -> Deferred[None]:
        """Fire after some seconds."""
        paused: Deferred[None] = Deferred()
        Deadline(self._clock, self.monotonic, seconds, partial(paused.callback, None))
        return paused

    async def _pause_until_retry(self, deadline: float, reason: str) -> None:
        if self.monotonic() + RETRY_AFTER >= deadline:
            raise StoreError(reason)
        await self.pause(RETRY_AFTER)

    async def _within(self, awaited: Deferred[T], deadline: float) -> T:
        """Wait until a time.

        :raises StoreError: if it takes longer.
        """
        answer: Deferred[T] = Deferred()
        left = max(0.0, deadline - self.monotonic())
        timer = Deadline(self._clock, self.monotonic, left, partial(self._too_late, answer))
        awaited.addCallbacks(partial(_pass, answer.callback, answer), partial(_pass, answer.errback, answer))
        try:
            return await answer
        finally:
            timer.cancel()

    def _too_late(self, answer: Deferred[Any]) -> None:
        answer.errback(StoreError(self.reason))


def redis_reason(error: RedisReplyError) -> str:
    """Return an error in words for people."""
    return _REASONS.get(error.code) or f"Redis refuses ({error.code})"


def _pass(function: Callable[..., object], answer: Deferred[Any], result: object) -> None:
    if not answer.called:
        function(result)
