"""A chat client for programs. It connects again after a loss, and neither loses nor doubles a line."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from twisted.application.internet import ClientService
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from netsvc.chat.chat_connection import ChatConnection, request_line
from netsvc.chat.chat_events import Event, NickSet, Notice, Refused, Resumed, RoomEntered, SessionToken, Verdict
from netsvc.chat.entries import Entry, Position
from netsvc.chat.program_lines import ReceivedEntry
from netsvc.chat.request_lines import MessageError
from netsvc.chat.requests import Act, Join, Positions, Quit, Rename, Request, Resume, Say
from netsvc.chat.room import LOBBY
from netsvc.errors import NetsvcError
from netsvc.limits.cause import Cause

#: Lines that may wait for their acknowledgement.
PENDING_MAX = 1_000


class NotSaidError(NetsvcError):
    """A line is not in the log of the room.

    :ivar cause: why the server refused it; None if the client was stopped before the server had acknowledged it. Then
        it is unknown whether it is in the log.
    """

    def __init__(self, text: str, cause: Cause | None = None) -> None:
        super().__init__(text)
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost, or could not be made. The client tries again.

    :ivar reason: why, in words.
    """

    reason: str


ClientEvent = Event | ReceivedEntry | Disconnected


class ChatClient:
    """A member of a chat.

    After a loss it connects again, after pauses that grow up to a minute. It then resumes: it keeps its nick, receives
    what it missed, once and in order, and sends again what was not acknowledged. An event
    :class:`~netsvc.chat.chat_events.Resumed` says whether something is missing.

    :param endpoint: where the chat is.
    :param received: called with each event, and each entry of the room.
    :param reactor: measures the pauses.
    :param nick: the wanted nick; by default the one that the server gives.
    :param room: the room to be in.
    :param token: the token of an earlier client, which this one continues, with its nick and its room.
    :param position: of the last entry that the earlier client received.
    :param retry_policy: returns the pause before a further attempt, by the number of failed ones; by default that of
        Twisted's ``ClientService``.
    :ivar nick: its nick.
    :ivar room: the room in which it is.
    :ivar token: the secret by which the server recognises the member; empty before it is known.
    :ivar position: of the last entry that was received; None before it is known.
    :ivar is_connected: whether it is in the chat now.
    :ivar connection: the connection; None if there is none.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        received: Callable[[ClientEvent], object],
        reactor: IReactorTime,
        *,
        nick: str = "",
        room: str = LOBBY,
        token: str = "",
        position: Position | None = None,
        retry_policy: Callable[[int], float] | None = None,
    ) -> None:
        self.nick = nick
        self.room = room
        self.token = token
        self.position = position
        self.is_connected = False
        self._wanted_nick = nick
        self._received = received
        self._entered: RoomEntered | None = None  # while it resumes
        self._resuming = False
        self.connection: ChatConnection | None = None
        self._pending: dict[str, tuple[Request, Deferred[Position]]] = {}
        self._id_prefix = secrets.token_hex(4)
        self._last_id = 0
        self._service = ClientService(endpoint, Factory.forProtocol(self._new_connection), retry_policy, reactor)

    @property
    def unacknowledged(self) -> int:
        """How many lines are not acknowledged yet."""
        return len(self._pending)

    def start(self) -> None:
        """Connect."""
        self._service.startService()

    def stop(self) -> Deferred[None]:
        """Leave the chat and do not connect again. Lines that are not acknowledged fail."""
        connection = self.connection
        if connection is not None and self.is_connected:
            connection.send(Quit())
        stopped = self._service.stopService()
        pending, self._pending = self._pending, {}
        for _, said in pending.values():
            said.errback(NotSaidError("the client was stopped before the line was acknowledged"))
        return stopped or succeed(None)

    def say(self, text: str) -> Deferred[Position]:
        """Say something in the room. It is sent again after a loss, until it is acknowledged.

        :return: fires with the position of the entry, or fails with :class:`NotSaidError`.
        :raises MessageError: if the text is no line, or too long, or if 1,000 lines wait.
        """
        return self._speak(Say(text))

    def act(self, text: str) -> Deferred[Position]:
        """Say something in the third person. See :meth:`say`."""
        return self._speak(Act(text))

    def request(self, request: Request) -> None:
        """Ask for something else, such as :class:`~netsvc.chat.requests.Whisper`. The answer is an event.

        :raises MessageError: if there is no connection; nothing is sent later.
        """
        if self.connection is None or not self.is_connected:
            raise MessageError("not connected")
        self.connection.send(request)

    def _speak(self, request: Request) -> Deferred[Position]:
        if len(self._pending) >= PENDING_MAX:
            raise MessageError(f"{PENDING_MAX:,} lines are not acknowledged yet")
        self._last_id += 1
        message_id = f"{self._id_prefix}-{self._last_id}"
        request_line(request, message_id)  # raises if it is no line
        said: Deferred[Position] = Deferred()
        self._pending[message_id] = (request, said)
        if self.connection is not None and self.is_connected:
            self.connection.send(request, message_id)
        return said

    # Connections

    def _new_connection(self) -> ChatConnection:
        self._entered = None
        self._resuming = bool(self.token) and self.position is not None
        opening: list[Request] = []
        if self.position is not None and self._resuming:
            opening.append(Resume(self.token, self.nick, self.room, self.position))
        else:
            opening.append(Positions(on=True))
            if self._wanted_nick:
                opening.append(Rename(self._wanted_nick))
            if self.room != LOBBY:
                opening.append(Join(self.room))
        connection = ChatConnection(lambda event: self._event(connection, event), opening)
        connection.closed.addBoth(self._lost, connection)
        self.connection = connection
        return connection

    def _session_began(self, token: str) -> None:
        """The server knows who this is. Only now can it recognise a line that is sent again."""
        self.token = token
        self.is_connected = True
        assert self.connection is not None
        for message_id, (request, _) in self._pending.items():
            self.connection.send(request, message_id)

    def _lost(self, reason: object, connection: ChatConnection) -> None:
        if connection is self.connection:
            self.connection = None
            self.is_connected = False
            text = reason.getErrorMessage() if isinstance(reason, Failure) else "the server closed the connection"
            self._received(Disconnected(text))

    def _event(self, connection: ChatConnection, event: Event | ReceivedEntry) -> None:
        if connection is not self.connection:
            return
        match event:
            case ReceivedEntry(entry, is_own):
                self._entry(entry, is_own, event)
                return
            case SessionToken(token):
                self._session_began(token)
                return
            case Notice() if not self.is_connected:
                return  # for people
            case NickSet(nick):
                self.nick = nick
            case RoomEntered():
                if self._resuming:
                    self._entered = event  # the position follows from the verdict
                else:
                    self._enter(event)
            case Resumed():
                self._resume(event)
            case Refused(cause=Cause.STORE_FAILED) if self._resuming:
                connection.transport.loseConnection()  # the next attempt comes later
            case Refused(cause, text, message_id) if message_id in self._pending:
                self._pending.pop(message_id)[1].errback(NotSaidError(text, cause))
        self._received(event)

    def _enter(self, entered: RoomEntered) -> None:
        self.room = entered.room
        self.position = entered.position

    def _resume(self, resumed: Resumed) -> None:
        entered, self._entered, self._resuming = self._entered, None, False
        if entered is None or self.position is None:
            return
        if resumed.verdict is Verdict.UNKNOWN:
            self._enter(entered)
        else:
            self.position = Position(entered.position.epoch, self.position.offset + resumed.lost)

    def _entry(self, entry: Entry, is_own: bool, event: ReceivedEntry) -> None:
        pending = self._pending.pop(entry.message_id, None) if is_own else None
        if self.position is None or entry.offset > self.position.offset:  # not one that is acknowledged again
            self.position = entry.position
            self._received(event)
        if pending is not None:
            pending[1].callback(entry.position)
