"""A directory in Redis, which several nodes share.

A node keeps in mind which members it has. After each loss of the connection it registers them again, and removes those
that are registered and have left. If its lease was lost meanwhile, others may have got their nicks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from netsvc.chat.chat_events import Whispered
from netsvc.chat.chat_limits import HISTORY_AGE, HISTORY_MAX
from netsvc.chat.directory import Adopted, LocalMembers, OpenRoomList, Recipient, RoomMembers
from netsvc.chat.names import ASCII_NAMES, Names
from netsvc.chat.redis_directory_scripts import (
    ADOPT,
    CLAIM,
    COUNT_GUEST,
    JOIN,
    LEAVE,
    MEMBERS,
    PART,
    REAP,
    REGISTER,
    REGISTERED,
    ROOM_NAME,
    ROOM_NAME_MS,
    ROOMS,
    SET_AWAY,
    WHISPER,
)
from netsvc.chat.redis_node import DEAD, LEASES, RedisNode
from netsvc.chat.store import StoreError
from netsvc.net.deadline import Deadline
from netsvc.net.reactors import Clock
from netsvc.redis.redis_protocol import RedisReplyError, Reply
from netsvc.redis.redis_script import RedisScript

#: Members that are registered at the same time when the node is connected again.
REGISTERED_AT_ONCE = 100

#: Seconds between two renewals of the names of rooms.
RENEW_NAMES_EVERY = ROOM_NAME_MS / 3_000


@dataclass(slots=True)
class _Registration:
    """The registration of a member of this node.

    :ivar rooms: whether each was told that the member is there.
    """

    nick: str
    away: str = ""
    rooms: dict[str, bool] = field(default_factory=dict)


class RedisDirectory:
    """Knows the members of all nodes.

    :param node: this process as a node.
    :param clock: schedules the renewals.
    :param wall: returns the seconds since the epoch of UNIX.
    :param names: the rules for names, which are the same on all nodes.
    :param entries_max: see :class:`~netsvc.chat.redis_store.RedisStore`.
    :param age_max: the same.
    """

    is_shared = True

    log = Logger()

    def __init__(
        self,
        node: RedisNode,
        clock: Clock,
        wall: Callable[[], float],
        names: Names = ASCII_NAMES,
        *,
        entries_max: int = HISTORY_MAX,
        age_max: float = HISTORY_AGE,
    ) -> None:
        self._node = node
        self._clock = clock
        self._wall = wall
        self._names = names
        self._entries_max = entries_max
        self._age_max = age_max
        self._registered: dict[str, _Registration] = {}
        self._adopting: Counter[str] = Counter()  # authors for whom the answer to an adoption is to come
        self._taken: set[str] = set()  # those of them that another node has taken meanwhile
        self._members: LocalMembers | None = None
        self._channel = b""
        self._is_registering = False
        self._registers_again = False
        self._is_new = False
        self._is_incomplete = False
        self._reaping: set[str] = set()
        self._timer: Deadline | None = None

    # Used by the hub

    def open(self, members: LocalMembers) -> None:
        self._members = members
        self._node.open(self)
        self._schedule()

    def close(self) -> Deferred[None]:
        self._members = None
        self._registered.clear()
        self._channel = b""  # the node ends all subscriptions
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return self._node.close(self)

    def enter(self, author: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self._enter(author))

    def claim(self, author: str, nick: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self._claim(author, nick))

    def adopt(self, author: str, nick: str, rooms: Collection[str], before: str) -> Deferred[Adopted]:
        return Deferred.fromCoroutine(self._adopt(author, nick, rooms, before))

    def leave(self, author: str, keep: float = 0.0) -> None:
        self._registered.pop(author, None)
        self._send(LEAVE, self._node.id, author, int(keep * 1_000))

    def set_away(self, author: str, text: str) -> None:
        registration = self._registered.get(author)
        if registration is not None:
            registration.away = text
            self._send(SET_AWAY, self._node.id, author, text)

    def join(self, author: str, room: str, *, is_announced: bool) -> None:
        registration = self._registered.get(author)
        if registration is not None and registration.rooms.get(room) is not is_announced:
            registration.rooms[room] = is_announced
            self._send(JOIN, self._node.id, author, room, int(is_announced))

    def part(self, author: str, room: str) -> None:
        registration = self._registered.get(author)
        if registration is not None and registration.rooms.pop(room, None) is not None:
            self._send(PART, self._node.id, author, room)

    def whisper(self, sender: str, whispered: Whispered) -> Deferred[Recipient | None]:
        return Deferred.fromCoroutine(self._whisper(sender, whispered))

    def members(self, room: str, limit: int) -> Deferred[RoomMembers]:
        return Deferred.fromCoroutine(self._list_members(room, limit))

    def rooms(self, limit: int) -> Deferred[OpenRoomList]:
        return Deferred.fromCoroutine(self._list_rooms(limit))

    def room_name(self, name: str) -> Deferred[str]:
        return Deferred.fromCoroutine(self._room_name(name))

    # Called by the node

    def connected(self, *, is_new: bool) -> None:
        self._is_new = self._is_new or is_new
        self._register_all()

    def disconnected(self) -> None:
        """All are registered again after the next connection."""

    def resubscribed(self) -> None:
        self._register_all()  # a message that another node has taken a member may have been missed

    def nodes_died(self, nodes: Sequence[str]) -> None:
        for node in nodes:
            if node not in self._reaping:
                self._reaping.add(node)
                self._start(self._reap(node))

    # Requests

    async def _enter(self, author: str) -> str:
        while True:
            nick = await self._guest_nick()
            registration = self._registered[author] = _Registration(nick)
            got = _registered_nick(await self._register(author), nick)
            if author not in self._registered:  # it has left meanwhile
                return nick
            if got:
                registration.nick = got
                return got

    async def _guest_nick(self) -> str:
        number = await self._node.request(COUNT_GUEST, (), ())
        assert isinstance(number, int)
        return f"guest-{number}"

    async def _claim(self, author: str, nick: str) -> str:
        arguments = (self._node.id, author, nick, self._keys(nick))
        while True:
            answer = _text(await self._node.request(CLAIM, (), arguments))
            registration = self._registered.get(author)
            if answer != "missing" or registration is None:
                break
            answer = await self._register_with(author, registration, nick)
            got = _registered_nick(answer, nick)
            if got == nick:
                return ""
            if not got:
                break
            # It was registered meanwhile with the nick that it had.
        if answer != "claimed":
            return _problem(answer, nick)
        if registration is not None:
            registration.nick = nick
        return ""

    async def _adopt(self, author: str, nick: str, rooms: Collection[str], before: str) -> Adopted:
        earlier = self._registered.get(before)
        present = earlier.nick if earlier is not None else nick
        arguments: tuple[str | int, ...] = (
            *(self._node.id, author, nick, self._keys(nick), before, present, self._keys(present)),
            *self._bounds(),
            *rooms,
        )
        self._adopting[author] += 1
        try:
            reply = await self._node.request(ADOPT, (), arguments)
        except StoreError:
            self._taken.discard(author)
            raise
        finally:
            self._adopting -= Counter([author])
        assert isinstance(reply, list)
        got, away, stayed = reply
        assert isinstance(stayed, list)
        self._registered.pop(before, None)
        own = self._registered.get(author)
        self._registered[author] = _Registration(_text(got), _text(away), {} if own is None else own.rooms)
        if author in self._taken:
            self._taken.discard(author)
            self._start(self._check_taken(author))
        return Adopted(_text(got), _text(away), frozenset(map(_text, stayed)))

    async def _whisper(self, sender: str, whispered: Whispered) -> Recipient | None:
        arguments = (sender, whispered.sender, whispered.text, self._keys(whispered.recipient))
        reply = await self._node.request_once(WHISPER, (), arguments)
        if not isinstance(reply, list):
            return None
        nick, away = reply
        return Recipient(_text(nick), _text(away))

    async def _list_members(self, room: str, limit: int) -> RoomMembers:
        reply = await self._node.request(MEMBERS, (), (room, limit))
        assert isinstance(reply, list)
        count, nicks = reply
        assert isinstance(count, int)
        assert isinstance(nicks, list)
        return RoomMembers(count, tuple(map(_text, nicks)))

    async def _list_rooms(self, limit: int) -> OpenRoomList:
        reply = await self._node.request(ROOMS, (), (limit,))
        assert isinstance(reply, list)
        count, rooms = reply
        assert isinstance(count, int)
        assert isinstance(rooms, list)
        pairs = zip(rooms[::2], rooms[1::2], strict=True)
        return OpenRoomList(count, tuple((_text(name), int(float(_text(number)))) for name, number in pairs))

    async def _room_name(self, name: str) -> str:
        return _text(await self._node.request(ROOM_NAME, (), (name, *sorted(self._names.keys(name)))))

    # Registration

    async def _register(self, author: str) -> str:
        """Register a member with all that is known of it. Return the answer of the script."""
        answer = _text(await self._node.request(REGISTER, (), partial(self._registration, author)))
        if author not in self._registered:  # it has left meanwhile
            self._send(LEAVE, self._node.id, author, 0)
        return answer

    async def _register_with(self, author: str, registration: _Registration, nick: str) -> str:
        """Register a member with another nick. Return the answer of the script."""
        old, registration.nick = registration.nick, nick
        answer = ""
        try:
            answer = await self._register(author)
        finally:
            if _registered_nick(answer, nick) != nick:
                registration.nick = old
        return answer

    def _registration(self, author: str) -> Sequence[str | int]:
        """Return what is known of a member now."""
        registration = self._registered.get(author)
        if registration is None:
            raise StoreError("the member has left")
        rooms = [part for room, is_told in registration.rooms.items() for part in (room, int(is_told))]
        nick = registration.nick
        return (self._node.id, author, nick, self._keys(nick), registration.away, *rooms)

    def _register_all(self) -> None:
        if self._is_registering:
            self._registers_again = True
        else:
            self._is_registering = True
            self._start(self._register_each())

    async def _register_each(self) -> None:
        is_new = self._is_new
        try:
            while True:
                self._registers_again = False
                await self._listen()
                is_new, self._is_new = self._is_new, False
                authors = list(self._registered)
                for begin in range(0, len(authors), REGISTERED_AT_ONCE):
                    some = authors[begin : begin + REGISTERED_AT_ONCE]
                    work = [Deferred.fromCoroutine(self._register_again(author, is_new=is_new)) for author in some]
                    for _, result in await DeferredList(work, consumeErrors=True):
                        if isinstance(result, Failure):
                            result.raiseException()
                if not self._registers_again:
                    await self._remove_others()
                    return
        except StoreError:
            self._is_new = self._is_new or is_new
            self._is_incomplete = True  # it is tried again soon
        finally:
            self._is_registering = False

    async def _remove_others(self) -> None:
        """Remove those that are registered on this node and have left."""
        reply = await self._node.request(REGISTERED, (), (self._node.id,))
        assert isinstance(reply, list)
        for author in map(_text, reply):
            if author not in self._registered:
                self._send(LEAVE, self._node.id, author, 0)

    async def _register_again(self, author: str, *, is_new: bool) -> None:
        registration = self._registered.get(author)
        if registration is None:
            return
        try:
            answer = await self._register(author)
        except StoreError:
            if author in self._registered:
                raise
            return  # it has left meanwhile
        if self._members is None or self._registered.get(author) is not registration:
            return
        if answer == "elsewhere":
            del self._registered[author]
            self._members.taken_over(author)
            return
        nick = _registered_nick(answer, registration.nick)
        has_lost_nick = not nick
        if has_lost_nick:
            nick = await self._enter_again(author, registration)
            if not nick or self._members is None:
                return  # it has left meanwhile
        if is_new and not answer.startswith("registered "):
            self._members.returned(author, nick)  # another node has told the rooms that it left
        elif has_lost_nick or nick != registration.nick:
            registration.nick = nick  # the answer to its claim was lost, or another member has the nick
            self._members.renamed(author, nick)

    async def _check_taken(self, author: str) -> None:
        """Find out whether a member is on another node now. It may be on this one again."""
        try:
            await self._register_again(author, is_new=False)
        except StoreError:
            self._is_incomplete = True  # it is tried again soon

    async def _enter_again(self, author: str, registration: _Registration) -> str:
        while self._registered.get(author) is registration:
            nick = registration.nick = await self._guest_nick()
            got = _registered_nick(await self._register(author), nick)
            if got:
                registration.nick = got
                return got
        return ""

    async def _listen(self) -> None:
        """Subscribe to the messages for this node."""
        channel = b"netsvc:node:" + self._node.id.encode()
        if channel != self._channel:
            if self._channel:
                self._node.unsubscribe(self._channel)
            self._channel = channel
            await self._node.subscribe(channel, self._message)

    def _message(self, data: bytes) -> None:
        kind, author, *rest = data.decode().split("\n", 4)
        if self._members is None:
            return
        if kind == "whisper":
            sender, recipient, text = rest
            self._members.whispered(author, Whispered(sender, recipient, text))
        elif kind == "taken":
            if self._adopting[author]:
                self._taken.add(author)  # the message has overtaken the answer
            else:
                self._start(self._check_taken(author))

    async def _reap(self, node: str) -> None:
        """Remove the members of a dead node, step by step."""
        try:
            left: Reply = 1
            while isinstance(left, int) and left > 0:
                left = await self._node.request(REAP, (LEASES, DEAD), (node, *self._bounds()))
        except StoreError:
            return  # the next renewal tells of it again
        finally:
            self._reaping.discard(node)

    # Internal

    def _send(self, script: RedisScript, *arguments: str | int) -> None:
        """Pass a change on. If it is lost, that is made good when the members are registered again."""
        if self._node.is_serving:
            self._node.evaluate(script, (), arguments, self._sent)

    def _sent(self, reply: Reply) -> None:
        if isinstance(reply, RedisReplyError):
            self._node.repair(reply)
            self._register_all()

    def _keys(self, nick: str) -> str:
        return " ".join(sorted(self._names.keys(nick)))

    def _bounds(self) -> tuple[int, int, str]:
        now = self._wall()
        return self._entries_max, max(0, int(now - self._age_max)) if self._age_max else 0, f"{now:.3f}"

    def _schedule(self) -> None:
        self._timer = Deadline(self._clock, self._node.monotonic, RENEW_NAMES_EVERY, self._renew_names)

    def _renew_names(self) -> None:
        self._schedule()
        if self._is_incomplete:
            self._is_incomplete = False
            self._register_all()
        for room in {room for registration in self._registered.values() for room in registration.rooms}:
            self._send(ROOM_NAME, room, *sorted(self._names.keys(room)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        Deferred.fromCoroutine(work).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("the directory failed", failure)


def _text(reply: Reply) -> str:
    assert isinstance(reply, bytes)
    return reply.decode()


def _registered_nick(answer: str, nick: str) -> str:
    """Return the nick with which a member is registered now; empty if it is not.

    :param nick: with which it was to be registered. It may have been registered with another one meanwhile.
    """
    if answer == "missing":
        return nick
    return answer.removeprefix("registered ") if answer.startswith("registered ") else ""


def _problem(answer: str, nick: str) -> str:
    """Return why a member cannot have a nick, in words."""
    taken = answer.removeprefix("taken ")
    if taken == answer:
        return "is kept for a member whose connection was lost"
    return "is taken" if taken.casefold() == nick.casefold() else f"looks like {taken}"
